//! The background work of the core pod: relays, consumers, mail, sockets, clearing away, and in development the demo
//! accounts.

use std::time::Duration;

use shared::{
    db::{self, Db},
    events::{
        consumer::Consumer,
        kafka::{Producer, keep_topics},
        relay::{Leading, Relay},
    },
    lifecycle::Tasks,
};

use crate::{
    Config, Services,
    auth::{self, Auth},
    mail::Mail,
    user::{self, User, gdpr},
};

/// Between two looks at the pools.
const POOLS_EVERY: Duration = Duration::from_secs(5);

/// Starts everything; it ends with the tasks' shutdown.
pub fn start(config: &Config, services: &Services, tasks: &Tasks) -> anyhow::Result<()> {
    let Services {
        auth_db,
        user_db,
        sources,
        ..
    } = services;
    let auth_producer = Producer::new(&config.kafka, <Auth as db::Service>::NAME)?;
    let user_producer = Producer::new(&config.kafka, <User as db::Service>::NAME)?;

    let leading = Leading::default();
    relay(tasks, "auth-relay", auth_db, auth_producer, services, &leading);
    relay(
        tasks,
        "user-relay",
        user_db,
        user_producer.clone(),
        services,
        &Leading::default(),
    );

    let auth = services.auth.clone();
    tasks.supervise("people", move |shutdown| {
        auth::keep_counting_people(auth.clone(), leading.clone(), shutdown)
    });

    let (db, kafka, producer) = (user_db.clone(), config.kafka.clone(), user_producer);
    let handler = services.user.events();
    tasks.supervise("user-consumer", move |shutdown| {
        Consumer::<User>::new(db.clone(), &kafka, producer.clone(), handler.clone()).run(shutdown)
    });

    user::start_workers(&services.user, tasks);
    mail(config, services, tasks)?;

    let auth = services.auth.clone();
    tasks.supervise("recovery-requests", move |shutdown| {
        auth::keep_answering(auth.clone(), shutdown)
    });

    let (db, clock) = (auth_db.clone(), sources.clone());
    tasks.supervise("session-purge", move |shutdown| {
        auth::keep_purging(db.clone(), clock.clone(), shutdown)
    });

    let keys = services.auth.signing_keys();
    tasks.supervise("signing-keys", move |shutdown| {
        let keys = keys.clone();
        async move { keys.keep_fresh(shutdown).await }
    });

    let user = services.user.clone();
    tasks.supervise("object-sweep", move |shutdown| user.clone().keep_sweeping(shutdown));
    let (seen, db) = (services.auth.last_seen(), auth_db.clone());
    tasks.supervise("last-seen", move |shutdown| {
        auth::keep_noting(seen.clone(), db.clone(), shutdown)
    });

    let (audit, db) = (services.user.audit().clone(), user_db.clone());
    tasks.supervise("audit-writer", move |shutdown| {
        audit.clone().keep_writing(db.clone(), shutdown)
    });

    privacy(services, tasks);

    let (kafka, shutdown) = (config.kafka.clone(), tasks.shutdown().clone());
    tasks.spawn("topics", async move { keep_topics(&kafka, &shutdown).await });

    let (auth_pool, user_pool, shutdown) = (auth_db.clone(), user_db.clone(), tasks.shutdown().clone());
    tasks.spawn("pool-gauges", async move {
        while !shutdown.is_draining() {
            auth_pool.record_metrics();
            user_pool.record_metrics();
            tokio::select! {
                () = shutdown.draining() => {}
                () = tokio::time::sleep(POOLS_EVERY) => {}
            }
        }
    });

    if config.environment == shared::config::Environment::Development {
        seed(tasks, services);
    }
    Ok(())
}

fn relay<S: db::Service>(
    tasks: &Tasks,
    name: &'static str,
    db: &Db<S>,
    producer: Producer,
    services: &Services,
    leading: &Leading,
) {
    let (db, sources, leading) = (db.clone(), services.sources.clone(), leading.clone());
    tasks.supervise(name, move |shutdown| {
        Relay::new(db.clone(), producer.clone(), sources.clone())
            .telling(leading.clone())
            .run(shutdown)
    });
}

/// Exports, erasures, and what is forgotten because its time is over.
fn privacy(services: &Services, tasks: &Tasks) {
    let state = services.user.clone();
    tasks.supervise("privacy-exports", move |shutdown| {
        gdpr::export::keep_exporting(state.clone(), shutdown)
    });
    let state = services.user.clone();
    tasks.supervise("privacy-erasures", move |shutdown| {
        gdpr::erasure::keep_erasing(state.clone(), shutdown)
    });
    let state = services.user.clone();
    tasks.supervise("privacy-retention", move |shutdown| {
        gdpr::retention::keep_forgetting(state.clone(), shutdown)
    });
}

/// What empties the queue of mail, and what fills it from Kafka.
fn mail(config: &Config, services: &Services, tasks: &Tasks) -> anyhow::Result<()> {
    let worker = services.mail.worker();
    tasks.supervise("mail-worker", move |shutdown| worker.clone().run(shutdown));

    let producer = Producer::new(&config.kafka, <Mail as db::Service>::NAME)?;
    let (db, kafka, handler) = (services.mail_db.clone(), config.kafka.clone(), services.mail.events());
    tasks.supervise("mail-consumer", move |shutdown| {
        Consumer::<Mail>::new(db.clone(), &kafka, producer.clone(), handler.clone()).run(shutdown)
    });
    Ok(())
}

/// Demo accounts, as soon as the database answers.
fn seed(tasks: &Tasks, services: &Services) {
    let (state, shutdown) = (services.auth.clone(), tasks.shutdown().clone());
    tasks.spawn("demo-accounts", async move {
        while !shutdown.is_draining() {
            match auth::seed_demo_accounts(shared::config::Environment::Development, &state).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(error = format!("{error:#}"), "demo accounts not made yet"),
            }
            tokio::select! {
                () = shutdown.draining() => return,
                () = tokio::time::sleep(Duration::from_secs(2)) => {}
            }
        }
    });
}
