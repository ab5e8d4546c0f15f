//! `GET /api/v1/users/profile`: a bare object of five blocks (core §5.1).

use axum::{Json, extract::State};
use shared::{ApiError, auth::AuthUser};

use super::{model::Profile, store};
use crate::user::UserState;

pub(super) fn user_not_found() -> ApiError {
    ApiError::not_found("User not found").with_code("USER_NOT_FOUND")
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
pub async fn own(caller: AuthUser, State(state): State<UserState>) -> Result<Json<Profile>, ApiError> {
    let stored = store::find_profile(state.db.pool(), caller.user).await?;
    Ok(Json(stored.ok_or_else(user_not_found)?.shown()))
}
