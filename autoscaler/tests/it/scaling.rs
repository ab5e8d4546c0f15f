//! Whole rounds: a real Prometheus, the stand-in for the engine.

use std::time::Duration;

use autoscaler::{
    decide::{Action, Reason},
    metrics::{self, Metrics, labels},
    policy::Policy,
    prometheus::Prometheus,
    round::{Mode, Pulse, Scaler},
};
use serde_json::json;
use tokio::sync::watch;

use crate::support::{FakeEngine, SHIPPED, Scraped};

fn page(users: u32, queue: u32) -> String {
    format!(
        "dreamscape_concurrent_users {users}\ndreamscape_ai_queue_length {queue}\n\
         container_cpu_usage_seconds_total{{pod=\"core-pod\"}} 5\ncontainer_cpu_usage_seconds_total{{pod=\"business-pod\"}} 5\n"
    )
}

/// The shipped policy with times that a test can wait for.
fn quick() -> Policy {
    let text = SHIPPED
        .replace("stable_seconds: 600", "stable_seconds: 2")
        .replace("cooldown_seconds: 300", "cooldown_seconds: 1")
        .replace("cooldown_seconds: 60", "cooldown_seconds: 1")
        .replace("loop_seconds: 30", "loop_seconds: 1");
    Policy::parse(&text).unwrap()
}

#[tokio::test]
async fn load_comes_and_goes() {
    let Some(mut scraped) = Scraped::start(&page(6_500, 0)).await else {
        return;
    };
    scraped
        .until(
            "sum(rate(container_cpu_usage_seconds_total{pod=\"core-pod\"}[2m]))",
            0.0,
        )
        .await;
    let fake = FakeEngine::start();
    let core = fake.add("shop", "core-pod", 3);
    let business = fake.add("shop", "business-pod", 5);
    let experience = fake.add("shop", "experience-pod", 4);
    let kafka = fake.add("shop", "kafka", 1);
    let foreign = fake.add("other", "core-pod", 1);
    let metrics = Metrics::default();
    let mut scaler = Scaler::new(
        quick(),
        fake.client(),
        Prometheus::new(&scraped.url),
        metrics.clone(),
        Mode::Act,
    );
    let (_stop, stopping) = watch::channel(false);

    let decisions = scaler.round(&stopping).await;
    assert_eq!(fake.replicas(&core), 5, "{decisions:?}");
    assert_eq!(
        metrics.get(metrics::WANTED, &labels([("service", "core-pod")])),
        Some(7.0)
    );
    assert_eq!(metrics.get(metrics::MAX, &labels([("service", "core-pod")])), Some(8.0));
    let up = labels([("action", "up"), ("service", "core-pod")]);
    assert_eq!(metrics.get(metrics::DECISIONS, &up), Some(1.0));
    // no request was ever counted: experience has no data and stays
    let (_, decision) = decisions.iter().find(|(name, _)| name == "experience-pod").unwrap();
    assert!(matches!(decision.reason, Reason::NoData { .. }), "{decision:?}");

    // the next step waits for the cool-down
    scaler.round(&stopping).await;
    assert_eq!(fake.replicas(&core), 5);
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    scaler.round(&stopping).await;
    assert_eq!(fake.replicas(&core), 7);

    // down only after it held, one at a time
    scraped.show(&page(100, 0));
    scraped.until("sum(dreamscape_concurrent_users)", 100.0).await;
    scaler.round(&stopping).await;
    assert_eq!(fake.replicas(&core), 7);
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    scaler.round(&stopping).await;
    assert_eq!(fake.replicas(&core), 6);

    // nothing known, nothing done
    scraped.stop();
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    let before = fake.written().len();
    for (_, decision) in scaler.round(&stopping).await {
        assert_eq!(decision.action, Action::None, "{decision:?}");
    }
    assert_eq!(fake.written().len(), before);
    assert!(
        metrics
            .get(metrics::ERRORS, &labels([("reason", "prometheus")]))
            .unwrap()
            >= 4.0
    );
    for (id, replicas) in [(business, 5), (experience, 4), (kafka, 1), (foreign, 1)] {
        assert_eq!(fake.replicas(&id), replicas);
    }
    assert!(fake.written().iter().all(|(id, _)| *id == core));
}

#[tokio::test]
async fn dry_run_and_watching_change_nothing_and_labels_are_followed() {
    let Some(scraped) = Scraped::start(&page(90_000, 9_000)).await else {
        return;
    };
    scraped
        .until(
            "sum(rate(container_cpu_usage_seconds_total{pod=\"business-pod\"}[2m]))",
            0.0,
        )
        .await;
    let fake = FakeEngine::start();
    let core = fake.add("shop", "core-pod", 3);
    let business = fake.add("shop", "business-pod", 5);
    let (_stop, stopping) = watch::channel(false);
    let scaler = |mode, metrics: &Metrics| {
        Scaler::new(
            quick(),
            fake.client(),
            Prometheus::new(&scraped.url),
            metrics.clone(),
            mode,
        )
    };

    let metrics = Metrics::default();
    let decisions = scaler(Mode::DryRun, &metrics).round(&stopping).await;
    assert!(
        decisions.iter().all(|(_, decision)| decision.action == Action::Up),
        "{decisions:?}"
    );
    assert!(fake.written().is_empty());
    assert_eq!(metrics.get(metrics::DRY_RUN, &labels([])), Some(1.0));

    let metrics = Metrics::default();
    assert!(scaler(Mode::Watch, &metrics).round(&stopping).await.is_empty());
    let running = labels([("service", "business-pod"), ("state", "running")]);
    assert_eq!(metrics.get(metrics::REPLICAS, &running), Some(5.0));
    assert!(metrics.get(metrics::LAST_RUN, &labels([])).is_some());

    // a cap the database can bear, and a service that is left alone
    fake.change(&core, |service| {
        service["Spec"]["Labels"]["dreamscape.autoscale.max"] = json!("4");
    });
    fake.change(&business, |service| {
        service["Spec"]["Labels"]["dreamscape.autoscale.enabled"] = json!("false");
    });
    let metrics = Metrics::default();
    scaler(Mode::Act, &metrics).round(&stopping).await;
    assert_eq!((fake.replicas(&core), fake.replicas(&business)), (4, 5));

    // one it cannot bear is not followed
    fake.change(&core, |service| {
        service["Spec"]["Labels"]["dreamscape.autoscale.max"] = json!("400");
    });
    let metrics = Metrics::default();
    scaler(Mode::Act, &metrics).round(&stopping).await;
    assert_eq!(metrics.get(metrics::MAX, &labels([("service", "core-pod")])), Some(8.0));
    assert_eq!(metrics.get(metrics::ERRORS, &labels([("reason", "budget")])), Some(1.0));

    // no room on the nodes
    fake.0.lock().unwrap().nodes.clear();
    let before = fake.replicas(&core);
    let decisions = scaler(Mode::Act, &Metrics::default()).round(&stopping).await;
    assert!(
        decisions.iter().any(|(_, decision)| decision.reason == Reason::NoRoom),
        "{decisions:?}"
    );
    assert_eq!(fake.replicas(&core), before);
}

#[tokio::test]
async fn it_stops_when_told_and_outlives_a_dead_engine() {
    let fake = FakeEngine::start();
    fake.0.lock().unwrap().down = true;
    let metrics = Metrics::default();
    let scaler = Scaler::new(
        quick(),
        fake.client(),
        Prometheus::new("http://127.0.0.1:1"),
        metrics.clone(),
        Mode::Act,
    );
    let (stop, stopping) = watch::channel(false);
    let pulse = std::sync::Arc::new(Pulse::new(1));
    let rounds = tokio::spawn({
        let pulse = pulse.clone();
        async move { scaler.run(&pulse, stopping).await }
    });
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(metrics.get(metrics::ERRORS, &labels([("reason", "engine")])).unwrap() >= 1.0);
    assert_eq!(metrics.get(metrics::LAST_RUN, &labels([])), None);
    assert!(pulse.is_alive());
    stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(5), rounds)
        .await
        .unwrap()
        .unwrap();
}
