//! Exchange rates: a static table with the day it was taken (voyage §6.5, §14.9).
//!
//! Quotes are converted once, when they are made, and stored in the currency they were made in. Nothing converts twice.

use shared::money::{Currency, Money};

/// The day of the table.
pub const AS_OF: &str = "2026-11-20";

/// Units of the currency for one euro.
const PER_EURO: [(&str, f64); 46] = [
    ("AED", 4.25),
    ("ARS", 1_650.0),
    ("AUD", 1.77),
    ("BGN", 1.955_83),
    ("BHD", 0.436),
    ("BRL", 6.20),
    ("CAD", 1.62),
    ("CHF", 0.93),
    ("CLP", 1_090.0),
    ("CNY", 8.24),
    ("COP", 4_420.0),
    ("CZK", 24.3),
    ("DKK", 7.46),
    ("EGP", 55.2),
    ("EUR", 1.0),
    ("GBP", 0.88),
    ("HKD", 9.00),
    ("HUF", 384.0),
    ("IDR", 19_300.0),
    ("ILS", 3.78),
    ("INR", 102.5),
    ("ISK", 146.0),
    ("JPY", 181.0),
    ("KRW", 1_695.0),
    ("KWD", 0.355),
    ("MAD", 10.7),
    ("MUR", 53.0),
    ("MXN", 21.3),
    ("MYR", 4.80),
    ("NOK", 11.75),
    ("NZD", 2.05),
    ("OMR", 0.445),
    ("PEN", 3.92),
    ("PHP", 68.0),
    ("PLN", 4.24),
    ("QAR", 4.21),
    ("RON", 5.09),
    ("SAR", 4.34),
    ("SEK", 11.0),
    ("SGD", 1.51),
    ("THB", 37.5),
    ("TND", 3.41),
    ("TRY", 49.0),
    ("TWD", 36.2),
    ("USD", 1.157),
    ("ZAR", 19.9),
];

/// The table has no rate for a currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no exchange rate for {0}")]
pub struct NoRate(pub Currency);

/// Units of `currency` for one euro.
pub fn per_euro(currency: Currency) -> Result<f64, NoRate> {
    let found = PER_EURO.iter().find(|(code, _)| *code == currency.code());
    found.map(|(_, rate)| *rate).ok_or(NoRate(currency))
}

/// The same value in another currency, rounded to its minor unit. An amount in its own currency is returned untouched.
pub fn convert(amount: Money, to: Currency) -> Result<Money, NoRate> {
    if amount.currency == to {
        return Ok(amount);
    }
    let major = amount.major() / per_euro(amount.currency)? * per_euro(to)?;
    Money::from_major(major, to).ok_or(NoRate(to))
}

/// The position of a currency in the table, which never changes: it is part of offer ids, so rows are only ever appended.
pub(super) fn position(currency: Currency) -> Option<u8> {
    PER_EURO
        .iter()
        .position(|(code, _)| *code == currency.code())
        .and_then(|position| u8::try_from(position).ok())
}

/// The currency at a position of the table.
pub(super) fn at(position: u8) -> Option<Currency> {
    PER_EURO
        .get(usize::from(position))
        .and_then(|(code, _)| code.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_currency_and_a_sensible_rate() {
        for (position, (code, rate)) in PER_EURO.iter().enumerate() {
            let currency: Currency = code.parse().unwrap();
            assert!(*rate > 0.0);
            assert_eq!(at(super::position(currency).unwrap()), Some(currency));
            assert_eq!(usize::from(super::position(currency).unwrap()), position);
        }
    }

    #[test]
    fn amounts_are_rounded_to_the_minor_unit_of_the_target() {
        let yen: Currency = "JPY".parse().unwrap();
        let converted = convert(Money::new(10_000, Currency::EUR), yen).unwrap();
        assert_eq!(converted, Money::new(18_100, yen));
        assert_eq!(convert(converted, yen).unwrap(), converted);
        let dinar: Currency = "KWD".parse().unwrap();
        assert_eq!(convert(Money::new(10_000, Currency::EUR), dinar).unwrap().minor, 35_500);
    }

    #[test]
    fn a_currency_without_a_rate_is_said_so() {
        let lev: Currency = "XAF".parse().unwrap();
        assert!(convert(Money::new(1, Currency::EUR), lev).is_err());
    }
}
