//! Sign-up, sign-in, profile (core §4.1 to §4.3, §5.1).

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{PASSWORD, TestApp};

#[sqlx::test(migrations = false)]
async fn a_sign_up_answers_with_account_tokens_and_both_cookies(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let body = json!({ "email": "Ada.Love@Gmail.com", "password": PASSWORD, "firstName": " Ada ", "username": "ada" });
    let reply = app.post("/api/v1/auth/register").json(&body).send().await;

    assert_eq!(
        (reply.status.as_u16(), &reply.body["message"]),
        (201, &json!("Account created successfully"))
    );
    let user = reply.body["data"]["user"].as_object().unwrap();
    let mut keys: Vec<_> = user.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "createdAt",
            "email",
            "firstName",
            "id",
            "isVerified",
            "lastName",
            "onboardingCompleted",
            "onboardingCompletedAt",
            "role",
            "updatedAt",
            "username",
        ]
    );
    assert_eq!(user["email"], "adalove@gmail.com");
    assert_eq!(
        (&user["firstName"], &user["lastName"], &user["role"]),
        (&json!("Ada"), &Value::Null, &json!("USER"))
    );
    assert_eq!(user["createdAt"], "2027-01-15T08:00:00.000Z");
    let tokens = &reply.body["data"]["tokens"];
    assert_eq!(
        (&tokens["accessTokenExpiresIn"], &tokens["refreshTokenExpiresIn"]),
        (&json!("15m"), &json!("7d"))
    );
    let refresh = reply.cookie_line("refreshToken").unwrap();
    assert!(
        refresh.contains("; Max-Age=604800; Path=/; ") && refresh.ends_with("; HttpOnly; SameSite=Strict"),
        "{refresh}"
    );
    assert!(
        reply
            .cookie_line("ds_session")
            .unwrap()
            .ends_with("; HttpOnly; SameSite=Lax")
    );
    assert_eq!(reply.headers["cache-control"], "no-store");
    assert!(reply.headers.contains_key("ratelimit-limit"));

    assert_eq!(
        app.profile(&reply.token()).await.body["data"]["user"]["username"],
        "ada"
    );
    let events = app.events("auth").await;
    assert_eq!(events.len(), 1);
    let (kind, envelope) = &events[0];
    assert_eq!(
        (kind.as_str(), &envelope["source"]),
        ("user.created", &json!("auth-service"))
    );
    assert_eq!(envelope["payload"]["userId"], user["id"]);
    assert!(envelope["payload"].get("lastName").is_none());
}

#[sqlx::test(migrations = false)]
async fn a_bad_sign_up_names_every_field_and_echoes_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let body =
        json!({ "email": "nobody", "password": "hunter2", "firstName": "<script>", "username": "ab", "lastName": 7 });
    let reply = app.post("/api/v1/auth/register").json(&body).send().await;

    reply.refused(400, "VALIDATION");
    assert_eq!(reply.body["message"], "Validation failed");
    let errors = reply.body["errors"].as_array().unwrap();
    let paths: Vec<_> = errors.iter().map(|error| error["path"].as_str().unwrap()).collect();
    assert_eq!(
        paths,
        ["email", "password", "password", "firstName", "lastName", "username"]
    );
    assert!(
        errors
            .iter()
            .all(|error| error["msg"].is_string() && error.get("value").is_none())
    );
    assert!(!reply.body.to_string().contains("hunter2") && !reply.body.to_string().contains("script"));
    let missing = app.post("/api/v1/auth/register").send().await;
    assert_eq!(missing.body["errors"].as_array().unwrap().len(), 3);
    assert_eq!(app.count("select count(*) from auth.users").await, 0);
}

#[sqlx::test(migrations = false)]
async fn an_address_or_user_name_is_taken_once(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let sign_up = |email: &str, username: &str| {
        let body = json!({ "email": email, "password": PASSWORD, "firstName": "Ada", "username": username });
        app.post("/api/v1/auth/register").json(&body).send()
    };
    assert_eq!(sign_up("ada@gmail.com", "ada").await.status, 201);
    sign_up("A.D.A+trips@googlemail.com", "other")
        .await
        .refused(409, "EMAIL_TAKEN");
    let taken = sign_up("eve@gmail.com", "ada").await;
    taken.refused(409, "USERNAME_TAKEN");
    assert_eq!(taken.body["message"], "Username already exists");
    assert_eq!(app.count("select count(*) from auth.outbox").await, 1);
}

#[sqlx::test(migrations = false)]
async fn a_hundred_sign_ups_at_once_make_one_account(pool: PgPool) {
    let app = TestApp::with(
        pool,
        &[("RATE_LIMIT_MULTIPLIER", "1000"), ("PASSWORD_HASH_QUEUE", "200")],
    )
    .await;
    let calls = (0..100).map(|_| {
        let body = json!({ "email": "ada@example.com", "password": PASSWORD, "firstName": "Ada" });
        tokio::spawn(app.post("/api/v1/auth/register").json(&body).send())
    });
    let mut created = 0;
    for call in calls.collect::<Vec<_>>() {
        let reply = call.await.unwrap();
        match reply.status.as_u16() {
            201 => created += 1,
            // a slow machine may run out of time with so many hashes to make
            503 => {}
            _ => {
                reply.refused(409, "EMAIL_TAKEN");
            }
        }
    }
    assert!(created <= 1);
    assert_eq!(app.count("select count(*) from auth.users").await, 1);
    assert_eq!(app.count("select count(*) from auth.sessions").await, 1);
}

#[sqlx::test(migrations = false)]
async fn a_sign_in_with_any_spelling_of_the_address_opens_a_session(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register("ada@gmail.com").await;
    let body = json!({ "email": " A.da+x@GMAIL.com", "password": PASSWORD, "rememberMe": "true" });
    let reply = app
        .post("/api/v1/auth/login")
        .header("user-agent", "test")
        .json(&body)
        .send()
        .await;

    assert_eq!(
        (reply.status.as_u16(), &reply.body["message"]),
        (200, &json!("Login successful"))
    );
    assert_eq!(reply.body["data"]["user"]["isSuspended"], false);
    assert_eq!(reply.body["data"]["tokens"]["refreshTokenExpiresIn"], "30d");
    assert!(reply.cookie_line("refreshToken").unwrap().contains("Max-Age=2592000"));
    let (kind, envelope) = app.events("auth").await.pop().unwrap();
    assert_eq!(kind, "auth.login");
    let payload = &envelope["payload"];
    assert_eq!(
        (&payload["method"], &payload["ipAddress"]),
        (&json!("password"), &json!("203.0.113.7"))
    );
    assert_eq!(
        (&payload["email"], &payload["userAgent"]),
        (&json!("ada@gmail.com"), &json!("test"))
    );
    assert_eq!(
        app.count("select count(*) from auth.users where last_login_at is not null")
            .await,
        1
    );
}

#[sqlx::test(migrations = false)]
async fn a_wrong_password_and_an_unknown_address_are_told_apart_by_nobody(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register("ada@example.com").await;
    let wrong = app.try_login("ada@example.com", "Wrong0ne!").await;
    let unknown = app.try_login("eve@example.com", PASSWORD).await;
    for reply in [&wrong, &unknown] {
        reply.refused(401, "INVALID_CREDENTIALS");
        assert_eq!(reply.body["message"], "Invalid email or password");
        assert!(reply.cookie_line("refreshToken").is_none());
    }
    app.try_login("not an address", "x").await.refused(400, "VALIDATION");
    let odd = json!({ "email": "ada@example.com", "password": PASSWORD, "rememberMe": "perhaps" });
    app.post("/api/v1/auth/login")
        .json(&odd)
        .send()
        .await
        .refused(400, "VALIDATION");
}

#[sqlx::test(migrations = false)]
async fn an_unknown_address_takes_as_long_as_a_wrong_password(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register("ada@example.com").await;
    let mut fastest = [std::time::Duration::MAX; 2];
    for _ in 0..8 {
        for (place, email) in ["ada@example.com", "eve@example.com"].iter().enumerate() {
            let started = std::time::Instant::now();
            app.try_login(email, "Wrong0ne!")
                .await
                .refused(401, "INVALID_CREDENTIALS");
            fastest[place] = fastest[place].min(started.elapsed());
        }
    }
    let [wrong, unknown] = fastest;
    assert!(
        unknown > wrong / 2 && wrong > unknown / 2,
        "wrong password {wrong:?}, unknown address {unknown:?}"
    );
}

#[sqlx::test(migrations = false)]
async fn a_suspended_account_cannot_sign_in_and_is_told_only_after_the_right_password(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.register("ada@example.com").await;
    app.execute("update auth.users set suspended_at = now()").await;
    app.try_login("ada@example.com", PASSWORD)
        .await
        .refused(401, "ACCOUNT_SUSPENDED");
    app.try_login("ada@example.com", "Wrong0ne!")
        .await
        .refused(401, "INVALID_CREDENTIALS");
    assert_eq!(app.count("select count(*) from auth.sessions").await, 1);
}

#[sqlx::test(migrations = false)]
async fn five_failures_for_one_account_from_one_address_are_enough(pool: PgPool) {
    let app = TestApp::with(pool, &[]).await;
    app.register("ada@example.com").await;
    for _ in 0..10 {
        app.login("ada@example.com").await;
    }
    for _ in 0..5 {
        app.try_login("ada@example.com", "Wrong0ne!")
            .await
            .refused(401, "INVALID_CREDENTIALS");
    }
    let refused = app.try_login("ada@example.com", PASSWORD).await;
    refused.refused(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(refused.body["retryAfter"], "15 minutes");
    assert!(refused.headers.contains_key("retry-after"));
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    let elsewhere = app
        .post("/api/v1/auth/login")
        .at_address([198, 51, 100, 1])
        .json(&body)
        .send()
        .await;
    assert_eq!(elsewhere.status, 200);
}

#[sqlx::test(migrations = false)]
async fn a_full_hashing_queue_answers_503(pool: PgPool) {
    let app = TestApp::with(
        pool,
        &[
            ("RATE_LIMIT_MULTIPLIER", "1000"),
            ("PASSWORD_HASH_QUEUE", "1"),
            ("PASSWORD_HASH_WORKERS", "1"),
        ],
    )
    .await;
    let calls = (0..20).map(|_| {
        let body = json!({ "email": "ada@example.com", "password": PASSWORD });
        tokio::spawn(app.post("/api/v1/auth/login").json(&body).send())
    });
    let mut refused = 0;
    for call in calls.collect::<Vec<_>>() {
        let reply = call.await.unwrap();
        if reply.status == 503 {
            assert!(reply.headers.contains_key("retry-after"));
            refused += 1;
        }
    }
    assert!(refused > 0);
    app.try_login("ada@example.com", PASSWORD)
        .await
        .refused(401, "INVALID_CREDENTIALS");
}

#[sqlx::test(migrations = false)]
async fn forms_are_accepted_but_not_from_other_sites_with_cookies(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let form = || {
        let body = format!("email=ada%40example.com&password={PASSWORD}&rememberMe=1");
        app.post("/api/v1/auth/login")
            .raw("application/x-www-form-urlencoded", body)
    };
    assert_eq!(form().send().await.status, 200);
    form()
        .cookie("ds_session", &ada.session)
        .send()
        .await
        .refused(403, "FORBIDDEN");
    let own = form()
        .cookie("ds_session", &ada.session)
        .header("origin", crate::support::OWN_ORIGIN);
    assert_eq!(own.send().await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn the_profile_of_the_user_service_is_a_bare_object_with_defaults(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let reply = app.get("/api/v1/users/profile/").bearer(&ada.token).send().await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.body,
        json!({
            "profile": { "name": "Ada Lovelace", "email": "ada@example.com", "photo": null },
            "preferences": { "language": "English", "currency": "USD", "timezone": "UTC" },
            "notifications": { "dealAlerts": true, "tripReminders": true, "priceAlerts": true, "newsletter": false },
            "privacy": { "profileVisibility": "public", "dataSharing": false, "marketing": true },
            "travel": { "preferredDestinations": [], "accommodationType": [], "activities": [], "dietary": [] },
        })
    );
    app.execute("insert into users.settings (user_id, language, currency, created_at, updated_at) select id, 'French', 'EUR', now(), now() from auth.users").await;
    let reply = app
        .get("/api/v1/users/profile")
        .cookie("ds_session", &ada.session)
        .send()
        .await;
    assert_eq!(
        reply.body["preferences"],
        json!({ "language": "French", "currency": "EUR", "timezone": "UTC" })
    );
    app.get("/api/v1/users/profile")
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
}

#[sqlx::test(migrations = false)]
async fn demo_accounts_are_made_once_and_in_development_only(pool: PgPool) {
    use core_pod::auth::{DEMO_ACCOUNTS, seed_demo_accounts};
    use shared::config::Environment;

    let app = TestApp::start(pool).await;
    let auth = &app.services.auth;
    assert!(seed_demo_accounts(Environment::Production, auth).await.is_err());
    assert_eq!(app.count("select count(*) from auth.users").await, 0);
    for _ in 0..2 {
        seed_demo_accounts(Environment::Development, auth).await.unwrap();
    }
    assert_eq!(app.count("select count(*) from auth.users").await, 3);
    for demo in DEMO_ACCOUNTS {
        let reply = app.try_login(demo.email, demo.password).await;
        assert_eq!(reply.body["data"]["user"]["role"], json!(demo.role), "{}", demo.email);
    }
}
