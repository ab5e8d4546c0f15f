//! What a verified event does: inbox row, guarded transition, ledger and outbox in one transaction.
//!
//! contract: payment §6 (event types, duplicates, order, parked events). Stripe is asked only where an event cannot decide
//! by itself, and never inside a transaction.

use chrono::{DateTime, Utc};
use serde_json::Value;
use shared::id::PaymentId;
use sqlx::PgConnection;

use super::super::{
    Payments,
    client::PaymentError,
    intents,
    model::{AttemptFailure, Observed, Source, Transaction},
    refunds,
    settle::{self, Settled},
    store::{self, inbox},
    stripe::wire::{Charge, Event, PaymentIntent, Refund},
    words::Status,
};
use crate::fault;

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Its effect is in the database.
    Processed,
    /// It had been handled before.
    Duplicate,
    /// Stored, without an effect.
    Ignored,
    /// It could not be applied; a worker tries again.
    Parked,
}

impl Received {
    /// The label of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Parked => "parked",
        }
    }
}

/// What an event is about, as far as we handle it.
enum Subject {
    /// A PaymentIntent changed.
    Intent {
        intent: Box<PaymentIntent>,
        observed: Observed,
    },
    /// Refunds of this PaymentIntent changed; the charge does not say which.
    Charge { intent: String },
    /// One refund changed.
    Refund(Box<Refund>),
    /// Nothing of ours.
    Other,
    /// It should be of ours but cannot be read.
    Unreadable,
}

/// The types of payment §6 that have an effect here.
pub const HANDLED: [&str; 10] = [
    "payment_intent.succeeded",
    "payment_intent.payment_failed",
    "payment_intent.canceled",
    "payment_intent.processing",
    "payment_intent.requires_action",
    "charge.refunded",
    "charge.refund.updated",
    "refund.created",
    "refund.updated",
    "refund.failed",
];

fn subject(event: &Event) -> Subject {
    fn read<T: serde::de::DeserializeOwned>(event: &Event) -> Option<T> {
        serde_json::from_value(event.data.object.clone()).ok()
    }
    match event.kind.as_str() {
        "payment_intent.succeeded"
        | "payment_intent.payment_failed"
        | "payment_intent.canceled"
        | "payment_intent.processing"
        | "payment_intent.requires_action" => {
            let Some(intent) = read::<PaymentIntent>(event) else {
                return Subject::Unreadable;
            };
            let observed = observed(event, &intent);
            Subject::Intent {
                intent: Box::new(intent),
                observed,
            }
        }
        "charge.refunded" => match read::<Charge>(event).map(|charge| charge.payment_intent) {
            Some(Some(intent)) => Subject::Charge {
                intent: intent.id().to_owned(),
            },
            Some(None) => Subject::Other,
            None => Subject::Unreadable,
        },
        "charge.refund.updated" | "refund.created" | "refund.updated" | "refund.failed" => {
            read(event).map_or(Subject::Unreadable, |refund| Subject::Refund(Box::new(refund)))
        }
        _ => Subject::Other,
    }
}

/// What the event says happened. A failed attempt is one whatever the object says besides.
fn observed(event: &Event, intent: &PaymentIntent) -> Observed {
    if event.kind != "payment_intent.payment_failed" {
        return intent.observed();
    }
    match intent.observed_with_failure() {
        failed @ Observed::AttemptFailed(_) => failed,
        _ => Observed::AttemptFailed(AttemptFailure {
            key: event.id.clone(),
            code: "payment_failed".to_owned(),
            decline_code: None,
            message: "Payment failed".to_owned(),
            charge: None,
            payment_method: None,
        }),
    }
}

/// The payment of ours that an event is about, locked.
async fn lock_payment(db: &mut PgConnection, intent: &PaymentIntent) -> sqlx::Result<Option<Transaction>> {
    if let Some(payment) = store::lock_by_intent(db, &intent.id).await? {
        return Ok(Some(payment));
    }
    // created while our process died: the row does not know its intent yet, but the intent knows its row
    let Some(id) = intent
        .metadata
        .get("transactionId")
        .and_then(|id| id.parse::<PaymentId>().ok())
    else {
        return Ok(None);
    };
    Ok(store::lock(db, id).await?.filter(|payment| payment.intent.is_none()))
}

impl Payments {
    /// Applies an event that Stripe signed (or that we read from Stripe). `raw` is the event as JSON. An error means that
    /// something is away and that the event should come again; what will not get better is parked.
    pub(in crate::payment) async fn receive(&self, event: &Event, raw: &Value) -> Result<Received, PaymentError> {
        let created_at = event.created_at().unwrap_or_else(|| self.sources().now());
        match self.receive_at(event, raw, created_at).await {
            Ok(received) => Ok(received),
            Err(error @ PaymentError::Unavailable { .. }) => Err(error),
            Err(error) => {
                tracing::error!(
                    event = event.id,
                    error = format!("{:#}", anyhow::Error::new(error)),
                    "webhook not applicable"
                );
                self.store(event, raw, created_at, Some("it could not be applied"))
                    .await
            }
        }
    }

    async fn receive_at(
        &self,
        event: &Event,
        raw: &Value,
        created_at: DateTime<Utc>,
    ) -> Result<Received, PaymentError> {
        if event.livemode != self.livemode() {
            return self
                .store(event, raw, created_at, Some("test and live mode are mixed up"))
                .await;
        }
        match subject(event) {
            Subject::Other => self.store(event, raw, created_at, None).await,
            Subject::Unreadable => {
                self.store(event, raw, created_at, Some("the object cannot be read"))
                    .await
            }
            Subject::Intent { intent, observed } => {
                self.receive_intent(event, raw, created_at, &intent, &observed).await
            }
            Subject::Charge { intent } => {
                if self.is_known(event).await? {
                    return Ok(Received::Duplicate);
                }
                let refunds = self.stripe()?.refunds_of(&intent).await?;
                self.receive_refunds(event, raw, created_at, &intent, &refunds).await
            }
            Subject::Refund(refund) => match &refund.payment_intent {
                Some(intent) => {
                    let intent = intent.id().to_owned();
                    self.receive_refunds(event, raw, created_at, &intent, std::slice::from_ref(&*refund))
                        .await
                }
                None => self.store(event, raw, created_at, None).await,
            },
        }
    }

    async fn receive_intent(
        &self,
        event: &Event,
        raw: &Value,
        created_at: DateTime<Utc>,
        intent: &PaymentIntent,
        observed: &Observed,
    ) -> Result<Received, PaymentError> {
        let mut truth: Option<PaymentIntent> = None;
        loop {
            let mut tx = self.db().begin().await?;
            if !self.enter(&mut tx, event, raw, created_at).await? {
                return Ok(Received::Duplicate);
            }
            let Some(mut payment) = lock_payment(&mut tx, intent).await? else {
                drop(tx);
                return self
                    .store(event, raw, created_at, Some("the payment is not ours"))
                    .await;
            };
            intents::adopt(&mut tx, self, &mut payment, intent).await?;
            let (observed, word, source) = match &truth {
                Some(truth) => (&truth.observed_with_failure(), &truth.status, Source::Truth),
                None => (observed, &intent.status, Source::Event(created_at)),
            };
            let settled = settle::apply(&mut tx, self.sources(), &mut payment, observed, word, source).await?;
            if settled == Settled::AskStripe {
                tx.rollback().await?;
                truth = Some(self.stripe()?.intent(&intent.id).await?);
                continue;
            }
            fault::point("webhook.settled");
            tx.commit().await?;
            fault::point("webhook.committed");
            self.wake();
            return Ok(Received::Processed);
        }
    }

    async fn receive_refunds(
        &self,
        event: &Event,
        raw: &Value,
        created_at: DateTime<Utc>,
        intent: &str,
        refunds: &[Refund],
    ) -> Result<Received, PaymentError> {
        // a refund that overtook the news of its payment: hear that first
        let known = store::find_by_intent(&mut *self.db().acquire().await?, intent).await?;
        if let Some(payment) = known.filter(|payment| !matches!(payment.status, Status::Succeeded | Status::Refunded)) {
            self.refresh(&payment).await?;
        }
        let mut tx = self.db().begin().await?;
        if !self.enter(&mut tx, event, raw, created_at).await? {
            return Ok(Received::Duplicate);
        }
        let payment = store::lock_by_intent(&mut tx, intent).await?;
        let Some(mut payment) = payment.filter(|payment| payment.captured > 0) else {
            drop(tx);
            return self
                .store(
                    event,
                    raw,
                    created_at,
                    Some("the refunded payment is not ours or was not captured"),
                )
                .await;
        };
        for refund in refunds {
            match refunds::apply(&mut tx, self, &mut payment, refund).await {
                Ok(_) => {}
                // refunds made here and at Stripe at the same time: ours is about to be refused, then there is room
                Err(error) if shared::db::violated_constraint(&error) == Some("payment_transactions_refund_check") => {
                    drop(tx);
                    return self
                        .store(event, raw, created_at, Some("more is given back than was captured"))
                        .await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        tx.commit().await?;
        Ok(Received::Processed)
    }

    /// Enters an event into the inbox; `false` if it was handled before.
    async fn enter(
        &self,
        tx: &mut PgConnection,
        event: &Event,
        raw: &Value,
        created_at: DateTime<Utc>,
    ) -> sqlx::Result<bool> {
        let new = inbox::NewEvent {
            id: &event.id,
            kind: &event.kind,
            object: event.object_id(),
            livemode: event.livemode,
            payload: Some(raw),
            created_at,
        };
        inbox::receive(tx, &new, self.sources().now()).await
    }

    async fn is_known(&self, event: &Event) -> sqlx::Result<bool> {
        inbox::is_handled(&mut *self.db().acquire().await?, &event.id).await
    }

    /// Stores an event that has no effect, or (with a reason) one that should have had one.
    async fn store(
        &self,
        event: &Event,
        raw: &Value,
        created_at: DateTime<Utc>,
        parked: Option<&str>,
    ) -> Result<Received, PaymentError> {
        let mut tx = self.db().begin().await?;
        if !self.enter(&mut tx, event, raw, created_at).await? {
            return Ok(Received::Duplicate);
        }
        let received = match parked {
            None => {
                inbox::ignore(&mut tx, &event.id).await?;
                Received::Ignored
            }
            Some(reason) => {
                inbox::park(&mut tx, &event.id, reason).await?;
                tracing::error!(
                    alert = "webhook_parked",
                    event = event.id,
                    kind = event.kind,
                    reason,
                    "webhook parked"
                );
                Received::Parked
            }
        };
        tx.commit().await?;
        Ok(received)
    }
}
