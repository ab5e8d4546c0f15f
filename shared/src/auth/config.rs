//! The settings of identity, and the authenticator of the pods that are not the core pod.
//!
//! contract: core §12

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use secrecy::SecretString;

use super::{
    Authenticator, PlatformAuthenticator,
    jwks::JwksCache,
    remote::RemoteSessions,
    service::ServiceTokens,
    session::Sessions,
    tokens::{TokenPolicy, Verifier},
};
use crate::{config::Reader, gateway::Target, redis::Redis, sources::Sources};

/// What a pod proves itself with in development, where nothing is configured. Refused in production by construction:
/// there the secret is required.
pub const DEVELOPMENT_CLIENT_SECRET: &str = "development-only-client-secret";

const SECRET: &str = "SERVICE_CLIENT_SECRET";
const SECRET_HELP: &str = "secret of this pod at the auth service";

/// A span of time with a unit, as the original's environment files write it: `15m`, `7d`, `900s`, `900`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
        let count: u64 = digits.parse().map_err(|_| "not a span of time like `15m`")?;
        let unit: u64 = match text.get(digits.len()..).unwrap_or_default() {
            "" | "s" => 1,
            "m" => 60,
            "h" => 60 * 60,
            "d" => 24 * 60 * 60,
            _ => return Err("the unit is s, m, h or d"),
        };
        match count.checked_mul(unit) {
            Some(seconds @ 1..) => Ok(Self(Duration::from_secs(seconds))),
            _ => Err("a span of time is at least one second"),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        for (unit, name) in [(24 * 60 * 60, "d"), (60 * 60, "h"), (60, "m")] {
            if seconds >= unit && seconds.is_multiple_of(unit) {
                return write!(f, "{}{name}", seconds / unit);
            }
        }
        write!(f, "{seconds}s")
    }
}

impl TokenPolicy {
    /// Reads `JWT_ISSUER`, `JWT_AUDIENCE`, `INTERNAL_TOKEN_AUDIENCE` and `ACCESS_TOKEN_TTL`.
    pub fn read(reader: &mut Reader) -> Self {
        let default = Self::default();
        Self {
            issuer: reader.or(
                "JWT_ISSUER",
                default.issuer,
                "`iss` of all tokens; the same in every pod",
            ),
            audience: reader.or(
                "JWT_AUDIENCE",
                default.audience,
                "`aud` of access tokens; the same in every pod",
            ),
            internal_audience: reader.or(
                "INTERNAL_TOKEN_AUDIENCE",
                default.internal_audience,
                "`aud` of service tokens; the same in every pod",
            ),
            access_ttl: reader
                .or(
                    "ACCESS_TOKEN_TTL",
                    Span(default.access_ttl),
                    "life of an access token, like `15m`",
                )
                .0,
        }
    }
}

/// Where a pod other than the core pod finds the public keys, and what it asks of a token.
#[derive(Debug, Clone)]
pub struct PublishedKeysConfig {
    policy: TokenPolicy,
    jwks_url: String,
    auth_url: String,
}

impl PublishedKeysConfig {
    /// Reads `AUTH_SERVICE_URL`, `JWKS_URL` and what [`TokenPolicy::read`] reads.
    pub fn read(reader: &mut Reader) -> Self {
        let policy = TokenPolicy::read(reader);
        let auth_url: String = reader.or(
            "AUTH_SERVICE_URL",
            Target::Auth.default_address(reader),
            "address of the auth service",
        );
        let default_jwks = format!("{}/.well-known/jwks.json", auth_url.trim_end_matches('/'));
        let jwks_url = reader.or("JWKS_URL", default_jwks, "where the core pod publishes its public keys");
        Self {
            policy,
            jwks_url,
            auth_url,
        }
    }

    /// Checks tokens; the cache's [`JwksCache::keep_fresh`] must run as a task of the pod.
    pub fn verifier(&self, http: &reqwest::Client, sources: Sources) -> (Verifier, JwksCache) {
        let jwks = JwksCache::new(self.jwks_url.clone(), http.clone());
        let verifier = Verifier::published(jwks.clone(), self.policy.clone(), sources);
        (verifier, jwks)
    }
}

/// What a pod other than the core pod needs in order to know its callers.
#[derive(Debug, Clone)]
pub struct RemoteIdentityConfig {
    published: PublishedKeysConfig,
    client_id: String,
    client_secret: Option<SecretString>,
}

impl RemoteIdentityConfig {
    /// Reads the settings; `client_id` is the pod's own name, the default of `SERVICE_CLIENT_ID`.
    pub fn read(reader: &mut Reader, client_id: &'static str) -> Self {
        let published = PublishedKeysConfig::read(reader);
        let client_id = reader.or(
            "SERVICE_CLIENT_ID",
            client_id.to_owned(),
            "name of this pod at the auth service",
        );
        let client_secret = if reader.production() {
            reader.required_secret(SECRET, SECRET_HELP)
        } else {
            reader
                .secret(SECRET, SECRET_HELP)
                .or_else(|| Some(DEVELOPMENT_CLIENT_SECRET.into()))
        };
        Self {
            published,
            client_id,
            client_secret,
        }
    }

    /// The authenticator and what keeps it going. `origins` is the allow-list of the CORS policy.
    pub fn build(&self, http: &reqwest::Client, redis: Redis, origins: &[String], sources: Sources) -> RemoteIdentity {
        let (verifier, jwks) = self.published.verifier(http, sources);
        let auth_url = &self.published.auth_url;
        let tokens = ServiceTokens::new(
            http.clone(),
            auth_url,
            self.client_id.clone(),
            self.client_secret.clone(),
        );
        let source = RemoteSessions::new(http.clone(), auth_url, tokens.clone());
        let sessions = Sessions::new(Arc::new(source)).sharing(redis);
        let authenticator = PlatformAuthenticator::new(verifier, sessions, origins).into_state();
        RemoteIdentity {
            authenticator,
            jwks,
            tokens,
        }
    }
}

/// Identity in a pod other than the core pod.
#[derive(Debug, Clone)]
pub struct RemoteIdentity {
    /// For the states of the services.
    pub authenticator: Authenticator,
    /// Its [`JwksCache::keep_fresh`] must run as a task of the pod.
    pub jwks: JwksCache,
    /// For calls to services of other pods.
    pub tokens: ServiceTokens,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_reads_back_from_its_text() {
        for text in ["15m", "7d", "1h", "45s"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("900".parse::<Span>().unwrap().to_string(), "15m");
        for text in ["", "m", "-1m", "0s", "15 parsecs", "99999999999999999999d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
