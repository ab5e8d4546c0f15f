//! Accounts for administrators.
//!
//! contract: core §5.12 (Users)

mod activity;
mod change;
mod export;
mod handlers;
mod model;
mod store;

use utoipa_axum::router::OpenApiRouter;

use crate::user::UserState;

/// The routes of accounts.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .routes(shared::routes!(handlers::list))
        .routes(shared::routes!(export::export))
        .routes(shared::routes!(handlers::detail, change::put, change::delete))
        .routes(shared::routes!(activity::list))
        .routes(shared::routes!(change::put_suspend, change::post_suspend))
        .routes(shared::routes!(change::put_reactivate, change::post_reactivate))
        .routes(shared::routes!(change::put_unsuspend, change::post_unsuspend))
        .routes(shared::routes!(change::put_unlock))
        .routes(shared::routes!(change::delete_mfa))
}
