//! Bad input: no body, header or path yields a 5xx (core §1.3).

use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::TestApp;

const BODIES: [&str; 5] = ["register", "login", "refresh", "logout", "verify-token"];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,40}".prop_map(Value::from),
        "[\\x00-\\x1f<>\u{202e}\u{0}é@.a]{0,20}".prop_map(Value::from),
        Just(json!("ada@example.com")),
        Just(json!("Passw0rd!")),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(any_key(), inner, 0..6).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn any_key() -> impl Strategy<Value = String> {
    let known = [
        "email",
        "password",
        "firstName",
        "lastName",
        "username",
        "rememberMe",
        "refreshToken",
        "session",
        "sid",
    ];
    prop_oneof![
        prop::sample::select(known.to_vec()).prop_map(str::to_owned),
        "\\PC{0,10}".prop_map(String::from)
    ]
}

#[sqlx::test(migrations = false)]
async fn no_body_yields_a_server_error(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut runner = TestRunner::new(Config::default());
    for round in 0..200 {
        let body = any_json().new_tree(&mut runner).unwrap().current();
        for route in BODIES {
            let text = if round % 4 == 0 {
                body.to_string().chars().rev().collect()
            } else {
                body.to_string()
            };
            let kind = if round % 5 == 0 {
                "application/x-www-form-urlencoded"
            } else {
                "application/json"
            };
            let reply = app
                .post(&format!("/api/v1/auth/{route}"))
                .raw(kind, text.clone())
                .send()
                .await;
            assert!(!reply.status.is_server_error(), "{route} {text}: {}", reply.body);
            assert!(
                reply.status.is_success() || reply.body["success"] == false,
                "{route} {text}"
            );
        }
    }
}

#[sqlx::test(migrations = false)]
async fn what_is_no_json_is_400_and_what_is_too_large_413(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for route in BODIES.iter().filter(|route| **route != "logout") {
        let post = |body: Vec<u8>| {
            app.post(&format!("/api/v1/auth/{route}"))
                .raw("text/plain", body)
                .send()
        };
        for bad in [&b"{"[..], b"\"text\"", b"12", b"{\"email\":}", b"\xff\xfe", b"{\"email\":\"a\",\"email\":\"b\",\"session\":\"\",\"session\":\"\",\"refreshToken\":1,\"refreshToken\":2}"] {
            assert_eq!(post(bad.to_vec()).await.status, 400, "{route} {}", String::from_utf8_lossy(bad));
        }
        let large = format!("{{\"email\":\"{}\"}}", "a".repeat(70_000));
        post(large.into_bytes()).await.refused(413, "PAYLOAD_TOO_LARGE");
    }
}

#[sqlx::test(migrations = false)]
async fn headers_of_any_kind_are_survived(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut runner = TestRunner::new(Config::default());
    let text = "[ -~]{0,200}";
    for _ in 0..200 {
        let value = text.new_tree(&mut runner).unwrap().current();
        for path in [
            "/api/v1/auth/profile",
            "/api/v1/users/profile",
            "/api/v1/users/notifications",
        ] {
            let reply = app
                .get(path)
                .header("authorization", &format!("Bearer {value}"))
                .header("cookie", &value);
            assert_eq!(reply.send().await.status, 401, "{value}");
        }
        let reply = app
            .post("/api/v1/auth/refresh")
            .cookie("refreshToken", &value)
            .send()
            .await;
        assert_eq!(reply.status, 401, "{value}");
        let reply = app
            .post("/api/v1/auth/logout")
            .cookie("ds_session", &value)
            .header("authorization", &value)
            .send()
            .await;
        assert_eq!(reply.status, 200, "{value}");
    }
}

#[sqlx::test(migrations = false)]
async fn the_old_back_doors_do_not_exist(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for path in [
        "/api/v1/auth/test/reset",
        "/api/v1/auth/test/cleanup",
        "/api/v1/auth/unknown",
    ] {
        app.post(path).send().await.refused(404, "NOT_FOUND");
    }
    app.get("/api/v1/auth/login").send().await.refused(404, "NOT_FOUND");
}
