//! The relay: publishes the outbox to Kafka, in order per key.
