//! The log of accesses (core §10).

use std::time::Duration;

use core_pod::user::{
    User,
    audit::{AccessorType, Action, Audit, Entry, record},
};
use http::Method;
use serde_json::{Value, json};
use shared::{db::Db, lifecycle::Shutdown, sources::Sources};
use sqlx::PgPool;

use crate::support::{TestApp, Traveller, eventually};

const LOG: &str = "/api/v1/users/gdpr/access-log";

impl TestApp {
    async fn access_log(&self, traveller: &Traveller, query: &str) -> Value {
        self.services.flush_audit().await.unwrap();
        let reply = self.get(&format!("{LOG}{query}")).bearer(&traveller.token).send().await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.body
    }
}

fn entry(sources: &Sources) -> Entry {
    Entry {
        id: sources.uuid_v7(),
        user_id: Some(sources.id()),
        accessor_id: Some("ai-service".to_owned()),
        accessor_type: AccessorType::Service,
        action: Action::Read,
        resource: "AiPreferences",
        resource_id: None,
        ip_address: None,
        user_agent: None,
        endpoint: None,
        method: None,
        reason: None,
        before_digest: None,
        after_digest: None,
        accessed_at: sources.now(),
    }
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_17_reads_and_changes_are_really_logged_after_authentication(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let read = app
        .get("/api/v1/users/profile?secret=1")
        .bearer(&ada.token)
        .header("user-agent", "Browser/1.0")
        .send()
        .await;
    assert_eq!(read.status, 200);
    app.advance(1);
    let changed = app
        .call(Method::PUT, "/api/v1/users/gdpr/consent")
        .bearer(&ada.token)
        .json(&json!({ "analytics": true }))
        .send()
        .await;
    assert_eq!(changed.status, 200);
    app.advance(1);

    let log = app.access_log(&ada, "").await;
    assert_eq!(
        log["pagination"],
        json!({ "total": 2, "limit": 50, "offset": 0, "hasMore": false })
    );
    let (newest, oldest) = (&log["data"][0], &log["data"][1]);
    assert_eq!(
        *oldest,
        json!({
            "id": oldest["id"], "userId": ada.id, "accessorId": ada.id, "accessorType": "user", "action": "READ",
            "resource": "UserProfile", "resourceId": ada.id, "ipAddress": "203.0.113.7", "userAgent": "Browser/1.0",
            "endpoint": "/api/v1/users/profile", "method": "GET", "accessedAt": "2027-01-15T08:00:00.000Z",
        })
    );
    assert_eq!(
        (&newest["action"], &newest["resource"], &newest["method"]),
        (&json!("UPDATE"), &json!("GdprData"), &json!("PUT"))
    );
    let again = app.access_log(&ada, "?limit=1&offset=1").await;
    assert_eq!(again["pagination"]["total"], 3, "reading the log is in the log");
    assert_eq!(again["data"].as_array().unwrap().len(), 1);
}

#[sqlx::test(migrations = false)]
async fn a_refused_request_is_no_access_and_the_cookie_names_its_owner(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (ada, eve) = (
        app.register("ada@example.com").await,
        app.register("eve@example.com").await,
    );
    let path = "/api/v1/users/gdpr/consent";
    app.get(path).send().await.refused(401, "TOKEN_MISSING");
    app.get(path)
        .bearer("forged")
        .send()
        .await
        .refused(401, "INVALID_TOKEN");
    let bad = app.call(Method::PUT, path).bearer(&eve.token).json(&json!({}));
    bad.send().await.refused(400, "VALIDATION");
    assert_eq!(app.services.flush_audit().await.unwrap(), 0);
    let by_cookie = app.get(path).cookie("ds_session", &ada.session).send().await;
    assert_eq!(by_cookie.status, 200);
    let log = app.access_log(&ada, "").await;
    assert_eq!(log["data"][0]["accessorId"], ada.id);
    assert_eq!(app.access_log(&eve, "").await["pagination"]["total"], 0);
}

#[sqlx::test(migrations = false)]
async fn pieces_of_the_log_are_clamped(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    for query in [
        "?limit=0&offset=-5",
        "?limit=x&offset=y",
        "?limit=100000",
        "?offset=99999999999999999999",
    ] {
        let log = app.access_log(&ada, query).await;
        assert_eq!(log["success"], true, "{query}");
        let limit = log["pagination"]["limit"].as_i64().unwrap();
        assert!((1..=100).contains(&limit), "{query}");
    }
}

#[sqlx::test(migrations = false)]
async fn a_full_queue_drops_entries_and_holds_up_nobody(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    let (audit, sources) = (Audit::with_capacity(3), Sources::system());
    for _ in 0..10 {
        audit.note(entry(&sources));
    }
    let written = audit.flush(&Db::<User>::new(pool)).await.unwrap();
    assert_eq!(written, 3);
    assert_eq!(app.count("select count(*) from users.data_access_logs").await, 3);
}

#[sqlx::test(migrations = false)]
async fn one_entry_that_is_refused_does_not_hold_up_the_others(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    let (audit, sources) = (Audit::with_capacity(10), Sources::system());
    for position in 0..5 {
        let mut entry = entry(&sources);
        entry.endpoint = (position == 2).then(|| "nul\0".to_owned());
        audit.note(entry);
    }
    audit.flush(&Db::<User>::new(pool)).await.unwrap();
    assert_eq!(app.count("select count(*) from users.data_access_logs").await, 4);
}

#[sqlx::test(migrations = false)]
async fn the_drain_writes_what_waits(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    let (audit, sources, shutdown) = (Audit::default(), Sources::system(), Shutdown::new());
    let db = Db::<User>::new(pool);
    let writer = tokio::spawn(audit.clone().keep_writing(db, shutdown.clone()));
    audit.note(entry(&sources));
    eventually("an entry is written while the process runs", async || {
        app.count("select count(*) from users.data_access_logs").await == 1
    })
    .await;
    shutdown.drain();
    for _ in 0..1_200 {
        audit.note(entry(&sources));
    }
    shutdown.set_served();
    let ended = tokio::time::timeout(Duration::from_secs(20), writer).await.unwrap();
    ended.unwrap().unwrap();
    assert_eq!(app.count("select count(*) from users.data_access_logs").await, 1_201);
}

#[sqlx::test(migrations = false)]
async fn an_explicit_entry_stands_if_its_change_does(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    let (db, sources) = (Db::<User>::new(pool), Sources::system());
    let kept = entry(&sources);
    for commit in [false, true] {
        let mut tx = db.begin().await.unwrap();
        record(&mut tx, &kept).await.unwrap();
        if commit {
            record(&mut tx, &kept).await.unwrap();
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
    }
    assert_eq!(app.count("select count(*) from users.data_access_logs").await, 1);
}
