//! Bad input to the routes of profiles, favourites and history: every field of every body with every odd value, queries and
//! paths of any kind. Nothing yields a 5xx, and each refusal has the one shape of errors (core §1.3, §1.4).

use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Reply, TestApp};

fn odd_values() -> Vec<Value> {
    let deep = (0..60).fold(json!(1), |inner, _| json!([inner]));
    vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1e308),
        json!(u64::MAX),
        json!(""),
        json!(" "),
        json!("\u{0}"),
        json!("a\u{0}b"),
        json!("\u{202e}\u{7f}\u{1b}"),
        json!("<img src=x onerror=alert(1)>"),
        json!("'; drop table users.settings; --"),
        json!("x".repeat(70_000)),
        json!("\u{1F600}".repeat(300)),
        json!("2026-13-45"),
        json!("+262142-12-31T00:00:00Z"),
        json!("data:image/png;base64,AAAA"),
        json!("https://[::1"),
        json!("//x"),
        json!([]),
        json!([null]),
        json!(["\u{0}"]),
        deep,
        json!({}),
        json!({ "": "" }),
        json!({ "a": { "b\u{0}": 1 } }),
        json!({ "avatar": "\u{0}" }),
        json!({ "url": [] }),
    ]
}

/// The body with the value at this pointer replaced.
fn with(body: &Value, pointer: &str, value: &Value) -> Value {
    let mut body = body.clone();
    *body.pointer_mut(pointer).unwrap() = value.clone();
    body
}

/// Every place in a body.
fn places(body: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match body {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, inner)| places(inner, &format!("{at}/{name}"), found)),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(index, inner)| places(inner, &format!("{at}/{index}"), found)),
        _ => {}
    }
}

fn check(reply: &Reply, what: &str) {
    assert!(
        !reply.status.is_server_error(),
        "{what}: {} {}",
        reply.status,
        reply.body
    );
    if reply.status.is_client_error() {
        assert_eq!(reply.body["success"], false, "{what}");
        assert!(
            reply.body["error"].is_string() && reply.body["message"].is_string() && reply.body["code"].is_string(),
            "{what}"
        );
    }
}

#[sqlx::test(migrations = false)]
async fn no_field_of_any_body_yields_a_server_error(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let favorite =
        json!({ "entityType": "HOTEL", "entityId": "h", "entityData": { "a": 1 }, "category": "c", "notes": "n" });
    let added = app
        .post("/api/v1/users/favorites")
        .bearer(&ada.token)
        .json(&favorite)
        .send()
        .await;
    let own_favorite = format!("/api/v1/users/favorites/{}", added.body["data"]["id"].as_str().unwrap());
    let own_row = format!("/api/v1/users/profile/{}", ada.id);
    let row = json!({
        "userId": ada.id, "firstName": "Ada", "lastName": "L", "phone": "+1 2", "dateOfBirth": "1990-01-01", "bio": "b", "location": "l",
        "website": "https://x.example", "preferences": { "a": 1 },
    });
    let blocks = json!({
        "profile": { "name": "ada", "email": "ada@example.com", "photo": "https://x.example/a.png" },
        "preferences": { "language": "fr", "currency": "EUR", "timezone": "UTC" },
        "notifications": { "dealAlerts": true, "email": false }, "privacy": { "profileVisibility": "private", "marketing": true },
        "travel": { "dietary": ["vegan"] }, "language": "fr", "travelStyle": "slow",
    });
    let short = json!({ "items": [{ "type": "hotel", "itemId": "x", "metadata": {} }], "ids": ["x"] });
    let entry = json!({ "actionType": "VIEWED", "entityType": "hotel", "entityId": "h", "metadata": { "query": "q" } });
    let mut asked = 0;
    for (method, path, body) in [
        (Method::PUT, "/api/v1/users/profile", &blocks),
        (Method::PUT, "/api/v1/users/settings", &blocks),
        (Method::PUT, "/api/v1/users/preferences", &blocks),
        (Method::POST, "/api/v1/users/profile", &row),
        (Method::POST, &own_row, &row),
        (Method::PUT, &own_row, &row),
        (Method::POST, "/api/v1/users/favorites", &favorite),
        (Method::PUT, &own_favorite, &favorite),
        (Method::POST, "/api/v1/users/favorites/batch", &short),
        (Method::DELETE, "/api/v1/users/favorites/batch", &short),
        (Method::POST, "/api/v1/users/favorites/check-batch", &short),
        (Method::POST, "/api/v1/users/history", &entry),
    ] {
        let mut pointers = Vec::new();
        places(body, "", &mut pointers);
        for pointer in pointers {
            for value in odd_values() {
                let body = with(body, &pointer, &value);
                let reply = app
                    .call(method.clone(), path)
                    .bearer(&ada.token)
                    .json(&body)
                    .send()
                    .await;
                check(&reply, &format!("{method} {path} with {value:.60} at {pointer}"));
                asked += 1;
            }
        }
    }
    assert!(asked > 1_000, "{asked}");
}

#[sqlx::test(migrations = false)]
async fn no_query_and_no_path_yields_a_server_error(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let odd = [
        "",
        "0",
        "-1",
        "1e3",
        "99999999999999999999",
        "%00",
        "%FF",
        "%F0%9F%98%80",
        "%27%3B--",
        "a%20b",
        "null",
        "[]",
        "1%2C2",
    ];
    for value in odd {
        for name in [
            "limit",
            "offset",
            "page",
            "entityType",
            "type",
            "actionType",
            "entityId",
            "from",
            "to",
            "sort%00",
        ] {
            for path in [
                "/api/v1/users/favorites",
                "/api/v1/users/history",
                "/api/v1/users/history/stats",
            ] {
                let path = format!("{path}?{name}={value}&{name}");
                check(&app.get(&path).bearer(&ada.token).send().await, &path);
            }
            let path = format!("/api/v1/users/history?{name}={value}");
            check(&app.delete(&path).bearer(&ada.token).send().await, &path);
        }
        for path in [
            "favorites",
            "history",
            "profile",
            "favorites/check/HOTEL",
            "favorites/check",
        ] {
            let path = format!("/api/v1/users/{path}/{value}");
            for method in [Method::GET, Method::DELETE] {
                check(&app.call(method, &path).bearer(&ada.token).send().await, &path);
            }
        }
        let path = format!("/uploads/avatars/{value}");
        check(&app.get(&path).send().await, &path);
    }
}
