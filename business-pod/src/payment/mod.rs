//! The payment service: Stripe payments, webhooks, refunds and the ledger.
//!
//! contract: payment.md. Every change of a payment is one database transaction: inbox or idempotency row, guarded
//! transition, ledger entries and outbox events together. Stripe is called before or after a transaction, never in one.

pub mod client;
mod model;

/// The payment service as the owner of the schema `payment`.
#[derive(Debug)]
pub enum Payment {}

impl shared::db::Service for Payment {
    const NAME: &'static str = "payment-service";
    const SCHEMA: &'static str = "payment";
}
