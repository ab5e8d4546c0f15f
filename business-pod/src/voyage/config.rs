//! Settings of the voyage service.
//!
//! contract: voyage §1 (limits), §7.4 (price policy), §11

use std::time::Duration;

use chrono::TimeDelta;
use shared::{config::Reader, http::limit::Rule, rate_limit_rule};

/// What happens at checkout to a line that nobody quoted and nobody can quote (voyage §7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PricePolicy {
    /// Refused: 409 `ITEM_UNAVAILABLE`.
    Strict,
    /// Sold at the price the client named. Only where no real money moves.
    Lenient,
}

/// Settings of carts, checkouts and bookings.
#[derive(Debug, Clone)]
pub struct VoyageConfig {
    /// How long a cart lives after its last use.
    pub cart_life: TimeDelta,
    /// How long a booking may be paid.
    pub payment_window: TimeDelta,
    /// What to do with lines nobody quoted.
    pub price_policy: PricePolicy,
    /// Whether the payment key moves real money. Then an offline offer is never payable.
    pub live_payments: bool,
    /// Whether cookies carry `Secure`.
    pub secure_cookies: bool,
    /// Requests of callers without an account, per address.
    pub anonymous_rule: Rule,
    /// Requests of an account.
    pub user_rule: Rule,
}

impl Default for VoyageConfig {
    fn default() -> Self {
        let quarter = Duration::from_mins(15);
        Self {
            cart_life: TimeDelta::minutes(30),
            payment_window: TimeDelta::minutes(30),
            price_policy: PricePolicy::Strict,
            live_payments: false,
            secure_cookies: true,
            anonymous_rule: Rule::new("voyage.anonymous", 600, quarter),
            user_rule: Rule::new("voyage.user", 1200, quarter),
        }
    }
}

impl VoyageConfig {
    /// Reads the settings. `live_payments`: whether the payment service's key moves real money; `secure_cookies`: what the
    /// HTTP kit says of cookies.
    pub fn read(reader: &mut Reader, live_payments: bool, secure_cookies: bool) -> Self {
        let defaults = Self::default();
        let cart_life = seconds(
            reader,
            "CART_TTL_SECONDS",
            1800,
            "seconds a cart lives after its last use",
        );
        let payment_window = seconds(
            reader,
            "BOOKING_PAYMENT_WINDOW_SECONDS",
            1800,
            "seconds in which a booking must be paid",
        );
        let default_policy = if reader.production() { "strict" } else { "lenient" };
        let policy = reader.or(
            "VOYAGE_PRICE_POLICY",
            default_policy.to_owned(),
            "`strict` refuses lines at checkout that no provider quoted; `lenient` sells them at the client's price, test payment keys only",
        );
        let price_policy = match policy.as_str() {
            "strict" => PricePolicy::Strict,
            "lenient" if live_payments && reader.is_set("VOYAGE_PRICE_POLICY") => {
                reader.problem("VOYAGE_PRICE_POLICY: `lenient` is not possible with a live payment key");
                PricePolicy::Strict
            }
            "lenient" if live_payments => PricePolicy::Strict,
            "lenient" => PricePolicy::Lenient,
            other => {
                reader.problem(format!(
                    "VOYAGE_PRICE_POLICY: `{other}` is neither `strict` nor `lenient`"
                ));
                PricePolicy::Strict
            }
        };
        Self {
            cart_life,
            payment_window,
            price_policy,
            live_payments,
            secure_cookies,
            anonymous_rule: rate_limit_rule!(reader, "VOYAGE_ANONYMOUS", defaults.anonymous_rule),
            user_rule: rate_limit_rule!(reader, "VOYAGE_USER", defaults.user_rule),
        }
    }
}

fn seconds(reader: &mut Reader, name: &'static str, default: i64, help: &'static str) -> TimeDelta {
    let seconds = reader.or(name, default, help);
    if !(60..=86_400).contains(&seconds) {
        reader.problem(format!("{name}: must be between 60 and 86400"));
        return TimeDelta::seconds(default);
    }
    TimeDelta::seconds(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(pairs: &[(&str, &str)]) -> Reader {
        Reader::from_pairs(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn production_is_strict_unless_told_otherwise() {
        let mut production = reader(&[("APP_ENV", "production")]);
        assert_eq!(
            VoyageConfig::read(&mut production, false, true).price_policy,
            PricePolicy::Strict
        );
        let mut development = reader(&[]);
        assert_eq!(
            VoyageConfig::read(&mut development, false, false).price_policy,
            PricePolicy::Lenient
        );
    }

    #[test]
    fn lenient_prices_never_meet_a_live_key() {
        let mut told = reader(&[("VOYAGE_PRICE_POLICY", "lenient")]);
        assert_eq!(
            VoyageConfig::read(&mut told, true, true).price_policy,
            PricePolicy::Strict
        );
        assert!(told.finish().is_err());
    }
}
