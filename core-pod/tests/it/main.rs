//! Black-box tests of the core pod.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::pedantic,
    missing_docs,
    reason = "a test stops where something is not as it should be"
)]

mod accounts;
mod audit;
mod erasure;
mod events;
mod exports;
mod gdpr;
mod hostile;
mod identity;
mod notifications;
mod openapi;
mod pods;
mod privacy_world;
mod refresh;
mod sessions;
mod support;
