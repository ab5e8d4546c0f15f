//! What administrators do to bookings: status, cancellation with refund, corrections.
//!
//! contract: core §5.12 (bookings), voyage §7.2 (the guard), §7.5 (refund), events §7.4. Every change is one transaction with
//! its history and its event. The refund of a cancellation is written down in that transaction and carried out afterwards,
//! under the key `cancel:<reference>`: whoever comes back to it (this call, a repeated one, the worker) finds the same refund.

mod change;
pub mod handlers;
mod store;

use serde_json::json;
use shared::{
    ApiError,
    events::outbox,
    id::{BookingId, UserId},
};

use super::{
    fulfil,
    model::{Booking, Change, Decision, Settlement, Status, Trigger},
    orders::{self, Task, TaskKind},
    saga::{self, Actor},
    settle, store as bookings, tasks,
};
use crate::{
    fault,
    payment::client::Status as PaymentStatus,
    voyage::{Voyage, VoyageState, events},
};
pub use change::Modification;
pub use store::RefundStatus;

/// The refund of a cancelled booking has this key at payment, for ever.
pub fn refund_key(reference: &str) -> String {
    format!("cancel:{reference}")
}

/// A booking after a cancellation.
#[derive(Debug)]
pub struct Cancellation {
    /// The booking.
    pub booking: Booking,
    /// What became of its money; none if no refund was asked for or there was nothing to give back.
    pub refund: Option<RefundStatus>,
}

/// What changing many bookings came to.
#[derive(Debug)]
pub struct Bulk {
    /// Rows that changed.
    pub updated: usize,
    /// Rows that the guard keeps as they are.
    pub refused: Vec<BookingId>,
}

fn missing() -> ApiError {
    ApiError::not_found("Booking not found")
}

/// 409: the guard of voyage §7.2 does not let it.
fn refused(from: Status, to: Status) -> ApiError {
    let text = format!("Cannot change status from {} to {}", from.name(), to.name());
    ApiError::conflict("INVALID_TRANSITION", text).with_extra("data", json!({ "from": from, "to": to }))
}

async fn find(state: &VoyageState, id: BookingId) -> Result<Booking, ApiError> {
    let found = bookings::find(state.db.pool(), &id.to_string()).await?;
    found.ok_or_else(missing)
}

/// Brings a booking into a status, if the guard lets it. What is there already stays.
pub async fn set_status(state: &VoyageState, id: BookingId, to: Status, admin: UserId) -> Result<Booking, ApiError> {
    let found = find(state, id).await?;
    if found.status == to {
        return Ok(found);
    }
    match to {
        Status::Cancelled => Ok(cancel(state, id, &Cancel::without_refund(admin)).await?.booking),
        Status::Completed => {
            let driven = settle::drive(state, id, &Trigger::Finished, Actor::Admin(admin)).await?;
            let (booking, decision) = driven.ok_or_else(missing)?;
            if decision == Decision::Stay && booking.status != to {
                return Err(refused(booking.status, to));
            }
            Ok(booking)
        }
        Status::Confirmed | Status::Pending => confirm(state, found, to, admin).await,
        Status::Draft | Status::PendingPayment | Status::Failed => Err(refused(found.status, to)),
    }
}

/// An administrator's word confirms nothing that is not paid for and ordered: payment is asked, then the suppliers.
async fn confirm(state: &VoyageState, found: Booking, to: Status, admin: UserId) -> Result<Booking, ApiError> {
    if found.awaits_payment() {
        settle::by_payment(state, found.id, Actor::Admin(admin)).await?;
    }
    fulfil::fulfil(state, found.id).await?;
    let booking = find(state, found.id).await?;
    match booking.status {
        Status::Confirmed if found.status != Status::Confirmed => Ok(booking),
        // paid, and the suppliers are being asked: it will be confirmed
        Status::Pending if found.status != Status::Pending => Ok(booking),
        other => Err(refused(other, to)),
    }
}

/// Brings many bookings into a status in one transaction. The guard decides for each; payment is not asked, so what is not
/// known to be paid is not confirmed here.
pub async fn set_statuses(
    state: &VoyageState,
    ids: &[uuid::Uuid],
    to: Status,
    admin: UserId,
) -> Result<Bulk, ApiError> {
    let mut bulk = Bulk {
        updated: 0,
        refused: Vec::new(),
    };
    let mut tx = state.db.begin().await?;
    for mut booking in bookings::lock_all(&mut tx, ids).await? {
        if booking.status == to {
            continue;
        }
        let trigger = match to {
            Status::Cancelled => Some(Cancel::without_refund(admin).trigger(&booking, None)),
            Status::Completed => Some(Trigger::Finished),
            _ => None,
        };
        let decision = match &trigger {
            Some(trigger) => {
                saga::drive(
                    &mut tx,
                    &state.sources,
                    &mut booking,
                    trigger,
                    Actor::Admin(admin),
                    None,
                )
                .await?
            }
            None => Decision::Stay,
        };
        match decision {
            Decision::Move(_) => bulk.updated += 1,
            _ => bulk.refused.push(booking.id),
        }
    }
    tx.commit().await?;
    state.wake.now();
    Ok(bulk)
}

/// A cancellation by an administrator.
#[derive(Debug, Clone)]
pub struct Cancel {
    /// Who.
    pub admin: UserId,
    /// Whether what was paid goes back.
    pub refund: bool,
    /// Why, in words for the traveller; may be empty.
    pub reason: String,
}

/// What can be given back of a booking's payment.
struct Refundable {
    intent: String,
    minor: i64,
}

impl Cancel {
    fn without_refund(admin: UserId) -> Self {
        Self {
            admin,
            refund: false,
            reason: String::new(),
        }
    }

    /// `admin_cancelled[: text]` (events §5).
    fn words(&self) -> String {
        match self.reason.trim() {
            "" => "admin_cancelled".to_owned(),
            text => format!("admin_cancelled: {text}"),
        }
    }

    fn trigger(&self, booking: &Booking, refundable: Option<&Refundable>) -> Trigger {
        let money = match refundable {
            Some(refundable) => Settlement::GivenBack(refundable.minor),
            None if booking.is_paid() => Settlement::Kept,
            None => Settlement::Unpaid,
        };
        Trigger::AdminCancelled {
            reason: self.words(),
            money,
        }
    }
}

/// Cancels a booking and, if wanted, gives back all that was paid. Once the transition is committed the refund will be made,
/// whatever happens to this process; a repeated call carries on with a refund that has not ended, and is 409 after that.
pub async fn cancel(state: &VoyageState, id: BookingId, request: &Cancel) -> Result<Cancellation, ApiError> {
    let found = find(state, id).await?;
    match found.status {
        Status::Cancelled => return cancelled_before(state, found).await,
        Status::Completed => {
            return Err(ApiError::conflict(
                "BOOKING_COMPLETED",
                "Cannot cancel a completed booking",
            ));
        }
        _ => {}
    }
    let refundable = if request.refund {
        refundable(state, &found).await?
    } else {
        None
    };
    let mut tx = state.db.begin().await?;
    let mut booking = bookings::lock_by_id(&mut tx, id).await?.ok_or_else(missing)?;
    let from = booking.status;
    let trigger = request.trigger(&booking, refundable.as_ref());
    let actor = Actor::Admin(request.admin);
    let decision = saga::drive(&mut tx, &state.sources, &mut booking, &trigger, actor, None).await?;
    if !matches!(decision, Decision::Move(_)) {
        return match from {
            Status::Cancelled => Err(already_cancelled(None)),
            _ => Err(refused(from, Status::Cancelled)),
        };
    }
    let key = refund_key(&booking.reference);
    if let Some(refundable) = &refundable {
        store::ask_refund(&mut tx, id, refundable.minor).await?;
        let task = Task {
            id: state.sources.uuid_v7(),
            booking: id,
            kind: TaskKind::Refund,
            payment_intent: Some(refundable.intent.clone()),
            reason: request.words(),
            key: key.clone(),
            attempts: 0,
        };
        orders::add_task(&mut tx, &task, state.sources.now()).await?;
    }
    tx.commit().await?;
    fault::point("booking.admin_cancelled");
    if refundable.is_some() {
        tasks::run_by_key(state, &key).await?;
        fault::point("booking.admin_refunded");
    }
    state.wake.now();
    outcome(state, id).await
}

/// A refund that has not ended is carried on with; anything else was done before.
async fn cancelled_before(state: &VoyageState, booking: Booking) -> Result<Cancellation, ApiError> {
    let status = store::refund_status(&mut *state.db.acquire().await?, booking.id).await?;
    if status != Some(RefundStatus::Pending) {
        return Err(already_cancelled(status));
    }
    tasks::run_by_key(state, &refund_key(&booking.reference)).await?;
    outcome(state, booking.id).await
}

fn already_cancelled(refund: Option<RefundStatus>) -> ApiError {
    ApiError::conflict("BOOKING_CANCELLED", "Booking already cancelled")
        .with_extra("data", json!({ "refundStatus": refund }))
}

async fn outcome(state: &VoyageState, id: BookingId) -> Result<Cancellation, ApiError> {
    let booking = find(state, id).await?;
    let refund = store::refund_status(&mut *state.db.acquire().await?, id).await?;
    Ok(Cancellation { booking, refund })
}

/// What of the booking's payment was taken and not given back, as payment's own books say. A payment that is still open is
/// cancelled instead, and given back by itself should it succeed all the same.
async fn refundable(state: &VoyageState, booking: &Booking) -> Result<Option<Refundable>, ApiError> {
    let view = match &booking.payment_intent {
        Some(intent) => state.payments.status(intent, false).await,
        None => state.payments.status_of_booking(booking.id, false).await,
    };
    let view = view.map_err(settle::payment_failed)?;
    let paid = view.filter(|view| view.status == PaymentStatus::Succeeded && view.booking == booking.id);
    Ok(paid.and_then(|view| {
        let minor = view.amount.minor - view.refunded;
        (minor > 0).then_some(Refundable {
            intent: view.payment_intent_id,
            minor,
        })
    }))
}

/// Corrects a booking's total or the notes and data that administrators keep with it.
pub async fn modify(
    state: &VoyageState,
    id: BookingId,
    change: &Modification,
    admin: UserId,
) -> Result<Booking, ApiError> {
    let mut tx = state.db.begin().await?;
    let mut booking = bookings::lock_by_id(&mut tx, id).await?.ok_or_else(missing)?;
    let data = store::data(&mut tx, id).await?;
    let corrected = change.apply(&booking, &data)?;
    let now = state.sources.now();
    let changes = corrected.changes(&booking);
    if changes.is_empty() {
        return Ok(booking);
    }
    let names: Vec<&str> = changes.keys().map(String::as_str).collect();
    let noted = Change {
        from: booking.status,
        to: booking.status,
        reason: Some(format!("modified: {}", names.join(", "))),
        at: now,
    };
    store::correct(&mut tx, &booking, &corrected, now).await?;
    bookings::add_event(&mut tx, id, Some(booking.status), &noted, Actor::Admin(admin)).await?;
    let event = events::booking_modified(&state.sources, &booking, &changes, now);
    outbox::append::<Voyage>(&mut tx, &[event]).await?;
    tx.commit().await?;
    booking.total = corrected.total;
    booking.version += 1;
    booking.updated_at = now;
    tracing::info!(booking = %id, "booking modified by an administrator");
    Ok(booking)
}
