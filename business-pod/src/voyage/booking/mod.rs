//! Bookings: what was bought, how far it has come, and what moves it (contract: voyage §4.8, §7).

pub mod admin;
mod confirm;
pub mod fulfil;
pub mod handlers;
pub mod model;
pub mod orders;
pub mod saga;
pub mod settle;
pub mod store;
pub mod tasks;
pub mod wire;
