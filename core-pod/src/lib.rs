//! The core pod: gateway, auth and user in one process.

pub mod auth;
mod limits;
pub mod user;
