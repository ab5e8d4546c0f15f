//! Payments for administrators.
//!
//! contract: core §5.12 (Payments), payment §9

mod handlers;
mod model;
mod store;

use utoipa_axum::router::OpenApiRouter;

pub use model::{Payment, money};
pub use store::find_by_intent;

use crate::user::UserState;

/// The routes of payments.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .routes(shared::routes!(handlers::list))
        .routes(shared::routes!(handlers::detail))
        .routes(shared::routes!(handlers::put_status))
}
