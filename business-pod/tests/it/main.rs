//! Black-box tests of the business pod, one binary.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on stops")]

mod app;
mod bookings;
mod cart;
mod checkout;
mod journey;
mod payment;
mod saga;
mod voyage_fakes;
mod voyage_world;
mod webhook;
