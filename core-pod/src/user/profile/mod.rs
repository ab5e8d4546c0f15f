//! The profile, settings, preferences and avatar of an account.
//!
//! contract: core §5.1-5.4

use utoipa_axum::router::OpenApiRouter;

use super::UserState;

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
}
