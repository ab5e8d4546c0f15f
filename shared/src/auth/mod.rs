//! Who is calling: access tokens, session cookies, service tokens, and the extractors that handlers name.
//!
//! contract: core §2
//!
//! Handlers never look at the `Authorization` header or a cookie; they name [`AuthUser`], `Option<AuthUser>` or
//! [`ServiceCaller`] in their signature. The state must provide an [`Authenticator`].

pub mod identity;
pub mod session;
pub mod testing;
pub mod tokens;

pub use identity::{AuthUser, Authenticator, Role, ServiceCaller, Via};
