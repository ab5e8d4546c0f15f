//! Searches over HTTP, with a real database.

mod inputs;

use std::{net::Ipv4Addr, sync::Arc};

use axum::{body::Body, extract::Request, response::Response};
use chrono::TimeDelta;
use http::{StatusCode, header};
use serde_json::Value;
use shared::{
    Sources,
    auth::testing::Issuer,
    db::{Db, migrate},
    http::{
        ClientAddress,
        limit::{LimitConfig, RateLimiter, Rule},
    },
    id::UserId,
    lifecycle::Shutdown,
    money::{Currency, Money},
    redis::Redis,
    sources::FixedClock,
};
use sqlx::PgPool;
use tower::ServiceExt as _;

use super::{SearchConfig, SearchState, router};
use crate::voyage::{
    Voyage, migrations,
    supply::{Offers, Router, offline::Offline},
};

const FLIGHTS: &str = "/flights/search?originLocationCode=CDG&destinationLocationCode=JFK&departureDate=2027-06-15";

/// The search routes over a fresh database, on a clock that stands at noon of 10 March 2027.
struct App {
    router: axum::Router,
    state: SearchState,
    clock: Arc<FixedClock>,
    issuer: Issuer,
    db: Db<Voyage>,
    sources: Sources,
}

impl App {
    async fn start(pool: PgPool) -> Self {
        Self::with(pool, SearchConfig::default()).await
    }

    async fn with(pool: PgPool, config: SearchConfig) -> Self {
        let mut conn = pool.acquire().await.unwrap();
        migrate::run_on(&mut conn, &[migrations()], migrate::Roles::Ignore)
            .await
            .unwrap();
        drop(conn);
        let clock = FixedClock::at("2027-03-10T12:00:00Z".parse().unwrap());
        let sources = Sources::fixed(clock.clone(), 7);
        let issuer = Issuer::with_sources(sources.clone()).unwrap();
        let db = Db::new(pool);
        let state = SearchState::new(
            db.clone(),
            Router::new(vec![Arc::new(Offline::new(false))]),
            issuer.authenticator(),
            RateLimiter::new(Redis::memory(), LimitConfig::default()),
            sources.clone(),
            config,
        );
        let (router, _) = router::<()>(state.clone()).split_for_parts();
        Self {
            router,
            state,
            clock,
            issuer,
            db,
            sources,
        }
    }

    async fn send(&self, path: &str, bearer: Option<&str>) -> Response {
        let mut request = Request::get(path).extension(ClientAddress(Ipv4Addr::LOCALHOST.into()));
        if let Some(token) = bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        self.router
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap()
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let response = self.send(path, None).await;
        let status = response.status();
        (status, serde_json::from_slice(&bytes(response).await).unwrap())
    }

    /// The payloads of the events in the outbox, in order.
    async fn events(&self) -> Vec<Value> {
        self.state.log().flush().await.unwrap();
        let rows: Vec<(String, String, Value)> =
            sqlx::query_as("select topic, key, envelope from voyage.outbox order by position")
                .fetch_all(self.db.pool())
                .await
                .unwrap();
        rows.into_iter()
            .map(|(topic, key, mut envelope)| {
                assert_eq!(topic, "dreamscape.voyage.search.performed");
                assert_eq!(envelope["payload"]["searchId"], key);
                envelope["payload"].take()
            })
            .collect()
    }
}

async fn bytes(response: Response) -> bytes::Bytes {
    axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap()
}

#[sqlx::test(migrations = false)]
async fn a_search_finds_offers_in_the_shape_of_the_contract(pool: PgPool) {
    let app = App::start(pool).await;
    let (status, body) = app.get(FLIGHTS).await;
    assert_eq!(status, 200);
    let offers = body["data"].as_array().unwrap();
    assert_eq!(body["meta"]["count"], offers.len());
    assert!((12..=42).contains(&offers.len()), "{}", offers.len());
    assert_eq!(
        (&body["meta"]["currency"], &body["meta"]["source"]),
        (&"EUR".into(), &"offline".into())
    );
    let prices: Vec<f64> = offers
        .iter()
        .map(|offer| offer["price"]["total"].as_f64().unwrap())
        .collect();
    assert!(prices.is_sorted());
    for offer in offers {
        assert!(offer.get("itineraries").is_none());
        assert_eq!(offer["id"], offer["bookingToken"]);
        assert_eq!(offer["expiresAt"], "2027-03-10T12:20:00.000Z");
        assert_eq!(
            (&offer["departure"]["airport"], &offer["arrival"]["airport"]),
            (&"CDG".into(), &"JFK".into())
        );
        assert!(offer["departure"]["time"].as_str().unwrap().starts_with("2027-06-15T"));
    }
}

#[sqlx::test(migrations = false)]
async fn what_was_quoted_can_be_looked_up_and_quoted_again(pool: PgPool) {
    let app = App::start(pool).await;
    let (_, body) = app
        .get(&format!("{FLIGHTS}&adults=2&children=1&returnDate=2027-06-30"))
        .await;
    let offer = &body["data"][0];
    let id = offer["id"].as_str().unwrap();
    let offers = Offers::new(Router::new(vec![Arc::new(Offline::new(false))]));
    let mut conn = app.db.acquire().await.unwrap();
    let snapshot = offers.find(&mut conn, id, app.sources.now()).await.unwrap().unwrap();
    assert_eq!(&snapshot.payload, offer);
    assert_eq!(
        Some(snapshot.amount),
        Money::from_major(offer["price"]["total"].as_f64().unwrap(), Currency::EUR)
    );
    assert_eq!((snapshot.passengers.adults, snapshot.passengers.children), (2, 1));
    assert_eq!(
        (snapshot.origin.as_str(), snapshot.destination.as_str()),
        ("CDG", "JFK")
    );
    assert_eq!(snapshot.returns_on, Some("2027-06-30".parse().unwrap()));
    assert!(!snapshot.is_expired(app.sources.now()));
    assert_eq!(snapshot.flight().unwrap().id, id);

    // a store that lost everything: the same offer, to the cent
    sqlx::query("delete from voyage.offer_snapshots")
        .execute(app.db.pool())
        .await
        .unwrap();
    let again = offers.find(&mut conn, id, app.sources.now()).await.unwrap().unwrap();
    assert_eq!(
        (again.amount, again.departs_at, again.passengers),
        (snapshot.amount, snapshot.departs_at, snapshot.passengers)
    );
    assert!(
        offers
            .find(&mut conn, "off_0000000000000000000000", app.sources.now())
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        offers
            .find(&mut conn, "hotel-1", app.sources.now())
            .await
            .unwrap()
            .is_none()
    );

    // an hour later it is expired, and there is the same journey under a new id
    app.clock.advance(TimeDelta::hours(1));
    assert!(snapshot.is_expired(app.sources.now()));
    let repriced = offers.reprice(id, app.sources.now()).await.unwrap();
    assert!(repriced.replaced && repriced.offer.id != id);
    assert_eq!(
        repriced.offer.amount, snapshot.amount,
        "nothing drifts here, and it is the same day"
    );
    offers
        .remember(&mut conn, std::slice::from_ref(&repriced.flight), app.sources.now())
        .await
        .unwrap();
    assert!(
        offers
            .find(&mut conn, &repriced.offer.id, app.sources.now())
            .await
            .unwrap()
            .is_some()
    );
}

#[sqlx::test(migrations = false)]
async fn expired_quotes_are_swept_a_day_later(pool: PgPool) {
    let app = App::start(pool).await;
    let (_, body) = app.get(FLIGHTS).await;
    let mut conn = app.db.acquire().await.unwrap();
    let count = body["meta"]["count"].as_u64().unwrap();
    app.clock.advance(TimeDelta::hours(24));
    assert_eq!(
        crate::voyage::supply::offers::sweep(&mut conn, app.sources.now(), 1_000)
            .await
            .unwrap(),
        0
    );
    app.clock.advance(TimeDelta::minutes(21));
    assert_eq!(
        crate::voyage::supply::offers::sweep(&mut conn, app.sources.now(), 5)
            .await
            .unwrap(),
        5
    );
    assert_eq!(
        crate::voyage::supply::offers::sweep(&mut conn, app.sources.now(), 1_000)
            .await
            .unwrap(),
        count - 5
    );
}

#[sqlx::test(migrations = false)]
async fn a_second_search_is_byte_equal_and_says_so(pool: PgPool) {
    let app = App::start(pool).await;
    let first = app.send(FLIGHTS, None).await;
    let second = app.send(&format!("{FLIGHTS}&adults=1&unknown=param"), None).await;
    assert_eq!(
        (&first.headers()["x-cache"], &second.headers()["x-cache"]),
        (&"MISS".parse().unwrap(), &"HIT".parse().unwrap())
    );
    assert!(first.headers().contains_key("ratelimit-limit"));
    assert_eq!(bytes(first).await, bytes(second).await);

    app.clock.advance(TimeDelta::seconds(301));
    let third = app.send(FLIGHTS, None).await;
    assert_eq!(third.headers()["x-cache"], "MISS");
}

#[sqlx::test(migrations = false)]
async fn searches_at_the_same_time_are_one_search(pool: PgPool) {
    let app = App::start(pool).await;
    let answers = futures_util::future::join_all((0..16).map(|_| app.send(FLIGHTS, None))).await;
    let misses = answers
        .iter()
        .filter(|answer| answer.headers()["x-cache"] == "MISS")
        .count();
    assert_eq!(misses, 1);
    assert!(answers.iter().all(|answer| answer.status() == 200));
}

#[sqlx::test(migrations = false)]
async fn a_cached_search_needs_no_database(pool: PgPool) {
    let app = App::start(pool.clone()).await;
    assert_eq!(app.send(FLIGHTS, None).await.status(), 200);
    pool.close().await;
    assert_eq!(app.send(FLIGHTS, None).await.status(), 200);
    let cold = app.send(&format!("{FLIGHTS}&adults=2"), None).await;
    assert_eq!(cold.status(), 503);
    assert!(cold.headers().contains_key(header::RETRY_AFTER));
}

#[sqlx::test(migrations = false)]
async fn every_search_is_published_and_a_travellers_is_remembered(pool: PgPool) {
    let app = App::start(pool).await;
    let ada: UserId = app.sources.id();
    let bearer = app.issuer.sign_in(ada);
    app.send(FLIGHTS, None).await;
    app.send(&FLIGHTS.replace("CDG", "Paris"), Some(&bearer)).await;
    app.send(FLIGHTS, Some(&bearer)).await;
    app.send(FLIGHTS, Some("expired or forged")).await;
    app.send(FLIGHTS, Some(&app.issuer.service("ai-service"))).await;

    let events = app.events().await;
    assert_eq!(events.len(), 4, "another service's search is not a traveller's");
    let of = |index: usize, key: &str| events[index][key].clone();
    assert_eq!((of(0, "cached"), of(2, "cached")), (false.into(), true.into()));
    assert_eq!((of(0, "sessionId"), of(0, "userId")), ("anonymous".into(), Value::Null));
    assert_eq!(
        (of(1, "origin"), of(1, "destination"), of(1, "userId")),
        ("PAR".into(), "JFK".into(), ada.to_string().into())
    );
    assert_eq!(of(3, "sessionId"), "anonymous");
    insta::assert_json_snapshot!("search_performed", events[2], { ".searchId" => "[id]", ".userId" => "[user]", ".sessionId" => "[user]" });

    let history: Vec<(String, i32)> =
        sqlx::query_as("select query, results_count from voyage.search_history where user_id = $1 order by id")
            .bind(ada.0)
            .fetch_all(app.db.pool())
            .await
            .unwrap();
    assert_eq!(
        history.iter().map(|(query, _)| query.as_str()).collect::<Vec<_>>(),
        ["PAR → JFK", "CDG → JFK"]
    );
    assert!(history.iter().all(|(_, count)| *count > 0));
}

#[sqlx::test(migrations = false)]
async fn the_worker_writes_what_is_left_before_it_stops(pool: PgPool) {
    let app = App::start(pool).await;
    app.send(FLIGHTS, None).await;
    let shutdown = Shutdown::new();
    shutdown.halt();
    app.state.log().run(shutdown).await.unwrap();
    let count: i64 = sqlx::query_scalar("select count(*) from voyage.outbox")
        .fetch_one(app.db.pool())
        .await
        .unwrap();
    assert_eq!(count, 1);
}

#[sqlx::test(migrations = false)]
async fn a_full_buffer_drops_searches_and_delays_nobody(pool: PgPool) {
    let app = App::with(
        pool,
        SearchConfig {
            log_capacity: 2,
            ..SearchConfig::default()
        },
    )
    .await;
    for _ in 0..5 {
        assert_eq!(app.send(FLIGHTS, None).await.status(), 200);
    }
    assert_eq!(app.events().await.len(), 2);
}

#[sqlx::test(migrations = false)]
async fn only_searches_that_reach_a_provider_are_limited(pool: PgPool) {
    let rule = Rule::new("test", 2, std::time::Duration::from_mins(1));
    let app = App::with(
        pool,
        SearchConfig {
            provider_rule: rule,
            ..SearchConfig::default()
        },
    )
    .await;
    for adults in 1..=2 {
        assert_eq!(
            app.send(&format!("{FLIGHTS}&adults={adults}"), None).await.status(),
            200
        );
    }
    let refused = app.send(&format!("{FLIGHTS}&adults=3"), None).await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(app.send(FLIGHTS, None).await.status(), 200, "a cached search is free");
    let bearer = app.issuer.sign_in(app.sources.id());
    assert_eq!(
        app.send(&format!("{FLIGHTS}&adults=3"), Some(&bearer)).await.status(),
        200,
        "an account has its own bucket"
    );
}

#[sqlx::test(migrations = false)]
async fn places_may_be_named(pool: PgPool) {
    let app = App::start(pool).await;
    let (status, body) = app
        .get("/flights/search?origin=Paris,%20France&destination=new%20york&departureDate=2027-06-15&max=20")
        .await;
    assert_eq!(status, 200);
    let mut ends: Vec<_> = body["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|offer| offer["arrival"]["airport"].as_str().unwrap())
        .collect();
    ends.sort_unstable();
    ends.dedup();
    assert!(
        ends.len() > 1 && ends.iter().all(|end| ["JFK", "EWR", "LGA"].contains(end)),
        "{ends:?}"
    );
    assert_eq!(body["meta"]["count"], 20);
}

#[sqlx::test(migrations = false)]
async fn filters_and_currencies_are_honoured(pool: PgPool) {
    let app = App::start(pool).await;
    let (_, body) = app
        .get(&format!(
            "{FLIGHTS}&nonStop=true&includedAirlineCodes=AF,dl&currencyCode=jpy&maxPrice=90000"
        ))
        .await;
    let offers = body["data"].as_array().unwrap();
    assert!(!offers.is_empty());
    for offer in offers {
        assert_eq!(
            (&offer["stops"], &offer["price"]["currency"]),
            (&0.into(), &"JPY".into())
        );
        assert!(["AF", "DL"].contains(&offer["airline"]["code"].as_str().unwrap()));
        assert!(offer["price"]["total"].as_f64().unwrap() <= 90_000.0);
    }
    assert_eq!(body["meta"]["ratesAsOf"], crate::voyage::supply::rates::AS_OF);
}

#[sqlx::test(migrations = false)]
async fn unknown_codes_and_past_dates_find_nothing_and_are_no_error(pool: PgPool) {
    let app = App::start(pool).await;
    let (status, body) = app.get(&FLIGHTS.replace("JFK", "QQQ")).await;
    assert_eq!(
        (status.as_u16(), &body["data"], &body["meta"]["count"]),
        (200, &Value::Array(vec![]), &0.into())
    );
    assert!(body["meta"].get("warnings").is_none());

    let past = FLIGHTS.replace("2027-06-15", "2024-06-15");
    let (status, body) = app.get(&past).await;
    assert_eq!(
        (status.as_u16(), &body["meta"]["warnings"][0]),
        (200, &"date_in_past".into())
    );
    assert_eq!(
        bytes(app.send(&past, None).await).await,
        bytes(app.send(&past, None).await).await
    );
    assert_eq!(
        app.events().await.len(),
        4,
        "searches that find nothing are published too"
    );
}

#[sqlx::test(migrations = false)]
async fn what_is_missing_or_wrong_is_refused(pool: PgPool) {
    let app = App::start(pool).await;
    let (status, body) = app.get("/flights/search?originLocationCode=CDG").await;
    assert_eq!(status, 400);
    assert_eq!(
        body["error"],
        "Missing required parameters: originLocationCode, destinationLocationCode, departureDate"
    );
    assert_eq!((&body["code"], &body["success"]), (&"VALIDATION".into(), &false.into()));
    for bad in ["adults=2abc", "maxPrice=x", "returnDate=2027-06-14", "max=1000"] {
        let (status, body) = app.get(&format!("{FLIGHTS}&{bad}")).await;
        assert_eq!((status.as_u16(), &body["code"]), (400, &"VALIDATION".into()), "{bad}");
    }
    let (status, _) = app.get(&FLIGHTS.replace("CDG", "Nowhere%20At%20All%20Qzx")).await;
    assert_eq!(status, 400);
}
