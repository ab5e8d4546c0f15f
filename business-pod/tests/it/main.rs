//! Black-box tests of the business pod, one binary.

mod aftermath;
mod app;
mod bookings;
mod cart;
mod checkout;
mod faults;
mod interleavings;
mod payment;
mod saga;
mod voyage_world;
mod webhook;
