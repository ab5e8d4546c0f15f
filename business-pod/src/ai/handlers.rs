//! The routes of the AI service and the rankings behind them (ai §4.12).
//!
//! A ranking is computed from the counters, kept in Redis for a while and in this process for a second. Without Redis it is
//! computed once a second at most.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use moka::future::Cache;
use serde::Serialize;
use serde_json::{json, value::RawValue};
use shared::{ApiError, db, http::QueryMap, redis::Redis};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    AiState,
    model::{self, CATEGORIES, Place, Segment, popularity},
    store::{self, Destination},
};

/// The longest list that may be asked for, which is what is kept.
const MAX_LIMIT: usize = 50;
const DEFAULT_LIMIT: usize = 20;
/// How long a ranking is served from this process without a look at Redis.
const NEAR_LIFE: Duration = Duration::from_secs(1);
/// How long a card may be shown.
const CARD_LIFE: TimeDelta = TimeDelta::hours(24);
/// What a rating is before there are reviews: the prior mean of ai §11.6, with the weight of all its 20 reviews.
const PRIOR_RATING: f64 = 4.0;

/// Popular destinations.
#[utoipa::path(
    get, path = "/api/v1/ai/recommendations/popular", tag = "recommendations",
    params(
        ("segment" = Option<String>, Query, description = "a kind of traveller (`FAMILY_EXPLORER`); wins over the category"),
        ("category" = Option<String>, Query, description = "a kind of destination (`CITY`)"),
        ("limit" = Option<u8>, Query, description = "1 to 50, 20 if not given"),
    ),
    responses(
        (status = 200, description = "the most popular first", body = PopularReply),
        (status = 400, description = "an unknown segment or category, or a limit out of range"),
        (status = 429, description = "too many requests"),
        (status = 503, description = "neither the ranking nor the database can be reached"),
    )
)]
pub async fn popular(State(state): State<AiState>, query: QueryMap) -> Result<Response, ApiError> {
    let limit = limit(&query)?;
    let segment = query.first("segment").map(segment).transpose()?;
    let category = query.first("category").map(category).transpose()?;
    let list = match (segment, category) {
        (Some(segment), _) => List::Segment(segment),
        (None, Some(category)) => List::Category(category),
        (None, None) => List::Global,
    };
    let (ranking, source) = state.rankings.get(&state, list).await?;
    let popular: Vec<&RawValue> = ranking.0.iter().take(limit).map(AsRef::as_ref).collect();
    let metadata = Metadata {
        source,
        segment: segment.map(Segment::name),
        category,
    };
    Ok(Json(Reply {
        count: popular.len(),
        popular,
        metadata,
    })
    .into_response())
}

fn limit(query: &QueryMap) -> Result<usize, ApiError> {
    let Some(text) = query.first("limit") else {
        return Ok(DEFAULT_LIMIT);
    };
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let limit = text
        .parse()
        .ok()
        .filter(|limit| is_plain && (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| ApiError::bad_request("limit must be between 1 and 50"))
}

fn segment(text: &str) -> Result<Segment, ApiError> {
    let known = || json!(Segment::ALL.map(Segment::name));
    Segment::parse(text).ok_or_else(|| ApiError::bad_request("Unknown segment").with_extra("valid", known()))
}

fn category(text: &str) -> Result<&'static str, ApiError> {
    model::category(text)
        .ok_or_else(|| ApiError::bad_request("Unknown category").with_extra("valid", json!(CATEGORIES)))
}

#[derive(Debug, Serialize)]
struct Reply<'a> {
    count: usize,
    popular: Vec<&'a RawValue>,
    metadata: Metadata,
}

/// The reply, for the document.
#[derive(Debug, Serialize, ToSchema)]
pub struct PopularReply {
    /// How many there are.
    count: usize,
    /// The most popular first.
    popular: Vec<PopularDestination>,
    metadata: Metadata,
}

/// Where the list comes from.
#[derive(Debug, Serialize, ToSchema)]
struct Metadata {
    source: Source,
    segment: Option<&'static str>,
    category: Option<&'static str>,
}

/// Whether the ranking was at hand or was computed for this request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// It was at hand.
    Cache,
    /// It was computed from the counters.
    Database,
}

/// A popular destination, with the names that cards of older clients read beside the contract's own.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PopularDestination {
    id: Uuid,
    destination_id: String,
    destination_type: String,
    name: String,
    country: Option<String>,
    coordinates: Option<LatLon>,
    vector: Vec<f64>,
    version: u8,
    popularity_score: f64,
    booking_count: i64,
    search_count: i64,
    seasonality_data: Option<Seasons>,
    #[serde(with = "shared::sources::iso")]
    created_at: DateTime<Utc>,
    #[serde(with = "shared::sources::iso")]
    updated_at: DateTime<Utc>,
    #[serde(with = "shared::sources::iso")]
    last_synced_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment_match_score: Option<f64>,
    #[serde(rename = "type")]
    card_type: &'static str,
    title: String,
    description: String,
    location: String,
    price: Option<f64>,
    currency: &'static str,
    rating: f64,
    image: Option<String>,
    tags: Vec<String>,
    #[serde(with = "shared::sources::iso")]
    valid_until: DateTime<Utc>,
}

#[derive(Debug, Serialize, ToSchema)]
struct LatLon {
    lat: f64,
    lon: f64,
}

/// The share of each season, once there is a year of demand.
#[derive(Debug, Serialize, ToSchema)]
struct Seasons {
    summer: f64,
    winter: f64,
    spring: f64,
    autumn: f64,
}

impl PopularDestination {
    fn new(row: &Destination, place: Place, scores: (f64, Option<f64>), now: DateTime<Utc>) -> Self {
        let (popularity_score, segment_match_score) = scores;
        let (searches, bookings) = (row.demand.search_count, row.demand.booking_count);
        Self {
            id: row.id,
            destination_id: row.place_code.clone(),
            destination_type: row.place_kind.clone(),
            description: format!(
                "{}: {}, {}",
                place.name,
                counted(searches, "search", "searches"),
                counted(bookings, "booking", "bookings")
            ),
            location: format!("{}, {}", place.name, place.country),
            title: place.name.clone(),
            name: place.name,
            country: Some(place.country),
            coordinates: Some(LatLon {
                lat: place.latitude,
                lon: place.longitude,
            }),
            vector: row.vector.clone(),
            version: 1,
            popularity_score: rounded(popularity_score),
            booking_count: bookings,
            search_count: searches,
            seasonality_data: None,
            created_at: row.created_at,
            updated_at: row.updated_at,
            last_synced_at: now,
            segment_match_score: segment_match_score.map(rounded),
            card_type: "destination",
            price: None,
            currency: "EUR",
            rating: PRIOR_RATING,
            image: None,
            tags: vec![row.place_kind.to_ascii_lowercase()],
            valid_until: now + CARD_LIFE,
        }
    }
}

fn counted(count: i64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn rounded(score: f64) -> f64 {
    (score * 1e6).round() / 1e6
}

/// A list that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum List {
    Global,
    Segment(Segment),
    Category(&'static str),
}

impl List {
    fn all() -> impl Iterator<Item = Self> {
        let segments = Segment::ALL.into_iter().map(Self::Segment);
        std::iter::once(Self::Global)
            .chain(segments)
            .chain(CATEGORIES.into_iter().map(Self::Category))
    }

    fn key(self) -> String {
        match self {
            Self::Global => "popularity:top:global".to_owned(),
            Self::Segment(segment) => format!("popularity:top:segment:{}", segment.name()),
            Self::Category(category) => format!("popularity:top:category:{category}"),
        }
    }
}

/// The best of a list, each destination as the JSON that goes out.
#[derive(Debug)]
struct Ranking(Vec<Box<RawValue>>);

/// The rankings at hand. Clones share them.
#[derive(Debug, Clone)]
pub struct Rankings(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    redis: Redis,
    life: Duration,
    near: Cache<List, Arc<Ranking>>,
    /// Counts what was forgotten, so that a ranking computed from older counters is not kept.
    forgotten: AtomicU64,
}

impl Rankings {
    /// Rankings kept for `life` in `redis`.
    pub fn new(redis: Redis, life: Duration) -> Self {
        let near = Cache::builder()
            .max_capacity(64)
            .time_to_live(NEAR_LIFE.min(life))
            .build();
        Self(Arc::new(Kept {
            redis,
            life,
            near,
            forgotten: AtomicU64::new(0),
        }))
    }

    /// Drops all rankings, because the counters have changed noticeably.
    pub async fn forget(&self) {
        self.0.forgotten.fetch_add(1, Ordering::AcqRel);
        self.0.near.invalidate_all();
        join_all(List::all().map(async |list| {
            if let Err(error) = self.0.redis.del(&list.key()).await {
                tracing::debug!(%error, "ranking not dropped from redis");
            }
        }))
        .await;
    }

    /// A ranking and where it came from. Callers who ask at once share one computation.
    async fn get(&self, state: &AiState, list: List) -> Result<(Arc<Ranking>, Source), ApiError> {
        let computed = AtomicBool::new(false);
        let load = async {
            if let Some(ranking) = self.kept(list).await {
                return Ok(Arc::new(ranking));
            }
            computed.store(true, Ordering::Release);
            self.compute(state, list).await.map(Arc::new)
        };
        let entry = self
            .0
            .near
            .entry(list)
            .or_try_insert_with(load)
            .await
            .map_err(|error: Arc<sqlx::Error>| shared_error(&error))?;
        let is_computed = entry.is_fresh() && computed.load(Ordering::Acquire);
        let source = if is_computed { Source::Database } else { Source::Cache };
        metrics::counter!("ai_popular_total", "source" => if is_computed { "database" } else { "cache" }).increment(1);
        Ok((entry.into_value(), source))
    }

    async fn kept(&self, list: List) -> Option<Ranking> {
        let found = self.0.redis.get(&list.key()).await;
        let bytes = found
            .inspect_err(|error| tracing::debug!(%error, "ranking not read from redis"))
            .ok()??;
        serde_json::from_slice(&bytes).ok().map(Ranking)
    }

    async fn compute(&self, state: &AiState, list: List) -> sqlx::Result<Ranking> {
        let generation = self.0.forgotten.load(Ordering::Acquire);
        let kind = if let List::Category(category) = list {
            Some(category)
        } else {
            None
        };
        let rows = store::list(state.db.pool(), kind).await?;
        let ranking = Ranking(rank(state, list, &rows));
        if self.0.forgotten.load(Ordering::Acquire) == generation {
            let text = serde_json::to_vec(&ranking.0).unwrap_or_default();
            if let Err(error) = self.0.redis.set(&list.key(), text, Some(self.0.life)).await {
                tracing::debug!(%error, "ranking not kept in redis");
            }
        }
        Ok(ranking)
    }
}

/// The best of the destinations, as they go out.
fn rank(state: &AiState, list: List, rows: &[Destination]) -> Vec<Box<RawValue>> {
    let now = state.sources.now();
    let demands: Vec<_> = rows.iter().map(|row| row.demand).collect();
    let mut ranked: Vec<_> = rows
        .iter()
        .zip(popularity(&demands, now))
        .map(|(row, popular)| {
            let matching = if let List::Segment(segment) = list {
                Some(segment.score(popular, &row.vector))
            } else {
                None
            };
            (row, popular, matching)
        })
        .collect();
    ranked.sort_by(|(row, popular, matching), (other_row, other_popular, other_matching)| {
        let best = |matching: &Option<f64>, popular: &f64| matching.unwrap_or(*popular);
        best(other_matching, other_popular)
            .total_cmp(&best(matching, popular))
            .then_with(|| other_row.demand.booking_count.cmp(&row.demand.booking_count))
            .then_with(|| other_row.demand.search_count.cmp(&row.demand.search_count))
            .then_with(|| row.place_code.cmp(&other_row.place_code))
    });
    let cards = ranked.into_iter().filter_map(|(row, popular, matching)| {
        // a destination that nobody wants any more (its only booking was cancelled) is not popular
        if row.demand.search_count == 0 && row.demand.booking_count == 0 {
            return None;
        }
        let place = state.places.place(&row.place_code)?;
        serde_json::value::to_raw_value(&PopularDestination::new(row, place, (popular, matching), now)).ok()
    });
    cards.take(MAX_LIMIT).collect()
}

/// An error that several waiting callers share.
fn shared_error(error: &Arc<sqlx::Error>) -> ApiError {
    let cause = anyhow::anyhow!("failed to rank destinations: {error}");
    if db::is_transient(error) {
        ApiError::unavailable(cause)
    } else {
        ApiError::internal(cause)
    }
}
