//! How often the database is asked (core §4.7), and that hashing does not starve the rest (core §2.2, §14).

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::PgPool;

use crate::{
    support::{ONE_KEY, PASSWORD, TestApp},
    wire::Wire,
};

const FREE: [(&str, &str); 2] = [("RATE_LIMIT_MULTIPLIER", "1000"), ONE_KEY];
/// Longer than a session check is remembered.
const FORGOTTEN: Duration = Duration::from_millis(600);

#[sqlx::test(migrations = false)]
async fn verify_token_asks_the_database_once_and_not_at_all_while_the_session_is_known(pool: PgPool) {
    let app = TestApp::with(pool.clone(), &FREE).await;
    let ada = app.register("ada@example.com").await;
    let wire = Wire::before(&pool).await;
    let replica = TestApp::again(wire.pool(), &FREE);
    let verify = || {
        replica
            .post("/api/v1/auth/verify-token")
            .bearer(&ada.token)
            .cookie("ds_session", &ada.session)
    };
    let ask = async || assert_eq!(verify().send().await.status, 200);
    ask().await; // prepares the statements
    tokio::time::sleep(FORGOTTEN).await;
    assert_eq!(wire.statements(ask).await, 1, "token and cookie in one");
    for _ in 0..10 {
        assert_eq!(wire.statements(ask).await, 0, "a known session");
    }

    let service = replica
        .post("/api/v1/auth/service-token")
        .json(&json!({ "clientId": "business-pod", "clientSecret": shared::auth::config::DEVELOPMENT_CLIENT_SECRET }));
    let service = service.send().await.body["data"]["accessToken"]
        .as_str()
        .unwrap()
        .to_owned();
    let by_cookie = async || {
        let call = replica.post("/api/v1/auth/verify-token").bearer(&service);
        let reply = call.json(&json!({ "session": ada.session })).send().await;
        assert_eq!(reply.body["data"]["user"]["email"], "ada@example.com");
    };
    tokio::time::sleep(FORGOTTEN).await;
    by_cookie().await;
    assert_eq!(wire.statements(by_cookie).await, 0);
}

#[sqlx::test(migrations = false)]
async fn a_browser_without_a_cookie_gets_one_in_one_more_round_trip(pool: PgPool) {
    let app = TestApp::with(pool.clone(), &FREE).await;
    let ada = app.register("ada@example.com").await;
    let wire = Wire::before(&pool).await;
    let replica = TestApp::again(wire.pool(), &FREE);
    let ask = async || {
        let reply = replica
            .post("/api/v1/auth/verify-token")
            .bearer(&ada.token)
            .send()
            .await;
        assert!(reply.cookie("ds_session").is_some());
    };
    ask().await;
    assert_eq!(wire.statements(ask).await, 1);
}

#[sqlx::test(migrations = false)]
async fn a_profile_is_one_round_trip_beside_the_check_of_the_session(pool: PgPool) {
    let app = TestApp::with(pool.clone(), &FREE).await;
    let ada = app.register("ada@example.com").await;
    let wire = Wire::before(&pool).await;
    let replica = TestApp::again(wire.pool(), &FREE);
    let ask = async || assert_eq!(replica.profile(&ada.token).await.status, 200);
    ask().await;
    assert_eq!(wire.statements(ask).await, 1);
}

#[sqlx::test(migrations = false)]
async fn the_lists_of_favourites_and_notifications_are_one_round_trip_each(pool: PgPool) {
    let app = TestApp::with(pool.clone(), &FREE).await;
    let ada = app.register("ada@example.com").await;
    for number in 0..3 {
        let favourite =
            json!({ "entityType": "FLIGHT", "entityId": format!("f{number}"), "entityData": { "price": 7 } });
        let call = app.post("/api/v1/users/favorites").bearer(&ada.token);
        assert_eq!(call.json(&favourite).send().await.status, 201);
    }
    let wire = Wire::before(&pool).await;
    let replica = TestApp::again(wire.pool(), &FREE);
    for path in ["/api/v1/users/favorites", "/api/v1/users/notifications"] {
        let ask = async || assert_eq!(replica.get(path).bearer(&ada.token).send().await.status, 200);
        ask().await;
        assert_eq!(wire.statements(ask).await, 1, "{path}");
    }
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_13_an_unknown_address_costs_the_database_what_a_known_one_does(pool: PgPool) {
    let app = TestApp::start(pool.clone()).await;
    app.register("ada@example.com").await;
    let wire = Wire::before(&pool).await;
    let replica = TestApp::again(wire.pool(), &FREE);
    let guess = async |email: &str| {
        replica
            .try_login(email, "Wrong0ne!")
            .await
            .refused(401, "INVALID_CREDENTIALS");
    };
    guess("ada@example.com").await;
    let known = wire.statements(async || guess("ada@example.com").await).await;
    let unknown = wire.statements(async || guess("eve@example.com").await).await;
    assert_eq!(known, unknown);
}

#[sqlx::test(migrations = false)]
async fn sign_ins_at_the_hashing_limit_are_shed_with_503_and_the_rest_goes_on(pool: PgPool) {
    let settings = [
        ("RATE_LIMIT_MULTIPLIER", "1000"),
        ("PASSWORD_HASH_WORKERS", "1"),
        ("PASSWORD_HASH_QUEUE", "4"),
    ];
    let app = TestApp::with(pool, &settings).await;
    let ada = app.register("ada@example.com").await;
    let storm: Vec<_> = (0..60)
        .map(|_| {
            let body = json!({ "email": "ada@example.com", "password": PASSWORD });
            tokio::spawn(app.post("/api/v1/auth/login").json(&body).send())
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let asked = Instant::now();
        assert_eq!(app.profile(&ada.token).await.status, 200);
        slowest = slowest.max(asked.elapsed());
    }
    let (mut served, mut shed) = (0, 0);
    for sign_in in storm {
        let reply = sign_in.await.unwrap();
        match reply.status.as_u16() {
            200 => served += 1,
            _ => {
                assert_eq!(reply.status, 503, "{}", reply.body);
                assert!(reply.headers.contains_key("retry-after") || reply.body["code"] == "REQUEST_TIMEOUT");
                shed += 1;
            }
        }
    }
    assert!(served >= 5 && shed > 0, "{served} served, {shed} shed");
    // a generous bound for a busy machine: without shedding, the profile would wait for sixty hashes
    assert!(slowest < Duration::from_secs(1), "a profile took {slowest:?}");
    assert_eq!(
        app.try_login("ada@example.com", PASSWORD).await.status,
        200,
        "the storm is over"
    );
}

#[sqlx::test(migrations = false)]
async fn a_thousand_sign_ups_of_one_address_at_once_make_one_account(pool: PgPool) {
    let settings = [("RATE_LIMIT_MULTIPLIER", "1000"), ("PASSWORD_HASH_QUEUE", "16")];
    let app = TestApp::with(pool.clone(), &settings).await;
    let replica = TestApp::again(pool, &settings);
    let calls: Vec<_> = (0..1_000_u32)
        .map(|number| {
            let here = if number % 2 == 0 { &app } else { &replica };
            let email = if number % 3 == 0 {
                "a.d.a@gmail.com"
            } else {
                "ADA+x@googlemail.com"
            };
            let body = json!({ "email": email, "password": PASSWORD, "firstName": "Ada" });
            tokio::spawn(here.post("/api/v1/auth/register").json(&body).send())
        })
        .collect();
    let (mut created, mut taken, mut shed) = (0, 0, 0);
    for call in calls {
        let reply = call.await.unwrap();
        match reply.status.as_u16() {
            201 => created += 1,
            409 => {
                reply.refused(409, "EMAIL_TAKEN");
                taken += 1;
            }
            _ => {
                // shed by the queue, or at the end of its time on a slow machine
                assert_eq!(reply.status, 503, "{}", reply.body);
                shed += 1;
            }
        }
    }
    assert_eq!(created + taken + shed, 1_000);
    assert!(created <= 1, "{created} created, {taken} taken, {shed} shed");
    let late = json!({ "email": "ada@gmail.com", "password": PASSWORD, "firstName": "Ada" });
    let late = app.post("/api/v1/auth/register").json(&late).send().await;
    late.refused(409, "EMAIL_TAKEN");
    assert_eq!(app.count("select count(*) from auth.users").await, 1);
    assert_eq!(app.count("select count(*) from auth.sessions").await, 1);
    assert_eq!(
        app.count("select count(*) from auth.outbox where topic = 'dreamscape.user.created'")
            .await,
        1
    );
}
