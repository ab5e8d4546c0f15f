//! The words of notifications, in French and English.
//!
//! contract: core §7: French unless the traveller has chosen English; no raw text of a provider.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use shared::{money::Money, sources::iso_millis};

use super::model::Kind;

/// The language of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// The default.
    French,
    /// Chosen in the settings.
    English,
}

impl Language {
    /// The code that templates of mail are chosen by.
    pub const fn code(self) -> &'static str {
        match self {
            Self::French => "fr",
            Self::English => "en",
        }
    }

    /// From the name that settings hold. Languages without texts of their own read English, nothing chosen reads French.
    pub fn of(setting: Option<&str>) -> Self {
        match setting {
            None | Some("French" | "Français" | "fr") => Self::French,
            Some(_) => Self::English,
        }
    }
}

/// What there is to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News<'a> {
    /// A payment succeeded.
    PaymentReceived { amount: Money, booking: &'a str },
    /// A payment failed; why is for the payment page to say.
    PaymentFailed { amount: Money, booking: &'a str },
    /// Money went back.
    RefundProcessed { amount: Money, booking: &'a str },
    /// A booking is confirmed.
    BookingConfirmed { booking: &'a str },
    /// A booking is cancelled.
    BookingCancelled { booking: &'a str },
    /// A session was ended because somebody else had its secrets.
    SessionStolen,
    /// Somebody signed in with a program that the account had not used before.
    NewDevice { program: &'a str, address: &'a str },
    /// The password is another one now.
    PasswordChanged,
    /// Too many wrong passwords.
    AccountLocked { until: Option<DateTime<Utc>> },
    /// An administrator closed the account.
    AccountSuspended,
}

impl News<'_> {
    /// The kind of its notification.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::PaymentReceived { .. } => Kind::PaymentReceived,
            Self::PaymentFailed { .. } => Kind::PaymentFailed,
            Self::RefundProcessed { .. } => Kind::RefundProcessed,
            Self::BookingConfirmed { .. } => Kind::BookingConfirmed,
            Self::BookingCancelled { .. } => Kind::BookingCancelled,
            Self::SessionStolen
            | Self::NewDevice { .. }
            | Self::PasswordChanged
            | Self::AccountLocked { .. }
            | Self::AccountSuspended => Kind::AccountSecurity,
        }
    }

    /// The mail template that tells the same (`templateId` of `notification.email.requested`).
    pub const fn template(&self) -> &'static str {
        match self {
            Self::PaymentReceived { .. } => "payment-received",
            Self::PaymentFailed { .. } => "payment-failed",
            Self::RefundProcessed { .. } => "refund-processed",
            Self::BookingConfirmed { .. } => "booking-confirmed",
            Self::BookingCancelled { .. } => "booking-cancelled",
            Self::SessionStolen => "session-closed",
            Self::NewDevice { .. } => "new-device",
            Self::PasswordChanged => "password-changed",
            Self::AccountLocked { .. } => "account-locked",
            Self::AccountSuspended => "account-suspended",
        }
    }

    /// What that template may name beside title and message: plain values, to be escaped where they are shown.
    pub fn variables(&self) -> Value {
        match self {
            Self::PaymentReceived { amount, booking }
            | Self::PaymentFailed { amount, booking }
            | Self::RefundProcessed { amount, booking } => json!({
                "bookingReference": booking, "amount": amount.major(), "currency": amount.currency,
            }),
            Self::BookingConfirmed { booking } | Self::BookingCancelled { booking } => {
                json!({ "bookingReference": booking })
            }
            Self::NewDevice { program, address } => json!({ "userAgent": program, "ipAddress": address }),
            Self::AccountLocked { until } => json!({ "unlockAt": until.map(iso_millis) }),
            Self::SessionStolen | Self::PasswordChanged | Self::AccountSuspended => json!({}),
        }
    }

    /// Title and text.
    pub fn words(&self, language: Language) -> (&'static str, String) {
        match language {
            Language::French => self.french(),
            Language::English => self.english(),
        }
    }

    fn french(&self) -> (&'static str, String) {
        match self {
            Self::PaymentReceived { amount, booking } => (
                "Paiement confirmé",
                format!("Votre paiement de {} pour la réservation {booking} a été confirmé.", french(*amount)),
            ),
            Self::PaymentFailed { amount, booking } => (
                "Paiement échoué",
                format!(
                    "Votre paiement de {} pour la réservation {booking} a échoué. Aucun montant n'a été débité ; vous pouvez réessayer.",
                    french(*amount)
                ),
            ),
            Self::RefundProcessed { amount, booking } => (
                "Remboursement effectué",
                format!("{} vous ont été remboursés pour la réservation {booking}.", french(*amount)),
            ),
            Self::BookingConfirmed { booking } => {
                ("Réservation confirmée", format!("Votre réservation {booking} est confirmée. Bon voyage !"))
            }
            Self::BookingCancelled { booking } => {
                ("Réservation annulée", format!("Votre réservation {booking} a été annulée."))
            }
            Self::SessionStolen => (
                "Session fermée par sécurité",
                "Une de vos sessions a été fermée car ses identifiants ont été utilisés deux fois. Si ce n'était pas vous, changez votre mot de passe.".to_owned(),
            ),
            Self::NewDevice { program, address } => (
                "Nouvelle connexion à votre compte",
                format!(
                    "Une connexion depuis un nouvel appareil a eu lieu ({program}, adresse {address}). Si ce n'était pas vous, changez votre mot de passe et fermez vos sessions."
                ),
            ),
            Self::PasswordChanged => (
                "Mot de passe modifié",
                "Le mot de passe de votre compte a été modifié. Si ce n'était pas vous, réinitialisez-le dès maintenant.".to_owned(),
            ),
            Self::AccountLocked { until } => (
                "Compte verrouillé",
                format!(
                    "Votre compte a été verrouillé après plusieurs mots de passe erronés{}. Si ce n'était pas vous, choisissez un autre mot de passe.",
                    until.map(|until| format!(" jusqu'au {}", until.format("%d/%m/%Y à %H:%M UTC"))).unwrap_or_default()
                ),
            ),
            Self::AccountSuspended => (
                "Compte suspendu",
                "Votre compte a été suspendu. Contactez le support pour en savoir plus.".to_owned(),
            ),
        }
    }

    fn english(&self) -> (&'static str, String) {
        match self {
            Self::PaymentReceived { amount, booking } => {
                ("Payment confirmed", format!("Your payment of {amount} for booking {booking} has been confirmed."))
            }
            Self::PaymentFailed { amount, booking } => (
                "Payment failed",
                format!("Your payment of {amount} for booking {booking} failed. You have not been charged and can try again."),
            ),
            Self::RefundProcessed { amount, booking } => {
                ("Refund processed", format!("{amount} have been refunded for booking {booking}."))
            }
            Self::BookingConfirmed { booking } => {
                ("Booking confirmed", format!("Your booking {booking} is confirmed. Have a good trip!"))
            }
            Self::BookingCancelled { booking } => {
                ("Booking cancelled", format!("Your booking {booking} has been cancelled."))
            }
            Self::SessionStolen => (
                "A session was closed for your safety",
                "One of your sessions was closed because its credentials were used twice. If this was not you, change your password.".to_owned(),
            ),
            Self::NewDevice { program, address } => (
                "New sign-in to your account",
                format!(
                    "Somebody signed in from a new device ({program}, address {address}). If this was not you, change your password and close your sessions."
                ),
            ),
            Self::PasswordChanged => (
                "Password changed",
                "The password of your account was changed. If this was not you, reset it now.".to_owned(),
            ),
            Self::AccountLocked { until } => (
                "Account locked",
                format!(
                    "Your account was locked after several wrong passwords{}. If this was not you, choose another password.",
                    until.map(|until| format!(" until {}", until.format("%-d %B %Y %H:%M UTC"))).unwrap_or_default()
                ),
            ),
            Self::AccountSuspended => (
                "Account suspended",
                "Your account was suspended. Contact support to learn more.".to_owned(),
            ),
        }
    }
}

/// `299,50 EUR`.
fn french(amount: Money) -> String {
    amount.to_string().replace('.', ",")
}

#[cfg(test)]
mod tests {
    use shared::money::Currency;

    use super::*;

    #[test]
    fn amounts_are_written_as_the_language_does() {
        let amount = Money::new(29_950, Currency::EUR);
        let news = News::PaymentReceived {
            amount,
            booking: "BOOK-20261201-ABCDE",
        };
        let (title, text) = news.words(Language::French);
        assert_eq!(title, "Paiement confirmé");
        assert!(
            text.contains("299,50 EUR") && text.contains("BOOK-20261201-ABCDE"),
            "{text}"
        );
        assert!(news.words(Language::English).1.contains("299.50 EUR"));
    }

    #[test]
    fn every_message_has_words_in_both_languages_and_a_template_of_its_own() {
        let amount = Money::new(1_000, Currency::EUR);
        let booking = "BOOK-1";
        let until = DateTime::from_timestamp(1_800_000_000, 0);
        let all = [
            News::PaymentReceived { amount, booking },
            News::PaymentFailed { amount, booking },
            News::RefundProcessed { amount, booking },
            News::BookingConfirmed { booking },
            News::BookingCancelled { booking },
            News::SessionStolen,
            News::NewDevice {
                program: "Firefox",
                address: "203.0.113.7",
            },
            News::PasswordChanged,
            News::AccountLocked { until },
            News::AccountSuspended,
        ];
        let templates: std::collections::BTreeSet<_> = all.iter().map(News::template).collect();
        assert_eq!(templates.len(), all.len());
        for news in &all {
            let (french, english) = (news.words(Language::French), news.words(Language::English));
            assert!(french.0 != english.0 && french.1 != english.1, "{news:?}");
            assert!(french.0.len() <= 200 && french.1.chars().count() <= 2_000);
            assert!(news.variables().is_object());
        }
        let locked = News::AccountLocked { until }.words(Language::English).1;
        assert!(locked.contains("15 January 2027 08:00 UTC"), "{locked}");
    }

    #[test]
    fn french_is_read_by_those_who_have_not_chosen() {
        assert_eq!(Language::of(None), Language::French);
        assert_eq!(Language::of(Some("French")), Language::French);
        assert_eq!(Language::of(Some("English")), Language::English);
        assert_eq!(Language::of(Some("Spanish")), Language::English);
    }
}
