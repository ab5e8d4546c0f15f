//! Payment over HTTP: configuration, starting, looking up and confirming payments.
//!
//! contract: payment §3 (routes, limits), §4.1, §4.2, §4.7, §4.9. Malformed JSON is refused before anybody is asked who
//! they are; a payment of somebody else does not exist.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Request, State},
    response::{IntoResponse as _, Response},
};
use http::{Method, StatusCode, request::Parts};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use shared::{
    ApiError,
    auth::{AuthUser, Authenticator, Role},
    http::{Body, limit::Decision},
    id::UserId,
    idempotency::{self, BodyHash, IdempotencyKey, Scope},
};
use url::Url;

use super::{
    Payment, PaymentState,
    client::{CreateIntent, PaymentClient as _, PaymentError, Status},
    model::Transaction,
    requests::{self, Confirm, Create},
    responses::{self, Confirmed, PaymentStatus, PublicConfig, Success},
    store,
};

/// Payments that are not final are compared with Stripe when they are looked at, but not more often than this.
const FRESH: chrono::TimeDelta = chrono::TimeDelta::seconds(10);

/// Who calls a money-moving route.
pub enum Caller {
    /// A traveller or an administrator.
    User(AuthUser),
    /// Another service of the platform.
    Service(String),
}

impl Caller {
    /// Who is counted, and whose idempotency keys these are.
    fn subject(&self) -> String {
        match self {
            Self::User(caller) => format!("user:{}", caller.user),
            Self::Service(name) => format!("service:{name}"),
        }
    }
}

/// A call with a JSON body: the body is parsed before the caller is asked for, so that bad JSON is always 400.
pub struct Call {
    caller: Caller,
    body: Value,
    key: Option<IdempotencyKey>,
}

impl FromRequest<PaymentState> for Call {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &PaymentState) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let (method, headers) = (parts.method.clone(), parts.headers.clone());
        let Body(body) = Body::<Value>::from_request(Request::from_parts(parts, body), state).await?;
        let Authenticator(authenticator) = &state.authenticator;
        let caller = match authenticator.user(&method, &headers).await {
            Ok(Some(user)) => Caller::User(user),
            Ok(None) => return Err(ApiError::unauthenticated("TOKEN_MISSING", "Access token required")),
            // a service token is no access token
            Err(refusal) if refusal.status() == StatusCode::UNAUTHORIZED => match authenticator.service(&headers).await
            {
                Ok(service) => Caller::Service(service.service),
                Err(_) => return Err(refusal),
            },
            Err(refusal) => return Err(refusal),
        };
        Ok(Self {
            caller,
            body,
            key: IdempotencyKey::from_headers(&headers)?,
        })
    }
}

/// A PaymentIntent's id in a path; anything else is no route of ours.
#[derive(Debug)]
pub struct IntentId(String);

impl<S: Send + Sync> FromRequestParts<S> for IntentId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let not_found = || ApiError::not_found("Payment not found");
        let Path(id) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| not_found())?;
        if requests::is_intent_id(&id) {
            Ok(Self(id))
        } else {
            Err(not_found())
        }
    }
}

/// The key that Stripe.js starts with
#[utoipa::path(
    get, path = "/config", tag = "payment", operation_id = "getPaymentConfig", security(()),
    responses((status = 200, body = Success<PublicConfig>), (status = 503, description = "Payments are not configured")),
)]
pub async fn config(State(state): State<PaymentState>) -> Result<Json<Success<PublicConfig>>, ApiError> {
    let Some(key) = state.payments.publishable_key() else {
        let error = ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "PAYMENT_UNAVAILABLE",
            "Failed to get payment config",
        );
        return Err(error.with_detail("STRIPE_PUBLISHABLE_KEY is not configured"));
    };
    Ok(Json(Success::of(PublicConfig {
        publishable_key: key.to_owned(),
    })))
}

/// Starts the payment of a booking, or returns the open one
#[utoipa::path(
    post, path = "/create-intent", tag = "payment", operation_id = "createPaymentIntent",
    request_body = requests::CreateBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "One key is one payment for 24 hours")),
    responses(
        (status = 200, body = Success<responses::CreatedIntent>),
        (status = 400, description = "A field is missing, of the wrong type, or not chargeable"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "The body names another user"),
        (status = 409, description = "The amount is not the booking's, or the idempotency key is in use"),
        (status = 422, description = "The booking cannot be paid, or the idempotency key came with another body"),
        (status = 429, description = "More than 20 in a minute"),
        (status = 503, description = "Stripe is away or not configured"),
    ),
    security(("bearer" = []), ("session" = [])),
)]
pub async fn create_intent(State(state): State<PaymentState>, call: Call) -> Result<Response, ApiError> {
    let decision = state.limits.write(&call.caller.subject()).await?;
    let create = Create::parse(&call.body, matches!(call.caller, Caller::User(_)))?;
    let user = payer(&call.caller, &create)?;
    let scope = Scope::new(call.caller.subject(), Method::POST, "/api/v1/payment/create-intent");
    let hash = BodyHash::of_value(&call.body);

    // the stored answer must not hold the client secret: it is put in afterwards, from this cell or from Stripe
    let secret: Arc<Mutex<Option<SecretString>>> = Arc::default();
    let work = {
        let (state, secret) = (state.clone(), secret.clone());
        async move {
            idempotency::run::<Payment, _>(
                state.payments.db(),
                state.payments.sources(),
                call.key,
                &scope,
                hash,
                || start(&state, create, user, &secret),
            )
            .await
        }
    };
    let response = state.payments.tasks().detached(work).await??;
    let known = secret.lock().unwrap_or_else(PoisonError::into_inner).take();
    let mut response = with_secret(&state, response, known).await?;
    decision.apply(response.headers_mut());
    Ok(response)
}

/// Whose payment it is to be.
fn payer(caller: &Caller, create: &Create) -> Result<UserId, ApiError> {
    let named = create.user.as_deref();
    match caller {
        Caller::User(caller) => {
            if named.is_some_and(|named| named != caller.user.to_string()) {
                return Err(ApiError::forbidden("Forbidden").with_detail("userId is not the signed-in user"));
            }
            Ok(caller.user)
        }
        Caller::Service(_) => named.and_then(|named| named.parse().ok()).ok_or_else(not_payable),
    }
}

async fn start(
    state: &PaymentState,
    create: Create,
    user: UserId,
    secret: &Mutex<Option<SecretString>>,
) -> Result<Response, ApiError> {
    let booking = state
        .bookings
        .payable(create.booking(), user)
        .await?
        .ok_or_else(not_payable)?;
    let names_another = create
        .booking_id
        .as_deref()
        .is_some_and(|id| id != booking.reference && id != booking.id.to_string());
    if !booking.payable || names_another {
        return Err(not_payable());
    }
    if booking.amount != create.amount {
        return Err(ApiError::conflict("AMOUNT_MISMATCH", "Amount mismatch")
            .with_detail("amount and currency must be those of the booking"));
    }
    let request = CreateIntent {
        booking: booking.id,
        reference: booking.reference,
        user,
        amount: booking.amount,
        metadata: create.metadata,
    };
    let intent = state
        .payments
        .create_intent(request)
        .await
        .map_err(|error| responses::refusal("Failed to create payment intent", error))?;
    *secret.lock().unwrap_or_else(PoisonError::into_inner) = Some(intent.client_secret);
    let body = json!({
        "success": true,
        "data": {
            "paymentIntentId": intent.payment_intent_id,
            "amount": intent.amount.minor,
            "currency": intent.amount.currency.lower(),
            "status": intent.status,
        },
    });
    Ok(Json(body).into_response())
}

fn not_payable() -> ApiError {
    ApiError::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "BOOKING_NOT_PAYABLE",
        "Booking not payable",
    )
    .with_detail("There is no such booking that could be paid now")
}

/// Puts the client secret into a successful answer; a replayed one gets it from Stripe.
async fn with_secret(
    state: &PaymentState,
    response: Response,
    known: Option<SecretString>,
) -> Result<Response, ApiError> {
    if response.status() != StatusCode::OK {
        return Ok(response);
    }
    let (mut parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX)
        .await
        .map_err(ApiError::internal)?;
    let mut answer: Value = serde_json::from_slice(&bytes).map_err(ApiError::internal)?;
    let secret = match (known, answer.pointer("/data/paymentIntentId").and_then(Value::as_str)) {
        (Some(secret), _) => Some(secret),
        (None, Some(intent)) => state
            .payments
            .client_secret_of(intent)
            .await
            .map_err(|error| responses::refusal("Failed to create payment intent", error))?,
        (None, None) => None,
    };
    if let (Some(data), Some(secret)) = (answer.get_mut("data").and_then(Value::as_object_mut), secret) {
        data.insert("clientSecret".to_owned(), json!(secret.expose_secret()));
    }
    // the length changed
    parts.headers.remove(http::header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Json(answer).into_response().into_body()))
}

/// How a payment stands
#[utoipa::path(
    get, path = "/status/{paymentIntentId}", tag = "payment", operation_id = "getPaymentStatus",
    params(("paymentIntentId" = String, Path, description = "`pi_…`")),
    responses(
        (status = 200, body = Success<PaymentStatus>),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "Unknown, malformed, or somebody else's"),
        (status = 429, description = "More than 120 in a minute"),
    ),
    security(("bearer" = []), ("session" = [])),
)]
pub async fn status(State(state): State<PaymentState>, caller: AuthUser, id: IntentId) -> Result<Response, ApiError> {
    let decision = state.limits.read(&format!("user:{}", caller.user)).await?;
    let payment = owned(&state, &caller, &id.0).await?;
    let age = state.payments.sources().now() - payment.checked_at.unwrap_or(payment.created_at);
    let payment = if payment.status.is_open() && age > FRESH {
        // what we have is better than nothing while Stripe is away
        state.payments.refresh(&payment).await.unwrap_or(payment)
    } else {
        payment
    };
    Ok(answer(&decision, &Success::of(PaymentStatus::of(&payment))))
}

/// The same, for `GET /{id}`: what does not look like a PaymentIntent's id is no route of ours, whoever asks.
#[utoipa::path(
    get, path = "/{paymentIntentId}", tag = "payment", operation_id = "getPayment",
    params(("paymentIntentId" = String, Path, description = "`pi_…`")),
    responses(
        (status = 200, body = Success<PaymentStatus>),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "Unknown, malformed, or somebody else's"),
    ),
    security(("bearer" = []), ("session" = [])),
)]
pub async fn status_by_id(state: State<PaymentState>, id: IntentId, caller: AuthUser) -> Result<Response, ApiError> {
    status(state, caller, id).await
}

/// Confirms a payment, or looks whether it has been confirmed
#[utoipa::path(
    post, path = "/confirm", tag = "payment", operation_id = "confirmPayment",
    request_body = requests::ConfirmBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "One key is one confirmation for 24 hours")),
    responses(
        (status = 200, body = Success<Confirmed>),
        (status = 400, description = "A field is missing or of the wrong type"),
        (status = 401, description = "Not signed in"),
        (status = 402, description = "The card was declined"),
        (status = 404, description = "Unknown, or somebody else's"),
        (status = 409, description = "Not in a state that can be confirmed"),
        (status = 429, description = "More than 20 in a minute"),
        (status = 503, description = "Stripe is away"),
    ),
    security(("bearer" = []), ("session" = [])),
)]
pub async fn confirm(State(state): State<PaymentState>, call: Call) -> Result<Response, ApiError> {
    let Caller::User(caller) = call.caller else {
        return Err(ApiError::forbidden("Forbidden").with_detail("only the traveller confirms a payment"));
    };
    let subject = format!("user:{}", caller.user);
    let decision = state.limits.write(&subject).await?;
    let confirm = Confirm::parse(&call.body)?;
    let return_url = return_url(&state, confirm.return_url.as_deref())?;
    let payment = owned(&state, &caller, &confirm.intent).await?;
    let scope = Scope::new(subject, Method::POST, "/api/v1/payment/confirm");
    let hash = BodyHash::of_value(&call.body);
    let work = {
        let state = state.clone();
        async move {
            idempotency::run::<Payment, _>(
                state.payments.db(),
                state.payments.sources(),
                call.key,
                &scope,
                hash,
                || carry_out(&state, &payment, &confirm, &return_url),
            )
            .await
        }
    };
    let mut response = state.payments.tasks().detached(work).await??;
    decision.apply(response.headers_mut());
    Ok(response)
}

async fn carry_out(
    state: &PaymentState,
    payment: &Transaction,
    confirm: &Confirm,
    return_url: &str,
) -> Result<Response, ApiError> {
    let refuse = |error| responses::refusal("Failed to confirm payment", error);
    let (payment, next_action) = match &confirm.method {
        Some(_) if !matches!(payment.status, Status::Pending | Status::Failed) => {
            return Err(refuse(PaymentError::WrongState(
                "The payment is not waiting for a payment method",
            )));
        }
        Some(method) => state
            .payments
            .confirm_with(payment, method, return_url)
            .await
            .map_err(refuse)?,
        None => state.payments.look(payment).await.map_err(refuse)?,
    };
    Ok(Json(Success::of(Confirmed::of(&payment, next_action))).into_response())
}

/// Where the bank sends the traveller back to: to us and nowhere else.
fn return_url(state: &PaymentState, asked: Option<&str>) -> Result<String, ApiError> {
    let Some(url) = asked else {
        let own = state.origins.first().map_or("", String::as_str).trim_end_matches('/');
        return Ok(format!("{own}/payment/confirmation"));
    };
    let origin = Url::parse(url).ok().map(|url| url.origin().ascii_serialization());
    if origin.is_some_and(|origin| state.origins.iter().any(|own| own.trim_end_matches('/') == origin)) {
        return Ok(url.to_owned());
    }
    Err(ApiError::bad_request("Invalid returnUrl").with_detail("returnUrl must be on one of our own origins"))
}

/// The caller's payment (any payment, for an administrator).
async fn owned(state: &PaymentState, caller: &AuthUser, intent: &str) -> Result<Transaction, ApiError> {
    let mut db = state.payments.db().acquire().await?;
    let payment = store::find_by_intent(&mut db, intent).await?;
    let visible = payment.filter(|payment| payment.user == caller.user || caller.role == Role::Admin);
    visible.ok_or_else(|| ApiError::not_found("Payment not found"))
}

fn answer(decision: &Decision, body: &impl serde::Serialize) -> Response {
    let mut response = Json(body).into_response();
    decision.apply(response.headers_mut());
    response
}
