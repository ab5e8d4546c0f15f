//! `POST /bookings/:reference/confirm`: the browser says it has paid, payment says whether that is so.
//!
//! contract: voyage §4.8 ("confirm", MUST), experience D8. Nothing the caller says is believed. The transition is the one
//! the consumer makes; whoever comes second finds it done.

use http::StatusCode;
use serde_json::json;
use shared::{ApiError, id::UserId};

use super::{
    fulfil,
    handlers::owned,
    model::{Booking, Status},
    saga::Actor,
    settle, store,
};
use crate::{payment::client::PaymentView, voyage::VoyageState};

/// Confirms a booking of `user` if it is paid. Gives the booking as it is afterwards.
pub async fn confirm(
    state: &VoyageState,
    user: UserId,
    reference_or_id: &str,
    claimed_intent: Option<&str>,
) -> Result<Booking, ApiError> {
    let booking = owned(state, user, reference_or_id).await?;
    match booking.status {
        Status::Confirmed => return Ok(booking),
        Status::Pending => {}
        Status::Draft | Status::PendingPayment => pay(state, &booking, claimed_intent).await?,
        Status::Failed if booking.revivable => pay(state, &booking, claimed_intent).await?,
        Status::Failed | Status::Cancelled | Status::Completed => return Err(wrong_state(booking.status)),
    }
    fulfil::fulfil(state, booking.id).await?;
    let after = store::find(state.db.pool(), &booking.id.to_string())
        .await?
        .unwrap_or(booking);
    match after.status {
        Status::Confirmed | Status::Pending => Ok(after),
        other => Err(wrong_state(other)),
    }
}

/// 402 unless the booking's own payment has paid exactly what it costs.
async fn pay(state: &VoyageState, booking: &Booking, claimed_intent: Option<&str>) -> Result<(), ApiError> {
    let view = look(state, booking).await?;
    let claims_another =
        claimed_intent.is_some_and(|claimed| view.as_ref().is_none_or(|view| view.payment_intent_id != claimed));
    let Some(view) = view.filter(|_| !claims_another) else {
        return Err(payment_required(booking, None));
    };
    if view.pays(booking.id, booking.user, booking.total) {
        settle::by_view(state, booking.id, &view, Actor::Payment).await?;
        return Ok(());
    }
    // a payment on its way gives the booking more time
    settle::by_view(state, booking.id, &view, Actor::Payment).await?;
    Err(payment_required(booking, Some(&view)))
}

async fn look(state: &VoyageState, booking: &Booking) -> Result<Option<PaymentView>, ApiError> {
    let view = match &booking.payment_intent {
        Some(intent) => state.payments.status(intent, true).await,
        None => state.payments.status_of_booking(booking.id, true).await,
    };
    view.map_err(settle::payment_failed)
}

fn payment_required(booking: &Booking, view: Option<&PaymentView>) -> ApiError {
    let payment_status = view.map(|view| view.stripe_status.clone());
    ApiError::new(
        StatusCode::PAYMENT_REQUIRED,
        "PAYMENT_REQUIRED",
        "Payment not completed",
    )
    .with_extra(
        "data",
        json!({ "reference": booking.reference, "status": booking.status, "paymentStatus": payment_status }),
    )
}

fn wrong_state(status: Status) -> ApiError {
    ApiError::bad_request(format!("Cannot confirm booking with status: {}", status.name()))
}
