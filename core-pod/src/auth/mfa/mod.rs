//! The second factor: TOTP, recovery codes, passkeys, step-up.
//!
//! contract: core §14 (MFA TOTP, recovery codes, passkeys, enforced MFA, step-up)
//!
//! An account that uses none of it meets none of it: its sign-in answers as ever. What has to survive between two requests
//! is a row in `auth.ceremonies` ([`ceremony`]), because being used once is a promise and Redis may forget.

mod accounts;
pub mod ceremony;
mod config;
mod handlers;
mod model;
mod notice;
mod passkey;
mod second_factor;
mod sign_in;
mod step_up;
pub mod store;
mod totp;

pub use accounts::{IdentityInfo, PasskeyInfo};
pub use config::MfaConfig;
pub use handlers::routes;
pub use model::Proof;
pub use notice::{Change, tell};
pub use passkey::Passkeys;
pub use sign_in::{Challenge, challenge, is_on};
pub use step_up::{Reauthenticated, RecentlyAuthenticated, StepUp};

/// 409: without this one nobody could sign in to the account any more.
pub fn last_method() -> shared::ApiError {
    shared::ApiError::conflict("LAST_SIGN_IN_METHOD", "Set a password or add a passkey first")
}
