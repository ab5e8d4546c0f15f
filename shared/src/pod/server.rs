//! All listeners of a pod, from the first accept to the last answer.

use axum::{Json, Router, extract::State, routing::get};
use futures_util::future::join_all;
use http::{HeaderMap, header};
use tokio::net::TcpListener;

use super::Listeners;
use crate::{
    health::Health,
    http::{HttpConfig, Kit, server},
    lifecycle::Tasks,
    telemetry::{Metrics, OPEN_METRICS},
};

/// The listeners of a pod with what each of them serves.
#[derive(Debug)]
pub struct Server {
    listeners: Listeners,
    tasks: Tasks,
    routed: Vec<(TcpListener, Router)>,
}

impl Server {
    /// A server over bound listeners.
    pub fn new(listeners: Listeners, tasks: &Tasks) -> Self {
        Self {
            listeners,
            tasks: tasks.clone(),
            routed: Vec::new(),
        }
    }

    /// Serves `router` on the listener of one service, where there is one.
    #[must_use]
    pub fn service(mut self, name: &str, router: Router) -> Self {
        if let Some(listener) = self.listeners.services.remove(name) {
            self.routed.push((listener, router));
        }
        self
    }

    /// Serves `public` and the pod's metrics until the drain is over, and tells the workers that wait for that.
    pub async fn run(self, public: Router, health: Health) {
        let Self {
            listeners,
            tasks,
            mut routed,
        } = self;
        let metrics = Metrics::current();
        metrics.keep_up(&tasks);
        routed.push((listeners.public, public));
        routed.push((listeners.metrics, metrics_routes(metrics, health)));
        let shutdown = tasks.shutdown();
        let serving = routed
            .into_iter()
            .map(|(listener, router)| server::serve(listener, router, listeners.server, shutdown.clone()));
        join_all(serving).await;
        shutdown.set_served();
        tracing::info!("listeners closed");
    }
}

/// `/metrics` and `/status`, which only the metrics listener answers (core §6.4, §6.5).
fn metrics_routes(metrics: Metrics, health: Health) -> Router {
    let scrape = |State((metrics, health)): State<(Metrics, Health)>, headers: HeaderMap| async move {
        // brings the gauges of health up to date
        health.report().await;
        let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        if accepts.is_some_and(|accepts| accepts.contains("application/openmetrics-text")) {
            ([(header::CONTENT_TYPE, OPEN_METRICS)], metrics.render_open())
        } else {
            (
                [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
                metrics.render(),
            )
        }
    };
    let status = |State((_, health)): State<(Metrics, Health)>| async move { Json(health.overview().await) };
    let router = Router::new()
        .route("/metrics", get(scrape))
        .route("/status", get(status));
    Kit::new("metrics", &HttpConfig::default(), None).wrap(router.with_state((metrics, health)))
}
