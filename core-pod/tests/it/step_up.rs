//! Step-up for sensitive actions of other areas, and the second factor of administrators (core §14).

use axum::{Router, body::Body, routing::get};
use core_pod::auth::{AuthState, RecentlyAuthenticated, StepUp};
use http::{Request, StatusCode};
use serde_json::{Value, json};
use shared::auth::AuthUser;
use sqlx::PgPool;
use tower::ServiceExt as _;

use crate::{
    mfa::{Protected, code_at, protect, ticket, verify},
    support::{PASSWORD, TestApp, Traveller},
};

async fn administrate(
    caller: AuthUser,
    axum::extract::State(step_up): axum::extract::State<StepUp>,
) -> Result<(), shared::ApiError> {
    step_up.require_admin_factor(&caller).await
}

/// Routes as other areas write them.
fn routes(app: &TestApp) -> Router {
    let sensitive = get(async |RecentlyAuthenticated(caller): RecentlyAuthenticated| caller.user.to_string());
    Router::new()
        .route("/sensitive", sensitive)
        .route("/admin", get(administrate))
        .with_state::<()>(AuthState::clone(&app.services.auth))
}

async fn ask(app: &TestApp, path: &str, token: &str) -> (u16, Option<String>) {
    let request = Request::builder()
        .uri(path)
        .header("authorization", format!("Bearer {token}"));
    let response = routes(app).oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 65_536).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    (status.as_u16(), body["code"].as_str().map(str::to_owned))
}

const OK: (u16, Option<String>) = (200, None);

fn refused(code: &str) -> (u16, Option<String>) {
    (StatusCode::FORBIDDEN.as_u16(), Some(code.to_owned()))
}

#[sqlx::test(migrations = false)]
async fn by_default_only_accounts_that_use_a_second_factor_are_asked_again(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let plain = app.register("plain@example.com").await;
    let Protected { traveller, secret, .. } = protect(&app, "ada@example.com").await;
    assert_eq!(ask(&app, "/sensitive", &traveller.token).await, OK);
    app.advance(10 * 60);
    assert_eq!(
        ask(&app, "/sensitive", &plain.token).await,
        OK,
        "a client of the original"
    );
    assert_eq!(
        ask(&app, "/sensitive", &traveller.token).await,
        refused("REAUTH_REQUIRED")
    );
    let body = json!({ "code": code_at(&app, &secret, 0) });
    let call = app
        .post("/api/v1/auth/reauthenticate")
        .bearer(&traveller.token)
        .json(&body);
    assert_eq!(call.send().await.status, 200);
    assert_eq!(ask(&app, "/sensitive", &traveller.token).await, OK);
    assert_eq!(ask(&app, "/sensitive", "forged").await.0, 401);
}

#[sqlx::test(migrations = false)]
async fn another_address_needs_a_recent_proof_and_other_changes_do_not(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let plain = app.register("plain@example.com").await;
    let Protected { traveller, secret, .. } = protect(&app, "ada@example.com").await;
    let put = |token: &str, body: Value| {
        let call = app.call(http::Method::PUT, "/api/v1/auth/profile").bearer(token);
        call.json(&body).send()
    };
    app.advance(10 * 60);
    let same = json!({ "email": "ada@example.com", "firstName": "Augusta" });
    assert_eq!(put(&traveller.token, same).await.status, 200);
    let other = json!({ "email": "countess@example.com" });
    put(&traveller.token, other.clone())
        .await
        .refused(403, "REAUTH_REQUIRED");
    let put_profile = |body: Value| {
        let call = app
            .call(http::Method::PUT, "/api/v1/users/profile")
            .bearer(&traveller.token);
        call.json(&json!({ "profile": body })).send()
    };
    put_profile(other.clone()).await.refused(403, "REAUTH_REQUIRED");
    let same = json!({ "email": "ada@example.com", "name": "countess" });
    assert_eq!(put_profile(same).await.status, 200);
    let moved = json!({ "email": "other@example.com" });
    assert_eq!(put(&plain.token, moved).await.status, 200, "a client of the original");
    let again = app.post("/api/v1/auth/reauthenticate").bearer(&traveller.token);
    let again = again.json(&json!({ "code": code_at(&app, &secret, 0) })).send().await;
    assert_eq!(again.status, 200);
    assert_eq!(put(&traveller.token, other).await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn a_copy_and_the_deletion_of_all_data_need_a_recent_proof(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let plain = app.register("plain@example.com").await;
    let Protected { traveller, secret, .. } = protect(&app, "ada@example.com").await;
    let ask = |token: &str, path: &str, body: Value| {
        let call = app.post(&format!("/api/v1/users/gdpr/{path}")).bearer(token);
        call.json(&body).send()
    };
    let wishes = [
        ("data-export", json!({})),
        ("export", json!({})),
        ("data-deletion", json!({})),
        ("delete-account", json!({})),
        ("request", json!({ "type": "DATA_EXPORT" })),
        ("request", json!({ "type": "DATA_DELETION" })),
    ];
    app.advance(10 * 60);
    for (path, body) in wishes.clone() {
        ask(&traveller.token, path, body).await.refused(403, "REAUTH_REQUIRED");
    }
    app.call(http::Method::DELETE, "/api/v1/users/gdpr/account")
        .bearer(&traveller.token)
        .send()
        .await
        .refused(403, "REAUTH_REQUIRED");
    let again = app.post("/api/v1/auth/reauthenticate").bearer(&traveller.token);
    let again = again.json(&json!({ "code": code_at(&app, &secret, 0) })).send().await;
    assert_eq!(again.status, 200);
    for (path, body) in wishes {
        for token in [&traveller.token, &plain.token] {
            let reply = ask(token, path, body.clone()).await;
            assert_eq!(reply.status, 201, "{path}: {}", reply.body);
        }
    }
}

#[sqlx::test(migrations = false)]
async fn a_switch_asks_every_account(pool: PgPool) {
    let app = TestApp::with(pool, &[("STEP_UP_ALWAYS", "true")]).await;
    let plain = app.register("plain@example.com").await;
    assert_eq!(ask(&app, "/sensitive", &plain.token).await, OK);
    app.advance(10 * 60);
    assert_eq!(ask(&app, "/sensitive", &plain.token).await, refused("REAUTH_REQUIRED"));
    let again = app.post("/api/v1/auth/reauthenticate").bearer(&plain.token);
    assert_eq!(again.json(&json!({ "password": PASSWORD })).send().await.status, 200);
    assert_eq!(ask(&app, "/sensitive", &plain.token).await, OK);
}

#[sqlx::test(migrations = false)]
async fn administrators_need_a_second_factor_of_twelve_hours_where_it_is_required(pool: PgPool) {
    let lax = TestApp::start(pool.clone()).await;
    let Protected { traveller, secret, .. } = protect(&lax, "root@example.com").await;
    assert_eq!(ask(&lax, "/admin", &traveller.token).await, OK, "off for drop-in use");

    let strict = TestApp::again(pool, &[("REQUIRE_ADMIN_MFA", "true"), ("JWT_SIGNING_KEY", SEED)]);
    strict.advance(60);
    let first = ticket(&strict, "root@example.com").await;
    let done = verify(
        &strict,
        json!({ "ticket": first, "code": code_at(&strict, &secret, 0) }),
    )
    .await;
    let admin = Traveller::from(&done);
    assert_eq!(ask(&strict, "/admin", &admin.token).await, OK);
    let plain = strict.register("plain@example.com").await;
    assert_eq!(ask(&strict, "/admin", &plain.token).await, refused("MFA_REQUIRED"));
    strict.advance(12 * 60 * 60);
    let refreshed = strict
        .post("/api/v1/auth/refresh")
        .cookie("refreshToken", &admin.refresh)
        .send()
        .await;
    assert_eq!(
        ask(&strict, "/admin", &refreshed.token()).await,
        refused("MFA_REQUIRED")
    );
    let body = json!({ "code": code_at(&strict, &secret, 0) });
    let call = strict.post("/api/v1/auth/reauthenticate").bearer(&refreshed.token());
    assert_eq!(call.json(&body).send().await.status, 200);
    assert_eq!(ask(&strict, "/admin", &refreshed.token()).await, OK);
}

const SEED: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
