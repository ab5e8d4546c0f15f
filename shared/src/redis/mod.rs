//! Redis behind one small enum: an in-process store, a single server or a Cluster, which behave alike.
//!
//! contract: core §8 (keys), operations §6.8 (Cluster). What must hold everywhere:
//!
//! * every command has its own time-out; an absent server is [`RedisError::Unavailable`] at once and comes back by itself;
//! * several keys of one script share a hash tag (`{user:42}`), also where the back end would not insist;
//! * nothing in here is the truth about anything: callers fall back to the database or to counters of their own.

mod breaker;
mod config;
mod memory;
mod pubsub;
mod remote;
pub mod script;

use std::{collections::BTreeMap, time::Duration};

pub use self::{
    config::{RedisConfig, Target},
    memory::{Memory, View},
    remote::Remote,
    script::{Reply, Script},
};

/// Why a command gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RedisError {
    /// The server is away or too slow. Trying again later may help.
    #[error("redis is unavailable: {0}")]
    Unavailable(String),
    /// The server refused the command: ours is wrong, or the key holds another type.
    #[error("redis refused the command: {0}")]
    Command(String),
}

impl RedisError {
    /// Whether the server is away, as opposed to our command being wrong.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<RedisError> for crate::ApiError {
    fn from(error: RedisError) -> Self {
        if error.is_unavailable() {
            Self::unavailable(error)
        } else {
            Self::internal(error)
        }
    }
}

/// A message on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The channel it was published on.
    pub channel: String,
    /// What was published.
    pub payload: Vec<u8>,
}

/// What a subscription delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Message(Message),
    /// Messages may have been lost (reconnection, or this reader was too slow): what was cached on their strength is stale.
    Gap,
}

/// A live subscription. It reconnects by itself and ends when dropped.
#[derive(Debug)]
pub struct Subscription {
    receiver: tokio::sync::mpsc::Receiver<Received>,
    /// Ends the feeding task with the subscription.
    _feeder: tokio_util::task::AbortOnDropHandle<()>,
}

impl Subscription {
    /// The next message; waits for ever if there is none. `None` only when the runtime shuts down.
    pub async fn next(&mut self) -> Option<Received> {
        self.receiver.recv().await
    }
}

/// A handle on Redis. Clones share connections.
#[derive(Debug, Clone)]
pub enum Redis {
    /// In this process only: development, tests, and `REDIS_ENABLED=false`.
    Memory(Memory),
    /// One server.
    Single(Remote),
    /// A Cluster.
    Cluster(Remote),
}

impl Redis {
    /// A store in this process with the default bound.
    pub fn memory() -> Self {
        Self::Memory(Memory::new(config::DEFAULT_MEMORY_BYTES))
    }

    /// Opens what the configuration names. Never fails for an absent server: the first command connects.
    pub fn connect(config: &RedisConfig) -> anyhow::Result<Self> {
        Ok(match config.target {
            Target::Memory => Self::Memory(Memory::new(config.memory_bytes)),
            Target::Single(_) => Self::Single(Remote::new(config)?),
            Target::Cluster(_) => Self::Cluster(Remote::new(config)?),
        })
    }

    /// Whether other processes see what is written here.
    pub fn is_shared(&self) -> bool {
        !matches!(self, Self::Memory(_))
    }

    /// The value of a key.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, RedisError> {
        match self {
            Self::Memory(memory) => memory.get(key),
            Self::Single(remote) | Self::Cluster(remote) => remote.get(key).await,
        }
    }

    /// The value of a key as text.
    pub async fn get_text(&self, key: &str) -> Result<Option<String>, RedisError> {
        let value = self.get(key).await?;
        Ok(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Sets a key, for ever or for a time; whatever it held before is gone, its life included.
    pub async fn set(&self, key: &str, value: impl AsRef<[u8]>, ttl: Option<Duration>) -> Result<(), RedisError> {
        match self {
            Self::Memory(memory) => memory.set(key, value.as_ref(), ttl),
            Self::Single(remote) | Self::Cluster(remote) => remote.set(key, value.as_ref(), ttl).await,
        }
    }

    /// Sets a key only if it does not exist. Says whether it was set.
    pub async fn set_nx(&self, key: &str, value: impl AsRef<[u8]>, ttl: Option<Duration>) -> Result<bool, RedisError> {
        match self {
            Self::Memory(memory) => memory.set_nx(key, value.as_ref(), ttl),
            Self::Single(remote) | Self::Cluster(remote) => remote.set_nx(key, value.as_ref(), ttl).await,
        }
    }

    /// Removes a key. Says whether it existed.
    pub async fn del(&self, key: &str) -> Result<bool, RedisError> {
        match self {
            Self::Memory(memory) => memory.del(key),
            Self::Single(remote) | Self::Cluster(remote) => remote.del(key).await,
        }
    }

    /// Gives an existing key a new life. Says whether it existed.
    pub async fn expire(&self, key: &str, ttl: Duration) -> Result<bool, RedisError> {
        match self {
            Self::Memory(memory) => memory.expire(key, ttl),
            Self::Single(remote) | Self::Cluster(remote) => remote.expire(key, ttl).await,
        }
    }

    /// How long a key has to live; `None` if it does not exist or lives for ever.
    pub async fn ttl(&self, key: &str) -> Result<Option<Duration>, RedisError> {
        match self {
            Self::Memory(memory) => memory.ttl(key),
            Self::Single(remote) | Self::Cluster(remote) => remote.ttl(key).await,
        }
    }

    /// Adds to a counter, which starts at 0; a life is given only to a counter that this call creates.
    pub async fn incr_by(&self, key: &str, n: i64, ttl: Option<Duration>) -> Result<i64, RedisError> {
        let life = ttl.map_or(0, script::millis);
        let reply = self
            .eval(&script::INCR_BY, &[key], &[&n.to_string(), &life.to_string()])
            .await?;
        reply.int()
    }

    /// Sets fields of a hash; with a life, the whole hash gets it.
    pub async fn hset(&self, key: &str, fields: &[(&str, &str)], ttl: Option<Duration>) -> Result<(), RedisError> {
        let life = ttl.map_or(0, script::millis).to_string();
        let mut args = vec![life.as_str()];
        args.extend(fields.iter().flat_map(|(field, value)| [*field, *value]));
        self.eval(&script::HSET, &[key], &args).await.map(drop)
    }

    /// All fields of a hash; empty if there is none.
    pub async fn hgetall(&self, key: &str) -> Result<BTreeMap<String, String>, RedisError> {
        match self {
            Self::Memory(memory) => memory.hgetall(key),
            Self::Single(remote) | Self::Cluster(remote) => remote.hgetall(key).await,
        }
    }

    /// Runs a script atomically.
    pub async fn eval(&self, script: &'static Script, keys: &[&str], args: &[&str]) -> Result<Reply, RedisError> {
        script::require_one_slot(keys)?;
        match self {
            Self::Memory(memory) => memory.eval(script, keys, args),
            Self::Single(remote) | Self::Cluster(remote) => remote.eval(script, keys, args).await,
        }
    }

    /// Sends a message to whoever listens now.
    pub async fn publish(&self, channel: &str, payload: impl AsRef<[u8]>) -> Result<(), RedisError> {
        match self {
            Self::Memory(memory) => {
                memory.publish(channel, payload.as_ref());
                Ok(())
            }
            Self::Single(remote) | Self::Cluster(remote) => remote.publish(channel, payload.as_ref()).await,
        }
    }

    /// Listens on channels. Returns once the subscription stands, or after the first failed attempt with
    /// [`Received::Gap`] waiting; either way it keeps itself alive.
    pub async fn subscribe(&self, channels: &[&str]) -> Subscription {
        match self {
            Self::Memory(memory) => memory.subscribe(channels),
            Self::Single(remote) | Self::Cluster(remote) => remote.subscribe(channels).await,
        }
    }

    /// Whether the server answers.
    pub async fn ping(&self) -> Result<(), RedisError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Single(remote) | Self::Cluster(remote) => remote.ping().await,
        }
    }
}
