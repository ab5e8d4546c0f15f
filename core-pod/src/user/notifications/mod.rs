//! Notifications: list, internal creation, preferences by channel, and their way to the browser.
//!
//! contract: core §5.8, §5.9

use utoipa_axum::router::OpenApiRouter;

use super::UserState;

/// The routes of this area.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
}
