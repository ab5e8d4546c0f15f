//! Health over HTTP.

use std::sync::{
    Mutex as StdMutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{body::Body, extract::Request};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;
use crate::lifecycle::Shutdown;

/// A dependency whose state a test sets, and which counts how often it was looked at.
#[derive(Clone)]
struct Dependency {
    status: Arc<StdMutex<Status>>,
    looks: Arc<AtomicUsize>,
}

impl Dependency {
    fn new(status: Status) -> Self {
        Self {
            status: Arc::new(StdMutex::new(status)),
            looks: Arc::default(),
        }
    }

    fn check(&self, name: &'static str, critical: bool) -> Check {
        let own = self.clone();
        Check::new(name, Kind::Database, critical, move || {
            own.looks.fetch_add(1, Ordering::SeqCst);
            let status = *own.status.lock().unwrap();
            async move { Finding::new(status, "looked at") }
        })
    }
}

async fn ask(router: Router, path: &str, accept: &str) -> (u16, String) {
    let request = Request::builder()
        .uri(path)
        .header("accept", accept)
        .body(Body::empty())
        .unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

async fn report(health: &Health, path: &str) -> (u16, Value) {
    let (status, text) = ask(routes(health.clone()), path, "*/*").await;
    (status, serde_json::from_str(&text).unwrap())
}

fn health(critical: Status, other: Status) -> Health {
    let checks = vec![
        Dependency::new(critical)
            .check("PostgreSQL", true)
            .in_readiness("postgresql"),
        Dependency::new(other).check("Redis Cache", false).in_readiness("redis"),
    ];
    Health::new("auth-service", "1.0.0", checks)
}

#[tokio::test]
async fn the_full_report_has_the_contract_s_shape() {
    for path in ["/health", "/api/health"] {
        let (status, body) = report(&health(Status::Healthy, Status::Healthy), path).await;
        assert_eq!((status, &body["status"]), (200, &json!("healthy")));
        assert_eq!(
            (&body["service"], &body["version"]),
            (&json!("auth-service"), &json!("1.0.0"))
        );
        assert!(body["uptime"].is_u64() && body["timestamp"].as_str().unwrap().ends_with('Z'));
        let check = &body["checks"][0];
        assert_eq!(
            (&check["name"], &check["type"], &check["status"]),
            (&json!("PostgreSQL"), &json!("database"), &json!("healthy"))
        );
        assert!(
            check["responseTime"].as_f64().unwrap() > 0.0
                && check["message"].is_string()
                && check["timestamp"].is_string()
        );
        let metadata = &body["metadata"];
        assert!(
            metadata["pid"].is_u64() && metadata["cpu"]["usage"].is_number(),
            "{metadata}"
        );
        assert!(metadata["memory"]["used"].as_u64().unwrap() > 0 && metadata["memory"]["percentage"].is_u64());
    }
}

#[tokio::test]
async fn what_is_not_critical_degrades_and_what_is_critical_fails() {
    use Status::{Degraded, Healthy, Unhealthy, Unknown};
    for (critical, other, status, word) in [
        (Healthy, Unhealthy, 206, "degraded"),
        (Healthy, Degraded, 206, "degraded"),
        (Degraded, Healthy, 206, "degraded"),
        (Unhealthy, Healthy, 503, "unhealthy"),
        (Unknown, Unknown, 500, "unknown"),
    ] {
        let (code, body) = report(&health(critical, other), "/health").await;
        assert_eq!((code, body["status"].as_str().unwrap()), (status, word));
    }
    let gateway = health(Healthy, Unhealthy).degraded_is_ok();
    assert_eq!(report(&gateway, "/health").await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_is_timed_out() {
    let hung = Check::new("Kafka", Kind::MessageQueue, false, std::future::pending::<Finding>);
    let (status, body) = report(&Health::new("auth-service", "1.0.0", vec![hung]), "/health").await;
    assert_eq!((status, &body["checks"][0]["message"]), (206, &json!("timed out")));
}

#[tokio::test]
async fn a_flood_of_requests_looks_once() {
    let dependency = Dependency::new(Status::Healthy);
    let health = Health::new("auth-service", "1.0.0", vec![dependency.check("PostgreSQL", true)]);
    join_all((0..200).map(|_| report(&health, "/health"))).await;
    let looks = dependency.looks.load(Ordering::SeqCst);
    assert!(looks <= 2, "{looks}");
    report(&health, "/health/live").await;
    assert_eq!(dependency.looks.load(Ordering::SeqCst), looks, "liveness does no I/O");
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    for path in ["/health/ready", "/api/health/ready", "/ready"] {
        let (status, body) = report(&health(Status::Healthy, Status::Unhealthy), path).await;
        assert_eq!((status, &body["ready"]), (200, &json!(true)));
        assert_eq!(body["dependencies"], json!({"postgresql": true, "redis": false}));
        let (status, body) = report(&health(Status::Unhealthy, Status::Healthy), path).await;
        assert_eq!(
            (status, &body["ready"], &body["reason"]),
            (503, &json!(false), &json!("PostgreSQL not ready"))
        );
    }
}

#[tokio::test]
async fn a_draining_process_is_alive_and_not_ready() {
    let tasks = Tasks::new(Shutdown::new());
    let health = health(Status::Healthy, Status::Healthy).in_process("core-pod", "test", &tasks);
    assert_eq!(report(&health, "/health/ready").await.0, 200);
    tasks.shutdown().drain();
    let (status, body) = report(&health, "/health/ready").await;
    assert_eq!((status, &body["reason"]), (503, &json!("shutting down")));
    let (status, body) = report(&health, "/health/live").await;
    assert_eq!(
        (status, &body["alive"], &body["service"]),
        (200, &json!(true), &json!("auth-service"))
    );
}

#[tokio::test]
async fn a_pod_is_what_its_services_are() {
    let pod = |auth, user| {
        Health::of_pod(
            "core-pod",
            "Core Pod",
            vec![health(auth, Status::Healthy), {
                Health::new(
                    "user-service",
                    "1.0.0",
                    vec![Dependency::new(user).check("PostgreSQL", true)],
                )
            }],
        )
    };
    let well = pod(Status::Healthy, Status::Degraded);
    let (status, body) = report(&well, "/health").await;
    assert_eq!(
        (status, &body["status"], &body["service"]),
        (200, &json!("degraded"), &json!("core-pod"))
    );
    assert_eq!(
        (&body["checks"][1]["name"], &body["checks"][1]["type"]),
        (&json!("user-service"), &json!("internal_service"))
    );
    assert_eq!(
        ask(routes(well.clone()), "/health", "text/plain").await,
        (200, "Core Pod Healthy\n".to_owned())
    );
    assert!(
        ask(routes(well.clone()), "/health", "application/json, text/plain, */*")
            .await
            .1
            .starts_with('{')
    );
    assert_eq!(report(&well, "/ready").await.0, 200);
    let ill = pod(Status::Healthy, Status::Unhealthy);
    assert_eq!(
        ask(routes(ill.clone()), "/health", "text/plain").await,
        (503, "Core Pod Unhealthy\n".to_owned())
    );
    assert_eq!(report(&ill, "/ready").await.1["reason"], "user-service not ready");
    assert_eq!(ill.overview().await["pod"], "core");
}

#[tokio::test]
async fn nothing_a_driver_says_is_told() {
    let failing = || async { Err::<(), _>(anyhow::anyhow!("postgres://user:secret@db")) };
    let check = Check::new("PostgreSQL", Kind::Database, true, failing);
    let (status, body) = report(&Health::new("auth-service", "1.0.0", vec![check]), "/health").await;
    assert_eq!(status, 503);
    assert!(!body.to_string().contains("secret"));
}
