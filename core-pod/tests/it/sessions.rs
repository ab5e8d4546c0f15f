//! Who is signed in: tokens, cookies, sign-out, suspension, rotation of keys (core §2.3 to §2.5, §4.7, §4.8).

use serde_json::json;
use shared::auth::{Role, tokens::TokenPolicy};
use sqlx::PgPool;

use crate::support::{TestApp, eventually};

const SEED_A: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const SEED_B: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";

#[sqlx::test(migrations = false)]
async fn an_absent_bearer_is_missing_and_a_bad_one_is_invalid(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let profile = || app.get("/api/v1/auth/profile");
    profile().send().await.refused(401, "TOKEN_MISSING");
    for absent in ["Bearer", "Bearer ", "Bearer null", "bearer undefined", "Basic YTpi"] {
        profile()
            .header("authorization", absent)
            .send()
            .await
            .refused(401, "TOKEN_MISSING");
    }
    assert_eq!(
        profile()
            .header("authorization", &format!("bEaReR  {}", ada.token))
            .send()
            .await
            .status,
        200
    );
    let (head, signature) = ada.token.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{head}.{flipped}{}", &signature[1..]);
    for bad in ["x", "a.b.c", &forged, &ada.refresh] {
        // whatever the cookie says
        let call = profile()
            .header("authorization", &format!("Bearer {bad}"))
            .cookie("ds_session", &ada.session);
        call.send().await.refused(401, "INVALID_TOKEN");
    }
}

#[sqlx::test(migrations = false)]
async fn a_token_without_signature_or_of_another_algorithm_is_invalid(pool: PgPool) {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as B64};
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let claims = ada.token.split('.').nth(1).unwrap();
    for header in [
        r#"{"alg":"none","typ":"JWT"}"#,
        r#"{"alg":"HS256","typ":"JWT","kid":"x"}"#,
        r#"{"alg":"EdDSA","kid":"x"}"#,
    ] {
        let token = format!("{}.{claims}.{}", B64.encode(header), B64.encode([0_u8; 64]));
        app.profile(&token).await.refused(401, "INVALID_TOKEN");
    }
}

#[sqlx::test(migrations = false)]
async fn an_expired_bearer_counts_beside_a_live_cookie_of_the_same_subject(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (ada, eve) = (
        app.register("ada@example.com").await,
        app.register("eve@example.com").await,
    );
    app.advance(15 * 60 + 4);
    assert_eq!(app.profile(&ada.token).await.status, 200, "within the leeway");
    app.advance(2);
    app.profile(&ada.token).await.refused(401, "TOKEN_EXPIRED");
    let with = |cookie: &str| {
        app.get("/api/v1/auth/profile")
            .bearer(&ada.token)
            .cookie("ds_session", cookie)
            .send()
    };
    assert_eq!(with(&ada.session).await.status, 200);
    with(&eve.session).await.refused(401, "TOKEN_EXPIRED");
    with(&"x".repeat(43)).await.refused(401, "TOKEN_EXPIRED");
}

#[sqlx::test(migrations = false)]
async fn a_cookie_identifies_safe_requests_and_unsafe_ones_of_our_own_pages(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let call = || {
        app.patch("/api/v1/users/notifications/mark-all-read")
            .cookie("ds_session", &ada.session)
    };
    assert_eq!(
        app.get("/api/v1/auth/profile")
            .cookie("ds_session", &ada.session)
            .send()
            .await
            .status,
        200
    );
    call().send().await.refused(403, "FORBIDDEN");
    call()
        .header("sec-fetch-site", "cross-site")
        .send()
        .await
        .refused(403, "FORBIDDEN");
    call()
        .header("sec-fetch-site", "same-site")
        .header("origin", crate::support::OWN_ORIGIN)
        .send()
        .await
        .refused(403, "FORBIDDEN");
    call()
        .header("origin", "https://evil.example")
        .send()
        .await
        .refused(403, "FORBIDDEN");
    assert_eq!(call().own_page().send().await.status, 200);
    assert_eq!(
        call().header("origin", crate::support::OWN_ORIGIN).send().await.status,
        200
    );
    assert_eq!(
        app.patch("/api/v1/users/notifications/mark-all-read")
            .bearer(&ada.token)
            .send()
            .await
            .status,
        200
    );
}

#[sqlx::test(migrations = false)]
async fn a_sign_out_kills_the_session_at_once_and_may_be_repeated(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let other = app.login("ada@example.com").await;
    assert_eq!(app.profile(&ada.token).await.status, 200);

    for _ in 0..2 {
        let reply = app.post("/api/v1/auth/logout").bearer(&ada.token).send().await;
        assert_eq!(
            (reply.status.as_u16(), &reply.body),
            (200, &json!({ "success": true, "message": "Logged out successfully" }))
        );
        assert_eq!(reply.cookie("refreshToken").as_deref(), Some(""));
        assert_eq!(reply.cookie("ds_session").as_deref(), Some(""));
    }
    app.profile(&ada.token).await.refused(401, "TOKEN_REVOKED");
    app.get("/api/v1/auth/profile")
        .cookie("ds_session", &ada.session)
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
    assert_eq!(app.profile(&other.token).await.status, 200, "other sessions live on");
    let told: Vec<_> = app
        .events("auth")
        .await
        .into_iter()
        .filter(|(kind, _)| kind == "auth.logout")
        .collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1["payload"]["reason"], "user_initiated");
}

#[sqlx::test(migrations = false)]
async fn a_sign_out_works_by_either_cookie_and_without_anything(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let by_refresh = app.register("ada@example.com").await;
    let by_session = app.login("ada@example.com").await;
    app.post("/api/v1/auth/logout")
        .cookie("refreshToken", &by_refresh.refresh)
        .send()
        .await;
    app.profile(&by_refresh.token).await.refused(401, "TOKEN_REVOKED");
    let foreign = app
        .post("/api/v1/auth/logout")
        .cookie("ds_session", &by_session.session);
    assert_eq!(
        foreign.header("origin", "https://evil.example").send().await.status,
        200
    );
    assert_eq!(
        app.profile(&by_session.token).await.status,
        200,
        "a page of another site signs nobody out"
    );
    app.post("/api/v1/auth/logout")
        .cookie("ds_session", &by_session.session)
        .send()
        .await;
    app.profile(&by_session.token).await.refused(401, "TOKEN_REVOKED");
    assert_eq!(
        app.post("/api/v1/auth/logout").bearer("garbage").send().await.status,
        200
    );
    assert_eq!(app.post("/api/v1/auth/logout").send().await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn a_suspended_or_deleted_user_is_refused_on_the_next_request(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    let ada = app.register("ada@example.com").await;
    assert_eq!(app.profile(&ada.token).await.status, 200);
    app.execute("update auth.users set suspended_at = now()").await;
    eventually("suspension within a second", async || {
        app.profile(&ada.token).await.status == 401
    })
    .await;
    app.profile(&ada.token).await.refused(401, "ACCOUNT_SUSPENDED");
    app.get("/api/v1/auth/profile")
        .cookie("ds_session", &ada.session)
        .send()
        .await
        .refused(401, "ACCOUNT_SUSPENDED");
    app.execute("update auth.users set suspended_at = null, deleted_at = now()")
        .await;
    eventually("deletion within a second", async || {
        app.profile(&ada.token).await.body["code"] == "USER_INACTIVE"
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn the_role_comes_from_the_account_and_not_from_the_token(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    app.execute("update auth.users set role = 'ADMIN'").await;
    eventually("the new role within a second", async || {
        let reply = app.post("/api/v1/auth/verify-token").bearer(&ada.token).send().await;
        reply.body["data"]["user"]["role"] == json!(Role::Admin)
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn the_eleventh_session_ends_the_oldest(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let first = app.register("ada@example.com").await;
    let mut later = Vec::new();
    for _ in 0..10 {
        app.advance(1);
        later.push(app.login("ada@example.com").await);
    }
    app.profile(&first.token).await.refused(401, "TOKEN_REVOKED");
    for session in &later {
        assert_eq!(app.profile(&session.token).await.status, 200);
    }
    assert_eq!(
        app.count("select count(*) from auth.sessions where revoked_at is null")
            .await,
        10
    );
    let (_, told) = app.events("auth").await.pop().unwrap();
    assert_eq!(told["payload"]["reason"], "session_expired");
}

#[sqlx::test(migrations = false)]
async fn verify_token_names_the_caller_and_gives_a_cookie_to_a_browser_without_one(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let verify = || app.post("/api/v1/auth/verify-token").bearer(&ada.token);
    let reply = verify().send().await;
    assert_eq!(reply.body["message"], "Token is valid");
    assert_eq!(
        reply.body["data"],
        json!({ "user": { "id": ada.id, "email": "ada@example.com", "role": "USER" } })
    );
    let given = reply.cookie("ds_session").unwrap();
    assert_ne!(given, ada.session);
    assert_eq!(
        app.get("/api/v1/auth/profile")
            .cookie("ds_session", &given)
            .send()
            .await
            .status,
        200
    );
    assert!(
        verify()
            .cookie("ds_session", &given)
            .send()
            .await
            .cookie("ds_session")
            .is_none()
    );
    for _ in 0..10 {
        verify().send().await;
    }
    assert_eq!(app.count("select count(*) from auth.session_cookies").await, 5);
    app.post("/api/v1/auth/verify-token")
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
}

#[sqlx::test(migrations = false)]
async fn services_ask_about_sessions_with_their_own_token_only(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let credentials = |secret: &str| json!({ "clientId": "business-pod", "clientSecret": secret });
    let ask = |body| app.post("/api/v1/auth/service-token").json(&body).send();
    ask(credentials("wrong")).await.refused(401, "INVALID_CLIENT");
    ask(json!({ "clientId": "nobody", "clientSecret": "" }))
        .await
        .refused(401, "INVALID_CLIENT");
    ask(json!({})).await.refused(401, "INVALID_CLIENT");
    let issued = ask(credentials(shared::auth::config::DEVELOPMENT_CLIENT_SECRET)).await;
    assert_eq!(issued.body["data"]["expiresIn"], 300);
    let service = issued.body["data"]["accessToken"].as_str().unwrap().to_owned();

    let question = json!({ "session": ada.session });
    let introspect = |token: &str, body| app.post("/api/v1/auth/verify-token").bearer(token).json(&body).send();
    let reply = introspect(&service, question.clone()).await;
    assert_eq!(reply.body["data"]["user"]["id"], ada.id.as_str());
    assert!(reply.body["data"]["session"]["id"].is_string() && reply.cookie_line("ds_session").is_none());
    introspect(&ada.token, question.clone())
        .await
        .refused(401, "INVALID_TOKEN");
    introspect(&service, json!({ "sid": "no such" }))
        .await
        .refused(401, "TOKEN_REVOKED");
    app.profile(&service).await.refused(401, "INVALID_TOKEN");
    app.advance(5 * 60 + 6);
    introspect(&service, question).await.refused(401, "INVALID_TOKEN");
}

#[sqlx::test(migrations = false)]
async fn tokens_of_a_key_that_no_longer_signs_are_still_good(pool: PgPool) {
    let set = |signs: &str, verifies: &str| {
        json!([
            { "kid": "a", "seed": SEED_A, "use": if signs == "a" { "sign" } else { "verify" } },
            { "kid": "b", "seed": SEED_B, "use": if verifies == "a" { "sign" } else { "verify" } },
        ])
        .to_string()
    };
    let before = TestApp::with(pool.clone(), &[("JWT_KEYSET", &set("a", "b"))]).await;
    let old = before.register("ada@example.com").await;
    let after = TestApp::again(pool.clone(), &[("JWT_KEYSET", &set("b", "a"))]);
    assert_eq!(after.profile(&old.token).await.status, 200);
    let new = after.login("ada@example.com").await;
    assert_eq!(
        before.profile(&new.token).await.status,
        200,
        "replicas of both kinds run side by side"
    );
    let published = after.get("/.well-known/jwks.json").send().await;
    assert_eq!(published.body["keys"].as_array().unwrap().len(), 2);
    assert_eq!(
        published.headers["cache-control"],
        "public, max-age=60, stale-if-error=86400"
    );
    assert!(published.body["keys"][0].get("d").is_none() && !published.body.to_string().contains(SEED_A));
    let withdrawn = json!([{ "kid": "b", "seed": SEED_B, "use": "sign" }]).to_string();
    let last = TestApp::again(pool, &[("JWT_KEYSET", &withdrawn)]);
    last.profile(&old.token).await.refused(401, "INVALID_TOKEN");
    assert_eq!(TokenPolicy::default().access_ttl.as_secs(), 900);
}

#[sqlx::test(migrations = false)]
async fn old_sessions_are_deleted_with_their_secrets(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register("ada@example.com").await;
    app.advance(38 * 24 * 60 * 60);
    let kept = app.login("ada@example.com").await;
    let purged = app.services.purge_sessions().await.unwrap();
    assert!(purged > 0);
    assert_eq!(app.count("select count(*) from auth.sessions").await, 1);
    assert_eq!(app.count("select count(*) from auth.refresh_tokens").await, 1);
    assert_eq!(app.profile(&kept.token).await.status, 200);
    assert_eq!(app.services.purge_sessions().await.unwrap(), 0);
}

#[sqlx::test(migrations = false)]
async fn without_a_database_nobody_is_let_in_and_nobody_is_told_otherwise(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    app.pool.close().await;
    app.profile(&ada.token).await.refused(503, "SERVICE_UNAVAILABLE");
    app.try_login("ada@example.com", crate::support::PASSWORD)
        .await
        .refused(503, "SERVICE_UNAVAILABLE");
    let out = app.post("/api/v1/auth/logout").bearer(&ada.token).send().await;
    out.refused(503, "SERVICE_UNAVAILABLE");
    assert_eq!(out.cookie("ds_session").as_deref(), Some(""));
    assert_eq!(app.get("/.well-known/jwks.json").send().await.status, 200);
}
