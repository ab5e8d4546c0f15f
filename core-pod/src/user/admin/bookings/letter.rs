//! `POST /admin/bookings/:id/resend-email`: the traveller's mail about a booking once more.
//!
//! contract: core §5.12 (resend-email), §9

use axum::{Json, extract::State};
use http::StatusCode;
use serde::Serialize;
use shared::{
    ApiError,
    http::Path,
    money::{Currency, Money},
};
use utoipa::ToSchema;

use super::{handlers::get, model::Booking};
use crate::{
    mail::{BookingFacts, BookingKind, Letter, NewMail},
    user::{
        UserState,
        admin::{access::Admin, answers::Answer},
        audit::Trail,
    },
};

/// The mail is on its way.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AdminMailSent)]
pub struct Sent {
    success: bool,
}

/// Sends the mail about a confirmed or cancelled booking again.
#[utoipa::path(
    post, path = "/api/v1/admin/bookings/{id}/resend-email", tag = "admin",
    params(("id" = String, Path, description = "the row")),
    responses(
        (status = 200, description = "It is in the queue", body = Answer<Sent>),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
        (status = 404, description = "There is no such booking"),
        (status = 409, description = "`NO_LETTER`: nothing is written about such a booking; `NO_RECIPIENT`: the account is gone"),
        (status = 503, description = "No mail leaves this platform: `SENDGRID_API_KEY` is not set"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn resend(
    _: Admin,
    State(state): State<UserState>,
    Path(id): Path<String>,
    trail: Trail,
) -> Result<Json<Answer<Sent>>, ApiError> {
    let booking = get(&state, &id).await?;
    trail.about(booking.user_id);
    if !state.mailer.is_configured() {
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "MAIL_NOT_CONFIGURED",
            "Email service not configured: SENDGRID_API_KEY is not set",
        ));
    }
    let letter = letter(&booking)?;
    let account = state.accounts.find(booking.user_id).await?;
    let account = account.ok_or_else(|| ApiError::conflict("NO_RECIPIENT", "The traveller's account is gone"))?;
    let key = format!("user.booking-again:{}", state.sources.uuid_v7());
    let mail = NewMail::new(key, &account.email_display, letter)
        .for_user(account.id)
        .greeting(account.first_name.as_deref());
    let mut tx = state.db.begin().await?;
    state.mailer.enqueue(&mut tx, &mail).await?;
    tx.commit().await?;
    Ok(Answer::of(Sent { success: true }))
}

/// What is written about a booking in its present state.
fn letter(booking: &Booking) -> Result<Letter, ApiError> {
    let currency: Option<Currency> = booking.currency.parse().ok();
    let amount = currency.and_then(|currency| Money::from_major(booking.total_amount, currency));
    let facts = BookingFacts {
        reference: booking.reference.clone(),
        kind: BookingKind::from_name(&booking.kind),
        destination: booking.destination.clone(),
        amount: amount.map(Into::into),
    };
    match booking.status.as_str() {
        "CONFIRMED" | "COMPLETED" => Ok(Letter::BookingConfirmed(facts)),
        "CANCELLED" => Ok(Letter::BookingCancelled(facts)),
        _ => Err(ApiError::conflict(
            "NO_LETTER",
            "Only confirmed and cancelled bookings have an email",
        )),
    }
}
