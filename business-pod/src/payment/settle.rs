//! The one way a payment's status changes: what Stripe says is judged by the model, and everything that belongs to the
//! change is written in the same transaction. Webhooks, confirmation and reconciliation all end here.
//!
//! contract: payment §6 (order), §7 (state machine); events §7.6 (compensation)

use chrono::{DateTime, Utc};
use shared::{Sources, events::outbox, id::PaymentId, money::Money};
use sqlx::PgConnection;

use super::{
    Payment, Payments,
    client::PaymentError,
    events,
    model::{Effect, Observed, RefundRow, Source, Success, Transaction, Verdict},
    store::{self, inbox, ledger, refunds},
    stripe::wire::PaymentIntent,
    words::{RefundReason, RefundStatus},
};
use crate::fault;

/// What applying an observation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// The row says what Stripe says; it changed or had said so before.
    Done {
        /// Whether this observation changed it.
        changed: bool,
    },
    /// Nothing was written: only Stripe's present state can decide.
    AskStripe,
}

/// Applies an observation to a locked payment: status, attempt, ledger, refund and event, or nothing.
pub(super) async fn apply(
    tx: &mut PgConnection,
    sources: &Sources,
    payment: &mut Transaction,
    observed: &Observed,
    word: &str,
    source: Source,
) -> sqlx::Result<Settled> {
    let now = sources.now();
    let verdict = payment.observe(observed, source, now);
    if verdict == Verdict::AskStripe {
        return Ok(Settled::AskStripe);
    }
    payment.provider_status = Some(word.to_owned());
    if let Verdict::Alert(reason) = verdict {
        metrics::counter!("payment_contradictions_total").increment(1);
        tracing::error!(alert = "payment_contradiction", payment = %payment.id, status = %payment.status, word, reason, "stripe contradicts a payment");
    }
    let Verdict::Changed(effect) = verdict else {
        store::save(tx, payment, now).await?;
        return Ok(Settled::Done { changed: false });
    };
    let mut published = Vec::new();
    match &effect {
        Effect::None => {}
        Effect::Failed(failure) => {
            store::insert_failed_attempt(tx, sources.uuid_v7(), payment, failure, now).await?;
            if payment.intent.is_some() {
                published.push(events::attempt_failed(sources, payment, failure, now));
            }
        }
        Effect::Completed(success) => {
            take_in(tx, sources, payment, success, now).await?;
            published.push(events::completed(sources, payment, success, now));
        }
        Effect::Flagged(success) => {
            take_in(tx, sources, payment, success, now).await?;
            tracing::error!(
                alert = "payment_mismatch", payment = %payment.id, booking = payment.reference,
                asked = payment.amount.minor, received = success.received.minor, "payment does not match its booking"
            );
        }
        Effect::LateSuccess(success) => {
            take_in(tx, sources, payment, success, now).await?;
            give_back_late(tx, sources, payment, now).await?;
            tracing::warn!(alert = "payment_late", payment = %payment.id, booking = payment.reference, "late payment is given back");
        }
        Effect::Canceled => {
            if payment.intent.is_some() && payment.cancellation_is_published() {
                published.push(events::canceled(sources, payment, now));
            }
        }
    }
    store::save(tx, payment, now).await?;
    outbox::append::<Payment>(tx, &published).await?;
    count(payment, &effect);
    tracing::info!(payment = %payment.id, intent = payment.intent, booking = payment.reference, status = %payment.status, "payment changed");
    Ok(Settled::Done { changed: true })
}

/// The ledger and the attempt of money that came in.
async fn take_in(
    tx: &mut PgConnection,
    sources: &Sources,
    payment: &Transaction,
    success: &Success,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    store::insert_successful_attempt(tx, sources.uuid_v7(), payment, success, now).await?;
    if success.received.minor > 0 {
        let fact = payment.id.0;
        ledger::post(
            tx,
            ledger::Posting::Charge,
            fact,
            payment.id,
            &payment.reference,
            success.received,
            now,
        )
        .await?;
    }
    Ok(())
}

/// Money for a payment that was given up goes back in full, under the key that voyage would use for it as well.
async fn give_back_late(
    tx: &mut PgConnection,
    sources: &Sources,
    payment: &mut Transaction,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let (Some(intent), Ok(amount)) = (payment.intent.clone(), payment.reserve(None)) else {
        return Ok(());
    };
    // the reservation and the capture it is checked against are saved before the refund row refers to them
    store::save(tx, payment, now).await?;
    let refund = RefundRow {
        id: sources.id(),
        transaction: payment.id,
        stripe_id: None,
        amount: Money::new(amount.minor, payment.amount.currency),
        status: RefundStatus::Pending,
        reason: RefundReason::Duplicate,
        note: Some("late payment".to_owned()),
        correlation: payment.correlation.clone(),
        created_at: now,
    };
    refunds::insert(tx, &refund, &late_key(&intent), now).await
}

/// The refund key of a payment that came too late.
pub(super) fn late_key(intent: &str) -> String {
    format!("late:{intent}")
}

fn count(payment: &Transaction, effect: &Effect) {
    metrics::counter!("payment_intents_total", "status" => payment.status.as_str()).increment(1);
    let outcome = match effect {
        Effect::Completed(_) => "succeeded",
        Effect::Failed(_) => "failed",
        Effect::Flagged(_) => "flagged",
        Effect::LateSuccess(_) => "late",
        Effect::Canceled => "canceled",
        Effect::None => return,
    };
    metrics::counter!("dreamscape_payments_total", "outcome" => outcome).increment(1);
}

impl Payments {
    /// Makes a payment's row say what Stripe says about its PaymentIntent now. Stripe has just been asked.
    pub(super) async fn settle_with_truth(
        &self,
        id: PaymentId,
        intent: &PaymentIntent,
    ) -> Result<Transaction, PaymentError> {
        let mut tx = self.db().begin().await?;
        let mut payment = store::lock(&mut tx, id).await?.ok_or(PaymentError::NotFound)?;
        let observed = intent.observed_with_failure();
        let settled = apply(
            &mut tx,
            self.sources(),
            &mut payment,
            &observed,
            &intent.status,
            Source::Truth,
        )
        .await?;
        if settled == (Settled::Done { changed: true }) {
            self.note_reconciliation(&mut tx, intent).await?;
        }
        fault::point("payment.settled");
        tx.commit().await?;
        fault::point("payment.settled_committed");
        self.wake();
        Ok(payment)
    }

    /// Stripe's PaymentIntent is asked for and applied.
    pub(super) async fn refresh(&self, payment: &Transaction) -> Result<Transaction, PaymentError> {
        let Some(intent) = &payment.intent else {
            return self.get(payment.id).await;
        };
        let truth = self.stripe()?.intent(intent).await?;
        self.settle_with_truth(payment.id, &truth).await
    }

    /// Leaves a trace in the inbox of what no webhook had told us.
    async fn note_reconciliation(&self, tx: &mut PgConnection, intent: &PaymentIntent) -> sqlx::Result<()> {
        let now = self.sources().now();
        let id = format!("recon:{}:{}", intent.id, intent.status);
        let event = inbox::NewEvent {
            id: &id,
            kind: "reconciliation",
            object: Some(&intent.id),
            livemode: intent.livemode,
            payload: None,
            created_at: now,
        };
        inbox::receive(tx, &event, now).await.map(drop)
    }
}
