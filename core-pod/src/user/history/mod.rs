//! What a traveller did, as the client writes it down.
//!
//! contract: core §5.7
//!
//! A filter that is not understood is ignored when reading and refused when deleting: in the original a slip of the pen
//! deleted everything (core §13 line 18).

mod handlers;
mod model;
mod store;

use utoipa_axum::router::OpenApiRouter;

use super::UserState;

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .routes(shared::routes!(handlers::list, handlers::add, handlers::clear))
        .routes(shared::routes!(handlers::stats))
        .routes(shared::routes!(handlers::remove))
}
