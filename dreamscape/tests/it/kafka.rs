//! Kafka under the whole platform: real brokers that die, and a pod that is killed while it publishes.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use devkit::{brokers::Brokers, kafka::MockCluster};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use rdkafka::{
    ClientConfig, Message as _,
    consumer::{BaseConsumer, Consumer as _},
};
use serde_json::{Value, json};

use crate::process::{Site, eventually, ready};

/// The folder with the jars of Kafka, which the test script fetches where Java and Maven are.
fn jars() -> Option<PathBuf> {
    std::env::var_os("KAFKA_JARS")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
}

#[tokio::test]
async fn the_journey_holds_on_three_real_brokers_while_one_of_them_dies() {
    let Some(jars) = jars() else {
        eprintln!("SKIP: KAFKA_JARS is not set; scripts/ci/kafka/jars.sh says why");
        return;
    };
    let mut brokers = Brokers::start(&jars, 3).await.unwrap();
    let site = Site::new()
        .with("KAFKA_BROKERS", brokers.bootstrap_servers())
        .with("KAFKA_REPLICATION_FACTOR", "3")
        .with("KAFKA_AUTO_OFFSET_RESET", "earliest");
    let mut platform = site.spawn("dreamscape", &["run"]);
    for port in ["GATEWAY_PORT", "BUSINESS_PORT", "WEB_PORT"] {
        ready(&site.address(port), &mut platform).await;
    }
    site.demo(&[]);

    brokers.kill(2).await.unwrap();
    site.demo(&[]);
    brokers.restart(2).await.unwrap();
    site.demo(&[]);

    for pod in ["CORE_METRICS_PORT", "BUSINESS_METRICS_PORT"] {
        let url = format!("{}/metrics", site.address(pod));
        eventually("every event is published", async || pending(&url).await == 0.0).await;
    }
    let confirmed = drain(&brokers.bootstrap_servers(), "dreamscape.voyage.booking.confirmed", 6).await;
    assert_eq!(
        confirmed.len(),
        6,
        "two bookings of each of three travellers, once each"
    );
    for topic in ["dreamscape.voyage.booking.confirmed.dlq", "dreamscape.user.created.dlq"] {
        assert!(
            drain(&brokers.bootstrap_servers(), topic, 0).await.is_empty(),
            "{topic}"
        );
    }
    assert!(platform.stop().success());
}

/// The pod dies in the middle of what its relay does, again and again. Whoever got a 201 is announced at least once, and
/// a second announcement is the same event.
#[tokio::test]
async fn a_pod_that_is_killed_while_it_publishes_loses_no_event() {
    let cluster = MockCluster::start().unwrap();
    cluster.create_topic("dreamscape.user.created", 3).unwrap();
    let site = Site::new()
        .with("KAFKA_BROKERS", cluster.bootstrap_servers())
        .with("KAFKA_AUTO_OFFSET_RESET", "earliest");
    let url = format!("{}/api/v1/auth/register", site.address("AUTH_PORT"));

    let mut accepted = Vec::new();
    for round in 0..4 {
        let mut pod = site.spawn("core-pod", &[]);
        ready(&site.address("GATEWAY_PORT"), &mut pod).await;
        // killed in the midst of them: as soon as so many are told that they have an account
        let mut answers: FuturesUnordered<_> = (0..24)
            .map(|traveller| register(url.clone(), round, traveller))
            .collect();
        let before = accepted.len();
        while accepted.len() - before < 2 + 3 * round
            && let Some(answer) = answers.next().await
        {
            accepted.extend(answer);
        }
        pod.kill();
        while let Some(answer) = answers.next().await {
            accepted.extend(answer);
        }
    }
    assert!(
        accepted.len() >= 8,
        "too few sign-ups to say anything: {}",
        accepted.len()
    );

    let mut pod = site.spawn("core-pod", &[]);
    ready(&site.address("GATEWAY_PORT"), &mut pod).await;
    let metrics = format!("{}/metrics", site.address("CORE_METRICS_PORT"));
    eventually("every event is published", async || pending(&metrics).await == 0.0).await;

    let published = drain(cluster.bootstrap_servers(), "dreamscape.user.created", accepted.len()).await;
    let mut by_user: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event in &published {
        let user = event["payload"]["userId"].as_str().unwrap();
        by_user
            .entry(user)
            .or_default()
            .push(event["eventId"].as_str().unwrap());
    }
    for user in &accepted {
        assert!(
            by_user.contains_key(user.as_str()),
            "the sign-up of {user} was never announced"
        );
    }
    for (user, events) in by_user {
        assert!(
            events.iter().all(|event| *event == events[0]),
            "{user} was announced by two different events"
        );
    }
}

async fn register(url: String, round: usize, traveller: u32) -> Option<String> {
    let body = json!({
        "email": format!("killed.{round}.{traveller}@example.com"), "password": "Dream-scape-1!", "firstName": "Ada",
    });
    let answer = reqwest::Client::new().post(url).json(&body).send().await.ok()?;
    if answer.status() != 201 {
        return None;
    }
    let body: Value = answer.json().await.ok()?;
    body.pointer("/data/user/id")?.as_str().map(str::to_owned)
}

/// How many events wait in the outboxes of a pod.
async fn pending(metrics: &str) -> f64 {
    let Ok(answer) = reqwest::get(metrics).await else {
        return f64::INFINITY;
    };
    let text = answer.text().await.unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with("outbox_pending_events"));
    let counts: Vec<f64> = lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    if counts.is_empty() {
        f64::INFINITY
    } else {
        counts.iter().sum()
    }
}

/// The envelopes in a topic from its beginning: waits for so many, then for silence.
pub async fn drain(bootstrap: &str, topic: &str, wanted: usize) -> Vec<Value> {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "a-curious-test")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(Some(&topic), Duration::from_secs(10)).unwrap();
        let mut list = rdkafka::TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            list.add_partition_offset(&topic, partition.id(), rdkafka::Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&list).unwrap();
        let mut events = Vec::new();
        let (deadline, mut quiet_since) = (Instant::now() + Duration::from_secs(30), Instant::now());
        loop {
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    events.push(serde_json::from_slice(message.payload().unwrap()).unwrap());
                    quiet_since = Instant::now();
                }
                Some(Err(error)) => eprintln!("while reading {topic}: {error}"),
                None if events.len() >= wanted && quiet_since.elapsed() > Duration::from_secs(2) => return events,
                None => {}
            }
            if Instant::now() > deadline {
                return events;
            }
        }
    })
    .await
    .unwrap()
}
