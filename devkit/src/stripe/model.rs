//! The objects of the double and how each is written on the wire at version 2023-10-16.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No card yet, or the last one was refused.
    RequiresPaymentMethod,
    /// A card is attached, nobody has confirmed.
    RequiresConfirmation,
    /// The cardholder has to authenticate.
    RequiresAction,
    /// The bank is still thinking.
    Processing,
    /// Paid.
    Succeeded,
    /// Given up.
    Canceled,
}

impl Status {
    /// Stripe's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::RequiresPaymentMethod => "requires_payment_method",
            Self::RequiresConfirmation => "requires_confirmation",
            Self::RequiresAction => "requires_action",
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::Canceled => "canceled",
        }
    }
}

/// A payment intent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Intent {
    pub(super) id: String,
    pub(super) created: i64,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) status: Status,
    pub(super) client_secret: String,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) description: Option<String>,
    pub(super) receipt_email: Option<String>,
    pub(super) statement_descriptor: Option<String>,
    pub(super) statement_descriptor_suffix: Option<String>,
    pub(super) setup_future_usage: Option<String>,
    pub(super) shipping: Option<Value>,
    pub(super) capture_method: String,
    /// `allow_redirects` when the payment methods are chosen by Stripe.
    pub(super) automatic: Option<String>,
    pub(super) payment_method_types: Vec<String>,
    pub(super) payment_method: Option<String>,
    pub(super) latest_charge: Option<String>,
    pub(super) last_payment_error: Option<Value>,
    pub(super) next_action: Option<Value>,
    pub(super) return_url: Option<String>,
    pub(super) canceled_at: Option<i64>,
    pub(super) cancellation_reason: Option<String>,
    pub(super) amount_received: i64,
}

impl Intent {
    /// The whole object.
    pub(super) fn render(&self) -> Value {
        let automatic = self
            .automatic
            .as_ref()
            .map(|redirects| json!({"allow_redirects": redirects, "enabled": true}));
        let processing = (self.status == Status::Processing).then(|| json!({"type": "card", "card": {}}));
        json!({
            "id": self.id,
            "object": "payment_intent",
            "amount": self.amount,
            "amount_capturable": 0,
            "amount_details": {"tip": {}},
            "amount_received": self.amount_received,
            "application": null,
            "application_fee_amount": null,
            "automatic_payment_methods": automatic,
            "canceled_at": self.canceled_at,
            "cancellation_reason": self.cancellation_reason,
            "capture_method": self.capture_method,
            "client_secret": self.client_secret,
            "confirmation_method": "automatic",
            "created": self.created,
            "currency": self.currency,
            "customer": null,
            "description": self.description,
            "invoice": null,
            "last_payment_error": self.last_payment_error,
            "latest_charge": self.latest_charge,
            "livemode": false,
            "metadata": self.metadata,
            "next_action": self.next_action,
            "on_behalf_of": null,
            "payment_method": self.payment_method,
            "payment_method_configuration_details": null,
            "payment_method_options": {"card": {
                "installments": null, "mandate_options": null, "network": null, "request_three_d_secure": "automatic",
            }},
            "payment_method_types": self.payment_method_types,
            "processing": processing,
            "receipt_email": self.receipt_email,
            "review": null,
            "setup_future_usage": self.setup_future_usage,
            "shipping": self.shipping,
            "source": null,
            "statement_descriptor": self.statement_descriptor,
            "statement_descriptor_suffix": self.statement_descriptor_suffix,
            "status": self.status.word(),
            "transfer_data": null,
            "transfer_group": null,
        })
    }

    /// What a browser may see: no metadata, no charge.
    pub(super) fn render_for_browser(&self) -> Value {
        const HIDDEN: [&str; 16] = [
            "amount_capturable",
            "amount_received",
            "application",
            "application_fee_amount",
            "customer",
            "invoice",
            "latest_charge",
            "metadata",
            "on_behalf_of",
            "payment_method_configuration_details",
            "payment_method_options",
            "review",
            "statement_descriptor",
            "statement_descriptor_suffix",
            "transfer_data",
            "transfer_group",
        ];
        let mut object = self.render();
        if let Some(fields) = object.as_object_mut() {
            fields.retain(|name, _| !HIDDEN.contains(&name.as_str()));
        }
        object
    }
}

/// A payment method: always a card.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Method {
    pub(super) id: String,
    pub(super) created: i64,
    /// The number of the test card; nothing else ever gets here.
    pub(super) number: String,
    pub(super) brand: String,
    pub(super) funding: String,
    pub(super) month: i64,
    pub(super) year: i64,
    pub(super) billing_details: Value,
}

impl Method {
    fn last4(&self) -> &str {
        self.number
            .get(self.number.len().saturating_sub(4)..)
            .unwrap_or_default()
    }

    fn fingerprint(&self) -> String {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(self.number.as_bytes());
        hex::encode(digest).chars().take(16).collect()
    }

    /// The whole object.
    pub(super) fn render(&self) -> Value {
        json!({
            "id": self.id,
            "object": "payment_method",
            "billing_details": self.billing_details,
            "card": {
                "brand": self.brand,
                "checks": {"address_line1_check": null, "address_postal_code_check": null, "cvc_check": null},
                "country": "US",
                "exp_month": self.month,
                "exp_year": self.year,
                "fingerprint": self.fingerprint(),
                "funding": self.funding,
                "generated_from": null,
                "last4": self.last4(),
                "networks": {"available": [self.brand], "preferred": null},
                "three_d_secure_usage": {"supported": true},
                "wallet": null,
            },
            "created": self.created,
            "customer": null,
            "livemode": false,
            "metadata": {},
            "type": "card",
        })
    }

    /// The card as a charge carries it.
    pub(super) fn details(&self, authenticated: bool) -> Value {
        let three_d_secure = authenticated.then(|| json!({"result": "authenticated", "version": "2.2.0"}));
        json!({
            "card": {
                "brand": self.brand,
                "checks": {"address_line1_check": null, "address_postal_code_check": null, "cvc_check": "pass"},
                "country": "US",
                "exp_month": self.month,
                "exp_year": self.year,
                "fingerprint": self.fingerprint(),
                "funding": self.funding,
                "last4": self.last4(),
                "network": self.brand,
                "three_d_secure": three_d_secure,
                "wallet": null,
            },
            "type": "card",
        })
    }
}

/// A charge: one attempt at a card.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Charge {
    pub(super) id: String,
    pub(super) created: i64,
    pub(super) amount: i64,
    pub(super) amount_refunded: i64,
    pub(super) currency: String,
    pub(super) description: Option<String>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) payment_intent: String,
    pub(super) payment_method: String,
    pub(super) payment_method_details: Value,
    pub(super) billing_details: Value,
    pub(super) receipt_email: Option<String>,
    pub(super) balance_transaction: Option<String>,
    /// Code, decline code and text of a refusal.
    pub(super) failure: Option<(String, Option<String>, String)>,
    /// Whether refunds on this card stay pending.
    pub(super) refunds_pend: bool,
}

impl Charge {
    /// Whether the money was taken.
    pub(super) fn paid(&self) -> bool {
        self.failure.is_none()
    }

    /// The whole object. Refunds are not embedded at this version.
    pub(super) fn render(&self) -> Value {
        const NEVER_SET: [&str; 20] = [
            "application",
            "application_fee",
            "application_fee_amount",
            "customer",
            "destination",
            "dispute",
            "failure_balance_transaction",
            "invoice",
            "on_behalf_of",
            "order",
            "receipt_number",
            "receipt_url",
            "review",
            "shipping",
            "source",
            "source_transfer",
            "statement_descriptor",
            "statement_descriptor_suffix",
            "transfer_data",
            "transfer_group",
        ];
        let paid = self.paid();
        let (code, message) = match &self.failure {
            Some((code, _, message)) => (Some(code), Some(message)),
            None => (None, None),
        };
        let outcome = match &self.failure {
            None => json!({
                "network_status": "approved_by_network", "reason": null, "risk_level": "normal", "risk_score": 20,
                "seller_message": "Payment complete.", "type": "authorized",
            }),
            Some((code, decline, _)) => json!({
                "network_status": "declined_by_network", "reason": decline.as_ref().unwrap_or(code),
                "risk_level": "normal", "risk_score": 30,
                "seller_message": "The bank did not return any further details with this decline.",
                "type": "issuer_declined",
            }),
        };
        let object = json!({
            "id": self.id,
            "object": "charge",
            "amount": self.amount,
            "amount_captured": if paid { self.amount } else { 0 },
            "amount_refunded": self.amount_refunded,
            "balance_transaction": self.balance_transaction,
            "billing_details": self.billing_details,
            "calculated_statement_descriptor": "DREAMSCAPE",
            "captured": paid,
            "created": self.created,
            "currency": self.currency,
            "description": self.description,
            "disputed": false,
            "failure_code": code,
            "failure_message": message,
            "fraud_details": {},
            "livemode": false,
            "metadata": self.metadata,
            "outcome": outcome,
            "paid": paid,
            "payment_intent": self.payment_intent,
            "payment_method": self.payment_method,
            "payment_method_details": self.payment_method_details,
            "receipt_email": self.receipt_email,
            "refunded": paid && self.amount_refunded == self.amount,
            "status": if paid { "succeeded" } else { "failed" },
        });
        with_nulls(object, &NEVER_SET)
    }
}

/// A refund of a charge.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Refund {
    pub(super) id: String,
    pub(super) created: i64,
    pub(super) amount: i64,
    pub(super) currency: String,
    pub(super) charge: String,
    pub(super) payment_intent: String,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) reason: Option<String>,
    /// pending, succeeded, failed or canceled.
    pub(super) status: String,
    pub(super) failure_reason: Option<String>,
    pub(super) balance_transaction: Option<String>,
}

impl Refund {
    /// The whole object.
    pub(super) fn render(&self) -> Value {
        let mut object = json!({
            "id": self.id,
            "object": "refund",
            "amount": self.amount,
            "balance_transaction": self.balance_transaction,
            "charge": self.charge,
            "created": self.created,
            "currency": self.currency,
            "destination_details": {"card": {"reference_status": "pending", "type": "refund"}, "type": "card"},
            "metadata": self.metadata,
            "payment_intent": self.payment_intent,
            "reason": self.reason,
            "receipt_number": null,
            "source_transfer_reversal": null,
            "status": self.status,
            "transfer_reversal": null,
        });
        if let (Some(reason), Some(fields)) = (&self.failure_reason, object.as_object_mut()) {
            fields.insert("failure_reason".to_owned(), json!(reason));
        }
        object
    }
}

/// One movement of the balance.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Transaction {
    pub(super) id: String,
    pub(super) created: i64,
    pub(super) amount: i64,
    pub(super) fee: i64,
    pub(super) currency: String,
    pub(super) description: Option<String>,
    pub(super) source: String,
    /// charge, refund or refund_failure.
    pub(super) kind: String,
}

/// How long Stripe holds money before it is available.
const HOLD: i64 = 2 * 86_400;

impl Transaction {
    /// Whether the money is available at `now`.
    pub(super) fn available(&self, now: i64) -> bool {
        now >= self.created + HOLD
    }

    /// The whole object.
    pub(super) fn render(&self, now: i64) -> Value {
        let fees = json!([{
            "amount": self.fee, "application": null, "currency": self.currency,
            "description": "Stripe processing fees", "type": "stripe_fee",
        }]);
        json!({
            "id": self.id,
            "object": "balance_transaction",
            "amount": self.amount,
            "available_on": self.created + HOLD,
            "created": self.created,
            "currency": self.currency,
            "description": self.description,
            "exchange_rate": null,
            "fee": self.fee,
            "fee_details": if self.fee == 0 { json!([]) } else { fees },
            "net": self.amount - self.fee,
            "reporting_category": self.kind,
            "source": self.source,
            "status": if self.available(now) { "available" } else { "pending" },
            "type": self.kind,
        })
    }
}

/// How far the delivery of an event has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Delivery {
    /// Not yet answered with 2xx; still being tried.
    Pending,
    /// Answered with 2xx, or nobody listens.
    Delivered,
    /// Lost or given up.
    Failed,
}

/// An event: what happened, with the object as it was then.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) created: i64,
    pub(super) kind: String,
    pub(super) object: Value,
    pub(super) previous: Option<Value>,
    pub(super) request: Option<String>,
    pub(super) idempotency_key: Option<String>,
    pub(super) delivery: Delivery,
}

impl Event {
    /// The whole object.
    pub(super) fn render(&self, api_version: &str) -> Value {
        let mut data = json!({"object": self.object});
        if let (Some(previous), Some(fields)) = (&self.previous, data.as_object_mut()) {
            fields.insert("previous_attributes".to_owned(), previous.clone());
        }
        json!({
            "id": self.id,
            "object": "event",
            "api_version": api_version,
            "created": self.created,
            "data": data,
            "livemode": false,
            "pending_webhooks": i32::from(self.delivery == Delivery::Pending),
            "request": {"id": self.request, "idempotency_key": self.idempotency_key},
            "type": self.kind,
        })
    }
}

/// Adds attributes that exist on the wire and are never set by the double.
fn with_nulls(mut object: Value, names: &[&str]) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.extend(names.iter().map(|name| ((*name).to_owned(), Value::Null)));
    }
    object
}
