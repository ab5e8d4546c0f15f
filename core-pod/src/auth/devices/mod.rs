//! Sessions as their owner sees them and ends them, and what happened to the account.
//!
//! contract: core §14 (session list and revoke, security event log)

mod agent;
mod handlers;
mod people;
mod seen;

use utoipa_axum::router::OpenApiRouter;

pub use agent::{Device, DeviceKind};
pub use people::{count_people, keep_counting_people};
pub use seen::{LastSeen, keep_noting};

use super::AuthState;

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<AuthState> {
    OpenApiRouter::new()
        .routes(shared::routes!(handlers::list, handlers::end_others))
        .routes(shared::routes!(handlers::end_one))
        .routes(shared::routes!(handlers::security_events))
}
