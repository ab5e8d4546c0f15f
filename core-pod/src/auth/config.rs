//! The settings of the auth service.
//!
//! contract: core §12, §1.10 (rate limits), §2.4 and §2.5 (life of sessions)

use std::{collections::BTreeMap, time::Duration};

use chrono::TimeDelta;
use secrecy::{ExposeSecret as _, SecretString};
use shared::{
    auth::{
        config::{DEVELOPMENT_CLIENT_SECRET, Span},
        keys::KeyEntry,
        tokens::{KeySet, KeySetError, TokenPolicy},
    },
    config::Reader,
    http::limit::Rule,
    rate_limit_rule,
    sources::Sources,
};

use super::{
    breached::BreachedConfig, federation::OidcConfig, hashing::HashingConfig, keys::Configured, mfa::MfaConfig,
    model::LockoutPolicy, recovery::RecoveryConfig,
};

/// Clients known in development, where nothing is configured.
const DEVELOPMENT_CLIENTS: [&str; 2] = ["business-pod", "experience-pod"];
/// Shorter client secrets can be guessed.
const MIN_CLIENT_SECRET: usize = 24;

/// A pod that may ask for service tokens.
#[derive(Debug, Clone)]
pub struct ServiceClient {
    /// Its secret.
    pub secret: SecretString,
}

/// Where the private keys come from.
#[derive(Debug, Clone)]
enum KeySettings {
    Set(SecretString),
    Single(SecretString),
    /// Development: a fresh key that dies with the process.
    Fresh,
}

/// How often what may be asked.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Failed sign-ins from one address for one account.
    pub login: Rule,
    /// Failed sign-ins from one address.
    pub login_address: Rule,
    /// New accounts from one address.
    pub register: Rule,
    /// Refreshes from one address.
    pub refresh: Rule,
    /// The other routes, by user or address.
    pub other: Rule,
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            login: Rule::new("auth.login", 5, minutes(15)),
            login_address: Rule::new("auth.login.address", 50, minutes(15)),
            register: Rule::new("auth.register", 20, minutes(60)),
            refresh: Rule::new("auth.refresh", 60, minutes(15)),
            other: Rule::new("auth", 300, minutes(15)),
        }
    }
}

impl Limits {
    fn read(reader: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            login: rate_limit_rule!(reader, "AUTH_LOGIN", default.login),
            login_address: rate_limit_rule!(reader, "AUTH_LOGIN_ADDRESS", default.login_address),
            register: rate_limit_rule!(reader, "AUTH_REGISTER", default.register),
            refresh: rate_limit_rule!(reader, "AUTH_REFRESH", default.refresh),
            other: rate_limit_rule!(reader, "AUTH", default.other),
        }
    }
}

impl LockoutPolicy {
    fn read(reader: &mut Reader) -> Self {
        let default = Self::default();
        let policy = Self {
            failures: reader.or(
                "LOCKOUT_FAILURES",
                default.failures,
                "wrong passwords in a row that lock an account",
            ),
            base: reader
                .or(
                    "LOCKOUT_TTL",
                    Span(default.base),
                    "the first lockout, like `15m`; each is twice the one before",
                )
                .0,
            longest: reader
                .or("LOCKOUT_TTL_MAX", Span(default.longest), "the longest lockout")
                .0,
        };
        if policy.failures == 0 {
            reader.problem("LOCKOUT_FAILURES must be at least 1");
        }
        policy
    }
}

/// How long sessions live.
#[derive(Debug, Clone, Copy)]
pub struct SessionPolicy {
    /// Without `rememberMe`, sliding (`REFRESH_TTL_SHORT`).
    pub short: Duration,
    /// With it, sliding (`REFRESH_TTL_LONG`).
    pub long: Duration,
    /// At most, from sign-in.
    pub absolute: Duration,
    /// Live sessions of one account (`MAX_SESSIONS_PER_USER`).
    pub max_per_user: u32,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        let days = |count: u64| Duration::from_secs(count * 24 * 60 * 60);
        Self {
            short: days(7),
            long: days(30),
            absolute: days(90),
            max_per_user: 10,
        }
    }
}

impl SessionPolicy {
    fn read(reader: &mut Reader) -> Self {
        let default = Self::default();
        let policy = Self {
            short: reader
                .or(
                    "REFRESH_TTL_SHORT",
                    Span(default.short),
                    "life of a session without rememberMe, like `7d`",
                )
                .0,
            long: reader
                .or(
                    "REFRESH_TTL_LONG",
                    Span(default.long),
                    "life of a session with rememberMe, like `30d`",
                )
                .0,
            absolute: reader
                .or(
                    "SESSION_TTL_MAX",
                    Span(default.absolute),
                    "life of a session however often refreshed",
                )
                .0,
            max_per_user: reader.or(
                "MAX_SESSIONS_PER_USER",
                default.max_per_user,
                "live sessions of one account",
            ),
        };
        if policy.short > policy.long || policy.long > policy.absolute {
            reader.problem("REFRESH_TTL_SHORT, REFRESH_TTL_LONG and SESSION_TTL_MAX must not decrease in this order");
        }
        if policy.max_per_user == 0 {
            reader.problem("MAX_SESSIONS_PER_USER must be at least 1");
        }
        policy
    }

    /// The sliding life of a session.
    pub fn life(&self, remember_me: bool) -> Duration {
        if remember_me { self.long } else { self.short }
    }
}

/// The settings of the auth service.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// What tokens say.
    pub tokens: TokenPolicy,
    /// How long sessions live.
    pub sessions: SessionPolicy,
    /// When wrong passwords lock an account.
    pub lockout: LockoutPolicy,
    /// Which passwords are refused because everybody knows them.
    pub breached: BreachedConfig,
    /// Password hashing.
    pub hashing: HashingConfig,
    /// Password reset, verification, change of address.
    pub recovery: RecoveryConfig,
    /// Rate limits.
    pub limits: Limits,
    /// Whether cookies carry `Secure`.
    pub secure_cookies: bool,
    /// Whether sign-up needs a first name.
    pub require_first_name: bool,
    /// Second factors, passkeys and step-up.
    pub second_factor: MfaConfig,
    /// Providers to sign in with.
    pub oidc: OidcConfig,
    /// Pods that may ask for service tokens, by id.
    pub clients: BTreeMap<String, ServiceClient>,
    /// How long a signing key of the database signs before the next one does; `None`: until an operator rotates.
    pub rotate_keys_after: Option<TimeDelta>,
    keys: KeySettings,
}

impl AuthConfig {
    /// Reads all settings. `secure_cookies` is that of the HTTP kit.
    pub fn read(reader: &mut Reader, secure_cookies: bool) -> Self {
        let tokens = TokenPolicy::read(reader);
        Self {
            tokens,
            sessions: SessionPolicy::read(reader),
            lockout: LockoutPolicy::read(reader),
            breached: BreachedConfig::read(reader),
            hashing: HashingConfig::read(reader),
            recovery: RecoveryConfig::read(reader),
            limits: Limits::read(reader),
            secure_cookies,
            require_first_name: reader.or("AUTH_REQUIRE_FIRST_NAME", true, "whether sign-up needs a first name"),
            second_factor: MfaConfig::read(reader),
            oidc: OidcConfig::read(reader),
            clients: read_clients(reader),
            rotate_keys_after: read_rotation(reader),
            keys: KeySettings::read(reader),
        }
    }

    /// The defaults of development, for tests.
    pub fn development() -> Self {
        Self::read(&mut Reader::from_pairs([]), false)
    }

    /// The private keys that the configuration names.
    pub fn configured_keys(&self, sources: &Sources) -> Result<Configured, KeySetError> {
        let entries = match &self.keys {
            KeySettings::Set(text) => KeyEntry::parse_list(text.expose_secret())?,
            KeySettings::Single(seed) => vec![KeyEntry::parse_single(seed.expose_secret())?],
            KeySettings::Fresh => vec![KeyEntry::generate(sources)?],
        };
        let ephemeral = matches!(self.keys, KeySettings::Fresh);
        Ok(Configured { entries, ephemeral })
    }

    /// The same with this key set, for tests of rotation.
    #[must_use]
    pub fn with_key_set(mut self, text: &str) -> Self {
        self.keys = KeySettings::Set(text.into());
        self
    }
}

impl KeySettings {
    fn read(reader: &mut Reader) -> Self {
        let set = reader.secret(
            "JWT_KEYSET",
            "JSON list of signing keys, [{\"kid\",\"seed\" (32 bytes, base64url),\"use\":\"sign\"|\"verify\"}]",
        );
        let single = reader.secret(
            "JWT_SIGNING_KEY",
            "one signing key, 32 bytes in base64url; JWT_KEYSET allows rotation",
        );
        let settings = match (set, single) {
            (Some(_), Some(_)) => {
                reader.problem("JWT_KEYSET and JWT_SIGNING_KEY are both set: keep one");
                Self::Fresh
            }
            (Some(text), None) => Self::Set(text),
            (None, Some(seed)) => Self::Single(seed),
            (None, None) => {
                if reader.production() {
                    reader.problem("JWT_KEYSET (or JWT_SIGNING_KEY, each also as _FILE) is missing: keys that tokens are signed with");
                }
                Self::Fresh
            }
        };
        let usable = match &settings {
            Self::Set(text) => KeySet::parse(text.expose_secret()).map(drop),
            Self::Single(seed) => KeySet::single(seed.expose_secret()).map(drop),
            Self::Fresh => Ok(()),
        };
        if let Err(error) = usable {
            reader.problem(format!("JWT_KEYSET or JWT_SIGNING_KEY: {error}"));
        }
        settings
    }
}

/// `JWT_KEY_ROTATION_DAYS`: a key that signs for longer than ten years is a mistake.
fn read_rotation(reader: &mut Reader) -> Option<TimeDelta> {
    let days = reader.or(
        "JWT_KEY_ROTATION_DAYS",
        90_u32,
        "days after which a signing key of the database is replaced, from the first `keys rotate` on; 0: never",
    );
    if days > 3_650 {
        reader.problem("JWT_KEY_ROTATION_DAYS: at most 3650");
    }
    (1..=3_650).contains(&days).then(|| TimeDelta::days(days.into()))
}

/// `SERVICE_CLIENTS`: `business-pod=<secret>,experience-pod=<secret>`.
fn read_clients(reader: &mut Reader) -> BTreeMap<String, ServiceClient> {
    const NAME: &str = "SERVICE_CLIENTS";
    const HELP: &str = "pods that may ask for service tokens: `business-pod=<secret>,experience-pod=<secret>`";
    let production = reader.production();
    let text = if production {
        reader.required_secret(NAME, HELP)
    } else {
        reader.secret(NAME, HELP)
    };
    let Some(text) = text else {
        let clients = DEVELOPMENT_CLIENTS.map(|id| {
            (
                id.to_owned(),
                ServiceClient {
                    secret: DEVELOPMENT_CLIENT_SECRET.into(),
                },
            )
        });
        return if production { BTreeMap::new() } else { clients.into() };
    };
    let mut clients = BTreeMap::new();
    for entry in text
        .expose_secret()
        .split([',', '\n'])
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
    {
        let Some((id, secret)) = entry.split_once('=').map(|(id, secret)| (id.trim(), secret.trim())) else {
            reader.problem(format!("{NAME}: an entry is not `<id>=<secret>`"));
            continue;
        };
        if secret.len() < MIN_CLIENT_SECRET {
            reader.problem(format!(
                "{NAME}: the secret of `{id}` is shorter than {MIN_CLIENT_SECRET} characters"
            ));
        }
        if production && secret == DEVELOPMENT_CLIENT_SECRET {
            reader.problem(format!("{NAME}: the secret of `{id}` is the one of development"));
        }
        if clients
            .insert(id.to_owned(), ServiceClient { secret: secret.into() })
            .is_some()
        {
            reader.problem(format!("{NAME}: `{id}` is listed twice"));
        }
    }
    clients
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<AuthConfig, Vec<String>> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut reader = Reader::from_pairs(pairs);
        let config = AuthConfig::read(&mut reader, true);
        reader.finish().map(|()| config).map_err(|errors| errors.0)
    }

    #[test]
    fn development_needs_nothing() {
        let config = read(&[]).unwrap();
        assert_eq!(config.clients.len(), 2);
        assert!(config.configured_keys(&Sources::system()).unwrap().ephemeral);
    }

    #[test]
    fn production_names_everything_that_is_missing_at_once() {
        let problems = read(&[("APP_ENV", "production")]).unwrap_err().join("\n");
        assert!(
            problems.contains("JWT_KEYSET") && problems.contains("SERVICE_CLIENTS"),
            "{problems}"
        );
    }

    #[test]
    fn production_refuses_the_secret_of_development_and_short_ones() {
        let seed = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let clients = format!("business-pod={DEVELOPMENT_CLIENT_SECRET},experience-pod=short");
        let problems = read(&[
            ("APP_ENV", "production"),
            ("JWT_SIGNING_KEY", seed),
            ("SERVICE_CLIENTS", &clients),
        ]);
        let problems = problems.unwrap_err().join("\n");
        assert!(
            problems.contains("the one of development") && problems.contains("shorter"),
            "{problems}"
        );
        assert!(!problems.contains(DEVELOPMENT_CLIENT_SECRET));
    }
}
