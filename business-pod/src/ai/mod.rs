//! The AI service: popular destinations counted from real searches and bookings.
//!
//! contract: ai §1, §2, §4.12, §11.6, §14.1. It owns the schema `ai` and keeps counters only, nothing about a person. It
//! asks nobody anything while it answers: names of places come from [`PlaceNames`], demand comes from events.

mod events;
mod handlers;
mod model;
mod store;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use axum::{extract::FromRef, routing};
use shared::{
    Sources,
    auth::Authenticator,
    config::Reader,
    db::{Db, Service, migrate::Migrations},
    http::limit::{RateLimiter, Rule, Subject, layer},
    rate_limit_rule,
    redis::Redis,
};
use utoipa_axum::router::OpenApiRouter;

use self::handlers::Rankings;
pub use self::{
    events::handler,
    model::{Place, PlaceNames},
};
use crate::voyage::supply::{places::name_of, reference::Reference};

/// The AI service as an owner of a schema.
#[derive(Debug, Clone, Copy)]
pub enum Ai {}

impl Service for Ai {
    const NAME: &'static str = "ai-service";
    const SCHEMA: &'static str = "ai";
}

/// The migrations of the schema `ai`.
pub fn migrations() -> Migrations {
    Migrations::new::<Ai>(sqlx::migrate!("../migrations/ai"))
}

/// Settings of the AI service.
#[derive(Debug, Clone, Copy)]
pub struct AiConfig {
    /// How long a ranking may be served before it is computed again.
    pub ranking_life: Duration,
    /// Requests of a caller.
    pub rule: Rule,
}

impl Default for AiConfig {
    fn default() -> Self {
        Self {
            ranking_life: Duration::from_secs(30),
            rule: Rule::new("ai.reads", 600, Duration::from_secs(15 * 60)).with_burst(120),
        }
    }
}

impl AiConfig {
    /// Reads the settings.
    pub fn read(reader: &mut Reader) -> Self {
        let defaults = Self::default();
        let seconds = reader.or(
            "AI_POPULAR_CACHE_SECONDS",
            defaults.ranking_life.as_secs(),
            "seconds a ranking of destinations is served before it is computed again",
        );
        if seconds == 0 {
            reader.problem("AI_POPULAR_CACHE_SECONDS: must be at least 1");
        }
        Self {
            ranking_life: Duration::from_secs(seconds.max(1)),
            rule: rate_limit_rule!(reader, "AI", defaults.rule),
        }
    }
}

/// What the handlers and the consumer need. Cheap to clone.
#[derive(Clone, FromRef)]
pub struct AiState {
    /// The schema.
    pub db: Db<Ai>,
    /// Clock and randomness.
    pub sources: Sources,
    /// Who calls, for limits only: the routes are public.
    pub authenticator: Authenticator,
    /// Counts requests.
    pub limiter: RateLimiter,
    /// What codes stand for.
    pub places: Arc<dyn PlaceNames>,
    /// The settings.
    pub config: AiConfig,
    rankings: Rankings,
}

impl std::fmt::Debug for AiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AiState")
    }
}

impl AiState {
    /// The state of the service.
    pub fn new(
        db: Db<Ai>,
        redis: Redis,
        sources: Sources,
        authenticator: Authenticator,
        limiter: RateLimiter,
        places: Arc<dyn PlaceNames>,
        config: AiConfig,
    ) -> Self {
        let rankings = Rankings::new(redis, config.ranking_life);
        Self {
            db,
            sources,
            authenticator,
            limiter,
            places,
            config,
            rankings,
        }
    }
}

/// The routes, with the paths of the contract. Each is served under both prefixes; the document names the one that the
/// gateway forwards.
pub fn router(state: &AiState) -> OpenApiRouter {
    let limit = layer(
        state.limiter.clone(),
        state.config.rule,
        Subject::Caller(state.authenticator.clone()),
    );
    documented()
        .route("/api/v1/recommendations/popular", routing::get(handlers::popular))
        .layer(limit)
        .with_state(state.clone())
}

fn documented() -> OpenApiRouter<AiState> {
    OpenApiRouter::new().routes(shared::routes!(handlers::popular))
}

/// The document of the routes.
pub fn openapi() -> utoipa::openapi::OpenApi {
    documented().into_openapi()
}

/// Names of places from voyage's reference data, in process.
#[derive(Debug, Clone, Copy, Default)]
pub struct VoyagePlaces;

impl PlaceNames for VoyagePlaces {
    fn place(&self, code: &str) -> Option<Place> {
        let named = name_of(code)?;
        let reference = Reference::get();
        // what is searched is an airport or a city; what is popular is the city
        let city = match (reference.metro(named.code), reference.airport(named.code)) {
            (None, Some(airport)) => airport.city_code(),
            _ => named.code,
        };
        Some(Place {
            code: city.to_string(),
            name: named.city.to_owned(),
            country: named.country.to_owned(),
            latitude: named.coordinates.latitude,
            longitude: named.coordinates.longitude,
        })
    }
}
