//! The routes of the user service.
//!
//! contract: core §1.1 (what is where), §1.10 (limits)

use axum::Router;
use shared::http::limit::{self, LimitLayer, Rule, Subject};
use utoipa_axum::router::OpenApiRouter;

use super::UserState;

fn documented() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .merge(super::admin::routes())
        .merge(super::ai::routes())
        .merge(super::audit::routes())
        .merge(super::favorites::routes())
        .merge(super::gdpr::routes())
        .merge(super::history::routes())
        .merge(super::notifications::routes())
        .merge(super::onboarding::routes())
        .merge(super::profile::routes())
        .merge(super::realtime::routes())
        .merge(super::unsubscribe::routes())
}

/// What other services ask for (core §2.8, §3.1). Not counted against the limits of callers: they come from few addresses.
fn internal() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .merge(super::ai::internal_routes())
        .merge(super::notifications::internal_routes())
}

/// All routes of the service, but uploads, with the log of accesses round everything that names or shows an account.
pub fn routes(state: &UserState) -> Router {
    let checks = super::favorites::checks().route_layer(limited(state, state.config.checks));
    let routes = documented()
        .merge(checks)
        .route_layer(limited(state, state.config.limit))
        .merge(internal())
        .route_layer(super::audit::layer(state.audit.clone(), state.sources.clone()));
    Router::from(routes.with_state(state.clone()))
}

/// Uploads, which take longer than other requests.
pub fn uploads(state: &UserState) -> Router {
    let routes = super::profile::uploads()
        .route_layer(limited(state, state.config.limit))
        .route_layer(super::audit::layer(state.audit.clone(), state.sources.clone()));
    Router::from(routes.with_state(state.clone()))
}

fn limited(state: &UserState, rule: Rule) -> LimitLayer {
    let subject = Subject::Caller(state.authenticator.clone());
    limit::layer(state.limiter.clone(), rule, subject)
}

/// The description of all routes.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let others = super::favorites::checks().merge(super::profile::uploads());
    documented().merge(others).merge(internal()).into_openapi()
}
