//! Outbox, relay and consumer against the real protocol: librdkafka's mock cluster and a real PostgreSQL (events §6, §8).

mod consumer;
mod relay;
mod world;
