//! Sessions as their owner sees them, and what happened to the account.
//!
//! contract: core §14

use utoipa_axum::router::OpenApiRouter;

use super::AuthState;

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<AuthState> {
    OpenApiRouter::new()
}
