//! Bookings for administrators.
//!
//! contract: core §5.12 (Bookings), voyage §7.2, §7.5

mod change;
mod handlers;
mod letter;
mod model;
mod store;

use utoipa_axum::router::OpenApiRouter;

use crate::user::UserState;

/// The routes of bookings. The bulk route stands beside `/{id}/status` and is not an id called `bulk`.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .routes(shared::routes!(handlers::list))
        .routes(shared::routes!(handlers::export))
        .routes(shared::routes!(handlers::detail))
        .routes(shared::routes!(change::put_statuses))
        .routes(shared::routes!(change::put_status))
        .routes(shared::routes!(change::put_cancel))
        .routes(shared::routes!(change::put_modify))
        .routes(shared::routes!(letter::resend))
}
