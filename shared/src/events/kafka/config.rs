//! How Kafka is reached, under the names of events §1.

use std::time::Duration;

use rdkafka::ClientConfig;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{config::Reader, events::Topic};

/// Larger than any record of ours; the brokers' `message.max.bytes`.
const MAX_MESSAGE_BYTES: u32 = 10_485_760;

/// Where a consumer group starts that has never committed an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the end of the topics as they are when the group first starts. From then on nothing is skipped.
    Latest,
    /// At the oldest record.
    Earliest,
}

/// Credentials for the brokers.
#[derive(Debug, Clone)]
pub struct Sasl {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: &'static str,
    /// The user.
    pub username: String,
    /// Its password.
    pub password: SecretString,
}

/// How Kafka is reached and how clients behave.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// `host:port` of some brokers.
    pub brokers: Vec<String>,
    /// Whether connections are encrypted.
    pub ssl: bool,
    /// Credentials, if the brokers ask for them.
    pub sasl: Option<Sasl>,
    /// Where a group starts that has never committed.
    pub offset_reset: OffsetReset,
    /// Copies of each partition.
    pub replication_factor: i32,
    /// Partitions of every topic; unset means the numbers of events §4.
    pub partitions: Option<i32>,
    /// Requests on the way per broker; at most 5, so that idempotence keeps the order.
    pub max_in_flight: u32,
    /// How long a connection may take.
    pub connection_timeout: Duration,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// A member of a group that is silent for this long is replaced.
    pub session_timeout: Duration,
    /// How often a member says that it lives.
    pub heartbeat_interval: Duration,
    /// Bytes a fetch takes from one partition.
    pub max_bytes_per_partition: u32,
    /// A fetch waits for this many bytes …
    pub min_bytes: u32,
    /// … but takes at most so many …
    pub max_bytes: u32,
    /// … and waits no longer than this (capped at 100 ms: the saga has three seconds).
    pub max_wait: Duration,
    /// librdkafka's debug contexts (`broker,topic,msg`), for finding faults.
    pub debug: Option<String>,
}

impl KafkaConfig {
    /// Brokers at an address, everything else as by default; for tests.
    pub fn at(brokers: &str) -> Self {
        Self {
            brokers: brokers.split(',').map(str::to_owned).collect(),
            ssl: false,
            sasl: None,
            offset_reset: OffsetReset::Earliest,
            replication_factor: 1,
            partitions: None,
            max_in_flight: 5,
            connection_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            session_timeout: Duration::from_secs(30),
            heartbeat_interval: Duration::from_secs(3),
            max_bytes_per_partition: 1_048_576,
            min_bytes: 1,
            max_bytes: MAX_MESSAGE_BYTES,
            max_wait: Duration::from_millis(100),
            debug: None,
        }
    }

    /// Reads the settings. In production `KAFKA_BROKERS` must be set; nothing here needs a broker to be there.
    pub fn read(reader: &mut Reader) -> Self {
        let production = reader.production();
        if production && !reader.is_set("KAFKA_BROKERS") {
            reader.problem("KAFKA_BROKERS is missing: host:port of the brokers, separated by commas");
        }
        let brokers = reader.list(
            "KAFKA_BROKERS",
            &["localhost:9092"],
            "brokers, host:port separated by commas",
        );
        let ssl = reader.or("KAFKA_SSL", false, "encrypt connections to Kafka");
        let credentials = read_sasl(reader);
        let reset = reader.or(
            "KAFKA_AUTO_OFFSET_RESET",
            "latest".to_owned(),
            "where a consumer group starts that never committed: latest or earliest",
        );
        let offset_reset = match reset.as_str() {
            "latest" => OffsetReset::Latest,
            "earliest" => OffsetReset::Earliest,
            _ => {
                reader.problem("KAFKA_AUTO_OFFSET_RESET is neither `latest` nor `earliest`");
                OffsetReset::Latest
            }
        };
        let default_replicas = if production { 3 } else { 1 };
        let replication_factor = reader.or("KAFKA_REPLICATION_FACTOR", default_replicas, "copies of each partition");
        let default_partitions = if production { 6 } else { 0 };
        let partitions = reader.or(
            "KAFKA_TOPIC_PARTITIONS",
            default_partitions,
            "partitions of every topic; 0: as in events §4",
        );
        let max_in_flight = reader.or(
            "KAFKA_MAX_IN_FLIGHT_REQUESTS",
            5_u32,
            "requests on the way per broker, 1 to 5",
        );
        if !(1..=5).contains(&max_in_flight) {
            reader.problem("KAFKA_MAX_IN_FLIGHT_REQUESTS is not between 1 and 5");
        }
        if !reader.or("KAFKA_IDEMPOTENT", true, "always on; `false` is refused") {
            reader.problem("KAFKA_IDEMPOTENT: the producer is always idempotent");
        }
        let mut millis = |name, default: u64, help| Duration::from_millis(reader.or(name, default, help));
        let connection_timeout = millis("KAFKA_CONNECTION_TIMEOUT", 10_000, "time for a connection, ms");
        let request_timeout = millis("KAFKA_REQUEST_TIMEOUT", 30_000, "time for a request, ms");
        let session_timeout = millis(
            "KAFKA_SESSION_TIMEOUT",
            30_000,
            "silence after which a group member is replaced, ms",
        );
        let heartbeat_interval = millis("KAFKA_HEARTBEAT_INTERVAL", 3_000, "time between signs of life, ms");
        let max_wait = millis("KAFKA_MAX_WAIT_TIME", 100, "longest wait of a fetch, ms; capped at 100");
        let config = Self {
            brokers,
            ssl,
            sasl: credentials,
            offset_reset,
            replication_factor,
            partitions: (partitions > 0).then_some(partitions),
            max_in_flight: max_in_flight.clamp(1, 5),
            connection_timeout,
            request_timeout,
            session_timeout,
            heartbeat_interval,
            max_bytes_per_partition: reader.or(
                "KAFKA_MAX_BYTES_PER_PARTITION",
                1_048_576,
                "bytes per fetch and partition",
            ),
            min_bytes: reader.or("KAFKA_MIN_BYTES", 1, "bytes a fetch waits for"),
            max_bytes: reader.or("KAFKA_MAX_BYTES", MAX_MESSAGE_BYTES, "bytes a fetch takes at most"),
            max_wait: max_wait.min(Duration::from_millis(100)),
            debug: reader.text("KAFKA_DEBUG", "librdkafka debug contexts, for finding faults"),
        };
        config.check(reader);
        config
    }

    /// The partitions a topic is created with.
    pub fn partitions_of(&self, topic: Topic) -> i32 {
        self.partitions.unwrap_or_else(|| topic.development_partitions())
    }

    /// Refuses what the librdkafka in this binary cannot do, rather than failing at the first connection.
    fn check(&self, reader: &mut Reader) {
        let features = builtin_features();
        let has = |feature: &str| features.split(',').any(|one| one.trim() == feature);
        if self.ssl && !has("ssl") {
            reader.problem("KAFKA_SSL: this build has no TLS for Kafka (rdkafka's feature `ssl-vendored`)");
        }
        let Some(sasl) = &self.sasl else { return };
        let needed = if sasl.mechanism == "PLAIN" {
            "sasl_plain"
        } else {
            "sasl_scram"
        };
        if !has(needed) {
            reader.problem(format!(
                "KAFKA_SASL_MECHANISM: this build cannot do {} (needs TLS for Kafka)",
                sasl.mechanism
            ));
        }
    }

    /// What every client has in common. `service` is `payment-service`; the client id becomes `dreamscape-payment-service`.
    pub(super) fn client(&self, service: &str) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", format!("dreamscape-{service}"))
            .set("socket.connection.setup.timeout.ms", millis(self.connection_timeout))
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set("message.max.bytes", MAX_MESSAGE_BYTES.to_string())
            .set("security.protocol", self.protocol());
        if let Some(sasl) = &self.sasl {
            client
                .set("sasl.mechanism", sasl.mechanism)
                .set("sasl.username", &sasl.username)
                .set("sasl.password", sasl.password.expose_secret());
        }
        if let Some(debug) = &self.debug {
            client.set("debug", debug);
        }
        client
    }

    /// The idempotent producer. Records wait for the broker without a limit: a time-out would let a later record of the
    /// same key overtake; whoever cannot wait that long stops waiting and sends again.
    pub(super) fn producer(&self, service: &str) -> ClientConfig {
        let mut client = self.client(service);
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("max.in.flight.requests.per.connection", self.max_in_flight.to_string())
            .set("partitioner", "murmur2_random")
            .set("compression.type", "gzip")
            .set("linger.ms", "2")
            .set("request.timeout.ms", millis(self.request_timeout))
            .set("message.timeout.ms", "0")
            .set("queue.buffering.max.kbytes", "65536");
        client
    }

    /// A member of a consumer group. Offsets are stored by hand, after the database has committed, and committed to the
    /// broker once a second from there.
    pub(in crate::events) fn consumer(&self, service: &str, group: &str) -> ClientConfig {
        let mut client = self.client(service);
        client
            .set("group.id", group)
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            // `latest` is made true by committing the ends of the topics before the first subscription, so that a
            // partition without a committed offset never loses what arrived while the group was away
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", millis(self.session_timeout))
            .set("heartbeat.interval.ms", millis(self.heartbeat_interval))
            .set("fetch.wait.max.ms", millis(self.max_wait))
            .set("fetch.min.bytes", self.min_bytes.to_string())
            .set("fetch.max.bytes", self.max_bytes.max(MAX_MESSAGE_BYTES).to_string())
            .set("max.partition.fetch.bytes", self.max_bytes_per_partition.to_string())
            .set("queued.min.messages", "1000")
            .set("queued.max.messages.kbytes", "16384")
            .set("statistics.interval.ms", "15000");
        client
    }

    fn protocol(&self) -> &'static str {
        match (self.ssl, self.sasl.is_some()) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        }
    }
}

fn read_sasl(reader: &mut Reader) -> Option<Sasl> {
    let username = reader.text("KAFKA_SASL_USERNAME", "user at the brokers");
    let password = reader.secret("KAFKA_SASL_PASSWORD", "password of the user at the brokers");
    let mechanism = reader.or(
        "KAFKA_SASL_MECHANISM",
        "plain".to_owned(),
        "plain, scram-sha-256 or scram-sha-512, with a user",
    );
    let mechanism = match mechanism.to_ascii_lowercase().as_str() {
        "plain" => "PLAIN",
        "scram-sha-256" => "SCRAM-SHA-256",
        "scram-sha-512" => "SCRAM-SHA-512",
        _ => {
            reader.problem("KAFKA_SASL_MECHANISM is not one of plain, scram-sha-256, scram-sha-512");
            "PLAIN"
        }
    };
    match (username, password) {
        (Some(username), Some(password)) => Some(Sasl {
            mechanism,
            username,
            password,
        }),
        (None, None) => None,
        _ => {
            reader.problem("KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD belong together");
            None
        }
    }
}

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}

/// What the linked librdkafka was built with.
fn builtin_features() -> String {
    ClientConfig::new()
        .create_native_config()
        .and_then(|native| native.get("builtin.features"))
        .unwrap_or_default()
        .trim_end_matches('\0')
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (KafkaConfig, Vec<String>) {
        let mut reader = Reader::from_pairs(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let config = KafkaConfig::read(&mut reader);
        (config, reader.finish().err().map(|errors| errors.0).unwrap_or_default())
    }

    #[test]
    fn a_laptop_needs_no_setting() {
        let (config, problems) = read(&[]);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(config.brokers, ["localhost:9092"]);
        assert_eq!(config.offset_reset, OffsetReset::Latest);
        assert_eq!(config.partitions_of(Topic::VoyageSearchPerformed), 6);
        assert_eq!(config.partitions_of(Topic::UserCreated), 3);
    }

    #[test]
    fn production_has_six_partitions_and_three_copies_and_names_the_missing_brokers() {
        let (config, problems) = read(&[("APP_ENV", "production")]);
        assert_eq!(config.partitions_of(Topic::UserCreated), 6);
        assert_eq!(config.replication_factor, 3);
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn a_long_fetch_wait_is_capped() {
        let (config, _) = read(&[("KAFKA_MAX_WAIT_TIME", "5000")]);
        assert_eq!(config.max_wait, Duration::from_millis(100));
    }

    #[test]
    fn what_this_build_cannot_do_is_a_problem_at_start() {
        let has_tls = builtin_features().split(',').any(|feature| feature == "ssl");
        let (_, problems) = read(&[("KAFKA_SSL", "true")]);
        assert_eq!(problems.is_empty(), has_tls);
    }

    #[test]
    fn librdkafka_accepts_every_setting() {
        let config = KafkaConfig::at("localhost:1");
        config.producer("auth-service").create_native_config().unwrap();
        config.consumer("auth-service", "group").create_native_config().unwrap();
    }
}
