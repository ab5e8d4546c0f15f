//! What a traveller keeps for later.
//!
//! contract: core §5.6

use utoipa_axum::router::OpenApiRouter;

use super::UserState;

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
}
