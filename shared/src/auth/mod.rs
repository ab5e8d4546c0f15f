//! Who is calling: access tokens, session cookies, service tokens, and the extractors that handlers name.
//!
//! contract: core §2
//!
//! Handlers never look at the `Authorization` header or a cookie; they name [`AuthUser`], `Option<AuthUser>` or
//! [`ServiceCaller`] in their signature. The state must provide an [`Authenticator`].
//!
//! The parts, from the bottom: [`keys`] (Ed25519 key sets), [`tokens`] (what is signed and how it is checked), [`jwks`]
//! (the public keys as the other pods read them), [`session`] (is this sign-in still live), [`authenticator`] (all of it
//! together for one request), [`service`] (the token one pod shows another).

pub mod authenticator;
pub mod config;
pub mod identity;
pub mod jwks;
pub mod keys;
pub mod remote;
pub mod service;
pub mod session;
pub mod testing;
pub mod tokens;

#[cfg(test)]
mod tests;

pub use authenticator::PlatformAuthenticator;
pub use identity::{AuthUser, Authenticate, Authenticator, Caller, CallerSlot, Role, ServiceCaller, Via};
