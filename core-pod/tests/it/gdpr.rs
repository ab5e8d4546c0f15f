//! Consent, privacy policies and requests about data (core §5.11).

use core_pod::user::gdpr::{Purpose, consent, retention};
use http::Method;
use serde_json::{Value, json};
use shared::{
    id::UserId,
    sources::{Sources, iso_millis},
};
use sqlx::PgPool;

use crate::support::{Reply, TestApp, Traveller};

const PATH: &str = "/api/v1/users/gdpr";
const POLICY: &str = "01938a2c-0000-7000-8000-000000000001";

impl TestApp {
    async fn gdpr(&self, traveller: &Traveller, method: Method, path: &str, body: Option<Value>) -> Reply {
        let call = self.call(method, &format!("{PATH}{path}")).bearer(&traveller.token);
        match body {
            Some(body) => call.json(&body).send().await,
            None => call.send().await,
        }
    }

    fn gdpr_sources(&self) -> Sources {
        Sources {
            clock: self.clock.clone(),
            entropy: Sources::system().entropy,
        }
    }
}

fn id_of(traveller: &Traveller) -> UserId {
    traveller.id.parse().unwrap()
}

#[track_caller]
fn data(reply: &Reply, status: u16) -> Value {
    assert_eq!(
        (reply.status.as_u16(), &reply.body["success"]),
        (status, &json!(true)),
        "{}",
        reply.body
    );
    reply.body["data"].clone()
}

#[sqlx::test(migrations = false)]
async fn consent_has_defaults_at_the_first_read_and_one_row_for_ever(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let first = data(&app.gdpr(&ada, Method::GET, "/consent", None).await, 200);
    assert_eq!(
        first,
        json!({
            "id": first["id"], "userId": ada.id, "analytics": false, "marketing": false, "functional": true,
            "preferences": true, "lastUpdatedAt": "2027-01-15T08:00:00.000Z", "ipAddress": null,
        })
    );
    app.advance(60);
    let mut conn = app.pool.acquire().await.unwrap();
    consent::ensure(&mut conn, id_of(&ada), &app.gdpr_sources())
        .await
        .unwrap();
    assert_eq!(data(&app.gdpr(&ada, Method::GET, "/consent", None).await, 200), first);
    let history = data(&app.gdpr(&ada, Method::GET, "/consent/history", None).await, 200);
    assert_eq!(history, json!([]), "a default is no decision");
}

#[sqlx::test(migrations = false)]
async fn a_decision_changes_the_row_its_history_and_tells_the_others(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let path = format!("{PATH}/consent");
    let reply = app
        .call(Method::PUT, &path)
        .bearer(&ada.token)
        .header("user-agent", "Browser/1.0")
        .json(&json!({ "analytics": true, "functional": false }))
        .send()
        .await;
    let row = data(&reply, 200);
    assert_eq!(reply.body["message"], "Consent updated successfully");
    assert_eq!(
        (&row["analytics"], &row["functional"], &row["ipAddress"]),
        (&json!(true), &json!(true), &json!("203.0.113.7"))
    );
    app.advance(1);
    let patched = app
        .gdpr(&ada, Method::PATCH, "/consent", Some(json!({ "marketing": true })))
        .await;
    assert_eq!(data(&patched, 200)["analytics"], true, "what is not named stays");
    app.advance(1);
    let posted = app
        .gdpr(&ada, Method::POST, "/consent/", Some(json!({ "preferences": false })))
        .await;
    assert_eq!(data(&posted, 200)["preferences"], false);

    let history = data(&app.gdpr(&ada, Method::GET, "/consent/history", None).await, 200);
    let history = history.as_array().unwrap();
    assert_eq!(history.len(), 3);
    let oldest = &history[2];
    assert_eq!(
        (&oldest["consentId"], &oldest["userAgent"], &oldest["ipAddress"]),
        (&row["id"], &json!("Browser/1.0"), &json!("203.0.113.7"))
    );
    assert_eq!(oldest["changedAt"], "2027-01-15T08:00:00.000Z");
    for (newer, older) in history.iter().zip(history.iter().skip(1)) {
        assert!(newer["createdAt"].as_str() > older["createdAt"].as_str());
        assert_eq!(newer["createdAt"], newer["changedAt"]);
    }
    let told = app.events("users").await;
    let told: Vec<_> = told
        .iter()
        .filter(|(topic, _)| topic == "user.consent.updated")
        .map(|(_, envelope)| envelope["payload"].clone())
        .collect();
    assert_eq!(told.len(), 3);
    assert_eq!(
        told[2],
        json!({
            "userId": ada.id, "analytics": true, "marketing": true, "functional": true, "preferences": false,
            "updatedAt": "2027-01-15T08:00:02.000Z", "ipAddress": "203.0.113.7",
        })
    );
}

#[sqlx::test(migrations = false)]
async fn a_consent_that_is_not_a_boolean_is_refused_and_changes_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    for (body, message) in [
        (json!({ "analytics": "yes" }), "Analytics must be a boolean"),
        (
            json!({ "analytics": true, "marketing": 1 }),
            "Marketing must be a boolean",
        ),
        (json!({ "preferences": null }), "Preferences must be a boolean"),
        (json!({}), "At least one consent field must be provided"),
        (
            json!({ "functional": false }),
            "At least one consent field must be provided",
        ),
    ] {
        let reply = app.gdpr(&ada, Method::PUT, "/consent", Some(body)).await;
        reply.refused(400, "VALIDATION");
        assert_eq!(reply.body["error"], message);
    }
    let garbage = app
        .call(Method::PUT, &format!("{PATH}/consent"))
        .bearer(&ada.token)
        .raw("application/json", "[1]")
        .send()
        .await;
    garbage.refused(400, "VALIDATION");
    assert_eq!(app.count("select count(*) from users.consent_history").await, 0);
    assert_eq!(app.count("select count(*) from users.consents").await, 0);
}

#[sqlx::test(migrations = false)]
async fn decisions_at_the_same_time_all_succeed_and_are_all_kept(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let decisions = (0..20).map(|round| {
        let body = if round % 2 == 0 {
            json!({ "analytics": round % 4 == 0 })
        } else {
            json!({ "marketing": round % 4 == 1 })
        };
        app.gdpr(&ada, Method::PUT, "/consent", Some(body))
    });
    for reply in futures_util::future::join_all(decisions).await {
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    assert_eq!(app.count("select count(*) from users.consents").await, 1);
    assert_eq!(app.count("select count(*) from users.consent_history").await, 20);
    let events = app.events("users").await;
    let last = events
        .iter()
        .rfind(|(topic, _)| topic == "user.consent.updated")
        .unwrap()
        .1["payload"]
        .clone();
    let row = data(&app.gdpr(&ada, Method::GET, "/consent", None).await, 200);
    assert_eq!(
        (&row["analytics"], &row["marketing"]),
        (&last["analytics"], &last["marketing"]),
        "the last event tells of the state that stands"
    );
}

#[sqlx::test(migrations = false)]
async fn consent_is_asked_in_one_place_with_defaults_for_who_has_not_decided(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let user = id_of(&ada);
    let allowed = async |purpose| consent::allows(&app.pool, user, purpose).await.unwrap();
    assert!(!allowed(Purpose::Analytics).await && !allowed(Purpose::Marketing).await);
    assert!(allowed(Purpose::Functional).await && allowed(Purpose::Preferences).await);

    let sources = app.gdpr_sources();
    let mut conn = app.pool.acquire().await.unwrap();
    consent::track(&mut conn, &sources, Some(user), "history_cleared", &json!({}))
        .await
        .unwrap();
    assert_eq!(app.count("select count(*) from users.analytics").await, 0);
    let body = json!({ "analytics": true, "marketing": true, "preferences": false });
    data(&app.gdpr(&ada, Method::PUT, "/consent", Some(body)).await, 200);
    assert!(allowed(Purpose::Analytics).await && allowed(Purpose::Marketing).await);
    assert!(allowed(Purpose::Functional).await && !allowed(Purpose::Preferences).await);
    for subject in [Some(user), None] {
        consent::track(&mut conn, &sources, subject, "history_cleared", &json!({ "n": 1 }))
            .await
            .unwrap();
    }
    assert_eq!(app.count("select count(*) from users.analytics").await, 2);
}

#[sqlx::test(migrations = false)]
async fn the_policy_in_force_is_the_latest_that_has_begun(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let get = |path: &str| app.get(&format!("{PATH}{path}")).send();
    let seeded = data(&get("/privacy-policy").await, 200);
    assert_eq!((&seeded["id"], &seeded["version"]), (&json!(POLICY), &json!("1.0")));
    assert_eq!(seeded["effectiveAt"], "2025-01-01T00:00:00.000Z");
    assert!(seeded["content"].as_str().unwrap().contains("privacy@dreamscape.app"));
    app.execute(
        "insert into users.privacy_policies (id, version, title, content, effective_at, created_at)
         values (gen_random_uuid(), '1.1', 'T', 'C', '2027-01-01', '2026-12-01'),
                (gen_random_uuid(), '2.0', 'T', 'C', '2027-02-01', '2026-12-01')",
    )
    .await;
    assert_eq!(data(&get("/privacy-policy").await, 200)["version"], "1.1");
    let versions = data(&get("/privacy-policy/versions").await, 200);
    let versions: Vec<_> = versions
        .as_array()
        .unwrap()
        .iter()
        .map(|policy| policy["version"].as_str().unwrap())
        .collect();
    assert_eq!(versions, ["2.0", "1.1", "1.0"]);
    app.advance(40 * 86_400);
    assert_eq!(data(&get("/privacy-policy/").await, 200)["version"], "2.0");
    app.execute("delete from users.privacy_policies").await;
    let none = get("/privacy-policy").await;
    none.refused(404, "NOT_FOUND");
    assert_eq!(none.body["error"], "No active privacy policy found");
}

#[sqlx::test(migrations = false)]
async fn accepting_a_policy_twice_is_one_acceptance(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let accept = |path: &'static str, body: Value| app.gdpr(&ada, Method::POST, path, Some(body));
    let first = accept("/privacy-policy/accept", json!({ "policyId": POLICY })).await;
    assert_eq!(first.body["message"], "Policy accepted successfully");
    let first = data(&first, 200);
    assert_eq!(
        first,
        json!({
            "id": first["id"], "userId": ada.id, "policyId": POLICY, "policyVersion": "1.0",
            "acceptedAt": "2027-01-15T08:00:00.000Z", "ipAddress": "203.0.113.7", "userAgent": null,
        })
    );
    app.advance(5);
    let again = data(
        &accept("/accept-privacy-policy", json!({ "policyId": POLICY })).await,
        200,
    );
    assert_eq!(
        (&again["id"], &again["acceptedAt"]),
        (&first["id"], &json!("2027-01-15T08:00:05.000Z"))
    );
    for body in [
        json!({}),
        json!({ "policyId": null }),
        json!({ "policyId": " " }),
        json!({ "policyId": 7 }),
    ] {
        accept("/privacy-policy/accept", body).await.refused(400, "VALIDATION");
    }
    for unknown in ["no-such-policy", "00000000-0000-7000-8000-000000000000"] {
        let reply = accept("/privacy-policy/accept", json!({ "policyId": unknown })).await;
        reply.refused(404, "NOT_FOUND");
        assert_eq!(reply.body["message"], "Policy not found");
    }
    assert_eq!(app.count("select count(*) from users.policy_acceptances").await, 1);
}

#[sqlx::test(migrations = false)]
async fn a_deletion_is_open_once_and_can_be_taken_back_within_its_grace(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let reply = app
        .gdpr(
            &ada,
            Method::POST,
            "/data-deletion",
            Some(json!({ "reason": "moving on" })),
        )
        .await;
    assert_eq!(reply.body["message"], "Data deletion request created");
    let open = data(&reply, 201);
    let now = "2027-01-15T08:00:00.000Z";
    assert_eq!(
        open,
        json!({
            "id": open["id"], "userId": ada.id, "requestType": "DATA_DELETION", "status": "PENDING", "requestedAt": now,
            "processedAt": null, "completedAt": null, "expiresAt": null, "executeAfter": "2027-02-14T08:00:00.000Z",
            "reason": "moving on", "notes": null,
        })
    );
    app.advance(5);
    let ways = [
        app.gdpr(&ada, Method::POST, "/data-deletion", None).await,
        app.gdpr(&ada, Method::POST, "/delete-account", Some(json!({}))).await,
        app.gdpr(&ada, Method::DELETE, "/account", None).await,
        app.gdpr(&ada, Method::POST, "/request", Some(json!({ "type": "DATA_DELETION" })))
            .await,
    ];
    for again in ways {
        assert_eq!(data(&again, 201)["id"], open["id"]);
    }
    let by_profile = app.call(Method::DELETE, "/api/v1/users/profile").bearer(&ada.token);
    assert_eq!(data(&by_profile.send().await, 200)["id"], open["id"]);
    let told = app.events("users").await;
    let told: Vec<_> = told
        .iter()
        .filter(|(topic, _)| topic == "gdpr.deletion.requested")
        .collect();
    assert_eq!(told.len(), 1, "told once");
    assert_eq!(
        told[0].1["payload"],
        json!({ "requestId": open["id"], "userId": ada.id, "reason": "moving on", "requestedAt": now })
    );
    assert_eq!(app.profile(&ada.token).await.status, 200, "usable meanwhile");

    let path = format!("/requests/{}", open["id"].as_str().unwrap());
    let cancelled = data(&app.gdpr(&ada, Method::DELETE, &path, None).await, 200);
    assert_eq!(cancelled["status"], "CANCELLED");
    let twice = data(&app.gdpr(&ada, Method::DELETE, &path, None).await, 200);
    assert_eq!(twice, cancelled, "taken back is taken back");
    let next = data(&app.gdpr(&ada, Method::POST, "/data-deletion", None).await, 201);
    assert_ne!(next["id"], open["id"], "a new one may follow");
    let listed = data(&app.gdpr(&ada, Method::GET, "/requests", None).await, 200);
    assert_eq!((&listed[0]["id"], &listed[1]["id"]), (&next["id"], &open["id"]));
    for wrong in [json!({ "reason": 7 }), json!({ "reason": ["x"] })] {
        let reply = app.gdpr(&ada, Method::POST, "/data-deletion", Some(wrong)).await;
        reply.refused(400, "VALIDATION");
        assert_eq!(reply.body["error"], "Reason must be a string");
    }
}

#[sqlx::test(migrations = false)]
async fn deletions_asked_for_at_the_same_time_are_one(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let asks = (0..15).map(|_| app.gdpr(&ada, Method::POST, "/data-deletion", None));
    let ids: Vec<_> = futures_util::future::join_all(asks)
        .await
        .iter()
        .map(|reply| data(reply, 201)["id"].clone())
        .collect();
    assert!(ids.iter().all(|id| id == &ids[0]));
    assert_eq!(app.count("select count(*) from users.gdpr_requests").await, 1);
}

#[sqlx::test(migrations = false)]
async fn somebody_elses_request_is_refused_and_an_unknown_one_is_not_found(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (ada, eve) = (
        app.register("ada@example.com").await,
        app.register("eve@example.com").await,
    );
    let open = data(&app.gdpr(&ada, Method::POST, "/data-deletion", None).await, 201);
    let path = format!("/requests/{}", open["id"].as_str().unwrap());
    for method in [Method::GET, Method::DELETE] {
        app.gdpr(&eve, method.clone(), &path, None)
            .await
            .refused(403, "FORBIDDEN");
        for unknown in ["/requests/nonsense", "/requests/00000000-0000-7000-8000-000000000000"] {
            app.gdpr(&eve, method.clone(), unknown, None)
                .await
                .refused(404, "NOT_FOUND");
        }
    }
    assert_eq!(data(&app.gdpr(&ada, Method::GET, &path, None).await, 200), open);
    assert_eq!(
        data(&app.gdpr(&eve, Method::GET, "/requests", None).await, 200),
        json!([])
    );
}

#[sqlx::test(migrations = false)]
async fn requests_for_a_person_are_recorded_and_unknown_types_refused(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    for kind in ["DATA_RECTIFICATION", "ACCESS_REQUEST"] {
        let body = json!({ "type": kind, "reason": "my name" });
        let reply = app.gdpr(&ada, Method::POST, "/request", Some(body)).await;
        let request = data(&reply, 201);
        assert_eq!(
            (&request["requestType"], &request["status"]),
            (&json!(kind), &json!("PENDING"))
        );
        assert_eq!(request["reason"], "my name");
    }
    for body in [json!({}), json!({ "type": "EVERYTHING" }), json!({ "type": 1 })] {
        app.gdpr(&ada, Method::POST, "/request", Some(body))
            .await
            .refused(400, "VALIDATION");
    }
}

#[sqlx::test(migrations = false)]
async fn requests_are_limited_to_twenty_a_day_for_each_traveller(pool: PgPool) {
    let app = TestApp::with(pool, &[]).await;
    let ada = app.register("ada@example.com").await;
    let body = || Some(json!({ "type": "ACCESS_REQUEST" }));
    for round in 0..20 {
        let reply = app.gdpr(&ada, Method::POST, "/request", body()).await;
        assert_eq!(reply.status, 201, "round {round}");
        assert_eq!(reply.headers["ratelimit-policy"], "20;w=86400");
    }
    let refused = app.gdpr(&ada, Method::POST, "/data-deletion", None).await;
    refused.refused(429, "RATE_LIMIT_EXCEEDED");
    assert!(refused.headers.contains_key("retry-after"));
    let eve = app.register("eve@example.com").await;
    assert_eq!(app.gdpr(&eve, Method::POST, "/request", body()).await.status, 201);
    let read = app.gdpr(&ada, Method::GET, "/requests", None).await;
    assert_eq!(read.status, 200, "reading is not limited so");
}

#[sqlx::test(migrations = false)]
async fn every_privacy_route_but_the_policies_needs_a_caller(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for (method, path) in [
        (Method::GET, "/consent"),
        (Method::PUT, "/consent"),
        (Method::GET, "/consent/history"),
        (Method::POST, "/privacy-policy/accept"),
        (Method::POST, "/data-export"),
        (Method::POST, "/data-deletion"),
        (Method::DELETE, "/account"),
        (Method::GET, "/requests"),
        (Method::GET, "/requests/x"),
        (Method::DELETE, "/requests/x"),
        (Method::GET, "/access-log"),
    ] {
        let reply = app.call(method, &format!("{PATH}{path}")).send().await;
        reply.refused(401, "TOKEN_MISSING");
    }
    assert_eq!(iso_millis(app.gdpr_sources().now()), "2027-01-15T08:00:00.000Z");
}

#[sqlx::test(migrations = false)]
async fn what_is_old_is_forgotten_and_what_is_not_stays(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    data(
        &app.gdpr(&ada, Method::PUT, "/consent", Some(json!({ "analytics": true })))
            .await,
        200,
    );
    let accepted = app.gdpr(
        &ada,
        Method::POST,
        "/privacy-policy/accept",
        Some(json!({ "policyId": POLICY })),
    );
    data(&accepted.await, 200);
    app.services.flush_audit().await.unwrap();
    let day = 86_400;
    let addresses = async || {
        app.count(
            "select (select count(ip_address) from users.consents) + (select count(ip_address) from users.consent_history)
                 + (select count(ip_address) from users.policy_acceptances)
                 + (select count(ip_address) from users.data_access_logs)
                 + (select count(ip_address) from auth.sessions)
                 + (select count(ip_address) from auth.security_events)",
        )
        .await
    };
    app.advance(89 * day);
    let forgotten = retention::run(&app.services.user).await.unwrap();
    let known = addresses().await;
    assert!(known >= 6, "five here and the session");
    assert_eq!(forgotten.addresses, 0);
    app.advance(2 * day);
    let forgotten = retention::run(&app.services.user).await.unwrap();
    assert_eq!(
        (i64::try_from(forgotten.addresses).unwrap(), addresses().await),
        (known, 0)
    );
    assert_eq!(app.count("select count(*) from users.data_access_logs").await, 2);
    app.advance(3 * 366 * day);
    let forgotten = retention::run(&app.services.user).await.unwrap();
    assert_eq!(forgotten.accesses, 2);
    assert_eq!(app.count("select count(*) from users.consent_history").await, 1);
}
