//! The thirteen steps by which a traveller tells what they like.
//!
//! contract: core §5.5

use utoipa_axum::router::OpenApiRouter;

use super::UserState;

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
}
