//! Redis on the network: one server or a Cluster.
//!
//! Connections are made lazily, in the background of the first command, and shared by all clones. One that brings only
//! failures is thrown away and made anew: neither kind notices by itself that its peer has gone silent, and the Cluster
//! client spins while no node answers.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::redis::{
    Client, Cmd, ConnectionInfo, ErrorKind, IntoConnectionInfo as _, ServerErrorKind, Value,
    aio::{ConnectionManager, ConnectionManagerConfig},
    cluster::{ClusterClient, ClusterClientBuilder, ClusterConfig},
    cluster_async::ClusterConnection,
    cmd,
};
use secrecy::ExposeSecret as _;
use tokio::time::Instant;

use super::{
    RedisConfig, RedisError, Reply, Script, Subscription, Target,
    breaker::Breaker,
    pubsub,
    script::{hash_tag, millis},
};

/// Breakers of a Cluster: one per 256 slots, so that one lost node does not shut out the others.
const SLOT_RANGES: usize = 64;
/// A connection that has brought nothing but failures for this long is replaced.
const PATIENCE: Duration = Duration::from_secs(1);

/// A server or a Cluster. Clones share the connection.
#[derive(Clone)]
pub struct Remote(Arc<Inner>);

struct Inner {
    source: Source,
    /// A client per known node, for subscriptions.
    nodes: Vec<Client>,
    timeout: Duration,
    breakers: Vec<Breaker>,
    link: Mutex<Link>,
    watched: AtomicBool,
}

#[expect(clippy::large_enum_variant, reason = "one per process")]
enum Source {
    Single(Client),
    Cluster(ClusterClient),
}

struct Link {
    connection: Option<Connection>,
    /// When it was made or last brought an answer.
    alive: Instant,
}

#[derive(Clone)]
enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // addresses may hold a password
        f.write_str("Remote")
    }
}

/// Why one exchange with the server failed.
enum Failure {
    Unavailable(String),
    NoScript,
    Command(String),
}

impl From<Failure> for RedisError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(reason) => Self::Unavailable(reason),
            Failure::Command(reason) => Self::Command(reason),
            Failure::NoScript => Self::Command("the script is not loaded".to_owned()),
        }
    }
}

impl Remote {
    /// A handle; nothing is connected yet. Fails only for addresses that cannot be read.
    pub(super) fn new(config: &RedisConfig) -> anyhow::Result<Self> {
        // the TLS configuration of the client takes the process's provider; whoever comes first sets it
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (source, infos) = match &config.target {
            Target::Memory => anyhow::bail!("the in-process store has no address"),
            Target::Single(url) => {
                let info = info(url.expose_secret(), config)?;
                (Source::Single(Client::open(info.clone())?), vec![info])
            }
            Target::Cluster(urls) => {
                let infos = urls
                    .iter()
                    .map(|url| info(url, config))
                    .collect::<anyhow::Result<Vec<_>>>()?;
                let client = ClusterClientBuilder::new(infos.clone())
                    .connection_timeout(config.timeout.max(Duration::from_millis(500)))
                    .response_timeout(config.timeout)
                    .retries(3)
                    .min_retry_wait(5)
                    .max_retry_wait(50)
                    .build()?;
                (Source::Cluster(client), infos)
            }
        };
        let breakers = if matches!(source, Source::Cluster(_)) {
            SLOT_RANGES
        } else {
            1
        };
        Ok(Self(Arc::new(Inner {
            source,
            nodes: infos.into_iter().map(Client::open).collect::<Result<_, _>>()?,
            timeout: config.timeout,
            breakers: std::iter::repeat_with(Breaker::new).take(breakers).collect(),
            link: Mutex::new(Link {
                connection: None,
                alive: Instant::now(),
            }),
            watched: AtomicBool::new(false),
        })))
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.0.source, Source::Cluster(_))
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, RedisError> {
        match self.run("get", key, cmd("GET").arg(key)).await? {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => Ok(Some(bytes)),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), RedisError> {
        let mut command = cmd("SET");
        command.arg(key).arg(value);
        if let Some(ttl) = ttl {
            command.arg("PX").arg(millis(ttl));
        }
        self.run("set", key, &command).await.map(drop)
    }

    pub(super) async fn set_nx(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<bool, RedisError> {
        let mut command = cmd("SET");
        command.arg(key).arg(value).arg("NX");
        if let Some(ttl) = ttl {
            command.arg("PX").arg(millis(ttl));
        }
        Ok(!matches!(self.run("set_nx", key, &command).await?, Value::Nil))
    }

    pub(super) async fn del(&self, key: &str) -> Result<bool, RedisError> {
        self.run("del", key, cmd("DEL").arg(key))
            .await
            .and_then(|value| is_one(&value))
    }

    pub(super) async fn expire(&self, key: &str, ttl: Duration) -> Result<bool, RedisError> {
        self.run("expire", key, cmd("PEXPIRE").arg(key).arg(millis(ttl)))
            .await
            .and_then(|value| is_one(&value))
    }

    pub(super) async fn ttl(&self, key: &str) -> Result<Option<Duration>, RedisError> {
        match self.run("ttl", key, cmd("PTTL").arg(key)).await? {
            // -2 no such key, -1 no end
            Value::Int(left) => Ok(u64::try_from(left).ok().map(Duration::from_millis)),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn hgetall(&self, key: &str) -> Result<BTreeMap<String, String>, RedisError> {
        match self.run("hgetall", key, cmd("HGETALL").arg(key)).await? {
            Value::Map(pairs) => pairs
                .iter()
                .map(|(field, value)| Ok((text(field)?, text(value)?)))
                .collect(),
            Value::Array(items) => items
                .chunks_exact(2)
                .filter_map(|pair| Some((pair.first()?, pair.get(1)?)))
                .map(|(field, value)| Ok((text(field)?, text(value)?)))
                .collect(),
            other => Err(unexpected(&other)),
        }
    }

    pub(super) async fn eval(&self, script: &Script, keys: &[&str], args: &[&str]) -> Result<Reply, RedisError> {
        let first = keys.first().copied().unwrap_or_default();
        let command = |name: &str, body: &str| {
            let mut command = cmd(name);
            command.arg(body).arg(keys.len()).arg(keys).arg(args);
            command
        };
        let started = Instant::now();
        let mut outcome = self.exchange(first, &command("EVALSHA", script.digest())).await;
        if matches!(outcome, Err(Failure::NoScript)) {
            // the whole text goes to the node that has the key, whoever became its master meanwhile
            outcome = self.exchange(first, &command("EVAL", script.lua())).await;
        }
        record(script.name(), started, &outcome);
        Ok(reply(outcome?))
    }

    pub(super) async fn publish(&self, channel: &str, payload: &[u8]) -> Result<(), RedisError> {
        self.run("publish", channel, cmd("PUBLISH").arg(channel).arg(payload))
            .await
            .map(drop)
    }

    pub(super) async fn subscribe(&self, channels: &[&str]) -> Subscription {
        pubsub::start(self.0.nodes.clone(), channels, self.0.timeout).await
    }

    /// Asks the server, or all masters of the Cluster, whatever the breakers say.
    pub(super) async fn ping(&self) -> Result<(), RedisError> {
        let started = Instant::now();
        let outcome = self.attempt(&cmd("PING")).await;
        record("ping", started, &outcome);
        outcome.map(drop).map_err(RedisError::from)
    }

    async fn run(&self, operation: &'static str, key: &str, command: &Cmd) -> Result<Value, RedisError> {
        let started = Instant::now();
        let outcome = self.exchange(key, command).await;
        record(operation, started, &outcome);
        outcome.map_err(RedisError::from)
    }

    /// One command under the breaker of its key.
    async fn exchange(&self, key: &str, command: &Cmd) -> Result<Value, Failure> {
        let Some(breaker) = self.breaker(key) else {
            return self.attempt(command).await;
        };
        if !breaker.admits() {
            return Err(Failure::Unavailable("it did not answer a moment ago".to_owned()));
        }
        let outcome = self.attempt(command).await;
        if !matches!(outcome, Err(Failure::Unavailable(_))) {
            breaker.succeeded();
        } else if breaker.failed() && !self.is_cluster() {
            self.drop_connection();
        }
        outcome
    }

    /// One command under its time-out.
    async fn attempt(&self, command: &Cmd) -> Result<Value, Failure> {
        let connection = self.connection()?;
        let exchange = async {
            match connection {
                Connection::Single(mut connection) => command.query_async::<Value>(&mut connection).await,
                Connection::Cluster(mut connection) => command.query_async::<Value>(&mut connection).await,
            }
        };
        let outcome = match tokio::time::timeout(self.0.timeout, exchange).await {
            Ok(answer) => answer.map_err(|error| classify(&error)),
            Err(_) => Err(Failure::Unavailable("timed out".to_owned())),
        };
        match &outcome {
            Err(Failure::Unavailable(_)) => self.note_failure(),
            _ => self.lock().alive = Instant::now(),
        }
        outcome
    }

    fn connection(&self) -> Result<Connection, Failure> {
        let mut link = self.lock();
        if let Some(connection) = &link.connection {
            return Ok(connection.clone());
        }
        let made = match &self.0.source {
            Source::Single(client) => {
                let config = ConnectionManagerConfig::new()
                    .set_number_of_retries(0)
                    .set_connection_timeout(Some(self.0.timeout))
                    .set_response_timeout(Some(self.0.timeout));
                let manager = ConnectionManager::new_lazy_with_config(client.clone(), config);
                Connection::Single(manager.map_err(|error| classify(&error))?)
            }
            Source::Cluster(client) => {
                Connection::Cluster(client.get_pending_async_connection_with_config(ClusterConfig::new()))
            }
        };
        link.connection = Some(made.clone());
        link.alive = Instant::now();
        Ok(made)
    }

    /// Replaces the connection if it has been failing for a while, and makes sure that somebody looks again even if no
    /// further command comes.
    fn note_failure(&self) {
        if !self.drop_if_stale() && !self.0.watched.swap(true, Ordering::AcqRel) {
            let inner: Weak<Inner> = Arc::downgrade(&self.0);
            tokio::spawn(async move {
                tokio::time::sleep(PATIENCE + PATIENCE / 2).await;
                let Some(remote) = inner.upgrade().map(Self) else {
                    return;
                };
                remote.0.watched.store(false, Ordering::Release);
                remote.drop_if_stale();
            });
        }
    }

    fn drop_if_stale(&self) -> bool {
        let mut link = self.lock();
        let stale = link.connection.is_some() && link.alive.elapsed() >= PATIENCE;
        if stale {
            link.connection = None;
        }
        stale
    }

    fn drop_connection(&self) {
        self.lock().connection = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Link> {
        self.0.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn breaker(&self, key: &str) -> Option<&Breaker> {
        if !self.is_cluster() {
            return self.0.breakers.first();
        }
        let slot = usize::from(crc16(hash_tag(key).as_bytes())) % 16_384;
        self.0.breakers.get(slot / (16_384 / SLOT_RANGES))
    }
}

/// The address with the user and password of the configuration, where it has none itself.
fn info(url: &str, config: &RedisConfig) -> anyhow::Result<ConnectionInfo> {
    // the address is not repeated in the error: it may hold a password
    let info = url
        .into_connection_info()
        .map_err(|error| anyhow::anyhow!("the address of redis is not valid: {}", error.category()))?;
    let mut settings = info.redis_settings().clone();
    if let (Some(username), None) = (&config.username, settings.username()) {
        settings = settings.set_username(username);
    }
    if let (Some(password), None) = (&config.password, settings.password()) {
        settings = settings.set_password(password.expose_secret());
    }
    Ok(info.set_redis_settings(settings))
}

fn classify(error: &::redis::RedisError) -> Failure {
    let kind = error.kind();
    match kind {
        ErrorKind::Server(ServerErrorKind::NoScript) => Failure::NoScript,
        ErrorKind::Server(
            ServerErrorKind::ResponseError
            | ServerErrorKind::ExecAbort
            | ServerErrorKind::CrossSlot
            | ServerErrorKind::NoSub,
        )
        | ErrorKind::UnexpectedReturnType
        | ErrorKind::Parse => Failure::Command(error.to_string()),
        // full, unable to persist, wrong password: not our command
        ErrorKind::Extension
            if !matches!(
                error.code(),
                Some("OOM" | "MISCONF" | "NOAUTH" | "WRONGPASS" | "NOREPLICAS")
            ) =>
        {
            Failure::Command(error.to_string())
        }
        _ => Failure::Unavailable(error.category().to_owned()),
    }
}

fn record(operation: &'static str, started: Instant, outcome: &Result<Value, Failure>) {
    let result = match outcome {
        Ok(_) => "ok",
        Err(Failure::Unavailable(_)) => "unavailable",
        Err(_) => "error",
    };
    metrics::counter!("redis_operations_total", "command" => operation, "result" => result).increment(1);
    metrics::histogram!("redis_operation_duration_seconds", "command" => operation, "result" => result)
        .record(started.elapsed().as_secs_f64());
}

fn reply(value: Value) -> Reply {
    match value {
        Value::Int(number) => Reply::Int(number),
        Value::Boolean(yes) => Reply::Int(i64::from(yes)),
        Value::BulkString(bytes) => Reply::Bytes(bytes),
        Value::SimpleString(text) => Reply::Bytes(text.into_bytes()),
        Value::Okay => Reply::Bytes(b"OK".to_vec()),
        Value::Array(items) | Value::Set(items) => Reply::List(items.into_iter().map(reply).collect()),
        _ => Reply::Nil,
    }
}

fn text(value: &Value) -> Result<String, RedisError> {
    match value {
        Value::BulkString(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Ok(text.clone()),
        other => Err(unexpected(other)),
    }
}

fn is_one(value: &Value) -> Result<bool, RedisError> {
    match value {
        Value::Int(count) => Ok(*count == 1),
        other => Err(unexpected(other)),
    }
}

fn unexpected(value: &Value) -> RedisError {
    let kind = match value {
        Value::Int(_) => "a number",
        Value::Nil => "nothing",
        Value::Array(_) => "a list",
        _ => "another type",
    };
    RedisError::Command(format!("unexpected answer: {kind}"))
}

/// CRC-16/XMODEM, by which a Cluster finds the slot of a key.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_computed_as_redis_does() {
        // the check value of CRC-16/XMODEM, also in the Cluster specification
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }
}
