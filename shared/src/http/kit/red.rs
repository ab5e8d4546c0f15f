//! Rate, errors and duration of requests, by route template.
//!
//! contract: core §6.5, operations §6.10. Handles are looked up once per service, method, route and status, since the
//! recorder would build and hash a key for each request.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use http::Method;
use metrics::{Counter, Gauge, Histogram};

use crate::telemetry::{self, Exemplars};

/// The label of requests that match no route.
pub(super) const UNMATCHED: &str = "unmatched";

#[derive(Clone)]
struct Series {
    requests: Counter,
    duration: Histogram,
    exemplars: Arc<Exemplars>,
}

/// A series with its method and status.
type Labelled = (&'static str, u16, Series);

/// The series of one service.
pub(super) struct Red {
    service: &'static str,
    in_flight: OnceLock<Gauge>,
    routes: RwLock<HashMap<Box<str>, Vec<Labelled>>>,
}

impl Red {
    pub(super) fn new(service: &'static str) -> Self {
        Self {
            service,
            in_flight: OnceLock::new(),
            routes: RwLock::default(),
        }
    }

    /// Counts one request.
    pub(super) fn record(&self, method: &'static str, route: &str, status: u16, duration: Duration) {
        let series = self
            .find(method, route, status)
            .unwrap_or_else(|| self.register(method, route, status));
        series.requests.increment(1);
        series.duration.record(duration.as_secs_f64());
        if let Some(context) = telemetry::recorded_trace() {
            series.exemplars.note(context, duration.as_secs_f64());
        }
    }

    fn find(&self, method: &'static str, route: &str, status: u16) -> Option<Series> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let (_, _, series) = routes
            .get(route)?
            .iter()
            .find(|(verb, code, _)| *verb == method && *code == status)?;
        Some(series.clone())
    }

    fn register(&self, method: &'static str, route: &str, status: u16) -> Series {
        let labels = [
            ("service", self.service.to_owned()),
            ("method", method.to_owned()),
            ("route", route.to_owned()),
            ("status", status.to_string()),
        ];
        let series = Series {
            requests: metrics::counter!("http_requests_total", &labels),
            duration: metrics::histogram!("http_request_duration_seconds", &labels),
            exemplars: Exemplars::of(&labels),
        };
        // before a recorder is installed handles lead nowhere and must not be kept
        if crate::telemetry::metrics_installed() {
            let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
            routes
                .entry(route.into())
                .or_default()
                .push((method, status, series.clone()));
        }
        series
    }

    /// Moves the gauge of requests being worked on.
    pub(super) fn move_in_flight(&self, step: f64) {
        match self.in_flight.get() {
            Some(gauge) => gauge.increment(step),
            None if crate::telemetry::metrics_installed() => {
                let gauge = metrics::gauge!("http_requests_in_flight", "service" => self.service);
                self.in_flight.get_or_init(|| gauge).increment(step);
            }
            None => {}
        }
    }
}

/// The methods of HTTP as labels; whatever a client invents is one label.
pub(super) fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// The status that stands for a client that hung up before the answer.
pub(super) const CLIENT_CLOSED: u16 = 499;
