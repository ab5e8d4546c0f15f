//! `GET /locations/search`, `/locations/airports`, `/airports/search` (voyage §4.4).

use std::time::Duration;

use axum::{
    extract::{RawQuery, State},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use moka::future::Cache;
use serde::Serialize;
use shared::ApiError;
use utoipa::ToSchema;

use super::params::Pairs;
use crate::voyage::supply::{
    Router,
    places::{Location, PlaceQuery},
    reference::Reference,
    text::plain,
};

const MISSING: &str = "Missing required parameter: keyword";
const MOST: u32 = 10;
/// Nobody types a longer name of a place.
const LONGEST_KEYWORD: usize = 100;
/// Reference data changes with a release.
const LIFE: Duration = Duration::from_hours(24);
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=86400");

/// Places, best first.
#[derive(Debug, Serialize, ToSchema)]
pub struct LocationsFound {
    data: Vec<Location>,
    meta: LocationsMeta,
}

/// About the answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct LocationsMeta {
    /// Places in this answer.
    count: usize,
}

/// Looks places up: in the cache, else in the index. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LocationSearch {
    providers: Router,
    answers: Cache<PlaceQuery, Bytes>,
}

impl LocationSearch {
    pub(super) fn new(providers: Router) -> Self {
        Self {
            providers,
            answers: Cache::builder().max_capacity(4_096).time_to_live(LIFE).build(),
        }
    }

    async fn find(&self, query: PlaceQuery) -> Result<Bytes, ApiError> {
        if query.keyword.is_empty() {
            return write(Vec::new());
        }
        let asked = query.clone();
        let find = async {
            write(
                self.providers
                    .suggest_places(&asked)
                    .await
                    .map_err(|error| error.refusal())?,
            )
        };
        self.answers.try_get_with(query, find).await.map_err(|error| {
            // the error is shared with other requests for the same; its code and status are all that is needed
            ApiError::new(error.status(), error.code(), "Location search failed").with_cause(anyhow::anyhow!("{error}"))
        })
    }
}

fn write(data: Vec<Location>) -> Result<Bytes, ApiError> {
    let found = LocationsFound {
        meta: LocationsMeta { count: data.len() },
        data,
    };
    serde_json::to_vec(&found).map(Bytes::from).map_err(ApiError::internal)
}

/// Finds airports and cities
#[utoipa::path(
    get, path = "/locations/search", tag = "locations", operation_id = "searchLocations", security(()),
    params(
        ("keyword" = String, Query, description = "code, name, beginning of a name, or `City, Country`"),
        ("subType" = Option<String>, Query, description = "`AIRPORT`, `CITY` or `CITY,AIRPORT` (default)"),
        ("countryCode" = Option<String>, Query, description = "ISO 3166-1, two letters"),
        ("page[limit]" = Option<u8>, Query, description = "1 to 10"),
    ),
    responses(
        (status = 200, description = "Best match first", body = LocationsFound),
        (status = 400, description = "No keyword"),
    ),
)]
pub async fn search(State(places): State<LocationSearch>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let pairs = Pairs::of(query.as_deref());
    let kinds: Vec<String> = pairs.list("subType").map(str::to_ascii_uppercase).collect();
    let (airports, cities) = (
        kinds.iter().any(|kind| kind == "AIRPORT"),
        kinds.iter().any(|kind| kind == "CITY"),
    );
    // neither named means both
    let query = place_query(&pairs, airports || !cities, cities || !airports)?;
    respond("Failed to search locations", places.find(query).await)
}

/// Finds airports
#[utoipa::path(
    get, path = "/locations/airports", tag = "locations", operation_id = "searchAirports", security(()),
    params(("keyword" = String, Query, description = "code, name, beginning of a name, or `City, Country`")),
    responses(
        (status = 200, description = "Best match first", body = LocationsFound),
        (status = 400, description = "No keyword"),
    ),
)]
pub async fn airports(State(places): State<LocationSearch>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let query = place_query(&Pairs::of(query.as_deref()), true, false)?;
    respond("Failed to search airports", places.find(query).await)
}

/// Finds airports, under the documented path
#[utoipa::path(
    get, path = "/airports/search", tag = "locations", operation_id = "searchAirportsAlias", security(()),
    params(("keyword" = String, Query, description = "code, name, beginning of a name, or `City, Country`; alias `query`")),
    responses(
        (status = 200, description = "Best match first", body = LocationsFound),
        (status = 400, description = "No keyword"),
    ),
)]
pub async fn airports_alias(places: State<LocationSearch>, query: RawQuery) -> Result<Response, ApiError> {
    airports(places, query).await
}

fn place_query(pairs: &Pairs, airports: bool, cities: bool) -> Result<PlaceQuery, ApiError> {
    let keyword = pairs
        .text(&["keyword", "query"])
        .ok_or_else(|| ApiError::bad_request(MISSING))?;
    if keyword.len() > LONGEST_KEYWORD {
        return Err(ApiError::bad_request("Invalid keyword: too long"));
    }
    let country = match pairs.text(&["countryCode"]) {
        Some(code) if code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            Some(code.to_ascii_uppercase())
        }
        Some(_) => return Err(ApiError::bad_request("Invalid countryCode: must be two letters")),
        None => None,
    };
    let limit = match pairs.number("page[limit]", 1, u32::MAX)? {
        None => pairs.number("limit", 1, u32::MAX)?,
        limit => limit,
    };
    let (name, named_country) = keyword
        .split_once(',')
        .map_or((keyword, None), |(name, rest)| (name, country_named(rest)));
    Ok(PlaceQuery {
        keyword: plain(name),
        airports,
        cities,
        country: country.or(named_country),
        limit: usize::try_from(limit.unwrap_or(MOST).min(MOST)).unwrap_or(0),
    })
}

/// The code of the country after the comma; while it is still being typed there is none, and that narrows nothing.
fn country_named(text: &str) -> Option<String> {
    let name = plain(text.rsplit(',').next()?);
    let found = Reference::get()
        .countries()
        .iter()
        .find(|country| country.code.eq_ignore_ascii_case(&name) || plain(country.name) == name);
    found.map(|country| country.code.to_owned())
}

fn respond(failed: &'static str, found: Result<Bytes, ApiError>) -> Result<Response, ApiError> {
    let body = found.map_err(|error| {
        if error.status() == StatusCode::BAD_REQUEST {
            error
        } else {
            error.with_title(failed)
        }
    })?;
    let json = HeaderValue::from_static("application/json");
    Ok((
        [(header::CONTENT_TYPE, json), (header::CACHE_CONTROL, CACHE_CONTROL)],
        body,
    )
        .into_response())
}
