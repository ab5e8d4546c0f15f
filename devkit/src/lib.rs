//! Embedded back ends and test doubles: what a laptop and a test need in place of the servers of production.
//!
//! contract: payment §12, README "Facts about test machines". This crate is a dependency of development builds and of
//! tests only, and knows nothing of the pods: it starts servers and says where they listen.
//!
//! | Module | What it starts |
//! |---|---|
//! | [`redis`] | real Redis servers, single and cluster |
//! | [`stripe`] | our double of Stripe's HTTP API, with signed webhooks |

pub mod chance;
pub mod redis;
mod server;
pub mod stripe;
