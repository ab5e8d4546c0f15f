//! `POST /cart/checkout` (voyage §7.3).
//!
//! The answer holds the payment's client secret, which is never stored. What an idempotency key keeps is therefore only
//! which booking was made; a replay asks payment for the secret again.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use http::{HeaderValue, Method, StatusCode, header};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use shared::{
    ApiError,
    auth::AuthUser,
    http::{Body, Path},
    id::BookingId,
    idempotency::{self, BodyHash, IdempotencyKey, REPLAYED, Scope},
};
use utoipa::ToSchema;

use super::{Done, attach_payment, checkout};
use crate::voyage::{
    Voyage, VoyageState,
    booking::{model::Status, store, wire::BookedItem},
    cart,
    cart::model::check_json,
    identity::{CartCaller, Identity, claim_of, forget_guest},
    titled,
};

const RESERVED: [&str; 3] = ["bookingId", "bookingReference", "userId"];
const MAX_METADATA: usize = 8 * 1024;
const MAX_METADATA_DEPTH: usize = 6;

/// A checkout.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = Checkout)]
pub struct CheckoutBody {
    /// A claim: the caller's own id.
    #[schema(value_type = Option<String>)]
    pub user_id: Option<Value>,
    /// Kept with the booking; may not use `bookingId`, `bookingReference`, `userId`.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Value>,
}

/// A booking that waits for its payment.
#[derive(Debug, Serialize, ToSchema)]
pub struct CheckoutReply {
    /// The booking and its payment.
    pub data: CheckoutData,
    /// What to do next.
    pub meta: CheckoutMeta,
}

/// The booking and its payment.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckoutData {
    /// `BOOK-YYYYMMDD-XXXXX`.
    pub booking_reference: String,
    /// The row.
    pub booking_id: BookingId,
    /// Major units.
    pub total_amount: f64,
    /// ISO 4217.
    pub currency: &'static str,
    /// What is bought.
    pub items: Vec<BookedItem>,
    /// Where the booking stands.
    pub status: Status,
    /// When it was made.
    #[serde(with = "shared::sources::iso")]
    pub created_at: DateTime<Utc>,
    /// What Stripe.js needs.
    pub payment: CheckoutPayment,
}

/// What Stripe.js needs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckoutPayment {
    /// Confirms this one payment. Null once it has been paid.
    pub client_secret: Option<String>,
    /// The key Stripe.js starts with.
    pub publishable_key: Option<String>,
    /// Stripe's id.
    pub payment_intent_id: Option<String>,
    /// Minor units.
    pub amount: i64,
    /// ISO 4217, lower case.
    pub currency: String,
}

/// What to do next.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckoutMeta {
    /// In one sentence.
    pub message: &'static str,
    /// In three steps.
    pub next_steps: [&'static str; 3],
}

/// What an idempotency key keeps of a checkout.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    booking_id: BookingId,
}

/// Turns the caller's cart into a booking and starts its payment.
#[utoipa::path(
    post, path = "/cart/checkout", tag = "cart", request_body = CheckoutBody,
    security(("bearer" = []), ("session" = [])),
    responses(
        (status = 200, description = "a booking that waits for its payment", body = CheckoutReply),
        (status = 400, description = "the cart is empty, or the metadata is not acceptable"),
        (status = 401, description = "nobody is signed in"),
        (status = 403, description = "the claimed id is somebody else's"),
        (status = 409, description = "`PRICE_CHANGED`, `OFFER_EXPIRED`, `ITEM_UNAVAILABLE`, `CONFLICT`"),
        (status = 422, description = "`IDEMPOTENCY_CONFLICT`"),
        (status = 503, description = "`PAYMENT_UNAVAILABLE`"),
    )
)]
pub async fn post(
    caller: CartCaller,
    key: Option<IdempotencyKey>,
    State(state): State<VoyageState>,
    Body(body): Body<CheckoutBody>,
) -> Result<Response, ApiError> {
    let claim = claim_of(body.user_id.as_ref());
    let identity = caller.identify(&[claim.as_deref()])?;
    titled(
        "Failed to process checkout",
        start(state, identity, key, body.metadata).await,
    )
}

/// `POST /cart/{userId}/checkout`, for the caller whose id it is.
pub async fn alias(
    caller: CartCaller,
    key: Option<IdempotencyKey>,
    State(state): State<VoyageState>,
    Path(user): Path<String>,
    Body(body): Body<CheckoutBody>,
) -> Result<Response, ApiError> {
    let identity = caller.named_in_path(&user)?;
    titled(
        "Failed to process checkout",
        start(state, identity, key, body.metadata).await,
    )
}

async fn start(
    state: VoyageState,
    identity: Identity,
    key: Option<IdempotencyKey>,
    metadata: Option<Value>,
) -> Result<Response, ApiError> {
    let metadata = parse_metadata(metadata)?;
    let tasks = state.tasks.clone();
    let work = async move {
        let merged = match &identity.user {
            Some(_) => cart::settle_identity(&state, &identity).await?,
            None => false,
        };
        let caller = identity.require_user()?;
        let mut response = once(&state, &caller, key, metadata).await?;
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(cookie) = merged.then(|| forget_guest(state.config.secure_cookies)).flatten() {
            headers.append(header::SET_COOKIE, cookie);
        }
        Ok(response)
    };
    tasks.detached(work).await?
}

/// The checkout, once per idempotency key.
async fn once(
    state: &VoyageState,
    caller: &AuthUser,
    key: Option<IdempotencyKey>,
    metadata: Box<RawValue>,
) -> Result<Response, ApiError> {
    let scope = Scope::new(format!("user:{}", caller.user), Method::POST, "/api/v1/cart/checkout");
    let hash = BodyHash::of_bytes(metadata.get().as_bytes());
    // where the work leaves its result, the secret included, past the store of answers
    let slot: Arc<Mutex<Option<Done>>> = Arc::default();
    let result = slot.clone();
    let recorded = idempotency::run::<Voyage, _>(&state.db, &state.sources, key, &scope, hash, || async move {
        let done = checkout(state, caller.user, metadata).await?;
        let record = Record {
            booking_id: done.booking.id,
        };
        *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        Ok(Json(record).into_response())
    })
    .await?;
    if recorded.status() != StatusCode::OK {
        return Ok(recorded);
    }
    let done = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    match done {
        Some(done) => Ok(Json(reply(done)).into_response()),
        None => replay(state, caller, recorded).await,
    }
}

/// The same answer again: the booking as recorded, its secret from payment.
async fn replay(state: &VoyageState, caller: &AuthUser, recorded: Response) -> Result<Response, ApiError> {
    let bytes = axum::body::to_bytes(recorded.into_body(), MAX_METADATA)
        .await
        .map_err(ApiError::internal)?;
    let record: Record = serde_json::from_slice(&bytes).map_err(ApiError::internal)?;
    let booking = store::find(state.db.pool(), &record.booking_id.to_string()).await?;
    let booking = booking.filter(|booking| booking.user == caller.user);
    let booking = booking.ok_or_else(|| ApiError::not_found("Booking not found"))?;
    let done = if booking.is_payable(state.sources.now()) {
        let (booking, intent) = attach_payment(state, booking).await?;
        Done {
            booking,
            intent: Some(intent),
        }
    } else {
        Done { booking, intent: None }
    };
    let mut response = Json(reply(done)).into_response();
    response
        .headers_mut()
        .insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

fn parse_metadata(metadata: Option<Value>) -> Result<Box<RawValue>, ApiError> {
    let metadata = metadata
        .filter(|metadata| !metadata.is_null())
        .unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    let Value::Object(fields) = &metadata else {
        return Err(ApiError::bad_request("metadata must be an object"));
    };
    if let Some(name) = RESERVED.iter().find(|name| fields.contains_key(**name)) {
        return Err(ApiError::bad_request(format!("metadata must not contain {name}")));
    }
    check_json("metadata", &metadata, MAX_METADATA, MAX_METADATA_DEPTH)?;
    serde_json::value::to_raw_value(&metadata).map_err(ApiError::internal)
}

fn reply(done: Done) -> CheckoutReply {
    let Done { booking, intent } = done;
    let payment = CheckoutPayment {
        client_secret: intent
            .as_ref()
            .map(|intent| intent.client_secret.expose_secret().to_owned()),
        publishable_key: intent
            .as_ref()
            .map(|intent| intent.publishable_key.clone())
            .filter(|key| !key.is_empty()),
        payment_intent_id: booking.payment_intent.clone(),
        amount: booking.total.minor,
        currency: booking.total.currency.lower(),
    };
    let items = BookedItem::all(&booking);
    CheckoutReply {
        data: CheckoutData {
            booking_reference: booking.reference,
            booking_id: booking.id,
            total_amount: booking.total.major(),
            currency: booking.total.currency.code(),
            items,
            status: booking.status,
            created_at: booking.created_at,
            payment,
        },
        meta: CheckoutMeta {
            message: "Booking created. Please complete the payment to confirm it.",
            next_steps: [
                "Complete the payment",
                "Wait for the payment to be confirmed",
                "Receive your booking confirmation",
            ],
        },
    }
}
