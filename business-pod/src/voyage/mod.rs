//! The voyage service: search, cart, checkout, bookings (contract: voyage.md).
//!
//! It owns the schema `voyage`. Payment is reached through its client trait, everybody else through events; others reach
//! bookings through [`client::BookingClient`].

pub mod client;
pub mod supply;

use shared::db::Service;

/// The voyage service as an owner of a schema.
#[derive(Debug, Clone, Copy)]
pub enum Voyage {}

impl Service for Voyage {
    const NAME: &'static str = "voyage-service";
    const SCHEMA: &'static str = "voyage";
}
