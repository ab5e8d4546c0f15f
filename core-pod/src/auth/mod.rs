//! The auth service: accounts, sessions, tokens.
//!
//! contract: core §2, §4.1-4.3, §4.6-4.8, §14 (JWKS)
//!
//! Others meet it in four ways: by its tokens (checked with the published keys), by `verify-token` (other pods, with a
//! service token), by the read-only view `auth.accounts` and by [`client::Accounts`] (the user service, in the same
//! database and process).

mod breached;
pub mod client;
mod config;
mod cookies;
mod credentials;
mod devices;
mod events;
mod federation;
mod fields;
mod handlers;
mod hashing;
mod identity;
mod keys;
mod known;
mod mfa;
mod model;
mod recovery;
mod security;
mod seed;
mod sessions;
mod store;

use std::sync::Arc;

use axum::{Router, extract::FromRef};
use shared::{
    auth::{
        Authenticator, PlatformAuthenticator,
        authenticator::Origins,
        session::Sessions,
        tokens::{Signer, Verifier},
    },
    crypto::Cipher,
    db::{Db, Service, migrate::Migrations},
    http::limit::RateLimiter,
    redis::Redis,
    sources::Sources,
};

use self::{breached::PasswordFilter, federation::Providers, known::Known, mfa::Passkeys};

pub use config::{AuthConfig, ServiceClient};
pub use devices::{LastSeen, count_people, keep_counting_people, keep_noting};
pub use hashing::{Hasher, HashingConfig};
pub use keys::{KeyError, KeyReport, KeyStatus, SigningKeys};
pub use mfa::{IdentityInfo, PasskeyInfo, RecentlyAuthenticated, StepUp};
#[cfg(feature = "fuzzing")]
pub(crate) use model::Email;
pub use recovery::{EmailChange, RecoveryConfig, answer_requests, keep_answering};
pub use seed::{DEMO_ACCOUNTS, DemoAccount, seed_demo_accounts};
pub use sessions::{LocalSessions, keep_purging, purge_sessions};

use self::recovery::Bell;
use crate::mail::Mailer;

/// The auth service.
#[derive(Debug, Clone, Copy)]
pub enum Auth {}

impl Service for Auth {
    const NAME: &'static str = "auth-service";
    const SCHEMA: &'static str = "auth";
}

/// The migrations of this service.
pub fn migrations() -> Migrations {
    Migrations::new::<Auth>(sqlx::migrate!("../migrations/auth"))
}

/// What the handlers work with. Cheap to clone.
#[derive(Debug, Clone, FromRef)]
pub struct AuthState {
    db: Db<Auth>,
    sources: Sources,
    sessions: Sessions,
    seen: LastSeen,
    known: Known,
    signer: Signer,
    verifier: Verifier,
    keys: SigningKeys,
    hasher: Hasher,
    filter: PasswordFilter,
    limiter: RateLimiter,
    authenticator: Authenticator,
    origins: Origins,
    cipher: Cipher,
    mailer: Mailer,
    bell: Bell,
    step_up: StepUp,
    passkeys: Passkeys,
    providers: Providers,
    config: Arc<AuthConfig>,
}

/// What the service stands on.
#[derive(Debug, Clone)]
pub struct BackEnds {
    /// Its database.
    pub db: Db<Auth>,
    /// Session checks.
    pub redis: Redis,
    /// Rate limits.
    pub limiter: RateLimiter,
    /// Encryption of single fields.
    pub cipher: Cipher,
    /// The queue of outgoing mail.
    pub mailer: Mailer,
    /// Time and randomness.
    pub sources: Sources,
}

impl AuthState {
    /// The service over its back ends; `origins` is the allow-list of the CORS policy.
    pub fn new(config: AuthConfig, back_ends: BackEnds, origins: &[String]) -> anyhow::Result<Self> {
        let BackEnds {
            db,
            redis,
            limiter,
            cipher,
            mailer,
            sources,
        } = back_ends;
        let keys = signing_keys(&config, db.clone(), cipher.clone(), &sources)?;
        let signer = Signer::new(keys.ring(), config.tokens.clone(), sources.clone());
        let verifier = Verifier::own(keys.ring(), config.tokens.clone(), sources.clone());
        let seen = LastSeen::default();
        let known = Known::default();
        let local = LocalSessions::new(db.clone(), sources.clone(), seen.clone(), known.clone());
        let sessions = Sessions::new(Arc::new(local)).sharing(redis);
        let authenticator = PlatformAuthenticator::new(verifier.clone(), sessions.clone(), origins).into_state();
        let hasher = Hasher::new(config.hashing, &sources)?;
        let filter = PasswordFilter::open(&config.breached);
        let step_up = StepUp::new(db.clone(), sources.clone(), &config.second_factor);
        let passkeys = Passkeys::new(&config.second_factor, origins)?;
        let providers = Providers::new(&config.oidc, sources.clone())?;
        let (config, origins) = (Arc::new(config), Origins::new(origins));
        Ok(Self {
            db,
            sources,
            sessions,
            seen,
            known,
            signer,
            verifier,
            keys,
            hasher,
            filter,
            limiter,
            authenticator,
            origins,
            cipher,
            mailer,
            bell: Bell::default(),
            step_up,
            passkeys,
            providers,
            config,
        })
    }

    /// The keys that sign, to be kept fresh and to be rotated.
    pub fn signing_keys(&self) -> SigningKeys {
        self.keys.clone()
    }

    /// For the gateway, which refuses tokens that are obviously no good before it asks another pod.
    pub fn verifier(&self) -> Verifier {
        self.verifier.clone()
    }

    /// Sessions in use, not written down yet.
    pub fn last_seen(&self) -> LastSeen {
        self.seen.clone()
    }

    /// For the other services of this pod: whether a caller's proof is recent enough.
    pub fn step_up(&self) -> StepUp {
        self.step_up.clone()
    }

    /// For this pod's own service tokens, with which it calls the other pods.
    pub fn signer(&self) -> Signer {
        self.signer.clone()
    }

    /// For the other services of this pod and for the gateway.
    pub fn authenticator(&self) -> Authenticator {
        self.authenticator.clone()
    }
}

/// The signing keys of a configuration over a database, for the service and for operators.
pub fn signing_keys(
    config: &AuthConfig,
    db: Db<Auth>,
    cipher: Cipher,
    sources: &Sources,
) -> anyhow::Result<SigningKeys> {
    let configured = config.configured_keys(sources)?;
    let ttl = config.tokens.access_ttl;
    let rotate_after = config.rotate_keys_after;
    Ok(SigningKeys::new(
        configured,
        ttl,
        rotate_after,
        db,
        cipher,
        sources.clone(),
    )?)
}

/// The routes of the service.
pub fn router(state: &AuthState) -> Router {
    handlers::routes(state)
}

/// Their description.
pub fn openapi() -> utoipa::openapi::OpenApi {
    handlers::openapi()
}
