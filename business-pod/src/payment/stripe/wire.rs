//! Stripe's objects as far as we read them (API version 2023-10-16), and what they mean in our words.
//!
//! contract: payment §5, §7. Unknown fields are ignored. A client secret is read into a [`SecretString`] and nowhere else.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::Deserialize;
use shared::money::{Currency, Money};

use crate::payment::{
    charge,
    model::{AttemptFailure, Observed, Success},
    words::RefundStatus,
};

/// `pi_…`
#[derive(Debug, Clone, Deserialize)]
pub struct PaymentIntent {
    /// `pi_…`
    pub id: String,
    /// What was asked for, in Stripe's minor units.
    pub amount: i64,
    /// What was taken.
    #[serde(default)]
    pub amount_received: i64,
    /// Lower-case code.
    pub currency: String,
    /// `requires_payment_method` … `succeeded`.
    pub status: String,
    /// For Stripe.js.
    #[serde(default)]
    pub client_secret: Option<SecretString>,
    /// Whether real money moves.
    #[serde(default)]
    pub livemode: bool,
    /// Why it was cancelled.
    #[serde(default)]
    pub cancellation_reason: Option<String>,
    /// Why the last attempt failed.
    #[serde(default)]
    pub last_payment_error: Option<ErrorObject>,
    /// The newest charge, as id or expanded.
    #[serde(default)]
    pub latest_charge: Option<Reference>,
    /// The payment method, as id or expanded.
    #[serde(default)]
    pub payment_method: Option<Reference>,
    /// What the browser has to do next.
    #[serde(default)]
    pub next_action: Option<serde_json::Value>,
    /// Ours and the caller's additions.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// An object that Stripe gives as its id or in full.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Reference {
    /// The id.
    Id(String),
    /// The object; of which we need the id.
    Object {
        /// The id.
        id: String,
    },
}

impl Reference {
    /// The id either way.
    pub fn id(&self) -> &str {
        match self {
            Self::Id(id) | Self::Object { id } => id,
        }
    }
}

impl PaymentIntent {
    /// The status in the words of our state machine.
    pub fn observed(&self) -> Observed {
        match self.status.as_str() {
            "succeeded" => Observed::Succeeded(Success {
                // an unknown currency matches nothing that was asked for
                received: self.currency().map_or(Money::zero(Currency::EUR), |currency| {
                    charge::from_stripe(self.amount_received, currency)
                }),
                charge: self.latest_charge.as_ref().map(|charge| charge.id().to_owned()),
                payment_method: self.payment_method.as_ref().map(|method| method.id().to_owned()),
                transaction: self.metadata.get("transactionId").cloned(),
                reference: self.metadata.get("bookingReference").cloned(),
            }),
            "processing" => Observed::Processing,
            "canceled" => Observed::Canceled {
                reason: self.cancellation_reason.clone(),
            },
            _ => Observed::Waiting,
        }
    }

    /// The same, with the failed attempt that `requires_payment_method` may stand for.
    pub fn observed_with_failure(&self) -> Observed {
        match (&self.last_payment_error, self.status.as_str()) {
            (Some(error), "requires_payment_method") => Observed::AttemptFailed(self.failure(error)),
            _ => self.observed(),
        }
    }

    /// A failed attempt; what tells it from the others is the charge, else payment method and code.
    fn failure(&self, error: &ErrorObject) -> AttemptFailure {
        let code = error.code.clone().unwrap_or_else(|| "payment_failed".to_owned());
        let method = error
            .payment_method
            .as_ref()
            .or(self.payment_method.as_ref())
            .map(|method| method.id().to_owned());
        let charge = error
            .charge
            .clone()
            .or_else(|| self.latest_charge.as_ref().map(|charge| charge.id().to_owned()));
        let key = charge
            .clone()
            .unwrap_or_else(|| format!("{}:{code}", method.as_deref().unwrap_or("none")));
        AttemptFailure {
            key,
            code,
            decline_code: error.decline_code.clone(),
            message: error.message.clone().unwrap_or_else(|| "Payment failed".to_owned()),
            charge,
            payment_method: method,
        }
    }

    /// The currency, if it is one.
    pub fn currency(&self) -> Option<Currency> {
        self.currency.parse().ok()
    }
}

/// `error` of an error answer, and `last_payment_error`.
#[derive(Debug, Clone, Deserialize)]
pub struct ErrorObject {
    /// `card_error`, `invalid_request_error`, …
    #[serde(default, rename = "type")]
    pub kind: String,
    /// `card_declined`, `resource_missing`, …
    #[serde(default)]
    pub code: Option<String>,
    /// `insufficient_funds`
    #[serde(default)]
    pub decline_code: Option<String>,
    /// For card errors: fit to be shown to the card holder.
    #[serde(default)]
    pub message: Option<String>,
    /// The parameter at fault.
    #[serde(default)]
    pub param: Option<String>,
    /// The charge of a failed attempt.
    #[serde(default)]
    pub charge: Option<String>,
    /// The payment method of a failed attempt.
    #[serde(default)]
    pub payment_method: Option<Reference>,
}

/// The body of an error answer.
#[derive(Debug, Deserialize)]
pub struct ErrorBody {
    /// What was wrong.
    pub error: ErrorObject,
}

/// `re_…`
#[derive(Debug, Clone, Deserialize)]
pub struct Refund {
    /// `re_…`
    pub id: String,
    /// In Stripe's minor units.
    pub amount: i64,
    /// Lower-case code.
    pub currency: String,
    /// `pending`, `requires_action`, `succeeded`, `failed`, `canceled`.
    #[serde(default)]
    pub status: Option<String>,
    /// Of which PaymentIntent.
    #[serde(default)]
    pub payment_intent: Option<Reference>,
    /// `duplicate`, `fraudulent`, `requested_by_customer`.
    #[serde(default)]
    pub reason: Option<String>,
    /// Why it could not be delivered.
    #[serde(default)]
    pub failure_reason: Option<String>,
    /// Ours.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

impl Refund {
    /// The status in our words.
    pub fn state(&self) -> RefundStatus {
        match self.status.as_deref() {
            Some("succeeded") => RefundStatus::Succeeded,
            Some("failed" | "canceled") => RefundStatus::Failed,
            _ => RefundStatus::Pending,
        }
    }
}

/// `ch_…`, as `charge.refunded` carries it.
#[derive(Debug, Deserialize)]
pub struct Charge {
    /// The PaymentIntent it belongs to, if any.
    #[serde(default)]
    pub payment_intent: Option<Reference>,
}

/// `evt_…`
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    /// `evt_…`
    pub id: String,
    /// `payment_intent.succeeded`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Seconds since 1970.
    pub created: i64,
    /// Whether real money moves.
    #[serde(default)]
    pub livemode: bool,
    /// What it is about.
    pub data: EventData,
}

/// `data` of an event.
#[derive(Debug, Clone, Deserialize)]
pub struct EventData {
    /// The object as it was when the event was made.
    pub object: serde_json::Value,
}

impl Event {
    /// When Stripe made it.
    pub fn created_at(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(self.created, 0)
    }

    /// The id of the object it is about.
    pub fn object_id(&self) -> Option<&str> {
        self.data.object.get("id").and_then(serde_json::Value::as_str)
    }
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub struct List<T> {
    /// The items, newest first.
    pub data: Vec<T>,
    /// Whether there are older ones.
    #[serde(default)]
    pub has_more: bool,
}
