//! The brokers' answers to single records: librdkafka's producer with a thread that hands them out.
//!
//! rdkafka's `FutureProducer` does the same, but its thread waits in whole milliseconds and spins for what is left of each tenth of
//! a second: one hundredth of a core for each producer, also when there is nothing to send (measured with rdkafka 0.39).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext, Statistics,
    config::RDKafkaLogLevel,
    error::KafkaError,
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext},
};
use tokio::sync::oneshot;

use super::observer::Observer;

/// How long the thread waits for an answer before it looks whether it shall stop. The little that it is more than whole
/// milliseconds lets the wait end behind the deadline, so that nothing is left to spin for.
const TURN: Duration = Duration::from_micros(1_000_050);

/// What the brokers said to one record.
pub(super) type Answer = Result<(), KafkaError>;

/// librdkafka's producer. Lets go of it on its own thread, since closing waits for the network threads.
pub(super) struct Delivering {
    producer: Arc<BaseProducer<Deliveries>>,
    stopped: Arc<AtomicBool>,
}

/// Sends each answer to the one who waits for it.
pub(super) struct Deliveries(Observer);

impl Delivering {
    /// The client and its thread.
    pub(super) fn start(config: &ClientConfig, observer: Observer) -> anyhow::Result<Self> {
        let producer: BaseProducer<Deliveries> = config.create_with_context(Deliveries(observer))?;
        let producer = Arc::new(producer);
        let stopped = Arc::new(AtomicBool::new(false));
        let (polled, stop) = (Arc::clone(&producer), Arc::clone(&stopped));
        std::thread::Builder::new()
            .name("kafka-answers".to_owned())
            .spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    polled.poll(TURN);
                }
            })?;
        Ok(Self { producer, stopped })
    }

    /// Queues a record; the answer comes to the receiver.
    pub(super) fn send<'a>(
        &self,
        record: impl FnOnce(Box<oneshot::Sender<Answer>>) -> BaseRecord<'a, [u8], [u8], Box<oneshot::Sender<Answer>>>,
    ) -> Result<oneshot::Receiver<Answer>, KafkaError> {
        let (sender, receiver) = oneshot::channel();
        match self.producer.send(record(Box::new(sender))) {
            Ok(()) => Ok(receiver),
            Err((error, _)) => Err(error),
        }
    }

    /// Waits until nothing is queued any more. Blocks.
    pub(super) fn flush(&self, within: Duration) -> Answer {
        self.producer.flush(within)
    }

    /// Whether a broker answers. Blocks.
    pub(super) fn is_connected(&self, within: Duration) -> bool {
        self.producer.client().fetch_metadata(None, within).is_ok()
    }
}

impl Drop for Delivering {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.0.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        self.0.stats(statistics);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<oneshot::Sender<Answer>>;

    fn delivery(&self, result: &DeliveryResult<'_>, sender: Box<oneshot::Sender<Answer>>) {
        let answer = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.clone()),
        };
        // nobody waits for a record whose sender gave up
        sender.send(answer).ok();
    }
}
