//! A broker, a database with a shop in it, a handler that counts effects, and eyes on everything.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    config::ClientConfig,
    consumer::{BaseConsumer, Consumer as _, StreamConsumer},
    message::{Headers as _, OwnedMessage},
    mocking::MockCluster,
    producer::DefaultProducerContext,
};
use serde_json::{Value, json};
use shared::{
    db::{
        Db,
        migrate::{self, Roles},
    },
    events::{
        Envelope, NewEvent, Topic,
        consumer::{Consumer, Failure, Handler},
        kafka::{KafkaConfig, Producer, Record},
        outbox,
        relay::{Relay, RelayOptions},
    },
    lifecycle::Shutdown,
    sources::Sources,
};
use sqlx::{PgConnection, PgPool};

use crate::support::{Shop, config_at, migrations};

pub const PARTITIONS: i32 = 3;
pub const TOPIC: Topic = Topic::VoyageBookingConfirmed;
pub const OTHER_TOPIC: Topic = Topic::VoyageBookingCancelled;
pub const GROUP: &str = "dreamscape-shop-service-group";

/// Three brokers with the topics of these tests.
pub fn cluster() -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(3).unwrap();
    for topic in [TOPIC, OTHER_TOPIC] {
        cluster.create_topic(topic.name(), PARTITIONS, 3).unwrap();
        cluster.create_topic(&topic.dead_letters(), 1, 3).unwrap();
    }
    cluster
}

/// A shop whose database is fresh.
pub struct World {
    pub cluster: MockCluster<'static, DefaultProducerContext>,
    pub config: KafkaConfig,
    pub db: Db<Shop>,
    pub producer: Producer,
    pub sources: Sources,
}

impl World {
    pub async fn new(pool: &PgPool) -> Self {
        let mut connection = pool.acquire().await.unwrap();
        migrate::run_on(&mut connection, &[migrations::<Shop>()], Roles::Ignore)
            .await
            .unwrap();
        let cluster = cluster();
        let mut config = KafkaConfig::at(&cluster.bootstrap_servers());
        // a member that ends while it joins, or is killed, holds up its group for this long; the mock cluster gives out
        // member ids late, so that even a graceful end within three seconds of the start counts
        config.session_timeout = Duration::from_secs(6);
        let mut database = config_at(pool);
        database.max_connections = 8;
        database.options = database.options.options([("synchronous_commit", "off")]);
        Self {
            db: Db::connect_lazy(&database),
            producer: Producer::new(&config, "shop-service").unwrap(),
            sources: Sources::system(),
            cluster,
            config,
        }
    }

    pub fn relay(&self) -> Relay<Shop> {
        let options = RelayOptions {
            poll: Duration::from_millis(200),
            ..RelayOptions::default()
        };
        Relay::new(self.db.clone(), self.producer.clone(), self.sources.clone()).with_options(options)
    }

    pub fn consumer(&self, handler: &Arc<Till>) -> Consumer<Shop> {
        Consumer::shared(self.db.clone(), &self.config, self.producer.clone(), handler.clone())
    }

    pub fn event(&self, topic: Topic, key: &str, n: i64) -> NewEvent {
        NewEvent::new::<Shop>(&self.sources, topic, key, &json!({ "key": key, "n": n }))
    }

    /// One committed change with its event.
    pub async fn append(&self, topic: Topic, key: &str, n: i64) {
        let event = self.event(topic, key, n);
        self.append_all(&[event]).await;
    }

    pub async fn append_all(&self, events: &[NewEvent]) {
        let mut tx = self.db.begin().await.unwrap();
        outbox::append::<Shop>(&mut tx, events).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub async fn pending(&self) -> i64 {
        let count = "select count(*) from shop.outbox where published_at is null";
        sqlx::query_scalar(count).fetch_one(self.db.pool()).await.unwrap()
    }

    /// The numbers applied under a key, in the order in which they were.
    pub async fn effects(&self, key: &str) -> Vec<i64> {
        sqlx::query_scalar("select n from shop.effects where key = $1 order by place")
            .bind(key)
            .fetch_all(self.db.pool())
            .await
            .unwrap()
    }

    pub async fn effect_count(&self) -> i64 {
        sqlx::query_scalar("select count(*) from shop.effects")
            .fetch_one(self.db.pool())
            .await
            .unwrap()
    }

    /// Puts bytes on a topic as a stranger would: without headers.
    pub async fn put(&self, topic: Topic, key: &str, value: &[u8]) {
        let record = Record {
            topic: topic.name(),
            key: Some(key.as_bytes()),
            value,
            headers: &[],
        };
        self.producer.send(record, Duration::from_secs(10)).await.unwrap();
    }

    /// The sum of what the group has committed over the partitions of a topic.
    pub fn committed(&self, topic: Topic) -> i64 {
        let asking: BaseConsumer = self.client().set("group.id", GROUP).create().unwrap();
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_range(topic.name(), 0, PARTITIONS - 1);
        let committed = asking.committed_offsets(partitions, Duration::from_secs(10)).unwrap();
        committed
            .elements()
            .iter()
            .filter_map(|element| element.offset().to_raw())
            .filter(|offset| *offset > 0)
            .sum()
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.cluster.bootstrap_servers());
        client
    }
}

/// Reads a topic from its beginning, outside any group.
pub struct Eyes {
    consumer: StreamConsumer,
}

impl Eyes {
    pub fn on(world: &World, topic: &str, partitions: i32) -> Self {
        let consumer: StreamConsumer = world
            .client()
            .set("group.id", "eyes")
            .set("fetch.wait.max.ms", "10")
            .create()
            .unwrap();
        let mut all = TopicPartitionList::new();
        for partition in 0..partitions {
            all.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&all).unwrap();
        Self { consumer }
    }

    /// The next so many records.
    pub async fn see(&self, count: usize) -> Vec<OwnedMessage> {
        let mut seen = Vec::new();
        while seen.len() < count {
            let next = tokio::time::timeout(Duration::from_secs(30), self.consumer.recv()).await;
            match next {
                Ok(Ok(record)) => seen.push(record.detach()),
                // a broker that is away is told here, and comes back
                Ok(Err(_)) => {}
                Err(_elapsed) => panic!("saw {} of {count} records", seen.len()),
            }
        }
        seen
    }

    /// Whether no record follows within a moment.
    pub async fn see_nothing_more(&self) -> bool {
        tokio::time::timeout(Duration::from_millis(500), self.consumer.recv())
            .await
            .is_err()
    }
}

pub fn value(record: &OwnedMessage) -> Value {
    serde_json::from_slice(record.payload().unwrap()).unwrap()
}

pub fn header(record: &OwnedMessage, name: &str) -> Option<String> {
    let headers = record.headers()?;
    let value = headers.iter().find(|header| header.key == name)?.value?;
    Some(String::from_utf8(value.to_vec()).unwrap())
}

/// The numbers in the records of each key, in their order.
pub fn numbers_by_key(records: &[OwnedMessage]) -> HashMap<String, Vec<i64>> {
    let mut all: HashMap<String, Vec<i64>> = HashMap::new();
    for record in records {
        let key = String::from_utf8(record.key().unwrap().to_vec()).unwrap();
        all.entry(key)
            .or_default()
            .push(value(record)["payload"]["n"].as_i64().unwrap());
    }
    all
}

/// A key that lands in this partition.
pub fn key_in(partition: i32, records: &[OwnedMessage]) -> String {
    let record = records.iter().find(|record| record.partition() == partition).unwrap();
    String::from_utf8(record.key().unwrap().to_vec()).unwrap()
}

/// A handler that writes one effect per event, and misbehaves when told to.
#[derive(Default)]
pub struct Till {
    /// Keys whose events wait while this is set.
    pub away_for: Mutex<Option<String>>,
    /// Events are unknown until this is set.
    pub unknown: AtomicBool,
    pub tries: AtomicUsize,
    pub told: AtomicUsize,
}

#[async_trait]
impl Handler<Shop> for Till {
    fn group(&self) -> &'static str {
        GROUP
    }

    fn topics(&self) -> &'static [Topic] {
        &[TOPIC, OTHER_TOPIC]
    }

    fn concerns(&self, _: Topic, event: &Envelope) -> bool {
        event.payload["key"] != "nobody"
    }

    async fn handle(&self, tx: &mut PgConnection, _: Topic, event: &Envelope) -> Result<(), Failure> {
        self.tries.fetch_add(1, Ordering::SeqCst);
        let key = event.payload["key"].as_str().unwrap_or_default().to_owned();
        if self.away_for.lock().unwrap().as_ref() == Some(&key) {
            return Err(Failure::transient(anyhow::anyhow!("the supplier is away")));
        }
        if self.unknown.load(Ordering::SeqCst) {
            return Err(Failure::unknown("the booking does not exist"));
        }
        match key.as_str() {
            "thief" => return Err(Failure::permanent("wrong owner")),
            "panic" => panic!("a fault in the handler"),
            _ => {}
        }
        let n = event.payload["n"]
            .as_i64()
            .ok_or_else(|| Failure::permanent("no number"))?;
        sqlx::query("insert into shop.effects (event_id, key, n) values ($1, $2, $3)")
            .bind(&event.event_id)
            .bind(key)
            .bind(n)
            .execute(tx)
            .await?;
        Ok(())
    }

    async fn committed(&self, _: Topic, _: &Envelope) {
        self.told.fetch_add(1, Ordering::SeqCst);
    }
}

/// A relay or consumer that runs until it is stopped or killed.
pub struct Job {
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Job {
    pub fn start<F>(run: impl FnOnce(Shutdown) -> F) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let shutdown = Shutdown::new();
        Self {
            task: tokio::spawn(run(shutdown.clone())),
            shutdown,
        }
    }

    /// The graceful end.
    pub async fn stop(self) {
        self.shutdown.drain();
        self.shutdown.set_served();
        self.task.await.unwrap().unwrap();
    }

    /// The end that leaves no time for anything.
    pub async fn kill(self) {
        self.task.abort();
        self.task.await.unwrap_err();
    }
}
