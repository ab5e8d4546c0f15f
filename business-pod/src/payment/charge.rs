//! The amounts Stripe accepts, and how it writes them.
//!
//! contract: payment §10

use shared::money::{Currency, Money};

/// Eight digits.
pub const MAXIMUM: i64 = 99_999_999;

/// Why an amount cannot be charged, in words fit to be shown.
pub fn check(amount: Money, allowed: &[Currency]) -> Result<(), &'static str> {
    // Stripe has no ariary cents although ISO 4217 has
    if !allowed.contains(&amount.currency) || amount.currency.code() == "MGA" {
        return Err("This currency is not accepted");
    }
    if amount.minor < minimum(amount.currency) {
        return Err("Amount is below the minimum for this currency");
    }
    if amount.minor > MAXIMUM {
        return Err("Amount is above the maximum");
    }
    match amount.currency.code() {
        "BHD" | "JOD" | "KWD" | "OMR" | "TND" if amount.minor % 10 != 0 => {
            Err("Amounts in this currency must be a multiple of 10 minor units")
        }
        _ => Ok(()),
    }
}

/// The amount as Stripe wants it. ISK and UGX have no minor unit in ISO 4217 but two digits at Stripe.
pub fn to_stripe(amount: Money) -> i64 {
    if has_stripe_cents(amount.currency) {
        amount.minor.saturating_mul(100)
    } else {
        amount.minor
    }
}

/// An amount of Stripe's as ours.
pub fn from_stripe(minor: i64, currency: Currency) -> Money {
    if has_stripe_cents(currency) {
        Money::new(minor / 100, currency)
    } else {
        Money::new(minor, currency)
    }
}

fn has_stripe_cents(currency: Currency) -> bool {
    matches!(currency.code(), "ISK" | "UGX")
}

fn minimum(currency: Currency) -> i64 {
    match currency.code() {
        "GBP" => 30,
        "DKK" => 250,
        "NOK" | "SEK" => 300,
        "CZK" => 1500,
        "HUF" => 17_500,
        "HKD" => 400,
        "MXN" => 1000,
        "PLN" | "AED" | "MYR" | "RON" => 200,
        _ if currency.exponent() == 3 => 500,
        _ => 50,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_amounts_that_stripe_accepts_are_charged() {
        let all = ["EUR", "JPY", "GBP", "KWD", "ISK"].map(|code| code.parse().unwrap());
        let money = |minor, code: &str| Money::new(minor, code.parse().unwrap());
        assert!(check(money(50, "EUR"), &all).is_ok());
        for refused in [
            money(49, "EUR"),
            money(100_000_000, "EUR"),
            money(49, "JPY"),
            money(1001, "KWD"),
            money(500, "USD"),
        ] {
            assert!(check(refused, &all).is_err(), "{refused:?}");
        }
        assert_eq!(to_stripe(money(500, "ISK")), 50_000);
        assert_eq!(from_stripe(50_000, "ISK".parse().unwrap()), money(500, "ISK"));
    }
}
