//! Tests of the embedded back ends from outside, one binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod embedded;
mod postgres;
mod receiver;
mod servers;
mod stripe;
mod stripe_calls;
mod stripe_webhooks;
