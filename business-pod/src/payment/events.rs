//! What payment publishes and what it consumes.
//!
//! contract: events §5 (payloads), §3 (group `dreamscape-payment-service-group`), §7.2 and §7.6 (saga). `paymentId` is
//! Stripe's PaymentIntent id and the key of every event; `bookingId` is the booking's reference.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::{
    Sources,
    events::{
        Envelope, NewEvent, Topic,
        consumer::{Failure, Handler},
    },
    id::UserId,
    money::Money,
    sources::{iso, iso_millis},
};
use sqlx::PgConnection;

use super::{
    Payment, Payments,
    model::{AttemptFailure, RefundRow, Success, Transaction},
    store,
};

/// `payment.initiated`, `payment.completed`, `payment.failed` and the refund events share their head.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    payment_id: &'a str,
    booking_id: &'a str,
    booking_reference: &'a str,
    user_id: UserId,
    currency: &'static str,
}

impl<'a> Head<'a> {
    fn of(payment: &'a Transaction) -> Self {
        Self {
            payment_id: payment.intent.as_deref().unwrap_or_default(),
            booking_id: &payment.reference,
            booking_reference: &payment.reference,
            user_id: payment.user,
            currency: payment.amount.currency.code(),
        }
    }
}

fn event<P: Serialize>(
    sources: &Sources,
    topic: Topic,
    payment: &Transaction,
    at: DateTime<Utc>,
    payload: &P,
) -> NewEvent {
    let key = payment.intent.as_deref().unwrap_or_default();
    let event = NewEvent::at::<Payment>(sources, at, topic, key, payload);
    match &payment.correlation {
        Some(correlation) => event.correlated(Some(correlation.clone())),
        None => event,
    }
}

/// The PaymentIntent exists.
pub fn initiated(sources: &Sources, payment: &Transaction, at: DateTime<Utc>) -> NewEvent {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Payload<'a> {
        #[serde(flatten)]
        head: Head<'a>,
        amount: f64,
        payment_method: &'static str,
        #[serde(with = "iso")]
        initiated_at: DateTime<Utc>,
    }
    let payload = Payload {
        head: Head::of(payment),
        amount: payment.amount.major(),
        payment_method: "credit_card",
        initiated_at: at,
    };
    event(sources, Topic::PaymentInitiated, payment, at, &payload)
}

/// The money came in as asked.
pub fn completed(sources: &Sources, payment: &Transaction, success: &Success, at: DateTime<Utc>) -> NewEvent {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Payload<'a> {
        #[serde(flatten)]
        head: Head<'a>,
        amount: f64,
        transaction_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        payment_method: Option<&'a str>,
        #[serde(with = "iso")]
        completed_at: DateTime<Utc>,
    }
    let head = Head::of(payment);
    let payload = Payload {
        amount: success.received.major(),
        transaction_id: success.charge.as_deref().unwrap_or(head.payment_id),
        payment_method: success.payment_method.as_deref(),
        completed_at: at,
        head,
    };
    event(sources, Topic::PaymentCompleted, payment, at, &payload)
}

/// An attempt failed, or (`terminal`) the payment was cancelled.
fn failed(
    sources: &Sources,
    payment: &Transaction,
    code: &str,
    message: &str,
    terminal: bool,
    at: DateTime<Utc>,
) -> NewEvent {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Payload<'a> {
        #[serde(flatten)]
        head: Head<'a>,
        amount: f64,
        error_code: &'a str,
        error_message: &'a str,
        reason: &'a str,
        attempt: i32,
        terminal: bool,
        #[serde(with = "iso")]
        failed_at: DateTime<Utc>,
    }
    let payload = Payload {
        head: Head::of(payment),
        amount: payment.amount.major(),
        error_code: code,
        error_message: message,
        reason: message,
        attempt: payment.attempt,
        terminal,
        failed_at: at,
    };
    event(sources, Topic::PaymentFailed, payment, at, &payload)
}

/// An attempt failed; another may follow.
pub fn attempt_failed(
    sources: &Sources,
    payment: &Transaction,
    failure: &AttemptFailure,
    at: DateTime<Utc>,
) -> NewEvent {
    failed(sources, payment, &failure.code, &failure.message, false, at)
}

/// The payment will never be charged.
pub fn canceled(sources: &Sources, payment: &Transaction, at: DateTime<Utc>) -> NewEvent {
    failed(sources, payment, "payment_canceled", "Payment canceled", true, at)
}

/// A refund arrived; `complete` when with it everything has been given back.
pub fn refunded(
    sources: &Sources,
    payment: &Transaction,
    refund: &RefundRow,
    complete: bool,
    at: DateTime<Utc>,
) -> NewEvent {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Payload<'a> {
        #[serde(flatten)]
        head: Head<'a>,
        refund_amount: f64,
        amount: f64,
        refund_id: &'a str,
        reason: &'a str,
        total_refunded: f64,
        remaining: f64,
        #[serde(with = "iso")]
        refunded_at: DateTime<Utc>,
    }
    let major = |minor| Money::new(minor, payment.amount.currency).major();
    let ours = refund.id.to_string();
    let payload = Payload {
        head: Head::of(payment),
        refund_amount: refund.amount.major(),
        amount: refund.amount.major(),
        refund_id: refund.stripe_id.as_deref().unwrap_or(&ours),
        reason: refund.note.as_deref().unwrap_or(refund.reason.as_stripe()),
        total_refunded: major(payment.refunded),
        remaining: major(payment.captured - payment.refunded),
        refunded_at: at,
    };
    let topic = if complete {
        Topic::PaymentRefunded
    } else {
        Topic::PaymentPartialRefund
    };
    let event = event(sources, topic, payment, at, &payload);
    match &refund.correlation {
        Some(correlation) => event.correlated(Some(correlation.clone())),
        None => event,
    }
}

/// The consumer of the payment service. Stripe is never called here: what has to be cancelled is marked in the event's
/// transaction, and the worker does it.
#[derive(Debug, Clone)]
pub struct PaymentConsumer(pub Payments);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookingCancelled {
    booking_id: String,
    user_id: UserId,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserDeleted {
    user_id: UserId,
}

/// A payload that cannot be read will not be readable later either.
fn payload<T: serde::de::DeserializeOwned>(event: &Envelope) -> Result<T, Failure> {
    event
        .payload()
        .map_err(|error| Failure::Permanent(format!("the payload does not follow the contract: {error}")))
}

#[async_trait]
impl Handler<Payment> for PaymentConsumer {
    fn group(&self) -> &'static str {
        "dreamscape-payment-service-group"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::VoyageBookingCancelled, Topic::UserDeleted]
    }

    async fn handle(&self, tx: &mut PgConnection, topic: Topic, event: &Envelope) -> Result<(), Failure> {
        let sources = self.0.sources();
        let now = sources.now();
        match topic {
            Topic::VoyageBookingCancelled => {
                let cancelled: BookingCancelled = payload(event)?;
                // the traveller may try another card on the same PaymentIntent
                if cancelled.reason.starts_with("payment_failed") {
                    return Ok(());
                }
                let reason = stripe_reason(&cancelled.reason);
                let marked =
                    store::request_cancellation(tx, &cancelled.booking_id, cancelled.user_id, reason, now).await?;
                tracing::debug!(
                    booking = cancelled.booking_id,
                    marked,
                    at = iso_millis(now),
                    "payments of a dead booking marked"
                );
            }
            Topic::UserDeleted => {
                let deleted: UserDeleted = payload(event)?;
                let payments = store::pseudonymise(tx, deleted.user_id, sources.id(), now).await?;
                tracing::info!(payments, "payments of an erased account pseudonymised");
            }
            _ => {}
        }
        Ok(())
    }

    async fn committed(&self, _topic: Topic, _event: &Envelope) {
        self.0.wake();
    }
}

/// The cancellation reason at Stripe for a reason of voyage's.
fn stripe_reason(reason: &str) -> &'static str {
    match reason {
        "superseded" => "duplicate",
        "payment_timeout" => "abandoned",
        _ => "requested_by_customer",
    }
}
