//! The routes of payments.
//!
//! contract: core §5.12 (Payments), payment §9

use axum::{Json, extract::State};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    ApiError,
    error::FieldError,
    http::{Body, Path, QueryMap},
    id::PaymentId,
};
use utoipa::ToSchema;

use super::{
    model::{Filter, Payment, PaymentDetail, PaymentPage, SETTABLE},
    store,
};
use crate::user::{
    UserState,
    admin::{
        access::Admin,
        answers::{Answer, Pagination},
        business::SetPaymentStatus,
        unread,
    },
    audit::Trail,
    origin::Origin,
};

const MAX_REASON: usize = 500;
/// What is written down when the client, as the existing one, does not say why.
const NO_REASON: &str = "no reason given";

/// A page of payments.
#[utoipa::path(
    get, path = "/api/v1/admin/payments", tag = "admin",
    params(
        ("page" = Option<i64>, Query, description = "from 1"),
        ("limit" = Option<i64>, Query, description = "1 to 100, 20 if absent"),
        ("search" = Option<String>, Query, description = "part of a reference or PaymentIntent"),
        ("status" = Option<String>, Query, description = "one status"),
        ("startDate" = Option<String>, Query, description = "a date or an instant"),
        ("endDate" = Option<String>, Query, description = "a date (included) or an instant"),
        ("minAmount" = Option<f64>, Query, description = "major units"),
        ("maxAmount" = Option<f64>, Query, description = "major units"),
        ("sortBy" = Option<String>, Query, description = "`createdAt` unless it is a known column"),
        ("sortOrder" = Option<String>, Query, description = "`asc`, else descending"),
    ),
    responses(
        (status = 200, description = "A page", body = Answer<PaymentPage>),
        (status = 400, description = "A date, amount or status that is none"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn list(
    _: Admin,
    State(state): State<UserState>,
    query: QueryMap,
) -> Result<Json<Answer<PaymentPage>>, ApiError> {
    let filter = Filter::read(&query)?;
    let mut conn = state.db.acquire().await?;
    let (total, payments) = store::list(&mut conn, &filter).await.map_err(unread)?;
    Ok(Answer::of(PaymentPage {
        payments,
        pagination: Pagination::new(filter.page, total),
    }))
}

/// One payment.
#[utoipa::path(
    get, path = "/api/v1/admin/payments/{id}", tag = "admin",
    params(("id" = String, Path, description = "the row")),
    responses(
        (status = 200, description = "The payment with its traveller and its booking", body = Answer<PaymentDetail>),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
        (status = 404, description = "There is no such payment"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn detail(
    _: Admin,
    State(state): State<UserState>,
    Path(id): Path<String>,
    trail: Trail,
) -> Result<Json<Answer<PaymentDetail>>, ApiError> {
    let found = get(&state, &id).await?;
    trail.about(found.payment.user_id);
    Ok(Answer::of(found))
}

/// What a payment's status shall be.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = AdminSetPaymentStatus)]
pub struct SetStatus {
    /// `PENDING`, `SUCCEEDED`, `FAILED`, `REFUNDED`.
    #[schema(value_type = String)]
    status: Value,
    /// Why; kept with the payment.
    #[schema(value_type = Option<String>)]
    reason: Value,
    /// The status that was seen; if it is another one by now, nothing is changed.
    #[schema(value_type = Option<String>)]
    expected_status: Value,
}

/// Corrects a payment's status, unless the payment provider says otherwise. Moves no money.
#[utoipa::path(
    put, path = "/api/v1/admin/payments/{id}/status", tag = "admin", request_body = SetStatus,
    params(("id" = String, Path, description = "the row")),
    responses(
        (status = 200, description = "The payment", body = Answer<Payment>),
        (status = 400, description = "`Status is required`, `Invalid status`"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
        (status = 404, description = "There is no such payment"),
        (status = 409, description = "`STATUS_CHANGED`, `PROVIDER_CONTRADICTS`, `INVALID_TRANSITION`"),
        (status = 503, description = "The payment service is away"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn put_status(
    Admin(admin): Admin,
    State(state): State<UserState>,
    Path(id): Path<String>,
    trail: Trail,
    origin: Origin,
    Body(body): Body<SetStatus>,
) -> Result<Json<Answer<Payment>>, ApiError> {
    let status = wanted_status(&body.status)?;
    let reason = reason(&body.reason)?;
    let before = get(&state, &id).await?;
    trail.about(before.payment.user_id);
    trail.because(&reason);
    let expected = match &body.expected_status {
        Value::Null => before.payment.status.as_str(),
        Value::String(seen) if super::model::STATUSES.contains(&seen.as_str()) => seen,
        _ => return Err(ApiError::bad_request("Invalid status")),
    };
    let set = SetPaymentStatus {
        id: before.payment.id,
        status,
        expected,
        reason: &reason,
        actor: admin.user,
        address: &origin.ip_address,
    };
    state.business.set_payment_status(&set).await?;
    let after = get(&state, &id).await?;
    trail.changed(
        &json!({ "status": before.payment.status }),
        &json!({ "status": after.payment.status }),
    );
    Ok(Answer::of(after.payment))
}

fn wanted_status(given: &Value) -> Result<&'static str, ApiError> {
    match given {
        Value::Null => Err(ApiError::bad_request("Status is required")),
        Value::String(text) if text.is_empty() => Err(ApiError::bad_request("Status is required")),
        Value::String(text) => SETTABLE
            .into_iter()
            .find(|status| status == text)
            .ok_or_else(|| ApiError::bad_request("Invalid status")),
        _ => Err(ApiError::bad_request("Invalid status")),
    }
}

fn reason(given: &Value) -> Result<String, ApiError> {
    match given {
        Value::Null => Ok(NO_REASON.to_owned()),
        Value::String(text) if text.trim().is_empty() => Ok(NO_REASON.to_owned()),
        Value::String(text) if text.chars().count() <= MAX_REASON && !text.chars().any(char::is_control) => {
            Ok(text.trim().to_owned())
        }
        _ => Err(ApiError::invalid(vec![FieldError::new(
            "reason",
            format!("must be one line of at most {MAX_REASON} characters"),
        )])),
    }
}

async fn get(state: &UserState, id: &str) -> Result<PaymentDetail, ApiError> {
    let missing = || ApiError::not_found("Payment not found");
    let id: PaymentId = id.parse().map_err(|_| missing())?;
    let mut conn = state.db.acquire().await?;
    let found = store::find(&mut conn, id).await.map_err(unread)?;
    found.ok_or_else(missing)
}
