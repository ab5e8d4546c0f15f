//! Black-box tests of the business pod, one binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::pedantic,
    missing_docs,
    reason = "a test stops where something is not as it should be"
)]

mod admin_internal;
mod aftermath;
mod app;
mod bookings;
mod cart;
mod checkout;
mod faults;
mod interleavings;
mod journey;
mod payment;
mod saga;
mod voyage_fakes;
mod voyage_world;
mod webhook;
