//! The reconciler: compares what is with what should be and does the difference. A signal makes it prompt, a timer makes
//! it certain, several replicas share the work by locking rows.
//!
//! contract: payment §11 (reconciliation), §13 (undelivered events)

use std::time::Duration;

use chrono::TimeDelta;
use serde_json::Value;
use shared::{id::PaymentId, lifecycle::Shutdown};

use super::{
    Payment, Payments,
    client::{CancelReason, PaymentError},
    model::Transaction,
    store::{self, inbox, refunds},
    webhook,
};

/// How often everything is looked at.
const TICK: Duration = Duration::from_secs(60);
/// How often Stripe is asked for events it could not deliver.
const CATCH_UP: TimeDelta = TimeDelta::minutes(15);
/// Payments younger than this are left to the webhook.
const GRACE: TimeDelta = TimeDelta::minutes(3);
/// How many rows one round takes.
const BATCH: i64 = 50;
/// Webhook payloads are kept this long.
const PAYLOAD_LIFE: TimeDelta = TimeDelta::days(90);
/// Pages of undelivered events read in one round.
const PAGES: usize = 10;

/// What one round did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Payments cancelled because somebody wanted it.
    pub cancelled: usize,
    /// Refunds carried out or looked at.
    pub refunds: usize,
    /// Payments compared with Stripe.
    pub compared: usize,
    /// Parked events tried again.
    pub unparked: usize,
}

impl Payments {
    /// Works until the pod stops: at once when woken, every minute otherwise.
    pub async fn work(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut caught_up = self.sources().now() - CATCH_UP;
        loop {
            self.round().await?;
            if self.sources().now() - caught_up >= CATCH_UP {
                caught_up = self.sources().now();
                self.catch_up().await?;
                self.tidy_up().await?;
            }
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = self.woken() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// One round. An item that cannot be done now does not keep the others from being done.
    pub async fn round(&self) -> Result<Round, PaymentError> {
        if self.stripe_if_configured().is_none() {
            return Ok(Round::default());
        }
        let round = Round {
            cancelled: self.cancel_requested().await?,
            refunds: self.carry_out_refunds().await?,
            compared: self.compare().await?,
            unparked: self.unpark().await?,
        };
        let parked = inbox::parked(&mut *self.db().acquire().await?).await?;
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("payment_webhooks_parked").set(parked as f64);
        Ok(round)
    }

    /// Cancels the payments of dead bookings and erased accounts.
    async fn cancel_requested(&self) -> Result<usize, PaymentError> {
        let payments = store::list_to_cancel(&mut *self.db().acquire().await?, BATCH).await?;
        let mut done = 0;
        for payment in payments {
            let reason = CancelReason::from_stripe(payment.cancel_reason.as_deref().unwrap_or_default());
            match self.cancel_payment(payment.id, reason).await {
                Ok(_) => done += 1,
                Err(error) => put_off(&error, payment.id, "cancellation put off"),
            }
        }
        Ok(done)
    }

    async fn carry_out_refunds(&self) -> Result<usize, PaymentError> {
        let due = refunds::claim_due(&mut *self.db().acquire().await?, self.sources().now(), BATCH).await?;
        let mut done = 0;
        for refund in due {
            match self.carry_out(refund).await {
                Ok(()) => done += 1,
                Err(error) => {
                    tracing::warn!(%refund, error = format!("{error:#}"), "refund put off");
                }
            }
        }
        Ok(done)
    }

    /// Asks Stripe about open payments that no webhook has settled.
    async fn compare(&self) -> Result<usize, PaymentError> {
        let now = self.sources().now();
        let claimed = store::claim_unsettled(&mut *self.db().acquire().await?, now - GRACE, now, BATCH).await?;
        let mut done = 0;
        for id in claimed {
            let payment = self.get(id).await?;
            match self.compare_one(&payment).await {
                Ok(()) => done += 1,
                Err(error) => put_off(&error, id, "comparison with stripe put off"),
            }
        }
        Ok(done)
    }

    async fn compare_one(&self, payment: &Transaction) -> Result<(), PaymentError> {
        if payment.intent.is_none() {
            // the answer to its creation was lost: the same key finds what was made; too late for that, it is given up
            self.ensure_created(payment).await?;
            return Ok(());
        }
        let settled = self.refresh(payment).await?;
        if settled.status != payment.status {
            metrics::counter!("payment_reconciled_total").increment(1);
            tracing::warn!(payment = %payment.id, from = %payment.status, to = %settled.status, "reconciliation found what no webhook told");
        }
        Ok(())
    }

    /// Tries parked events again.
    async fn unpark(&self) -> Result<usize, PaymentError> {
        let parked = inbox::list_parked(&mut *self.db().acquire().await?, self.sources().now(), BATCH).await?;
        let mut done = 0;
        for raw in parked {
            if self.receive_again(&raw).await? {
                done += 1;
            }
        }
        Ok(done)
    }

    /// Reads the events that Stripe could not deliver, oldest first.
    pub async fn catch_up(&self) -> Result<usize, PaymentError> {
        let Some(stripe) = self.stripe_if_configured() else {
            return Ok(0);
        };
        let mut events: Vec<Value> = Vec::new();
        for _ in 0..PAGES {
            let after = events
                .last()
                .and_then(|event| event.get("id"))
                .and_then(Value::as_str)
                .map(str::to_owned);
            let page = match stripe.undelivered_events(&webhook::HANDLED, after.as_deref()).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "undelivered events not read");
                    return Ok(0);
                }
            };
            let more = page.has_more && !page.data.is_empty();
            events.extend(page.data);
            if !more {
                break;
            }
        }
        let mut done = 0;
        for raw in events.iter().rev() {
            if self.receive_again(raw).await? {
                done += 1;
            }
        }
        Ok(done)
    }

    /// Receives an event that did not come by webhook. Stripe being away ends the round, anything else is parked.
    async fn receive_again(&self, raw: &Value) -> Result<bool, PaymentError> {
        let Some((event, raw)) = webhook::read(raw.to_string().as_bytes()) else {
            return Ok(false);
        };
        Ok(self.receive(&event, &raw).await? == webhook::Received::Processed)
    }

    /// Drops what is kept for a time only.
    async fn tidy_up(&self) -> Result<(), PaymentError> {
        let before = self.sources().now() - PAYLOAD_LIFE;
        inbox::purge(&mut *self.db().acquire().await?, before).await?;
        shared::idempotency::purge::<Payment>(self.db(), self.sources(), 1000).await?;
        Ok(())
    }
}

fn put_off(error: &PaymentError, payment: PaymentId, what: &'static str) {
    tracing::warn!(%payment, error = format!("{error:#}"), what, "payment work put off");
}
