//! What the AI service may know of travellers, and how it asks (core §5.13, §2.8, §3.1).

use http::Method;
use serde_json::{Value, json};
use shared::{events::Topic, sources::Sources};
use sqlx::PgPool;

use crate::{
    support::{Reply, TestApp, Traveller},
    told::apply,
};

const BATCH: &str = "/api/v1/ai/users/preferences/batch";

fn path(id: &str) -> String {
    format!("/api/v1/ai/users/{id}/preferences")
}

/// A traveller with some answers and default consents.
async fn answered(app: &TestApp, email: &str) -> Traveller {
    let ada = app.register(email).await;
    apply(app, Topic::UserCreated, json!({ "userId": ada.id }))
        .await
        .unwrap();
    app.post("/api/v1/users/onboarding").bearer(&ada.token).send().await;
    let data = json!({
        "travelTypes": ["BEACH", "CULINARY"], "comfortLevel": "PREMIUM", "healthConsiderations": ["asthma"],
        "globalBudgetRange": { "min": 10, "max": 20, "currency": "EUR" }, "preferredAirlines": ["AF"],
    });
    let body = json!({ "step": "travel_types", "data": data, "markCompleted": true });
    let saved = app
        .call(Method::PUT, "/api/v1/users/onboarding/step")
        .bearer(&ada.token)
        .json(&body)
        .send()
        .await;
    assert_eq!(saved.status, 200, "{}", saved.body);
    ada
}

async fn as_service(app: &TestApp, path: &str) -> Reply {
    let token = app.service_token("business-pod").await;
    app.get(path).bearer(&token).send().await
}

#[sqlx::test(migrations = false)]
async fn a_service_reads_the_preferences_of_an_account_under_both_paths(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = answered(&app, "ada@example.com").await;
    let reply = as_service(&app, &path(&ada.id)).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body["success"]),
        (200, &json!(true)),
        "{}",
        reply.body
    );
    assert!(reply.body["timestamp"].as_str().unwrap().ends_with('Z'));
    let data = &reply.body["data"];
    assert_eq!(
        (&data["userId"], &data["isOnboardingCompleted"]),
        (&json!(ada.id), &json!(false))
    );
    assert_eq!(data["preferences"]["travel"]["types"], json!(["beach", "culinary"]));
    assert_eq!(data["preferences"]["budget"]["globalRange"]["currency"], "EUR");
    assert_eq!(data["metadata"]["completedSteps"], json!(["travel_types"]));
    assert_eq!(
        data["metadata"]["dataQuality"],
        json!({ "completeness": 50, "confidence": 40 })
    );
    let alias = as_service(&app, &format!("/api/v1/users/{}/ai-preferences", ada.id)).await;
    assert_eq!(&alias.body["data"], data);

    for nobody in [Sources::system().uuid_v4().to_string(), "nobody".to_owned()] {
        as_service(&app, &path(&nobody)).await.refused(404, "USER_NOT_FOUND");
    }
    let eve = app.register("eve@example.com").await;
    let blank = as_service(&app, &path(&eve.id)).await.body["data"].clone();
    assert_eq!(
        blank["preferences"]["travel"]["types"],
        json!([]),
        "before onboarding there is nothing, not nobody"
    );
    assert_eq!(
        app.count("select count(*) from users.analytics where event = 'ai_preferences_requested' and user_id is null")
            .await,
        3
    );
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_04_preferences_are_read_with_a_service_token_or_by_their_owner(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (ada, eve) = (
        answered(&app, "ada@example.com").await,
        app.register("eve@example.com").await,
    );
    let own_listener = app.router.clone();
    let app = app.at_the_edge();
    let paths = [path(&ada.id), format!("/api/v1/users/{}/ai-preferences", ada.id)];
    for path in &paths {
        // on the listener that the outside reaches, nobody but a service finds it
        for call in [
            app.get(path),
            app.get(path).header("x-internal-service", "ai-service"),
            app.get(path).bearer(&ada.token),
        ] {
            call.send().await.refused(404, "NOT_FOUND");
        }
        // on the service's own, its owner does as well
        let own = || app.on(&own_listener, Method::GET, path);
        own().send().await.refused(401, "TOKEN_MISSING");
        own().bearer("x.y.z").send().await.refused(401, "INVALID_TOKEN");
        own().bearer(&eve.token).send().await.refused(403, "FORBIDDEN");
        own()
            .bearer(&app.service_token("experience-pod").await)
            .send()
            .await
            .refused(403, "FORBIDDEN");
        let read = own().bearer(&ada.token).send().await;
        assert_eq!(
            (read.status.as_u16(), &read.body["data"]["userId"]),
            (200, &json!(ada.id))
        );
    }
    let body = json!({ "userIds": [ada.id] });
    app.post(BATCH).json(&body).send().await.refused(404, "NOT_FOUND");
    app.post(BATCH)
        .bearer(&ada.token)
        .json(&body)
        .send()
        .await
        .refused(404, "NOT_FOUND");
    let own = || app.on(&own_listener, Method::POST, BATCH).json(&body);
    own().send().await.refused(401, "TOKEN_MISSING");
    own().bearer(&ada.token).send().await.refused(401, "INVALID_TOKEN");
    let malformed = app
        .on(&own_listener, Method::GET, &path("nobody"))
        .bearer(&ada.token)
        .send()
        .await;
    malformed.refused(403, "FORBIDDEN");
}

#[sqlx::test(migrations = false)]
async fn consent_decides_what_a_service_sees(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = answered(&app, "ada@example.com").await;
    let health = |reply: &Reply| reply.body["data"]["preferences"]["constraints"]["health"].clone();
    assert_eq!(
        health(&as_service(&app, &path(&ada.id)).await),
        json!([]),
        "nobody said that health may be used"
    );
    let own = app.call(Method::GET, &path(&ada.id)).bearer(&ada.token).send().await;
    assert_eq!(health(&own), json!(["asthma"]), "the owner sees all");

    app.execute(
        "insert into users.consent_history (id, consent_id, user_id, analytics, marketing, functional, preferences, changed_at)
         select gen_random_uuid(), id, user_id, false, false, true, true, now() from users.consents",
    )
    .await;
    assert_eq!(health(&as_service(&app, &path(&ada.id)).await), json!(["asthma"]));

    app.execute("update users.consents set preferences = false").await;
    let hidden = as_service(&app, &path(&ada.id)).await;
    assert_eq!(
        hidden.body["data"],
        json!({ "userId": ada.id, "isOnboardingCompleted": false, "onboardingCompletedAt": null })
    );
    let token = app.service_token("business-pod").await;
    let batch = app
        .post(BATCH)
        .bearer(&token)
        .json(&json!({ "userIds": [ada.id] }))
        .send()
        .await;
    assert_eq!(batch.body["data"]["users"][0], hidden.body["data"]);
    let own = app.call(Method::GET, &path(&ada.id)).bearer(&ada.token).send().await;
    assert!(own.body["data"]["preferences"].is_object());
}

#[sqlx::test(migrations = false)]
async fn a_batch_keeps_its_order_and_names_whom_it_did_not_find(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (ada, eve) = (
        answered(&app, "ada@example.com").await,
        app.register("eve@example.com").await,
    );
    let token = app.service_token("business-pod").await;
    let ask = async |ids: Value| {
        app.post(BATCH)
            .bearer(&token)
            .json(&json!({ "userIds": ids }))
            .send()
            .await
    };
    let nobody = Sources::system().uuid_v4().to_string();
    let reply = ask(json!([eve.id, nobody, ada.id, "temp", ada.id])).await;
    let users: Vec<_> = reply.body["data"]["users"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["userId"].clone())
        .collect();
    assert_eq!(users, [json!(eve.id), json!(ada.id)]);
    assert_eq!(
        reply.body["data"]["meta"],
        json!({ "requested": 4, "found": 2, "notFound": [nobody, "temp"] })
    );
    let none = ask(json!([nobody])).await;
    assert_eq!(none.body["data"]["meta"]["found"], 0);
    let rows = "select count(*) from users.analytics where event = 'ai_batch_preferences_requested' and data ->> 'averageCompleteness' is null";
    assert_eq!(app.count(rows).await, 1, "no average of nothing");

    for odd in [json!([]), json!(null), json!("x"), json!([1]), json!({})] {
        let refused = ask(odd.clone()).await;
        refused.refused(400, "VALIDATION");
        assert_eq!(refused.body["message"], "User IDs array is required", "{odd}");
    }
    assert_eq!(ask(json!(vec![nobody.clone(); 100])).await.status, 200);
    ask(json!(vec![nobody; 101])).await.refused(400, "VALIDATION");
}

#[sqlx::test(migrations = false)]
async fn the_health_of_the_integration_is_told_to_services_on_the_own_listener(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = answered(&app, "ada@example.com").await;
    app.register("eve@example.com").await;
    as_service(&app, &path(&ada.id)).await;
    let health = "/api/v1/ai/health";
    app.call(Method::GET, health).send().await.refused(401, "TOKEN_MISSING");
    let token = app.service_token("business-pod").await;
    let reply = app.call(Method::GET, health).bearer(&token).send().await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let data = &reply.body["data"];
    assert_eq!(data["totalUsers"], 2);
    assert_eq!(
        data["onboardingStats"],
        json!({
            "usersWithCompletedOnboarding": 0, "usersWithOnboardingProfile": 1, "profilesCompleted": 0, "completionRate": 0.0,
        })
    );
    assert_eq!(
        (
            &data["aiIntegration"]["requestsLast24h"],
            &data["aiIntegration"]["dataAvailabilityRate"]
        ),
        (&json!(1), &json!(50.0))
    );
    assert_eq!(
        data["healthStatus"],
        json!({ "overall": "warning", "dataQuality": "needs_improvement", "apiAvailability": "operational" })
    );
    // on the public listener this path is the AI service's, which is not there
    let edge = app.at_the_edge();
    let away = edge.get(health).bearer(&token).send().await;
    away.refused(503, "UPSTREAM_UNAVAILABLE");
}
