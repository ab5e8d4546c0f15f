//! Accounts for administrators.
//!
//! contract: core §5.12 (Users)

mod activity;
mod change;
mod export;
mod handlers;
mod model;
mod store;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::user::UserState;

/// The routes of accounts.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .routes(routes!(handlers::list))
        .routes(routes!(export::export))
        .routes(routes!(handlers::detail, change::put, change::delete))
        .routes(routes!(activity::list))
        .routes(routes!(change::put_suspend, change::post_suspend))
        .routes(routes!(change::put_reactivate, change::post_reactivate))
        .routes(routes!(change::put_unsuspend, change::post_unsuspend))
        .routes(routes!(change::put_unlock))
}
