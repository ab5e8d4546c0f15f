//! Black-box tests of the core pod.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must stop"
)]

mod accounts;
mod events;
mod hostile;
mod notifications;
mod openapi;
mod pods;
mod refresh;
mod sessions;
mod support;
