//! The settings of recovery.
//!
//! contract: core §12 (`REQUIRE_EMAIL_VERIFICATION`), §14

use std::{fmt, str::FromStr, time::Duration};

use shared::{config::Reader, http::limit::Rule, rate_limit_rule};

/// When a new address takes the place of the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmailChange {
    /// At once, as existing clients expect (core §4.4); it is then confirmed, and the old mailbox can take it back.
    Immediate,
    /// Once it is confirmed from the new mailbox (core §14).
    Confirmed,
}

impl FromStr for EmailChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "immediate" => Ok(Self::Immediate),
            "confirmed" => Ok(Self::Confirmed),
            other => Err(format!("`{other}` is neither immediate nor confirmed")),
        }
    }
}

impl fmt::Display for EmailChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Immediate => "immediate",
            Self::Confirmed => "confirmed",
        })
    }
}

/// The settings of recovery.
#[derive(Debug, Clone, Copy)]
pub struct RecoveryConfig {
    /// When a new address takes the place of the old one.
    pub email_change: EmailChange,
    /// Whether an account signs in before its address is confirmed.
    pub require_verification: bool,
    /// Links asked for from one address.
    pub requests: Rule,
    /// Verification links of one account.
    pub resend: Rule,
    /// Tokens tried from one address.
    pub redeem: Rule,
}

impl RecoveryConfig {
    /// Reads the settings.
    pub fn read(reader: &mut Reader) -> Self {
        let (quarter, hour) = (Duration::from_mins(15), Duration::from_hours(1));
        Self {
            email_change: reader.or(
                "EMAIL_CHANGE",
                EmailChange::Immediate,
                "when a new address takes the place of the old one: `immediate`, or `confirmed` from the new mailbox",
            ),
            require_verification: reader.or(
                "REQUIRE_EMAIL_VERIFICATION",
                false,
                "whether an account signs in only once its address is confirmed",
            ),
            requests: rate_limit_rule!(reader, "AUTH_RECOVERY", Rule::new("auth.recovery", 10, quarter)),
            resend: rate_limit_rule!(reader, "AUTH_RESEND", Rule::new("auth.resend", 3, hour)),
            redeem: rate_limit_rule!(reader, "AUTH_REDEEM", Rule::new("auth.redeem", 30, quarter)),
        }
    }
}
