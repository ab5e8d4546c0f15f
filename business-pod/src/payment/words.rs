//! The words of payments: states and reasons, as the database and Stripe write them.
//!
//! contract: payment §4.3, §4.5, §7

use std::fmt;

/// What a payment transaction is, in the database's words (payment §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, sqlx::Type, serde::Serialize, serde::Deserialize)]
#[sqlx(type_name = "payment.transaction_status", rename_all = "SCREAMING_SNAKE_CASE")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Waiting for the traveller.
    Pending,
    /// The bank is working on it.
    Processing,
    /// The money was taken.
    Succeeded,
    /// The last attempt failed; another may follow.
    Failed,
    /// It will never be charged.
    Canceled,
    /// All of it was given back.
    Refunded,
}

impl Status {
    /// Whether the payment may still be charged.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Processing | Self::Failed)
    }

    /// The database's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Processing => "PROCESSING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Canceled => "CANCELED",
            Self::Refunded => "REFUNDED",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a payment is cancelled, in Stripe's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelReason {
    /// The traveller or an administrator does not want it any more.
    RequestedByCustomer,
    /// Nobody paid in time.
    Abandoned,
    /// Another payment takes its place. Publishes no event.
    Duplicate,
}

impl CancelReason {
    /// Stripe's `cancellation_reason`.
    pub const fn as_stripe(self) -> &'static str {
        match self {
            Self::RequestedByCustomer => "requested_by_customer",
            Self::Abandoned => "abandoned",
            Self::Duplicate => DUPLICATE,
        }
    }

    /// The reason of a stored or received word; an unknown one is a customer's.
    pub fn from_stripe(word: &str) -> Self {
        match word {
            DUPLICATE => Self::Duplicate,
            "abandoned" | "automatic" => Self::Abandoned,
            _ => Self::RequestedByCustomer,
        }
    }
}

/// The reason of what is superseded, in Stripe's words.
pub const DUPLICATE: &str = "duplicate";

/// Why money is given back, in Stripe's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundReason {
    /// Charged twice, or for a booking that no longer exists.
    Duplicate,
    /// Not the card holder's doing.
    Fraudulent,
    /// The traveller asked for it.
    RequestedByCustomer,
}

impl RefundReason {
    /// Stripe's `reason`.
    pub const fn as_stripe(self) -> &'static str {
        match self {
            Self::Duplicate => DUPLICATE,
            Self::Fraudulent => "fraudulent",
            Self::RequestedByCustomer => "requested_by_customer",
        }
    }

    /// The reason of a word of Stripe's; `expired_uncaptured_charge` and unknown words count as the customer's.
    pub fn from_stripe(word: &str) -> Self {
        match word {
            DUPLICATE => Self::Duplicate,
            "fraudulent" => Self::Fraudulent,
            _ => Self::RequestedByCustomer,
        }
    }
}

/// Where a refund is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "payment.refund_status", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RefundStatus {
    /// Asked for.
    Pending,
    /// Arrived.
    Succeeded,
    /// Stripe could not deliver it; the amount is free again.
    Failed,
}

impl RefundStatus {
    /// The word for clients.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}
