//! The core pod: gateway, auth and user in one process.
//!
//! contract: core §1.1 (listeners), §6 (health), §7 (events)

pub mod auth;
mod config;
pub mod fault;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod gateway;
pub mod mail;
mod openapi;
mod operate;
pub mod user;
mod workers;

use std::{sync::Arc, time::Duration};

use axum::Router;
use shared::{
    config::Reader,
    db::{Db, migrate::Migrations},
    gateway::Gateway,
    health::{self, Check, Health},
    http::{HttpConfig, Kit, kit::Admission, limit},
    lifecycle::Tasks,
    objects::ObjectStore,
    pod::{Addresses, Listeners, Pod, Port, Server},
    redis::Redis,
    sources::Sources,
    telemetry::VERSION,
};

pub use config::Config;

use auth::{Auth, AuthState, client::Accounts};
use gateway::{EdgeLimit, GatewayState};
use mail::{Mail, MailService};
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
        // the user service reads a view of auth; its health, asked last, also vouches for the queue of mail
        vec![auth::migrations(), mail::migrations(), user::migrations()]
    }

    fn openapi() -> utoipa::openapi::OpenApi {
        openapi::document()
    }

    fn operator_commands() -> Vec<clap::Command> {
        vec![operate::command()]
    }

    async fn operate(config: Config, matches: clap::ArgMatches) -> anyhow::Result<String> {
        operate::run(&config, &matches).await
    }

    async fn serve(config: Config, listeners: Listeners, tasks: Tasks) -> anyhow::Result<()> {
        let services = Services::build(&config, Sources::system())?;
        workers::start(&config, &services, &tasks)?;

        let public = services.public(&config, &tasks);
        public.proxy.start_probes();
        let kits = Kits::new(&config.http);
        let ServiceHealth { auth, user } = public.services;
        Server::new(listeners, &tasks)
            .service(
                "auth",
                kits.auth
                    .wrap(auth::router(&services.auth).merge(own_health("/api/v1/auth/health", auth))),
            )
            .service(
                "user",
                kits.user.front(kits.user_routes(
                    &services.user,
                    own_health("/api/v1/users/health", user).merge(services.mail.development_router()),
                )),
            )
            .run(public.router, public.health)
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
    sockets: Kit,
    uploads: Kit,
}

impl Kits {
    fn new(http: &HttpConfig) -> Self {
        let auth = Kit::new("auth-service", http, None).no_store().uncompressed();
        let user = Kit::new("user-service", http, None).no_store();
        // a poll lasts until there is something to say, at most as long as a ping takes; it is not work in progress
        let patient = HttpConfig {
            max_in_flight: usize::MAX,
            ..http.clone()
        };
        let sockets = Kit::new("realtime", &patient, None).no_store().uncompressed();
        Self {
            auth: auth.with_timeout(Duration::from_secs(10)).with_body_limit(64 * 1024),
            uploads: user.clone().with_timeout(Duration::from_mins(1)),
            user: user.with_timeout(Duration::from_secs(15)),
            sockets: sockets.with_timeout(Duration::from_mins(1)),
        }
    }

    /// The routes of the user service, with others beside them.
    fn user_routes(&self, state: &UserState, more: Router) -> Router {
        let routes = self.user.routes(user::router(state).merge(more));
        routes
            .merge(self.uploads.routes(user::uploads(state)))
            .merge(self.sockets.routes(user::socket_router(state)))
    }
}

/// The services of the pod over their back ends.
#[derive(Debug, Clone)]
pub struct Services {
    /// The auth service.
    pub auth: AuthState,
    /// The user service.
    pub user: UserState,
    /// The mail service.
    pub mail: MailService,
    auth_db: Db<Auth>,
    user_db: Db<User>,
    mail_db: Db<Mail>,
    redis: Redis,
    limiter: limit::RateLimiter,
    gateway: GatewayState,
    sources: Sources,
}

/// The public listener: all services of the pod, the gateway's own routes, and the way to the other pods.
#[derive(Debug)]
pub struct Public {
    /// Everything.
    pub router: Router,
    /// The health of the pod (core §6.4).
    pub health: Health,
    /// The proxy; it watches the other pods once told to.
    pub proxy: Gateway,
    services: ServiceHealth,
}

impl Services {
    /// Connects lazily: PostgreSQL, Redis and Kafka may come later.
    pub fn build(config: &Config, sources: Sources) -> anyhow::Result<Self> {
        let redis = Redis::connect(&config.redis)?;
        let auth_db = Db::connect_lazy(&config.auth_database);
        let user_db = Db::connect_lazy(&config.user_database);
        let mail_db = Db::connect_lazy(&config.mail_database);
        Self::wire(config, auth_db, user_db, mail_db, redis, sources)
    }

    /// Over given back ends, for tests: mail shares the pool of auth.
    pub fn over(
        config: &Config,
        auth_db: Db<Auth>,
        user_db: Db<User>,
        redis: Redis,
        sources: Sources,
    ) -> anyhow::Result<Self> {
        let mail_db = Db::new(auth_db.pool().clone());
        Self::wire(config, auth_db, user_db, mail_db, redis, sources)
    }

    fn wire(
        config: &Config,
        auth_db: Db<Auth>,
        user_db: Db<User>,
        mail_db: Db<Mail>,
        redis: Redis,
        sources: Sources,
    ) -> anyhow::Result<Self> {
        let mail = MailService::new(config.mail.clone(), mail_db.clone(), &config.cipher, sources.clone())?;
        let limiter = limit::RateLimiter::new(redis.clone(), config.limits);
        let auth = AuthState::new(
            config.auth.clone(),
            auth::BackEnds {
                db: auth_db.clone(),
                redis: redis.clone(),
                limiter: limiter.clone(),
                cipher: config.cipher.clone(),
                mailer: mail.mailer(),
                sources: sources.clone(),
            },
            &config.http.cors_origins,
        )?;
        let back_ends = user::BackEnds {
            db: user_db.clone(),
            redis: redis.clone(),
            limiter: limiter.clone(),
            authenticator: auth.authenticator(),
            accounts: Accounts::new(auth.clone()),
            cipher: config.cipher.clone(),
            origins: config.http.cors_origins.clone(),
            objects: ObjectStore::new(&config.objects),
            business: Business::new(&config.gateway, auth.signer())?,
            sources: sources.clone(),
        };
        let user = UserState::new(config.user, back_ends);
        let gateway = GatewayState::new(
            config.edge.clone(),
            redis.clone(),
            limiter.clone(),
            &config.http.cors_origins,
            sources.clone(),
        );
        Ok(Self {
            auth,
            user,
            mail,
            auth_db,
            user_db,
            mail_db,
            redis,
            limiter,
            gateway,
            sources,
        })
    }

    /// Both services behind one router, as on the public listener.
    pub fn router(&self, http: &HttpConfig) -> Router {
        let kits = Kits::new(http);
        let (pages, headsets) = gateway::routers(&self.gateway);
        let kit = Kit::new("gateway", http, None);
        let merged = kits
            .auth
            .routes(auth::router(&self.auth))
            .merge(kits.user_routes(&self.user, self.mail.development_router()))
            .merge(kit.routes(pages))
            .merge(kit.no_store().routes(headsets));
        kits.auth.front(merged)
    }

    /// The public listener with its limits, over the services of this process and the proxy to the others.
    pub fn public(&self, config: &Config, tasks: &Tasks) -> Public {
        let environment = config.environment_name();
        let services = self.health(environment, tasks);
        let proxies = config.http.trusted_proxies.clone();
        let proxy = Gateway::checking(config.gateway.clone(), proxies, self.auth.verifier(), tasks.clone());
        let parts = vec![
            proxy.health().in_process(CorePod::NAME, environment, tasks),
            services.auth.clone(),
            services.user.clone(),
        ];
        let told = proxy.clone();
        let health = Health::of_pod(CorePod::NAME, "Core Pod", parts)
            .in_process(CorePod::NAME, environment, tasks)
            .with_more(move |report| told.report_dependencies(report));

        let rules = config.edge.edge;
        let limit = |bucket| -> Arc<dyn Admission> {
            let services = self.auth.authenticator();
            Arc::new(EdgeLimit::new(self.limiter.clone(), rules.listener, bucket, services))
        };
        let kits = Kits::new(&config.http);
        let auth = kits.auth.with_admission(limit(rules.auth));
        let user = kits.user.with_admission(limit(rules.api));
        let uploads = kits.uploads.with_admission(limit(rules.api));
        let sockets = kits.sockets.with_admission(limit(rules.api));
        let kit = Kit::new("gateway", &config.http, Some(limit(rules.api)));
        let hidden = gateway::Hidden::new(self.auth.authenticator(), proxy.router());
        let hidden = axum::middleware::from_fn_with_state(hidden, gateway::only_services);
        let own = self
            .gateway
            .clone()
            .beside(vec![services.auth.clone(), services.user.clone()], &proxy);
        let (pages, headsets) = gateway::routers(&own);
        let local = auth
            .routes(auth::router(&self.auth))
            .merge(user.routes(user::router(&self.user).layer(hidden)))
            .merge(uploads.routes(user::uploads(&self.user)))
            .merge(sockets.routes(user::socket_router(&self.user)))
            .merge(kit.routes(pages))
            .merge(kit.clone().no_store().routes(headsets))
            .merge(kit.routes(health::routes(health.clone())))
            .merge(kit.routes(health::alias("/api/v1/auth/health", services.auth.clone())))
            .merge(kit.routes(health::alias("/api/v1/users/health", services.user.clone())));
        let remote = kit.clone().proxying().routes(proxy.router());
        Public {
            router: kit.front_of_gateway(local, remote),
            health,
            proxy,
            services,
        }
    }

    /// Deletes sessions that ended long ago, as the hourly job does.
    pub async fn purge_sessions(&self) -> sqlx::Result<u64> {
        auth::purge_sessions(&self.auth_db, &self.sources).await
    }

    /// Removes objects that nothing refers to any more, as the job of every minute does.
    pub async fn sweep_objects(&self) -> anyhow::Result<u64> {
        self.user.sweep_objects().await
    }

    /// Answers those who asked for a link by mail, as the worker does. Gives how many there were.
    pub async fn answer_recovery_requests(&self) -> sqlx::Result<usize> {
        auth::answer_requests(&self.auth).await
    }

    /// Writes the entries of the log of accesses that wait, as its worker does.
    pub async fn flush_audit(&self) -> sqlx::Result<usize> {
        self.user.audit().flush(&self.user_db).await
    }

    /// Writes down when sessions were used last, as the job does twice a minute.
    pub async fn write_last_seen(&self) -> sqlx::Result<u64> {
        self.auth.last_seen().write(&self.auth_db).await
    }

    fn health(&self, environment: &'static str, tasks: &Tasks) -> ServiceHealth {
        let mut auth = vec![Check::postgres(&self.auth_db, auth::migrations())];
        auth.extend(Check::redis(&self.redis));
        let mut user = vec![Check::postgres(&self.user_db, user::migrations())];
        user.extend(Check::redis(&self.redis));
        user.push(self.user.objects_check());
        ServiceHealth {
            auth: Health::new("auth-service", VERSION, auth).in_process(CorePod::NAME, environment, tasks),
            user: Health::new("user-service", VERSION, user).in_process(CorePod::NAME, environment, tasks),
        }
    }
}

#[derive(Debug)]
struct ServiceHealth {
    auth: Health,
    user: Health,
}
