//! Refresh tokens: rotation, races, replays (core §2.4, §4.6).

use serde_json::json;
use sqlx::PgPool;

use crate::support::{Call, TestApp};

fn refresh(app: &TestApp, token: &str) -> Call {
    app.post("/api/v1/auth/refresh").cookie("refreshToken", token)
}

#[sqlx::test(migrations = false)]
async fn a_refresh_rotates_the_token_and_keeps_the_session(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    app.advance(60);
    let reply = refresh(&app, &ada.refresh)
        .cookie("ds_session", &ada.session)
        .send()
        .await;

    assert_eq!(
        (reply.status.as_u16(), &reply.body["message"]),
        (200, &json!("Tokens refreshed successfully"))
    );
    let next = reply.cookie("refreshToken").unwrap();
    assert_ne!(next, ada.refresh);
    assert_eq!(
        reply.cookie("ds_session").unwrap(),
        ada.session,
        "a live cookie of the session is kept"
    );
    assert!(reply.body["data"].get("user").is_none() && !reply.body.to_string().contains(&next));
    assert_eq!(app.profile(&reply.token()).await.status, 200);
    assert_eq!(app.profile(&ada.token).await.status, 200);
    assert_eq!(app.count("select count(*) from auth.sessions").await, 1);
    let (kind, envelope) = app.events("auth").await.pop().unwrap();
    assert_eq!(kind, "auth.token.refreshed");
    assert_eq!(envelope["payload"]["expiresAt"], "2027-01-15T08:16:00.000Z");

    let by_body = app
        .post("/api/v1/auth/refresh")
        .json(&json!({ "refreshToken": next }))
        .send()
        .await;
    assert_eq!(by_body.status, 200);
    assert_ne!(
        by_body.cookie("ds_session").unwrap(),
        ada.session,
        "a client without the cookie gets one"
    );
}

#[sqlx::test(migrations = false)]
async fn a_token_used_a_moment_ago_is_refused_and_the_session_lives(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let next = refresh(&app, &ada.refresh).send().await.cookie("refreshToken").unwrap();
    app.advance(9);
    refresh(&app, &ada.refresh)
        .send()
        .await
        .refused(401, "REFRESH_TOKEN_REUSED");
    assert_eq!(refresh(&app, &next).send().await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn a_replayed_token_ends_the_whole_session(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let renewed = refresh(&app, &ada.refresh).send().await;
    assert_eq!(app.profile(&renewed.token()).await.status, 200);
    app.advance(11);

    refresh(&app, &ada.refresh)
        .send()
        .await
        .refused(401, "REFRESH_TOKEN_REUSED");

    app.profile(&renewed.token()).await.refused(401, "TOKEN_REVOKED");
    app.profile(&ada.token).await.refused(401, "TOKEN_REVOKED");
    let next = renewed.cookie("refreshToken").unwrap();
    refresh(&app, &next).send().await.refused(401, "INVALID_REFRESH_TOKEN");
    refresh(&app, &ada.refresh)
        .send()
        .await
        .refused(401, "INVALID_REFRESH_TOKEN");
    app.get("/api/v1/auth/profile")
        .cookie("ds_session", &ada.session)
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
    let forced: Vec<_> = app
        .events("auth")
        .await
        .into_iter()
        .filter(|(kind, _)| kind == "auth.logout")
        .collect();
    assert_eq!(forced.len(), 1, "told once, however often it is replayed");
    assert_eq!(forced[0].1["payload"]["reason"], "forced");
}

#[sqlx::test(migrations = false)]
async fn of_a_hundred_refreshes_at_once_one_wins_and_the_session_lives(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let calls = (0..100).map(|_| tokio::spawn(refresh(&app, &ada.refresh).send()));
    let mut winner = None;
    for call in calls.collect::<Vec<_>>() {
        let reply = call.await.unwrap();
        if reply.status == 200 {
            assert!(winner.replace(reply).is_none(), "two winners");
        } else {
            reply.refused(401, "REFRESH_TOKEN_REUSED");
        }
    }
    let winner = winner.unwrap();
    assert_eq!(app.profile(&winner.token()).await.status, 200);
    assert_eq!(
        refresh(&app, &winner.cookie("refreshToken").unwrap())
            .send()
            .await
            .status,
        200
    );
}

#[sqlx::test(migrations = false)]
async fn what_is_no_live_refresh_token_is_401_with_its_own_code(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    app.post("/api/v1/auth/refresh")
        .send()
        .await
        .refused(401, "REFRESH_TOKEN_MISSING");
    refresh(&app, "garbage")
        .send()
        .await
        .refused(401, "INVALID_REFRESH_TOKEN");
    refresh(&app, &"x".repeat(43))
        .send()
        .await
        .refused(401, "INVALID_REFRESH_TOKEN");
    refresh(&app, &ada.token)
        .send()
        .await
        .refused(401, "INVALID_REFRESH_TOKEN");
    refresh(&app, &ada.session)
        .send()
        .await
        .refused(401, "INVALID_REFRESH_TOKEN");
    app.execute("update auth.users set suspended_at = now()").await;
    refresh(&app, &ada.refresh)
        .send()
        .await
        .refused(401, "ACCOUNT_SUSPENDED");
    app.execute("update auth.users set suspended_at = null").await;
    app.advance(7 * 24 * 60 * 60 + 1);
    refresh(&app, &ada.refresh)
        .send()
        .await
        .refused(401, "REFRESH_TOKEN_EXPIRED");
}

#[sqlx::test(migrations = false)]
async fn a_remembered_session_slides_by_thirty_days_and_ends_after_ninety(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register("ada@example.com").await;
    let body = json!({ "email": "ada@example.com", "password": crate::support::PASSWORD, "rememberMe": true });
    let mut token = app
        .post("/api/v1/auth/login")
        .json(&body)
        .send()
        .await
        .cookie("refreshToken")
        .unwrap();
    let day = 24 * 60 * 60;
    for (days, max_age) in [(29, "2592000"), (29, "2592000"), (29, &(3 * day).to_string())] {
        app.advance(days * day);
        let reply = refresh(&app, &token).send().await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        let line = reply.cookie_line("refreshToken").unwrap();
        assert!(line.contains(&format!("Max-Age={max_age};")), "{line}");
        token = reply.cookie("refreshToken").unwrap();
    }
    app.advance(3 * day);
    assert_eq!(refresh(&app, &token).send().await.status, 401);
}

#[sqlx::test(migrations = false)]
async fn a_page_of_another_site_cannot_refresh(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let foreign = refresh(&app, &ada.refresh)
        .header("origin", "https://evil.example")
        .header("sec-fetch-site", "cross-site");
    foreign.send().await.refused(403, "FORBIDDEN");
    let own = refresh(&app, &ada.refresh)
        .header("origin", crate::support::OWN_ORIGIN)
        .send()
        .await;
    assert_eq!(own.status, 200);
}
