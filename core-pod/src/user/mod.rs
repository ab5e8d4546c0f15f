//! The user service: profile, settings and picture, favourites, history, onboarding, notifications and open sockets, and
//! what the AI service may know.
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
mod fields;
pub mod gdpr;
mod handlers;
mod history;
mod json;
mod notifications;
mod onboarding;
mod origin;
mod profile;
mod realtime;
mod store;
mod unsubscribe;
mod wording;

use std::time::Duration;

use axum::{Router, extract::FromRef};
use shared::{
    auth::Authenticator,
    config::Reader,
    crypto::Cipher,
    db::{Db, Service, migrate::Migrations},
    health::Check,
    http::limit::{RateLimiter, Rule},
    lifecycle::{Shutdown, Tasks},
    objects::ObjectStore,
    rate_limit_rule,
    redis::Redis,
    sources::Sources,
};

pub use admin::Business;
pub use consumer::UserEvents;
pub use notifications::Notifications;
#[cfg(feature = "fuzzing")]
pub(crate) use profile::take_upload;
pub use realtime::{Realtime, RealtimeConfig};

use crate::{
    auth::{StepUp, client::Accounts},
    mail::Mailer,
};
use profile::Pictures;

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
    /// Checks of one caller whether something is a favourite.
    pub checks: Rule,
    /// The privacy area.
    pub gdpr: gdpr::GdprConfig,
}

impl UserConfig {
    /// Reads the settings (core §1.10).
    pub fn read(reader: &mut Reader) -> Self {
        let (minute, quarter) = (Duration::from_mins(1), Duration::from_mins(15));
        Self {
            limit: rate_limit_rule!(reader, "USER", Rule::new("user", 1_000, quarter)),
            realtime: RealtimeConfig::read(reader),
            checks: rate_limit_rule!(reader, "FAVORITES_CHECK", Rule::new("favorites.check", 50, minute)),
            gdpr: gdpr::GdprConfig::read(reader),
        }
    }
}

/// What the service is given.
#[derive(Debug)]
pub struct BackEnds {
    /// Its database.
    pub db: Db<User>,
    /// What replicas share.
    pub redis: Redis,
    /// Counts requests.
    pub limiter: RateLimiter,
    /// Knows callers.
    pub authenticator: Authenticator,
    /// The accounts of the auth service.
    pub accounts: Accounts,
    /// Encrypts single fields.
    pub cipher: Cipher,
    /// Pictures and exports.
    pub objects: ObjectStore,
    /// What changes bookings and payments.
    pub business: Business,
    /// The allow-list of the CORS policy.
    pub origins: Vec<String>,
    /// Clock and chance.
    pub sources: Sources,
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
    objects: ObjectStore,
    pictures: Pictures,
    accounts: Accounts,
    mailer: Mailer,
    cipher: Cipher,
    business: Business,
    config: UserConfig,
    audit: audit::Audit,
}

impl UserState {
    /// The service over what it works with.
    pub fn new(config: UserConfig, back_ends: BackEnds) -> Self {
        let BackEnds {
            db,
            redis,
            limiter,
            authenticator,
            accounts,
            cipher,
            objects,
            business,
            origins,
            sources,
        } = back_ends;
        let notifications = Notifications::new(sources.clone());
        let (shared, auth, clock) = (redis.clone(), authenticator.clone(), sources.clone());
        let realtime = Realtime::new(config.realtime, shared, auth, &origins, clock);
        Self {
            pictures: Pictures::new(objects.clone(), db.clone(), sources.clone()),
            objects,
            db,
            redis,
            sources,
            authenticator: wording::in_our_words(authenticator),
            limiter,
            notifications,
            realtime,
            mailer: accounts.mailer(),
            accounts,
            cipher,
            business,
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

    /// Whether object storage can be reached, for health.
    pub fn objects_check(&self) -> Check {
        self.pictures.check()
    }

    /// Removes objects that nothing refers to any more; says how many.
    pub async fn sweep_objects(&self) -> anyhow::Result<u64> {
        self.pictures.sweep().await
    }

    /// The job around [`Self::sweep_objects`]: every minute until the process drains.
    pub async fn keep_sweeping(self, shutdown: Shutdown) -> anyhow::Result<()> {
        self.pictures.keep_sweeping(shutdown).await
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

/// The routes of the service, but uploads. What is for other services only is hidden by the gateway of the public listener.
pub fn router(state: &UserState) -> Router {
    handlers::routes(state)
}

/// Uploads, which take longer than other requests (experience c.3).
pub fn uploads(state: &UserState) -> Router {
    handlers::uploads(state)
}

/// Its sockets.
pub fn socket_router(state: &UserState) -> Router {
    realtime::router(state)
}

/// Their description.
pub fn openapi() -> utoipa::openapi::OpenApi {
    handlers::openapi()
}
