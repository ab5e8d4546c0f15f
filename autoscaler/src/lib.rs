//! Scales the pods of a Swarm stack by what Prometheus reports.
//!
//! Every half minute a round: read the services from the engine, ask Prometheus for the figure of each rule, decide,
//! and write the one number a service has for its replicas. [`decide`] is a pure function; everything else fetches for
//! it or carries out what it said. `docs/operations/autoscaler.md` says what operators need to know.

pub mod decide;
pub mod engine;
pub mod metrics;
pub mod policy;
pub mod prometheus;
pub mod round;
pub mod server;
pub mod yaml;
