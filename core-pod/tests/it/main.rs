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
mod ai_integration;
mod audit;
mod avatar;
mod conformance;
mod consumers;
mod devices;
mod erasure;
mod events;
mod exports;
mod favorites;
mod gateway;
mod gdpr;
mod history;
mod hostile;
mod hostile_profiles;
mod hostile_sockets;
mod identity;
mod javascript;
mod keys;
mod lockout;
mod mail;
mod mfa;
mod notifications;
mod oidc;
mod onboarding;
mod openapi;
mod openid;
mod passkeys;
mod pods;
mod privacy_world;
mod profile;
mod realtime;
mod recovery;
mod refresh;
mod revocation;
mod sessions;
mod smtp_peer;
mod soft_key;
mod speed;
mod step_up;
mod support;
mod told;
mod vr;
mod wire;
