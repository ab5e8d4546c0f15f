//! What a traveller did.
//!
//! contract: core §5.7

use utoipa_axum::router::OpenApiRouter;

use super::UserState;

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
}
