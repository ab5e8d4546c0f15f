//! The client of the engine against the stand-in.

use autoscaler::engine::{Engine, EngineError, Resources};
use serde_json::json;

use crate::support::FakeEngine;

#[tokio::test]
async fn only_services_of_the_stack_are_seen() {
    let fake = FakeEngine::start();
    fake.add("shop", "core-pod", 3);
    fake.add("other", "core-pod", 9);
    let lying = fake.add("other", "x", 1);
    fake.change(&lying, |service| service["Spec"]["Name"] = json!("shop_business-pod"));
    let global = fake.add("shop", "agent", 2);
    fake.change(&global, |service| service["Spec"]["Mode"] = json!({"Global": {}}));
    let job = fake.add("shop", "migrate", 1);
    fake.change(&job, |service| {
        service["Spec"]["Mode"] = json!({"ReplicatedJob": {"MaxConcurrent": 1}});
    });
    let services = fake.client().services().await.unwrap();
    let seen = services
        .iter()
        .map(|s| (s.name.as_str(), s.desired, s.running, s.replicated))
        .collect::<Vec<_>>();
    assert_eq!(seen, [("core-pod", 3, 3, true), ("agent", 2, 2, false)]);
}

#[tokio::test]
async fn only_the_number_is_written() {
    let fake = FakeEngine::start();
    let id = fake.add("shop", "core-pod", 3);
    let mut expected = fake.0.lock().unwrap().services[0]["Spec"].clone();
    let engine = fake.client();
    let service = engine.services().await.unwrap().remove(0);
    engine.scale(&service, 3, 5).await.unwrap();
    expected["Mode"]["Replicated"]["Replicas"] = json!(5);
    assert_eq!(fake.written(), [(id, expected)]);
}

#[tokio::test]
async fn a_stale_version_is_read_again() {
    let fake = FakeEngine::start();
    let id = fake.add("shop", "core-pod", 3);
    let engine = fake.client();
    let service = engine.services().await.unwrap().remove(0);
    fake.0.lock().unwrap().races = 2;
    engine.scale(&service, 3, 4).await.unwrap();
    assert_eq!(fake.replicas(&id), 4);

    // it does not go on for ever
    fake.0.lock().unwrap().races = 100;
    let error = engine.scale(&service, 4, 5).await.unwrap_err();
    assert!(error.to_string().contains("out of sequence"), "{error}");
    assert_eq!(fake.written().len(), 1);
}

#[tokio::test]
async fn what_someone_else_did_is_not_undone() {
    let fake = FakeEngine::start();
    let id = fake.add("shop", "core-pod", 3);
    let engine = fake.client();
    let service = engine.services().await.unwrap().remove(0);
    {
        let mut inner = fake.0.lock().unwrap();
        (inner.races, inner.race_to) = (1, Some(7));
    }
    assert!(matches!(
        engine.scale(&service, 3, 4).await,
        Err(EngineError::Overtaken(_))
    ));
    fake.change(&id, |service| service["UpdateStatus"] = json!({"State": "updating"}));
    assert!(matches!(
        engine.scale(&service, 7, 8).await,
        Err(EngineError::Overtaken(_))
    ));
    assert_eq!((fake.replicas(&id), fake.written().len()), (7, 0));
}

#[tokio::test]
async fn room_is_what_nodes_have_left() {
    let fake = FakeEngine::start();
    let node = |id: &str, availability: &str, state: &str| {
        json!({
            "ID": id, "Spec": {"Availability": availability}, "Status": {"State": state},
            "Description": {"Resources": {"NanoCPUs": 4_000_000_000_u64, "MemoryBytes": 8_u64 << 30}}
        })
    };
    let task =
        |node: &str| json!({"NodeID": node, "Spec": {"Resources": {"Reservations": {"NanoCPUs": 1_500_000_000}}}});
    {
        let mut inner = fake.0.lock().unwrap();
        inner.nodes = vec![
            node("a", "active", "ready"),
            node("b", "active", "ready"),
            node("c", "drain", "ready"),
            node("d", "active", "down"),
        ];
        inner.tasks = vec![task("a"), task("a"), task("c"), json!({"Spec": {}})];
    }
    let engine = fake.client();
    let need = |nano_cpus, memory_bytes| Resources {
        nano_cpus,
        memory_bytes,
    };
    assert_eq!(engine.room(need(1_000_000_000, 0)).await.unwrap(), Some(1 + 4));
    assert_eq!(engine.room(need(1_000_000_000, 5 << 30)).await.unwrap(), Some(1 + 1));
    assert_eq!(engine.room(need(5_000_000_000, 0)).await.unwrap(), Some(0));
    assert_eq!(engine.room(need(0, 0)).await.unwrap(), None);
}

#[tokio::test]
async fn secrets_are_named_without_prefix_and_version() {
    let fake = FakeEngine::start();
    let secret = |name: &str, at: &str| json!({"ID": "s", "CreatedAt": at, "Spec": {"Name": name}});
    fake.0.lock().unwrap().secrets = vec![
        secret("dreamscape_db_password_v1", "1970-01-01T00:01:00Z"),
        secret("dreamscape_db_password_v12", "1970-01-01T00:02:00.5Z"),
        secret("dreamscape_key_vault", "1970-01-01T00:00:01Z"),
        secret("other_db_password_v1", "1970-01-01T00:00:01Z"),
    ];
    let secrets = fake.client().secrets().await.unwrap();
    assert_eq!(
        secrets.into_iter().collect::<Vec<_>>(),
        [("db_password".to_owned(), 120), ("key_vault".to_owned(), 1)]
    );
}

#[tokio::test]
async fn refusals_and_absence_are_errors() {
    let fake = FakeEngine::start();
    fake.0.lock().unwrap().down = true;
    let error = fake.client().services().await.unwrap_err();
    assert!(error.to_string().contains("not a swarm manager"), "{error}");
    let nowhere = Engine::new("/nonexistent/engine.sock", "shop");
    assert!(matches!(nowhere.services().await, Err(EngineError::Unreachable(_))));
}
