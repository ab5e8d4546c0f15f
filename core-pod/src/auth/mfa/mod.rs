//! The second factor: TOTP, recovery codes, passkeys, step-up.
//!
//! contract: core §14

use utoipa_axum::router::OpenApiRouter;

use super::AuthState;

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<AuthState> {
    OpenApiRouter::new()
}
