//! Black-box tests of the business pod, one binary.

mod bookings;
mod cart;
mod checkout;
mod saga;
mod voyage_world;
