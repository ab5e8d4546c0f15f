//! What ends a session ends it in every pod within one second: two replicas of the core pod over one Redis, and another
//! pod that knows only the address of one of them (core §2.5, §13 lines 9 to 12).

use std::time::{Duration, Instant};

use core_pod::auth::client::Accounts;
use devkit::redis::RedisServer;
use http::{Method, header};
use serde_json::json;
use shared::{
    Sources,
    auth::{
        config::RemoteIdentity,
        tokens::{KeySet, Signer, TokenPolicy},
    },
    lifecycle::Shutdown,
    redis::{Redis, RedisConfig},
};
use sqlx::PgPool;

use crate::{
    pods::{another_pod_sharing, ask, bearer},
    support::{ONE_KEY, PASSWORD, TestApp, Traveller},
};

const FREE: [(&str, &str); 2] = [("RATE_LIMIT_MULTIPLIER", "1000"), ONE_KEY];

/// Two replicas, another pod, one Redis.
struct Platform {
    here: TestApp,
    there: TestApp,
    business: RemoteIdentity,
    _shutdown: Shutdown,
    _server: RedisServer,
}

impl Platform {
    async fn start(pool: PgPool) -> Self {
        let server = RedisServer::start().await.unwrap();
        let redis = || Redis::connect(&RedisConfig::single(server.url())).unwrap();
        drop(TestApp::start(pool.clone()).await);
        let here = TestApp::over(pool.clone(), &FREE, redis());
        let there = TestApp::over(pool, &FREE, redis());
        let (business, shutdown) = another_pod_sharing(&there, redis()).await;
        Self {
            here,
            there,
            business,
            _shutdown: shutdown,
            _server: server,
        }
    }

    /// Uses a session everywhere, so that every cache knows it.
    async fn warm(&self, traveller: &Traveller) {
        for pod in [&self.here, &self.there] {
            assert_eq!(pod.profile(&traveller.token).await.status, 200);
        }
        assert!(bearer(&self.business, &traveller.token).await.is_ok());
        let cookie = format!("ds_session={}", traveller.session);
        assert!(ask(&self.business, header::COOKIE, &cookie).await.unwrap().is_some());
    }

    /// Waits until the session is refused everywhere, with this code, for less than a second.
    async fn dead_everywhere(&self, traveller: &Traveller, code: &str) {
        let ended = Instant::now();
        loop {
            let here = self.here.profile(&traveller.token).await;
            let there = self.there.profile(&traveller.token).await;
            let business = bearer(&self.business, &traveller.token).await;
            let cookie = format!("ds_session={}", traveller.session);
            let by_cookie = ask(&self.business, header::COOKIE, &cookie).await;
            let cookie_dead = !matches!(by_cookie, Ok(Some(_)));
            if let (401, 401, Err(refusal), true) =
                (here.status.as_u16(), there.status.as_u16(), &business, cookie_dead)
            {
                here.refused(401, code);
                there.refused(401, code);
                assert_eq!(refusal.code(), code);
                break;
            }
            assert!(
                ended.elapsed() < Duration::from_secs(1),
                "still alive after {:?}",
                ended.elapsed()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[sqlx::test(migrations = false)]
async fn whatever_ends_a_session_ends_it_in_every_pod_within_a_second(pool: PgPool) {
    let platform = Platform::start(pool).await;
    let Platform { here, there, .. } = &platform;
    let ada = here.register("ada@example.com").await;

    let phone = there.login("ada@example.com").await;
    platform.warm(&phone).await;
    here.post("/api/v1/auth/logout").bearer(&phone.token).send().await;
    platform.dead_everywhere(&phone, "TOKEN_REVOKED").await;

    let phone = there.login("ada@example.com").await;
    platform.warm(&phone).await;
    let others = here.call(Method::DELETE, "/api/v1/auth/sessions").bearer(&ada.token);
    assert_eq!(others.send().await.status, 200);
    platform.dead_everywhere(&phone, "TOKEN_REVOKED").await;

    let phone = there.login("ada@example.com").await;
    platform.warm(&phone).await;
    platform.warm(&ada).await;
    let change = json!({ "currentPassword": PASSWORD, "newPassword": "Tr4velling!" });
    let change = here
        .post("/api/v1/auth/change-password")
        .bearer(&ada.token)
        .json(&change);
    let changed = change.send().await;
    assert_eq!(changed.status, 200);
    platform.dead_everywhere(&phone, "TOKEN_REVOKED").await;
    assert_eq!(
        there.profile(&ada.token).await.status,
        200,
        "the calling session lives on"
    );
    // its old cookie does not
    let old = format!("ds_session={}", ada.session);
    let replaced = Instant::now();
    while ask(&platform.business, header::COOKIE, &old).await.unwrap().is_some() {
        assert!(
            replaced.elapsed() < Duration::from_secs(1),
            "the old cookie still works"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let new = format!("ds_session={}", changed.cookie("ds_session").unwrap());
    assert!(ask(&platform.business, header::COOKIE, &new).await.unwrap().is_some());

    here.post("/api/v1/auth/logout-all").bearer(&ada.token).send().await;
    platform.dead_everywhere(&ada, "TOKEN_REVOKED").await;
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_10_a_suspended_traveller_is_refused_everywhere_within_a_second(pool: PgPool) {
    let platform = Platform::start(pool).await;
    let ada = platform.here.register("ada@example.com").await;
    platform.warm(&ada).await;
    let accounts = Accounts::new(platform.here.services.auth.clone());
    accounts.suspend(ada.id.parse().unwrap(), None).await.unwrap();
    platform.dead_everywhere(&ada, "ACCOUNT_SUSPENDED").await;
    for path in [
        "/api/v1/users/profile",
        "/api/v1/users/notifications",
        "/api/v1/auth/sessions",
    ] {
        let reply = platform.there.get(path).bearer(&ada.token).send().await;
        reply.refused(401, "ACCOUNT_SUSPENDED");
    }
    let refresh = platform
        .there
        .post("/api/v1/auth/refresh")
        .cookie("refreshToken", &ada.refresh);
    assert_eq!(refresh.send().await.status, 401);
}

#[sqlx::test(migrations = false)]
async fn an_erased_traveller_is_refused_everywhere_within_a_second(pool: PgPool) {
    let platform = Platform::start(pool).await;
    let ada = platform.here.register("ada@example.com").await;
    platform.warm(&ada).await;
    let accounts = Accounts::new(platform.there.services.auth.clone());
    assert!(accounts.erase(ada.id.parse().unwrap()).await.unwrap());
    platform.dead_everywhere(&ada, "USER_INACTIVE").await;
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_09_no_secret_of_a_session_is_stored_as_it_is(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    app.post("/api/v1/auth/logout").bearer(&ada.token).send().await;
    let kept = app.login("ada@example.com").await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_schema || '.' || table_name from information_schema.tables
         where table_schema in ('auth', 'users') and table_type = 'BASE TABLE'",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    assert!(tables.len() > 5);
    for table in tables {
        let sql = format!("select coalesce(string_agg(row::text, ''), '') from {table} as row");
        let text: String = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .fetch_one(&app.pool)
            .await
            .unwrap();
        for secret in [
            &ada.refresh,
            &ada.session,
            &ada.token,
            &kept.refresh,
            &kept.session,
            &kept.token,
        ] {
            assert!(!text.contains(secret.as_str()), "{table}");
            assert!(!text.contains(&hex::encode(secret.as_bytes())), "{table}, as bytes");
        }
        assert!(!text.contains(PASSWORD), "{table}");
    }
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_11_a_token_that_was_not_verified_signs_nobody_out(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let (head, signature) = ada.token.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{head}.{flipped}{}", &signature[1..]);
    assert_eq!(app.post("/api/v1/auth/logout").bearer(&forged).send().await.status, 200);
    assert_eq!(app.profile(&ada.token).await.status, 200);
    assert!(app.events("auth").await.iter().all(|(kind, _)| kind != "auth.logout"));
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_12_of_a_hundred_refreshes_in_two_replicas_one_wins_and_the_family_lives(pool: PgPool) {
    let (app, replica) = (TestApp::with(pool.clone(), &FREE).await, TestApp::again(pool, &FREE));
    let ada = app.register("ada@example.com").await;
    let calls: Vec<_> = (0..100)
        .map(|number| {
            let pod = if number % 2 == 0 { &app } else { &replica };
            tokio::spawn(
                pod.post("/api/v1/auth/refresh")
                    .cookie("refreshToken", &ada.refresh)
                    .send(),
            )
        })
        .collect();
    let mut next = Vec::new();
    for call in calls {
        let reply = call.await.unwrap();
        if reply.status == 200 {
            next.push(reply.cookie("refreshToken").unwrap());
        } else if reply.status != 503 {
            // 503: a busy machine may run out of time
            reply.refused(401, "REFRESH_TOKEN_REUSED");
        }
    }
    let [next] = next.as_slice() else {
        panic!("{} winners", next.len())
    };
    assert_eq!(app.profile(&ada.token).await.status, 200);
    // long after, the old token is a theft, and takes the family with it
    app.advance(11);
    let stolen = app.post("/api/v1/auth/refresh").cookie("refreshToken", &ada.refresh);
    stolen.send().await.refused(401, "REFRESH_TOKEN_REUSED");
    let heir = app.post("/api/v1/auth/refresh").cookie("refreshToken", next);
    heir.send().await.refused(401, "INVALID_REFRESH_TOKEN");
    app.profile(&ada.token).await.refused(401, "TOKEN_REVOKED");
}

#[sqlx::test(migrations = false)]
async fn each_401_has_the_words_of_its_service(pool: PgPool) {
    let app = TestApp::with(pool, &FREE).await;
    let ada = app.register("ada@example.com").await;
    let both = async |token: Option<&str>, code: &str, auth: &str, user: &str| {
        for (path, words) in [("/api/v1/auth/profile", auth), ("/api/v1/users/profile", user)] {
            let call = app.get(path);
            let call = match token {
                Some(token) => call.bearer(token),
                None => call,
            };
            let reply = call.send().await;
            reply.refused(401, code);
            assert_eq!(reply.body["message"], words, "{path}");
        }
    };
    both(None, "TOKEN_MISSING", "Access token required", "Access token required").await;
    both(Some("x.y.z"), "INVALID_TOKEN", "Invalid token", "Invalid token").await;
    let expired = app.login("ada@example.com").await;
    app.advance(15 * 60 + 6);
    both(Some(&expired.token), "TOKEN_EXPIRED", "Token expired", "Invalid token").await;
    let eve = app.register("eve@example.com").await;
    app.post("/api/v1/auth/logout").bearer(&eve.token).send().await;
    both(
        Some(&eve.token),
        "TOKEN_REVOKED",
        "Token has been revoked",
        "Token has been revoked",
    )
    .await;
    let suspended = "Your account has been suspended. Please contact support.";
    let grace = app.register("grace@example.com").await;
    let accounts = Accounts::new(app.services.auth.clone());
    accounts.suspend(grace.id.parse().unwrap(), None).await.unwrap();
    both(Some(&grace.token), "ACCOUNT_SUSPENDED", suspended, suspended).await;
    let zoe = app.register("zoe@example.com").await;
    accounts.erase(zoe.id.parse().unwrap()).await.unwrap();
    both(
        Some(&zoe.token),
        "USER_INACTIVE",
        "User not found or inactive",
        "User not found",
    )
    .await;
    let signer = Signer::new(
        KeySet::parse(ONE_KEY.1).unwrap(),
        TokenPolicy::default(),
        Sources::system(),
    );
    let wrong_type = signer.sign(&json!({
        "userId": ada.id, "sub": ada.id, "email": "x", "type": "refresh", "jti": "0", "sid": ada.id, "role": "USER",
        "iss": "dreamscape", "aud": "dreamscape-api", "iat": 1_800_000_000, "nbf": 1_800_000_000, "exp": 1_900_000_000,
    }));
    let wrong_type = wrong_type.unwrap();
    both(
        Some(&wrong_type),
        "INVALID_TOKEN_TYPE",
        "Invalid token type",
        "Invalid token type",
    )
    .await;
}
