//! `GET /admin/users/:id/activity`: what an account did.
//!
//! contract: core §5.12 (Users)

use axum::{Json, extract::State};
use shared::{
    ApiError,
    http::{Path, QueryMap},
};

use super::{
    handlers::{missing, user_id},
    model::ActivityPage,
    store,
};
use crate::user::{
    UserState,
    admin::{
        access::Admin,
        answers::{Answer, Pagination},
        list::Page,
        unread,
    },
};

/// History, bookings and payments of an account in one order, the newest first; the newest hundred of each.
#[utoipa::path(
    get, path = "/api/v1/admin/users/{id}/activity", tag = "admin",
    params(
        ("id" = String, Path, description = "the account"),
        ("page" = Option<i64>, Query, description = "from 1"),
        ("limit" = Option<i64>, Query, description = "1 to 100, 20 if absent"),
    ),
    responses(
        (status = 200, description = "A page", body = Answer<ActivityPage>),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
        (status = 404, description = "There is no such account"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn list(
    _: Admin,
    State(state): State<UserState>,
    Path(id): Path<String>,
    query: QueryMap,
) -> Result<Json<Answer<ActivityPage>>, ApiError> {
    let (user, page) = (user_id(&id)?, Page::read(&query, 20));
    let mut conn = state.db.acquire().await?;
    if !store::exists(&mut conn, user).await.map_err(unread)? {
        return Err(missing());
    }
    let (total, items) = store::activity(&mut conn, user, page).await.map_err(unread)?;
    Ok(Answer::of(ActivityPage {
        items,
        pagination: Pagination::new(page, total),
    }))
}
