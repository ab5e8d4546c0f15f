//! The in-process store: expiry, a bound in bytes with least-recently-used eviction, hashes, counters, pub/sub.
//!
//! Sixteen shards, each behind a lock that is held for microseconds; all keys of one hash tag are in one shard, which makes
//! a script atomic.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{broadcast, mpsc},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use super::{Message, Received, RedisError, Reply, Script, Subscription, script::hash_tag};

const SHARDS: usize = 16;
/// What an entry costs beside its bytes: map nodes, indices, allocator.
const OVERHEAD: usize = 200;
/// Messages a slow reader may lag behind before it gets a gap.
const CHANNEL_DEPTH: usize = 1024;

/// A store in this process. Clones share it.
#[derive(Clone)]
pub struct Memory(Arc<Inner>);

struct Inner {
    shards: Vec<Mutex<Shard>>,
    channels: Mutex<HashMap<String, broadcast::Sender<Message>>>,
    started: Instant,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory")
    }
}

impl Memory {
    /// An empty store that holds about `max_bytes`.
    pub fn new(max_bytes: usize) -> Self {
        let shard = || {
            Mutex::new(Shard {
                budget: max_bytes / SHARDS,
                ..Shard::default()
            })
        };
        Self(Arc::new(Inner {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            channels: Mutex::default(),
            started: Instant::now(),
        }))
    }

    /// How many live keys there are.
    pub fn len(&self) -> usize {
        let now = Instant::now();
        self.0.shards.iter().map(|shard| lock(shard).live(now)).sum()
    }

    /// Whether there is no live key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, RedisError> {
        self.with(key, |view| view.get(key))
    }

    pub(super) fn set(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<(), RedisError> {
        self.with(key, |view| {
            view.set(key, value, ttl);
            Ok(())
        })
    }

    pub(super) fn set_nx(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<bool, RedisError> {
        self.with(key, |view| {
            let free = !view.exists(key);
            if free {
                view.set(key, value, ttl);
            }
            Ok(free)
        })
    }

    pub(super) fn del(&self, key: &str) -> Result<bool, RedisError> {
        self.with(key, |view| Ok(view.del(key)))
    }

    pub(super) fn expire(&self, key: &str, ttl: Duration) -> Result<bool, RedisError> {
        self.with(key, |view| Ok(view.expire(key, ttl)))
    }

    pub(super) fn ttl(&self, key: &str) -> Result<Option<Duration>, RedisError> {
        self.with(key, |view| Ok(view.ttl(key)))
    }

    pub(super) fn hgetall(&self, key: &str) -> Result<BTreeMap<String, String>, RedisError> {
        self.with(key, |view| view.hgetall(key))
    }

    pub(super) fn eval(&self, script: &Script, keys: &[&str], args: &[&str]) -> Result<Reply, RedisError> {
        let first = keys.first().copied().unwrap_or_default();
        self.with(first, |view| script.run(view, keys, args))
    }

    pub(super) fn publish(&self, channel: &str, payload: &[u8]) {
        let mut channels = lock(&self.0.channels);
        let Some(sender) = channels.get(channel) else { return };
        let message = Message {
            channel: channel.to_owned(),
            payload: payload.to_vec(),
        };
        if sender.send(message).is_err() {
            channels.remove(channel);
        }
    }

    pub(super) fn subscribe(&self, channels: &[&str]) -> Subscription {
        let mut map = lock(&self.0.channels);
        map.retain(|_, sender| sender.receiver_count() > 0);
        let receivers: Vec<_> = channels
            .iter()
            .map(|channel| {
                map.entry((*channel).to_owned())
                    .or_insert_with(|| broadcast::channel(CHANNEL_DEPTH).0)
                    .subscribe()
            })
            .collect();
        drop(map);
        let (sender, receiver) = mpsc::channel(CHANNEL_DEPTH);
        let feeder = tokio::spawn(async move {
            let feeds = receivers.into_iter().map(|receiver| feed(receiver, sender.clone()));
            futures_util::future::join_all(feeds).await;
        });
        Subscription {
            receiver,
            _feeder: AbortOnDropHandle::new(feeder),
        }
    }

    fn with<T>(&self, key: &str, step: impl FnOnce(&mut View<'_>) -> Result<T, RedisError>) -> Result<T, RedisError> {
        let mut hasher = DefaultHasher::new();
        hash_tag(key).hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % SHARDS as u64).unwrap_or_default();
        let Some(shard) = self.0.shards.get(index) else {
            return Err(RedisError::Command("no such shard".to_owned()));
        };
        let mut shard = lock(shard);
        let now = Instant::now();
        shard.drop_expired(now);
        let outcome = step(&mut View {
            shard: &mut shard,
            now,
            started: self.0.started,
        });
        shard.fit();
        outcome
    }
}

async fn feed(mut receiver: broadcast::Receiver<Message>, sender: mpsc::Sender<Received>) {
    loop {
        let next = match receiver.recv().await {
            Ok(message) => Received::Message(message),
            Err(broadcast::error::RecvError::Lagged(_)) => Received::Gap,
            Err(broadcast::error::RecvError::Closed) => return,
        };
        if sender.send(next).await.is_err() {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // nothing in the critical sections can panic half-way through a change
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
enum Value {
    Bytes(Vec<u8>),
    Hash(BTreeMap<String, String>),
}

impl Value {
    fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Hash(fields) => fields
                .iter()
                .map(|(field, value)| field.len() + value.len() + OVERHEAD / 4)
                .sum(),
        }
    }
}

#[derive(Debug)]
struct Entry {
    value: Value,
    expires: Option<Instant>,
    used: u64,
    cost: usize,
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<Arc<str>, Entry>,
    by_expiry: BTreeSet<(Instant, Arc<str>)>,
    by_use: BTreeMap<u64, Arc<str>>,
    tick: u64,
    cost: usize,
    budget: usize,
}

impl Shard {
    fn live(&mut self, now: Instant) -> usize {
        self.drop_expired(now);
        self.entries.len()
    }

    fn drop_expired(&mut self, now: Instant) {
        while let Some((expires, key)) = self.by_expiry.first() {
            if *expires > now {
                return;
            }
            let key = Arc::clone(key);
            self.remove(&key);
        }
    }

    /// Drops what was used least recently until the budget holds.
    fn fit(&mut self) {
        while self.cost > self.budget {
            let Some((_, key)) = self.by_use.first_key_value() else {
                return;
            };
            let key = Arc::clone(key);
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &str) -> Option<Entry> {
        let (name, entry) = self.entries.remove_entry(key)?;
        self.by_use.remove(&entry.used);
        if let Some(expires) = entry.expires {
            self.by_expiry.remove(&(expires, name));
        }
        self.cost = self.cost.saturating_sub(entry.cost);
        Some(entry)
    }

    fn insert(&mut self, key: &str, value: Value, expires: Option<Instant>) {
        self.remove(key);
        let name: Arc<str> = Arc::from(key);
        let cost = key.len() + value.bytes() + OVERHEAD;
        self.tick += 1;
        self.by_use.insert(self.tick, Arc::clone(&name));
        if let Some(expires) = expires {
            self.by_expiry.insert((expires, Arc::clone(&name)));
        }
        self.cost += cost;
        self.entries.insert(
            name,
            Entry {
                value,
                expires,
                used: self.tick,
                cost,
            },
        );
    }

    fn touch(&mut self, key: &str) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(key)?;
        if let Some(name) = self.by_use.remove(&entry.used) {
            self.tick += 1;
            entry.used = self.tick;
            self.by_use.insert(self.tick, name);
        }
        Some(entry)
    }
}

/// What a script sees: the keys of its slot, at one instant, for itself alone.
#[derive(Debug)]
pub struct View<'a> {
    shard: &'a mut Shard,
    now: Instant,
    started: Instant,
}

impl View<'_> {
    /// The instant of this step in microseconds since some fixed moment, as `TIME` gives it in Lua.
    pub fn now_micros(&self) -> i64 {
        i64::try_from(self.now.duration_since(self.started).as_micros()).unwrap_or(i64::MAX)
    }

    /// Whether the key exists.
    pub fn exists(&mut self, key: &str) -> bool {
        self.shard.touch(key).is_some()
    }

    /// The bytes of a key.
    pub fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, RedisError> {
        match self.shard.touch(key) {
            None => Ok(None),
            Some(Entry {
                value: Value::Bytes(bytes),
                ..
            }) => Ok(Some(bytes.clone())),
            Some(_) => Err(wrong_type()),
        }
    }

    /// A key as a whole number.
    pub fn get_int(&mut self, key: &str) -> Result<Option<i64>, RedisError> {
        let Some(bytes) = self.get(key)? else { return Ok(None) };
        let number = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(not_an_integer)
    }

    /// Replaces a key and its life.
    pub fn set(&mut self, key: &str, value: impl AsRef<[u8]>, ttl: Option<Duration>) {
        let expires = ttl.and_then(|ttl| self.now.checked_add(ttl));
        self.shard.insert(key, Value::Bytes(value.as_ref().to_vec()), expires);
    }

    /// Removes a key.
    pub fn del(&mut self, key: &str) -> bool {
        self.shard.remove(key).is_some()
    }

    /// Gives a key a new life.
    pub fn expire(&mut self, key: &str, ttl: Duration) -> bool {
        let Some(entry) = self.shard.remove(key) else {
            return false;
        };
        self.shard.insert(key, entry.value, self.now.checked_add(ttl));
        true
    }

    /// How long a key has to live; `None` if there is none or no end.
    pub fn ttl(&mut self, key: &str) -> Option<Duration> {
        let expires = self.shard.touch(key)?.expires?;
        Some(expires.duration_since(self.now))
    }

    /// Adds to a counter and keeps its life.
    pub fn incr_by(&mut self, key: &str, n: i64) -> Result<i64, RedisError> {
        let value = self
            .get_int(key)?
            .unwrap_or_default()
            .checked_add(n)
            .ok_or_else(not_an_integer)?;
        let expires = self.shard.entries.get(key).and_then(|entry| entry.expires);
        self.shard
            .insert(key, Value::Bytes(value.to_string().into_bytes()), expires);
        Ok(value)
    }

    /// A field of a hash.
    pub fn hget(&mut self, key: &str, field: &str) -> Result<Option<String>, RedisError> {
        match self.shard.touch(key) {
            None => Ok(None),
            Some(Entry {
                value: Value::Hash(fields),
                ..
            }) => Ok(fields.get(field).cloned()),
            Some(_) => Err(wrong_type()),
        }
    }

    /// Sets a field of a hash and keeps its life.
    pub fn hset(&mut self, key: &str, field: &str, value: &str) -> Result<(), RedisError> {
        let (mut fields, expires) = match self.shard.remove(key) {
            None => (BTreeMap::new(), None),
            Some(Entry {
                value: Value::Hash(fields),
                expires,
                ..
            }) => (fields, expires),
            Some(Entry { value, expires, .. }) => {
                self.shard.insert(key, value, expires);
                return Err(wrong_type());
            }
        };
        fields.insert(field.to_owned(), value.to_owned());
        self.shard.insert(key, Value::Hash(fields), expires);
        Ok(())
    }

    /// All fields of a hash.
    pub fn hgetall(&mut self, key: &str) -> Result<BTreeMap<String, String>, RedisError> {
        match self.shard.touch(key) {
            None => Ok(BTreeMap::new()),
            Some(Entry {
                value: Value::Hash(fields),
                ..
            }) => Ok(fields.clone()),
            Some(_) => Err(wrong_type()),
        }
    }
}

fn wrong_type() -> RedisError {
    RedisError::Command("WRONGTYPE the key holds another kind of value".to_owned())
}

fn not_an_integer() -> RedisError {
    RedisError::Command("value is not an integer or out of range".to_owned())
}
