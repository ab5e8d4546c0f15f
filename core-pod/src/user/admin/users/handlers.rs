//! The routes that read accounts.
//!
//! contract: core §5.12 (Users)

use axum::{Json, extract::State};
use shared::{
    ApiError,
    http::{Path, QueryMap},
    id::UserId,
};

use super::{
    model::{Filter, UserDetail, UserPage},
    store,
};
use crate::user::{
    UserState,
    admin::{
        access::Admin,
        answers::{Answer, Pagination},
        unread,
    },
};

/// A page of accounts.
#[utoipa::path(
    get, path = "/api/v1/admin/users", tag = "admin",
    params(
        ("page" = Option<i64>, Query, description = "from 1"),
        ("limit" = Option<i64>, Query, description = "1 to 100, 50 if absent"),
        ("search" = Option<String>, Query, description = "part of an address, of a name or of a user name"),
        ("role" = Option<String>, Query, description = "`USER`, `ADMIN`, `MODERATOR`"),
        ("status" = Option<String>, Query, description = "`active`, `suspended`"),
        ("startDate" = Option<String>, Query, description = "a date or an instant"),
        ("endDate" = Option<String>, Query, description = "a date (included) or an instant"),
        ("sortBy" = Option<String>, Query, description = "`createdAt` unless it is a known column"),
        ("sortOrder" = Option<String>, Query, description = "`asc`, else descending"),
    ),
    responses(
        (status = 200, description = "A page", body = Answer<UserPage>),
        (status = 400, description = "A date, role or status that is none"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn list(
    _: Admin,
    State(state): State<UserState>,
    query: QueryMap,
) -> Result<Json<Answer<UserPage>>, ApiError> {
    let filter = Filter::read(&query)?;
    let mut conn = state.db.acquire().await?;
    let (total, users) = store::list(&mut conn, &filter).await.map_err(unread)?;
    Ok(Answer::of(UserPage {
        users,
        pagination: Pagination::new(filter.page, total),
    }))
}

/// One account.
#[utoipa::path(
    get, path = "/api/v1/admin/users/{id}", tag = "admin",
    params(("id" = String, Path, description = "the account")),
    responses(
        (status = 200, description = "The account", body = Answer<UserDetail>),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
        (status = 404, description = "There is no such account"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn detail(
    _: Admin,
    State(state): State<UserState>,
    Path(id): Path<String>,
) -> Result<Json<Answer<UserDetail>>, ApiError> {
    let mut conn = state.db.acquire().await?;
    let found = store::find(&mut conn, user_id(&id)?).await.map_err(unread)?;
    Ok(Answer::of(found.ok_or_else(missing)?))
}

/// The account of a route.
pub fn user_id(text: &str) -> Result<UserId, ApiError> {
    text.parse().map_err(|_| missing())
}

/// 404.
pub fn missing() -> ApiError {
    ApiError::not_found("User not found").with_code("USER_NOT_FOUND")
}
