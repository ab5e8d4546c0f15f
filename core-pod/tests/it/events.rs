//! From a sign-up over Kafka to the settings and back: relays and the consumer of the pod against brokers in process.

use core_pod::{auth::Auth, user::User};
use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};
use serde_json::json;
use shared::{
    db::Db,
    events::{
        NewEvent, Topic,
        consumer::Consumer,
        kafka::{KafkaConfig, Producer},
        outbox,
        relay::Relay,
    },
    lifecycle::Shutdown,
    sources::Sources,
};
use sqlx::PgPool;

use crate::support::{TestApp, eventually};

fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(3).unwrap();
    for topic in Topic::ALL {
        cluster.create_topic(topic.name(), 3, 3).unwrap();
        cluster.create_topic(&topic.dead_letters(), 1, 3).unwrap();
    }
    cluster
}

#[sqlx::test(migrations = false)]
async fn a_sign_up_gets_settings_and_a_paid_booking_one_notification_over_kafka(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    let brokers = cluster();
    let kafka = KafkaConfig::read(&mut shared::config::Reader::from_pairs([
        ("KAFKA_BROKERS".to_owned(), brokers.bootstrap_servers()),
        ("KAFKA_AUTO_OFFSET_RESET".to_owned(), "earliest".to_owned()),
    ]));
    let producer = Producer::new(&kafka, "test-service").unwrap();
    let (sources, shutdown) = (Sources::system(), Shutdown::new());
    let consumer = Consumer::<User>::new(
        Db::new(pool.clone()),
        &kafka,
        producer.clone(),
        app.services.user.events(),
    );
    let consuming = tokio::spawn(consumer.run(shutdown.clone()));
    let auth_relay = Relay::<Auth>::new(Db::new(pool.clone()), producer.clone(), sources.clone());
    let user_relay = Relay::<User>::new(Db::new(pool.clone()), producer.clone(), sources.clone());

    let ada = app.register("ada@example.com").await;
    while auth_relay.run_once().await.unwrap() {}
    eventually("settings of the new account", async || {
        app.count("select count(*) from users.settings").await == 1
    })
    .await;

    let booking = json!({ "bookingId": "BOOK-1", "userId": ada.id });
    let confirmed = NewEvent::new::<Auth>(&sources, Topic::VoyageBookingConfirmed, "BOOK-1", &booking);
    for _ in 0..2 {
        // delivered twice, as at-least-once delivery may
        let mut tx = Db::<Auth>::new(pool.clone()).begin().await.unwrap();
        sqlx::query("delete from auth.outbox").execute(&mut *tx).await.unwrap();
        outbox::append::<Auth>(&mut tx, std::slice::from_ref(&confirmed))
            .await
            .unwrap();
        tx.commit().await.unwrap();
        while auth_relay.run_once().await.unwrap() {}
    }
    eventually("the notification", async || {
        app.count("select count(*) from users.notifications").await == 1
    })
    .await;
    // a later event under the same key is applied only after both deliveries
    let cancelled = json!({ "bookingId": "BOOK-1", "userId": ada.id, "reason": "user_cancelled" });
    let cancelled = NewEvent::new::<Auth>(&sources, Topic::VoyageBookingConfirmed, "BOOK-1", &cancelled);
    let mut tx = Db::<Auth>::new(pool.clone()).begin().await.unwrap();
    outbox::append::<Auth>(&mut tx, &[cancelled]).await.unwrap();
    tx.commit().await.unwrap();
    while auth_relay.run_once().await.unwrap() {}
    eventually("the next one", async || {
        app.count("select count(*) from users.notifications").await == 2
    })
    .await;

    while user_relay.run_once().await.unwrap() {}
    assert_eq!(
        app.count("select count(*) from users.outbox where published_at is not null")
            .await,
        4,
        "each notification is told of, and asked to be mailed"
    );
    shutdown.halt();
    consuming.await.unwrap().unwrap();
}
