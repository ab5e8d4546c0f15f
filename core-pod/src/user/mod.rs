//! The user service: settings, the profile as clients show it, and notifications.
//!
//! contract: core §5.1 (GET), §5.8 (list, unread, mark read), §7 (consumed events)
//!
//! Accounts belong to the auth service; this service reads them through the view `auth.accounts` and hears of new ones by
//! `user.created`.

mod admin;
mod ai;
pub mod audit;
mod consumer;
mod favorites;
pub mod gdpr;
mod handlers;
mod history;
mod messages;
mod model;
mod notifications;
mod onboarding;
mod origin;
mod profile;
mod realtime;
mod store;

use axum::{Router, extract::FromRef};
use shared::{
    auth::Authenticator,
    config::Reader,
    crypto::Cipher,
    db::{Db, Service, migrate::Migrations},
    http::limit::{RateLimiter, Rule},
    rate_limit_rule,
    redis::Redis,
    sources::Sources,
};

pub use admin::Business;
pub use consumer::UserEvents;

use crate::{
    auth::{StepUp, client::Accounts},
    mail::Mailer,
};

/// The user service.
#[derive(Debug, Clone, Copy)]
pub enum User {}

impl Service for User {
    const NAME: &'static str = "user-service";
    const SCHEMA: &'static str = "users";
}

/// The migrations of this service.
pub fn migrations() -> Migrations {
    Migrations::new::<User>(sqlx::migrate!("../migrations/user"))
}

/// The settings of the user service.
#[derive(Debug, Clone, Copy)]
pub struct UserConfig {
    /// Requests of one caller.
    pub limit: Rule,
    /// The privacy area.
    pub gdpr: gdpr::GdprConfig,
}

impl UserConfig {
    /// Reads the settings (core §1.10).
    pub fn read(reader: &mut Reader) -> Self {
        let quarter = std::time::Duration::from_mins(15);
        Self {
            limit: rate_limit_rule!(reader, "USER", Rule::new("user", 1_000, quarter)),
            gdpr: gdpr::GdprConfig::read(reader),
        }
    }
}

/// What the handlers work with. Cheap to clone.
#[derive(Debug, Clone, FromRef)]
pub struct UserState {
    db: Db<User>,
    redis: Redis,
    sources: Sources,
    authenticator: Authenticator,
    limiter: RateLimiter,
    accounts: Accounts,
    mailer: Mailer,
    cipher: Cipher,
    business: Business,
    config: UserConfig,
    audit: audit::Audit,
}

impl UserState {
    /// The service over its database.
    pub fn new(
        config: UserConfig,
        db: Db<User>,
        redis: Redis,
        limiter: RateLimiter,
        authenticator: Authenticator,
        accounts: Accounts,
        cipher: Cipher,
        business: Business,
        sources: Sources,
    ) -> Self {
        Self {
            db,
            redis,
            sources,
            authenticator,
            limiter,
            mailer: accounts.mailer(),
            accounts,
            cipher,
            business,
            config,
            audit: audit::Audit::default(),
        }
    }

    /// The queue of the log of accesses.
    pub fn audit(&self) -> &audit::Audit {
        &self.audit
    }
}

/// For handlers that want a recent proof: `RecentlyAuthenticated`.
impl FromRef<UserState> for StepUp {
    fn from_ref(state: &UserState) -> Self {
        state.accounts.step_up()
    }
}

/// The routes of the service.
pub fn router(state: &UserState) -> Router {
    handlers::routes(state)
}

/// Their description.
pub fn openapi() -> utoipa::openapi::OpenApi {
    handlers::openapi()
}
