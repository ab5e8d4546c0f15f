//! Money: an integer of minor units and its currency. No floating point takes part in a calculation; a float appears
//! only when JSON needs a number of major units (voyage §2.5, payment §10).

use std::{fmt, str::FromStr};

/// An ISO 4217 currency.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency(iso_currency::Currency);

/// The text is not a currency we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown currency")]
pub struct UnknownCurrency;

impl Currency {
    /// The euro, the platform's default currency.
    pub const EUR: Self = Self(iso_currency::Currency::EUR);
    /// The United States dollar.
    pub const USD: Self = Self(iso_currency::Currency::USD);

    /// Upper-case code: `EUR`.
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// Lower-case code as Stripe writes it: `eur`.
    pub fn lower(self) -> String {
        self.code().to_ascii_lowercase()
    }

    /// Number of decimal digits of the minor unit: 2 for EUR, 0 for JPY, 3 for KWD.
    pub fn exponent(self) -> u32 {
        self.0.exponent().map_or(0, u32::from)
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Currency {
    type Err = UnknownCurrency;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        iso_currency::Currency::from_code(&text.to_ascii_uppercase())
            .map(Self)
            .ok_or(UnknownCurrency)
    }
}

impl serde::Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> serde::Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// An amount: minor units of its currency (cents for EUR, yen for JPY).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    /// Minor units; negative for a debit.
    pub minor: i64,
    /// The currency of the minor units.
    pub currency: Currency,
}

/// Two amounts of different currencies cannot be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("amounts of different currencies cannot be combined")]
pub struct CurrencyMismatch;

impl Money {
    /// `minor` units of `currency`.
    pub const fn new(minor: i64, currency: Currency) -> Self {
        Self { minor, currency }
    }

    /// Nothing of `currency`.
    pub const fn zero(currency: Currency) -> Self {
        Self { minor: 0, currency }
    }

    /// The amount that a JSON number of major units means, rounded half away from zero. `None` if it is not finite or
    /// does not fit.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the range is checked before the conversion"
    )]
    pub fn from_major(major: f64, currency: Currency) -> Option<Self> {
        let scaled = (major * 10_f64.powi(i32::try_from(currency.exponent()).ok()?)).round();
        if !scaled.is_finite() || scaled.abs() >= 9_007_199_254_740_992.0 {
            return None;
        }
        Some(Self {
            minor: scaled as i64,
            currency,
        })
    }

    /// The amount as a JSON number of major units: `450.5` for 45050 euro cents.
    #[expect(clippy::cast_precision_loss, reason = "amounts stay below 2^53 minor units")]
    pub fn major(self) -> f64 {
        self.minor as f64 / 10_f64.powi(i32::try_from(self.currency.exponent()).unwrap_or_default())
    }

    /// The sum, if both have one currency and it fits.
    pub fn checked_add(self, other: Self) -> Result<Self, CurrencyMismatch> {
        if self.currency != other.currency {
            return Err(CurrencyMismatch);
        }
        let minor = self.minor.checked_add(other.minor).ok_or(CurrencyMismatch)?;
        Ok(Self { minor, ..self })
    }

    /// The amount times a whole number; saturates at the ends of the range.
    #[must_use]
    pub const fn times(self, factor: i64) -> Self {
        Self {
            minor: self.minor.saturating_mul(factor),
            currency: self.currency,
        }
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.currency.exponent() as usize;
        write!(f, "{:.digits$} {}", self.major(), self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponent_is_the_currencys_own() {
        let yen: Currency = "jpy".parse().unwrap();
        let dinar: Currency = "KWD".parse().unwrap();
        assert_eq!(Money::from_major(450.0, yen).unwrap().minor, 450);
        assert_eq!(Money::from_major(4.5, dinar).unwrap().minor, 4_500);
        assert_eq!(Money::from_major(299.5, Currency::EUR).unwrap().minor, 29_950);
        assert_eq!(Money::new(29_950, Currency::EUR).to_string(), "299.50 EUR");
    }

    proptest::proptest! {
        #[test]
        fn major_and_back_keeps_every_cent(minor in -9_999_999_999_i64..9_999_999_999) {
            let money = Money::new(minor, Currency::EUR);
            proptest::prop_assert_eq!(Money::from_major(money.major(), Currency::EUR), Some(money));
        }
    }

    #[test]
    fn what_is_not_a_number_is_not_an_amount() {
        assert!(Money::from_major(f64::NAN, Currency::EUR).is_none());
        assert!(Money::from_major(1e300, Currency::EUR).is_none());
    }
}
