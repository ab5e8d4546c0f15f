//! Health and the card of the payment service, in the shape its readers know.
//!
//! contract: payment §4.10, core §6. `checks` is an object here; a component that is not configured is left out; only the
//! database makes the service unhealthy. No balance, no addresses, no driver texts.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    routing::{MethodRouter, get},
};
use http::StatusCode;
use serde_json::{Map, Value, json};
use shared::{
    events::kafka::Producer,
    health::{self, Check, Finding, Health, Kind, Report, Status},
    http::response_timestamp,
};
use tokio::{sync::Mutex, time::Instant};

use super::{Payment, Payments, migrations};

/// Stripe is asked at most this often.
const STRIPE_FRESH: Duration = Duration::from_secs(30);

/// The service's dependencies.
pub fn checks(payments: &Payments, kafka: Option<Producer>) -> Vec<Check> {
    let mut checks = vec![Check::postgres::<Payment>(payments.db(), migrations())];
    if let Some(producer) = kafka {
        checks.push(Check::new("Kafka", Kind::MessageQueue, false, move || {
            let producer = producer.clone();
            async move { finding(producer.connected().await, json!({ "connected": true })) }
        }));
    }
    if payments.stripe_if_configured().is_some() {
        let last: Arc<Mutex<Option<(Instant, bool)>>> = Arc::default();
        let payments = payments.clone();
        checks.push(Check::new("Stripe", Kind::ExternalApi, false, move || {
            let (payments, last) = (payments.clone(), last.clone());
            async move {
                let reachable = stripe_answers(&payments, &last).await;
                finding(reachable, json!({ "livemode": payments.livemode() }))
            }
        }));
    }
    checks
}

async fn stripe_answers(payments: &Payments, last: &Mutex<Option<(Instant, bool)>>) -> bool {
    let mut last = last.lock().await;
    if let Some((at, reachable)) = *last
        && at.elapsed() < STRIPE_FRESH
    {
        return reachable;
    }
    let reachable = match payments.stripe_if_configured() {
        Some(stripe) => stripe.ping().await.is_ok(),
        None => false,
    };
    *last = Some((Instant::now(), reachable));
    reachable
}

fn finding(healthy: bool, details: Value) -> Finding {
    if healthy {
        return Finding {
            details: Some(details),
            ..Finding::new(Status::Healthy, "reachable")
        };
    }
    Finding {
        details: Some(json!({ "error": "unavailable" })),
        ..Finding::new(Status::Unhealthy, "not reachable")
    }
}

/// The full report under the paths of the service's own listener: the probes are those of every service.
pub fn routes(health: &Health) -> Router {
    let probes = health::routes(health.clone()).into_service::<Body>();
    let mut router = Router::new().route("/", get(card));
    for base in ["/health", "/api/health"] {
        router = router.route(base, full(health));
        for probe in ["live", "ready"] {
            router = router.route_service(&format!("{base}/{probe}"), probes.clone());
        }
    }
    router
        .route_service("/live", probes.clone())
        .route_service("/ready", probes)
}

/// The full report beside the API, on every listener that carries it.
pub fn alias(path: &str, health: &Health) -> Router {
    Router::new().route(path, full(health))
}

fn full(health: &Health) -> MethodRouter {
    let health = health.clone();
    get(|| async move {
        let report = health.report().await;
        let status = if report.status == Status::Unhealthy {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        };
        (status, Json(body(&report)))
    })
}

fn body(report: &Report) -> Value {
    let status = match report.status {
        Status::Healthy => "ok",
        Status::Degraded => "degraded",
        Status::Unhealthy | Status::Unknown => "unhealthy",
    };
    let checks: Map<String, Value> = report
        .checks
        .iter()
        .map(|check| {
            let (name, default) = match check.name {
                "PostgreSQL" => ("database".to_owned(), json!({ "connected": true })),
                other => (other.to_lowercase(), json!({})),
            };
            let healthy = check.status == Status::Healthy;
            let details = match (&check.details, healthy) {
                (Some(details), _) => details.clone(),
                (None, true) => default,
                (None, false) => json!({ "error": "unavailable" }),
            };
            (name, json!({ "healthy": healthy, "details": details }))
        })
        .collect();
    json!({ "status": status, "service": "payment-service", "timestamp": response_timestamp(), "checks": checks })
}

/// What this listener is.
async fn card() -> Json<Value> {
    Json(json!({
        "service": "DreamScape Payment Service",
        "version": "1.0.0",
        "status": "running",
        "endpoints": { "health": "/health", "payment": "/api/v1/payment" },
    }))
}
