//! Black-box tests of the business pod, one binary.

mod app;
mod bookings;
mod cart;
mod checkout;
mod faults;
mod payment;
mod saga;
mod voyage_world;
mod webhook;
