//! `GET /api/v1/users/gdpr/access-log`: what the log tells about the caller.
//!
//! contract: core §10

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use shared::{ApiError, auth::AuthUser, http::Query};
use utoipa::{IntoParams, ToSchema};

use super::{model::AccessLog, store};
use crate::user::UserState;

/// Which piece. What is not understood is the default.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Piece {
    /// 1 to 100, 50 if absent.
    #[param(value_type = Option<i64>)]
    limit: Option<String>,
    /// Entries before the first.
    #[param(value_type = Option<i64>)]
    offset: Option<String>,
}

impl Piece {
    fn read(&self) -> (i64, i64) {
        let number = |text: &Option<String>| text.as_deref().and_then(|text| text.trim().parse::<i64>().ok());
        (
            number(&self.limit).unwrap_or(50).clamp(1, 100),
            number(&self.offset).unwrap_or(0).clamp(0, 100_000_000),
        )
    }
}

/// A piece of the log.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccessLogPage {
    success: bool,
    data: Vec<AccessLog>,
    pagination: AccessLogPagination,
}

/// Where the piece stands.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessLogPagination {
    total: i64,
    limit: i64,
    offset: i64,
    has_more: bool,
}

/// Who read and changed the caller's data, newest first.
#[utoipa::path(
    get, path = "/api/v1/users/gdpr/access-log", tag = "gdpr", params(Piece),
    responses(
        (status = 200, description = "Accesses", body = AccessLogPage),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn access_log(
    caller: AuthUser,
    State(state): State<UserState>,
    Query(piece): Query<Piece>,
) -> Result<Json<AccessLogPage>, ApiError> {
    let (limit, offset) = piece.read();
    let mut conn = state.db.acquire().await?;
    let data = store::list(&mut conn, caller.user, limit, offset).await?;
    let total = store::count(&mut *conn, caller.user).await?;
    let pagination = AccessLogPagination {
        total,
        limit,
        offset,
        has_more: offset + limit < total,
    };
    Ok(Json(AccessLogPage {
        success: true,
        data,
        pagination,
    }))
}
