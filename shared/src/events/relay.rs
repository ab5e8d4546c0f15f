//! The relay: publishes a service's outbox to Kafka, in order per key (events §6).
//!
//! Each replica runs one; the one that holds the service's lock works, the others stand by and take over when its
//! connection ends. It is woken by `notify` at commit, and polls in case a wake-up was lost; while it is busy it reads on by
//! itself and nobody notifies. A row is marked published only after the brokers have acknowledged it: a crash in between
//! sends it again, and the consumers' inbox drops it.
//!
//! The order per key survives all of this: rows leave in the order of their positions, librdkafka keeps that order, no
//! record times out, and a relay that takes over starts again at the oldest row that is not marked.

mod session;
mod store;

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use serde::Deserialize;
use tokio::time::MissedTickBehavior;

use self::{session::Session, store::Row};
use super::kafka::{Producer, Record, SendError};
use crate::{
    db::{Db, Service, jitter},
    lifecycle::Shutdown,
    sources::Sources,
};

/// How the relay behaves; the defaults are right outside tests.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// At most this many records wait for the brokers.
    pub window: usize,
    /// Wake-ups and answers that follow a reading of the outbox this closely wait for one another: the next reading then
    /// serves them all.
    pub gather: Duration,
    /// A relay that finds rows again within this time reads on without being woken, and until it has found none for so long.
    pub awake: Duration,
    /// How often the outbox is read without having been woken, and how often a stand-by asks for the lock.
    pub poll: Duration,
    /// How long published rows are kept, for looking things up.
    pub keep_published: chrono::TimeDelta,
    /// How long the inbox remembers applied events: longer than any topic keeps them.
    pub keep_inbox: chrono::TimeDelta,
    /// How often old rows are deleted.
    pub housekeeping: Duration,
    /// How long the relay goes on after the last request when the brokers do not answer.
    pub linger: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            window: 1_000,
            gather: Duration::from_millis(20),
            awake: Duration::from_millis(200),
            poll: Duration::from_secs(1),
            keep_published: chrono::TimeDelta::hours(24),
            keep_inbox: chrono::TimeDelta::days(45),
            housekeeping: Duration::from_mins(10),
            linger: Duration::from_secs(5),
        }
    }
}

/// Whether this replica's relay is the one that works: of all replicas one. For what only one of them should tell.
#[derive(Debug, Clone, Default)]
pub struct Leading(Arc<AtomicBool>);

impl Leading {
    /// Whether it works now.
    pub fn is_ours(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn begin(&self) -> Led<'_> {
        self.0.store(true, Ordering::Relaxed);
        Led(self)
    }
}

/// Until dropped this replica leads.
struct Led<'l>(&'l Leading);

impl Drop for Led<'_> {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

/// The relay of service `S`. Cheap to clone.
#[derive(Debug)]
pub struct Relay<S> {
    db: Db<S>,
    producer: Producer,
    sources: Sources,
    options: Arc<RelayOptions>,
    leading: Leading,
}

impl<S> Clone for Relay<S> {
    fn clone(&self) -> Self {
        Self {
            db: self.db.clone(),
            producer: self.producer.clone(),
            sources: self.sources.clone(),
            options: Arc::clone(&self.options),
            leading: self.leading.clone(),
        }
    }
}

impl<S: Service> Relay<S> {
    /// A relay from this database to this producer.
    pub fn new(db: Db<S>, producer: Producer, sources: Sources) -> Self {
        Self {
            db,
            producer,
            sources,
            options: Arc::default(),
            leading: Leading::default(),
        }
    }

    /// The same, and `leading` says when it works.
    #[must_use]
    pub fn telling(mut self, leading: Leading) -> Self {
        self.leading = leading;
        self
    }

    /// The same with other options.
    #[must_use]
    pub fn with_options(mut self, options: RelayOptions) -> Self {
        self.options = Arc::new(options);
        self
    }

    /// Publishes one batch and waits for the brokers. Returns whether there was work. Takes no lock: for tests and for
    /// operators, who make sure that nothing else publishes.
    pub async fn run_once(&self) -> anyhow::Result<bool> {
        let mut window = Window::new(self);
        let sent = window.fill().await?;
        while let Some(answer) = window.sent.next().await {
            window.take(answer).await?;
        }
        window.mark().await?;
        Ok(sent > 0)
    }

    /// Publishes for as long as the process runs: until the last request is answered and what it appended is sent. Then
    /// another replica takes over.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut pause = self.options.poll;
        loop {
            self.db.record_metrics();
            match self.serve(&shutdown).await {
                Ok(()) => return Ok(()),
                // PostgreSQL is away, or the migrations have not run: not worth a restart of this task
                Err(error) => tracing::warn!(
                    service = S::NAME,
                    error = format!("{error:#}"),
                    "relay interrupted, will go on"
                ),
            }
            tokio::select! {
                () = shutdown.served() => return Ok(()),
                () = tokio::time::sleep(pause.mul_f64(jitter())) => {}
            }
            pause = (pause * 2).min(self.options.poll.max(Duration::from_secs(4)));
        }
    }

    /// Stands by until the lock is free, then works. Ends well when the process stops.
    async fn serve(&self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut session = Session::open(&self.db).await?;
        while !session.try_lock().await? {
            self.db.record_metrics();
            tokio::select! {
                () = shutdown.served() => {
                    session.close().await;
                    return Ok(());
                }
                () = tokio::time::sleep(self.options.poll.mul_f64(jitter())) => {}
            }
        }
        tracing::info!(service = S::NAME, "relay publishes");
        let led = self.leading.begin();
        self.lead(&mut session, shutdown).await?;
        drop(led);
        session.close().await;
        Ok(())
    }

    /// Works while the lock is held. An error ends it; nothing is lost, since nothing unacknowledged was marked.
    async fn lead(&self, session: &mut Session, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut window = Window::new(self);
        let mut cleaned: Option<Instant> = None;
        let mut served_at: Option<Instant> = None;
        let mut tick = tokio::time::interval(self.options.poll);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut read_at = Instant::now();
        // when the outbox is to be read; none: nothing that could be sent is known to be there
        let mut due = Some(read_at);
        let mut full = false;
        let mut found_at: Option<Instant> = None;
        loop {
            if due.is_some_and(|due| due <= Instant::now()) {
                read_at = Instant::now();
                let sent = window.fill().await?;
                let idle = sent == 0 && window.is_empty();
                if served_at.is_some_and(|at| idle || at.elapsed() >= self.options.linger) {
                    return Ok(());
                }
                full = !window.has_room();
                let found = sent > 0;
                let again = found_at.is_some_and(|at| read_at < at + self.options.awake);
                found_at = if found { Some(read_at) } else { found_at };
                due = match (session.is_awake(), found, again) {
                    (true, false, false) => {
                        session.doze().await?;
                        // what was appended before that woke nobody
                        Some(read_at)
                    }
                    (true, ..) => Some(read_at + self.options.gather),
                    (false, true, true) => {
                        session.stay_awake().await?;
                        Some(read_at + self.options.gather)
                    }
                    (false, ..) => None,
                };
            }
            // only waiting may be cut off here: an answer that was taken must be heeded
            let event = tokio::select! {
                Some(answer) = window.sent.next(), if !window.is_empty() => Event::Answer(answer),
                woken = session.woken() => {
                    woken?;
                    due = due.or(Some(read_at + self.options.gather));
                    continue;
                }
                () = shutdown.served(), if served_at.is_none() => {
                    served_at = Some(Instant::now());
                    due = served_at;
                    continue;
                }
                _ = tick.tick() => Event::Tick,
                () = sleep_until(due), if due.is_some() => continue,
            };
            match event {
                Event::Answer(answer) => {
                    window.take(answer).await?;
                    // there is room for what did not fit; and before the end the last look says that all is sent
                    due = if full || served_at.is_some() {
                        Some(Instant::now())
                    } else {
                        due.or(Some(read_at + self.options.gather))
                    };
                }
                Event::Tick => {
                    due = Some(Instant::now());
                    session.still_holds().await?;
                    self.measure().await?;
                    if cleaned.is_none_or(|at| at.elapsed() >= self.options.housekeeping) {
                        cleaned = Some(Instant::now());
                        self.housekeep().await?;
                    }
                }
            }
        }
    }

    /// Sets the gauges of the outbox and the pool.
    async fn measure(&self) -> sqlx::Result<()> {
        self.db.record_metrics();
        let (pending, oldest) = store::backlog::<S>(self.db.pool()).await?;
        let lag = oldest.map_or(0.0, |oldest| (self.sources.now() - oldest).as_seconds_f64().max(0.0));
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("outbox_pending_events", "service" => S::NAME).set(pending as f64);
        metrics::gauge!("outbox_lag_seconds", "service" => S::NAME).set(lag);
        Ok(())
    }

    /// Deletes what nobody needs any more, in small bites.
    async fn housekeep(&self) -> sqlx::Result<()> {
        let now = self.sources.now();
        while store::delete_published::<S>(self.db.pool(), now - self.options.keep_published).await? {}
        while store::forget_inbox::<S>(self.db.pool(), now - self.options.keep_inbox).await? {}
        Ok(())
    }
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}

type Answer = (Row, Result<(), SendError>);
type Sent = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What the working relay waits for.
enum Event {
    Answer(Answer),
    Tick,
}

/// The records that wait for the brokers' answer.
struct Window<'a, S> {
    relay: &'a Relay<S>,
    sent: FuturesUnordered<Sent>,
    positions: HashSet<i64>,
    /// Those that the brokers have, to be marked with the next reading.
    published: Vec<i64>,
    /// Topics that did not take a record, and when to try them again; the others go on.
    blocked: HashMap<String, (Instant, Duration)>,
}

impl<'a, S: Service> Window<'a, S> {
    fn new(relay: &'a Relay<S>) -> Self {
        Self {
            relay,
            sent: FuturesUnordered::new(),
            positions: HashSet::new(),
            published: Vec::new(),
            blocked: HashMap::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.published.is_empty()
    }

    fn has_room(&self) -> bool {
        self.sent.len() < self.relay.options.window
    }

    /// Marks what the brokers have, reads the oldest rows that are not on their way yet and queues them, all with one
    /// statement. Returns how many were queued.
    async fn fill(&mut self) -> anyhow::Result<usize> {
        let room = self.relay.options.window.saturating_sub(self.sent.len());
        if room == 0 {
            self.mark().await?;
            return Ok(0);
        }
        let now = Instant::now();
        let blocked: Vec<&str> = self
            .blocked
            .iter()
            .filter(|(_, (until, _))| *until > now)
            .map(|(topic, _)| topic.as_str())
            .collect();
        let on_the_way: Vec<i64> = self.positions.iter().copied().collect();
        let pool = self.relay.db.pool();
        // if this fails the relay ends with its window, and the rows are sent again
        let rows = store::advance::<S>(pool, &self.published, &on_the_way, &blocked, room).await?;
        self.forget_published();
        let count = rows.len();
        for row in rows {
            self.positions.insert(row.position);
            let queued = self.enqueue(&row);
            self.sent.push(match queued {
                Ok(ack) => ack.wait().map(|outcome| (row, outcome)).boxed(),
                Err(error) => std::future::ready((row, Err(error))).boxed(),
            });
        }
        Ok(count)
    }

    fn enqueue(&self, row: &Row) -> Result<super::kafka::Ack, SendError> {
        // a topic that has just refused a record must not take a later one of the same key
        if self
            .blocked
            .get(&row.topic)
            .is_some_and(|(until, _)| *until > Instant::now())
        {
            return Err(SendError::Away("the topic is not available".to_owned()));
        }
        let event_id = row.event_id.to_string();
        let head: Head = serde_json::from_str(&row.envelope).unwrap_or_default();
        let mut headers = vec![
            ("eventType", head.event_type.as_str()),
            ("source", head.source.as_str()),
            ("version", head.version.as_str()),
            ("correlationId", head.correlation_id.as_deref().unwrap_or_default()),
            ("timestamp", head.timestamp.as_str()),
            ("eventId", event_id.as_str()),
        ];
        headers.extend(row.traceparent.as_deref().map(|trace| ("traceparent", trace)));
        self.relay.producer.enqueue(Record {
            topic: &row.topic,
            key: Some(row.key.as_bytes()),
            value: row.envelope.as_bytes(),
            headers: &headers,
        })
    }

    /// Heeds this answer and all others that have come. Must not be cut off.
    async fn take(&mut self, first: Answer) -> anyhow::Result<()> {
        let mut next = Some(first);
        while let Some((row, outcome)) = next {
            match outcome {
                Ok(()) => {
                    self.blocked.remove(&row.topic);
                    metrics::counter!("kafka_producer_messages_sent_total", "topic" => row.topic).increment(1);
                    self.published.push(row.position);
                }
                Err(SendError::Refused(reason)) => {
                    tracing::error!(service = S::NAME, topic = row.topic, event_id = %row.event_id, reason, "event refused by kafka");
                    metrics::counter!("outbox_refused_events_total", "service" => S::NAME).increment(1);
                    store::refuse::<S>(self.relay.db.pool(), row.position, &reason).await?;
                    self.positions.remove(&row.position);
                }
                Err(SendError::Away(reason)) => {
                    self.block(&row.topic, &reason);
                    self.positions.remove(&row.position);
                }
            }
            next = self.sent.next().now_or_never().flatten();
        }
        Ok(())
    }

    /// Marks what the brokers have, without reading on.
    async fn mark(&mut self) -> sqlx::Result<()> {
        store::mark_published::<S>(self.relay.db.pool(), &self.published).await?;
        self.forget_published();
        Ok(())
    }

    fn forget_published(&mut self) {
        for position in self.published.drain(..) {
            self.positions.remove(&position);
        }
    }

    /// Leaves a topic alone for a while, longer each time.
    fn block(&mut self, topic: &str, reason: &str) {
        let now = Instant::now();
        let pause = match self.blocked.get(topic) {
            // many records fail at once; that is one failure
            Some((until, _)) if *until > now => return,
            Some((_, pause)) => (*pause * 2).min(Duration::from_secs(30)),
            None => Duration::from_millis(500),
        };
        tracing::warn!(service = S::NAME, topic, reason, "topic not available, will try again");
        self.blocked
            .insert(topic.to_owned(), (now + pause.mul_f64(jitter()), pause));
    }
}

/// The part of an envelope that is repeated in headers (events §2). Read here and not in SQL, where an escaped NUL in
/// some payload would make the whole statement fail.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Head {
    event_type: String,
    source: String,
    version: String,
    timestamp: String,
    correlation_id: Option<String>,
}
