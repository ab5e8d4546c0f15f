//! Password reset, e-mail verification and the safe change of an address, by single-use tokens.
//!
//! contract: core §14

use utoipa_axum::router::OpenApiRouter;

use super::AuthState;

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<AuthState> {
    OpenApiRouter::new()
}
