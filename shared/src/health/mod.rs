//! Health: live, ready and the full report of a service, and the aggregate of a pod.
//!
//! contract: core §6. A report is made at most once a second however often it is asked for, by one caller while the others
//! wait for it, so that a flood of health requests reaches no back end. Nothing that a driver says leaves the process.

mod check;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures_util::future::{BoxFuture, join_all};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

pub use self::check::{Check, CheckReport, Finding, Kind, Status};
use crate::{
    http::response_timestamp,
    lifecycle::Tasks,
    telemetry::{VERSION, process},
};

/// A report is good for this long.
const FRESH: Duration = Duration::from_secs(1);
/// No report takes longer, whatever its checks may.
const LONGEST: Duration = Duration::from_secs(5);

/// All checks of a service at one moment.
#[derive(Debug, Clone)]
pub struct Report {
    /// The sum.
    pub status: Status,
    /// The parts.
    pub checks: Vec<CheckReport>,
}

impl Report {
    fn new(checks: Vec<CheckReport>) -> Self {
        let any = |wanted: &dyn Fn(&CheckReport) -> bool| checks.iter().any(wanted);
        let status = if any(&|check| check.critical && check.status == Status::Unhealthy) {
            Status::Unhealthy
        } else if any(&|check| matches!(check.status, Status::Degraded | Status::Unhealthy)) {
            Status::Degraded
        } else if !checks.is_empty() && checks.iter().all(|check| check.status == Status::Unknown) {
            Status::Unknown
        } else {
            Status::Healthy
        };
        Self { status, checks }
    }

    /// The name of the first critical dependency that does not work.
    fn missing(&self) -> Option<&'static str> {
        self.checks
            .iter()
            .find(|check| check.critical && check.status == Status::Unhealthy)
            .map(|check| check.name)
    }
}

/// What a full report says beside the common keys.
#[derive(Clone)]
struct More(Arc<dyn Fn(&Report) -> Map<String, Value> + Send + Sync>);

impl std::fmt::Debug for More {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("More")
    }
}

/// The health of one service or pod. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    service: &'static str,
    version: &'static str,
    checks: Vec<Check>,
    parts: Vec<Health>,
    pod: &'static str,
    environment: &'static str,
    degraded: StatusCode,
    text: Option<&'static str>,
    more: Option<More>,
    tasks: Option<Tasks>,
    last: Mutex<Option<(Instant, Arc<Report>)>>,
}

impl Health {
    /// The health of a service with these dependencies.
    pub fn new(service: &'static str, version: &'static str, checks: Vec<Check>) -> Self {
        Self(Arc::new(Inner {
            service,
            version,
            checks,
            parts: Vec::new(),
            pod: service,
            environment: "development",
            degraded: StatusCode::PARTIAL_CONTENT,
            text: None,
            more: None,
            tasks: None,
            last: Mutex::default(),
        }))
    }

    /// The aggregate of a pod: `text` is its name in plain answers, `Core Pod`.
    pub fn of_pod(pod: &'static str, text: &'static str, parts: Vec<Self>) -> Self {
        let checks = parts.iter().map(|part| {
            let service = part.clone();
            let probe = move || {
                let service = service.clone();
                async move { Finding::new(service.report().await.status, "see its own report") }
            };
            // each part limits its own checks
            Check::new(part.0.service, Kind::InternalService, true, probe)
                .with_timeout(LONGEST)
                .in_readiness(part.0.service)
        });
        let checks = checks.collect();
        let whole = Self::new(pod, VERSION, checks).degraded_is_ok();
        whole.changed(|inner| {
            inner.text = Some(text);
            inner.parts = parts;
        })
    }

    /// Says in which pod and environment the service runs, and lets liveness and readiness follow the process.
    #[must_use]
    pub fn in_process(self, pod: &'static str, environment: &'static str, tasks: &Tasks) -> Self {
        self.changed(|inner| {
            inner.pod = pod;
            inner.environment = environment;
            inner.tasks = Some(tasks.clone());
        })
    }

    /// Degraded answers 200 instead of 206 (gateway, payment, ai, pods).
    #[must_use]
    pub fn degraded_is_ok(self) -> Self {
        self.changed(|inner| inner.degraded = StatusCode::OK)
    }

    /// Adds keys of its own to the full report: the `dependencies` of a gateway (core §6.3).
    #[must_use]
    pub fn with_more(self, more: impl Fn(&Report) -> Map<String, Value> + Send + Sync + 'static) -> Self {
        self.changed(|inner| inner.more = Some(More(Arc::new(more))))
    }

    /// Changes a health that is still being built; a shared one is rebuilt from its parts.
    fn changed(self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = Arc::try_unwrap(self.0).unwrap_or_else(|shared| Inner {
            service: shared.service,
            version: shared.version,
            checks: shared.checks.clone(),
            parts: shared.parts.clone(),
            pod: shared.pod,
            environment: shared.environment,
            degraded: shared.degraded,
            text: shared.text,
            more: shared.more.clone(),
            tasks: shared.tasks.clone(),
            last: Mutex::default(),
        });
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// The service's name.
    pub fn service(&self) -> &'static str {
        self.0.service
    }

    /// The checks' results, at most a second old.
    pub async fn report(&self) -> Arc<Report> {
        let mut last = self.0.last.lock().await;
        if let Some((made, report)) = &*last
            && made.elapsed() < FRESH
        {
            return report.clone();
        }
        // parts are boxed: a pod's report contains those of its services
        let looking: BoxFuture<'_, Vec<CheckReport>> = Box::pin(join_all(self.0.checks.iter().map(Check::run)));
        let report = Arc::new(Report::new(looking.await));
        self.publish(&report);
        *last = Some((Instant::now(), report.clone()));
        report
    }

    fn publish(&self, report: &Report) {
        let number = |works: bool| if works { 1.0 } else { 0.0 };
        let works = matches!(report.status, Status::Healthy | Status::Degraded);
        metrics::gauge!("dreamscape_health_status", "service" => self.0.service).set(number(works));
        for check in &report.checks {
            let labels = [("service", self.0.service), ("component", check.name)];
            metrics::gauge!("dreamscape_health_component_status", &labels).set(number(check.status == Status::Healthy));
        }
    }

    /// Whether the process should go on living. No I/O.
    pub fn is_alive(&self) -> bool {
        self.0.tasks.as_ref().is_none_or(Tasks::is_alive)
    }

    fn is_draining(&self) -> bool {
        self.0
            .tasks
            .as_ref()
            .is_some_and(|tasks| tasks.shutdown().is_draining())
    }

    /// The full report (core §6.1).
    async fn full(&self, headers: &HeaderMap) -> Response {
        let report = self.report().await;
        let status = match report.status {
            Status::Healthy => StatusCode::OK,
            Status::Degraded => self.0.degraded,
            Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
            Status::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if let Some(name) = self.0.text.filter(|_| wants_text(headers)) {
            let word = match report.status {
                Status::Healthy | Status::Degraded => "Healthy",
                Status::Unhealthy | Status::Unknown => "Unhealthy",
            };
            return (status, format!("{name} {word}\n")).into_response();
        }
        (status, Json(self.body(&report))).into_response()
    }

    /// The body of the full report. What a pod says of itself is public, so it tells nothing of memory and load; those of its
    /// services do, as clients expect (core §6.1, §6.3).
    pub fn body(&self, report: &Report) -> Value {
        let mut metadata = json!({
            "environment": self.0.environment,
            "hostname": self.0.pod,
            "pid": std::process::id(),
        });
        if let (None, Some(metadata)) = (self.0.text, metadata.as_object_mut()) {
            let (used, total) = (process::Usage::now().resident, process::memory_limit().max(1));
            let megabytes = |bytes: u64| bytes / (1024 * 1024);
            let memory = json!({
                "used": megabytes(used),
                "total": megabytes(total),
                "percentage": used.saturating_mul(100) / total,
            });
            metadata.insert("memory".to_owned(), memory);
            metadata.insert("cpu".to_owned(), json!({ "usage": process::cpu_percent() }));
        }
        let mut body = json!({
            "status": report.status,
            "timestamp": response_timestamp(),
            "uptime": process::uptime(),
            "service": self.0.service,
            "version": self.0.version,
            "checks": report.checks,
            "metadata": metadata,
        });
        if let (Some(More(more)), Some(fields)) = (&self.0.more, body.as_object_mut()) {
            fields.append(&mut more(report));
        }
        body
    }

    fn live(&self) -> Response {
        let alive = self.is_alive();
        let status = if alive {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let body = json!({
            "alive": alive,
            "service": self.0.service,
            "timestamp": response_timestamp(),
            "uptime": process::uptime(),
        });
        (status, Json(body)).into_response()
    }

    /// Whether traffic may come (core §6.2): not while draining, not before the migrations.
    async fn ready(&self) -> Response {
        let report = self.report().await;
        let dependencies: BTreeMap<_, _> = report
            .checks
            .iter()
            .filter_map(|check| Some((check.key?, check.works())))
            .collect();
        let reason = if self.is_draining() {
            Some("shutting down".to_owned())
        } else {
            report.missing().map(|name| format!("{name} not ready"))
        };
        let mut body = json!({
            "ready": reason.is_none(),
            "service": self.0.service,
            "timestamp": response_timestamp(),
            "dependencies": dependencies,
        });
        let status = if reason.is_none() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        if let (Some(reason), Some(fields)) = (reason, body.as_object_mut()) {
            fields.insert("reason".to_owned(), json!(reason));
        }
        (status, Json(body)).into_response()
    }

    /// The overview of a pod for its metrics listener (core §6.4).
    pub async fn overview(&self) -> Value {
        let report = self.report().await;
        let services: Vec<_> = report
            .checks
            .iter()
            .map(|check| json!({"name": check.name, "status": check.status}))
            .collect();
        json!({
            "status": report.status,
            "pod": self.0.service.trim_end_matches("-pod"),
            "services": services,
            "timestamp": response_timestamp(),
        })
    }
}

fn wants_text(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let first = |kind| accept.find(kind).unwrap_or(usize::MAX);
    first("text/plain") < first("application/json")
}

/// The health routes of a listener (core §6): below `/health` and `/api/health`, and `/live` and `/ready`.
pub fn routes(health: Health) -> Router {
    let full = get(|State(health): State<Health>, headers: HeaderMap| async move { health.full(&headers).await });
    let live = get(|State(health): State<Health>| async move { health.live() });
    let ready = get(|State(health): State<Health>| async move { health.ready().await });
    let mut router = Router::new()
        .route("/live", live.clone())
        .route("/ready", ready.clone());
    for base in ["/health", "/api/health"] {
        router = router
            .route(base, full.clone())
            .route(&format!("{base}/live"), live.clone())
            .route(&format!("{base}/ready"), ready.clone());
    }
    router.with_state(health)
}

/// The full report under another path: `/api/v1/auth/health`.
pub fn alias(path: &str, health: Health) -> Router {
    let full = get(|State(health): State<Health>, headers: HeaderMap| async move { health.full(&headers).await });
    Router::new().route(path, full).with_state(health)
}

#[cfg(test)]
mod tests;
