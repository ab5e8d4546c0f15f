//! A small pod, run the way the launcher and tests run the real ones.

use std::time::Duration;

use axum::{Router, routing::get};
use http::StatusCode;

use super::*;
use crate::{
    health::{self, Health},
    http::{HttpConfig, Kit},
    lifecycle::Shutdown,
};

struct Small;

impl Pod for Small {
    const NAME: &'static str = "small-pod";
    const ABOUT: &'static str = "One service that says hello";
    type Config = HttpConfig;

    fn read(reader: &mut Reader) -> HttpConfig {
        reader.secret("GREETING_KEY", "signs the greeting");
        HttpConfig::read(reader)
    }

    fn listeners(reader: &mut Reader) -> Addresses {
        let port = |setting, development| Port { setting, development };
        let services = [("hello", port("HELLO_PORT", 3999))];
        Addresses::read(
            reader,
            port("SMALL_PORT", 3998),
            port("SMALL_METRICS_PORT", 3997),
            &services,
        )
    }

    fn migrations() -> Vec<Migrations> {
        Vec::new()
    }

    fn openapi() -> utoipa::openapi::OpenApi {
        utoipa::openapi::OpenApi::default()
    }

    async fn serve(config: HttpConfig, listeners: Listeners, tasks: Tasks) -> anyhow::Result<()> {
        let service = Health::new("hello-service", "1.0.0", Vec::new()).in_process(Self::NAME, "test", &tasks);
        let pod = Health::of_pod(Self::NAME, "Small Pod", vec![service.clone()]).in_process(Self::NAME, "test", &tasks);
        let kit = Kit::new("hello-service", &config, None);
        let hello = || Router::new().route("/hello", get(|| async { "hello" }));
        let public = kit.wrap(hello().merge(health::routes(pod.clone())));
        let server = Server::new(listeners, &tasks).service("hello", kit.wrap(hello().merge(health::routes(service))));
        server.run(public, pod).await;
        Ok(())
    }
}

struct Ask {
    client: reqwest::Client,
    bound: std::collections::BTreeMap<&'static str, std::net::SocketAddr>,
}

impl Ask {
    async fn get(&self, listener: &str, path: &str) -> (StatusCode, String) {
        let response = self
            .client
            .get(format!("http://{}{path}", self.bound[listener]))
            .send()
            .await
            .unwrap();
        (response.status(), response.text().await.unwrap())
    }
}

async fn start() -> (
    Ask,
    Tasks,
    tokio::task::JoinHandle<anyhow::Result<std::process::ExitCode>>,
) {
    let listeners = Listeners::loopback(&["hello"]).await.unwrap();
    let bound = listeners.bound();
    let tasks = Tasks::new(Shutdown::new());
    tasks.shutdown().halt_after_drain(Duration::from_secs(20));
    let (config, serving) = (HttpConfig::default(), tasks.clone());
    let pod = tasks.clone();
    let running = tokio::spawn(async move { until_the_end(Small::serve(config, listeners, pod), &serving).await });
    (
        Ask {
            client: reqwest::Client::new(),
            bound,
        },
        tasks,
        running,
    )
}

fn succeeded(code: std::process::ExitCode) -> bool {
    format!("{code:?}") == format!("{:?}", std::process::ExitCode::SUCCESS)
}

#[tokio::test]
async fn a_pod_answers_on_all_its_listeners_and_drains() {
    let (ask, tasks, running) = start().await;
    assert_eq!(ask.get("public", "/hello").await.1, "hello");
    assert_eq!(ask.get("hello", "/hello").await.1, "hello");
    assert!(
        ask.get("public", "/health")
            .await
            .1
            .contains("\"service\":\"small-pod\"")
    );
    assert!(
        ask.get("hello", "/health")
            .await
            .1
            .contains("\"service\":\"hello-service\"")
    );
    let (status, metrics) = ask.get("metrics", "/metrics").await;
    assert!(status.is_success() && metrics.contains("dreamscape_build_info") && metrics.contains("process_open_fds"));
    assert!(ask.get("metrics", "/status").await.1.contains("\"pod\":\"small\""));
    for (listener, path) in [("public", "/metrics"), ("public", "/status"), ("metrics", "/hello")] {
        assert_eq!(
            ask.get(listener, path).await.0,
            StatusCode::NOT_FOUND,
            "{listener} {path}"
        );
    }
    tasks.shutdown().drain();
    let code = tokio::time::timeout(Duration::from_secs(20), running)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(succeeded(code));
    assert!(tasks.running().is_empty());
}

#[tokio::test]
async fn a_task_that_fails_too_often_ends_the_process_as_a_failure() {
    let (ask, tasks, running) = start().await;
    assert_eq!(ask.get("public", "/health/live").await.0, StatusCode::OK);
    tasks.supervise("broken", |_| async { Err(anyhow::anyhow!("a bug")) });
    let code = tokio::time::timeout(Duration::from_secs(20), running)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(!succeeded(code) && !tasks.is_alive());
}

#[tokio::test]
async fn a_pod_that_returns_unasked_is_a_failure_and_so_is_one_that_panics() {
    let tasks = Tasks::new(Shutdown::new());
    assert!(!succeeded(until_the_end(async { Ok(()) }, &tasks).await.unwrap()));
    let tasks = Tasks::new(Shutdown::new());
    tasks.spawn("stuck", std::future::pending());
    assert!(until_the_end(async { panic!("a bug") }, &tasks).await.is_err());
    tasks.finished().await;
}

#[test]
fn the_reference_lists_the_settings_of_the_process_and_of_the_pod() {
    let reference = reference::<Small>();
    for part in [
        "| `APP_ENV` |",
        "| `LOG_LEVEL` |",
        "| `SHUTDOWN_DRAIN_SECONDS` |",
        "| `GREETING_KEY` or `GREETING_KEY_FILE` |",
        "| `SMALL_PORT` | port of the listener, 0 for any | `3998`; in production – |",
        "| `PORT` |",
        "| `HTTP_MAX_IN_FLIGHT` |",
        "`0`; in production `16` |",
    ] {
        assert!(reference.contains(part), "{part} is missing in\n{reference}");
    }
}
