//! Password reset, e-mail verification and the safe change of an address, by single-use tokens that travel by mail.
//!
//! contract: core §14, §4.4 (change of address), §7 (`auth.password.reset.requested`, `auth.password.changed`)
//!
//! A token is 256 random bits; its SHA-256 is stored, the token itself is in an encrypted mail and in a link behind `#`,
//! never in a log, an event or a URL that a server sees. Whoever asks for a link is answered before anybody looks whether
//! there is such an account (`requests.rs`). Decision page: 0048.

mod config;
mod handlers;
mod issue;
mod model;
mod requests;
mod store;

pub use config::{EmailChange, RecoveryConfig};
pub(super) use handlers::routes;
pub(super) use issue::{address_changed, ask_to_confirm, ask_to_verify, tell_owner};
pub use requests::{Bell, answer_requests, keep_answering};
