//! What mails say, before anybody has chosen words: one variant for each letter the platform writes.
//!
//! contract: core §9. The variables of a letter are encrypted in the queue, secrets among them; nothing here prints them.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::money::{Currency, Money};

/// The secret of a link in a mail. Never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// Wraps a secret that has just been made.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The text, for the link.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// An amount in the form the queue keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    minor: i64,
    currency: Currency,
}

impl From<Money> for Amount {
    fn from(money: Money) -> Self {
        Self {
            minor: money.minor,
            currency: money.currency,
        }
    }
}

impl From<Amount> for Money {
    fn from(amount: Amount) -> Self {
        Self::new(amount.minor, amount.currency)
    }
}

/// A kind of booking, to be named in the reader's language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum BookingKind {
    /// Seats on a plane.
    Flight,
    /// Nights in a hotel.
    Hotel,
    /// A ride.
    Transfer,
    /// Something to do.
    Activity,
    /// Several of these.
    Package,
}

impl BookingKind {
    /// From the name that events use, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "FLIGHT" => Self::Flight,
            "HOTEL" => Self::Hotel,
            "TRANSFER" => Self::Transfer,
            "ACTIVITY" => Self::Activity,
            "PACKAGE" => Self::Package,
            _ => return None,
        })
    }
}

/// What is known of a booking. What is absent is not mentioned.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BookingFacts {
    /// `BOOK-20261201-ABCDE`.
    pub reference: String,
    /// What was booked.
    pub kind: Option<BookingKind>,
    /// Where it goes.
    pub destination: Option<String>,
    /// What it costs, or what is paid back.
    pub amount: Option<Amount>,
}

impl fmt::Debug for BookingFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BookingFacts")
            .field("reference", &self.reference)
            .finish_non_exhaustive()
    }
}

/// What happened to the protection of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// Signing in asks for a second factor now.
    SecondFactorOn,
    /// It does not any more.
    SecondFactorOff,
    /// The old recovery codes count no more.
    RecoveryCodesReplaced,
    /// There is another passkey.
    PasskeyAdded,
    /// There is one less.
    PasskeyRemoved,
    /// An account at another provider signs in here.
    AccountLinked,
    /// It does not any more.
    AccountUnlinked,
    /// An administrator took all second factors away.
    Reset,
}

/// One letter with its variables.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "template", content = "variables", rename_all = "kebab-case")]
pub enum Letter {
    /// Confirm the address of a new account, or ask again.
    VerifyEmail {
        /// For the link.
        token: Token,
    },
    /// Confirm a new address of an old account.
    ConfirmNewEmail {
        /// For the link.
        token: Token,
        /// Whether the account already uses the address (drop-in) or will once it is confirmed.
        in_use: bool,
    },
    /// To the old address: the account has another one now.
    EmailChanged {
        /// The new address, masked.
        new_address: String,
        /// For the link that takes the change back.
        token: Token,
        /// Until when.
        until: DateTime<Utc>,
    },
    /// Choose a new password.
    ResetPassword {
        /// For the link.
        token: Token,
        /// Until when.
        until: DateTime<Utc>,
    },
    /// The password is another one.
    PasswordChanged {
        /// When.
        at: DateTime<Utc>,
    },
    /// Somebody signed in from a program or place not seen before.
    NewDevice {
        /// When.
        at: DateTime<Utc>,
        /// What the program calls itself.
        device: Option<String>,
        /// From where.
        ip_address: Option<String>,
        /// For the link that ends this session.
        token: Option<Token>,
    },
    /// A session was ended because two had its secrets.
    SessionClosed {
        /// When.
        at: DateTime<Utc>,
    },
    /// Too many wrong passwords, or an administrator's decision.
    AccountLocked {
        /// Until when; `None`: until somebody unlocks it.
        until: Option<DateTime<Utc>>,
    },
    /// A recovery code stood in for the second factor.
    RecoveryCodeUsed {
        /// When.
        at: DateTime<Utc>,
        /// How many are left.
        remaining: u32,
    },
    /// Something that protects the account is another.
    ProtectionChanged {
        /// When.
        at: DateTime<Utc>,
        /// What.
        change: Protection,
    },
    /// A booking is confirmed.
    BookingConfirmed(BookingFacts),
    /// A booking is cancelled.
    BookingCancelled(BookingFacts),
    /// A payment succeeded.
    PaymentReceived(BookingFacts),
    /// A payment failed.
    PaymentFailed(BookingFacts),
    /// Money went back.
    RefundProcessed(BookingFacts),
    /// The data of an account can be fetched.
    ExportReady {
        /// Until when.
        until: Option<DateTime<Utc>>,
    },
    /// The account will be deleted.
    DeletionScheduled {
        /// When.
        at: DateTime<Utc>,
    },
    /// The account is deleted.
    DeletionDone,
    /// A notification that has no letter of its own.
    Notification {
        /// Its title.
        title: String,
        /// Its text.
        message: String,
    },
    /// Marketing: the only letter that can be unsubscribed from, because it is the only one that must.
    Promotion {
        /// Its title.
        title: String,
        /// Its text.
        message: String,
        /// For the link that ends such mails.
        unsubscribe: Token,
    },
}

impl Letter {
    /// The name of the template, for the queue and for metrics.
    pub const fn template(&self) -> &'static str {
        match self {
            Self::VerifyEmail { .. } => "verify-email",
            Self::ConfirmNewEmail { .. } => "confirm-new-email",
            Self::EmailChanged { .. } => "email-changed",
            Self::ResetPassword { .. } => "reset-password",
            Self::PasswordChanged { .. } => "password-changed",
            Self::NewDevice { .. } => "new-device",
            Self::SessionClosed { .. } => "session-closed",
            Self::AccountLocked { .. } => "account-locked",
            Self::RecoveryCodeUsed { .. } => "recovery-code-used",
            Self::ProtectionChanged { .. } => "protection-changed",
            Self::BookingConfirmed(_) => "booking-confirmed",
            Self::BookingCancelled(_) => "booking-cancelled",
            Self::PaymentReceived(_) => "payment-received",
            Self::PaymentFailed(_) => "payment-failed",
            Self::RefundProcessed(_) => "refund-processed",
            Self::ExportReady { .. } => "export-ready",
            Self::DeletionScheduled { .. } => "deletion-scheduled",
            Self::DeletionDone => "deletion-done",
            Self::Notification { .. } => "notification",
            Self::Promotion { .. } => "promotion",
        }
    }

    /// After this instant the letter is of no use: its link does not work any more.
    pub const fn useless_after(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::ResetPassword { until, .. } | Self::EmailChanged { until, .. } => Some(*until),
            _ => None,
        }
    }
}

impl fmt::Debug for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Letter({})", self.template())
    }
}

/// `ada@example.com` as `a***@e***.com`: its owner recognises it, a stranger learns little.
pub fn masked(address: &str) -> String {
    let Some((local, domain)) = address.rsplit_once('@') else {
        return "***".to_owned();
    };
    let first = |text: &str| text.chars().next().map(String::from).unwrap_or_default();
    let top = domain.rsplit_once('.').map(|(_, top)| top).unwrap_or_default();
    format!("{}***@{}***.{top}", first(local), first(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_template_is_the_tag_in_the_queue() {
        let letters = [
            Letter::DeletionDone,
            Letter::VerifyEmail { token: Token::new("s") },
            Letter::BookingConfirmed(BookingFacts::default()),
            Letter::SessionClosed {
                at: DateTime::UNIX_EPOCH,
            },
        ];
        for letter in letters {
            let json = serde_json::to_value(&letter).unwrap();
            assert_eq!(json["template"], letter.template());
            assert_eq!(serde_json::from_value::<Letter>(json).unwrap(), letter);
        }
    }

    #[test]
    fn printing_a_letter_tells_nothing_of_its_variables() {
        let letter = Letter::ResetPassword {
            token: Token::new("s3cret"),
            until: DateTime::UNIX_EPOCH,
        };
        assert_eq!(format!("{letter:?}"), "Letter(reset-password)");
        assert_eq!(format!("{:?}", Token::new("s3cret")), "Token(***)");
    }

    #[test]
    fn an_address_is_masked_beyond_use_but_not_beyond_recognition() {
        assert_eq!(masked("ada.lovelace@example.co.uk"), "a***@e***.uk");
        assert_eq!(masked("nonsense"), "***");
    }
}
