//! Integration tests of the shared crate: real PostgreSQL, the mock cluster of librdkafka, real Redis. One binary, linked
//! once; a list of modules and nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::pedantic,
    clippy::arc_with_non_send_sync,
    missing_docs,
    reason = "a test stops where something is not as it should be"
)]
mod db;
mod events;
mod gateway;
mod idempotency;
mod limits;
mod objects;
mod redis;
mod support;
