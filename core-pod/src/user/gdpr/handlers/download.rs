//! `GET /api/v1/users/gdpr/data-export/{id}/download`: the exported data as a file.
//!
//! contract: core §5.11 (202 while it is not ready, 410 once it has expired)

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use shared::{ApiError, http::Path};
use utoipa::ToSchema;

use super::PrivacyAnswer;
use crate::{
    auth::RecentlyAuthenticated,
    user::{
        UserState,
        gdpr::{
            export,
            model::{RequestId, RequestStatus, RequestType},
            store::exports::{self as store, Stored},
        },
    },
};

/// When to ask again.
const RETRY_AFTER: Duration = Duration::from_secs(15);

/// How far an export is.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExportProgress {
    id: RequestId,
    status: RequestStatus,
}

/// The exported data of the caller.
#[utoipa::path(
    get, path = "/api/v1/users/gdpr/data-export/{id}/download", tag = "gdpr",
    params(("id" = String, Path, description = "The request")),
    responses(
        (status = 200, description = "The data, as a file", body = Object, content_type = "application/json"),
        (status = 202, description = "Not ready yet; see Retry-After", body = PrivacyAnswer<ExportProgress>),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "It is somebody else's, or a recent proof is wanted"),
        (status = 404, description = "There is none"),
        (status = 410, description = "It has expired"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn download(
    RecentlyAuthenticated(caller): RecentlyAuthenticated,
    State(state): State<UserState>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let not_found = || ApiError::not_found("Export not found");
    let id: RequestId = id.parse().map_err(|_| not_found())?;
    let stored = store::find_stored(state.db.pool(), id).await?;
    let Stored { request, object } = stored.ok_or_else(not_found)?;
    if request.user_id != caller.user {
        return Err(ApiError::forbidden("Access denied"));
    }
    if request.request_type != RequestType::DataExport {
        return Err(not_found());
    }
    let now = state.sources.now();
    match request.status {
        RequestStatus::Rejected | RequestStatus::Cancelled => Err(not_found()),
        _ if request.expires_at.is_some_and(|end| end <= now) => Err(expired()),
        RequestStatus::Pending | RequestStatus::InProgress => Ok(not_ready(id, request.status)),
        RequestStatus::Completed => {
            let key = object.ok_or_else(expired)?;
            let Some(body) = export::download(&state, id, &key).await? else {
                tracing::error!(request = %id, "the object of an export is missing");
                return Err(expired());
            };
            let headers: [(HeaderName, HeaderValue); 2] = [
                (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
                (
                    header::CONTENT_DISPOSITION,
                    HeaderValue::from_static("attachment; filename=\"dreamscape-data-export.json\""),
                ),
            ];
            Ok((headers, body).into_response())
        }
    }
}

fn not_ready(id: RequestId, status: RequestStatus) -> Response {
    let answer = Json(PrivacyAnswer {
        success: true,
        message: Some("Your data export is being prepared"),
        data: ExportProgress { id, status },
    });
    let after = [(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER.as_secs()))];
    (StatusCode::ACCEPTED, after, answer).into_response()
}

fn expired() -> ApiError {
    ApiError::new(
        StatusCode::GONE,
        "EXPORT_EXPIRED",
        "This export has expired, please request a new one",
    )
}
