//! The auth service: accounts, sessions, tokens.
//!
//! contract: core §2, §4.1-4.3, §4.6-4.8, §14 (JWKS)
//!
//! Others meet it in three ways: by its tokens (checked with the published keys), by `verify-token` (other pods, with a
//! service token), and by the read-only view `auth.accounts` (the user service, in the same database).

mod config;
mod cookies;
mod devices;
mod events;
mod federation;
mod fields;
mod handlers;
mod hashing;
mod mfa;
mod model;
mod recovery;
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
        tokens::{KeySet, Signer, Verifier},
    },
    db::{Db, Service, migrate::Migrations},
    http::limit::RateLimiter,
    redis::Redis,
    sources::Sources,
};

pub use config::{AuthConfig, ServiceClient};
pub use hashing::{Hasher, HashingConfig};
pub use seed::{DEMO_ACCOUNTS, DemoAccount, seed_demo_accounts};
pub use sessions::{LocalSessions, keep_purging, purge_sessions};

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
    signer: Signer,
    verifier: Verifier,
    keys: KeySet,
    hasher: Hasher,
    limiter: RateLimiter,
    authenticator: Authenticator,
    origins: Origins,
    config: Arc<AuthConfig>,
}

impl AuthState {
    /// The service over its database; `origins` is the allow-list of the CORS policy.
    pub fn new(
        config: AuthConfig,
        db: Db<Auth>,
        redis: Redis,
        limiter: RateLimiter,
        origins: &[String],
        sources: Sources,
    ) -> anyhow::Result<Self> {
        let keys = config.key_set(&sources)?;
        let signer = Signer::new(keys.clone(), config.tokens.clone(), sources.clone());
        let verifier = Verifier::own(&keys, config.tokens.clone(), sources.clone());
        let local = LocalSessions::new(db.clone(), sources.clone());
        let sessions = Sessions::new(Arc::new(local)).sharing(redis);
        let authenticator = PlatformAuthenticator::new(verifier.clone(), sessions.clone(), origins).into_state();
        let hasher = Hasher::new(config.hashing, &sources)?;
        let (config, origins) = (Arc::new(config), Origins::new(origins));
        Ok(Self {
            db,
            sources,
            sessions,
            signer,
            verifier,
            keys,
            hasher,
            limiter,
            authenticator,
            origins,
            config,
        })
    }

    /// For the gateway, which refuses tokens that are obviously no good before it asks another pod.
    pub fn verifier(&self) -> Verifier {
        self.verifier.clone()
    }

    /// For the other services of this pod and for the gateway.
    pub fn authenticator(&self) -> Authenticator {
        self.authenticator.clone()
    }
}

/// The routes of the service.
pub fn router(state: &AuthState) -> Router {
    handlers::routes(state)
}

/// Their description.
pub fn openapi() -> utoipa::openapi::OpenApi {
    handlers::openapi()
}
