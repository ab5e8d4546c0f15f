//! `GET /flights/search` (voyage §4.1 F1).

use std::sync::Arc;

use axum::{
    extract::{RawQuery, State},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use shared::{ApiError, Sources, db::Db, http::limit::Decision, money::Currency};
use utoipa::ToSchema;

use super::{
    SearchState,
    cache::{Answer, Answers},
    caller::Searcher,
    log::{Performed, search_id},
    params::Search,
    questions::{Question, Questions},
};
use crate::voyage::{
    Voyage,
    supply::{OfferError, Offers, ProviderError, Router, flight::FlightOffer, rates, reference::Reference},
};

/// What the operation's failures are called.
const FAILED: &str = "Failed to search flights";
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// Offers, and what they are the answer to.
#[derive(Debug, Serialize, ToSchema)]
pub struct FlightsFound {
    /// Cheapest first.
    data: Vec<FlightOffer>,
    /// About the answer.
    meta: FlightsMeta,
}

/// About the answer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlightsMeta {
    /// Offers in this answer.
    count: usize,
    /// Of all prices.
    #[schema(value_type = String)]
    currency: Currency,
    /// The provider that answered.
    source: String,
    /// What the caller should know: `date_in_past`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<&'static str>,
    /// Names this search in events and logs.
    search_id: String,
    /// The day of the exchange rates, where prices were converted.
    #[serde(skip_serializing_if = "Option::is_none")]
    rates_as_of: Option<&'static str>,
}

/// Why a search failed. Shared by all requests that waited for it.
#[derive(Debug, thiserror::Error)]
enum SearchError {
    #[error("the provider could not answer")]
    Provider(#[source] ProviderError),
    #[error("the offers could not be stored")]
    Store(#[source] sqlx::Error),
    #[error("the answer could not be written")]
    Write(#[source] serde_json::Error),
}

/// Searches flights: in the cache, else at a provider. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FlightSearch {
    db: Db<Voyage>,
    providers: Router,
    offers: Offers,
    sources: Sources,
    questions: Questions,
    answers: Answers,
}

impl FlightSearch {
    pub(super) fn new(db: Db<Voyage>, providers: Router, offers: Offers, sources: Sources, cache_bytes: u64) -> Self {
        Self {
            db,
            providers,
            offers,
            sources,
            questions: Questions::new(),
            answers: Answers::new(cache_bytes),
        }
    }

    /// Asks the providers, remembers what is about to be quoted, and writes the answer down.
    async fn answer(&self, search: &Search) -> Result<Arc<Answer>, SearchError> {
        let now = self.sources.now();
        let in_past = is_past(search, now);
        let mut found = Vec::new();
        if !in_past {
            let asked = self.providers.search_flights(&search.query, now).await;
            found = asked.map_err(SearchError::Provider)?;
        }
        found.truncate(search.most);
        if !found.is_empty() {
            let mut conn = self.db.acquire().await.map_err(SearchError::Store)?;
            self.offers
                .remember(&mut conn, &found, now)
                .await
                .map_err(|error| match error {
                    OfferError::Store(error) => SearchError::Store(error),
                    OfferError::Provider(error) => SearchError::Provider(error),
                })?;
        }
        let (count, expires_at) = (found.len(), found.iter().map(|offer| offer.expires_at).min());
        let currency = search.query.currency;
        let source = found.first().map(|offer| offer.source.clone());
        let meta = FlightsMeta {
            count,
            currency,
            source: source
                .or_else(|| self.providers.names().next().map(str::to_owned))
                .unwrap_or_default(),
            warnings: if in_past { vec!["date_in_past"] } else { Vec::new() },
            search_id: search_id(&self.sources),
            rates_as_of: (currency != Currency::EUR).then_some(rates::AS_OF),
        };
        let body = serde_json::to_vec(&FlightsFound { data: found, meta }).map_err(SearchError::Write)?;
        Ok(Arc::new(Answer::new(body, count, now, expires_at)))
    }
}

/// Whether the day of departure is over where the journey begins; for an unknown place, everywhere on Earth.
fn is_past(search: &Search, now: DateTime<Utc>) -> bool {
    let airport = search
        .query
        .origins
        .first()
        .and_then(|code| Reference::get().airport(*code));
    let today = match airport {
        Some(airport) => now.with_timezone(&airport.zone).date_naive(),
        None => (now - chrono::TimeDelta::hours(12)).date_naive(),
    };
    search.query.departure < today
}

impl SearchError {
    /// What every waiting request is told. The cause goes to the log of the request, not to the client.
    fn refusal(&self) -> ApiError {
        let cause = || anyhow::anyhow!("{:#}", ErrorChain(self));
        let refusal = match self {
            Self::Provider(error) => error.refusal(),
            Self::Store(error) if shared::db::is_transient(error) => ApiError::unavailable(cause()),
            Self::Store(_) | Self::Write(_) => ApiError::internal(cause()),
        };
        if refusal.status() == StatusCode::BAD_REQUEST {
            refusal
        } else {
            refusal.with_title(FAILED)
        }
    }
}

/// An error and its sources on one line.
struct ErrorChain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// Searches flights
#[utoipa::path(
    get, path = "/flights/search", tag = "flights", operation_id = "searchFlights",
    security((), ("bearer" = []), ("session" = [])),
    params(
        ("originLocationCode" = String, Query, description = "IATA code of an airport or a city, or a name; alias `origin`"),
        ("destinationLocationCode" = String, Query, description = "the same; alias `destination`"),
        ("departureDate" = String, Query, description = "local date, `YYYY-MM-DD`; in the past: no offers and a warning"),
        ("returnDate" = Option<String>, Query, description = "after the departure"),
        ("adults" = Option<u8>, Query, description = "1 to 9, default 1; at most 9 travellers in all"),
        ("children" = Option<u8>, Query, description = "0 to 8"),
        ("infants" = Option<u8>, Query, description = "not more than adults"),
        ("travelClass" = Option<String>, Query, description = "ECONOMY (default), PREMIUM_ECONOMY, BUSINESS, FIRST; alias `cabinClass`"),
        ("nonStop" = Option<String>, Query, description = "only the literal `true` is true"),
        ("maxStops" = Option<u8>, Query, description = "on any slice"),
        ("maxPrice" = Option<u32>, Query, description = "total, in the currency of the offers"),
        ("maxDuration" = Option<u32>, Query, description = "of any slice, minutes"),
        ("includedAirlineCodes" = Option<String>, Query, description = "comma list or repeated"),
        ("currencyCode" = Option<String>, Query, description = "ISO 4217, default EUR"),
        ("max" = Option<u16>, Query, description = "offers returned, 1 to 250"),
    ),
    responses(
        (status = 200, description = "Offers, cheapest first", body = FlightsFound,
            headers(("X-Cache" = String, description = "`HIT` or `MISS`"))),
        (status = 400, description = "A parameter is missing or not valid"),
        (status = 429, description = "Too many searches"),
        (status = 502, description = "The provider failed"),
        (status = 503, description = "The provider is busy, or the database is away"),
        (status = 504, description = "The provider did not answer in time"),
    ),
)]
pub async fn search(
    State(state): State<SearchState>,
    caller: Searcher,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let question = state.flights.questions.read(query.as_deref()).await?;
    let found = state.flights.answers.find(&question.key, state.sources.now()).await;
    let (answer, cached, limits) = match found {
        Some(answer) => (answer, true, None),
        // on the heap, so that the answers at hand do not carry its weight
        None => Box::pin(ask(&state, &caller, &question)).await?,
    };
    if !caller.is_service && state.log.wants(&question.key, &caller.subject) {
        state.log.record(Performed::new(
            question,
            caller.user,
            cached,
            answer.count,
            state.sources.now(),
        ));
    }
    let mut response = (
        [
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (X_CACHE, HeaderValue::from_static(if cached { "HIT" } else { "MISS" })),
        ],
        answer.body.clone(),
    )
        .into_response();
    if let Some(limits) = limits {
        limits.apply(response.headers_mut());
    }
    Ok(response)
}

/// Asks the providers, once for all who ask the same meanwhile. Whether somebody else had asked, and what the limit says.
async fn ask(
    state: &SearchState,
    caller: &Searcher,
    question: &Question,
) -> Result<(Arc<Answer>, bool, Option<Decision>), ApiError> {
    let limits = state
        .limiter
        .check(&state.config.provider_rule, &caller.subject)
        .await
        .into_result()?;
    let found = state
        .flights
        .answers
        .find_or(question.key, state.flights.answer(&question.search))
        .await;
    let (answer, asked) = found.map_err(|error| error.refusal())?;
    Ok((answer, !asked, Some(limits)))
}
