//! The routes of the history (core §5.7).

use axum::{
    Json,
    extract::{RawQuery, State},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::{
    ApiError,
    auth::AuthUser,
    http::{Path, Query},
};
use utoipa::{IntoParams, ToSchema};

use super::{
    model::{
        ActionType, DetailedEntry, EntityType, Entry, Filter, HistoryId, NewEntry, Page, Pagination, Stats, end, start,
    },
    store,
};
use crate::user::{
    UserState,
    fields::{JsonBody, Problems},
    gdpr::consent,
};

/// The envelope of the history.
#[derive(Serialize, ToSchema)]
#[schema(as = HistoryAnswer)]
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
    fn new(data: T) -> Json<Self> {
        Json(Self {
            success: true,
            message: None,
            data,
        })
    }

    fn saying(message: &'static str, data: T) -> Json<Self> {
        Json(Self {
            success: true,
            message: Some(message),
            data,
        })
    }
}

/// Which entries to list. What is not understood is ignored.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Counted from one.
    #[param(value_type = Option<i64>)]
    page: Option<String>,
    /// 1 to 100, 20 if absent.
    #[param(value_type = Option<i64>)]
    limit: Option<String>,
    /// What was done; `SEARCH` is `SEARCHED`.
    action_type: Option<String>,
    /// What it was done to.
    entity_type: Option<String>,
    /// The same as `entityType`.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// The thing it was done to.
    entity_id: Option<String>,
    /// A day or an instant: not before.
    from: Option<String>,
    /// A day or an instant: not after.
    to: Option<String>,
}

impl ListQuery {
    fn filter(&self) -> Filter {
        let entity = self.entity_type.as_deref().and_then(EntityType::named);
        let entity_id = self.entity_id.clone();
        Filter {
            action: self.action_type.as_deref().and_then(ActionType::filtered),
            entity: entity.or_else(|| self.kind.as_deref().and_then(EntityType::named)),
            entity_id: entity_id.filter(|id| !id.is_empty() && !id.contains('\0')),
            from: self.from.as_deref().and_then(start),
            until: self.to.as_deref().and_then(end),
        }
    }
}

/// A page of the history.
#[derive(Serialize, ToSchema)]
pub struct HistoryPage {
    /// Newest first.
    items: Vec<Entry>,
    /// The same entries with what a search was for.
    history: Vec<DetailedEntry>,
    pagination: Pagination,
}

/// The caller's history, newest first.
#[utoipa::path(
    get, path = "/api/v1/users/history", tag = "history", params(ListQuery),
    responses(
        (status = 200, description = "A page of the history", body = Answer<HistoryPage>),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn list(
    caller: AuthUser,
    State(state): State<UserState>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Answer<HistoryPage>>, ApiError> {
    let page = Page::read(query.page.as_deref(), query.limit.as_deref());
    let (items, total) = store::list(state.db.pool(), caller.user, &query.filter(), page).await?;
    Ok(Answer::new(HistoryPage {
        history: items.iter().map(DetailedEntry::from).collect(),
        items,
        pagination: page.among(total),
    }))
}

/// The caller's history in numbers.
#[utoipa::path(
    get, path = "/api/v1/users/history/stats", tag = "history",
    responses(
        (status = 200, description = "The numbers", body = Answer<Stats>),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn stats(caller: AuthUser, State(state): State<UserState>) -> Result<Json<Answer<Stats>>, ApiError> {
    Ok(Answer::new(store::stats(state.db.pool(), caller.user).await?))
}

/// An entry to be made.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct NewEntryBody {
    action_type: ActionType,
    entity_type: EntityType,
    /// The thing it was done to; not blank.
    #[schema(min_length = 1, max_length = 255)]
    entity_id: String,
    /// At most 8 KB.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
}

/// Writes an entry down.
#[utoipa::path(
    post, path = "/api/v1/users/history", tag = "history", request_body = NewEntryBody,
    responses(
        (status = 200, description = "The entry", body = Answer<Entry>),
        (status = 400, description = "Something is missing or not valid"),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn add(
    caller: AuthUser,
    State(state): State<UserState>,
    body: JsonBody,
) -> Result<Json<Answer<Entry>>, ApiError> {
    let new = {
        let problems = Problems::default();
        NewEntry::read(&body.fields(&problems)).map_err(ApiError::bad_request)?
    };
    let mut tx = state.db.begin().await?;
    let entry = store::insert(&mut *tx, caller.user, state.sources.id(), new, state.sources.now()).await?;
    let facts = json!({ "historyId": entry.id, "actionType": entry.action_type, "entityType": entry.entity_type });
    consent::track(
        &mut tx,
        &state.sources,
        Some(caller.user),
        "history_entry_created",
        &facts,
    )
    .await?;
    tx.commit().await?;
    Ok(Answer::saying("History entry created successfully", entry))
}

/// Deletes one entry.
#[utoipa::path(
    delete, path = "/api/v1/users/history/{id}", tag = "history",
    params(("id" = String, Path, description = "The entry")),
    responses(
        (status = 200, description = "It is gone", body = Answer<Option<bool>>),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "There is none, or it is somebody else's"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn remove(
    caller: AuthUser,
    State(state): State<UserState>,
    Path(id): Path<String>,
) -> Result<Json<Answer<Option<bool>>>, ApiError> {
    let not_found = || ApiError::not_found("History entry not found");
    let id: HistoryId = id.parse().map_err(|_| not_found())?;
    if store::delete(state.db.pool(), caller.user, id).await? {
        Ok(Answer::saying("History entry deleted successfully", None))
    } else {
        Err(not_found())
    }
}

/// How many entries were deleted.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cleared {
    deleted_count: u64,
}

/// Deletes the caller's history, or what of it concerns one kind of thing.
#[utoipa::path(
    delete, path = "/api/v1/users/history", tag = "history",
    params(("entityType" = Option<String>, Query, description = "Only what was done to things of this kind")),
    responses(
        (status = 200, description = "How many entries are gone", body = Answer<Cleared>),
        (status = 400, description = "There is no such kind, or no such parameter; nothing was deleted"),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn clear(
    caller: AuthUser,
    State(state): State<UserState>,
    RawQuery(query): RawQuery,
) -> Result<Json<Answer<Cleared>>, ApiError> {
    let of = cleared_kind(query.as_deref().unwrap_or_default())?;
    let mut tx = state.db.begin().await?;
    let deleted_count = store::clear(&mut *tx, caller.user, of).await?;
    let facts = json!({ "entityType": of, "deletedCount": deleted_count });
    consent::track(&mut tx, &state.sources, Some(caller.user), "history_cleared", &facts).await?;
    tx.commit().await?;
    Ok(Answer::saying(
        "History cleared successfully",
        Cleared { deleted_count },
    ))
}

/// The one kind that a deletion is for. A kind that does not exist, a parameter that does not exist and a kind named twice
/// are refused: each would delete more than was meant.
fn cleared_kind(query: &str) -> Result<Option<EntityType>, ApiError> {
    let mut of = None;
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if !matches!(&*name, "entityType" | "type") {
            return Err(ApiError::bad_request(
                "Unknown parameter: only entityType is understood",
            ));
        }
        let kind = EntityType::named(&value).ok_or_else(|| ApiError::bad_request(EntityType::refusal()))?;
        if of.replace(kind).is_some_and(|other| other != kind) {
            return Err(ApiError::bad_request("entityType must be given once"));
        }
    }
    Ok(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kind_that_exists_is_a_filter_for_deleting() {
        assert_eq!(cleared_kind("").unwrap(), None);
        assert_eq!(cleared_kind("entityType=hotel").unwrap(), Some(EntityType::Hotel));
        assert_eq!(
            cleared_kind("type=hotel&entityType=hotel").unwrap(),
            Some(EntityType::Hotel)
        );
        for slip in [
            "entityType=",
            "entityType=hotels",
            "entityType=HOTEL",
            "entitytype=hotel",
            "entityId=h1",
            "entityType[]=hotel",
            "hotel",
            "entityType=hotel&entityType=flight",
        ] {
            assert!(cleared_kind(slip).is_err(), "{slip}");
        }
    }
}
