//! Profile rows: the routes of the original and of its test suite (core §5.3). Where the original asked nobody who they
//! are, these ask for a token, and a traveller reaches their own row only (core §13 line 3).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};
use shared::{
    ApiError,
    auth::{AuthUser, Role},
    events::outbox,
    http::Path,
    id::UserId,
};
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{
    bodies::{NewRowBody, OwnRowBody, RowBody},
    events,
    handlers::user_not_found,
    model::{OwnedRow, ProfileRow, midnight, rules},
    store::{self, RowChange},
};
use crate::user::{
    User, UserState,
    envelope::Answer,
    fields::{Change, Fields, Json as JsonKind, JsonBody, Problems},
};

const LARGEST_PREFERENCES: usize = 16 * 1024;

/// A profile row in its envelope.
#[derive(Serialize, ToSchema)]
pub struct RowData {
    profile: ProfileRow,
}

/// What was done.
#[derive(Serialize, ToSchema)]
pub struct Message {
    /// For people.
    message: &'static str,
}

/// Whom a path names.
enum Named {
    Caller,
    Other(Option<UserId>),
}

/// `me` is the caller; what is no id is nobody.
fn named(raw: &str, caller: &AuthUser) -> Named {
    match raw.parse::<UserId>() {
        Ok(user) if user == caller.user => Named::Caller,
        Ok(user) => Named::Other(Some(user)),
        Err(_) if raw == "me" => Named::Caller,
        Err(_) => Named::Other(None),
    }
}

/// 403 unless the path names the caller.
pub(super) fn only_oneself(raw: &str, caller: &AuthUser) -> Result<(), ApiError> {
    match named(raw, caller) {
        Named::Caller => Ok(()),
        Named::Other(_) => Err(ApiError::forbidden("Access denied")),
    }
}

/// A profile row; the caller's own is made if there is none yet. `me` is the caller.
#[utoipa::path(
    get, path = "/api/v1/users/profile/{userId}", tag = "users", params(("userId" = String, Path, description = "The account, or `me`")),
    responses(
        (status = 200, description = "The row", body = Answer<RowData>),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "Somebody else's, or nobody's"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn row(
    caller: AuthUser,
    State(state): State<UserState>,
    Path(user): Path<String>,
) -> Result<Json<Answer<RowData>>, ApiError> {
    let user = match named(&user, &caller) {
        Named::Caller => caller.user,
        Named::Other(Some(user)) if caller.role == Role::Admin => user,
        Named::Other(_) => return Err(profile_not_found()),
    };
    if let Some(found) = store::find_row(state.db.pool(), user).await? {
        return Ok(data(found));
    }
    let mut conn = state.db.acquire().await?;
    store::ensure_row(&mut conn, user, state.sources.id(), state.sources.now()).await?;
    let made = store::find_row(&mut *conn, user).await?;
    Ok(data(made.ok_or_else(profile_not_found)?))
}

/// Makes the caller's profile row.
#[utoipa::path(
    post, path = "/api/v1/users/profile/{userId}", tag = "users", request_body = NewRowBody,
    params(("userId" = String, Path, description = "The account of the caller")),
    responses(
        (status = 201, description = "The row with its owner", body = OwnedRow),
        (status = 400, description = "firstName or lastName is missing, or something is not valid"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Somebody else"),
        (status = 409, description = "There is one already"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn create(
    caller: AuthUser,
    State(state): State<UserState>,
    Path(user): Path<String>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    only_oneself(&user, &caller)?;
    let problems = Problems::default();
    let change = {
        let fields = body.fields(&problems);
        for name in ["firstName", "lastName"] {
            // a blank one is as good as none
            if fields
                .value(name)
                .is_none_or(|value| value.as_str().is_some_and(|text| text.trim().is_empty()))
            {
                fields.refuse(name, "is required");
            }
        }
        read_change(&fields, state.sources.now())
    };
    problems.refuse_joined()?;

    let mut tx = state.db.begin().await?;
    if !store::ensure_row(&mut tx, caller.user, state.sources.id(), state.sources.now()).await? {
        return Err(match store::find_row(&mut *tx, caller.user).await? {
            Some(_) => ApiError::conflict("PROFILE_EXISTS", "Profile already exists"),
            None => user_not_found(),
        });
    }
    let row = store_change(&state, &mut tx, &caller, change).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(row)).into_response())
}

/// Makes or changes the caller's profile row.
#[utoipa::path(
    post, path = "/api/v1/users/profile", tag = "users", request_body = OwnRowBody,
    responses(
        (status = 200, description = "Changed", body = Answer<RowData>),
        (status = 201, description = "Made", body = Answer<RowData>),
        (status = 400, description = "userId is missing, or something is not valid"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "userId is somebody else"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn upsert(caller: AuthUser, State(state): State<UserState>, body: JsonBody) -> Result<Response, ApiError> {
    let problems = Problems::default();
    let user = body.fields(&problems).required("userId");
    let change = read_change(&body.fields(&problems), state.sources.now());
    if let Some(user) = user {
        only_oneself(user, &caller)?;
    }
    problems.refuse_joined()?;

    let mut tx = state.db.begin().await?;
    let is_new = store::ensure_row(&mut tx, caller.user, state.sources.id(), state.sources.now()).await?;
    let row = store_change(&state, &mut tx, &caller, change).await?;
    tx.commit().await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, data(row)).into_response())
}

/// Changes the caller's profile row; it is made if there is none yet.
#[utoipa::path(
    put, path = "/api/v1/users/profile/{userId}", tag = "users", request_body = RowBody,
    params(("userId" = String, Path, description = "The account of the caller, or `me`")),
    responses(
        (status = 200, description = "The row", body = Answer<RowData>),
        (status = 400, description = "Something is not valid"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Somebody else"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn change(
    caller: AuthUser,
    State(state): State<UserState>,
    Path(user): Path<String>,
    body: JsonBody,
) -> Result<Json<Answer<RowData>>, ApiError> {
    only_oneself(&user, &caller)?;
    let problems = Problems::default();
    let change = read_change(&body.fields(&problems), state.sources.now());
    problems.refuse_joined()?;

    let mut tx = state.db.begin().await?;
    store::ensure_row(&mut tx, caller.user, state.sources.id(), state.sources.now()).await?;
    let row = store_change(&state, &mut tx, &caller, change).await?;
    tx.commit().await?;
    Ok(data(row))
}

/// Deletes a profile row, for its owner or an administrator. The account stays.
#[utoipa::path(
    delete, path = "/api/v1/users/profile/{userId}", tag = "users",
    params(("userId" = String, Path, description = "The account, or `me`")),
    responses(
        (status = 200, description = "Deleted", body = Message),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Somebody else"),
        (status = 404, description = "There is none"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn delete(
    caller: AuthUser,
    State(state): State<UserState>,
    Path(user): Path<String>,
) -> Result<Json<Message>, ApiError> {
    let user = match named(&user, &caller) {
        Named::Caller => caller.user,
        Named::Other(user) if caller.role == Role::Admin => user.ok_or_else(profile_not_found)?,
        Named::Other(_) => return Err(ApiError::forbidden("Access denied")),
    };
    let mut tx = state.db.begin().await?;
    let avatar = store::delete_row(&mut tx, user).await?.ok_or_else(profile_not_found)?;
    let replaced = state.pictures.give_up(&mut tx, avatar.as_deref()).await?;
    if avatar.is_some() {
        let event = events::picture_changed(&state.sources, user, None);
        outbox::append::<User>(&mut tx, &[event]).await?;
    }
    tx.commit().await?;
    state.pictures.remove(replaced).await;
    Ok(Json(Message {
        message: "Profile deleted successfully",
    }))
}

/// What stands below a profile and is no route: 401 for strangers like everything there, else 404.
pub async fn nothing(_: AuthUser) -> ApiError {
    ApiError::not_found("Not Found")
}

fn profile_not_found() -> ApiError {
    ApiError::not_found("Profile not found")
}

fn data(row: OwnedRow) -> Json<Answer<RowData>> {
    Answer::new(RowData { profile: row.row })
}

fn read_change(fields: &Fields<'_, '_>, now: DateTime<Utc>) -> RowChange {
    let is_blank = |name| {
        fields
            .value(name)
            .and_then(Value::as_str)
            .is_some_and(|text| text.trim().is_empty())
    };
    let name = |name| {
        if is_blank(name) {
            None
        } else {
            fields.parsed(name, rules::name)
        }
    };
    let preferences = match fields.json("preferences", LARGEST_PREFERENCES, JsonKind::Object) {
        Some(preferences) => Change::Set(preferences.clone()),
        None => Change::Keep,
    };
    RowChange {
        first_name: name("firstName"),
        last_name: name("lastName"),
        phone: fields.change("phone", rules::phone),
        date_of_birth: fields.change("dateOfBirth", |raw| rules::birth_date(raw, now)),
        preferences,
        bio: fields.change("bio", rules::bio),
        location: fields.change("location", rules::location),
        website: fields.change("website", rules::website),
    }
}

/// What others are told of a change: names, phone and day of birth, as the original told them.
fn told(change: &RowChange) -> Map<String, Value> {
    fn emptied<T>(change: &Change<T>, value: impl FnOnce(&T) -> Value) -> Option<Value> {
        match change {
            Change::Keep => None,
            Change::Clear => Some(Value::Null),
            Change::Set(new) => Some(value(new)),
        }
    }
    let fields = [
        ("firstName", change.first_name.as_ref().map(|name| json!(name))),
        ("lastName", change.last_name.as_ref().map(|name| json!(name))),
        ("phone", emptied(&change.phone, |phone| json!(phone))),
        (
            "dateOfBirth",
            emptied(&change.date_of_birth, |day| json!(midnight(*day))),
        ),
    ];
    let given = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    given.collect()
}

/// Stores a change of the caller's row, which is there, with its event.
async fn store_change(
    state: &UserState,
    tx: &mut PgConnection,
    caller: &AuthUser,
    change: RowChange,
) -> Result<OwnedRow, ApiError> {
    let profile = told(&change);
    store::update_row(tx, caller.user, change, state.sources.now()).await?;
    if !profile.is_empty() {
        let event = events::profile_updated(&state.sources, caller.user, &profile);
        outbox::append::<User>(tx, &[event]).await?;
    }
    store::find_row(tx, caller.user).await?.ok_or_else(user_not_found)
}
