//! What clients receive.
//!
//! contract: payment §3 (envelope), §4, §5 (error mapping)

use http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use shared::{ApiError, sources::iso_millis};

use super::{client::PaymentError, model::Transaction, words::Status};

/// `{success: true, data}`
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Success<T> {
    #[schema(example = true)]
    success: bool,
    data: T,
}

impl<T> Success<T> {
    /// A successful answer.
    pub fn of(data: T) -> Self {
        Self { success: true, data }
    }
}

/// What Stripe.js starts with.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublicConfig {
    /// `pk_…`
    pub publishable_key: String,
}

/// A started payment.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedIntent {
    /// `pi_…`
    payment_intent_id: String,
    /// For Stripe.js; only the owner ever sees it.
    client_secret: String,
    /// Minor units.
    amount: i64,
    /// Lower-case code.
    currency: String,
    /// Stripe's word.
    status: String,
}

/// How a payment stands.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaymentStatus {
    id: String,
    payment_intent_id: String,
    /// Stripe's vocabulary, and `refunded`.
    status: String,
    /// Our vocabulary.
    #[schema(value_type = String)]
    transaction_status: Status,
    /// Minor units.
    amount: i64,
    /// Lower-case code.
    currency: String,
    booking_reference: String,
    created_at: String,
    confirmed_at: Option<String>,
    failure_reason: Option<String>,
    /// Minor units.
    refunded_amount: i64,
}

impl PaymentStatus {
    /// The status of a payment that has its PaymentIntent.
    pub fn of(payment: &Transaction) -> Self {
        let id = payment.intent.clone().unwrap_or_default();
        Self {
            id: id.clone(),
            payment_intent_id: id,
            status: payment.display_status().to_owned(),
            transaction_status: payment.status,
            amount: payment.amount.minor,
            currency: payment.amount.currency.lower(),
            booking_reference: payment.reference.clone(),
            created_at: iso_millis(payment.created_at),
            confirmed_at: payment.confirmed_at.map(iso_millis),
            failure_reason: payment.failure_message.clone(),
            refunded_amount: payment.refunded,
        }
    }
}

/// What confirming came to.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Confirmed {
    payment_intent_id: String,
    /// Stripe's vocabulary, and `refunded`.
    status: String,
    /// Minor units.
    amount: i64,
    /// Lower-case code.
    currency: String,
    /// What the browser has to do, in Stripe's own shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_action: Option<Value>,
}

impl Confirmed {
    /// The outcome for a payment.
    pub fn of(payment: &Transaction, next_action: Option<Value>) -> Self {
        Self {
            payment_intent_id: payment.intent.clone().unwrap_or_default(),
            status: payment.display_status().to_owned(),
            amount: payment.amount.minor,
            currency: payment.amount.currency.lower(),
            next_action,
        }
    }
}

/// A refusal of the service as an HTTP error with the route's title.
pub fn refusal(title: &'static str, error: PaymentError) -> ApiError {
    match error {
        PaymentError::NotFound => ApiError::not_found("Payment not found"),
        PaymentError::AlreadyPaid => ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "BOOKING_NOT_PAYABLE",
            "Booking not payable",
        )
        .with_detail("A payment for this booking was taken or is in progress"),
        PaymentError::NotChargeable(why) => ApiError::bad_request("Invalid amount").with_detail(why),
        PaymentError::Refused(why) => ApiError::bad_request(title).with_detail(why),
        PaymentError::WrongState(why) => ApiError::conflict("INVALID_STATE", title).with_detail(why),
        PaymentError::InvalidRefundAmount => ApiError::bad_request("Invalid amount")
            .with_code("INVALID_REFUND_AMOUNT")
            .with_detail(error.to_string()),
        PaymentError::Declined {
            code,
            decline_code,
            message,
        } => {
            let refusal =
                ApiError::new(StatusCode::PAYMENT_REQUIRED, decline(&code), "Payment failed").with_detail(message);
            match decline_code {
                Some(code) => refusal.with_extra("declineCode", json!(code)),
                None => refusal,
            }
        }
        PaymentError::Unavailable { retry_after, cause } => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "PAYMENT_UNAVAILABLE", title)
                .with_detail("Payments are temporarily unavailable")
                .with_retry_after(retry_after)
                .with_cause(cause)
        }
        PaymentError::Internal(cause) => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", title)
            .with_detail("Internal server error")
            .with_cause(cause),
    }
}

/// Stripe's code in the form of our codes, as far as clients act on it.
fn decline(code: &str) -> &'static str {
    match code {
        "card_declined" => "CARD_DECLINED",
        "expired_card" => "EXPIRED_CARD",
        "incorrect_cvc" => "INCORRECT_CVC",
        "incorrect_number" => "INCORRECT_NUMBER",
        "insufficient_funds" => "INSUFFICIENT_FUNDS",
        "processing_error" => "PROCESSING_ERROR",
        "authentication_required" | "payment_intent_authentication_failure" => "AUTHENTICATION_REQUIRED",
        _ => "PAYMENT_FAILED",
    }
}
