//! The services of the pod, put together: their states, their background work, their routes.
//!
//! contract: operations §6.5, core §6.4, README "Listeners". Services meet only here and through their client traits.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{Json, Router, routing::get};
use serde_json::json;
use shared::{
    Sources,
    auth::{Authenticator, config::RemoteIdentity},
    db::{Db, Service},
    events::{
        consumer::{Consumer, Handler},
        kafka::{Producer, keep_topics},
        relay::Relay,
    },
    health::{self, Check, Health, Kind},
    http::{
        Kit,
        kit::Admission,
        limit::{ListenerLimit, RateLimiter, Rule, Subject},
    },
    lifecycle::Tasks,
    pod::Pod as _,
    redis::Redis,
};

use crate::{
    BusinessPod, Config,
    ai::{self, Ai, AiState, VoyagePlaces},
    payment::{self, Payment, PaymentState, Payments, events::PaymentConsumer},
    voyage::{
        self, LocalBookings, Voyage, VoyageParts, VoyageState, Wake,
        search::SearchState,
        supply::{Offers, Router as Supply, offline::Offline},
    },
};

/// How long the last events may take to reach the brokers at the end.
const FLUSH: Duration = Duration::from_secs(5);

/// The services of a running pod.
pub(crate) struct Services {
    identity: RemoteIdentity,
    redis: Redis,
    limiter: RateLimiter,
    sources: Sources,
    voyage: VoyageState,
    voyage_events: Producer,
    payment: PaymentState,
    payment_events: Producer,
    ai: AiState,
    ai_events: Producer,
}

/// What each listener serves.
pub(crate) struct Routes {
    pub(crate) public: Router,
    pub(crate) voyage: Router,
    pub(crate) payment: Router,
    pub(crate) ai: Router,
    pub(crate) health: Health,
}

impl Services {
    /// Builds everything. Needs no back end to be there: pools, Redis and Kafka connect when they are used.
    pub(crate) fn build(config: &Config, tasks: &Tasks) -> anyhow::Result<Self> {
        let sources = Sources::system();
        let redis = Redis::connect(&config.redis)?;
        let limiter = RateLimiter::new(redis.clone(), config.limits);
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(2))
            .timeout(Duration::from_secs(5))
            .build()
            .context("failed to build the HTTP client")?;
        let identity = config
            .identity
            .build(&http, redis.clone(), &config.http.cors_origins, sources.clone());
        let authenticator: Authenticator = identity.authenticator.clone();

        let payment_db = Db::<Payment>::connect_lazy(&config.databases.payment);
        let payments = Payments::new(&config.payment, payment_db, sources.clone(), tasks.clone())?;

        let voyage_db = Db::<Voyage>::connect_lazy(&config.databases.voyage);
        let supply = Supply::new(vec![Arc::new(Offline::new(config.offline_price_drift))]);
        let search = SearchState::new(
            voyage_db.clone(),
            supply.clone(),
            authenticator.clone(),
            limiter.clone(),
            sources.clone(),
            config.search,
        );
        let voyage = VoyageState::from(VoyageParts {
            db: voyage_db.clone(),
            sources: sources.clone(),
            auth: authenticator.clone(),
            payments: Arc::new(payments.clone()),
            offers: Offers::new(supply),
            tasks: tasks.clone(),
            limiter: limiter.clone(),
            search,
            config: Arc::new(config.voyage.clone()),
            wake: Wake::default(),
        });
        let payment = PaymentState {
            payments,
            authenticator,
            bookings: Arc::new(LocalBookings::new(voyage_db, sources.clone())),
            limits: payment::Limits::new(limiter.clone(), &config.payment),
            origins: config.http.cors_origins.clone().into(),
        };
        let ai = AiState::new(
            Db::<Ai>::connect_lazy(&config.databases.ai),
            redis.clone(),
            sources.clone(),
            identity.authenticator.clone(),
            limiter.clone(),
            Arc::new(VoyagePlaces),
            config.ai,
        );
        Ok(Self {
            identity,
            redis,
            limiter,
            sources,
            voyage,
            voyage_events: Producer::new(&config.kafka, Voyage::NAME)?,
            payment,
            payment_events: Producer::new(&config.kafka, Payment::NAME)?,
            ai,
            ai_events: Producer::new(&config.kafka, Ai::NAME)?,
        })
    }

    /// Starts what runs beside the requests.
    pub(crate) fn start_work(&self, config: &Config, tasks: &Tasks) {
        let jwks = self.identity.jwks.clone();
        let shutdown = tasks.shutdown().clone();
        tasks.spawn("jwks", async move {
            tokio::select! {
                () = jwks.keep_fresh() => {}
                () = shutdown.served() => {}
            }
        });
        let (kafka, shutdown) = (config.kafka.clone(), tasks.shutdown().clone());
        tasks.spawn("topics", async move { keep_topics(&kafka, &shutdown).await });

        self.events(
            config,
            tasks,
            ["voyage-relay", "voyage-consumer"],
            &self.voyage.db,
            &self.voyage_events,
            voyage::handler(&self.voyage),
        );
        voyage::workers(&self.voyage);

        let payments = &self.payment.payments;
        let consumer = PaymentConsumer(payments.clone());
        self.events(
            config,
            tasks,
            ["payment-relay", "payment-consumer"],
            payments.db(),
            &self.payment_events,
            consumer,
        );
        self.events(
            config,
            tasks,
            ["ai-relay", "ai-consumer"],
            &self.ai.db,
            &self.ai_events,
            ai::handler(&self.ai),
        );
        let payments = payments.clone();
        tasks.supervise("payment-worker", move |shutdown| payments.clone().work(shutdown));
    }

    /// The outgoing and the incoming events of one service.
    fn events<S: Service>(
        &self,
        config: &Config,
        tasks: &Tasks,
        [relay_name, consumer_name]: [&'static str; 2],
        db: &Db<S>,
        producer: &Producer,
        handler: impl Handler<S>,
    ) {
        let relay = Relay::<S>::new(db.clone(), producer.clone(), self.sources.clone());
        tasks.supervise(relay_name, move |shutdown| relay.clone().run(shutdown));
        let (db, kafka, producer) = (db.clone(), config.kafka.clone(), producer.clone());
        let handler: Arc<dyn Handler<S>> = Arc::new(handler);
        tasks.supervise(consumer_name, move |shutdown| {
            Consumer::<S>::shared(db.clone(), &kafka, producer.clone(), handler.clone()).run(shutdown)
        });
    }

    /// The routes of all listeners.
    pub(crate) fn routes(&self, config: &Config, tasks: &Tasks) -> Routes {
        let here = |health: Health| health.in_process(BusinessPod::NAME, config.environment, tasks);
        let voyage_postgres = Check::postgres(&self.voyage.db, voyage::migrations());
        let voyage_checks = self.checks(voyage_postgres);
        let voyage_health = here(Health::new(Voyage::NAME, "1.0.0", voyage_checks));
        let ai_checks = self.checks(Check::postgres(&self.ai.db, ai::migrations()));
        let ai_health = here(Health::new(Ai::NAME, "1.0.0", ai_checks).degraded_is_ok());
        let payment_checks = payment::health::checks(&self.payment.payments, Some(self.voyage_events.clone()));
        let payment_health = here(Health::new(Payment::NAME, "1.0.0", payment_checks).degraded_is_ok());
        let parts = vec![voyage_health.clone(), payment_health.clone(), ai_health.clone()];
        let pod_health = here(Health::of_pod(BusinessPod::NAME, "Business Pod", parts));

        let voyage_kit = Kit::new(Voyage::NAME, &config.http, Some(self.burst_guard(config.bursts.voyage)));
        let payment_kit = Kit::new(
            Payment::NAME,
            &config.http,
            Some(self.burst_guard(config.bursts.payment)),
        );
        let ai_kit = Kit::new(Ai::NAME, &config.http, Some(self.burst_guard(config.bursts.ai)));
        let webhook_kit = Kit::new(Payment::NAME, &config.http, None);
        let (voyage_internal, payment_internal) = (
            Kit::new(Voyage::NAME, &config.http, None).no_store(),
            Kit::new(Payment::NAME, &config.http, None).no_store(),
        );
        let pod_kit = Kit::new(BusinessPod::NAME, &config.http, None);

        let voyage = || {
            Router::from(voyage::router(&self.voyage))
                .merge(voyage::token_only_router(&self.voyage))
                .merge(health::alias("/api/v1/health/voyage", voyage_health.clone()))
                .merge(health::alias("/api/v1/voyage/health", voyage_health.clone()))
        };
        let payment = || {
            payment::router(&self.payment)
                .merge(payment::health::alias("/api/v1/payment/health", &payment_health))
                .merge(payment::health::alias("/api/v1/payments/health", &payment_health))
        };
        let ai = || Router::from(ai::router(&self.ai)).merge(health::alias("/api/v1/ai/health", ai_health.clone()));
        let voyage_internal = || voyage_internal.routes(voyage::internal_router(&self.voyage));
        let payment_internal = || payment_internal.routes(payment::internal_router(&self.payment));
        let webhook = || webhook_kit.routes(payment::webhook_router(&self.payment.payments));

        let public = voyage_kit
            .routes(voyage())
            .merge(payment_kit.routes(payment()))
            .merge(webhook())
            .merge(voyage_internal())
            .merge(payment_internal())
            .merge(ai_kit.routes(ai()))
            .merge(pod_kit.routes(health::routes(pod_health.clone()).route("/", get(card))));
        let voyage_alone = voyage_kit
            .routes(
                voyage()
                    .merge(health::routes(voyage_health.clone()))
                    .merge(health::alias("/api/v1/health", voyage_health.clone())),
            )
            .merge(voyage_internal());
        let payment_alone = payment_kit
            .routes(payment().merge(payment::health::routes(&payment_health)))
            .merge(webhook())
            .merge(payment_internal());
        let ai_alone = ai_kit.routes(ai().merge(health::routes(ai_health.clone())));
        Routes {
            public: pod_kit.front(public),
            voyage: voyage_kit.front(voyage_alone),
            payment: payment_kit.front(payment_alone),
            ai: ai_kit.front(ai_alone),
            health: pod_health,
        }
    }

    /// What a service depends on: its database, and beside it Redis and Kafka. The brokers are the same for all services, so one
    /// client asks them for all.
    fn checks(&self, postgres: Check) -> Vec<Check> {
        let producer = self.voyage_events.clone();
        let kafka = Check::new("Kafka", Kind::MessageQueue, false, move || {
            let producer = producer.clone();
            async move {
                anyhow::ensure!(producer.connected().await, "no broker answers");
                Ok(())
            }
        });
        let mut checks = vec![postgres];
        checks.extend(Check::redis(&self.redis));
        checks.push(kafka);
        checks
    }

    fn burst_guard(&self, rule: Rule) -> Arc<dyn Admission> {
        Arc::new(ListenerLimit::new(self.limiter.clone(), rule, Subject::Address))
    }

    /// Sends what is still on its way to the brokers.
    pub(crate) async fn finish(&self) {
        self.voyage_events.flush(FLUSH).await;
        self.payment_events.flush(FLUSH).await;
        self.ai_events.flush(FLUSH).await;
    }
}

/// What answers here.
async fn card() -> Json<serde_json::Value> {
    Json(json!({
        "message": "DreamScape Business Pod",
        "version": "1.0.0",
        "services": ["voyage", "payment", "ai"],
        "endpoints": { "health": "/health", "voyage": "/api/v1", "payment": "/api/v1/payment", "ai": "/api/v1/ai" },
    }))
}
