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
mod admin_bookings;
mod admin_dashboard;
mod admin_payments;
mod admin_support;
mod admin_users;
mod audit;
mod events;
mod gdpr;
mod hostile;
mod identity;
mod mfa;
mod notifications;
mod oidc;
mod openapi;
mod openid;
mod passkeys;
mod pods;
mod refresh;
mod sessions;
mod soft_key;
mod step_up;
mod support;
