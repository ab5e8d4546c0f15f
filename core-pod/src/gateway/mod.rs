//! What the gateway answers itself: banner, lists, documents of the API, PINs for headsets; and what it asks of every request
//! on the public listener before a service sees it.
//!
//! contract: core §1.10 (gateway, pod edge), §3.4, §3.5, §2.8 (paths that nobody outside may ask for). The proxy to the other
//! pods is `shared::gateway`.

mod config;
mod documents;
mod edge;
mod handlers;
mod vr;

use std::sync::Arc;

use axum::{Router, extract::FromRef};
use shared::{
    auth::authenticator::Origins, gateway::Gateway, health::Health, http::limit::RateLimiter, redis::Redis,
    sources::Sources,
};

pub use config::{EdgeRules, GatewaySettings, VrConfig};
pub use edge::{EdgeLimit, Hidden, only_services};
use vr::Guesses;

/// What the handlers work with. Cheap to clone.
#[derive(Debug, Clone, FromRef)]
pub struct GatewayState {
    redis: Redis,
    limiter: RateLimiter,
    sources: Sources,
    origins: Origins,
    guesses: Guesses,
    config: Arc<GatewaySettings>,
    neighbours: Neighbours,
}

/// The services whose names and states are public: those of this process, and those behind the proxy.
#[derive(Debug, Clone, Default)]
struct Neighbours {
    local: Vec<Health>,
    proxy: Option<Gateway>,
}

impl GatewayState {
    /// The gateway's own routes; `origins` is the allow-list of the CORS policy.
    pub fn new(
        config: GatewaySettings,
        redis: Redis,
        limiter: RateLimiter,
        origins: &[String],
        sources: Sources,
    ) -> Self {
        let guesses = Guesses::new(redis.clone(), &limiter, &config.vr.guesses);
        Self {
            redis,
            limiter,
            sources,
            origins: Origins::new(origins),
            guesses,
            config: Arc::new(config),
            neighbours: Neighbours::default(),
        }
    }

    /// Knows the services it tells of.
    #[must_use]
    pub fn beside(mut self, local: Vec<Health>, proxy: &Gateway) -> Self {
        self.neighbours = Neighbours {
            local,
            proxy: Some(proxy.clone()),
        };
        self
    }
}

/// All routes of the gateway itself: those that say who is there and those of headsets, which nobody may keep.
pub fn routers(state: &GatewayState) -> (Router, Router) {
    (handlers::routes(state), vr::routes(state))
}

/// Their description.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = handlers::openapi();
    document.merge(vr::openapi());
    document
}
