//! The routes that change bookings, each by asking their owner.
//!
//! contract: core §5.12 (Bookings), §13 lines 21, 22; voyage §7.2 (the guard), §7.5 (refund)

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use shared::{
    ApiError,
    error::FieldError,
    http::{Body, Path},
    id::BookingId,
};
use utoipa::ToSchema;

use super::{
    handlers::get,
    model::{Booking, STATUSES},
};
use crate::user::{
    UserState,
    admin::{access::Admin, answers::Answer, business::Cancel},
    audit::Trail,
};

/// Bookings of one bulk change.
const MAX_IDS: usize = 500;
const MAX_REASON: usize = 500;

type Reply<T> = Result<Json<Answer<T>>, ApiError>;

/// A status that a booking shall have.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = AdminSetBookingStatus)]
pub struct SetStatus {
    /// Which.
    #[schema(value_type = String)]
    status: Value,
}

fn wanted(given: &Value) -> Result<&'static str, ApiError> {
    match given {
        Value::Null => Err(ApiError::bad_request("Status is required")),
        Value::String(text) if text.is_empty() => Err(ApiError::bad_request("Status is required")),
        Value::String(text) => STATUSES
            .into_iter()
            .find(|status| status == text)
            .ok_or_else(|| ApiError::bad_request("Invalid status")),
        _ => Err(ApiError::bad_request("Invalid status")),
    }
}

/// Brings a booking into a status, as far as its life allows it.
#[utoipa::path(
    put, path = "/api/v1/admin/bookings/{id}/status", tag = "admin", request_body = SetStatus,
    params(("id" = String, Path, description = "the row")),
    responses(
        (status = 200, description = "The booking", body = Answer<Booking>),
        (status = 400, description = "`Status is required`, `Invalid status`"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
        (status = 404, description = "There is no such booking"),
        (status = 409, description = "`INVALID_TRANSITION`"),
        (status = 503, description = "The booking service is away"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn put_status(
    Admin(admin): Admin,
    State(state): State<UserState>,
    Path(id): Path<String>,
    trail: Trail,
    Body(body): Body<SetStatus>,
) -> Reply<Booking> {
    let status = wanted(&body.status)?;
    let before = get(&state, &id).await?;
    trail.about(before.user_id);
    state.business.set_booking_status(before.id, status, admin.user).await?;
    let after = get(&state, &id).await?;
    trail.changed(&json!({ "status": before.status }), &json!({ "status": after.status }));
    Ok(Answer::of(after))
}

/// A status that many bookings shall have.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = AdminSetBookingStatuses)]
pub struct SetStatuses {
    /// At most 500 rows.
    #[schema(value_type = Vec<String>)]
    ids: Value,
    /// Which.
    #[schema(value_type = String)]
    status: Value,
}

/// What came of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AdminBulkChanged)]
pub struct BulkChanged {
    /// Rows that changed.
    updated: usize,
    /// Rows that stay as they are, because their life does not allow it.
    refused: Vec<BookingId>,
}

/// Brings many bookings into a status, all in one transaction.
#[utoipa::path(
    put, path = "/api/v1/admin/bookings/bulk/status", tag = "admin", request_body = SetStatuses,
    responses(
        (status = 200, description = "How many changed", body = Answer<BulkChanged>),
        (status = 400, description = "No ids, too many, or a status that is none"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
        (status = 503, description = "The booking service is away"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn put_statuses(
    Admin(admin): Admin,
    State(state): State<UserState>,
    trail: Trail,
    Body(body): Body<SetStatuses>,
) -> Reply<BulkChanged> {
    let ids = ids(&body.ids)?;
    let status = wanted(&body.status)?;
    let done = if ids.is_empty() {
        crate::user::admin::business::BulkChanged {
            updated: 0,
            refused: Vec::new(),
        }
    } else {
        state.business.set_booking_statuses(&ids, status, admin.user).await?
    };
    let named: Vec<String> = ids.iter().map(ToString::to_string).collect();
    trail.resource(&named.join(","));
    trail.because(&format!("bulk change to {status}"));
    Ok(Answer::of(BulkChanged {
        updated: done.updated,
        refused: done.refused,
    }))
}

/// The rows that are named, each once. What is no id names nothing, so it is left out and not an error (core §1.2).
fn ids(given: &Value) -> Result<Vec<BookingId>, ApiError> {
    let required = || ApiError::bad_request("ids must be an array of booking ids");
    let Value::Array(items) = given else {
        return Err(required());
    };
    if items.is_empty() {
        return Err(required());
    }
    if items.len() > MAX_IDS {
        return Err(ApiError::bad_request(format!(
            "ids must name at most {MAX_IDS} bookings"
        )));
    }
    let mut ids = Vec::with_capacity(items.len());
    for item in items {
        let text = item.as_str().ok_or_else(required)?;
        if let Ok(id) = text.parse::<BookingId>() {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// A cancellation.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = AdminCancelBooking)]
pub struct CancelBody {
    /// Whether all that was paid goes back; false if absent.
    #[schema(value_type = Option<bool>)]
    refund: Value,
    /// Why.
    #[schema(value_type = Option<String>)]
    reason: Value,
}

/// Cancels a booking, with a refund if that is wanted. What became of the refund is in `refundStatus` and in `data.refund`.
#[utoipa::path(
    put, path = "/api/v1/admin/bookings/{id}/cancel", tag = "admin", request_body = CancelBody,
    params(("id" = String, Path, description = "the row")),
    responses(
        (status = 200, description = "The booking", body = Answer<Booking>),
        (status = 400, description = "`refund` is no boolean, or the reason is too long"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator, or `REAUTH_REQUIRED` for a refund"),
        (status = 404, description = "There is no such booking"),
        (status = 409, description = "`Booking already cancelled`, `Cannot cancel a completed booking`"),
        (status = 503, description = "The booking or payment service is away; nothing changed"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn put_cancel(
    Admin(admin): Admin,
    State(state): State<UserState>,
    Path(id): Path<String>,
    trail: Trail,
    Body(body): Body<CancelBody>,
) -> Reply<Booking> {
    let (refund, reason) = cancellation(&body)?;
    let before = get(&state, &id).await?;
    trail.about(before.user_id);
    trail.because(&reason);
    if refund {
        // money leaves: whoever has a second factor has shown it a moment ago (core §14)
        state.accounts.step_up().require_recent(&admin).await?;
    }
    let cancel = Cancel {
        id: before.id,
        reference: &before.reference,
        refund,
        reason: &reason,
        actor: admin.user,
    };
    let done = state.business.cancel_booking(&cancel).await?;
    let after = get(&state, &id).await?;
    trail.changed(
        &json!({ "status": before.status, "refundStatus": before.refund_status }),
        &json!({ "status": after.status, "refundStatus": done.refund_status }),
    );
    Ok(Answer::of(Booking {
        refund_status: done.refund_status,
        ..after
    }))
}

fn cancellation(body: &CancelBody) -> Result<(bool, String), ApiError> {
    let mut errors = Vec::new();
    let refund = match &body.refund {
        Value::Null => false,
        Value::Bool(refund) => *refund,
        _ => {
            errors.push(FieldError::new("refund", "must be true or false"));
            false
        }
    };
    let reason = match &body.reason {
        Value::Null => String::new(),
        // a text area may hold several lines; the record has one
        Value::String(text) if text.chars().count() <= MAX_REASON => {
            let words: Vec<&str> = text.split(char::is_control).map(str::trim).collect();
            words.join(" ").trim().to_owned()
        }
        _ => {
            let problem = format!("must be a text of at most {MAX_REASON} characters");
            errors.push(FieldError::new("reason", problem));
            String::new()
        }
    };
    if errors.is_empty() {
        Ok((refund, reason))
    } else {
        Err(ApiError::invalid(errors))
    }
}

/// A correction; nothing given is 400.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = AdminModifyBooking)]
pub struct ModifyBody {
    /// Major units, at most two decimals.
    total_amount: Option<f64>,
    /// Kept as `data.adminNotes`; null takes them away.
    notes: Option<String>,
    /// Merged over `data`, key by key; what tells of the purchase, its payment and its refund stays.
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
}

/// Corrects a booking's total, notes or data.
#[utoipa::path(
    put, path = "/api/v1/admin/bookings/{id}/modify", tag = "admin", request_body = ModifyBody,
    params(("id" = String, Path, description = "the row")),
    responses(
        (status = 200, description = "The booking", body = Answer<Booking>),
        (status = 400, description = "Nothing given, a bad value, or a protected field"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
        (status = 404, description = "There is no such booking"),
        (status = 409, description = "`BOOKING_UNPAID`: its payment is for the present total"),
        (status = 503, description = "The booking service is away"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn put_modify(
    Admin(admin): Admin,
    State(state): State<UserState>,
    Path(id): Path<String>,
    trail: Trail,
    Body(body): Body<Map<String, Value>>,
) -> Reply<Booking> {
    let known = ["totalAmount", "notes", "data"];
    let change: Map<String, Value> = body
        .into_iter()
        .filter(|(key, _)| known.contains(&key.as_str()))
        .collect();
    if change.is_empty() {
        return Err(ApiError::bad_request("Nothing to modify").with_detail("Give totalAmount, notes or data"));
    }
    let before = get(&state, &id).await?;
    trail.about(before.user_id);
    state.business.modify_booking(before.id, change, admin.user).await?;
    let after = get(&state, &id).await?;
    trail.changed(&state_of(&before), &state_of(&after));
    Ok(Answer::of(after))
}

/// What a correction may change.
fn state_of(booking: &Booking) -> Value {
    json!({ "totalAmount": booking.total_amount, "data": booking.data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_named_once_and_nonsense_names_nothing() {
        let one = "0192f0c1-0000-7000-8000-0000000000ad";
        assert_eq!(ids(&json!([one, one, "x"])).unwrap().len(), 1);
        for bad in [json!([]), json!("x"), json!(null), json!([1]), json!(vec![one; 501])] {
            assert_eq!(ids(&bad).unwrap_err().status(), 400, "{bad}");
        }
    }

    #[test]
    fn a_reason_becomes_one_line() {
        let body = |refund: Value, reason: Value| cancellation(&CancelBody { refund, reason });
        assert_eq!(
            body(Value::Null, json!("a\r\n b\t")).unwrap(),
            (false, "a  b".to_owned())
        );
        assert!(body(json!("yes"), Value::Null).is_err() && body(json!(true), json!(7)).is_err());
        assert!(body(json!(true), json!("x".repeat(501))).is_err());
    }
}
