//! Sign-in with an account at another provider: OpenID Connect, authorization code with PKCE.
//!
//! contract: core §14 (OAuth/OIDC login, account linking), docs/decisions/0047
//!
//! The browser goes to the provider and comes back with a code; we exchange it, check what the provider signed, and open a
//! session of ours. An address links nothing by itself: the provider must have verified it, and an account that exists is
//! linked only by somebody who is signed in to it or knows its password.

mod callback;
mod config;
mod handlers;
mod id_token;
mod identity;
mod provider;
mod store;

pub use config::OidcConfig;
pub use handlers::routes;
pub use provider::Providers;
pub use store::list_identities;
