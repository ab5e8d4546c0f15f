//! The routes of the user service.
//!
//! contract: core §5.8, §1.10 (limits)

use axum::{
    Json, Router,
    extract::{Path, State},
};
use serde::{Deserialize, Serialize};
use shared::{
    ApiError,
    auth::AuthUser,
    http::{
        Query,
        limit::{self, LimitLayer, Rule, Subject},
    },
    id::NotificationId,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    UserState,
    model::{Filter, Notification, Page},
    store,
};

fn documented() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .routes(routes!(list_notifications))
        .routes(routes!(unread_count))
        .routes(routes!(mark_all_read))
        .routes(routes!(mark_read))
        .routes(routes!(put_read))
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

/// All routes of the service, but uploads.
pub fn routes(state: &UserState) -> Router {
    let checks = super::favorites::checks().route_layer(limited(state, state.config.checks));
    let routes = documented()
        .merge(checks)
        .route_layer(limited(state, state.config.limit))
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
    documented().merge(others).into_openapi()
}

/// The envelope of notifications.
#[derive(Debug, Serialize, ToSchema)]
pub struct Answer<T> {
    /// Always true.
    success: bool,
    /// What was asked for.
    data: T,
}

impl<T> Answer<T> {
    /// With this data.
    pub fn new(data: T) -> Json<Self> {
        Json(Self { success: true, data })
    }
}

/// Which notifications to list. Everything is read as text: what is not understood is the default.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// `all`, `unread` or `read`.
    filter: Option<String>,
    /// The same as `filter`.
    status: Option<String>,
    /// Counted from one.
    #[param(value_type = Option<i64>)]
    page: Option<String>,
    /// 1 to 50, 20 if absent.
    #[param(value_type = Option<i64>)]
    limit: Option<String>,
}

/// A page of notifications.
#[derive(Debug, Serialize, ToSchema)]
struct NotificationPage {
    notifications: Vec<Notification>,
    pagination: Pagination,
}

/// Where the page stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Pagination {
    total: i64,
    page: i64,
    limit: i64,
    has_more: bool,
}

/// The caller's notifications, newest first.
#[utoipa::path(
    get, path = "/api/v1/users/notifications", tag = "notifications", params(ListQuery),
    responses(
        (status = 200, description = "A page of notifications", body = Answer<NotificationPage>),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
async fn list_notifications(
    caller: AuthUser,
    State(state): State<UserState>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Answer<NotificationPage>>, ApiError> {
    let filter = Filter::from_name(query.filter.as_deref().or(query.status.as_deref()));
    let page = Page::read(query.page.as_deref(), query.limit.as_deref());
    let mut conn = state.db.acquire().await?;
    let notifications = store::list_notifications(&mut conn, caller.user, filter, page).await?;
    let total = store::count_notifications(&mut *conn, caller.user, filter).await?;
    let pagination = Pagination {
        total,
        page: page.number,
        limit: page.limit,
        has_more: page.has_more(total),
    };
    Ok(Answer::new(NotificationPage {
        notifications,
        pagination,
    }))
}

/// How many are unread.
#[derive(Debug, Serialize, ToSchema)]
struct Count {
    count: i64,
}

/// How many notifications the caller has not read.
#[utoipa::path(
    get, path = "/api/v1/users/notifications/unread-count", tag = "notifications",
    responses(
        (status = 200, description = "The number", body = Answer<Count>),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
async fn unread_count(caller: AuthUser, State(state): State<UserState>) -> Result<Json<Answer<Count>>, ApiError> {
    let count = store::count_unread(state.db.pool(), caller.user).await?;
    Ok(Answer::new(Count { count }))
}

/// How many were marked.
#[derive(Debug, Serialize, ToSchema)]
struct Updated {
    updated: u64,
}

/// Marks all notifications of the caller read.
#[utoipa::path(
    patch, path = "/api/v1/users/notifications/mark-all-read", tag = "notifications",
    responses(
        (status = 200, description = "How many were unread", body = Answer<Updated>),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
async fn mark_all_read(caller: AuthUser, State(state): State<UserState>) -> Result<Json<Answer<Updated>>, ApiError> {
    let updated = store::mark_all_read(state.db.pool(), caller.user, state.sources.now()).await?;
    Ok(Answer::new(Updated { updated }))
}

/// Marks one notification of the caller read.
#[utoipa::path(
    patch, path = "/api/v1/users/notifications/{id}/read", tag = "notifications",
    params(("id" = String, Path, description = "The notification")),
    responses(
        (status = 200, description = "The notification", body = Answer<Notification>),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "There is none, or it is somebody else's"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
async fn mark_read(
    caller: AuthUser,
    State(state): State<UserState>,
    Path(id): Path<String>,
) -> Result<Json<Answer<Notification>>, ApiError> {
    read(&state, &caller, &id).await
}

/// The same as PATCH.
#[utoipa::path(
    put, path = "/api/v1/users/notifications/{id}/read", tag = "notifications",
    params(("id" = String, Path, description = "The notification")),
    responses(
        (status = 200, description = "The notification", body = Answer<Notification>),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "There is none, or it is somebody else's"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
async fn put_read(
    caller: AuthUser,
    State(state): State<UserState>,
    Path(id): Path<String>,
) -> Result<Json<Answer<Notification>>, ApiError> {
    read(&state, &caller, &id).await
}

async fn read(state: &UserState, caller: &AuthUser, id: &str) -> Result<Json<Answer<Notification>>, ApiError> {
    let not_found = || ApiError::not_found("Notification not found");
    let id: NotificationId = id.parse().map_err(|_| not_found())?;
    let read = store::mark_read(state.db.pool(), caller.user, id, state.sources.now()).await?;
    Ok(Answer::new(read.ok_or_else(not_found)?))
}
