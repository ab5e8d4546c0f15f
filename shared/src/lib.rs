//! What every pod needs and no service owns: configuration, errors, identity, storage, events, telemetry, lifecycle
//! and the gateway. Nothing here knows a service, a route of a service or a table of a service.

pub mod auth;
pub mod config;
pub mod crypto;
pub mod db;
pub mod error;
pub mod events;
pub mod gateway;
pub mod health;
pub mod http;
pub mod id;
pub mod idempotency;
pub mod lifecycle;
pub mod money;
pub mod objects;
pub mod openapi;
pub mod pod;
pub mod redis;
pub mod sources;
pub mod telemetry;

pub use error::ApiError;
pub use sources::Sources;
