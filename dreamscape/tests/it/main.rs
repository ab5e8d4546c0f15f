//! The platform from outside: real processes, real HTTP, embedded back ends. One binary, linked once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::pedantic,
    missing_docs,
    reason = "a test stops where something is not as it should be"
)]

mod admin;
mod authorisation;
mod documents;
mod hang_ups;
mod journey;
mod kafka;
mod kills;
mod privacy;
mod process;
mod traces;
