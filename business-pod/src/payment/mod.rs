//! The payment service: Stripe payments, webhooks, refunds (payment.md).
