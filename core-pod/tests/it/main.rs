//! Black-box tests of the core pod.

mod accounts;
mod events;
mod hostile;
mod notifications;
mod openapi;
mod pods;
mod refresh;
mod sessions;
mod support;
