//! Requests about one's data: export, deletion, and those that a person works on.
//!
//! contract: core §5.11

use axum::{Json, extract::State, response::Response};
use http::StatusCode;
use serde_json::{Map, Value};
use shared::{
    ApiError,
    auth::AuthUser,
    http::{Body, Path},
};
use utoipa::ToSchema;

use super::PrivacyAnswer;
use crate::user::{
    UserState,
    gdpr::{
        export,
        model::{GdprRequest, RequestType, read_reason},
        requests::{
            allowance, ask_a_person, ask_for_deletion, ask_for_export, cancel as take_back, owned, with_allowance,
        },
        store,
    },
};

type Fields = Body<Map<String, Value>>;

/// Why; described here, read by hand.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
pub struct Why {
    /// At most 1000 characters.
    reason: Option<String>,
}

/// What is asked for; described here, read by hand.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of the body, for the document")]
pub struct Wish {
    /// What is asked for.
    r#type: RequestType,
    /// At most 1000 characters.
    reason: Option<String>,
}

/// Asks for a copy of all data of the caller.
#[utoipa::path(
    post, path = "/api/v1/users/gdpr/data-export", tag = "gdpr",
    responses(
        (status = 201, description = "The request as it was made", body = PrivacyAnswer<GdprRequest>),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "REAUTH_REQUIRED, of accounts with a second factor"),
        (status = 429, description = "Too many requests today"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn export(caller: AuthUser, State(state): State<UserState>) -> Result<Response, ApiError> {
    exported(&state, &caller, None).await
}

/// The same under the name of the documentation.
#[utoipa::path(
    post, path = "/api/v1/users/gdpr/export", tag = "gdpr",
    responses(
        (status = 201, description = "The request as it was made", body = PrivacyAnswer<GdprRequest>),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "REAUTH_REQUIRED, of accounts with a second factor"),
        (status = 429, description = "Too many requests today"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn export_alias(caller: AuthUser, State(state): State<UserState>) -> Result<Response, ApiError> {
    exported(&state, &caller, None).await
}

async fn exported(state: &UserState, caller: &AuthUser, reason: Option<&str>) -> Result<Response, ApiError> {
    state.accounts.step_up().require_recent(caller).await?;
    let left = allowance(state, caller).await?;
    let request = ask_for_export(state, caller.user, reason).await?;
    export::inline(state, request.id).await;
    let answer = PrivacyAnswer::done("Data export request created", request);
    Ok(with_allowance(left, (StatusCode::CREATED, answer)))
}

/// Asks for the deletion of the caller's account, carried out after the grace. While one is open, it is the answer.
#[utoipa::path(
    post, path = "/api/v1/users/gdpr/data-deletion", tag = "gdpr", request_body = Why,
    responses(
        (status = 201, description = "The open request", body = PrivacyAnswer<GdprRequest>),
        (status = 400, description = "The reason is not a text"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "REAUTH_REQUIRED, of accounts with a second factor"),
        (status = 429, description = "Too many requests today"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn delete(
    caller: AuthUser,
    State(state): State<UserState>,
    Body(body): Fields,
) -> Result<Response, ApiError> {
    deleted(&state, &caller, &body).await
}

/// The same under the name of the documentation.
#[utoipa::path(
    post, path = "/api/v1/users/gdpr/delete-account", tag = "gdpr", request_body = Why,
    responses(
        (status = 201, description = "The open request", body = PrivacyAnswer<GdprRequest>),
        (status = 400, description = "The reason is not a text"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "REAUTH_REQUIRED, of accounts with a second factor"),
        (status = 429, description = "Too many requests today"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn delete_alias(
    caller: AuthUser,
    State(state): State<UserState>,
    Body(body): Fields,
) -> Result<Response, ApiError> {
    deleted(&state, &caller, &body).await
}

/// The same, as a deletion.
#[utoipa::path(
    delete, path = "/api/v1/users/gdpr/account", tag = "gdpr", request_body = Why,
    responses(
        (status = 201, description = "The open request", body = PrivacyAnswer<GdprRequest>),
        (status = 400, description = "The reason is not a text"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "REAUTH_REQUIRED, of accounts with a second factor"),
        (status = 429, description = "Too many requests today"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn delete_account(
    caller: AuthUser,
    State(state): State<UserState>,
    Body(body): Fields,
) -> Result<Response, ApiError> {
    deleted(&state, &caller, &body).await
}

/// The same under the path of the profile, answered with 200 (core §5.3).
#[utoipa::path(
    delete, path = "/api/v1/users/profile", tag = "gdpr", request_body = Why,
    responses(
        (status = 200, description = "The open request", body = PrivacyAnswer<GdprRequest>),
        (status = 400, description = "The reason is not a text"),
        (status = 401, description = "Not signed in"),
        (status = 429, description = "Too many requests today"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn delete_profile(
    caller: AuthUser,
    State(state): State<UserState>,
    Body(body): Fields,
) -> Result<Response, ApiError> {
    let mut response = deleted(&state, &caller, &body).await?;
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}

async fn deleted(state: &UserState, caller: &AuthUser, body: &Map<String, Value>) -> Result<Response, ApiError> {
    let reason = read_reason(body)?;
    state.accounts.step_up().require_recent(caller).await?;
    let left = allowance(state, caller).await?;
    let request = ask_for_deletion(state, caller.user, reason.as_deref()).await?;
    let answer = PrivacyAnswer::done("Data deletion request created", request);
    Ok(with_allowance(left, (StatusCode::CREATED, answer)))
}

/// Asks for an export or a deletion, or records what a person will work on.
#[utoipa::path(
    post, path = "/api/v1/users/gdpr/request", tag = "gdpr", request_body = Wish,
    responses(
        (status = 201, description = "The request", body = PrivacyAnswer<GdprRequest>),
        (status = 400, description = "There is no such type, or the reason is not a text"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "REAUTH_REQUIRED, of accounts with a second factor"),
        (status = 429, description = "Too many requests today"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn create(
    caller: AuthUser,
    State(state): State<UserState>,
    Body(body): Fields,
) -> Result<Response, ApiError> {
    let named = body
        .get("type")
        .or_else(|| body.get("requestType"))
        .and_then(Value::as_str);
    let kind = named
        .and_then(RequestType::from_name)
        .ok_or_else(|| ApiError::bad_request("Invalid request type"))?;
    let reason = read_reason(&body)?;
    match kind {
        RequestType::DataExport => exported(&state, &caller, reason.as_deref()).await,
        RequestType::DataDeletion => deleted(&state, &caller, &body).await,
        RequestType::DataRectification | RequestType::AccessRequest => {
            let left = allowance(&state, &caller).await?;
            let request = ask_a_person(&state, caller.user, kind, reason.as_deref()).await?;
            let answer = PrivacyAnswer::done("Request created", request);
            Ok(with_allowance(left, (StatusCode::CREATED, answer)))
        }
    }
}

/// The caller's requests, newest first.
#[utoipa::path(
    get, path = "/api/v1/users/gdpr/requests", tag = "gdpr",
    responses(
        (status = 200, description = "The requests", body = PrivacyAnswer<Vec<GdprRequest>>),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn list(
    caller: AuthUser,
    State(state): State<UserState>,
) -> Result<Json<PrivacyAnswer<Vec<GdprRequest>>>, ApiError> {
    let requests = store::requests::list(state.db.pool(), caller.user).await?;
    Ok(PrivacyAnswer::data(requests))
}

/// One request of the caller.
#[utoipa::path(
    get, path = "/api/v1/users/gdpr/requests/{id}", tag = "gdpr",
    params(("id" = String, Path, description = "The request")),
    responses(
        (status = 200, description = "The request", body = PrivacyAnswer<GdprRequest>),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "It is somebody else's"),
        (status = 404, description = "There is none"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn find(
    caller: AuthUser,
    State(state): State<UserState>,
    Path(id): Path<String>,
) -> Result<Json<PrivacyAnswer<GdprRequest>>, ApiError> {
    Ok(PrivacyAnswer::data(owned(&state, &caller, &id).await?))
}

/// Takes a request back before anybody has begun to work on it.
#[utoipa::path(
    delete, path = "/api/v1/users/gdpr/requests/{id}", tag = "gdpr",
    params(("id" = String, Path, description = "The request")),
    responses(
        (status = 200, description = "The request, CANCELLED", body = PrivacyAnswer<GdprRequest>),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "It is somebody else's"),
        (status = 404, description = "There is none"),
        (status = 409, description = "It is being carried out, or over"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn cancel(
    caller: AuthUser,
    State(state): State<UserState>,
    Path(id): Path<String>,
) -> Result<Json<PrivacyAnswer<GdprRequest>>, ApiError> {
    let request = take_back(&state, &caller, &id).await?;
    Ok(PrivacyAnswer::done("Request cancelled", request))
}
