//! Embedded back ends and test doubles: what a laptop and a test need in place of the servers of production.
//!
//! contract: payment §12, README "Facts about test machines". This crate is a dependency of development builds and of
//! tests only, and knows nothing of the pods: it starts servers and says where they listen.
//!
//! | Module | What it starts |
//! |---|---|
//! | [`brokers`] | real Kafka brokers, from jars |
//! | [`embedded`] | all of them for one checkout, in one background process |
//! | [`kafka`] | librdkafka's mock cluster of three brokers |
//! | [`log`] | nothing: it lets a test read its own log |
//! | [`postgres`] | the PostgreSQL binaries of this machine |
//! | [`proxy`] | a TCP proxy that can be cut, stalled and slowed |
//! | [`redis`] | real Redis servers, single and cluster |
//! | [`s3`] | an S3 server over a folder |
//! | [`stripe`] | our double of Stripe's HTTP API, with signed webhooks |

pub mod brokers;
pub mod chance;
pub mod embedded;
pub mod kafka;
pub mod log;
pub mod postgres;
pub mod proxy;
pub mod redis;
pub mod s3;
mod server;
pub mod stripe;
