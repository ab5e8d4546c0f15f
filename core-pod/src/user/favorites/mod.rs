//! What a traveller keeps for later.
//!
//! contract: core §5.6
//!
//! An item is a favourite of one traveller at most once; the unique key decides races. Somebody else's favourite is 403,
//! as in the original, not 404.

mod bodies;
mod handlers;
mod model;
mod store;

use utoipa_axum::router::OpenApiRouter;

use super::UserState;

/// The routes of this area, but the checks.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .routes(shared::routes!(handlers::list, handlers::add))
        .routes(shared::routes!(handlers::add_batch, handlers::remove_batch))
        .routes(shared::routes!(handlers::find, handlers::update, handlers::remove))
}

/// Checks whether items are favourites; these have a limit of their own (core §1.10).
pub(super) fn checks() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .routes(shared::routes!(handlers::check_batch))
        .routes(shared::routes!(handlers::check))
}
