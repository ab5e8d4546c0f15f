//! The core pod: gateway, auth and user in one process.
//!
//! contract: core §1.1 (listeners), §6 (health), §7 (events)

pub mod auth;
mod config;
mod openapi;
pub mod user;
mod workers;

use std::{sync::Arc, time::Duration};

use axum::Router;
use shared::{
    config::Reader,
    db::{Db, migrate::Migrations},
    gateway::Gateway,
    health::{self, Check, Health},
    http::{HttpConfig, Kit, limit},
    lifecycle::Tasks,
    pod::{Addresses, Listeners, Pod, Port, Server},
    redis::Redis,
    sources::Sources,
    telemetry::VERSION,
};

pub use config::Config;

use auth::{Auth, AuthState, client::Accounts};
use user::{Business, User, UserState};

/// The pod.
#[derive(Debug, Clone, Copy)]
pub struct CorePod;

impl Pod for CorePod {
    const NAME: &'static str = "core-pod";
    const ABOUT: &'static str = "Accounts, sessions, profiles and notifications, and the gateway over all services";
    type Config = Config;

    fn read(reader: &mut Reader) -> Config {
        Config::read(reader)
    }

    fn listeners(reader: &mut Reader) -> Addresses {
        let public = Port {
            setting: "GATEWAY_PORT",
            development: 3000,
        };
        let metrics = Port {
            setting: "CORE_METRICS_PORT",
            development: 9090,
        };
        let auth = Port {
            setting: "AUTH_PORT",
            development: 3001,
        };
        let user = Port {
            setting: "USER_PORT",
            development: 3002,
        };
        Addresses::read(reader, public, metrics, &[("auth", auth), ("user", user)])
    }

    fn migrations() -> Vec<Migrations> {
        // the user service reads a view of auth
        vec![auth::migrations(), user::migrations()]
    }

    fn openapi() -> utoipa::openapi::OpenApi {
        openapi::document()
    }

    async fn serve(config: Config, listeners: Listeners, tasks: Tasks) -> anyhow::Result<()> {
        let services = Services::build(&config, Sources::system())?;
        workers::start(&config, &services, &tasks)?;

        let environment = config.environment_name();
        let health = services.health(environment, &tasks);
        let gateway = Gateway::new(config.gateway, config.http.trusted_proxies.clone(), tasks.clone());
        gateway.start_probes();
        let gateway_health = gateway.health().in_process(Self::NAME, environment, &tasks);
        let parts = vec![gateway_health, health.auth.clone(), health.user.clone()];
        let pod_health = Health::of_pod(Self::NAME, "Core Pod", parts).in_process(Self::NAME, environment, &tasks);

        let limiter = services.limiter.clone();
        let admission = limit::ListenerLimit::new(limiter, config.gateway_rule, limit::Subject::Address);
        let kit = Kit::new("gateway", &config.http, Some(Arc::new(admission.with_legacy_headers())));
        let kits = Kits::new(&config.http);
        let local = kits
            .auth
            .routes(auth::router(&services.auth))
            .merge(kits.user.routes(user::router(&services.user)))
            .merge(kit.routes(health::routes(pod_health.clone())))
            .merge(kit.routes(health::alias("/api/v1/auth/health", health.auth.clone())))
            .merge(kit.routes(health::alias("/api/v1/users/health", health.user.clone())));
        let remote = kit.clone().proxying().routes(gateway.router());
        let public = kit.front_of_gateway(local, remote);

        Server::new(listeners, &tasks)
            .service(
                "auth",
                kits.auth
                    .wrap(auth::router(&services.auth).merge(own_health("/api/v1/auth/health", health.auth))),
            )
            .service(
                "user",
                kits.user
                    .wrap(user::router(&services.user).merge(own_health("/api/v1/users/health", health.user))),
            )
            .run(public, pod_health)
            .await;
        Ok(())
    }
}

/// The health of a service on its own listener, with its alias (core §4.11).
fn own_health(alias: &str, health: Health) -> Router {
    health::routes(health.clone()).merge(health::alias(alias, health))
}

/// The kits of the services, with the bounds of core §1.3 and §3.2. Their rate limits are their own, by route: the other
/// pods ask from few addresses.
#[derive(Debug)]
struct Kits {
    auth: Kit,
    user: Kit,
}

impl Kits {
    fn new(http: &HttpConfig) -> Self {
        let auth = Kit::new("auth-service", http, None).no_store().uncompressed();
        let user = Kit::new("user-service", http, None).no_store();
        Self {
            auth: auth.with_timeout(Duration::from_secs(10)).with_body_limit(64 * 1024),
            user: user.with_timeout(Duration::from_secs(15)),
        }
    }
}

/// The services of the pod over their back ends.
#[derive(Debug, Clone)]
pub struct Services {
    /// The auth service.
    pub auth: AuthState,
    /// The user service.
    pub user: UserState,
    auth_db: Db<Auth>,
    user_db: Db<User>,
    redis: Redis,
    limiter: limit::RateLimiter,
    sources: Sources,
}

impl Services {
    /// Connects lazily: PostgreSQL, Redis and Kafka may come later.
    pub fn build(config: &Config, sources: Sources) -> anyhow::Result<Self> {
        let redis = Redis::connect(&config.redis)?;
        let auth_db = Db::connect_lazy(&config.auth_database);
        let user_db = Db::connect_lazy(&config.user_database);
        Self::over(config, auth_db, user_db, redis, sources)
    }

    /// Over given back ends, for tests.
    pub fn over(
        config: &Config,
        auth_db: Db<Auth>,
        user_db: Db<User>,
        redis: Redis,
        sources: Sources,
    ) -> anyhow::Result<Self> {
        let limiter = limit::RateLimiter::new(redis.clone(), config.limits);
        let auth = AuthState::new(
            config.auth.clone(),
            config.cipher.clone(),
            auth_db.clone(),
            redis.clone(),
            limiter.clone(),
            &config.http.cors_origins,
            sources.clone(),
        )?;
        let user = UserState::new(
            config.user,
            user_db.clone(),
            redis.clone(),
            limiter.clone(),
            auth.authenticator(),
            Accounts::new(auth.clone()),
            config.cipher.clone(),
            Business::new(&config.gateway, auth.signer())?,
            sources.clone(),
        );
        Ok(Self {
            auth,
            user,
            auth_db,
            user_db,
            redis,
            limiter,
            sources,
        })
    }

    /// Both services behind one router, as on the public listener.
    pub fn router(&self, http: &HttpConfig) -> Router {
        let kits = Kits::new(http);
        let merged = kits
            .auth
            .routes(auth::router(&self.auth))
            .merge(kits.user.routes(user::router(&self.user)));
        kits.auth.front(merged)
    }

    /// Deletes sessions that ended long ago, as the hourly job does.
    pub async fn purge_sessions(&self) -> sqlx::Result<u64> {
        auth::purge_sessions(&self.auth_db, &self.sources).await
    }

    /// Writes the entries of the log of accesses that wait, as its worker does.
    pub async fn flush_audit(&self) -> sqlx::Result<usize> {
        self.user.audit().flush(&self.user_db).await
    }

    fn health(&self, environment: &'static str, tasks: &Tasks) -> ServiceHealth {
        let mut auth = vec![Check::postgres(&self.auth_db, auth::migrations())];
        auth.extend(Check::redis(&self.redis));
        let mut user = vec![Check::postgres(&self.user_db, user::migrations())];
        user.extend(Check::redis(&self.redis));
        ServiceHealth {
            auth: Health::new("auth-service", VERSION, auth).in_process(CorePod::NAME, environment, tasks),
            user: Health::new("user-service", VERSION, user).in_process(CorePod::NAME, environment, tasks),
        }
    }
}

struct ServiceHealth {
    auth: Health,
    user: Health,
}
