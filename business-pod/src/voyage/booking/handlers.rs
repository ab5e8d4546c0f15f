//! The routes of bookings (voyage §4.8): list, detail, confirm.
//!
//! A reference of somebody else is 403, an unknown one 404 (contract README, "Foreign data").

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::Method;
use serde::Deserialize;
use serde_json::Value;
use shared::{
    ApiError,
    auth::AuthUser,
    http::{Body, Path, QueryMap},
    id::UserId,
    idempotency::{self, BodyHash, IdempotencyKey, Scope},
};
use utoipa::ToSchema;

use super::{
    confirm,
    model::{Booking, BookingKind, Status},
    orders,
    store::{self, ListQuery},
    wire::{BookingDetail, BookingList, BookingReply, ConfirmReply, Filters, ListMeta, Pagination, Sorting},
};
use crate::voyage::{
    Voyage, VoyageState,
    cart::wire::ClaimQuery,
    identity::{check_claim, claim_of},
    titled,
};

const MAX_LIMIT: i64 = 50;
const DEFAULT_LIMIT: i64 = 10;
const MAX_PAGE: i64 = 1_000_000;

/// The caller's bookings.
#[utoipa::path(
    get, path = "/bookings", tag = "bookings", security(("bearer" = []), ("session" = [])),
    params(
        ("page" = Option<i64>, Query, description = "from 1"),
        ("limit" = Option<i64>, Query, description = "10 if not given, at most 50"),
        ("status" = Option<String>, Query, description = "states, comma separated; unknown ones are ignored"),
        ("type" = Option<String>, Query, description = "kinds, comma separated; unknown ones are ignored"),
        ("sortBy" = Option<String>, Query, description = "`createdAt` (default), `updatedAt`, `totalAmount`, `status`"),
        ("sortOrder" = Option<String>, Query, description = "`desc` (default) or `asc`"),
        ("search" = Option<String>, Query, description = "part of the reference"),
        ClaimQuery,
    ),
    responses(
        (status = 200, description = "a page", body = BookingList),
        (status = 400, description = "a parameter is no number"),
        (status = 401, description = "nobody is signed in"),
        (status = 403, description = "the claimed id is somebody else's"),
    )
)]
pub async fn list(caller: AuthUser, State(state): State<VoyageState>, query: QueryMap) -> Result<Response, ApiError> {
    check_claim(caller.user, query.first("userId"))?;
    titled("Failed to get bookings", page(&state, caller.user, &query).await)
}

async fn page(state: &VoyageState, user: UserId, query: &QueryMap) -> Result<Response, ApiError> {
    let page = query.integer::<i64>("page")?.unwrap_or(1).clamp(1, MAX_PAGE);
    let limit = query
        .integer::<i64>("limit")?
        .unwrap_or(DEFAULT_LIMIT)
        .clamp(1, MAX_LIMIT);
    let wanted = ListQuery {
        user,
        statuses: known(&query.all("status"), &Status::ALL.map(Status::name)),
        kinds: known(&query.all("type"), &BookingKind::ALL.map(BookingKind::name)),
        search: query.first("search").map(storable).transpose()?.map(str::to_uppercase),
        sort_by: sort_field(query.first("sortBy")),
        ascending: query
            .first("sortOrder")
            .is_some_and(|order| order.eq_ignore_ascii_case("asc")),
        limit,
        offset: (page - 1) * limit,
    };
    let mut conn = state.db.acquire().await?;
    let total_count = store::count(&mut conn, &wanted).await?;
    let rows = if wanted.offset < total_count {
        store::list(&mut conn, &wanted).await?
    } else {
        Vec::new()
    };
    let total_pages = (total_count + limit - 1) / limit;
    let list = BookingList {
        data: rows.into_iter().map(Into::into).collect(),
        meta: ListMeta {
            pagination: Pagination {
                page,
                limit,
                total_count,
                total_pages,
                has_next_page: page < total_pages,
                has_prev_page: page > 1,
            },
            filters: Filters {
                status: wanted.statuses,
                r#type: wanted.kinds,
                search: wanted.search,
            },
            sorting: Sorting {
                sort_by: wanted.sort_by,
                sort_order: if wanted.ascending { "asc" } else { "desc" },
            },
        },
    };
    Ok(Json(list).into_response())
}

/// One booking.
#[utoipa::path(
    get, path = "/bookings/{reference}", tag = "bookings", security(("bearer" = []), ("session" = [])),
    params(("reference" = String, Path, description = "its reference or row id"), ClaimQuery),
    responses(
        (status = 200, description = "the booking", body = BookingReply),
        (status = 401, description = "nobody is signed in"),
        (status = 403, description = "it is somebody else's"),
        (status = 404, description = "there is no such booking"),
    )
)]
pub async fn detail(
    caller: AuthUser,
    State(state): State<VoyageState>,
    Path(reference): Path<String>,
    query: QueryMap,
) -> Result<Response, ApiError> {
    check_claim(caller.user, query.first("userId"))?;
    titled("Failed to get booking", show(&state, caller.user, &reference).await)
}

async fn show(state: &VoyageState, user: UserId, reference: &str) -> Result<Response, ApiError> {
    let booking = owned(state, user, reference).await?;
    let mut conn = state.db.acquire().await?;
    let orders = orders::of_booking(&mut conn, booking.id).await?;
    let history = store::history(&mut conn, booking.id).await?;
    let data = BookingDetail::new(booking, orders, history, state.sources.now());
    Ok(Json(BookingReply { data }).into_response())
}

/// What the browser says after it has paid.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = ConfirmBooking)]
pub struct ConfirmBody {
    /// A claim: the caller's own id.
    #[schema(value_type = Option<String>)]
    pub user_id: Option<Value>,
    /// A claim: which payment it was. Checked against payment's own record.
    #[schema(value_type = Option<String>)]
    pub payment_intent_id: Option<Value>,
}

/// Confirms a booking, if payment says that it is paid.
#[utoipa::path(
    post, path = "/bookings/{reference}/confirm", tag = "bookings", request_body = ConfirmBody,
    security(("bearer" = []), ("session" = [])),
    params(("reference" = String, Path, description = "its reference or row id")),
    responses(
        (status = 200, description = "the booking is paid", body = ConfirmReply),
        (status = 400, description = "it is over"),
        (status = 401, description = "nobody is signed in"),
        (status = 402, description = "`PAYMENT_REQUIRED`: it is not paid"),
        (status = 403, description = "it is somebody else's"),
        (status = 404, description = "there is no such booking"),
        (status = 503, description = "`PAYMENT_UNAVAILABLE`: payment cannot be asked now"),
    )
)]
pub async fn post_confirm(
    caller: AuthUser,
    key: Option<IdempotencyKey>,
    State(state): State<VoyageState>,
    Path(reference): Path<String>,
    Body(body): Body<ConfirmBody>,
) -> Result<Response, ApiError> {
    check_claim(caller.user, claim_of(body.user_id.as_ref()).as_deref())?;
    let user = caller.user;
    let intent = claim_of(body.payment_intent_id.as_ref()).filter(|intent| !intent.is_empty());
    let tasks = state.tasks.clone();
    let work = async move {
        let scope = Scope::new(
            format!("user:{user}"),
            Method::POST,
            format!("/api/v1/bookings/{reference}/confirm"),
        );
        let hash = BodyHash::of(&intent);
        let confirmed = || async {
            let booking = confirm::confirm(&state, user, &reference, intent.as_deref()).await?;
            Ok(Json(ConfirmReply::from(booking)).into_response())
        };
        idempotency::run::<Voyage, _>(&state.db, &state.sources, key, &scope, hash, confirmed).await
    };
    titled("Failed to confirm booking", tasks.detached(work).await?)
}

/// A booking of the caller: 404 if there is none of this name, 403 if it is somebody else's.
pub async fn owned(state: &VoyageState, user: UserId, reference_or_id: &str) -> Result<Booking, ApiError> {
    let missing = || ApiError::not_found("Booking not found");
    storable(reference_or_id).map_err(|_| missing())?;
    let booking = store::find(state.db.pool(), reference_or_id)
        .await?
        .ok_or_else(missing)?;
    if booking.user != user {
        return Err(ApiError::forbidden("Access denied"));
    }
    Ok(booking)
}

/// Text that the database can hold.
fn storable(text: &str) -> Result<&str, ApiError> {
    if text.contains('\0') {
        return Err(ApiError::bad_request("Invalid query parameters"));
    }
    Ok(text)
}

/// The words of a list that mean something, upper case, each once.
fn known(given: &[&str], all: &[&'static str]) -> Vec<String> {
    let named = |word: &&&'static str| given.iter().any(|given| given.eq_ignore_ascii_case(word));
    all.iter().filter(named).map(|word| (*word).to_owned()).collect()
}

fn sort_field(given: Option<&str>) -> &'static str {
    const FIELDS: [&str; 4] = ["createdAt", "updatedAt", "totalAmount", "status"];
    let found = FIELDS.into_iter().find(|field| given == Some(field));
    found.unwrap_or("createdAt")
}
