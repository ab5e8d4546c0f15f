//! The business pod: voyage, payment and AI in one process.

pub mod ai;
pub mod fault;
pub mod payment;
pub mod voyage;
