//! The whole journey, as `make run` and `make demo` do it, and as pods side by side.

use std::time::Duration;

use serde_json::Value;

use crate::process::{Running, Site, eventually, ready};

async fn all_ready(site: &Site, running: &mut Running) {
    for port in ["GATEWAY_PORT", "BUSINESS_PORT", "WEB_PORT"] {
        ready(&site.address(port), running).await;
    }
}

fn steps_named(steps: &[Value], text: &str) -> usize {
    steps
        .iter()
        .filter(|step| step["what"].as_str().unwrap().contains(text))
        .count()
}

#[tokio::test]
async fn a_traveller_gets_a_confirmed_booking_through_one_origin_and_directly() {
    let site = Site::new();
    let mut platform = site.spawn("dreamscape", &["run"]);
    all_ready(&site, &mut platform).await;

    for way in [&[][..], &["--direct"][..]] {
        let steps = site.demo(way);
        assert_eq!(steps_named(&steps, "pay by card"), 2, "{steps:?}");
        assert_eq!(steps_named(&steps, "declined"), 1, "{steps:?}");
        assert_eq!(steps_named(&steps, "popular"), 1, "{steps:?}");
        let confirmed = steps.iter().find(|step| step["what"] == "confirm the address").unwrap();
        assert_eq!(confirmed["seen"], "by the link in a mail", "{steps:?}");
    }

    let metrics = reqwest::get(format!("{}/metrics", site.address("BUSINESS_METRICS_PORT")))
        .await
        .unwrap();
    let metrics = metrics.text().await.unwrap();
    for name in [
        "http_requests_total",
        "http_request_duration_seconds_bucket",
        "outbox_pending_events",
        "db_pool_connections",
    ] {
        assert!(metrics.contains(name), "{name} is not among the metrics");
    }
    assert!(platform.stop().success());
}

#[tokio::test]
async fn pods_side_by_side_find_each_other_and_leave_nothing_behind() {
    let site = Site::new();
    let mut core = site.spawn("core-pod", &[]);
    let mut business = site.spawn("business-pod", &[]);
    let mut experience = site.spawn("experience-pod", &[]);
    ready(&site.address("GATEWAY_PORT"), &mut core).await;
    ready(&site.address("BUSINESS_PORT"), &mut business).await;
    ready(&site.address("WEB_PORT"), &mut experience).await;
    site.demo(&[]);

    // a pod that is killed comes back and goes on with the same data
    business.kill();
    let mut business = site.spawn("business-pod", &[]);
    ready(&site.address("BUSINESS_PORT"), &mut business).await;
    site.demo(&[]);

    let health = site.output("core-pod", &["healthcheck"]);
    assert!(health.status.success());
    assert!(core.stop().success());
    assert!(!site.output("core-pod", &["healthcheck"]).status.success());
    assert!(business.stop().success());
    assert!(experience.stop().success());

    let server = site.data().join("postgres").join("data").join("postmaster.pid");
    eventually("the embedded PostgreSQL stops with the last pod", async || {
        !server.exists()
    })
    .await;
}

#[tokio::test]
async fn without_its_services_the_origin_answers_503_and_recovers() {
    let site = Site::new();
    let mut experience = site.spawn("experience-pod", &[]);
    let base = site.address("WEB_PORT");
    let up = format!("{base}/health/live");
    eventually("the origin is alive", async || {
        assert!(experience.ended().is_none());
        reqwest::get(&up).await.is_ok_and(|answer| answer.status().is_success())
    })
    .await;

    let refused = reqwest::get(format!("{base}/api/v1/users/profile")).await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["code"], "UPSTREAM_UNAVAILABLE");

    let mut core = site.spawn("core-pod", &[]);
    ready(&site.address("GATEWAY_PORT"), &mut core).await;
    let url = format!("{base}/api/v1/users/profile");
    eventually("the origin reaches the core pod", async || {
        reqwest::get(&url).await.unwrap().status() == 401
    })
    .await;
}

#[test]
fn production_never_falls_back_and_names_all_that_is_missing() {
    let site = Site::new();
    for (pod, wanted) in [
        ("core-pod", &["DATABASE_URL", "JWT_", "KAFKA_BROKERS"][..]),
        (
            "business-pod",
            &[
                "DATABASE_URL",
                "STRIPE_SECRET_KEY",
                "STRIPE_WEBHOOK_SECRET",
                "KAFKA_BROKERS",
            ][..],
        ),
    ] {
        let output = production(&site, pod);
        assert_eq!(
            output.status.code(),
            Some(78),
            "{pod}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        for name in wanted {
            assert!(text.contains(name), "{pod} does not name {name}:\n{text}");
        }
        assert!(!site.data().exists(), "{pod} made embedded data in production");
    }
}

fn production(site: &Site, pod: &str) -> std::process::Output {
    let begun = std::time::Instant::now();
    let output = site.output_with(pod, &["serve"], &[("APP_ENV", "production")]);
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{pod} did not refuse at once"
    );
    output
}
