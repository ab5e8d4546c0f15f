//! Events: the topic registry, the envelope, and the outbox through which every event leaves a service.
//!
//! contract: events §2 (envelope), §4 (topics), §6 (ordering, retries, dead letters)

pub mod consumer;
pub mod envelope;
pub mod kafka;
pub mod outbox;
pub mod relay;
pub mod topic;
mod trace;

pub use envelope::{Envelope, Malformed, NewEvent};
pub use topic::Topic;
