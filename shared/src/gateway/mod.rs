//! The gateway: a streaming reverse proxy over the services (core §3, experience (c)).
//!
//! A pod merges the routes of its own services into one router and puts [`Gateway::router`] behind them as the
//! fallback: what no local route answers is looked up in the table and streamed to the pod that has it. Bodies are
//! never buffered, the Stripe webhook passes byte-exact, and a WebSocket upgrade works from the first request.

mod breaker;
mod headers;
mod probe;
mod proxy;
mod routes;
mod upgrade;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Map, Value, json};
use url::Url;

pub use probe::{Dependency, DependencyState};
pub use routes::{Target, is_for_services, is_internal};

use crate::{
    auth::tokens::Verifier,
    config::Reader,
    health::{Check, Finding, Health, Kind, Report, Status},
    http::client_address::TrustedProxies,
    lifecycle::Tasks,
    telemetry::VERSION,
};

/// The name of the gateway in reports.
const SERVICE: &str = "gateway-service";

/// Where the services are. A service without an address is served by the pod itself.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Base addresses of the remote services.
    pub targets: BTreeMap<Target, Url>,
    /// Those whose health is looked at (core §6.3): the ones everybody needs, and the ones somebody set an address for.
    pub probed: BTreeSet<Target>,
    /// Time to connect; 2 s unless told otherwise.
    pub connect_timeout: Duration,
    /// Time for a service to answer with headers, in place of the contract's times per service (core §3.2).
    pub read_timeout: Option<Duration>,
    /// Idle time after which a WebSocket is closed; 90 s (pings every 25 s keep it open).
    pub socket_idle: Duration,
    /// Whether the health of the services is left out (`SKIP_DEPENDENCY_HEALTH_CHECKS`).
    pub skip_probes: bool,
}

impl GatewayConfig {
    /// Reads the addresses of the services that are not `local`.
    pub fn read(reader: &mut Reader, local: &[Target]) -> Self {
        let mut targets = BTreeMap::new();
        let mut probed = BTreeSet::new();
        for target in Target::ALL.into_iter().filter(|target| !local.contains(target)) {
            if target.always_probed() || reader.is_set(target.setting()) {
                probed.insert(target);
            }
            let text = reader.or(target.setting(), target.default_address(reader), target.help());
            match Url::parse(&text) {
                Ok(url) if url.scheme() == "http" && url.host().is_some() => {
                    targets.insert(target, url);
                }
                _ => reader.problem(format!("{}: `{text}` is not an http address", target.setting())),
            }
        }
        let connect_ms = reader.or(
            "GATEWAY_CONNECT_TIMEOUT_MS",
            2_000_u64,
            "time to connect to a service, in milliseconds",
        );
        let read_timeout = reader
            .optional::<u64>(
                "GATEWAY_READ_TIMEOUT_MS",
                "time for a service to answer, in place of 10 to 60 s per service",
            )
            .map(Duration::from_millis);
        let idle = reader.or(
            "GATEWAY_SOCKET_IDLE_SECONDS",
            90_u64,
            "idle seconds after which a proxied WebSocket is closed",
        );
        let skip_probes = reader.or(
            "SKIP_DEPENDENCY_HEALTH_CHECKS",
            false,
            "leave the services out of the gateway's health report",
        );
        Self {
            targets,
            probed,
            connect_timeout: Duration::from_millis(connect_ms),
            read_timeout,
            socket_idle: Duration::from_secs(idle),
            skip_probes,
        }
    }
}

/// The proxy and what it knows of each service. Cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

struct Inner {
    config: GatewayConfig,
    client: Client<HttpConnector, Body>,
    upstreams: BTreeMap<Target, Upstream>,
    proxies: TrustedProxies,
    verifier: Option<Verifier>,
    tasks: Tasks,
}

struct Upstream {
    base: Url,
    breaker: breaker::Breaker,
    state: probe::StateCell,
}

impl Gateway {
    /// Makes the proxy; [`Gateway::start_probes`] starts watching the services. `proxies` are the peers whose word on
    /// TLS is believed.
    pub fn new(config: GatewayConfig, proxies: TrustedProxies, tasks: Tasks) -> Self {
        Self::build(config, proxies, None, tasks)
    }

    /// The same, refusing tokens that are obviously no good where one is always needed (core §3.2).
    pub fn checking(config: GatewayConfig, proxies: TrustedProxies, verifier: Verifier, tasks: Tasks) -> Self {
        Self::build(config, proxies, Some(verifier), tasks)
    }

    fn build(config: GatewayConfig, proxies: TrustedProxies, verifier: Option<Verifier>, tasks: Tasks) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(config.connect_timeout));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(256)
            .build(connector);
        let upstreams = config
            .targets
            .iter()
            .map(|(target, base)| {
                let upstream = Upstream {
                    base: base.clone(),
                    breaker: breaker::Breaker::default(),
                    state: probe::StateCell::default(),
                };
                (*target, upstream)
            })
            .collect();
        Self(Arc::new(Inner {
            config,
            client,
            upstreams,
            proxies,
            verifier,
            tasks,
        }))
    }

    /// The routes of other pods, as the fallback of the pod's own router. Only `/api/*`, `/socket.io/*`, `/ws` and
    /// `/uploads/*` are ever proxied.
    pub fn router(&self) -> Router {
        Router::new().fallback(proxy::handle).with_state(self.clone())
    }

    /// Asks every service for `/health/live` each five seconds; requests read the last answer.
    pub fn start_probes(&self) {
        if !self.0.config.skip_probes {
            probe::start(self);
        }
    }

    /// What is known of the remote services, for the health report.
    pub fn dependencies(&self) -> Vec<Dependency> {
        probe::snapshot(self)
    }

    /// The gateway's own health (core §6.3): its dependencies as last seen; degraded answers 200.
    pub fn health(&self) -> Health {
        let targets: Vec<Target> = if self.0.config.skip_probes {
            Vec::new()
        } else {
            self.0.config.probed.iter().copied().collect()
        };
        let checks = targets.into_iter().map(|target| {
            let gateway = self.clone();
            let probe = move || {
                let state = gateway
                    .0
                    .upstreams
                    .get(&target)
                    .map(|upstream| upstream.state.get())
                    .unwrap_or_default();
                std::future::ready(match state.healthy {
                    Some(false) => Finding::new(Status::Unhealthy, "does not answer"),
                    Some(true) | None => Finding::new(Status::Healthy, "answers"),
                })
            };
            Check::new(target.name(), Kind::InternalService, target.critical(), probe)
        });
        Health::new(SERVICE, VERSION, checks.collect()).degraded_is_ok()
    }

    /// What the report of the gateway's pod says beside the common keys (core §6.3): its services, those of this process first,
    /// without addresses and without error texts.
    pub fn report_dependencies(&self, report: &Report) -> Map<String, Value> {
        let local = report.checks.iter().filter(|check| check.name != SERVICE);
        let local = local.map(|check| {
            json!({
                "name": check.name,
                "critical": true,
                "healthy": matches!(check.status, Status::Healthy | Status::Degraded),
                "responseTimeMs": check.response_time,
                "timestamp": check.timestamp,
            })
        });
        let mut all: Vec<Value> = local.collect();
        let mut fields = Map::new();
        if self.0.config.skip_probes {
            fields.insert("checksSkipped".to_owned(), json!(true));
            fields.insert("reason".to_owned(), json!("SKIP_DEPENDENCY_HEALTH_CHECKS is set"));
        } else {
            all.extend(self.dependencies().iter().map(Dependency::to_json));
        }
        fields.insert("dependencies".to_owned(), Value::Array(all));
        fields
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("targets", &self.0.config.targets.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
