//! Liveness of the remote services, asked in the background every five seconds so that a flood of health requests never
//! reaches them (core §6.3).

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::body::Body;
use chrono::{DateTime, Utc};
use http::{Request, StatusCode};
use serde_json::{Value, json};

use super::{Gateway, Target};
use crate::sources::{Clock as _, SystemClock, iso_millis};

const PERIOD: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(3);

/// The last answer of one service.
#[derive(Debug, Clone, Default)]
pub struct DependencyState {
    /// Whether it answered 200 to `/health/live`; `None` before the first answer.
    pub healthy: Option<bool>,
    /// How long the answer took, in milliseconds.
    pub response_ms: f64,
    /// The status it answered with.
    pub status: Option<u16>,
    /// When it was asked.
    pub asked_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Default)]
pub(super) struct StateCell(Mutex<DependencyState>);

impl StateCell {
    fn set(&self, state: DependencyState) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    pub(super) fn get(&self) -> DependencyState {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A remote service as the health report shows it: no address, no raw error text.
#[derive(Debug, Clone)]
pub struct Dependency {
    /// Which service.
    pub target: Target,
    /// Its last answer.
    pub state: DependencyState,
}

impl Dependency {
    /// Whether it counts as up. Unknown counts as up for the first seconds after the start.
    pub fn is_up(&self) -> bool {
        self.state.healthy.unwrap_or(true)
    }

    /// The item of `dependencies` (core §6.3).
    pub fn to_json(&self) -> Value {
        let mut item = json!({
            "name": self.target.name(),
            "critical": self.target.critical(),
            "healthy": self.is_up(),
            "responseTimeMs": self.state.response_ms,
        });
        if let (Some(status), Some(map)) = (self.state.status, item.as_object_mut()) {
            map.insert("statusCode".into(), json!(status));
        }
        if let (false, Some(map)) = (self.is_up(), item.as_object_mut()) {
            map.insert("error".into(), json!("unavailable"));
        }
        if let (Some(at), Some(map)) = (self.state.asked_at, item.as_object_mut()) {
            map.insert("timestamp".into(), json!(iso_millis(at)));
        }
        item
    }
}

pub(super) fn start(gateway: &Gateway) {
    for target in gateway.0.config.probed.iter().copied() {
        let watched = gateway.clone();
        gateway.0.tasks.supervise("gateway.probe", move |shutdown| {
            let gateway = watched.clone();
            async move {
                loop {
                    let state = ask(&gateway, target).await;
                    if let Some(upstream) = gateway.0.upstreams.get(&target) {
                        let up = if state.healthy == Some(true) { 1.0 } else { 0.0 };
                        metrics::gauge!("dreamscape_health_component_status", "component" => target.name()).set(up);
                        upstream.state.set(state);
                    }
                    tokio::select! {
                        () = tokio::time::sleep(PERIOD) => {}
                        () = shutdown.draining() => return Ok(()),
                    }
                }
            }
        });
    }
}

async fn ask(gateway: &Gateway, target: Target) -> DependencyState {
    let started = Instant::now();
    let asked_at = Some(SystemClock.now());
    let url = gateway
        .0
        .upstreams
        .get(&target)
        .and_then(|upstream| upstream.base.join("/health/live").ok());
    let request = url.and_then(|url| Request::get(url.as_str()).body(Body::empty()).ok());
    let answer = match request {
        Some(request) => tokio::time::timeout(LIMIT, gateway.0.client.request(request))
            .await
            .ok()
            .and_then(Result::ok),
        None => None,
    };
    let status = answer.map(|response| response.status());
    DependencyState {
        healthy: Some(status == Some(StatusCode::OK)),
        response_ms: started.elapsed().as_secs_f64() * 1_000.0,
        status: status.map(|status| status.as_u16()),
        asked_at,
    }
}

pub(super) fn snapshot(gateway: &Gateway) -> Vec<Dependency> {
    let probed = gateway.0.config.probed.iter();
    probed
        .filter_map(|target| {
            let state = gateway.0.upstreams.get(target)?.state.get();
            Some(Dependency { target: *target, state })
        })
        .collect()
}
