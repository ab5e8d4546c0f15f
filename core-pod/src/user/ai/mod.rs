//! What the recommendation service may know of a traveller.
//!
//! contract: core §5.13, ai §6.6; core §13, line 4 (no longer open to anybody)
//!
//! A service reads what its account allows: without the consent to personalisation the ids and whether onboarding is
//! completed, and diet, accessibility and health only where that consent was given in so many words. A traveller reads all.

mod answers;
mod handlers;
mod model;
mod store;

use utoipa_axum::router::OpenApiRouter;

use super::UserState;

/// The routes of this area that travellers may use: none. What is theirs too stands among the internal routes.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
}

/// What other services ask for; one account also by its owner. The gateway shows the outside none of it, and sends
/// `/api/v1/ai/health` to the AI service.
pub(super) fn internal_routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .routes(shared::routes!(handlers::preferences))
        .routes(shared::routes!(handlers::preferences_by_alias))
        .routes(shared::routes!(handlers::batch))
        .routes(shared::routes!(handlers::health))
}
