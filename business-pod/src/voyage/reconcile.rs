//! Background work: what compares bookings with what should be, and does the difference.
//!
//! contract: voyage §7.2 (time-outs), events §7.3, §7.6; voyage §4.7 (expired carts)
//!
//! Two loops. The prompt one is woken by whoever leaves something to do (fulfilment, payment tasks) and looks by itself
//! every two seconds, in case the wake-up was lost or came from another replica. The reconciler looks every fifteen seconds
//! for what nobody will ever report: checkouts that stopped half-way, bookings whose time has passed, expired carts. Every
//! step is idempotent, so replicas need not agree on who does it.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use shared::{ApiError, idempotency, lifecycle::Shutdown};
use tokio::sync::Notify;

use super::{
    Voyage, VoyageState,
    booking::{
        fulfil,
        model::{Booking, Status, Trigger},
        saga::Actor,
        settle, store, tasks,
    },
    cart, checkout,
    supply::offers,
};
use crate::payment::client::{CancelReason, Cancelled};

/// How often the prompt loop looks without being asked.
const POLL: Duration = Duration::from_secs(2);
/// How often the reconciler looks.
const ROUND: Duration = Duration::from_secs(15);
/// A checkout that has not got its payment by now will not get it by itself.
const ABANDONED_AFTER: TimeDelta = TimeDelta::seconds(60);
const BATCH: i64 = 50;
const PURGE_BATCH: i64 = 500;

/// Wakes the prompt loop of this process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// There is something to do.
    pub fn now(&self) {
        self.0.notify_one();
    }
}

/// Starts voyage's background work.
pub fn workers(state: &VoyageState) {
    let prompt = state.clone();
    state
        .tasks
        .supervise("voyage-prompt", move |shutdown| prompt_loop(prompt.clone(), shutdown));
    let log = state.search.log().clone();
    state.tasks.supervise("voyage-search-log", move |shutdown| {
        let log = log.clone();
        async move { log.run(shutdown).await }
    });
    let slow = state.clone();
    state
        .tasks
        .supervise("voyage-reconciler", move |shutdown| slow_loop(slow.clone(), shutdown));
}

async fn prompt_loop(state: VoyageState, shutdown: Shutdown) -> anyhow::Result<()> {
    loop {
        run_prompt(&state).await?;
        tokio::select! {
            () = shutdown.draining() => return Ok(()),
            () = state.wake.0.notified() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

async fn slow_loop(state: VoyageState, shutdown: Shutdown) -> anyhow::Result<()> {
    loop {
        run_round(&state).await?;
        tokio::select! {
            () = shutdown.draining() => return Ok(()),
            () = tokio::time::sleep(ROUND) => {}
        }
    }
}

/// Does everything that is due now: supplier orders, payment tasks.
pub async fn run_prompt(state: &VoyageState) -> Result<(), ApiError> {
    while fulfil::run_once(state).await? > 0 {}
    while tasks::run_once(state).await? {}
    Ok(())
}

/// One round of the reconciler.
pub async fn run_round(state: &VoyageState) -> Result<(), ApiError> {
    let now = state.sources.now();
    let (unfinished, expired, oldest) = {
        let mut conn = state.db.acquire().await?;
        let unfinished = store::without_intent(&mut conn, now - ABANDONED_AFTER, now, BATCH).await?;
        let expired = store::expired(&mut conn, now, BATCH).await?;
        (unfinished, expired, store::oldest_open(&mut conn).await?)
    };
    for state in store::OPEN_STATES {
        let since = oldest
            .iter()
            .find(|(status, _)| status == state)
            .map(|(_, since)| *since);
        #[expect(clippy::cast_precision_loss, reason = "seconds of an age")]
        let age = since.map_or(0.0, |since| (now - since).num_seconds().max(0) as f64);
        metrics::gauge!("dreamscape_saga_oldest_age_seconds", "saga" => "booking", "state" => state).set(age);
    }
    for booking in unfinished {
        finish(state, booking).await;
    }
    for booking in expired {
        if let Err(error) = expire(state, &booking).await {
            tracing::warn!(booking = %booking.id, %error, "expired booking not settled yet");
        }
    }
    purge(state).await
}

/// A checkout stopped between its booking and its payment: starts the payment, so that whoever checks the same cart out
/// again finds it, and so that an intent whose answer got lost is known.
async fn finish(state: &VoyageState, booking: Booking) {
    let id = booking.id;
    match checkout::attach_payment(state, booking).await {
        Ok(_) => tracing::info!(booking = %id, "interrupted checkout finished"),
        Err(error) => tracing::warn!(booking = %id, %error, "interrupted checkout not finished"),
    }
}

/// The time of a booking has passed: its payment is cancelled first, and what payment says to that decides.
async fn expire(state: &VoyageState, booking: &Booking) -> Result<(), ApiError> {
    let cancelled = state
        .payments
        .cancel_of_booking(booking.id, CancelReason::Abandoned)
        .await;
    match cancelled.map_err(settle::payment_failed)? {
        None | Some(Cancelled::Cancelled) => time_out(state, booking).await,
        Some(Cancelled::Processing) => settle::drive(state, booking.id, &Trigger::Processing, Actor::Reconciler)
            .await
            .map(drop),
        Some(Cancelled::Succeeded) => {
            settle::by_payment(state, booking.id, Actor::Reconciler).await?;
            if booking.status == Status::Failed {
                // its second chance is over; the money, if it was its own, is on its way back
                return time_out(state, booking).await;
            }
            Ok(())
        }
    }
}

/// Ends a booking whose time has passed, unless it got more time meanwhile.
async fn time_out(state: &VoyageState, seen: &Booking) -> Result<(), ApiError> {
    let current = store::find(state.db.pool(), &seen.id.to_string()).await?;
    if current.is_none_or(|booking| booking.expires_at > state.sources.now()) {
        return Ok(());
    }
    settle::drive(state, seen.id, &Trigger::TimedOut, Actor::Reconciler)
        .await
        .map(drop)
}

/// Removes what nobody needs any more.
async fn purge(state: &VoyageState) -> Result<(), ApiError> {
    let now = state.sources.now();
    let mut conn = state.db.acquire().await?;
    while cart::store::purge(&mut conn, now, PURGE_BATCH).await? == PURGE_BATCH.unsigned_abs() {}
    while offers::sweep(&mut conn, now, PURGE_BATCH).await? == PURGE_BATCH.unsigned_abs() {}
    drop(conn);
    while idempotency::purge::<Voyage>(&state.db, &state.sources, 500).await? == 500 {}
    Ok(())
}
