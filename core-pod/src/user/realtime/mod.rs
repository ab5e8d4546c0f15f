//! Socket.IO: notifications to open browsers, across replicas.
//!
//! contract: core §5.10

use utoipa_axum::router::OpenApiRouter;

use super::UserState;

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
}
