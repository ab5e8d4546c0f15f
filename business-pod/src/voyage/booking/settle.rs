//! One transition as a whole transaction, and what a payment's own words mean for its booking.
//!
//! contract: voyage §4.8 (confirm), §7.2; events §7.3 (a timeout that meets a success)

use shared::{ApiError, id::BookingId};

use super::{
    model::{Booking, Decision, Trigger},
    saga::{self, Actor},
    store,
};
use crate::{payment::client::PaymentView, voyage::VoyageState};

/// Locks a booking, drives it and commits. `None` if there is no such booking.
pub async fn drive(
    state: &VoyageState,
    booking: BookingId,
    trigger: &Trigger,
    actor: Actor,
) -> Result<Option<(Booking, Decision)>, ApiError> {
    let mut tx = state.db.begin().await?;
    let Some(mut locked) = store::lock_by_id(&mut tx, booking).await? else {
        return Ok(None);
    };
    let decision = saga::drive(&mut tx, &state.sources, &mut locked, trigger, actor, None).await?;
    tx.commit().await?;
    if decision != Decision::Stay {
        state.wake.now();
    }
    Ok(Some((locked, decision)))
}

/// Asks payment how the booking's payment stands and drives the booking accordingly.
pub async fn by_payment(state: &VoyageState, booking: BookingId, actor: Actor) -> Result<Option<Decision>, ApiError> {
    let view = state
        .payments
        .status_of_booking(booking, true)
        .await
        .map_err(payment_failed)?;
    let Some(view) = view else { return Ok(None) };
    let driven = by_view(state, booking, &view, actor).await?;
    Ok(driven.map(|(_, decision)| decision))
}

/// Drives a booking by what is known of its payment.
pub async fn by_view(
    state: &VoyageState,
    booking: BookingId,
    view: &PaymentView,
    actor: Actor,
) -> Result<Option<(Booking, Decision)>, ApiError> {
    let mut tx = state.db.begin().await?;
    let Some(mut locked) = store::lock_by_id(&mut tx, booking).await? else {
        return Ok(None);
    };
    let Some(trigger) = trigger_of(&locked, view) else {
        return Ok(Some((locked, Decision::Stay)));
    };
    locked
        .payment_intent
        .get_or_insert_with(|| view.payment_intent_id.clone());
    let decision = saga::drive(&mut tx, &state.sources, &mut locked, &trigger, actor, None).await?;
    tx.commit().await?;
    if decision != Decision::Stay {
        state.wake.now();
    }
    Ok(Some((locked, decision)))
}

/// What a payment's state means for a booking; nothing if it is not the booking's own payment, or says nothing new.
pub fn trigger_of(booking: &Booking, view: &PaymentView) -> Option<Trigger> {
    let own = booking
        .payment_intent
        .as_ref()
        .is_none_or(|intent| *intent == view.payment_intent_id);
    if !own {
        return None;
    }
    if view.pays(booking.id, booking.user, booking.total) {
        return Some(Trigger::Paid);
    }
    match view.stripe_status.as_str() {
        "processing" => Some(Trigger::Processing),
        "requires_action" => Some(Trigger::ActionRequired),
        _ => None,
    }
}

/// What a client is told when payment cannot be asked.
pub fn payment_failed(error: crate::payment::client::PaymentError) -> ApiError {
    use crate::payment::client::PaymentError;
    match error {
        PaymentError::Unavailable { retry_after, cause } => ApiError::new(
            http::StatusCode::SERVICE_UNAVAILABLE,
            "PAYMENT_UNAVAILABLE",
            "Payments are temporarily unavailable, please try again",
        )
        .with_retry_after(retry_after)
        .with_cause(cause),
        other => ApiError::internal(other),
    }
}
