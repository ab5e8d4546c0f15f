//! The Kafka client: configuration, producer, topics.
//!
//! contract: events §1, operations §6.9. Services start and serve without Kafka: every client here is created without a
//! broker, connects by itself and is never waited for by a request. Calls of librdkafka that block run on other threads.

mod config;
mod deliveries;
mod observer;
mod producer;
mod topics;

pub use config::{KafkaConfig, OffsetReset, Sasl};
pub use producer::{Ack, Producer, Record, SendError};
pub use topics::{ensure_topics, keep_topics};

pub(crate) use observer::report;

/// Lets go of a client on a thread of its own: closing one waits for its network threads, for a consumer also for the
/// broker.
pub(crate) fn dispose<T: Send + 'static>(client: T) {
    // where no thread can be made the client is dropped with the closure, here
    drop(
        std::thread::Builder::new()
            .name("kafka-close".to_owned())
            .spawn(move || drop(client)),
    );
}

/// Runs a blocking call of librdkafka on a thread of its own. Unlike tokio's blocking threads it does not hold up the end
/// of the process when a broker does not answer.
pub(crate) async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> anyhow::Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("kafka-call".to_owned())
        .spawn(move || drop(sender.send(call())))?;
    Ok(receiver.await?)
}
