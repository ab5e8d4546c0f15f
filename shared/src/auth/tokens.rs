//! Access tokens and service tokens: EdDSA, key sets, JWKS.
//!
//! contract: core §2.3 (claims, checks, life), §2.8 (service tokens). Algorithm, issuer, audience and type are named
//! explicitly; times are checked here and not by the library, because they come from the clock in [`Sources`].

use std::{fmt, sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

pub use super::keys::{Jwk, Jwks, KeyRing, KeySet, KeySetError};
use super::{Role, jwks::JwksCache};
use crate::{
    id::{SessionId, UserId},
    sources::Sources,
};

/// Clocks of different pods may differ by this much, in seconds.
const LEEWAY: i64 = 5;
/// How long a service token lives.
pub const SERVICE_TOKEN_TTL: Duration = Duration::from_mins(5);
/// Longer tokens are not ours.
const MAX_TOKEN_LENGTH: usize = 4096;
/// Checked tokens that are remembered, so that the signature of a hot token is not checked with every request.
const REMEMBERED_TOKENS: u64 = 20_000;

/// What tokens say about where they come from and whom they are for. The same in every pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenPolicy {
    /// `iss` (`JWT_ISSUER`).
    pub issuer: String,
    /// `aud` of access tokens (`JWT_AUDIENCE`).
    pub audience: String,
    /// `aud` of service tokens (`INTERNAL_TOKEN_AUDIENCE`).
    pub internal_audience: String,
    /// The life of an access token (`ACCESS_TOKEN_TTL`).
    pub access_ttl: Duration,
}

impl Default for TokenPolicy {
    fn default() -> Self {
        Self {
            issuer: "dreamscape".to_owned(),
            audience: "dreamscape-api".to_owned(),
            internal_audience: "internal".to_owned(),
            access_ttl: Duration::from_mins(15),
        }
    }
}

/// The claims of an access token.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessClaims {
    /// The account; the name the original's clients read.
    pub user_id: UserId,
    /// The account again, where standard tools look.
    pub sub: UserId,
    /// Its address.
    pub email: String,
    /// Always `access`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The token's own id, 32 hexadecimal digits.
    pub jti: String,
    /// The session the token belongs to.
    pub sid: SessionId,
    /// The role when the token was made; decisions use the session's.
    pub role: Role,
    /// The issuer.
    pub iss: String,
    /// The audience.
    pub aud: String,
    /// Made at, in seconds.
    pub iat: i64,
    /// Not valid before, in seconds.
    pub nbf: i64,
    /// Dead from, in seconds.
    pub exp: i64,
    /// How the owner of the session proved who they are (RFC 8176); absent in tokens of older releases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// When they did so last, in seconds (OpenID Connect).
    #[serde(rename = "auth_time", default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
}

impl fmt::Debug for AccessClaims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessClaims")
            .field("sub", &self.sub)
            .field("sid", &self.sid)
            .finish_non_exhaustive()
    }
}

/// The claims of a service token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceClaims {
    /// The service: `business-pod`.
    pub sub: String,
    /// Always `service`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The token's own id.
    pub jti: String,
    /// The issuer.
    pub iss: String,
    /// `internal`.
    pub aud: String,
    /// Made at, in seconds.
    pub iat: i64,
    /// Not valid before, in seconds.
    pub nbf: i64,
    /// Dead from, in seconds.
    pub exp: i64,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    /// Malformed, wrongly signed, for somebody else, or of an unknown key.
    #[error("the token is not valid")]
    Invalid,
    /// Everything is right but the time; the claims serve the rule of expired bearers with a live cookie.
    #[error("the token has expired")]
    Expired(Arc<AccessClaims>),
    /// A good token of another type.
    #[error("the token is of another type")]
    WrongType,
    /// The public keys could not be fetched, so nobody can tell.
    #[error("the public keys are not known yet")]
    KeysUnavailable,
}

/// A token could not be signed. Does not happen after the self-test of the key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token could not be signed")]
pub struct SignError;

/// Whom an access token is made for.
#[derive(Clone)]
pub struct Grant {
    /// The account.
    pub user: UserId,
    /// Its address.
    pub email: String,
    /// Its role.
    pub role: Role,
    /// The session.
    pub session: SessionId,
    /// How its owner proved who they are.
    pub amr: Vec<String>,
    /// When they did so last, in seconds; `None`: not said.
    pub auth_time: Option<i64>,
}

/// Makes tokens; only the core pod has one.
#[derive(Debug, Clone)]
pub struct Signer {
    keys: KeyRing,
    policy: TokenPolicy,
    sources: Sources,
}

impl Signer {
    /// Signs with the signing key of `keys`.
    pub fn new(keys: impl Into<KeyRing>, policy: TokenPolicy, sources: Sources) -> Self {
        Self {
            keys: keys.into(),
            policy,
            sources,
        }
    }

    /// How long access tokens live.
    pub fn access_ttl(&self) -> Duration {
        self.policy.access_ttl
    }

    /// An access token.
    pub fn access(&self, grant: &Grant) -> Result<String, SignError> {
        let (now, jti) = self.stamp();
        self.sign(&AccessClaims {
            user_id: grant.user,
            sub: grant.user,
            email: grant.email.clone(),
            kind: "access".to_owned(),
            jti,
            sid: grant.session,
            role: grant.role,
            iss: self.policy.issuer.clone(),
            aud: self.policy.audience.clone(),
            iat: now,
            nbf: now,
            exp: now.saturating_add(seconds(self.policy.access_ttl)),
            amr: grant.amr.clone(),
            auth_time: grant.auth_time,
        })
    }

    /// A service token for `service`.
    pub fn service(&self, service: &str) -> Result<String, SignError> {
        let (now, jti) = self.stamp();
        self.sign(&ServiceClaims {
            sub: service.to_owned(),
            kind: "service".to_owned(),
            jti,
            iss: self.policy.issuer.clone(),
            aud: self.policy.internal_audience.clone(),
            iat: now,
            nbf: now,
            exp: now.saturating_add(seconds(SERVICE_TOKEN_TTL)),
        })
    }

    /// Any claims, for tests that need a token of another type or life.
    #[doc(hidden)]
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, SignError> {
        let mut header = Header::new(Algorithm::EdDSA);
        let keys = self.keys.current();
        header.kid = Some(keys.kid().to_owned());
        jsonwebtoken::encode(&header, claims, keys.encoding_key()).map_err(|_| SignError)
    }

    fn stamp(&self) -> (i64, String) {
        (
            self.sources.now().timestamp(),
            self.sources.uuid_v4().simple().to_string(),
        )
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Where a verifier's public keys come from.
#[derive(Debug, Clone)]
enum KeySource {
    Own(KeyRing),
    Published(JwksCache),
}

/// A token whose signature was good, and the key that made it.
#[derive(Clone)]
struct Remembered {
    claims: Arc<AccessClaims>,
    kid: Arc<str>,
}

/// Checks tokens; every pod has one. Cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    keys: KeySource,
    policy: Arc<TokenPolicy>,
    sources: Sources,
    remembered: moka::sync::Cache<[u8; 32], Remembered>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier over the keys of this process (core pod).
    pub fn own(keys: impl Into<KeyRing>, policy: TokenPolicy, sources: Sources) -> Self {
        Self::new(KeySource::Own(keys.into()), policy, sources)
    }

    /// A verifier over the published keys (the other pods).
    pub fn published(jwks: JwksCache, policy: TokenPolicy, sources: Sources) -> Self {
        Self::new(KeySource::Published(jwks), policy, sources)
    }

    fn new(keys: KeySource, policy: TokenPolicy, sources: Sources) -> Self {
        let remembered = moka::sync::Cache::builder()
            .max_capacity(REMEMBERED_TOKENS)
            // expiry is checked against our clock with every use; this only frees what nobody asks for any more
            .time_to_idle(Duration::from_mins(2))
            .build();
        Self {
            keys,
            policy: Arc::new(policy),
            sources,
            remembered,
        }
    }

    /// The claims of a good access token.
    pub async fn access(&self, token: &str) -> Result<Arc<AccessClaims>, TokenError> {
        if token.len() > MAX_TOKEN_LENGTH {
            return Err(TokenError::Invalid);
        }
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let claims = match self.remembered.get(&digest) {
            // a key that was withdrawn takes the tokens it signed with it
            Some(remembered) if self.knows(&remembered.kid) => remembered.claims,
            _ => self.check_access(token, digest).await?,
        };
        match self.timing(claims.nbf, claims.exp) {
            Timing::Current => Ok(claims),
            Timing::Past => Err(TokenError::Expired(claims)),
            Timing::Future => Err(TokenError::Invalid),
        }
    }

    async fn check_access(&self, token: &str, digest: [u8; 32]) -> Result<Arc<AccessClaims>, TokenError> {
        let kid = header_kid(token)?;
        let raw: serde_json::Value = self.decode(token, &kid, &self.policy.audience).await?;
        if raw.get("type").and_then(serde_json::Value::as_str) != Some("access") {
            return Err(TokenError::WrongType);
        }
        let claims: AccessClaims = serde_json::from_value(raw).map_err(|_| TokenError::Invalid)?;
        if claims.sub != claims.user_id {
            return Err(TokenError::Invalid);
        }
        let claims = Arc::new(claims);
        self.remembered.insert(
            digest,
            Remembered {
                claims: Arc::clone(&claims),
                kid: kid.into(),
            },
        );
        Ok(claims)
    }

    /// The claims of a good service token; an expired one is invalid.
    pub async fn service(&self, token: &str) -> Result<ServiceClaims, TokenError> {
        let kid = header_kid(token)?;
        let claims: ServiceClaims = self.decode(token, &kid, &self.policy.internal_audience).await?;
        if claims.kind != "service" {
            return Err(TokenError::WrongType);
        }
        match self.timing(claims.nbf, claims.exp) {
            Timing::Current => Ok(claims),
            Timing::Past | Timing::Future => Err(TokenError::Invalid),
        }
    }

    async fn decode<T: DeserializeOwned>(&self, token: &str, kid: &str, audience: &str) -> Result<T, TokenError> {
        let key = self.key(kid).await?;
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.algorithms = vec![Algorithm::EdDSA];
        rules.set_issuer(&[&self.policy.issuer]);
        rules.set_audience(&[audience]);
        rules.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        rules.validate_exp = false;
        rules.validate_nbf = false;
        jsonwebtoken::decode::<T>(token, &key, &rules)
            .map(|data| data.claims)
            .map_err(|_| TokenError::Invalid)
    }

    async fn key(&self, kid: &str) -> Result<DecodingKey, TokenError> {
        match &self.keys {
            KeySource::Own(keys) => keys.current().public().get(kid).cloned().ok_or(TokenError::Invalid),
            KeySource::Published(jwks) => jwks.key(kid).await,
        }
    }

    fn knows(&self, kid: &str) -> bool {
        match &self.keys {
            KeySource::Own(keys) => keys.current().public().get(kid).is_some(),
            KeySource::Published(jwks) => jwks.knows(kid),
        }
    }

    fn timing(&self, nbf: i64, exp: i64) -> Timing {
        let now = self.sources.now().timestamp();
        if now >= exp.saturating_add(LEEWAY) {
            Timing::Past
        } else if now < nbf.saturating_sub(LEEWAY) {
            Timing::Future
        } else {
            Timing::Current
        }
    }
}

enum Timing {
    Current,
    Past,
    Future,
}

/// The key's name in the header; refuses what is too long or names another algorithm before any work is done.
fn header_kid(token: &str) -> Result<String, TokenError> {
    if token.len() > MAX_TOKEN_LENGTH {
        return Err(TokenError::Invalid);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
    if header.alg != Algorithm::EdDSA {
        return Err(TokenError::Invalid);
    }
    header.kid.ok_or(TokenError::Invalid)
}
