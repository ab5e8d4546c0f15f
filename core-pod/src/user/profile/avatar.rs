//! Avatars: three ways to upload one, one to remove it, and the file itself (core §5.2).
//!
//! Who is named is looked at before the body is read; what is left of a body is drained by the HTTP kit, so that a refusal
//! is seen and not a reset. The client sends a text part with a `data:` URL where others send a file.

use axum::{
    Json,
    body::Body,
    extract::{FromRequest as _, Multipart, Request, State, multipart::MultipartError},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use shared::{ApiError, auth::AuthUser, events::outbox, http::Path, sources::iso};
use utoipa::ToSchema;

use super::{
    events,
    handlers::user_not_found,
    image::{MAX_BYTES, Picture, Refusal, data_url},
    model::OwnedRow,
    pictures::{PictureName, cache_control},
    rows::only_oneself,
    store,
};
use crate::user::{User, UserState};

/// The part of the form that holds the picture.
const PART: &str = "avatar";
/// A `data:` URL is a third longer than what it holds.
const MAX_SENT: usize = MAX_BYTES / 3 * 4 + 1024;
const SANDBOX: HeaderValue = HeaderValue::from_static("sandbox; default-src 'none'");
const CROSS_ORIGIN: HeaderValue = HeaderValue::from_static("cross-origin");

/// The answer to an upload on the paths that name the account.
#[derive(Serialize, ToSchema)]
pub struct UploadAnswer {
    /// Always true.
    success: bool,
    /// For people.
    message: &'static str,
    /// Where the picture is.
    avatar: String,
    profile: OwnedRow,
    data: UploadData,
}

/// The same, as the suite reads it.
#[derive(Serialize, ToSchema)]
pub struct UploadData {
    avatar: UploadedFile,
}

/// A picture that is in place.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploadedFile {
    url: String,
    filename: String,
    #[serde(with = "iso")]
    uploaded_at: DateTime<Utc>,
}

/// What was done.
#[derive(Serialize, ToSchema)]
#[schema(as = AvatarRemoved)]
pub struct Removed {
    /// Always true.
    success: bool,
    /// For people.
    message: &'static str,
}

/// The form.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form")]
pub struct UploadForm {
    /// A JPEG, PNG, GIF or WebP picture of at most 2 MB, or a `data:image/…;base64,` URL of one.
    #[schema(value_type = String, format = Binary)]
    avatar: Vec<u8>,
}

/// Replaces the caller's picture and answers with its URL as a bare JSON string.
#[utoipa::path(
    post, path = "/api/v1/users/profile/avatar", tag = "users",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The URL of the picture", body = String, content_type = "application/json"),
        (status = 400, description = "No picture, not a picture, or too large"),
        (status = 401, description = "Not signed in"),
        (status = 503, description = "Object storage is away"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn upload(
    caller: AuthUser,
    State(state): State<UserState>,
    request: Request,
) -> Result<Json<String>, ApiError> {
    let placed = replace(&state, &caller, request).await?;
    Ok(Json(placed.url))
}

/// Replaces the caller's picture.
#[utoipa::path(
    post, path = "/api/v1/users/profile/{userId}/avatar", tag = "users",
    params(("userId" = String, Path, description = "The account of the caller")),
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The picture and the profile", body = UploadAnswer),
        (status = 400, description = "No picture, not a picture, or too large"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Somebody else"),
        (status = 503, description = "Object storage is away"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn upload_to_profile(
    caller: AuthUser,
    State(state): State<UserState>,
    Path(user): Path<String>,
    request: Request,
) -> Result<Json<UploadAnswer>, ApiError> {
    upload_for(&state, &caller, &user, request).await
}

/// Replaces the caller's picture.
#[utoipa::path(
    post, path = "/api/v1/users/avatar/{userId}/avatar", tag = "users",
    params(("userId" = String, Path, description = "The account of the caller")),
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The picture and the profile", body = UploadAnswer),
        (status = 400, description = "No picture, not a picture, or too large"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Somebody else"),
        (status = 503, description = "Object storage is away"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn upload_to_account(
    caller: AuthUser,
    State(state): State<UserState>,
    Path(user): Path<String>,
    request: Request,
) -> Result<Json<UploadAnswer>, ApiError> {
    upload_for(&state, &caller, &user, request).await
}

/// Removes the caller's picture; may be repeated.
#[utoipa::path(
    delete, path = "/api/v1/users/profile/avatar", tag = "users",
    responses(
        (status = 200, description = "There is no picture any more", body = Removed),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn remove(caller: AuthUser, State(state): State<UserState>) -> Result<Json<Removed>, ApiError> {
    let stored = store::find_profile(state.db.pool(), caller.user).await?;
    if stored.ok_or_else(user_not_found)?.avatar.is_some() {
        let mut tx = state.db.begin().await?;
        let replaced = state.pictures.put_in_place(&mut tx, caller.user, None).await?;
        let event = events::picture_changed(&state.sources, caller.user, None);
        outbox::append::<User>(&mut tx, &[event]).await?;
        tx.commit().await?;
        state.pictures.remove(replaced).await;
    }
    Ok(Json(Removed {
        success: true,
        message: "Avatar removed successfully",
    }))
}

/// A picture, for everybody.
#[utoipa::path(
    get, path = "/uploads/avatars/{file}", tag = "uploads",
    params(("file" = String, Path, description = "The name that an upload gave")),
    responses(
        (status = 200, description = "The picture", content_type = "image/*", body = Vec<u8>),
        (status = 304, description = "The client has it"),
        (status = 404, description = "There is none of this name"),
        (status = 503, description = "Object storage is away"),
    ),
)]
pub async fn picture(
    State(state): State<UserState>,
    method: Method,
    headers: HeaderMap,
    Path(file): Path<String>,
) -> Result<Response, ApiError> {
    let not_found = || ApiError::not_found("Not Found");
    let name = PictureName::parse(&file).ok_or_else(not_found)?;
    let (facts, body) = if method == Method::HEAD {
        let facts = state.pictures.look(&name).await?.ok_or_else(not_found)?;
        (facts, Body::empty())
    } else {
        let object = state.pictures.open(&name).await?.ok_or_else(not_found)?;
        (object.facts.clone(), object.into_body())
    };
    let etag = facts.etag.as_deref().and_then(|etag| HeaderValue::from_str(etag).ok());
    let known = headers.get(header::IF_NONE_MATCH);
    let is_known = known.zip(etag.as_ref()).is_some_and(|(known, etag)| names(known, etag));
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let kind = HeaderValue::from_static(name.format.media_type());
        let length = HeaderValue::from(facts.length);
        ([(header::CONTENT_TYPE, kind), (header::CONTENT_LENGTH, length)], body).into_response()
    };
    let own = response.headers_mut();
    own.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control()));
    own.insert(header::CONTENT_SECURITY_POLICY, SANDBOX);
    own.insert(HeaderName::from_static("cross-origin-resource-policy"), CROSS_ORIGIN);
    if let Some(etag) = etag {
        own.insert(header::ETAG, etag);
    }
    Ok(response)
}

/// Whether `If-None-Match` names this tag.
fn names(known: &HeaderValue, etag: &HeaderValue) -> bool {
    let Ok(known) = known.to_str() else { return false };
    known
        .split(',')
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag.as_bytes() == etag.as_bytes())
}

/// Takes a picture from bytes or from a `data:` URL, away from the threads that answer requests.
pub(super) async fn accept(sent: Vec<u8>) -> Result<Picture, ApiError> {
    let taken = tokio::task::spawn_blocking(move || match std::str::from_utf8(&sent) {
        Ok(text) if data_url::is_one(text) => Picture::accept(&data_url::decode(text)?),
        _ => Picture::accept(&sent),
    });
    taken.await.map_err(ApiError::internal)?.map_err(refused)
}

fn refused(refusal: Refusal) -> ApiError {
    let code = match refusal {
        Refusal::TooLarge => "FILE_TOO_LARGE",
        _ => "INVALID_IMAGE",
    };
    let text = refusal.to_string();
    let mut letters = text.chars();
    let sentence: String = letters
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .chain(letters)
        .collect();
    ApiError::bad_request(sentence).with_code(code)
}

async fn upload_for(
    state: &UserState,
    caller: &AuthUser,
    user: &str,
    request: Request,
) -> Result<Json<UploadAnswer>, ApiError> {
    only_oneself(user, caller)?;
    let Placed { url, filename, row } = replace(state, caller, request).await?;
    Ok(Json(UploadAnswer {
        success: true,
        message: "Avatar uploaded successfully",
        avatar: url.clone(),
        data: UploadData {
            avatar: UploadedFile {
                url,
                filename,
                uploaded_at: row.row.updated_at,
            },
        },
        profile: row,
    }))
}

/// A picture that is in place.
struct Placed {
    url: String,
    filename: String,
    row: OwnedRow,
}

/// Reads the picture, stores it, refers to it, and removes the one before.
async fn replace(state: &UserState, caller: &AuthUser, request: Request) -> Result<Placed, ApiError> {
    let sent = read_part(request).await?;
    let picture = accept(sent).await?;
    let uploaded = state.pictures.upload(picture).await?;
    let url = uploaded.url();
    let mut tx = state.db.begin().await?;
    let replaced = state.pictures.put_in_place(&mut tx, caller.user, Some(&url)).await?;
    let event = events::picture_changed(&state.sources, caller.user, Some(&url));
    outbox::append::<User>(&mut tx, &[event]).await?;
    let row = store::find_row(&mut *tx, caller.user)
        .await?
        .ok_or_else(user_not_found)?;
    tx.commit().await?;
    state.pictures.remove(replaced).await;
    Ok(Placed {
        url,
        filename: uploaded.name,
        row,
    })
}

/// What an upload is taken for, for the fuzz target: the form, the part, the picture.
#[cfg(feature = "fuzzing")]
pub(crate) async fn take(request: Request) -> Result<(), ApiError> {
    accept(read_part(request).await?).await.map(drop)
}

/// The bytes of the part `avatar`, never more than a picture may have; other parts are skipped unread.
async fn read_part(request: Request) -> Result<Vec<u8>, ApiError> {
    let no_file = || ApiError::bad_request("No file uploaded");
    let mut form = Multipart::from_request(request, &()).await.map_err(|_| no_file())?;
    while let Some(mut field) = form.next_field().await.map_err(broken_form)? {
        if field.name() != Some(PART) {
            continue;
        }
        let mut sent = Vec::new();
        while let Some(chunk) = field.chunk().await.map_err(broken_form)? {
            if sent.len() + chunk.len() > MAX_SENT {
                return Err(refused(Refusal::TooLarge));
            }
            sent.extend_from_slice(&chunk);
        }
        return Ok(sent);
    }
    Err(no_file())
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that map_err calls")]
fn broken_form(error: MultipartError) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "PAYLOAD_TOO_LARGE",
            "Request body too large",
        )
    } else {
        ApiError::bad_request("The form could not be read").with_code("INVALID_BODY")
    }
}
