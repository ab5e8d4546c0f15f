//! Idempotency keys for requests that create or move money (core §14, payment §3).
