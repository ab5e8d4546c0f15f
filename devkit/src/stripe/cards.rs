//! Stripe's test cards: which number does what (contract: payment §12), and the tokens that stand for them.

use super::{error::Failure, form::Params};

/// What happens when a card is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// The charge succeeds.
    Succeed,
    /// The charge is refused with this code, decline code and text.
    Decline(&'static str, Option<&'static str>, &'static str),
    /// The cardholder must authenticate first, then the charge succeeds.
    Authenticate,
    /// The cardholder must authenticate first, then the charge is refused.
    AuthenticateThenDecline,
}

/// What happens when a charge on the card is refunded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RefundBehaviour {
    /// At once.
    Succeed,
    /// The refund stays pending until it is settled.
    Pending,
}

/// A test card.
#[derive(Debug, Clone, Copy)]
pub(super) struct Card {
    /// Its number.
    pub(super) number: &'static str,
    /// The token `pm_card_…` of the same card.
    pub(super) token: &'static str,
    /// Its brand.
    pub(super) brand: &'static str,
    /// credit or debit.
    pub(super) funding: &'static str,
    /// What a charge does.
    pub(super) behaviour: Behaviour,
    /// What a refund does.
    pub(super) refund: RefundBehaviour,
}

const DECLINED: &str = "Your card was declined.";

const fn card(number: &'static str, token: &'static str, behaviour: Behaviour) -> Card {
    Card {
        number,
        token,
        brand: "visa",
        funding: "credit",
        behaviour,
        refund: RefundBehaviour::Succeed,
    }
}

const fn declined(number: &'static str, token: &'static str, reason: &'static str, text: &'static str) -> Card {
    card(number, token, Behaviour::Decline("card_declined", Some(reason), text))
}

const fn of_brand(number: &'static str, token: &'static str, brand: &'static str, funding: &'static str) -> Card {
    let refund = RefundBehaviour::Succeed;
    Card {
        number,
        token,
        brand,
        funding,
        behaviour: Behaviour::Succeed,
        refund,
    }
}

const CARDS: [Card; 22] = [
    card("4242424242424242", "pm_card_visa", Behaviour::Succeed),
    of_brand("4000056655665556", "pm_card_visa_debit", "visa", "debit"),
    of_brand("5555555555554444", "pm_card_mastercard", "mastercard", "credit"),
    of_brand("5200828282828210", "pm_card_mastercard_debit", "mastercard", "debit"),
    of_brand("378282246310005", "pm_card_amex", "amex", "credit"),
    of_brand("6011111111111117", "pm_card_discover", "discover", "credit"),
    declined(
        "4000000000000002",
        "pm_card_visa_chargeDeclined",
        "generic_decline",
        DECLINED,
    ),
    declined(
        "4000000000009995",
        "pm_card_visa_chargeDeclinedInsufficientFunds",
        "insufficient_funds",
        "Your card has insufficient funds.",
    ),
    declined(
        "4000000000009987",
        "pm_card_visa_chargeDeclinedLostCard",
        "lost_card",
        DECLINED,
    ),
    declined(
        "4000000000009979",
        "pm_card_visa_chargeDeclinedStolenCard",
        "stolen_card",
        DECLINED,
    ),
    declined(
        "4000000000000341",
        "pm_card_chargeCustomerFail",
        "generic_decline",
        DECLINED,
    ),
    declined("4100000000000019", "pm_card_radarBlock", "fraudulent", DECLINED),
    card(
        "4000000000000069",
        "pm_card_chargeDeclinedExpiredCard",
        Behaviour::Decline("expired_card", None, "Your card has expired."),
    ),
    card(
        "4000000000000127",
        "pm_card_chargeDeclinedIncorrectCvc",
        Behaviour::Decline("incorrect_cvc", None, "Your card's security code is incorrect."),
    ),
    card(
        "4000000000000119",
        "pm_card_chargeDeclinedProcessingError",
        Behaviour::Decline(
            "processing_error",
            None,
            "An error occurred while processing your card. Try again in a little bit.",
        ),
    ),
    card(
        "4000002760003155",
        "pm_card_authenticationRequiredOnce",
        Behaviour::Authenticate,
    ),
    card(
        "4000002500003155",
        "pm_card_authenticationRequiredOnSetup",
        Behaviour::Authenticate,
    ),
    card(
        "4000002760003184",
        "pm_card_authenticationRequired",
        Behaviour::Authenticate,
    ),
    card(
        "4000000000003220",
        "pm_card_threeDSecure2Required",
        Behaviour::Authenticate,
    ),
    card(
        "4000008400001629",
        "pm_card_threeDSecureRequiredChargeDeclined",
        Behaviour::AuthenticateThenDecline,
    ),
    Card {
        refund: RefundBehaviour::Pending,
        ..card("4000000000007726", "pm_card_pendingRefund", Behaviour::Succeed)
    },
    Card {
        refund: RefundBehaviour::Pending,
        ..card("4000000000005126", "pm_card_refundFail", Behaviour::Succeed)
    },
];

/// Shorter names of the same tokens.
const ALIASES: [(&str, &str); 4] = [
    ("pm_card_chargeDeclined", "pm_card_visa_chargeDeclined"),
    (
        "pm_card_chargeDeclinedInsufficientFunds",
        "pm_card_visa_chargeDeclinedInsufficientFunds",
    ),
    ("pm_card_chargeDeclinedFraudulent", "pm_card_radarBlock"),
    ("pm_card_us", "pm_card_visa"),
];

/// The card a token stands for.
pub(super) fn by_token(token: &str) -> Option<&'static Card> {
    let token = ALIASES
        .iter()
        .find(|(alias, _)| *alias == token)
        .map_or(token, |(_, name)| name);
    CARDS.iter().find(|card| card.token == token)
}

/// The card of a number.
pub(super) fn by_number(number: &str) -> Option<&'static Card> {
    CARDS.iter().find(|card| card.number == number)
}

/// The refusal of an authenticated but declined card.
pub(super) fn plain_decline() -> Failure {
    Failure::card("card_declined", Some("generic_decline"), DECLINED)
}

/// A card as a browser sends it.
#[derive(Debug, Clone)]
pub(super) struct TypedCard {
    /// The test card of the number.
    pub(super) card: &'static Card,
    /// Month of expiry.
    pub(super) month: i64,
    /// Year of expiry.
    pub(super) year: i64,
}

/// Reads and checks `card[number]`, `card[exp_month]`, `card[exp_year]`, `card[cvc]` as of the year and month given.
pub(super) fn read(mut params: Params, (year_now, month_now): (i64, i64)) -> Result<TypedCard, Failure> {
    let number: String = params
        .required("number")?
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .collect();
    let month = params.integer("exp_month")?.unwrap_or(12);
    let year = params
        .integer("exp_year")?
        .map(|year| if year < 100 { year + 2000 } else { year });
    let year = year.unwrap_or(year_now + 1);
    let cvc = params.text("cvc")?;
    let card = by_number(&number);
    if card.is_none() && !luhn(&number) {
        return Err(refused("incorrect_number", "Your card number is incorrect.", "number"));
    }
    if !(1..=12).contains(&month) {
        return Err(refused(
            "invalid_expiry_month",
            "Your card's expiration month is invalid.",
            "exp_month",
        ));
    }
    if year < year_now || year > year_now + 50 {
        return Err(refused(
            "invalid_expiry_year",
            "Your card's expiration year is invalid.",
            "exp_year",
        ));
    }
    if (year, month) < (year_now, month_now) {
        return Err(refused(
            "invalid_expiry_month",
            "Your card's expiration month is invalid.",
            "exp_month",
        ));
    }
    if cvc.is_some_and(|cvc| !(3..=4).contains(&cvc.len()) || !cvc.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(refused("invalid_cvc", "Your card's security code is invalid.", "cvc"));
    }
    let Some(card) = card else {
        let text = "Your card was declined. Your request was in test mode, but used a non test (live) card. For a list \
                    of valid test cards, visit: https://stripe.com/docs/testing.";
        return Err(Failure::card("card_declined", Some("test_mode_live_card"), text));
    };
    Ok(TypedCard { card, month, year })
}

fn refused(code: &str, text: &str, field: &str) -> Failure {
    Failure::card(code, None, text).with("param", serde_json::json!(field))
}

fn luhn(number: &str) -> bool {
    if !(12..=19).contains(&number.len()) || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let sum: u32 = number
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, byte)| {
            let digit = u32::from(byte - b'0');
            match (place % 2, digit) {
                (0, digit) => digit,
                (_, digit) if digit > 4 => digit * 2 - 9,
                (_, digit) => digit * 2,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_card_passes_the_check_of_its_number_but_the_one_that_is_known_by_another_name() {
        let wrong: Vec<&str> = CARDS
            .iter()
            .map(|card| card.number)
            .filter(|number| !luhn(number))
            .collect();
        assert_eq!(wrong, ["4000002760003155"]);
    }

    #[test]
    fn tokens_and_numbers_name_the_same_cards() {
        assert_eq!(by_token("pm_card_visa").unwrap().number, "4242424242424242");
        assert_eq!(by_token("pm_card_chargeDeclined").unwrap().number, "4000000000000002");
        assert!(by_token("pm_card_nonsense").is_none());
    }
}
