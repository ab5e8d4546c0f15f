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
mod ai_integration;
mod consumers;
mod audit;
mod events;
mod gdpr;
mod hostile;
mod javascript;
mod identity;
mod notifications;
mod onboarding;
mod openapi;
mod pods;
mod realtime;
mod refresh;
mod sessions;
mod support;
mod told;
