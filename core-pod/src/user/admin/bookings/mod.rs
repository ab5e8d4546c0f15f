//! Bookings for administrators.
//!
//! contract: core §5.12 (Bookings), voyage §7.2, §7.5

mod change;
mod handlers;
mod letter;
mod model;
mod store;

use utoipa_axum::{router::OpenApiRouter, routes};

use crate::user::UserState;

/// The routes of bookings. The bulk route stands beside `/{id}/status` and is not an id called `bulk`.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .routes(routes!(handlers::list))
        .routes(routes!(handlers::export))
        .routes(routes!(handlers::detail))
        .routes(routes!(change::put_statuses))
        .routes(routes!(change::put_status))
        .routes(routes!(change::put_cancel))
        .routes(routes!(change::put_modify))
        .routes(routes!(letter::resend))
}
