//! The voyage service: search, cart, checkout, bookings (voyage.md).

pub mod supply;
