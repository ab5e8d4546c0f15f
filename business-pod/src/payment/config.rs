//! Settings of the payment service.
//!
//! contract: payment §0 (start-up rules, environment). Without a usable secret key the service answers 503 outside
//! production and stops the start in production; keys of different modes, and a live key outside production, stop it
//! everywhere.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use shared::{config::Reader, http::limit::Rule, money::Currency};
use url::Url;

use super::stripe::StripeSettings;

/// The window of both limits.
const MINUTE: Duration = Duration::from_secs(60);

/// What the payment service needs to know.
#[derive(Debug, Clone)]
pub struct PaymentConfig {
    /// How to reach Stripe; absent without a usable key.
    pub stripe: Option<StripeSettings>,
    /// What Stripe.js starts with.
    pub publishable_key: Option<String>,
    /// Secrets that webhooks may be signed with: the present one, and the previous one during a rotation.
    pub webhook_secrets: Vec<SecretString>,
    /// Currencies that may be charged.
    pub currencies: Vec<Currency>,
    /// Whether the key moves real money.
    pub livemode: bool,
    /// Starting and confirming payments, per caller.
    pub write_limit: Rule,
    /// Reading payments, per caller.
    pub read_limit: Rule,
}

/// Test or live, as the key's prefix says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Test,
    Live,
}

impl Mode {
    /// The mode of a key `<kind>_test_…` or `<kind>_live_…`; `None` for anything else.
    fn of(key: &str, kinds: &[&str]) -> Option<Self> {
        let rest = kinds
            .iter()
            .find_map(|kind| key.strip_prefix(kind)?.strip_prefix('_'))?;
        let (mode, secret) = rest.split_once('_')?;
        match (mode, secret.len()) {
            (_, 0) => None,
            ("test", _) => Some(Self::Test),
            ("live", _) => Some(Self::Live),
            _ => None,
        }
    }
}

impl PaymentConfig {
    /// Reads and checks the settings.
    pub fn read(reader: &mut Reader) -> Self {
        let base = reader.or(
            "STRIPE_API_BASE",
            "https://api.stripe.com".to_owned(),
            "where Stripe's API is",
        );
        let base = Url::parse(&base)
            .map_err(|error| reader.problem(format!("STRIPE_API_BASE: {error}")))
            .ok();
        let version = reader.or(
            "STRIPE_API_VERSION",
            "2023-10-16".to_owned(),
            "Stripe API version that every call is pinned to",
        );
        let timeout = reader.or(
            "STRIPE_TIMEOUT_MS",
            8000_u64,
            "milliseconds for one call to Stripe with its retries",
        );
        let key = secret(
            reader,
            "STRIPE_SECRET_KEY",
            "Stripe's secret or restricted key, `sk_test_…`, `sk_live_…` or `rk_…`",
        );
        let webhook = secret(
            reader,
            "STRIPE_WEBHOOK_SECRET",
            "secret that Stripe signs webhooks with, `whsec_…`",
        );
        let previous = reader.secret(
            "STRIPE_WEBHOOK_SECRET_PREVIOUS",
            "the secret before the last rotation, accepted as well while set",
        );
        let publishable_key = reader.text(
            "STRIPE_PUBLISHABLE_KEY",
            "Stripe's publishable key, `pk_test_…` or `pk_live_…`",
        );
        let production = reader.production();

        let mode = key
            .as_ref()
            .and_then(|key| Mode::of(key.expose_secret(), &["sk", "rk"]));
        let public_mode = publishable_key.as_ref().and_then(|key| Mode::of(key, &["pk"]));
        if production {
            if key.is_some() && mode.is_none() {
                reader.problem("STRIPE_SECRET_KEY is not a key of Stripe's (sk_test_, sk_live_, rk_test_, rk_live_)");
            }
            if public_mode.is_none() {
                reader.problem("STRIPE_PUBLISHABLE_KEY is missing or not a key of Stripe's (pk_test_, pk_live_)");
            }
            if webhook
                .as_ref()
                .is_some_and(|secret| !secret.expose_secret().starts_with("whsec_"))
            {
                reader.problem("STRIPE_WEBHOOK_SECRET is not a signing secret of Stripe's (whsec_)");
            }
        }
        if let (Some(secret), Some(public)) = (mode, public_mode)
            && secret != public
        {
            reader.problem("STRIPE_SECRET_KEY and STRIPE_PUBLISHABLE_KEY are of different modes (test and live)");
        }
        if !production && (mode == Some(Mode::Live) || public_mode == Some(Mode::Live)) {
            reader.problem(
                "STRIPE_SECRET_KEY or STRIPE_PUBLISHABLE_KEY is a live key: live keys are for production only",
            );
        }

        let currencies = currencies(reader);
        Self {
            stripe: key
                .filter(|_| mode.is_some())
                .zip(base)
                .map(|(key, base)| StripeSettings {
                    base: with_trailing_slash(base),
                    version,
                    key,
                    connect_timeout: Duration::from_millis(timeout.min(3000)),
                    timeout: Duration::from_millis(timeout),
                }),
            publishable_key: publishable_key.filter(|_| public_mode.is_some()),
            webhook_secrets: webhook.into_iter().chain(previous).collect(),
            currencies,
            livemode: mode == Some(Mode::Live),
            write_limit: shared::rate_limit_rule!(reader, "PAYMENT_WRITE", Rule::new("payment.write", 20, MINUTE)),
            read_limit: shared::rate_limit_rule!(reader, "PAYMENT_READ", Rule::new("payment.read", 120, MINUTE)),
        }
    }
}

/// Required in production, optional elsewhere.
fn secret(reader: &mut Reader, name: &'static str, help: &'static str) -> Option<SecretString> {
    if reader.production() {
        reader.required_secret(name, help)
    } else {
        reader.secret(name, help)
    }
}

fn currencies(reader: &mut Reader) -> Vec<Currency> {
    let names = reader.list(
        "PAYMENT_CURRENCIES",
        &["EUR", "USD", "GBP", "CHF", "CAD", "AUD", "JPY"],
        "currencies that may be charged",
    );
    let mut currencies = Vec::with_capacity(names.len());
    for name in names {
        match name.parse() {
            Ok(currency) => currencies.push(currency),
            Err(_) => reader.problem(format!("PAYMENT_CURRENCIES: `{name}` is not a currency")),
        }
    }
    currencies
}

/// `Url::join` replaces the last segment of a path that does not end in a slash.
fn with_trailing_slash(mut base: Url) -> Url {
    if !base.path().ends_with('/') {
        base.set_path(&format!("{}/", base.path()));
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (PaymentConfig, Vec<String>) {
        let mut reader = Reader::from_pairs(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let config = PaymentConfig::read(&mut reader);
        let problems = reader.finish().err().map(|errors| errors.0).unwrap_or_default();
        (config, problems)
    }

    const GOOD: [(&str, &str); 3] = [
        ("STRIPE_SECRET_KEY", "sk_live_abcdefgh"),
        ("STRIPE_PUBLISHABLE_KEY", "pk_live_abcdefgh"),
        ("STRIPE_WEBHOOK_SECRET", "whsec_abcdefgh"),
    ];

    #[test]
    fn development_starts_without_any_key_and_without_payments() {
        let (config, problems) = read(&[]);
        assert!(config.stripe.is_none() && problems.is_empty());
    }

    #[test]
    fn production_needs_all_three_and_names_all_that_are_missing() {
        let (_, problems) = read(&[("APP_ENV", "production")]);
        assert_eq!(problems.len(), 3, "{problems:?}");
        let mut complete = GOOD.to_vec();
        complete.push(("APP_ENV", "production"));
        let (config, problems) = read(&complete);
        assert!(problems.is_empty(), "{problems:?}");
        assert!(config.livemode && config.stripe.is_some());
    }

    #[test]
    fn keys_of_different_modes_and_live_keys_outside_production_stop_the_start() {
        let mixed = [
            ("STRIPE_SECRET_KEY", "rk_test_abcdefgh"),
            ("STRIPE_PUBLISHABLE_KEY", "pk_live_abcdefgh"),
            ("APP_ENV", "production"),
            ("STRIPE_WEBHOOK_SECRET", "whsec_abcdefgh"),
        ];
        assert_eq!(read(&mixed).1.len(), 1);
        assert_eq!(read(&GOOD).1.len(), 1);
    }

    #[test]
    fn settings_never_show_a_secret() {
        let (config, _) = read(&GOOD);
        let shown = format!("{config:?}");
        assert!(!shown.contains("sk_live_abcdefgh") && !shown.contains("whsec_abcdefgh"));
    }
}
