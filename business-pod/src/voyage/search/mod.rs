//! Search: flights, airports and cities.
//!
//! contract: voyage §4.1 (F1), §4.4 (locations), §5 (cache), §8.2 (`search.performed`), §1 (limit on provider searches)
//!
//! Public: who the caller is only decides whose search is remembered, so a credential that is expired, revoked or cannot
//! be checked makes the caller anonymous instead of refusing the search. A search that is in the cache touches neither
//! the database nor a provider; what it leaves behind (event, history) goes through a bounded buffer.

mod cache;
mod caller;
pub mod flights;
mod locations;
pub mod log;
mod params;
mod questions;
mod store;

#[cfg(test)]
mod tests;

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::extract::FromRef;
use shared::{
    Sources,
    auth::Authenticator,
    config::Reader,
    db::Db,
    http::limit::{RateLimiter, Rule},
    rate_limit_rule,
};
use utoipa_axum::router::OpenApiRouter;

pub use self::{flights::FlightSearch, locations::LocationSearch, log::SearchLog};
use super::{
    Voyage,
    supply::{Offers, Router},
};

/// Settings of searches.
#[derive(Debug, Clone, Copy)]
pub struct SearchConfig {
    /// Searches of one caller that reach a provider.
    pub provider_rule: Rule,
    /// The most memory that cached answers take, in bytes.
    pub cache_bytes: u64,
    /// The most searches that wait to be published; more are dropped and counted.
    pub log_capacity: usize,
}

impl Default for SearchConfig {
    fn default() -> Self {
        Self {
            provider_rule: Rule::new("voyage.provider_search", 60, Duration::from_mins(1)),
            cache_bytes: 32 << 20,
            log_capacity: 4_096,
        }
    }
}

impl SearchConfig {
    /// Reads the settings.
    pub fn read(reader: &mut Reader) -> Self {
        let default = Self::default();
        let megabytes = reader.or(
            "SEARCH_CACHE_MB",
            default.cache_bytes >> 20,
            "memory for cached search answers, MiB",
        );
        Self {
            provider_rule: rate_limit_rule!(reader, "PROVIDER_SEARCH", default.provider_rule),
            cache_bytes: megabytes.clamp(1, 4_096) << 20,
            log_capacity: reader
                .or(
                    "SEARCH_LOG_CAPACITY",
                    default.log_capacity,
                    "searches that may wait to be published before they are dropped",
                )
                .max(1),
        }
    }
}

/// What the search handlers need. A clone is one count.
#[derive(Clone)]
pub struct SearchState(Arc<SearchParts>);

/// The parts of [`SearchState`].
pub struct SearchParts {
    flights: FlightSearch,
    locations: LocationSearch,
    authenticator: Authenticator,
    limiter: RateLimiter,
    config: SearchConfig,
    log: SearchLog,
    sources: Sources,
}

impl Deref for SearchState {
    type Target = SearchParts;

    fn deref(&self) -> &SearchParts {
        &self.0
    }
}

impl FromRef<SearchState> for Authenticator {
    fn from_ref(state: &SearchState) -> Self {
        state.authenticator.clone()
    }
}

impl FromRef<SearchState> for LocationSearch {
    fn from_ref(state: &SearchState) -> Self {
        state.locations.clone()
    }
}

impl std::fmt::Debug for SearchParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SearchParts")
    }
}

impl std::fmt::Debug for SearchState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SearchState")
    }
}

impl SearchState {
    /// The state over the configured providers.
    pub fn new(
        db: Db<Voyage>,
        providers: Router,
        authenticator: Authenticator,
        limiter: RateLimiter,
        sources: Sources,
        config: SearchConfig,
    ) -> Self {
        Self(Arc::new(SearchParts {
            flights: FlightSearch::new(
                db.clone(),
                providers.clone(),
                Offers::new(providers.clone()),
                sources.clone(),
                config.cache_bytes,
            ),
            locations: LocationSearch::new(providers),
            authenticator,
            limiter,
            log: SearchLog::new(db, sources.clone(), config.log_capacity),
            config,
            sources,
        }))
    }

    /// Flight searches for callers inside the pod.
    pub fn flights(&self) -> &FlightSearch {
        &self.flights
    }

    /// The buffer of searches to be published; its [`SearchLog::run`] is a worker of the pod.
    pub fn log(&self) -> &SearchLog {
        &self.log
    }
}

/// The routes, relative to `/api/v1`.
pub fn router<S: Clone + Send + Sync + 'static>(state: SearchState) -> OpenApiRouter<S> {
    documented().with_state(state)
}

/// The routes before they have their state, for the document.
pub fn documented() -> OpenApiRouter<SearchState> {
    OpenApiRouter::new()
        .routes(shared::routes!(flights::search))
        .routes(shared::routes!(locations::search))
        .routes(shared::routes!(locations::airports))
        .routes(shared::routes!(locations::airports_alias))
}
