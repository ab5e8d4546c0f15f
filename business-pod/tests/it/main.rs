//! Black-box tests of the business pod, one binary.

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
