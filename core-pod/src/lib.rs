//! The core pod: gateway, auth and user in one process.

pub mod auth;
pub mod user;
