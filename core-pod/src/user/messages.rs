//! The words of notifications, in French and English.
//!
//! contract: core §7: French unless the traveller has chosen English; no raw text of a provider.

use shared::money::Money;

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
            Self::SessionStolen => Kind::AccountSecurity,
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
    fn french_is_read_by_those_who_have_not_chosen() {
        assert_eq!(Language::of(None), Language::French);
        assert_eq!(Language::of(Some("French")), Language::French);
        assert_eq!(Language::of(Some("English")), Language::English);
        assert_eq!(Language::of(Some("Spanish")), Language::English);
    }
}
