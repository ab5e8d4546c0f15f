//! Wrong passwords: counted in the database, locked, forgotten (core §2.6, §2.2, §13 line 13).

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{PASSWORD, TestApp};

const WRONG: &str = "Wrong0ne!";

async fn locked_events(app: &TestApp) -> Vec<Value> {
    let events = app.events("auth").await.into_iter();
    events
        .filter(|(kind, _)| kind == "auth.account.locked")
        .map(|(_, envelope)| envelope["payload"].clone())
        .collect()
}

async fn fail(app: &TestApp, times: usize) {
    for _ in 0..times {
        let reply = app.try_login("ada@example.com", WRONG).await;
        reply.refused(401, "INVALID_CREDENTIALS");
        assert_eq!(reply.body["message"], "Invalid email or password");
    }
}

#[sqlx::test(migrations = false)]
async fn ten_wrong_passwords_in_a_row_lock_the_account_and_nobody_can_tell(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    fail(&app, 9).await;
    assert!(locked_events(&app).await.is_empty());
    fail(&app, 1).await;
    let locked = locked_events(&app).await;
    assert_eq!(
        locked,
        [json!({
            "userId": ada.id, "lockedAt": "2027-01-15T08:00:00.000Z", "reason": "too_many_attempts",
            "unlockAt": "2027-01-15T08:15:00.000Z",
        })]
    );
    // the right one gets the same answer as a wrong one
    let right = app.try_login("ada@example.com", PASSWORD).await;
    let wrong = app.try_login("ada@example.com", WRONG).await;
    let stranger = app.try_login("eve@example.com", WRONG).await;
    for reply in [&right, &wrong, &stranger] {
        reply.refused(401, "INVALID_CREDENTIALS");
        assert_eq!(reply.body["message"], stranger.body["message"]);
    }
    assert_eq!(
        app.profile(&ada.token).await.status,
        200,
        "nobody signs others out by guessing"
    );
    app.advance(15 * 60 - 1);
    app.try_login("ada@example.com", PASSWORD)
        .await
        .refused(401, "INVALID_CREDENTIALS");
    app.advance(1);
    assert_eq!(app.try_login("ada@example.com", PASSWORD).await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn each_lockout_is_twice_as_long_and_a_right_password_forgets_them(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register("ada@example.com").await;
    fail(&app, 10).await;
    app.advance(15 * 60);
    fail(&app, 10).await;
    app.advance(30 * 60 - 1);
    app.try_login("ada@example.com", PASSWORD)
        .await
        .refused(401, "INVALID_CREDENTIALS");
    app.advance(1);
    app.login("ada@example.com").await;
    fail(&app, 9).await;
    app.login("ada@example.com").await;
    fail(&app, 9).await;
    assert_eq!(locked_events(&app).await.len(), 2, "nine and nine are not ten in a row");
    fail(&app, 1).await;
    assert_eq!(
        app.count("select extract(epoch from locked_until - '2027-01-15T08:45:00Z')::bigint from auth.users")
            .await,
        15 * 60
    );
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_13_a_hundred_guesses_at_once_from_many_addresses_get_no_more_than_ten(pool: PgPool) {
    let settings = [("RATE_LIMIT_MULTIPLIER", "1000"), ("PASSWORD_HASH_QUEUE", "500")];
    let app = TestApp::with(pool.clone(), &settings).await;
    let replica = TestApp::again(pool, &settings);
    app.register("ada@example.com").await;
    let guesses = (0..100_u8).map(|guess| {
        let here = if guess % 2 == 0 { &app } else { &replica };
        let body = json!({ "email": "ada@example.com", "password": WRONG });
        let call = here
            .post("/api/v1/auth/login")
            .at_address([198, 51, 100, guess])
            .json(&body);
        tokio::spawn(call.send())
    });
    for guess in guesses.collect::<Vec<_>>() {
        let reply = guess.await.unwrap();
        assert!(reply.status == 401 || reply.status == 503, "{}", reply.body);
    }
    assert_eq!(locked_events(&app).await.len(), 1, "one lockout, however many noticed");
    // locked at the tenth: of the other ninety not one was counted
    assert_eq!(
        app.count("select failed_logins + 10 * lockouts::bigint from auth.users")
            .await,
        10
    );
    app.try_login("ada@example.com", PASSWORD)
        .await
        .refused(401, "INVALID_CREDENTIALS");
    replica
        .try_login("ada@example.com", PASSWORD)
        .await
        .refused(401, "INVALID_CREDENTIALS");
}

#[sqlx::test(migrations = false)]
async fn wrong_present_passwords_count_as_well_and_an_administrator_can_unlock(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let change = |current: &str| {
        app.post("/api/v1/auth/change-password")
            .bearer(&ada.token)
            .json(&json!({ "currentPassword": current, "newPassword": "Tr4velling!" }))
            .send()
    };
    for _ in 0..10 {
        change(WRONG).await.refused(400, "INCORRECT_PASSWORD");
    }
    assert_eq!(locked_events(&app).await.len(), 1);
    change(PASSWORD).await.refused(400, "INCORRECT_PASSWORD");
    let accounts = core_pod::auth::client::Accounts::new(app.services.auth.clone());
    accounts.unlock(ada.id.parse().unwrap()).await.unwrap();
    assert_eq!(change(PASSWORD).await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn the_owner_reads_of_failures_and_lockouts(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    fail(&app, 10).await;
    let log = app.get("/api/v1/auth/security-events").bearer(&ada.token).send().await;
    let events = log.body["data"]["events"].as_array().unwrap().clone();
    let mut kinds: Vec<_> = events.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["account_locked", "login", "login_failures"]);
    assert!(events.iter().all(|event| event["ipAddress"] == "203.0.113.7"));
}

#[sqlx::test(migrations = false)]
async fn a_password_of_the_original_works_once_more_and_is_then_argon2(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register("ada@example.com").await;
    // `Passw0rd!`, made by libxcrypt
    app.execute("update auth.users set password_hash = '$2b$04$abcdefghijklmnopqrstuuchGdllX0O2ZthG6oyaPSbmBrCIbnHlu'")
        .await;
    app.try_login("ada@example.com", WRONG)
        .await
        .refused(401, "INVALID_CREDENTIALS");
    // two tabs at once: whoever comes second finds the new hash
    let (first, second) = tokio::join!(
        app.try_login("ada@example.com", PASSWORD),
        app.try_login("ada@example.com", PASSWORD)
    );
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200));
    assert_eq!(
        app.count("select count(*) from auth.users where password_hash like '$argon2id$v=19$m=19456,t=2,p=1$%'")
            .await,
        1
    );
    app.login("ada@example.com").await;
}

#[sqlx::test(migrations = false)]
async fn known_passwords_and_those_that_are_a_name_are_refused_with_a_reason(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let sign_up = |password: &str| {
        let body = json!({ "email": "ada.lovelace@example.com", "password": password, "firstName": "Ada" });
        app.post("/api/v1/auth/register").json(&body).send()
    };
    let breached = sign_up("P@ssw0rd").await;
    breached.refused(400, "PASSWORD_BREACHED");
    assert_eq!(breached.body["errors"][0]["path"], "password");
    assert!(!breached.body.to_string().contains("P@ssw0rd"));
    sign_up("Ada.Lovelace1!").await.refused(400, "PASSWORD_PERSONAL");
    sign_up("password").await.refused(400, "VALIDATION");
    assert_eq!(app.count("select count(*) from auth.users").await, 0);
    assert_eq!(sign_up(PASSWORD).await.status, 201);
}

#[sqlx::test(migrations = false)]
async fn a_broken_filter_file_refuses_nobody(pool: PgPool) {
    let app = TestApp::with(pool, &[("PASSWORD_FILTER_FILE", "/nonexistent")]).await;
    app.register("ada@example.com").await;
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_01_routes_that_wipe_the_database_for_tests_do_not_exist(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("test@example.com").await;
    for path in ["/api/v1/auth/test/reset", "/api/v1/auth/test/cleanup"] {
        assert_eq!(app.post(path).bearer(&ada.token).send().await.status, 404, "{path}");
    }
    let delete = app.call(http::Method::DELETE, "/api/v1/auth/test/users/test@example.com");
    assert_eq!(delete.bearer(&ada.token).send().await.status, 404);
    assert_eq!(app.profile(&ada.token).await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_07_no_refusal_echoes_a_password(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let secret = "hunter2-hunter2";
    for (path, body) in [
        (
            "/api/v1/auth/register",
            json!({ "email": secret, "password": secret, "firstName": secret, "username": secret }),
        ),
        (
            "/api/v1/auth/login",
            json!({ "email": secret, "password": secret, "rememberMe": secret }),
        ),
        (
            "/api/v1/auth/login",
            json!({ "email": "ada@example.com", "password": secret }),
        ),
        (
            "/api/v1/auth/change-password",
            json!({ "currentPassword": secret, "newPassword": secret }),
        ),
        ("/api/v1/auth/refresh", json!({ "refreshToken": secret })),
    ] {
        let reply = app.post(path).bearer(&ada.token).json(&body).send().await;
        assert!(reply.status.is_client_error(), "{path}: {}", reply.body);
        assert!(!reply.body.to_string().contains("hunter2"), "{path}: {}", reply.body);
        let errors = reply.body["errors"].as_array().cloned().unwrap_or_default();
        assert!(errors.iter().all(|error| error.get("value").is_none()));
    }
}
