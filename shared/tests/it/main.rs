//! Integration tests of the shared crate: real PostgreSQL, the mock cluster of librdkafka, real Redis. One binary, linked
//! once; a list of modules and nothing else.
mod db;
mod events;
mod gateway;
mod idempotency;
mod limits;
mod objects;
mod redis;
mod support;
