//! The payment service: Stripe payments, webhooks, refunds and the ledger.
//!
//! contract: payment.md. Every change of a payment is one database transaction: inbox or idempotency row, guarded
//! transition, ledger entries and outbox events together. Stripe is called before or after a transaction, never in one.

mod admin;
mod charge;
pub mod client;
pub mod config;
pub mod events;
mod handlers;
pub mod health;
mod intents;
mod model;
mod refunds;
mod requests;
mod responses;
mod service;
mod settle;
mod store;
pub mod stripe;
pub mod webhook;
mod words;
pub mod worker;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRef},
};
use shared::{
    ApiError,
    auth::Authenticator,
    db::migrate::Migrations,
    http::limit::{Decision, RateLimiter, Rule},
};
use utoipa_axum::router::OpenApiRouter;

use crate::voyage::client::BookingClient;
pub use config::PaymentConfig;
pub use service::Payments;

/// The payment service as the owner of the schema `payment`.
#[derive(Debug)]
pub enum Payment {}

impl shared::db::Service for Payment {
    const NAME: &'static str = "payment-service";
    const SCHEMA: &'static str = "payment";
}

/// The tables of the payment service.
pub fn migrations() -> Migrations {
    Migrations::new::<Payment>(sqlx::migrate!("../migrations/payment"))
}

/// JSON bodies are small.
const BODY_LIMIT: usize = 100 * 1024;

/// What the handlers need.
#[derive(Clone, FromRef)]
pub struct PaymentState {
    /// The service.
    pub payments: Payments,
    /// Who is calling.
    pub authenticator: Authenticator,
    /// What bookings cost.
    pub bookings: Arc<dyn BookingClient>,
    /// How often callers may call.
    pub limits: Limits,
    /// Our own origins, to which a bank may send travellers back.
    pub origins: Arc<[String]>,
}

/// The limits of payment §3, per caller.
#[derive(Debug, Clone)]
pub struct Limits {
    limiter: RateLimiter,
    write: Rule,
    read: Rule,
}

impl Limits {
    /// The limits of the configuration.
    pub fn new(limiter: RateLimiter, config: &PaymentConfig) -> Self {
        Self {
            limiter,
            write: config.write_limit,
            read: config.read_limit,
        }
    }

    async fn write(&self, subject: &str) -> Result<Decision, ApiError> {
        self.limiter.check(&self.write, subject).await.into_result()
    }

    async fn read(&self, subject: &str) -> Result<Decision, ApiError> {
        self.limiter.check(&self.read, subject).await.into_result()
    }
}

/// Where the service's routes are; the second is an alias.
const BASES: [&str; 2] = ["/api/v1/payment", "/api/v1/payments"];

/// Where the core pod finds what nobody else may call.
const INTERNAL: &str = "/api/v1/internal";

/// The routes for callers, under both bases.
pub fn router(state: &PaymentState) -> Router {
    let routes = || Router::from(documented()).with_state(state.clone());
    BASES
        .iter()
        .fold(Router::new(), |router, base| router.nest(base, routes()))
}

/// The route for Stripe, under both bases. Apart from the others because no limit of a client's address may stand before
/// it, and because its size has a limit of its own.
pub fn webhook_router(payments: &Payments) -> Router {
    let routes = || Router::from(documented_webhook()).with_state(payments.clone());
    BASES
        .iter()
        .fold(Router::new(), |router, base| router.nest(base, routes()))
}

/// What only the core pod may call (core §2.8); no limit of a client's address stands before it.
pub fn internal_router(state: &PaymentState) -> Router {
    let (internal, _) = OpenApiRouter::new().nest(INTERNAL, internal()).split_for_parts();
    internal.with_state(state.clone())
}

fn internal() -> OpenApiRouter<PaymentState> {
    OpenApiRouter::new()
        .routes(shared::routes!(admin::put_status))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}

/// The document of all of them.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let [base, _] = BASES;
    let mut document = OpenApiRouter::new().nest(base, documented()).into_openapi();
    document.merge(OpenApiRouter::new().nest(base, documented_webhook()).into_openapi());
    document.merge(OpenApiRouter::new().nest(INTERNAL, internal()).into_openapi());
    document
}

fn documented() -> OpenApiRouter<PaymentState> {
    OpenApiRouter::new()
        .routes(shared::routes!(handlers::config))
        .routes(shared::routes!(handlers::create_intent))
        .routes(shared::routes!(handlers::confirm))
        .routes(shared::routes!(handlers::status))
        .routes(shared::routes!(handlers::status_by_id))
        .route("/intent", axum::routing::post(handlers::create_intent))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
}

fn documented_webhook() -> OpenApiRouter<Payments> {
    OpenApiRouter::new().routes(shared::routes!(webhook::receive))
}
