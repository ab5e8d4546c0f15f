//! The figures of the dashboard.
//!
//! contract: core §5.12 (Dashboard), §8 (`dash:<query>`, 60 s), payment §9 (revenue)
//!
//! What was counted stays good for a minute: administrators' pages ask often, and the counts touch many rows. Without Redis they
//! are counted each time.

mod model;
mod store;

use std::time::Duration;

use axum::extract::State;
use serde::{Serialize, de::DeserializeOwned};
use shared::{ApiError, http::QueryMap};
use utoipa_axum::router::OpenApiRouter;

use self::model::{ChartPoint, DestinationCount, Period, RecentTransaction, Stats};
use super::{access::Admin, answers::Answer, list, unread};
use crate::user::UserState;

/// How long figures are good for.
const FRESH: Duration = Duration::from_secs(60);

type Reply<T> = Result<axum::Json<Answer<T>>, ApiError>;

/// The routes of the dashboard.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .routes(shared::routes!(stats))
        .routes(shared::routes!(stats_alias))
        .routes(shared::routes!(revenue_chart))
        .routes(shared::routes!(bookings_by_destination))
        .routes(shared::routes!(recent_transactions))
}

/// Figures by name and period: those of the last minute if there are any, else counted now.
async fn remembered<T, F>(state: &UserState, key: String, count: impl FnOnce() -> F) -> Result<T, ApiError>
where
    T: Serialize + DeserializeOwned,
    F: Future<Output = sqlx::Result<T>>,
{
    let key = format!("dash:{key}");
    // neither an absent Redis nor figures of an older release are a reason not to count
    let known = state.redis.get(&key).await.ok().flatten();
    if let Some(figures) = known.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        return Ok(figures);
    }
    let figures = count().await.map_err(unread)?;
    let text = serde_json::to_vec(&figures).map_err(ApiError::internal)?;
    if let Err(error) = state.redis.set(&key, text, Some(FRESH)).await {
        tracing::debug!(%error, "figures not remembered");
    }
    Ok(figures)
}

/// The figures at the head of the dashboard.
#[utoipa::path(
    get, path = "/api/v1/admin/dashboard/stats", tag = "admin",
    params(
        ("period" = Option<String>, Query, description = "`24h`, `7d` (default), `30d`, `custom`"),
        ("startDate" = Option<String>, Query, description = "for `custom`: a date or an instant"),
        ("endDate" = Option<String>, Query, description = "for `custom`: a date (included) or an instant"),
    ),
    responses(
        (status = 200, description = "Figures of the period, each with its change against the one before", body = Answer<Stats>),
        (status = 400, description = "`custom` without both dates, or no dates"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
async fn stats(_: Admin, State(state): State<UserState>, query: QueryMap) -> Reply<Stats> {
    let period = Period::read(&query, state.sources.now())?;
    let figures = remembered(&state, period.key("stats"), || store::stats(state.db.pool(), &period)).await?;
    Ok(Answer::of(figures))
}

/// The same under the name of the documentation.
#[utoipa::path(
    get, path = "/api/v1/admin/stats", tag = "admin",
    params(("period" = Option<String>, Query, description = "as for `/dashboard/stats`")),
    responses(
        (status = 200, description = "Figures of the period", body = Answer<Stats>),
        (status = 400, description = "`custom` without both dates, or no dates"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
async fn stats_alias(admin: Admin, state: State<UserState>, query: QueryMap) -> Reply<Stats> {
    stats(admin, state, query).await
}

/// Revenue in euro by day (UTC), days with payments only.
#[utoipa::path(
    get, path = "/api/v1/admin/dashboard/revenue-chart", tag = "admin",
    params(
        ("period" = Option<String>, Query, description = "as for `/dashboard/stats`"),
        ("startDate" = Option<String>, Query, description = "for `custom`"),
        ("endDate" = Option<String>, Query, description = "for `custom`"),
    ),
    responses(
        (status = 200, description = "One point per day, the oldest first", body = Answer<Vec<ChartPoint>>),
        (status = 400, description = "`custom` without both dates, or no dates"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
async fn revenue_chart(_: Admin, State(state): State<UserState>, query: QueryMap) -> Reply<Vec<ChartPoint>> {
    let period = Period::read(&query, state.sources.now())?;
    let points = remembered(&state, period.key("revenue"), || {
        store::revenue_chart(state.db.pool(), &period)
    })
    .await?;
    Ok(Answer::of(points))
}

/// Where bookings lead, the most frequent places first.
#[utoipa::path(
    get, path = "/api/v1/admin/dashboard/bookings-by-destination", tag = "admin",
    params(
        ("limit" = Option<i64>, Query, description = "1 to 100, 5 if absent"),
        ("period" = Option<String>, Query, description = "as for `/dashboard/stats`"),
        ("startDate" = Option<String>, Query, description = "for `custom`"),
        ("endDate" = Option<String>, Query, description = "for `custom`"),
    ),
    responses(
        (status = 200, description = "Places with their number of bookings", body = Answer<Vec<DestinationCount>>),
        (status = 400, description = "`custom` without both dates, or no dates"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
async fn bookings_by_destination(
    _: Admin,
    State(state): State<UserState>,
    query: QueryMap,
) -> Reply<Vec<DestinationCount>> {
    let period = Period::read(&query, state.sources.now())?;
    let limit = list::limit(&query, 5);
    let key = period.key(&format!("destinations:{limit}"));
    let places = remembered(&state, key, || store::destinations(state.db.pool(), &period, limit)).await?;
    Ok(Answer::of(places))
}

/// The newest payments with their travellers.
#[utoipa::path(
    get, path = "/api/v1/admin/dashboard/recent-transactions", tag = "admin",
    params(
        ("limit" = Option<i64>, Query, description = "1 to 100, 10 if absent"),
        ("period" = Option<String>, Query, description = "as for `/dashboard/stats`"),
        ("startDate" = Option<String>, Query, description = "for `custom`"),
        ("endDate" = Option<String>, Query, description = "for `custom`"),
    ),
    responses(
        (status = 200, description = "Payments, the newest first", body = Answer<Vec<RecentTransaction>>),
        (status = 400, description = "`custom` without both dates, or no dates"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
async fn recent_transactions(
    _: Admin,
    State(state): State<UserState>,
    query: QueryMap,
) -> Reply<Vec<RecentTransaction>> {
    let period = Period::read(&query, state.sources.now())?;
    let limit = list::limit(&query, 10);
    let rows = store::recent_transactions(state.db.pool(), &period, limit).await;
    Ok(Answer::of(rows.map_err(unread)?))
}
