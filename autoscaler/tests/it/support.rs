//! A stand-in for the engine on a unix socket, a real Prometheus, and a page for it to scrape.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use autoscaler::{engine::Engine, policy::Policy};
use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, UnixListener};

pub const SHIPPED: &str = include_str!("../../../docker/autoscaler/policy.yml");

pub fn policy() -> Policy {
    Policy::parse(SHIPPED).unwrap()
}

/// What the stand-in knows and was told.
#[derive(Default)]
pub struct Inner {
    pub services: Vec<Value>,
    pub nodes: Vec<Value>,
    pub tasks: Vec<Value>,
    pub secrets: Vec<Value>,
    /// Ids and descriptions that were written.
    pub written: Vec<(String, Value)>,
    /// After so many readings of one service its version moves on, as if someone else had changed it.
    pub races: u32,
    /// And its replicas become so many.
    pub race_to: Option<u32>,
    pub down: bool,
}

#[derive(Clone)]
pub struct FakeEngine(pub Arc<Mutex<Inner>>, Arc<TempDir>);

impl FakeEngine {
    pub fn start() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let fake = Self(Arc::default(), folder);
        let listener = UnixListener::bind(fake.socket()).unwrap();
        let router = Router::new()
            .route("/services", get(list))
            .route("/services/{id}", get(inspect))
            .route("/services/{id}/update", post(update))
            .route(
                "/nodes",
                get(async |State(s): State<FakeEngine>| Json(s.0.lock().unwrap().nodes.clone())),
            )
            .route(
                "/tasks",
                get(async |State(s): State<FakeEngine>| Json(s.0.lock().unwrap().tasks.clone())),
            )
            .route(
                "/secrets",
                get(async |State(s): State<FakeEngine>| Json(s.0.lock().unwrap().secrets.clone())),
            )
            .with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        {
            let mut inner = fake.0.lock().unwrap();
            inner.nodes = vec![json!({
                "ID": "n1", "Spec": {"Availability": "active"}, "Status": {"State": "ready"},
                "Description": {"Resources": {"NanoCPUs": 64_000_000_000_u64, "MemoryBytes": 128_u64 << 30}}
            })];
        }
        fake
    }

    pub fn socket(&self) -> PathBuf {
        self.1.path().join("engine.sock")
    }

    pub fn client(&self) -> Engine {
        Engine::new(self.socket(), "shop")
    }

    pub fn add(&self, stack: &str, name: &str, replicas: u32) -> String {
        let mut inner = self.0.lock().unwrap();
        let id = format!("id{}", inner.services.len());
        inner.services.push(json!({
            "ID": id, "Version": {"Index": 10}, "CreatedAt": "2026-11-25T21:00:00Z",
            "Spec": {
                "Name": format!("{stack}_{name}"), "Labels": {"com.docker.stack.namespace": stack},
                "TaskTemplate": {
                    "ContainerSpec": {"Image": "registry/pod:1@sha256:00", "Env": ["A=b"]},
                    "Resources": {"Reservations": {"NanoCPUs": 500_000_000, "MemoryBytes": 536_870_912}},
                    "ForceUpdate": 3
                },
                "Mode": {"Replicated": {"Replicas": replicas}}, "UpdateConfig": {"Parallelism": 1, "Order": "start-first"}
            },
            "ServiceStatus": {"RunningTasks": replicas, "DesiredTasks": replicas, "CompletedTasks": 0}
        }));
        id
    }

    pub fn change(&self, id: &str, change: impl FnOnce(&mut Value)) {
        let mut inner = self.0.lock().unwrap();
        change(inner.services.iter_mut().find(|service| service["ID"] == id).unwrap());
    }

    pub fn replicas(&self, id: &str) -> u64 {
        let inner = self.0.lock().unwrap();
        let service = inner.services.iter().find(|service| service["ID"] == id).unwrap();
        service["Spec"]["Mode"]["Replicated"]["Replicas"].as_u64().unwrap()
    }

    pub fn written(&self) -> Vec<(String, Value)> {
        self.0.lock().unwrap().written.clone()
    }
}

fn refusal(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"message": message}))).into_response()
}

/// Gives all services whatever the filter says: the client must not rely on it.
async fn list(State(fake): State<FakeEngine>) -> Response {
    let inner = fake.0.lock().unwrap();
    if inner.down {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "This node is not a swarm manager.");
    }
    Json(inner.services.clone()).into_response()
}

async fn inspect(State(fake): State<FakeEngine>, Path(id): Path<String>) -> Response {
    let mut inner = fake.0.lock().unwrap();
    let (races, race_to) = (inner.races, inner.race_to);
    inner.races = races.saturating_sub(1);
    let Some(service) = inner.services.iter_mut().find(|service| service["ID"] == id) else {
        return refusal(StatusCode::NOT_FOUND, &format!("service {id} not found"));
    };
    let mut answer = service.clone();
    // one service does not come with its status
    answer.as_object_mut().unwrap().remove("ServiceStatus");
    if races > 0 {
        service["Version"]["Index"] = json!(service["Version"]["Index"].as_u64().unwrap() + 1);
        if let Some(to) = race_to {
            service["Spec"]["Mode"]["Replicated"]["Replicas"] = json!(to);
        }
    }
    Json(answer).into_response()
}

async fn update(
    State(fake): State<FakeEngine>,
    Path(id): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    Json(spec): Json<Value>,
) -> Response {
    let mut inner = fake.0.lock().unwrap();
    let Some(service) = inner.services.iter_mut().find(|service| service["ID"] == id) else {
        return refusal(StatusCode::NOT_FOUND, &format!("service {id} not found"));
    };
    let index = service["Version"]["Index"].as_u64().unwrap();
    if query["version"] != index.to_string() {
        let message = "rpc error: code = Unknown desc = update out of sequence";
        return refusal(StatusCode::INTERNAL_SERVER_ERROR, message);
    }
    service["Version"]["Index"] = json!(index + 1);
    service["Spec"] = spec.clone();
    let replicas = &spec["Mode"]["Replicated"]["Replicas"];
    service["ServiceStatus"] = json!({"RunningTasks": replicas, "DesiredTasks": replicas, "CompletedTasks": 0});
    inner.written.push((id, spec));
    Json(json!({"Warnings": null})).into_response()
}

/// A page of metrics and a real Prometheus that scrapes it every fifth of a second.
pub struct Scraped {
    pub url: String,
    page: Arc<Mutex<String>>,
    process: Child,
    _folder: TempDir,
}

impl Scraped {
    /// `None`, and a SKIP line, where no Prometheus is installed.
    pub async fn start(page: &str) -> Option<Self> {
        let version = Command::new("prometheus").arg("--version").output();
        if version.is_err() {
            println!("SKIP a real Prometheus (the Debian package prometheus is not installed)");
            return None;
        }
        let page = Arc::new(Mutex::new(page.to_owned()));
        let shown = page.clone();
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = target.local_addr().unwrap();
        let router = Router::new().route("/metrics", get(async move || shown.lock().unwrap().clone()));
        tokio::spawn(async move { axum::serve(target, router).await });

        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
             scrape_configs: [{{job_name: page, static_configs: [{{targets: ['{address}']}}]}}]\n"
        );
        std::fs::write(&config, text).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = free.local_addr().unwrap();
        drop(free);
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={own}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let scraped = Self {
            url: format!("http://{own}"),
            page,
            process,
            _folder: folder,
        };
        scraped.until("up", 1.0).await;
        Some(scraped)
    }

    pub fn show(&self, page: &str) {
        page.clone_into(&mut self.page.lock().unwrap());
    }

    pub async fn until(&self, query: &str, value: f64) {
        let client = autoscaler::prometheus::Prometheus::new(&self.url);
        for _ in 0..600 {
            if client.value(query).await.ok().flatten() == Some(value) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("{query} never became {value}");
    }

    pub fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Scraped {
    fn drop(&mut self) {
        self.stop();
    }
}
