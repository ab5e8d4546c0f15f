//! The consumer's loop: reads, hands each partition's records to the handler one after the other, several partitions at a
//! time, and stores offsets after the commit.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use rdkafka::{
    Message as _, TopicPartitionList,
    consumer::{CommitMode, Consumer as _, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::OwnedMessage,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{
    Handler,
    group::{Membership, Place, settle_start},
    lane::{Lane, Verdict},
    process::Processor,
};
use crate::{
    db::{Db, Service, jitter},
    events::kafka::{KafkaConfig, OffsetReset, Producer, blocking, dispose},
    lifecycle::Shutdown,
    sources::Sources,
};

/// Partitions worked on at the same time; each needs a connection of the pool.
const CONCURRENCY: usize = 4;
/// How long leaving may take, brokers or not.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A service's member of a consumer group. Cheap to clone.
pub struct Consumer<S> {
    processor: Arc<Processor<S>>,
    config: Arc<KafkaConfig>,
}

impl<S> Clone for Consumer<S> {
    fn clone(&self) -> Self {
        Self {
            processor: Arc::clone(&self.processor),
            config: Arc::clone(&self.config),
        }
    }
}

impl<S> std::fmt::Debug for Consumer<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}

impl<S: Service> Consumer<S> {
    /// A member that applies events with `handler` and sends dead letters with `producer`. Needs no broker.
    pub fn new(db: Db<S>, config: &KafkaConfig, producer: Producer, handler: impl Handler<S>) -> Self {
        Self::shared(db, config, producer, Arc::new(handler))
    }

    /// The same with a handler that others hold as well.
    pub fn shared(db: Db<S>, config: &KafkaConfig, producer: Producer, handler: Arc<dyn Handler<S>>) -> Self {
        let processor = Processor {
            db,
            producer,
            handler,
            sources: Sources::system(),
        };
        Self {
            processor: Arc::new(processor),
            config: Arc::new(config.clone()),
        }
    }

    /// Consumes until the process drains: then the records in hand are finished, their offsets committed, and the group is
    /// left, so that other members take over at once.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let group = self.processor.handler.group();
        let topics: Vec<&str> = self
            .processor
            .handler
            .topics()
            .iter()
            .map(|topic| topic.name())
            .collect();
        if !self.start_settled(&shutdown).await {
            return Ok(());
        }
        let (revoked, revocations) = unbounded_channel();
        let handler = Arc::clone(&self.processor.handler);
        let context = Membership {
            service: S::NAME,
            group,
            waiting: Box::new(move |records| handler.waiting(records)),
            revoked,
        };
        let client: StreamConsumer<Membership> = self.config.consumer(S::NAME, group).create_with_context(context)?;
        client.subscribe(&topics)?;
        let client = Arc::new(client);
        let mut member = Member(Some(Arc::clone(&client)));
        let mut work = Work::new(&self.processor, client);
        let ended = work.go_on(revocations, &shutdown).await;
        work.finish_running().await;
        drop(work);
        if let Some(client) = member.0.take() {
            leave(client).await;
        }
        ended
    }

    /// Waits for a broker and fixes the group's starting point. `false` if the process stops meanwhile.
    async fn start_settled(&self, shutdown: &Shutdown) -> bool {
        if self.config.offset_reset == OffsetReset::Earliest {
            return true;
        }
        let mut pause = Duration::from_millis(500);
        loop {
            let (config, handler) = (Arc::clone(&self.config), Arc::clone(&self.processor.handler));
            let settle = blocking(move || settle_start(&config, S::NAME, handler.group(), handler.topics()));
            let outcome = tokio::select! {
                () = shutdown.draining() => return false,
                outcome = settle => outcome.and_then(|outcome| outcome),
            };
            let Err(error) = outcome else { return true };
            tracing::warn!(
                group = self.processor.handler.group(),
                error = format!("{error:#}"),
                "consumer waits for kafka"
            );
            tokio::select! {
                () = shutdown.draining() => return false,
                () = tokio::time::sleep(pause.mul_f64(jitter())) => {}
            }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
}

/// Holds the client to the end, and closes it elsewhere if the task is dropped: closing waits for the brokers.
struct Member(Option<Arc<StreamConsumer<Membership>>>);

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            dispose(client);
        }
    }
}

/// Commits what is stored and closes the client, without holding up the end of the process.
async fn leave(client: Arc<StreamConsumer<Membership>>) {
    let committing = Arc::clone(&client);
    let commit = blocking(move || committing.commit_consumer_state(CommitMode::Sync));
    match tokio::time::timeout(LEAVE_TIMEOUT, commit).await {
        Ok(Ok(Ok(()))) => {}
        // nothing was consumed since the last commit
        Ok(Ok(Err(error))) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::NoOffset) => {}
        Ok(Ok(Err(error))) => tracing::warn!(%error, "offsets not committed, some events will arrive again"),
        _ => tracing::warn!("offsets not committed in time, some events will arrive again"),
    }
    let close = blocking(move || drop(client));
    if tokio::time::timeout(LEAVE_TIMEOUT, close).await.is_err() {
        tracing::warn!("consumer group not left in time");
    }
}

/// A lane as it was when a record of it was started: a partition that went and came back is another lane.
type Started = (Place, u64);
type Running = Pin<Box<dyn Future<Output = (Started, i64, Verdict)> + Send>>;

/// A partition that this member has.
struct Held {
    lane: Lane<Arc<OwnedMessage>>,
    number: u64,
    /// When a record of it was last started, in turns: the longest waiting lane goes first.
    turn: u64,
}

/// Everything in hand.
struct Work<'a, S> {
    processor: &'a Arc<Processor<S>>,
    client: Arc<StreamConsumer<Membership>>,
    held: HashMap<Place, Held>,
    running: FuturesUnordered<Running>,
    counter: u64,
}

impl<'a, S: Service> Work<'a, S> {
    fn new(processor: &'a Arc<Processor<S>>, client: Arc<StreamConsumer<Membership>>) -> Self {
        Self {
            processor,
            client,
            held: HashMap::new(),
            running: FuturesUnordered::new(),
            counter: 0,
        }
    }

    /// Reads and applies until the drain.
    async fn go_on(
        &mut self,
        mut revocations: UnboundedReceiver<Vec<Place>>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let client = Arc::clone(&self.client);
        let mut records = client.stream();
        loop {
            self.start_lanes();
            let retry = self.held.values().filter_map(|held| held.lane.retry_at()).min();
            tokio::select! {
                // revocations come before records: what arrives after one belongs to a new time with the partition
                biased;
                () = shutdown.draining() => return Ok(()),
                Some(revoked) = revocations.recv() => self.forget(&revoked),
                Some((started, offset, verdict)) = self.running.next(), if !self.running.is_empty() => {
                    self.finished(&started, offset, verdict);
                }
                Some(record) = records.next() => match record {
                    Ok(record) => self.take(record.detach()),
                    Err(error) => self.failed(&error)?,
                },
                () = sleep_until(retry), if retry.is_some() && self.running.len() < CONCURRENCY => {}
            }
        }
    }

    /// Waits for the records in hand. The halt cuts this off.
    async fn finish_running(&mut self) {
        while let Some((started, offset, verdict)) = self.running.next().await {
            self.finished(&started, offset, verdict);
        }
    }

    fn take(&mut self, record: OwnedMessage) {
        let place = (record.topic().to_owned(), record.partition());
        let held = self.held.entry(place.clone()).or_insert_with(|| {
            self.counter += 1;
            Held {
                lane: Lane::default(),
                number: self.counter,
                turn: 0,
            }
        });
        held.lane.push(Arc::new(record));
        self.relieve(&place);
    }

    /// Starts as many lanes as may run.
    fn start_lanes(&mut self) {
        let now = Instant::now();
        while self.running.len() < CONCURRENCY {
            let ready = self.held.iter_mut().filter(|(_, held)| held.lane.is_ready(now));
            let Some((place, held)) = ready.min_by_key(|(_, held)| held.turn) else {
                return;
            };
            let Some((record, this)) = held.lane.start(now) else {
                return;
            };
            self.counter += 1;
            held.turn = self.counter;
            let (processor, started) = (Arc::clone(self.processor), (place.clone(), held.number));
            let work = async move {
                let verdict = processor.process(&record, this).await;
                (started, record.offset(), verdict)
            };
            self.running.push(work.boxed());
        }
    }

    fn finished(&mut self, (place, number): &Started, offset: i64, verdict: Verdict) {
        // a lane that is gone belongs to another member, who gets the record again and finds it in the inbox
        let Some(held) = self.held.get_mut(place).filter(|held| held.number == *number) else {
            return;
        };
        held.lane.finish(verdict, Instant::now(), jitter());
        if verdict == Verdict::Done
            && let Err(error) = self.client.store_offset(&place.0, place.1, offset)
        {
            tracing::debug!(topic = place.0, partition = place.1, %error, "offset not stored, the partition is gone");
        }
        self.relieve(place);
    }

    fn forget(&mut self, revoked: &[Place]) {
        for place in revoked {
            self.held.remove(place);
        }
    }

    /// Stops or resumes reading of a partition.
    fn relieve(&mut self, place: &Place) {
        let Some(pause) = self.held.get_mut(place).and_then(|held| held.lane.pressure()) else {
            return;
        };
        let mut partition = TopicPartitionList::new();
        partition.add_partition(&place.0, place.1);
        let outcome = if pause {
            self.client.pause(&partition)
        } else {
            self.client.resume(&partition)
        };
        if let Err(error) = outcome {
            tracing::warn!(topic = place.0, partition = place.1, pause, %error, "partition neither paused nor resumed");
        }
    }

    /// Errors of the client pass by themselves, except a fatal one: then a new client is needed.
    fn failed(&self, error: &KafkaError) -> anyhow::Result<()> {
        let group = self.processor.handler.group();
        metrics::counter!("kafka_consumer_errors_total", "topic" => "", "group" => group).increment(1);
        tracing::warn!(group, %error, "kafka consumer error");
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => Err(error.clone().into()),
            _ => Ok(()),
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}
