//! The way in: inbox, retries, dead letters, starting and stopping.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use rdkafka::Message as _;
use serde_json::json;
use shared::events::{
    Topic,
    kafka::{KafkaConfig, OffsetReset, Producer},
};
use sqlx::PgPool;

use super::world::{Eyes, Job, OTHER_TOPIC, PARTITIONS, TOPIC, Till, World, cluster, key_in, value};
use crate::support::eventually;

fn raw(id: &str, key: &str, n: i64) -> Vec<u8> {
    json!({
        "eventId": id, "eventType": "voyage.booking.confirmed", "timestamp": "2026-01-02T03:04:05.678Z",
        "version": "1.0", "source": "shop-service", "payload": { "key": key, "n": n }
    })
    .to_string()
    .into_bytes()
}

#[sqlx::test(migrations = false)]
async fn an_event_delivered_three_times_takes_effect_once(pool: PgPool) {
    let world = World::new(&pool).await;
    for _ in 0..3 {
        world
            .put(TOPIC, "a", &raw("0b0f2a0c-0000-4000-8000-000000000001", "a", 1))
            .await;
    }
    let till = Arc::new(Till::default());
    let consumer = Job::start(|shutdown| world.consumer(&till).run(shutdown));
    eventually("all three are consumed", async || world.committed(TOPIC) == 3).await;
    assert_eq!(world.effects("a").await, [1]);
    assert_eq!(till.tries.load(Ordering::SeqCst), 1);
    assert_eq!(till.told.load(Ordering::SeqCst), 1);
    consumer.stop().await;
}

#[sqlx::test(migrations = false)]
async fn an_event_that_concerns_nobody_here_is_passed_over_without_a_trace(pool: PgPool) {
    let world = World::new(&pool).await;
    world
        .put(TOPIC, "a", &raw("0b0f2a0c-0000-4000-8000-00000000000a", "nobody", 1))
        .await;
    world
        .put(TOPIC, "a", &raw("0b0f2a0c-0000-4000-8000-00000000000b", "a", 2))
        .await;
    let till = Arc::new(Till::default());
    let consumer = Job::start(|shutdown| world.consumer(&till).run(shutdown));
    eventually("both are consumed", async || world.committed(TOPIC) == 2).await;
    assert_eq!(world.effects("a").await, [2]);
    let inbox: i64 = sqlx::query_scalar("select count(*) from shop.inbox")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(
        (
            inbox,
            till.tries.load(Ordering::SeqCst),
            till.told.load(Ordering::SeqCst)
        ),
        (1, 1, 1)
    );
    consumer.stop().await;
}

#[sqlx::test(migrations = false)]
async fn poison_goes_to_the_dead_letters_and_the_partition_goes_on(pool: PgPool) {
    let world = World::new(&pool).await;
    let no_payload = br#"{"eventId":"e-2","eventType":"t","timestamp":"t","version":"1.0","source":"s"}"#;
    world.put(TOPIC, "a", b"\xff not json").await;
    world.put(TOPIC, "a", no_payload).await;
    world.put(TOPIC, "a", b"").await; // a tombstone: skipped
    world.put(TOPIC, "a", &raw("e-3", "thief", 3)).await;
    world.put(TOPIC, "a", &raw("e-4", "a", 4)).await;
    let till = Arc::new(Till::default());
    let consumer = Job::start(|shutdown| world.consumer(&till).run(shutdown));
    eventually("the good one is applied", async || world.effects("a").await == [4]).await;

    let letters = Eyes::on(&world, &TOPIC.dead_letters(), 1).see(3).await;
    let payloads: Vec<_> = letters.iter().map(|letter| value(letter)["payload"].clone()).collect();
    assert_eq!(payloads[0]["originalEvent"]["rawBase64"], "/yBub3QganNvbg==");
    assert_eq!(payloads[1]["error"]["message"], "the payload is missing");
    assert_eq!(payloads[2]["error"]["message"], "wrong owner");
    assert_eq!(payloads[2]["originalEvent"]["eventId"], "e-3");
    for (payload, offset) in payloads.iter().zip([0, 1, 3]) {
        assert_eq!(payload["failedTopic"], TOPIC.name());
        assert_eq!(payload["failedOffset"], offset);
        assert_eq!(payload["group"], "dreamscape-shop-service-group");
        assert_eq!(payload["attempts"], 1);
    }
    let last = value(&letters[2]);
    assert_eq!(
        (last["eventType"].as_str(), last["causationId"].as_str()),
        (Some("dead_letter.event"), Some("e-3"))
    );
    assert_eq!(letters[2].key(), Some(b"a".as_slice()));
    eventually("all five are consumed", async || world.committed(TOPIC) == 5).await;
    // a letter that is replayed after a repair must be applied: it left nothing in the inbox
    let noted: i64 = sqlx::query_scalar("select count(*) from shop.inbox")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(noted, 1);
    consumer.stop().await;
}

#[sqlx::test(migrations = false)]
async fn an_unknown_event_is_tried_three_times_over_five_seconds(pool: PgPool) {
    let world = World::new(&pool).await;
    world.put(TOPIC, "a", &raw("e-1", "a", 1)).await;
    world.put(TOPIC, "a", &raw("e-2", "panic", 2)).await;
    world.put(TOPIC, "a", &raw("e-3", "a", 3)).await;
    let till = Arc::new(Till::default());
    till.unknown.store(true, Ordering::SeqCst);
    let consumer = Job::start(|shutdown| world.consumer(&till).run(shutdown));
    eventually("the first try", async || till.tries.load(Ordering::SeqCst) == 1).await;
    let first = Instant::now();
    eventually("the third try", async || till.tries.load(Ordering::SeqCst) >= 3).await;
    let last = first.elapsed();
    assert!((4..8).contains(&last.as_secs()), "{last:?}");
    let letters = Eyes::on(&world, &TOPIC.dead_letters(), 1);
    let letter = value(&letters.see(1).await[0]);
    assert_eq!(letter["payload"]["attempts"], 3);
    assert_eq!(letter["payload"]["error"]["message"], "the booking does not exist");

    // the second panics in the handler: three tries as well; the third waits behind it and is applied
    till.unknown.store(false, Ordering::SeqCst);
    eventually("the partition goes on", async || world.effects("a").await == [3]).await;
    let letter = value(&letters.see(1).await[0]);
    assert_eq!(letter["payload"]["error"]["message"], "the handler panicked");
    consumer.stop().await;
}

#[sqlx::test(migrations = false)]
async fn a_transient_failure_stops_its_partition_alone_and_skips_nothing(pool: PgPool) {
    let world = World::new(&pool).await;
    for n in 0..20 {
        world.append(OTHER_TOPIC, &format!("key-{n}"), n).await;
    }
    world.relay().run_once().await.unwrap();
    let records = Eyes::on(&world, OTHER_TOPIC.name(), PARTITIONS).see(20).await;
    let (stuck, free) = (key_in(0, &records), key_in(1, &records));

    let till = Arc::new(Till::default());
    *till.away_for.lock().unwrap() = Some(stuck.clone());
    let consumer = Job::start(|shutdown| world.consumer(&till).run(shutdown));
    for n in 1..=30 {
        world.put(TOPIC, &stuck, &raw(&format!("stuck-{n}"), &stuck, n)).await;
        world.put(TOPIC, &free, &raw(&format!("free-{n}"), &free, n)).await;
    }
    let all: Vec<i64> = (1..=30).collect();
    let confirmed = async |key: &str| {
        let numbers = "select n from shop.effects where key = $1 and event_id not like '%-4___-%' order by place";
        sqlx::query_scalar::<_, i64>(numbers)
            .bind(key)
            .fetch_all(&pool)
            .await
            .unwrap()
    };
    eventually("the other partition goes on", async || confirmed(&free).await == all).await;
    eventually("it is tried again", async || till.tries.load(Ordering::SeqCst) > 33).await;
    assert_eq!(confirmed(&stuck).await, Vec::<i64>::new());

    *till.away_for.lock().unwrap() = None;
    eventually("the partition goes on", async || confirmed(&stuck).await == all).await;
    assert!(
        Eyes::on(&world, &TOPIC.dead_letters(), 1).see_nothing_more().await,
        "a transient failure became a dead letter"
    );
    consumer.stop().await;
}

#[sqlx::test(migrations = false)]
async fn replaying_a_topic_into_a_fresh_consumer_changes_nothing(pool: PgPool) {
    let mut world = World::new(&pool).await;
    for n in 0..50 {
        world.append(TOPIC, &format!("key-{}", n % 5), n).await;
    }
    world.relay().run_once().await.unwrap();
    let till = Arc::new(Till::default());
    let consumer = Job::start(|shutdown| world.consumer(&till).run(shutdown));
    eventually("all are consumed", async || world.committed(TOPIC) == 50).await;
    consumer.stop().await;

    // another cluster knows nothing of what was consumed, and gets everything again
    world.cluster = cluster();
    world.config = KafkaConfig::at(&world.cluster.bootstrap_servers());
    world.producer = Producer::new(&world.config, "shop-service").unwrap();
    sqlx::raw_sql("update shop.outbox set published_at = null")
        .execute(&pool)
        .await
        .unwrap();
    world.relay().run_once().await.unwrap();
    let fresh = Arc::new(Till::default());
    let consumer = Job::start(|shutdown| world.consumer(&fresh).run(shutdown));
    eventually("all are consumed again", async || world.committed(TOPIC) == 50).await;
    assert_eq!(fresh.tries.load(Ordering::SeqCst), 0);
    assert_eq!(world.effect_count().await, 50);
    consumer.stop().await;
}

#[sqlx::test(migrations = false)]
async fn latest_skips_what_was_there_before_the_group_and_nothing_after(pool: PgPool) {
    let mut world = World::new(&pool).await;
    world.config.offset_reset = OffsetReset::Latest;
    world.put(TOPIC, "a", &raw("before", "a", 1)).await;
    let till = Arc::new(Till::default());
    let first = Job::start(|shutdown| world.consumer(&till).run(shutdown));
    eventually("the group has a start", async || world.committed(TOPIC) == 1).await;
    // at once, so that it stops without having consumed anything
    first.stop().await;

    // these find the group away; the partitions of the second have never had a record
    world.put(TOPIC, "a", &raw("while-away", "a", 2)).await;
    world.put(OTHER_TOPIC, "a", &raw("while-away-too", "a", 3)).await;
    let second = Job::start(|shutdown| world.consumer(&till).run(shutdown));
    eventually("both are applied", async || world.effect_count().await == 2).await;
    let mut applied = world.effects("a").await;
    applied.sort_unstable();
    assert_eq!(applied, [2, 3]);
    second.stop().await;
}

#[sqlx::test(migrations = false)]
async fn a_graceful_stop_commits_what_is_applied_and_a_second_member_goes_on(pool: PgPool) {
    let world = World::new(&pool).await;
    for n in 0..300 {
        world.append(TOPIC, &format!("key-{}", n % 7), n).await;
    }
    world.relay().run_once().await.unwrap();
    let till = Arc::new(Till::default());
    let first = Job::start(|shutdown| world.consumer(&till).run(shutdown));
    eventually("some are applied", async || world.effect_count().await > 20).await;
    first.stop().await;
    let applied = world.effect_count().await;
    assert_eq!(world.committed(TOPIC), applied);

    let tries = till.tries.load(Ordering::SeqCst);
    assert_eq!(i64::try_from(tries).unwrap(), applied);
    let second = Job::start(|shutdown| world.consumer(&till).run(shutdown));
    eventually("all are applied", async || world.effect_count().await == 300).await;
    assert_eq!(till.tries.load(Ordering::SeqCst), 300);
    second.stop().await;
}

#[sqlx::test(migrations = false)]
async fn two_members_share_the_partitions_and_every_event_takes_effect_once(pool: PgPool) {
    let world = World::new(&pool).await;
    let relay = Job::start(|shutdown| world.relay().run(shutdown));
    let till = Arc::new(Till::default());
    let first = Job::start(|shutdown| world.consumer(&till).run(shutdown));
    let mut second = None;
    for n in 0..200 {
        world.append(TOPIC, &format!("key-{}", n % 7), n).await;
        if n == 60 {
            eventually("the first member works", async || world.effect_count().await > 0).await;
            // joins, and takes partitions over, in the middle of it
            second = Some(Job::start(|shutdown| world.consumer(&till).run(shutdown)));
        }
        if n == 140
            && let Some(second) = second.take()
        {
            second.kill().await;
        }
    }
    eventually("all are applied", async || world.effect_count().await == 200).await;
    for key in 0..7 {
        let effects = world.effects(&format!("key-{key}")).await;
        assert!(effects.is_sorted(), "key-{key}: {effects:?}");
    }
    first.stop().await;
    relay.stop().await;
}

#[sqlx::test(migrations = false)]
async fn while_the_database_is_away_nothing_is_skipped(pool: PgPool) {
    let mut world = World::new(&pool).await;
    let server = pool.connect_options();
    let proxy = crate::support::proxy::Proxy::to(server.get_host(), server.get_port()).await;
    let mut database = crate::support::config_at(&pool);
    database.options = database.options.host("127.0.0.1").port(proxy.port());
    database.acquire_timeout = Duration::from_millis(300);
    let direct = std::mem::replace(&mut world.db, shared::db::Db::connect_lazy(&database));
    let till = Arc::new(Till::default());
    let consumer = Job::start(|shutdown| world.consumer(&till).run(shutdown));
    world.put(TOPIC, "a", &raw("e-1", "a", 1)).await;
    eventually("the first is applied", async || world.effect_count().await == 1).await;

    proxy.cut().await;
    for n in 2..=5 {
        world.put(TOPIC, "a", &raw(&format!("e-{n}"), "a", n)).await;
    }
    eventually("the database is missed", async || world.db.ping().await.is_err()).await;
    proxy.restore().await;
    world.db = direct;
    eventually("all are applied", async || world.effects("a").await == [1, 2, 3, 4, 5]).await;
    assert_eq!(world.committed(Topic::VoyageBookingCancelled), 0);
    consumer.stop().await;
}
