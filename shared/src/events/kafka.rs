//! The Kafka client: configuration, producer, topics.
//!
//! contract: events §1, operations §6.9. Services start and serve without Kafka: every client here is created without a
//! broker, connects by itself and is never waited for by a request. Calls of librdkafka that block run on blocking threads.

mod config;

pub use config::{KafkaConfig, OffsetReset, Sasl};
