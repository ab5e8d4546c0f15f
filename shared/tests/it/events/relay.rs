//! The way out: outbox and relay.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message as _,
    mocking::MockCluster,
    producer::{BaseProducer, Producer as _},
};
use shared::events::{
    Topic,
    kafka::{KafkaConfig, Producer, ensure_topics, keep_topics},
    outbox,
    relay::Relay,
};
use sqlx::{PgPool, postgres::PgListener};

use super::world::{Eyes, Job, PARTITIONS, TOPIC, Till, World, header, numbers_by_key, value};
use crate::support::{Shop, eventually};

#[sqlx::test(migrations = false)]
async fn events_of_a_key_leave_in_the_order_of_their_commits_even_when_written_at_once(pool: PgPool) {
    let world = World::new(&pool).await;
    let relay = Job::start(|shutdown| world.relay().run(shutdown));
    sqlx::raw_sql("create table shop.counters (key text primary key, n bigint not null)")
        .execute(&pool)
        .await
        .unwrap();
    let keys = ["a", "b", "c", "d"];
    let writers = (0..6).map(|writer| {
        let world = &world;
        async move {
            for round in 0..20 {
                let key = keys[(writer + round) % keys.len()];
                let mut tx = world.db.begin().await.unwrap();
                // the row lock makes the numbers follow the commits
                let count = "insert into shop.counters values ($1, 1)
                             on conflict (key) do update set n = counters.n + 1 returning n";
                let n: i64 = sqlx::query_scalar(count).bind(key).fetch_one(&mut *tx).await.unwrap();
                outbox::append::<Shop>(&mut tx, &[world.event(TOPIC, key, n)])
                    .await
                    .unwrap();
                tx.commit().await.unwrap();
            }
        }
    });
    futures_util::future::join_all(writers).await;

    let eyes = Eyes::on(&world, TOPIC.name(), PARTITIONS);
    let records = eyes.see(120).await;
    assert!(eyes.see_nothing_more().await, "events were sent twice");
    let expected: Vec<i64> = (1..=30).collect();
    let by_key = numbers_by_key(&records);
    for key in keys {
        assert_eq!(by_key[key], expected, "key {key}");
    }
    let mut partitions: HashMap<&[u8], i32> = HashMap::new();
    for record in &records {
        let partition = *partitions.entry(record.key().unwrap()).or_insert(record.partition());
        assert_eq!(partition, record.partition(), "a key has one partition");
    }
    eventually("everything is marked", async || world.pending().await == 0).await;
    relay.stop().await;
}

#[sqlx::test(migrations = false)]
async fn appends_under_one_key_wait_for_each_other_so_that_positions_follow_commits(pool: PgPool) {
    let world = World::new(&pool).await;
    let mut first = world.db.begin().await.unwrap();
    outbox::append::<Shop>(&mut first, &[world.event(TOPIC, "a", 1)])
        .await
        .unwrap();
    // another key does not wait
    world.append(TOPIC, "b", 1).await;

    let (db, event) = (world.db.clone(), world.event(TOPIC, "a", 2));
    let second = tokio::spawn(async move {
        let mut tx = db.begin().await.unwrap();
        outbox::append::<Shop>(&mut tx, &[event]).await.unwrap();
        tx.commit().await.unwrap();
    });
    let waiting = "select exists (select from pg_locks where locktype = 'advisory' and not granted
                   and database = (select oid from pg_database where datname = current_database()))";
    eventually("the second waits", async || {
        sqlx::query_scalar(waiting).fetch_one(&pool).await.unwrap()
    })
    .await;
    first.commit().await.unwrap();
    second.await.unwrap();
    let numbers = "select (envelope -> 'payload' ->> 'n')::bigint from shop.outbox where key = 'a' order by position";
    let numbers: Vec<i64> = sqlx::query_scalar(numbers).fetch_all(&pool).await.unwrap();
    assert_eq!(numbers, [1, 2]);
}

#[sqlx::test(migrations = false)]
async fn a_record_has_the_envelope_as_written_and_its_headers(pool: PgPool) {
    let world = World::new(&pool).await;
    let mut plain = world.event(TOPIC, "a", 1);
    plain.envelope.payload["text"] = "with an escaped NUL: \0, and ü".into();
    let correlated = world.event(TOPIC, "a", 2).correlated(Some("corr-1".to_owned()));
    world.append_all(&[plain.clone(), correlated.clone()]).await;
    assert!(world.relay().run_once().await.unwrap());
    assert!(!world.relay().run_once().await.unwrap());

    let records = Eyes::on(&world, TOPIC.name(), PARTITIONS).see(2).await;
    for (record, event) in records.iter().zip([plain, correlated]) {
        assert_eq!(value(record), serde_json::to_value(&event.envelope).unwrap());
        let envelope = &event.envelope;
        let correlation = envelope.correlation_id.as_deref().unwrap_or_default();
        for (name, expected) in [
            ("eventType", "voyage.booking.confirmed"),
            ("source", "shop-service"),
            ("version", "1.0"),
            ("correlationId", correlation),
            ("timestamp", envelope.timestamp.as_str()),
            ("eventId", envelope.event_id.as_str()),
        ] {
            assert_eq!(header(record, name).as_deref(), Some(expected), "{name}");
        }
    }
}

#[sqlx::test(migrations = false)]
async fn a_rolled_back_change_publishes_nothing(pool: PgPool) {
    let world = World::new(&pool).await;
    let mut tx = world.db.begin().await.unwrap();
    outbox::append::<Shop>(&mut tx, &[world.event(TOPIC, "a", 1)])
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    assert!(!world.relay().run_once().await.unwrap());
}

#[sqlx::test(migrations = false)]
async fn an_event_is_on_kafka_within_two_hundred_milliseconds_of_its_commit(pool: PgPool) {
    let world = World::new(&pool).await;
    let relay = Job::start(|shutdown| world.relay().run(shutdown));
    let eyes = Eyes::on(&world, TOPIC.name(), PARTITIONS);
    // the first one pays for connections
    world.append(TOPIC, "a", 0).await;
    eyes.see(1).await;
    let mut latencies = Vec::new();
    for n in 1..=30 {
        world.append(TOPIC, "a", n).await;
        let committed = Instant::now();
        eyes.see(1).await;
        latencies.push(committed.elapsed());
    }
    latencies.sort();
    assert!(latencies[15] < Duration::from_millis(200), "{latencies:?}");
    relay.stop().await;
}

#[sqlx::test(migrations = false)]
async fn a_busy_relay_is_not_woken_and_one_that_dozes_is(pool: PgPool) {
    let world = World::new(&pool).await;
    let relay = Job::start(|shutdown| world.relay().run(shutdown));
    let eyes = Eyes::on(&world, TOPIC.name(), PARTITIONS);
    let mut notifications = PgListener::connect_with(&pool).await.unwrap();
    notifications.listen("outbox_shop").await.unwrap();
    let appended = 300;
    for n in 1..=appended {
        world.append(TOPIC, "a", n).await;
    }
    let records = eyes.see(300).await;
    assert_eq!(numbers_by_key(&records)["a"], (1..=appended).collect::<Vec<i64>>());
    // what this session listens to arrives before the answer to its next statement
    sqlx::query("select 1").execute(&mut notifications).await.unwrap();
    let mut woken = 0;
    while notifications.next_buffered().is_some() {
        woken += 1;
    }
    assert!(woken < appended / 2, "woken {woken} times for {appended} events");

    eventually("it dozes", async || !is_awake(&pool).await).await;
    world.append(TOPIC, "a", 0).await;
    let woken = tokio::time::timeout(Duration::from_secs(20), notifications.recv());
    woken.await.unwrap().unwrap();
    eyes.see(1).await;
    relay.stop().await;
}

#[sqlx::test(migrations = false)]
async fn what_was_appended_to_a_busy_relay_and_committed_when_it_dozes_is_found(pool: PgPool) {
    let world = World::new(&pool).await;
    let relay = Job::start(|shutdown| world.relay().run(shutdown));
    let eyes = Eyes::on(&world, TOPIC.name(), PARTITIONS);
    let busy = std::cell::Cell::new(0);
    eventually("it stays awake", async || {
        world.append(TOPIC, "a", 1).await;
        busy.set(busy.get() + 1);
        is_awake(&pool).await
    })
    .await;
    eyes.see(busy.get()).await;
    let mut slow = world.db.begin().await.unwrap();
    outbox::append::<Shop>(&mut slow, &[world.event(TOPIC, "b", 2)])
        .await
        .unwrap();
    eventually("it dozes", async || !is_awake(&pool).await).await;
    slow.commit().await.unwrap();
    assert_eq!(numbers_by_key(&eyes.see(1).await)["b"], [2]);
    relay.stop().await;
}

/// Whether a relay holds the lock that says that commits need not wake it.
async fn is_awake(pool: &PgPool) -> bool {
    let awake = "select exists (select from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and granted
                 and database = (select oid from pg_database where datname = current_database())
                 and (classid::bigint << 32 | objid::bigint) = hashtextextended('shop.outbox', 2))";
    sqlx::query_scalar(awake).fetch_one(pool).await.unwrap()
}

#[sqlx::test(migrations = false)]
async fn a_relay_killed_between_the_brokers_answer_and_the_mark_sends_again_and_effects_happen_once(pool: PgPool) {
    let world = World::new(&pool).await;
    for n in 1..=20 {
        world.append(TOPIC, if n % 2 == 0 { "a" } else { "b" }, n).await;
    }
    // while these rows are locked they cannot be marked
    let mut keeper = pool.begin_for_test().await;
    sqlx::query("select * from shop.outbox for update")
        .execute(&mut *keeper)
        .await
        .unwrap();
    let first = Job::start(|shutdown| world.relay().run(shutdown));
    let eyes = Eyes::on(&world, TOPIC.name(), PARTITIONS);
    eyes.see(20).await;
    eventually("the mark waits", async || {
        let waits = "select exists (select from pg_stat_activity where wait_event_type = 'Lock'
                     and query like 'with marked as (update shop.outbox%' and datname = current_database())";
        sqlx::query_scalar(waits).fetch_one(&pool).await.unwrap()
    })
    .await;
    first.kill().await;
    // the server side of a killed process is ended by the server; here the statement has to be ended for it
    let end = "select pg_cancel_backend(pid) from pg_stat_activity
               where query like 'with marked as (update shop.outbox%' and datname = current_database()";
    sqlx::query(end).execute(&pool).await.unwrap();
    keeper.rollback().await.unwrap();
    assert_eq!(world.pending().await, 20);

    let second = Job::start(|shutdown| world.relay().run(shutdown));
    eyes.see(20).await;
    eventually("everything is marked", async || world.pending().await == 0).await;
    let till = Arc::new(Till::default());
    let consumer = Job::start(|shutdown| world.consumer(&till).run(shutdown));
    eventually("all forty records are consumed", async || world.committed(TOPIC) == 40).await;
    assert_eq!(world.effect_count().await, 20);
    assert_eq!(world.effects("a").await, (2..=20).step_by(2).collect::<Vec<i64>>());
    assert_eq!(world.effects("b").await, (1..=19).step_by(2).collect::<Vec<i64>>());
    consumer.stop().await;
    second.stop().await;
}

#[sqlx::test(migrations = false)]
async fn of_two_relays_one_sends_and_the_other_takes_over_when_it_is_gone(pool: PgPool) {
    let world = World::new(&pool).await;
    let eyes = Eyes::on(&world, TOPIC.name(), PARTITIONS);
    let first = Job::start(|shutdown| world.relay().run(shutdown));
    world.append(TOPIC, "a", 0).await;
    eyes.see(1).await;
    // a replica of its own: own pool, own producer
    let (producer, database) = (
        Producer::new(&world.config, "shop-service").unwrap(),
        crate::support::config_at(&pool),
    );
    let replica = Relay::new(
        shared::db::Db::<Shop>::connect_lazy(&database),
        producer,
        world.sources.clone(),
    );
    let second = Job::start(|shutdown| replica.run(shutdown));

    for n in 1..=100 {
        world.append(TOPIC, "a", n).await;
    }
    let steady = eyes.see(100).await;
    assert_eq!(numbers_by_key(&steady)["a"], (1..=100).collect::<Vec<i64>>());
    assert!(eyes.see_nothing_more().await, "both relays sent");

    first.kill().await;
    let gone = Instant::now();
    world.append(TOPIC, "a", 101).await;
    eyes.see(1).await;
    assert!(gone.elapsed() < Duration::from_secs(5), "{:?}", gone.elapsed());
    assert!(eyes.see_nothing_more().await, "an event was sent twice");
    second.stop().await;
}

#[sqlx::test(migrations = false)]
async fn a_relay_that_loses_its_connection_goes_on(pool: PgPool) {
    let world = World::new(&pool).await;
    let eyes = Eyes::on(&world, TOPIC.name(), PARTITIONS);
    let relay = Job::start(|shutdown| world.relay().run(shutdown));
    world.append(TOPIC, "a", 1).await;
    eyes.see(1).await;
    eventually("it is marked", async || world.pending().await == 0).await;
    let kill = "select pg_terminate_backend(pid) from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid() and application_name = 'shop-service'";
    sqlx::query(kill).execute(&pool).await.unwrap();
    eventually("the pool works again", async || world.db.ping().await.is_ok()).await;
    world.append(TOPIC, "a", 2).await;
    let again = eyes.see(1).await;
    assert_eq!(numbers_by_key(&again)["a"], [2]);
    relay.stop().await;
}

#[sqlx::test(migrations = false)]
async fn without_brokers_requests_are_unaffected_and_events_arrive_later_in_order(pool: PgPool) {
    let world = World::new(&pool).await;
    let relay = Job::start(|shutdown| world.relay().run(shutdown));
    let till = Arc::new(Till::default());
    let consumer = Job::start(|shutdown| world.consumer(&till).run(shutdown));
    world.append(TOPIC, "a", 0).await;
    eventually("the way works", async || world.effect_count().await == 1).await;

    world.cluster.broker_down(-1).unwrap();
    let begun = Instant::now();
    for n in 1..=50 {
        world.append(TOPIC, "a", n).await;
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "requests waited for kafka: {:?}",
        begun.elapsed()
    );
    eventually("the probe tells", async || !world.producer.connected().await).await;
    assert_eq!(world.pending().await, 50);

    world.cluster.broker_up(-1).unwrap();
    eventually("all effects are there", async || world.effect_count().await == 51).await;
    assert_eq!(world.effects("a").await, (0..=50).collect::<Vec<i64>>());
    eventually("everything is marked", async || world.pending().await == 0).await;
    eventually("the probe tells", async || world.producer.connected().await).await;
    consumer.stop().await;
    relay.stop().await;
}

#[sqlx::test(migrations = false)]
async fn a_service_starts_and_stops_without_ever_seeing_a_broker(pool: PgPool) {
    let mut world = World::new(&pool).await;
    // nobody listens there
    world.config = KafkaConfig::at("127.0.0.1:1");
    world.config.offset_reset = shared::events::kafka::OffsetReset::Latest;
    world.producer = Producer::new(&world.config, "shop-service").unwrap();
    let relay = Job::start(|shutdown| world.relay().run(shutdown));
    let till = Arc::new(Till::default());
    let consumer = Job::start(|shutdown| world.consumer(&till).run(shutdown));
    world.append(TOPIC, "a", 1).await;
    assert!(!world.producer.connected().await);
    assert_eq!(world.pending().await, 1);
    let stopping = Instant::now();
    consumer.stop().await;
    relay.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(10), "{:?}", stopping.elapsed());
}

#[tokio::test]
async fn topics_that_are_there_are_left_alone() {
    // this broker does not serve the request to create topics, so making it would fail; it makes those a producer asks for
    let broker = MockCluster::new(1).unwrap();
    let asking: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .create()
        .unwrap();
    for topic in Topic::ALL {
        for name in [topic.name(), &topic.dead_letters()] {
            asking
                .client()
                .fetch_metadata(Some(name), Duration::from_secs(10))
                .unwrap();
        }
    }
    let config = KafkaConfig::at(&broker.bootstrap_servers());
    ensure_topics(&config).await.unwrap();
    ensure_topics(&config).await.unwrap();
}

#[tokio::test]
async fn waiting_for_topics_ends_with_the_process() {
    let nobody = KafkaConfig::at("127.0.0.1:1");
    let topics = Job::start(|shutdown| async move {
        keep_topics(&nobody, &shutdown).await;
        Ok(())
    });
    let stopping = Instant::now();
    topics.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(5), "{:?}", stopping.elapsed());
}

/// Transactions that a test holds open, outside the pools under test.
trait BeginForTest {
    async fn begin_for_test(&self) -> sqlx::Transaction<'static, sqlx::Postgres>;
}

impl BeginForTest for PgPool {
    #[expect(clippy::disallowed_methods, reason = "nobody drops this test half-way")]
    async fn begin_for_test(&self) -> sqlx::Transaction<'static, sqlx::Postgres> {
        self.begin().await.unwrap()
    }
}
