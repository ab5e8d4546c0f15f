//! The user service: profiles and settings, onboarding, notifications and open sockets, and what the AI service may know.
//!
//! contract: core §5, §7 (consumed events)
//!
//! Accounts belong to the auth service; this service reads them through the view `auth.accounts` and hears of new ones by
//! `user.created`.

mod admin;
mod ai;
pub mod audit;
mod callers;
mod consumer;
mod envelope;
mod favorites;
pub mod gdpr;
mod handlers;
mod history;
mod json;
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
    lifecycle::Tasks,
    rate_limit_rule,
    redis::Redis,
    sources::Sources,
};

pub use consumer::UserEvents;
pub use notifications::Notifications;
pub use realtime::{Realtime, RealtimeConfig};

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
    /// Open sockets.
    pub realtime: RealtimeConfig,
    /// The privacy area.
    pub gdpr: gdpr::GdprConfig,
}

impl UserConfig {
    /// Reads the settings (core §1.10).
    pub fn read(reader: &mut Reader) -> Self {
        let quarter = std::time::Duration::from_mins(15);
        Self {
            limit: rate_limit_rule!(reader, "USER", Rule::new("user", 1_000, quarter)),
            realtime: RealtimeConfig::read(reader),
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
    notifications: Notifications,
    realtime: Realtime,
    accounts: Accounts,
    mailer: Mailer,
    cipher: Cipher,
    config: UserConfig,
    audit: audit::Audit,
}

/// What the service is made over.
#[derive(Debug)]
pub struct UserParts<'a> {
    /// Its database.
    pub db: Db<User>,
    /// What replicas share.
    pub redis: Redis,
    /// Rate limits.
    pub limiter: RateLimiter,
    /// Who calls.
    pub authenticator: Authenticator,
    /// The accounts, at the auth service.
    pub accounts: Accounts,
    /// Encryption of single fields.
    pub cipher: Cipher,
    /// The allow-list of the CORS policy.
    pub origins: &'a [String],
    /// Clock and random numbers.
    pub sources: Sources,
}

impl UserState {
    /// The service over its parts.
    pub fn new(config: UserConfig, parts: UserParts<'_>) -> Self {
        let UserParts {
            db,
            redis,
            limiter,
            authenticator,
            accounts,
            cipher,
            origins,
            sources,
        } = parts;
        let notifications = Notifications::new(sources.clone());
        let (shared, auth, clock) = (redis.clone(), authenticator.clone(), sources.clone());
        let realtime = Realtime::new(config.realtime, shared, auth, origins, clock);
        Self {
            db,
            redis,
            sources,
            authenticator,
            limiter,
            notifications,
            realtime,
            mailer: accounts.mailer(),
            accounts,
            cipher,
            config,
            audit: audit::Audit::default(),
        }
    }

    /// The handler of what other services publish.
    pub fn events(&self) -> UserEvents {
        UserEvents::new(self.notifications.clone(), self.sources.clone())
    }

    /// The sockets of this process.
    pub fn realtime(&self) -> &Realtime {
        &self.realtime
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

/// The work between requests: notifications on their way to sockets, and sockets whose session may be over.
pub fn start_workers(state: &UserState, tasks: &Tasks) {
    let pushing = state.clone();
    tasks.supervise("notification-push", move |shutdown| {
        notifications::keep_pushing(pushing.clone(), shutdown)
    });
    let listening = state.clone();
    tasks.supervise("socket-fanout", move |shutdown| {
        realtime::keep_listening(listening.clone(), shutdown)
    });
    let watching = state.clone();
    tasks.supervise("socket-watch", move |shutdown| {
        realtime::keep_watching(watching.clone(), shutdown)
    });
}

/// The routes of the service. What is for other services only is hidden by the gateway of the public listener.
pub fn router(state: &UserState) -> Router {
    handlers::routes(state)
}

/// Its sockets.
pub fn socket_router(state: &UserState) -> Router {
    realtime::router(state)
}

/// Their description.
pub fn openapi() -> utoipa::openapi::OpenApi {
    handlers::openapi()
}
