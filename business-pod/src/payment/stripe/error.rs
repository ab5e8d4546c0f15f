//! What can go wrong with a call to Stripe, by what it means for the caller.
//!
//! contract: payment §5 (error mapping)

use std::time::Duration;

use super::wire::ErrorObject;
use crate::payment::client::PaymentError;

/// A failed call. Never holds a key, a request body or a client secret.
#[derive(Debug, thiserror::Error)]
pub enum StripeError {
    /// The card was declined.
    #[error("the card was declined")]
    Card(Box<ErrorObject>),
    /// Stripe does not know the object.
    #[error("stripe does not know the object")]
    Missing,
    /// The object is not in a state that allows the call: `payment_intent_unexpected_state`, `charge_already_refunded`.
    #[error("stripe refused the call in this state")]
    State(String),
    /// A parameter was refused.
    #[error("stripe refused a parameter")]
    Parameter {
        /// Stripe's code.
        code: Option<String>,
        /// The parameter at fault.
        param: Option<String>,
    },
    /// Our key was refused. Operators have to act.
    #[error("stripe refused our key")]
    Key,
    /// One idempotency key was used for two things: our mistake.
    #[error("an idempotency key was used with other parameters")]
    Idempotency,
    /// No answer, too many requests, or Stripe's failure. Trying again later is right.
    #[error("stripe is unavailable")]
    Unavailable {
        /// When trying again makes sense.
        retry_after: Duration,
        /// For the log.
        #[source]
        cause: anyhow::Error,
    },
}

impl StripeError {
    /// Stripe is away.
    pub fn unavailable(cause: impl Into<anyhow::Error>) -> Self {
        Self::Unavailable {
            retry_after: Duration::from_secs(2),
            cause: cause.into(),
        }
    }

    /// The meaning of an error answer.
    pub fn from_answer(status: http::StatusCode, error: ErrorObject, retry_after: Option<Duration>) -> Self {
        let code = error.code.as_deref().unwrap_or_default();
        match error.kind.as_str() {
            "card_error" => Self::Card(Box::new(error)),
            "idempotency_error" if status != http::StatusCode::CONFLICT => Self::Idempotency,
            "authentication_error" | "permission_error" => Self::Key,
            "invalid_request_error"
                if status == http::StatusCode::UNAUTHORIZED || status == http::StatusCode::FORBIDDEN =>
            {
                Self::Key
            }
            "invalid_request_error" if code == "resource_missing" => Self::Missing,
            "invalid_request_error" if status == http::StatusCode::NOT_FOUND => Self::Missing,
            "invalid_request_error" if code.contains("unexpected_state") || code.starts_with("charge_") => {
                Self::State(code.to_owned())
            }
            "invalid_request_error" if !status.is_server_error() && status != http::StatusCode::CONFLICT => {
                Self::Parameter {
                    code: error.code,
                    param: error.param,
                }
            }
            _ => Self::Unavailable {
                retry_after: retry_after.unwrap_or(Duration::from_secs(2)),
                cause: anyhow::anyhow!("stripe answered {} {}", status.as_u16(), error.kind),
            },
        }
    }

    /// The outcome label of metrics.
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Card(_) => "declined",
            Self::Missing => "missing",
            Self::State(_) => "state",
            Self::Parameter { .. } | Self::Idempotency => "refused",
            Self::Key => "key",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// Whether the remote service itself is in trouble, rather than our request.
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

impl From<StripeError> for PaymentError {
    fn from(error: StripeError) -> Self {
        match error {
            StripeError::Card(error) => Self::Declined {
                code: error.code.unwrap_or_else(|| "card_declined".to_owned()),
                decline_code: error.decline_code,
                message: error.message.unwrap_or_else(|| "The card was declined".to_owned()),
            },
            StripeError::Missing => Self::NotFound,
            StripeError::State(_) => Self::WrongState("Stripe does not allow it any more"),
            StripeError::Unavailable { retry_after, cause } => Self::Unavailable { retry_after, cause },
            StripeError::Key => Self::unavailable(anyhow::anyhow!("stripe refused our key")),
            error @ (StripeError::Parameter { .. } | StripeError::Idempotency) => Self::internal(error),
        }
    }
}
