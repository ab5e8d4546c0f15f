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
mod audit;
mod consumers;
mod events;
mod gdpr;
mod hostile;
mod identity;
mod javascript;
mod mfa;
mod notifications;
mod oidc;
mod onboarding;
mod openapi;
mod openid;
mod passkeys;
mod pods;
mod realtime;
mod refresh;
mod sessions;
mod soft_key;
mod step_up;
mod support;
mod told;
