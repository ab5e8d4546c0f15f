//! What payment has still to be asked for: cancelling payments of dead bookings, giving late money back.
//!
//! contract: voyage §7.2 (automatic refund), events §7.6. The tasks were written in the transaction that decided them; here
//! they are carried out until payment has answered. Every request may be repeated, so a crash costs only time.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use shared::ApiError;

use super::{
    orders::{self, RefundOutcome, Task, TaskKind},
    saga::Actor,
    settle,
};
use crate::{
    payment::client::{CancelReason, Cancelled, PaymentError, Refund, RefundReason, RefundStatus},
    voyage::VoyageState,
};

/// How long a task belongs to whoever took it.
const LEASE: TimeDelta = TimeDelta::seconds(60);
const CALL_BUDGET: Duration = Duration::from_secs(20);

/// Carries out the next task that is due. Says whether there was one.
pub async fn run_once(state: &VoyageState) -> Result<bool, ApiError> {
    let now = state.sources.now();
    let claimed = orders::claim_task(&mut *state.db.acquire().await?, now, now + LEASE).await?;
    let Some(task) = claimed else { return Ok(false) };
    carry_out(state, &task).await?;
    Ok(true)
}

/// Carries out the task with this key now, if it is not done.
pub async fn run_by_key(state: &VoyageState, key: &str) -> Result<(), ApiError> {
    let lease = state.sources.now() + LEASE;
    let claimed = orders::claim_by_key(&mut *state.db.acquire().await?, key, lease).await?;
    match claimed {
        Some(task) => carry_out(state, &task).await,
        None => Ok(()),
    }
}

async fn carry_out(state: &VoyageState, task: &Task) -> Result<(), ApiError> {
    let work = async {
        match task.kind {
            TaskKind::Cancel => cancel(state, task).await,
            TaskKind::Refund => refund(state, task).await,
        }
    };
    let outcome = tokio::time::timeout(CALL_BUDGET, work).await;
    let mut conn = state.db.acquire().await?;
    match outcome {
        Ok(Ok(Some(outcome))) => orders::finish_task(&mut conn, task.id, outcome, state.sources.now()).await?,
        Ok(Ok(None)) => orders::postpone_task(&mut conn, task.id, next_try(task, state.sources.now())).await?,
        Ok(Err(error)) => {
            tracing::warn!(booking = %task.booking, kind = ?task.kind, attempts = task.attempts, %error, "payment task put off");
            orders::postpone_task(&mut conn, task.id, next_try(task, state.sources.now())).await?;
        }
        Err(_) => {
            tracing::warn!(booking = %task.booking, kind = ?task.kind, attempts = task.attempts, "payment task took too long");
            orders::postpone_task(&mut conn, task.id, next_try(task, state.sources.now())).await?;
        }
    }
    Ok(())
}

/// Five seconds, doubling up to an hour.
fn next_try(task: &Task, now: DateTime<Utc>) -> DateTime<Utc> {
    let doublings = u32::try_from(task.attempts - 1).unwrap_or_default().min(10);
    now + TimeDelta::seconds(5 * i64::from(2_u32.pow(doublings))).min(TimeDelta::hours(1))
}

async fn cancel(state: &VoyageState, task: &Task) -> Result<Option<&'static str>, anyhow::Error> {
    let reason = match task.reason.as_str() {
        "duplicate" => CancelReason::Duplicate,
        "requested_by_customer" => CancelReason::RequestedByCustomer,
        _ => CancelReason::Abandoned,
    };
    match state.payments.cancel_of_booking(task.booking, reason).await? {
        None => Ok(Some("never had a payment")),
        Some(Cancelled::Cancelled) => Ok(Some("cancelled")),
        Some(Cancelled::Processing) => Ok(None),
        Some(Cancelled::Succeeded) => {
            // the booking is dead: this leaves the task that gives the money back
            settle::by_payment(state, task.booking, Actor::Payment).await?;
            Ok(Some("was paid before it could be cancelled"))
        }
    }
}

async fn refund(state: &VoyageState, task: &Task) -> Result<Option<&'static str>, anyhow::Error> {
    let Some(intent) = task.payment_intent.clone() else {
        return Ok(Some("names no payment"));
    };
    // what an administrator gives back is reported with the booking, until it has arrived
    let reported = !task.key.starts_with("late:");
    let request = Refund {
        payment_intent_id: intent.clone(),
        amount: None,
        reason: if reported {
            RefundReason::RequestedByCustomer
        } else {
            RefundReason::Duplicate
        },
        note: Some(task.reason.clone()),
        idempotency_key: task.key.clone(),
    };
    match state.payments.refund(request).await {
        Ok(refunded) if reported => {
            let (outcome, done) = match refunded.status {
                RefundStatus::Pending => (RefundOutcome::Pending(refunded.amount.minor), None),
                RefundStatus::Succeeded => (RefundOutcome::Arrived(Some(refunded.amount.minor)), Some("refunded")),
                RefundStatus::Failed => {
                    tracing::error!(booking = %task.booking, alert = true, "the refund of a cancelled booking failed");
                    (RefundOutcome::Failed, Some("the refund failed"))
                }
            };
            report(state, task, outcome).await?;
            Ok(done)
        }
        Ok(_) => Ok(Some("refunded")),
        Err(PaymentError::NotFound) => {
            tracing::error!(booking = %task.booking, alert = true, "the payment to give back does not exist");
            if reported {
                report(state, task, RefundOutcome::Failed).await?;
            }
            Ok(Some("no such payment"))
        }
        Err(error @ (PaymentError::WrongState(_) | PaymentError::InvalidRefundAmount)) => {
            let view = state.payments.status(&intent, false).await?;
            if view.is_some_and(|view| view.refunded >= view.amount.minor) {
                if reported {
                    report(state, task, RefundOutcome::Arrived(None)).await?;
                }
                return Ok(Some("was given back already"));
            }
            if reported {
                tracing::error!(booking = %task.booking, %error, alert = true, "a cancelled booking cannot be refunded");
                report(state, task, RefundOutcome::Failed).await?;
                return Ok(Some("payment refused"));
            }
            tracing::error!(booking = %task.booking, %error, alert = true, "the payment cannot be given back");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn report(state: &VoyageState, task: &Task, outcome: RefundOutcome) -> sqlx::Result<()> {
    let mut conn = state.db.acquire().await?;
    orders::note_refund(&mut conn, task.booking, outcome, state.sources.now()).await
}
