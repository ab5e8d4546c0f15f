//! The routes of favourites (core §5.6).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use shared::{
    ApiError,
    auth::AuthUser,
    http::{Path, Query},
    sources::iso,
};
use utoipa::{IntoParams, ToSchema};

use super::{
    bodies::{FavoriteChangeBody, FavoriteIdsBody, FavoriteItemsBody, NewFavoriteBody, NewFavoritesBody},
    model::{
        EntityType, Favorite, FavoriteChange, FavoriteId, Item, NewFavorite, ShortFavorite, Window, checked_items,
        deleted_ids, entity_id, new_favorites,
    },
    store::{self, Deletion},
};
use crate::user::{
    UserState,
    fields::{JsonBody, Problems},
};

/// The envelope of a favourite.
#[derive(Serialize, ToSchema)]
#[schema(as = FavoriteAnswer)]
pub struct Answer<T> {
    /// Always true.
    success: bool,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    /// What was asked for.
    data: T,
}

impl<T> Answer<T> {
    fn new(data: T) -> Self {
        Self {
            success: true,
            message: None,
            data,
        }
    }

    fn saying(message: &'static str, data: T) -> Self {
        Self {
            message: Some(message),
            ..Self::new(data)
        }
    }
}

/// Which favourites to list. What is no number is the default.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// 0 to 100, 20 if absent; 0 gives the total alone.
    #[param(value_type = Option<i64>)]
    limit: Option<String>,
    /// Favourites before the first.
    #[param(value_type = Option<i64>)]
    offset: Option<String>,
    /// `FLIGHT`, `HOTEL`, `ACTIVITY`, `DESTINATION` or `BOOKING`.
    entity_type: Option<String>,
    /// The same as `entityType`.
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// A page of favourites.
#[derive(Serialize, ToSchema)]
pub struct FavoritePage {
    /// Always true.
    success: bool,
    /// Newest first.
    data: Vec<Favorite>,
    pagination: Pagination,
    /// The same as in `pagination`.
    total: i64,
}

/// Where the page stands.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FavoritePagination)]
pub struct Pagination {
    total: i64,
    limit: i64,
    offset: i64,
    has_more: bool,
}

/// The caller's favourites, newest first.
#[utoipa::path(
    get, path = "/api/v1/users/favorites", tag = "favorites", params(ListQuery),
    responses(
        (status = 200, description = "A page of favourites", body = FavoritePage),
        (status = 400, description = "There is no such entityType"),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn list(
    caller: AuthUser,
    State(state): State<UserState>,
    Query(query): Query<ListQuery>,
) -> Result<Json<FavoritePage>, ApiError> {
    let named = query.entity_type.or(query.kind).filter(|name| !name.is_empty());
    let of_type = named.map(|name| parse_type(&name)).transpose()?;
    let window = Window::read(query.limit.as_deref(), query.offset.as_deref());
    let (favorites, total) = store::list(state.db.pool(), caller.user, of_type, window).await?;
    let pagination = Pagination {
        total,
        limit: window.limit,
        offset: window.offset,
        has_more: window.has_more(total),
    };
    Ok(Json(FavoritePage {
        success: true,
        data: favorites,
        pagination,
        total,
    }))
}

/// A favourite, and the same in the short vocabulary if the request used it.
#[derive(Serialize, ToSchema)]
pub struct Added {
    #[serde(flatten)]
    entry: Favorite,
    #[serde(rename = "favorite", skip_serializing_if = "Option::is_none")]
    short: Option<ShortFavorite>,
}

/// Adds an item. `type`, `itemId` and `metadata` are other names of `entityType`, `entityId` and `entityData`.
#[utoipa::path(
    post, path = "/api/v1/users/favorites", tag = "favorites", request_body = NewFavoriteBody,
    responses(
        (status = 201, description = "Added", body = Answer<Added>),
        (status = 400, description = "Something is missing or not valid"),
        (status = 401, description = "Not signed in"),
        (status = 409, description = "It is a favourite already"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn add(caller: AuthUser, State(state): State<UserState>, body: JsonBody) -> Result<Response, ApiError> {
    let problems = Problems::default();
    let new = NewFavorite::read(&body.fields(&problems));
    problems.refuse_joined()?;
    let new = new.ok_or_else(unreadable)?;
    let added = store::insert(
        state.db.pool(),
        caller.user,
        state.sources.id(),
        &new,
        state.sources.now(),
    )
    .await?;
    let entry = added.ok_or_else(|| ApiError::conflict("FAVORITE_EXISTS", "This item is already in your favorites"))?;
    let short = new.short.then(|| ShortFavorite::from(&entry));
    let answer = Answer::saying("Favorite added successfully", Added { entry, short });
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// What a batch added.
#[derive(Serialize, ToSchema)]
pub struct BatchAdded {
    created: u64,
    /// Those that were favourites already, or stood in the batch twice.
    skipped: u64,
}

/// Adds up to a hundred items; those that are favourites already are skipped.
#[utoipa::path(
    post, path = "/api/v1/users/favorites/batch", tag = "favorites", request_body = NewFavoritesBody,
    responses(
        (status = 201, description = "How many were added", body = Answer<BatchAdded>),
        (status = 400, description = "Something is missing or not valid; nothing was added"),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn add_batch(caller: AuthUser, State(state): State<UserState>, body: JsonBody) -> Result<Response, ApiError> {
    let problems = Problems::default();
    let new = new_favorites(&body, &problems);
    refuse_items(problems)?;
    let new = new.ok_or_else(unreadable)?;
    let created = store::insert_all(state.db.pool(), caller.user, &new, &state.sources).await?;
    let skipped = (new.len() as u64).saturating_sub(created);
    Ok((StatusCode::CREATED, Json(Answer::new(BatchAdded { created, skipped }))).into_response())
}

/// What a batch deleted.
#[derive(Serialize, ToSchema)]
pub struct BatchDeleted {
    deleted: u64,
}

/// Deletes up to a hundred favourites of the caller; others are left alone.
#[utoipa::path(
    delete, path = "/api/v1/users/favorites/batch", tag = "favorites", request_body = FavoriteIdsBody,
    responses(
        (status = 200, description = "How many were deleted", body = Answer<BatchDeleted>),
        (status = 400, description = "ids is missing or too long"),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn remove_batch(
    caller: AuthUser,
    State(state): State<UserState>,
    body: JsonBody,
) -> Result<Json<Answer<BatchDeleted>>, ApiError> {
    let problems = Problems::default();
    let ids = deleted_ids(&body, &problems);
    problems.refuse_joined()?;
    let ids = ids.ok_or_else(unreadable)?;
    let deleted = store::delete_all(state.db.pool(), caller.user, &ids).await?;
    Ok(Json(Answer::new(BatchDeleted { deleted })))
}

/// Whether items are favourites, in the order they were named.
#[derive(Serialize, ToSchema)]
pub struct CheckedBatch {
    /// Always true.
    success: bool,
    results: Vec<CheckedItem>,
}

/// One of them.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckedItem {
    entity_type: EntityType,
    entity_id: String,
    is_favorited: bool,
    favorite: Option<CheckedFavorite>,
}

/// The favourite that an item is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckedFavorite {
    id: FavoriteId,
    entity_type: EntityType,
    entity_id: String,
    #[serde(with = "iso")]
    created_at: DateTime<Utc>,
}

/// Says of up to a hundred items whether they are favourites.
#[utoipa::path(
    post, path = "/api/v1/users/favorites/check-batch", tag = "favorites", request_body = FavoriteItemsBody,
    responses(
        (status = 200, description = "The answers in the order of the items", body = CheckedBatch),
        (status = 400, description = "Items array is required, or an item is not valid"),
        (status = 401, description = "Not signed in"),
        (status = 429, description = "More than 50 checks a minute"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn check_batch(
    caller: AuthUser,
    State(state): State<UserState>,
    body: JsonBody,
) -> Result<Json<CheckedBatch>, ApiError> {
    let problems = Problems::default();
    let items = checked_items(&body, &problems);
    refuse_items(problems)?;
    let items = items.ok_or_else(unreadable)?;
    let found = if items.is_empty() {
        Vec::new()
    } else {
        store::check(state.db.pool(), caller.user, &items).await?
    };
    let results = items.into_iter().zip(found).map(|(item, found)| {
        let Item { entity_type, entity_id } = item;
        let favorite = found.map(|(id, created_at)| CheckedFavorite {
            id,
            entity_type,
            entity_id: entity_id.clone(),
            created_at,
        });
        CheckedItem {
            entity_type,
            entity_id,
            is_favorited: favorite.is_some(),
            favorite,
        }
    });
    Ok(Json(CheckedBatch {
        success: true,
        results: results.collect(),
    }))
}

/// Whether an item is a favourite.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// Always true.
    success: bool,
    is_favorited: bool,
    favorite: Option<Found>,
}

/// The favourite it is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    id: FavoriteId,
    #[serde(with = "iso")]
    created_at: DateTime<Utc>,
}

/// Says whether an item is a favourite.
#[utoipa::path(
    get, path = "/api/v1/users/favorites/check/{entityType}/{entityId}", tag = "favorites",
    params(
        ("entityType" = String, Path, description = "FLIGHT, HOTEL, ACTIVITY, DESTINATION or BOOKING"),
        ("entityId" = String, Path, description = "The item"),
    ),
    responses(
        (status = 200, description = "The answer", body = Checked),
        (status = 400, description = "There is no such entityType"),
        (status = 401, description = "Not signed in"),
        (status = 429, description = "More than 50 checks a minute"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn check(
    caller: AuthUser,
    State(state): State<UserState>,
    Path((kind, id)): Path<(String, String)>,
) -> Result<Json<Checked>, ApiError> {
    let item = Item {
        entity_type: parse_type(&kind)?,
        entity_id: entity_id(&id).map_err(|message| ApiError::bad_request(format!("entityId {message}")))?,
    };
    let found = store::check(state.db.pool(), caller.user, &[item]).await?;
    let favorite = found.into_iter().flatten().next();
    let favorite = favorite.map(|(id, created_at)| Found { id, created_at });
    Ok(Json(Checked {
        success: true,
        is_favorited: favorite.is_some(),
        favorite,
    }))
}

/// One favourite of the caller.
#[utoipa::path(
    get, path = "/api/v1/users/favorites/{id}", tag = "favorites",
    params(("id" = String, Path, description = "The favourite")),
    responses(
        (status = 200, description = "The favourite", body = Answer<Favorite>),
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
) -> Result<Json<Answer<Favorite>>, ApiError> {
    let favorite = own(&state, &caller, parse_id(&id)?).await?;
    Ok(Json(Answer::new(favorite)))
}

/// Changes category, notes or data of a favourite; null empties them.
#[utoipa::path(
    put, path = "/api/v1/users/favorites/{id}", tag = "favorites", request_body = FavoriteChangeBody,
    params(("id" = String, Path, description = "The favourite")),
    responses(
        (status = 200, description = "The favourite as it is now", body = Answer<Favorite>),
        (status = 400, description = "No valid fields to update, or a value is not valid"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "It is somebody else's"),
        (status = 404, description = "There is none"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn update(
    caller: AuthUser,
    State(state): State<UserState>,
    Path(id): Path<String>,
    body: JsonBody,
) -> Result<Json<Answer<Favorite>>, ApiError> {
    let id = parse_id(&id)?;
    // whose it is comes before what is asked of it
    own(&state, &caller, id).await?;
    let problems = Problems::default();
    let change = FavoriteChange::read(&body.fields(&problems));
    problems.refuse_joined()?;
    let change = change.ok_or_else(|| ApiError::bad_request("No valid fields to update"))?;
    if !store::update(state.db.pool(), caller.user, id, change, state.sources.now()).await? {
        return Err(not_found());
    }
    let favorite = own(&state, &caller, id).await?;
    Ok(Json(Answer::saying("Favorite updated successfully", favorite)))
}

/// That it is gone.
#[derive(Serialize, ToSchema)]
#[schema(as = FavoriteRemoved)]
pub struct Removed {
    /// Always true.
    success: bool,
    /// For people.
    message: &'static str,
}

/// Deletes a favourite.
#[utoipa::path(
    delete, path = "/api/v1/users/favorites/{id}", tag = "favorites",
    params(("id" = String, Path, description = "The favourite")),
    responses(
        (status = 200, description = "It is gone", body = Removed),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "It is somebody else's"),
        (status = 404, description = "There is none"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn remove(
    caller: AuthUser,
    State(state): State<UserState>,
    Path(id): Path<String>,
) -> Result<Json<Removed>, ApiError> {
    match store::delete(state.db.pool(), caller.user, parse_id(&id)?).await? {
        Deletion::Done => Ok(Json(Removed {
            success: true,
            message: "Favorite deleted successfully",
        })),
        Deletion::NotOwn => Err(denied()),
        Deletion::Missing => Err(not_found()),
    }
}

async fn own(state: &UserState, caller: &AuthUser, id: FavoriteId) -> Result<Favorite, ApiError> {
    let favorite = store::find(state.db.pool(), id).await?.ok_or_else(not_found)?;
    if favorite.user_id == caller.user {
        Ok(favorite)
    } else {
        Err(denied())
    }
}

fn parse_type(raw: &str) -> Result<EntityType, ApiError> {
    EntityType::parse(raw).map_err(|message| ApiError::bad_request(format!("entityType {message}")))
}

/// What is no id is nobody's favourite.
fn parse_id(raw: &str) -> Result<FavoriteId, ApiError> {
    raw.parse().map_err(|_| not_found())
}

fn not_found() -> ApiError {
    ApiError::not_found("Favorite not found")
}

fn denied() -> ApiError {
    ApiError::forbidden("Access denied")
}

/// Nothing was read and nothing was noted; does not happen.
fn unreadable() -> ApiError {
    ApiError::bad_request("Validation failed")
}

/// What is wrong with a batch, in the words of the original.
fn refuse_items(problems: Problems) -> Result<(), ApiError> {
    problems.refuse_worded(
        |field| match field.path.strip_prefix("items[").and_then(|rest| rest.split_once(']')) {
            None => {
                let message = &field.message;
                format!("Items {message}")
            }
            Some((index, name)) => {
                let (name, message) = (name.trim_start_matches('.'), &field.message);
                let space = if name.is_empty() { "" } else { " " };
                format!("Item at index {index}: {name}{space}{message}")
            }
        },
    )
}
