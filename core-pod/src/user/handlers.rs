//! The routes of the user service.
//!
//! contract: core §1.1 (what is where), §5.1 (GET /users/profile)

use axum::{Json, Router, extract::State};
use shared::{
    ApiError,
    auth::AuthUser,
    http::limit::{self, Subject},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{UserState, model::Profile, store};

fn documented() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .routes(routes!(own_profile))
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
}

/// What other services ask for (core §2.8, §3.1). Not counted against the limits of callers: they come from few addresses.
fn internal() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .merge(super::ai::internal_routes())
        .merge(super::notifications::internal_routes())
}

fn limited(state: &UserState) -> OpenApiRouter<UserState> {
    let subject = Subject::Caller(state.authenticator.clone());
    let limit = limit::layer(state.limiter.clone(), state.config.limit, subject);
    documented().route_layer(limit)
}

/// All routes of the service, with the log of accesses round everything that names or shows an account.
pub fn routes(state: &UserState) -> Router {
    let audit = super::audit::layer(state.audit.clone(), state.sources.clone());
    let all = limited(state).merge(internal()).route_layer(audit);
    Router::from(all.with_state(state.clone()))
}

/// The description of all routes.
pub fn openapi() -> utoipa::openapi::OpenApi {
    documented().merge(internal()).into_openapi()
}

/// The caller's profile: a bare object, without an envelope.
#[utoipa::path(
    get, path = "/api/v1/users/profile", tag = "users",
    responses(
        (status = 200, description = "Profile, preferences, notifications, privacy and travel", body = Profile),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "The account is gone"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
async fn own_profile(caller: AuthUser, State(state): State<UserState>) -> Result<Json<Profile>, ApiError> {
    let stored = store::find_profile(state.db.pool(), caller.user).await?;
    let stored = stored.ok_or_else(|| ApiError::not_found("User not found").with_code("USER_NOT_FOUND"))?;
    Ok(Json(stored.into()))
}
