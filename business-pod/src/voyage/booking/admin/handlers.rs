//! The internal routes for bookings, which only the core pod may call (core §2.8, §5.12).
//!
//! They answer with the little that the caller cannot read from the view. Work that moves money runs on a tracked task, so that
//! a caller who hangs up does not cut it off.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{
    ApiError,
    http::{Body, Path},
    id::{BookingId, UserId},
    idempotency::IdempotencyKey,
};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Cancel, Modification, RefundStatus, cancel, change::ModifyBody, find, modify, refund_key, set_status, set_statuses,
};
use crate::{
    internal::FromCore,
    voyage::{
        VoyageState,
        booking::model::{Booking, Status},
    },
};

/// Rows of one bulk change.
const MAX_IDS: usize = 500;
const MAX_REASON: usize = 500;

/// `{success, data}`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InternalAnswer)]
pub struct Answer<T> {
    success: bool,
    data: T,
}

impl<T> Answer<T> {
    fn of(data: T) -> Json<Self> {
        Json(Self { success: true, data })
    }
}

/// A booking after a change.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangedBooking {
    /// The row.
    id: BookingId,
    /// `BOOK-YYYYMMDD-XXXXX`.
    reference: String,
    /// Where it stands now.
    status: Status,
    /// What became of the money of a cancelled booking.
    refund_status: Option<RefundStatus>,
}

impl From<Booking> for ChangedBooking {
    fn from(booking: Booking) -> Self {
        Self {
            id: booking.id,
            reference: booking.reference,
            status: booking.status,
            refund_status: None,
        }
    }
}

/// A status to be reached.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetStatus {
    /// Which.
    #[schema(value_type = String)]
    status: Status,
    /// The administrator.
    actor: UserId,
}

/// Brings a booking into a status, as far as the guard of voyage §7.2 lets it.
#[utoipa::path(
    put, path = "/bookings/{id}/status", tag = "internal", request_body = SetStatus, security(("service" = [])),
    params(("id" = String, Path, description = "the row")),
    responses(
        (status = 200, description = "the booking as it is now", body = Answer<ChangedBooking>),
        (status = 400, description = "no such status"),
        (status = 401, description = "no service token"),
        (status = 403, description = "the token of another service"),
        (status = 404, description = "there is no such booking"),
        (status = 409, description = "`INVALID_TRANSITION`"),
        (status = 503, description = "`PAYMENT_UNAVAILABLE`: payment cannot be asked now"),
    )
)]
pub async fn put_status(
    _: FromCore,
    State(state): State<VoyageState>,
    Path(id): Path<BookingId>,
    Body(body): Body<SetStatus>,
) -> Result<Json<Answer<ChangedBooking>>, ApiError> {
    let tasks = state.tasks.clone();
    let work = async move { set_status(&state, id, body.status, body.actor).await };
    Ok(Answer::of(tasks.detached(work).await??.into()))
}

/// A status that many are to reach.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetStatuses {
    /// At most 500 rows.
    ids: Vec<Uuid>,
    /// Which.
    #[schema(value_type = String)]
    status: Status,
    /// The administrator.
    actor: UserId,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangedBookings {
    /// Rows that changed.
    updated: usize,
    /// Rows that the guard keeps as they are.
    refused: Vec<BookingId>,
}

/// Brings many bookings into a status, all in one transaction.
#[utoipa::path(
    put, path = "/bookings/status", tag = "internal", request_body = SetStatuses, security(("service" = [])),
    responses(
        (status = 200, description = "how many changed", body = Answer<ChangedBookings>),
        (status = 400, description = "no such status, no rows or too many"),
        (status = 401, description = "no service token"),
        (status = 403, description = "the token of another service"),
    )
)]
pub async fn put_statuses(
    _: FromCore,
    State(state): State<VoyageState>,
    Body(body): Body<SetStatuses>,
) -> Result<Json<Answer<ChangedBookings>>, ApiError> {
    if body.ids.is_empty() || body.ids.len() > MAX_IDS {
        return Err(ApiError::bad_request(format!("ids must name 1 to {MAX_IDS} bookings")));
    }
    let tasks = state.tasks.clone();
    let work = async move { set_statuses(&state, &body.ids, body.status, body.actor).await };
    let bulk = tasks.detached(work).await??;
    Ok(Answer::of(ChangedBookings {
        updated: bulk.updated,
        refused: bulk.refused,
    }))
}

/// A cancellation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CancelBody {
    /// Whether all that was paid goes back.
    #[serde(default)]
    refund: bool,
    /// Why.
    #[serde(default)]
    reason: String,
    /// The administrator.
    actor: UserId,
}

/// Cancels a booking: transition, event and refund together. May be repeated: one booking has one refund.
#[utoipa::path(
    post, path = "/bookings/{id}/cancel", tag = "internal", request_body = CancelBody, security(("service" = [])),
    params(
        ("id" = String, Path, description = "the row"),
        ("Idempotency-Key" = String, Header, description = "`cancel:<reference>`"),
    ),
    responses(
        (status = 200, description = "cancelled, with what became of the refund", body = Answer<ChangedBooking>),
        (status = 400, description = "the key is not the booking's, or the reason is too long"),
        (status = 401, description = "no service token"),
        (status = 403, description = "the token of another service"),
        (status = 404, description = "there is no such booking"),
        (status = 409, description = "`BOOKING_CANCELLED`, `BOOKING_COMPLETED`, `INVALID_TRANSITION`"),
        (status = 503, description = "`PAYMENT_UNAVAILABLE`: payment cannot be asked now, nothing changed"),
    )
)]
pub async fn post_cancel(
    _: FromCore,
    key: IdempotencyKey,
    State(state): State<VoyageState>,
    Path(id): Path<BookingId>,
    Body(body): Body<CancelBody>,
) -> Result<Json<Answer<ChangedBooking>>, ApiError> {
    if body.reason.chars().count() > MAX_REASON || body.reason.chars().any(char::is_control) {
        return Err(ApiError::bad_request(format!(
            "reason must be one line of at most {MAX_REASON} characters"
        )));
    }
    // a key that names another booking comes from a confused caller: money is at stake
    if key.as_str() != refund_key(&find(&state, id).await?.reference) {
        return Err(ApiError::bad_request("Idempotency-Key is not the booking's").with_code("INVALID_IDEMPOTENCY_KEY"));
    }
    let request = Cancel {
        admin: body.actor,
        refund: body.refund,
        reason: body.reason,
    };
    let tasks = state.tasks.clone();
    let work = async move { cancel(&state, id, &request).await };
    let done = tasks.detached(work).await??;
    Ok(Answer::of(ChangedBooking {
        refund_status: done.refund,
        ..done.booking.into()
    }))
}

/// A correction and who makes it.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ModifyRequest {
    #[serde(flatten)]
    change: ModifyBody,
    /// The administrator.
    actor: UserId,
}

/// Corrects a booking's total, notes or data.
#[utoipa::path(
    put, path = "/bookings/{id}/modify", tag = "internal", request_body = ModifyRequest,
    security(("service" = [])),
    params(("id" = String, Path, description = "the row")),
    responses(
        (status = 200, description = "the booking as it is now", body = Answer<ChangedBooking>),
        (status = 400, description = "nothing to change, a bad value, or a protected field"),
        (status = 401, description = "no service token"),
        (status = 403, description = "the token of another service"),
        (status = 404, description = "there is no such booking"),
        (status = 409, description = "`BOOKING_UNPAID`: its payment is for the present total"),
    )
)]
pub async fn put_modify(
    _: FromCore,
    State(state): State<VoyageState>,
    Path(id): Path<BookingId>,
    Body(body): Body<Value>,
) -> Result<Json<Answer<ChangedBooking>>, ApiError> {
    let request: ModifyRequest =
        serde_json::from_value(body).map_err(|_| ApiError::bad_request("Validation failed"))?;
    let change = Modification::parse(&request.change)?;
    Ok(Answer::of(modify(&state, id, &change, request.actor).await?.into()))
}
