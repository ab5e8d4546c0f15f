//! The document of the pod: every protected operation refuses a caller without a token, every body has a type.

use core_pod::CorePod;
use serde_json::Value;
use shared::pod::Pod as _;
use sqlx::PgPool;

use crate::support::TestApp;

#[sqlx::test(migrations = false)]
async fn every_protected_operation_refuses_strangers(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let document = serde_json::to_value(CorePod::openapi()).unwrap();
    let schemes = document["components"]["securitySchemes"].as_object().unwrap();
    let mut protected = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let Some(security) = operation["security"].as_array() else {
                continue;
            };
            let named = security.iter().flat_map(|one| one.as_object().unwrap().keys());
            named.for_each(|name| assert!(schemes.contains_key(name), "{path}: {name} is not described"));
            if security
                .iter()
                .any(|one| one == &Value::Object(serde_json::Map::default()))
            {
                continue;
            }
            let method = method.to_uppercase().parse().unwrap();
            let path = path.replace("{id}", "00000000-0000-7000-8000-000000000000");
            for call in [
                app.call(http::Method::clone(&method), &path),
                app.call(method, &path).bearer("forged"),
            ] {
                assert_eq!(call.send().await.status, 401, "{path}");
            }
            protected += 1;
        }
    }
    assert!(protected >= 8, "the walk found only {protected} protected operations");
}

#[test]
fn every_json_body_is_described_by_a_type() {
    let document = serde_json::to_value(CorePod::openapi()).unwrap();
    let mut described = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let Some(schema) = operation.pointer("/requestBody/content/application~1json/schema") else {
                continue;
            };
            let name = schema["$ref"].as_str().and_then(|place| place.rsplit('/').next());
            let name = name.unwrap_or_else(|| panic!("{method} {path} takes {schema}"));
            let named = &document["components"]["schemas"][name];
            assert!(named.is_object(), "{method} {path}: there is no {name}");
            described += 1;
        }
    }
    assert!(described >= 40, "the walk found only {described} bodies");
}
