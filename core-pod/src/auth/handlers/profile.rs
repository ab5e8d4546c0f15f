//! `GET /api/v1/auth/profile`: the caller's account (core §4.3).

use axum::{Json, extract::State};
use shared::{ApiError, auth::AuthUser};

use super::{Answer, UserData, user_not_found};
use crate::auth::{AuthState, store};

/// The caller's account.
#[utoipa::path(
    get, path = "/api/v1/auth/profile", tag = "auth",
    responses(
        (status = 200, description = "The account", body = Answer<UserData>),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "The account is gone"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn profile(caller: AuthUser, State(state): State<AuthState>) -> Result<Json<Answer<UserData>>, ApiError> {
    let account = store::find_account(state.db.pool(), caller.user)
        .await?
        .ok_or_else(user_not_found)?;
    Ok(Json(Answer::new(
        "Profile retrieved successfully",
        UserData { user: account.into() },
    )))
}
