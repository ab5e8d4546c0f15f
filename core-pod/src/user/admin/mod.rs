//! Users, bookings, payments and the dashboard, for administrators.
//!
//! contract: core §5.12

use utoipa_axum::router::OpenApiRouter;

use super::UserState;

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
}
