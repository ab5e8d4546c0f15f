//! The voyage service: search, cart, checkout, bookings (contract: voyage.md).
//!
//! It owns the schema `voyage`. Payment is reached through its client trait, everybody else through events; others reach
//! bookings through [`client::BookingClient`].

pub mod booking;
mod cart;
mod checkout;
pub mod client;
pub mod config;
mod consumer;
mod events;
mod identity;
pub mod reconcile;
mod routes;
pub mod search;
pub mod supply;

use std::{ops::Deref, sync::Arc};

use axum::extract::FromRef;
use http::StatusCode;
use shared::{
    ApiError, Sources,
    auth::Authenticator,
    db::{Db, Service, migrate::Migrations},
    http::limit::RateLimiter,
    lifecycle::Tasks,
};

pub use self::{
    client::LocalBookings,
    config::{PricePolicy, VoyageConfig},
    consumer::handler,
    reconcile::{Wake, workers},
    routes::{internal_router, openapi, router, token_only_router},
};
use self::{search::SearchState, supply::Offers};
use crate::payment::client::PaymentClient;

/// The voyage service as an owner of a schema.
#[derive(Debug, Clone, Copy)]
pub enum Voyage {}

impl Service for Voyage {
    const NAME: &'static str = "voyage-service";
    const SCHEMA: &'static str = "voyage";
}

/// The migrations of the schema `voyage`.
pub fn migrations() -> Migrations {
    Migrations::new::<Voyage>(sqlx::migrate!("../migrations/voyage"))
}

/// What voyage's handlers and workers need. A clone is one count: every layer of a request makes some.
#[derive(Clone)]
pub struct VoyageState(Arc<VoyageParts>);

/// The parts of [`VoyageState`].
pub struct VoyageParts {
    /// The schema.
    pub db: Db<Voyage>,
    /// Clock and randomness.
    pub sources: Sources,
    /// Who calls.
    pub auth: Authenticator,
    /// The payment service.
    pub payments: Arc<dyn PaymentClient>,
    /// What was quoted.
    pub offers: Offers,
    /// What searches need.
    pub search: SearchState,
    /// Where work goes that a hung-up client must not cut off.
    pub tasks: Tasks,
    /// Counts requests.
    pub limiter: RateLimiter,
    /// The settings.
    pub config: Arc<VoyageConfig>,
    /// Tells the workers that there is something to do.
    pub wake: Wake,
}

impl From<VoyageParts> for VoyageState {
    fn from(parts: VoyageParts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for VoyageState {
    type Target = VoyageParts;

    fn deref(&self) -> &VoyageParts {
        &self.0
    }
}

impl FromRef<VoyageState> for Authenticator {
    fn from_ref(state: &VoyageState) -> Self {
        state.auth.clone()
    }
}

impl std::fmt::Debug for VoyageParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VoyageParts")
    }
}

impl std::fmt::Debug for VoyageState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VoyageState")
    }
}

/// Gives failures of ours the operation's title (voyage §4: "500 `error` text"); refusals keep their own.
fn titled<T>(title: &'static str, result: Result<T, ApiError>) -> Result<T, ApiError> {
    result.map_err(|error| match error.status() {
        StatusCode::INTERNAL_SERVER_ERROR | StatusCode::SERVICE_UNAVAILABLE
            if error.code() != "PAYMENT_UNAVAILABLE" =>
        {
            error.with_title(title)
        }
        _ => error,
    })
}
