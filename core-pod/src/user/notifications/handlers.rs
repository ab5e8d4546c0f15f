//! The routes of notifications.
//!
//! contract: core §5.8, §2.8 (the internal route)

use axum::{Json, extract::State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{
    ApiError,
    auth::{AuthUser, ServiceCaller},
    db::observed,
    http::{Body, Path, Query},
    id::{NotificationId, UserId},
};
use utoipa::{IntoParams, ToSchema};

use super::{
    create::{Created, Draft, Text},
    model::{Filter, Kind, Notification, Page},
    store,
};
use crate::user::{UserState, callers, envelope::Answer, json::Plain};

/// The largest metadata of a notification, in bytes of JSON.
const MAX_METADATA: usize = 16 * 1024;
const MAX_TITLE: usize = 200;
const MAX_MESSAGE: usize = 2_000;

/// Which notifications to list. Everything is read as text: what is not understood is the default.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
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
pub struct NotificationPage {
    notifications: Vec<Notification>,
    pagination: Pagination,
}

/// Where the page stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NotificationPagination)]
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
pub async fn list(
    caller: AuthUser,
    State(state): State<UserState>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Answer<NotificationPage>>, ApiError> {
    let filter = Filter::from_name(query.filter.as_deref().or(query.status.as_deref()));
    let page = Page::read(query.page.as_deref(), query.limit.as_deref());
    let listing = store::list(state.db.pool(), caller.user, filter, page);
    let (notifications, total) = observed("user.notification.list", listing).await?;
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
pub struct Count {
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
pub async fn unread_count(caller: AuthUser, State(state): State<UserState>) -> Result<Json<Answer<Count>>, ApiError> {
    let count = store::count_unread(state.db.pool(), caller.user).await?;
    Ok(Answer::new(Count { count }))
}

/// How many were marked.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NotificationUpdated)]
pub struct Updated {
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
pub async fn mark_all_read(
    caller: AuthUser,
    State(state): State<UserState>,
) -> Result<Json<Answer<Updated>>, ApiError> {
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
pub async fn mark_read(
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
pub async fn put_read(
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

/// How many were deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Deleted {
    deleted: u64,
}

/// Deletes what the caller has read.
#[utoipa::path(
    delete, path = "/api/v1/users/notifications", tag = "notifications",
    responses(
        (status = 200, description = "How many there were", body = Answer<Deleted>),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn delete_read(caller: AuthUser, State(state): State<UserState>) -> Result<Json<Answer<Deleted>>, ApiError> {
    let deleted = store::delete_read(state.db.pool(), caller.user).await?;
    Ok(Answer::new(Deleted { deleted }))
}

/// What another service wants a traveller to know.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The account.
    #[schema(required = true)]
    user_id: Option<String>,
    /// `SYSTEM` if absent.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// At most 200 characters.
    #[schema(required = true)]
    title: Option<String>,
    /// At most 2,000 characters.
    #[schema(required = true)]
    message: Option<String>,
    /// An object for the client.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

/// A request that holds together.
struct Wanted {
    user: UserId,
    kind: Kind,
    title: String,
    message: String,
    metadata: Option<Value>,
}

impl Request {
    /// An account id that is none of ours names nobody, which is 404 and not 400.
    fn checked(self) -> Result<Wanted, ApiError> {
        let given = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let (Some(user), Some(title), Some(message)) = (given(self.user_id), given(self.title), given(self.message))
        else {
            return Err(ApiError::bad_request("userId, title and message are required"));
        };
        let kind = match self.kind.as_deref() {
            None => Kind::System,
            Some(name) => Kind::from_name(name).ok_or_else(|| ApiError::bad_request("Invalid notification type"))?,
        };
        for (name, text, limit) in [("title", &title, MAX_TITLE), ("message", &message, MAX_MESSAGE)] {
            if text.chars().count() > limit {
                return Err(ApiError::bad_request(format!(
                    "{name} must be at most {limit} characters"
                )));
            }
            if text.contains('\0') {
                return Err(ApiError::bad_request(format!(
                    "{name} has a character that cannot be shown"
                )));
            }
        }
        let fits = |metadata: &Value| metadata.is_object() && metadata.fits(MAX_METADATA);
        if !self.metadata.as_ref().is_none_or(fits) {
            return Err(ApiError::bad_request("metadata must be an object of at most 16 KB"));
        }
        Ok(Wanted {
            user: user.parse().map_err(|_| unknown_user())?,
            kind,
            title,
            message,
            metadata: self.metadata,
        })
    }
}

fn unknown_user() -> ApiError {
    ApiError::not_found("User not found").with_code("USER_NOT_FOUND")
}

/// Makes a notification on behalf of another service. Answers null where the traveller does not want to see it.
#[utoipa::path(
    post, path = "/api/v1/users/notifications/internal", tag = "internal", request_body = Request,
    responses(
        (status = 201, description = "The notification, null when the in-app channel is off", body = Answer<Option<Notification>>),
        (status = 400, description = "A field is missing or not valid"),
        (status = 401, description = "No service token"),
        (status = 403, description = "Not a service that may do this"),
        (status = 404, description = "There is no such account"),
    ),
    security(("service" = [])),
)]
pub async fn create(
    caller: ServiceCaller,
    State(state): State<UserState>,
    Body(request): Body<Request>,
) -> Result<(StatusCode, Json<Answer<Option<Notification>>>), ApiError> {
    callers::require_partner(&caller)?;
    let wanted = request.checked()?;
    let draft = Draft {
        user: wanted.user,
        text: Text::Given {
            kind: wanted.kind,
            title: &wanted.title,
            message: &wanted.message,
        },
        metadata: wanted.metadata,
        cause: None,
    };
    let mut tx = state.db.begin().await?;
    let created = state.notifications.create(&mut tx, &draft).await?;
    tx.commit().await?;
    state.notifications.wake();
    match created {
        Created::Nobody => Err(unknown_user()),
        Created::Unseen => Ok((StatusCode::CREATED, Answer::new(None))),
        Created::Stored(notification) => Ok((StatusCode::CREATED, Answer::new(Some(notification)))),
    }
}
