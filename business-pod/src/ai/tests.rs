//! Tests of the AI service on a real PostgreSQL.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use axum::{Router, body::Body};
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, Method, Request};
use proptest::{prelude::any, prop_assert, proptest};
use serde_json::{Value, json};
use shared::{
    ApiError, Sources,
    auth::{AuthUser, Authenticate, Authenticator, ServiceCaller},
    db::{
        Db,
        migrate::{Roles, run_on},
    },
    events::{Envelope, NewEvent, Topic, consumer::Handler as _},
    http::limit::{LimitConfig, RateLimiter},
    redis::{Redis, RedisConfig},
    sources::{FixedClock, iso_millis},
};
use sqlx::PgPool;
use tower::ServiceExt as _;

use super::{
    Ai, AiConfig, AiState, Place, PlaceNames, VoyagePlaces, handler, migrations,
    model::{CountedBooking, Demand, Segment, popularity},
    router,
};

struct Nobody;

#[async_trait]
impl Authenticate for Nobody {
    async fn user(&self, _method: &Method, _headers: &HeaderMap) -> Result<Option<AuthUser>, ApiError> {
        Ok(None)
    }

    async fn service(&self, _headers: &HeaderMap) -> Result<ServiceCaller, ApiError> {
        Err(ApiError::unauthenticated("TOKEN_MISSING", "Access token required"))
    }
}

/// Three cities, one with two airports.
struct Atlas;

impl PlaceNames for Atlas {
    fn place(&self, code: &str) -> Option<Place> {
        let (code, name, country) = match code {
            "TYO" | "NRT" | "HND" => ("TYO", "Tokyo", "Japan"),
            "PAR" | "CDG" => ("PAR", "Paris", "France"),
            "ROM" | "FCO" => ("ROM", "Rome", "Italy"),
            _ => return None,
        };
        let [code, name, country] = [code, name, country].map(str::to_owned);
        Some(Place {
            code,
            name,
            country,
            latitude: 1.0,
            longitude: 2.0,
        })
    }
}

struct World {
    state: AiState,
    clock: Arc<FixedClock>,
    app: Router,
}

fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

impl World {
    async fn on(pool: PgPool) -> Self {
        Self::with(pool, Redis::memory()).await
    }

    async fn with(pool: PgPool, redis: Redis) -> Self {
        run_on(&mut pool.acquire().await.unwrap(), &[migrations()], Roles::Ignore)
            .await
            .unwrap();
        let clock = FixedClock::at(noon());
        let limiter = RateLimiter::new(Redis::memory(), LimitConfig { multiplier: 100.0 });
        let state = AiState::new(
            Db::new(pool),
            redis,
            Sources::fixed(clock.clone(), 1),
            Authenticator(Arc::new(Nobody)),
            limiter,
            Arc::new(Atlas),
            AiConfig::default(),
        );
        let (app, _) = router(&state).split_for_parts();
        Self { state, clock, app }
    }

    async fn tell(&self, topic: Topic, payload: Value) {
        let event: Envelope = NewEvent::new::<Ai>(&self.state.sources, topic, "key", &payload).envelope;
        let handler = handler(&self.state);
        let mut tx = self.state.db.begin().await.unwrap();
        handler.handle(&mut tx, topic, &event).await.unwrap();
        tx.commit().await.unwrap();
        handler.committed(topic, &event).await;
    }

    async fn search(&self, destination: &str) {
        let criteria = json!({ "origin": "LIS", "destination": destination });
        let payload =
            json!({ "searchId": "search-1", "searchType": "flight", "criteria": criteria, "userId": "somebody" });
        self.tell(Topic::VoyageSearchPerformed, payload).await;
    }

    async fn confirm(&self, reference: &str, destinations: &[&str]) {
        let at = iso_millis(self.state.sources.now());
        let payload =
            json!({ "bookingId": reference, "destinations": destinations, "confirmedAt": at, "userId": "somebody" });
        self.tell(Topic::VoyageBookingConfirmed, payload).await;
    }

    async fn cancel(&self, reference: &str, at: DateTime<Utc>) {
        let payload =
            json!({ "bookingReference": reference, "cancelledAt": iso_millis(at), "reason": "user_cancelled" });
        self.tell(Topic::VoyageBookingCancelled, payload).await;
    }

    async fn get(&self, query: &str) -> (u16, Value) {
        self.get_at(&format!("/api/v1/ai/recommendations/popular{query}")).await
    }

    async fn get_at(&self, uri: &str) -> (u16, Value) {
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// What the counters say: name → (searches, bookings), bypassing what is kept.
    async fn counts(&self) -> HashMap<String, (i64, i64)> {
        self.state.rankings.forget().await;
        let (_, body) = self.get("").await;
        let items = body["popular"].as_array().unwrap().iter();
        let count = |item: &Value, key: &str| item[key].as_i64().unwrap();
        items
            .map(|item| {
                let name = item["name"].as_str().unwrap().to_owned();
                (name, (count(item, "searchCount"), count(item, "bookingCount")))
            })
            .collect()
    }
}

fn counted(pairs: &[(&str, (i64, i64))]) -> HashMap<String, (i64, i64)> {
    pairs
        .iter()
        .map(|(name, counts)| ((*name).to_owned(), *counts))
        .collect()
}

#[sqlx::test(migrations = false)]
async fn searches_and_bookings_are_counted_for_cities(pool: PgPool) {
    let world = World::on(pool).await;
    for destination in ["NRT", "HND", "CDG", "48.85,2.35", "QQQ"] {
        world.search(destination).await;
    }
    world
        .tell(Topic::VoyageSearchPerformed, json!({ "destination": "ROM" }))
        .await;
    world.tell(Topic::VoyageSearchPerformed, json!({})).await;
    world.confirm("DS-1", &["NRT", "HND"]).await;
    let by_items = json!({ "bookingReference": "DS-2", "items": [{ "type": "FLIGHT", "destination": "FCO" }] });
    world.tell(Topic::VoyageBookingConfirmed, by_items).await;
    assert_eq!(
        world.counts().await,
        counted(&[("Tokyo", (2, 1)), ("Paris", (1, 0)), ("Rome", (1, 1))])
    );
}

#[sqlx::test(migrations = false)]
async fn a_cancellation_takes_back_what_was_counted_in_whatever_order_events_come(pool: PgPool) {
    let world = World::on(pool).await;
    world.confirm("DS-1", &["CDG"]).await;
    world.confirm("DS-1", &["CDG"]).await;
    assert_eq!(
        world.counts().await,
        counted(&[("Paris", (0, 1))]),
        "one booking however often it is told"
    );
    world.clock.advance(TimeDelta::days(1));
    world.cancel("DS-1", world.state.sources.now()).await;
    world.cancel("DS-1", world.state.sources.now()).await;
    assert_eq!(world.counts().await, counted(&[]));

    // the cancellation overtakes the confirmation
    world.cancel("DS-2", world.state.sources.now()).await;
    world.confirm("DS-2", &["CDG"]).await;
    assert_eq!(world.counts().await, counted(&[]));

    // a payment failed, then succeeded; the failure is told last
    let failed_at = world.state.sources.now();
    world.clock.advance(TimeDelta::minutes(5));
    world.confirm("DS-3", &["FCO"]).await;
    world.cancel("DS-3", failed_at).await;
    assert_eq!(world.counts().await, counted(&[("Rome", (0, 1))]));
}

#[sqlx::test(migrations = false)]
async fn nothing_kept_leads_back_to_a_traveller(pool: PgPool) {
    let world = World::on(pool.clone()).await;
    world.search("NRT").await;
    world.confirm("DS-SECRET", &["NRT"]).await;
    for table in ["ai.destinations", "ai.counted_bookings"] {
        let sql = sqlx::AssertSqlSafe(format!("select coalesce(string_agg(t::text, ' '), '') from {table} t"));
        let text: String = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
        assert!(!text.contains("somebody") && !text.contains("DS-SECRET"), "{text}");
    }
}

#[sqlx::test(migrations = false)]
async fn the_answer_has_every_key_of_the_contract_under_both_paths(pool: PgPool) {
    let world = World::on(pool).await;
    world.search("NRT").await;
    world.search("CDG").await;
    world.confirm("DS-1", &["CDG"]).await;
    let (status, body) = world.get("?limit=1").await;
    assert_eq!((status, &body["count"]), (200, &json!(1)));
    assert_eq!(
        body["metadata"],
        json!({ "source": "database", "segment": null, "category": null })
    );
    let item = &body["popular"][0];
    let keys = [
        "id",
        "destinationId",
        "destinationType",
        "name",
        "country",
        "coordinates",
        "vector",
        "version",
        "popularityScore",
        "bookingCount",
        "searchCount",
        "seasonalityData",
        "createdAt",
        "updatedAt",
        "lastSyncedAt",
        "type",
        "title",
        "description",
        "location",
        "price",
        "currency",
        "rating",
        "image",
        "tags",
        "validUntil",
    ];
    for key in keys {
        assert!(item.get(key).is_some(), "missing {key}");
    }
    assert_eq!(
        (&item["destinationId"], &item["location"]),
        (&json!("PAR"), &json!("Paris, France"))
    );
    assert_eq!(
        (&item["type"], &item["vector"].as_array().unwrap().len()),
        (&json!("destination"), &8)
    );

    let (_, again) = world.get("").await;
    assert_eq!(
        (&again["metadata"]["source"], &again["count"]),
        (&json!("cache"), &json!(2))
    );
    let (_, other_path) = world.get_at("/api/v1/recommendations/popular").await;
    assert_eq!(other_path["popular"], again["popular"]);
}

#[sqlx::test(migrations = false)]
async fn lists_by_segment_and_category_are_told_apart(pool: PgPool) {
    let world = World::on(pool).await;
    world.search("NRT").await;
    let (_, by_segment) = world.get("?segment=family_traveler&category=beach").await;
    assert_eq!(by_segment["metadata"]["segment"], "FAMILY_EXPLORER");
    assert_eq!(by_segment["count"], 1, "the segment beats the category");
    let item = &by_segment["popular"][0];
    let expected = 0.6 * item["popularityScore"].as_f64().unwrap() + 0.2;
    assert!((item["segmentMatchScore"].as_f64().unwrap() - expected).abs() < 1e-5);
    assert_eq!(world.get("?category=city").await.1["count"], 1);
    assert_eq!(world.get("?category=BEACH").await.1["count"], 0);
}

#[sqlx::test(migrations = false)]
async fn bad_parameters_are_refused(pool: PgPool) {
    let world = World::on(pool).await;
    for query in [
        "limit=0",
        "limit=51",
        "limit=-1",
        "limit=%2B5",
        "limit=ten",
        "limit=1e1",
        "limit=99999999999999999999999",
    ] {
        let (status, body) = world.get(&format!("?{query}")).await;
        assert_eq!(
            (status, &body["error"]),
            (400, &json!("limit must be between 1 and 50")),
            "{query}"
        );
    }
    for query in ["segment=EVERYBODY", "category=SPACE", "segment=%00"] {
        assert_eq!(world.get(&format!("?{query}")).await.0, 400, "{query}");
    }
    assert_eq!(world.get("?limit=50").await.0, 200);
}

#[sqlx::test(migrations = false)]
async fn a_booking_shows_at_once_and_without_redis_too(pool: PgPool) {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let away = Redis::connect(&RedisConfig::single(format!("redis://127.0.0.1:{port}"))).unwrap();
    let world = World::with(pool, away).await;
    world.search("NRT").await;
    let (status, before) = world.get("").await;
    assert_eq!((status, &before["metadata"]["source"]), (200, &json!("database")));
    world.confirm("DS-1", &["CDG"]).await;
    let (_, after) = world.get("").await;
    assert_eq!(
        (&after["metadata"]["source"], &after["popular"][0]["name"]),
        (&json!("database"), &json!("Paris"))
    );
}

#[sqlx::test(migrations = false)]
async fn a_kept_ranking_is_shared_and_expires(pool: PgPool) {
    let redis = Redis::memory();
    let world = World::with(pool, redis.clone()).await;
    world.search("NRT").await;
    world.get("").await;
    let kept = redis.get_text("popularity:top:global").await.unwrap().unwrap();
    assert!(kept.contains("Tokyo"));
    assert!(redis.ttl("popularity:top:global").await.unwrap().is_some());
    // another replica, which has computed nothing itself
    let other = AiState::new(
        world.state.db.clone(),
        redis,
        world.state.sources.clone(),
        world.state.authenticator.clone(),
        world.state.limiter.clone(),
        Arc::new(Atlas),
        AiConfig::default(),
    );
    let (app, _) = router(&other).split_for_parts();
    let other = World {
        state: other,
        clock: world.clock.clone(),
        app,
    };
    assert_eq!(other.get("").await.1["metadata"]["source"], "cache");
}

#[sqlx::test(migrations = false)]
async fn many_searches_at_once_are_all_counted(pool: PgPool) {
    let world = Arc::new(World::on(pool).await);
    let searches: Vec<_> = (0..20)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.search("NRT").await })
        })
        .collect();
    for search in searches {
        search.await.unwrap();
    }
    assert_eq!(world.counts().await, counted(&[("Tokyo", (20, 0))]));
}

#[test]
fn the_reference_data_knows_airports_by_their_city() {
    let (narita, tokyo) = (VoyagePlaces.place("NRT").unwrap(), VoyagePlaces.place("TYO").unwrap());
    assert_eq!(
        (narita.code.as_str(), narita.name.as_str(), narita.country.as_str()),
        ("TYO", "Tokyo", "Japan")
    );
    assert_eq!(tokyo.code, "TYO");
    assert!(VoyagePlaces.place("48.85,2.35").is_none() && VoyagePlaces.place("QQQ").is_none());
}

#[test]
fn demand_halves_in_its_half_life() {
    let mut demand = Demand::none(noon());
    demand.add_search(noon());
    demand.add_booking(noon());
    let later = demand.at(noon() + TimeDelta::days(30));
    assert!((later.searches - 0.5).abs() < 1e-9);
    assert!((demand.at(noon() + TimeDelta::days(120)).bookings - 0.5).abs() < 1e-9);
    assert_eq!((later.search_count, later.booking_count), (1, 1));
}

#[test]
fn bookings_weigh_more_than_searches_and_fresh_more_than_stale() {
    let of = |searches: u32, bookings: u32, at: DateTime<Utc>| {
        let mut demand = Demand::none(at);
        (0..searches).for_each(|_| demand.add_search(at));
        (0..bookings).for_each(|_| demand.add_booking(at));
        demand
    };
    let stale = noon() - TimeDelta::days(400);
    let scores = popularity(
        &[
            of(1, 10, noon()),
            of(10, 1, noon()),
            of(10, 10, stale),
            of(0, 0, noon()),
        ],
        noon(),
    );
    assert!(scores.windows(2).all(|pair| pair[0] > pair[1]), "{scores:?}");
    assert_eq!(popularity(&[], noon()), Vec::<f64>::new());
}

#[test]
fn a_destination_like_the_segment_suits_it_better() {
    let (culture, rest) = (
        [0.6, 0.9, 0.6, 0.5, 0.4, 0.7, 0.8, 0.6],
        [0.4, 0.1, 0.4, 0.5, 0.6, 0.3, 0.2, 0.4],
    );
    let segment = Segment::CulturalEnthusiast;
    assert!(segment.score(0.5, &culture) > segment.score(0.5, &[0.5; 8]));
    assert!(segment.score(0.5, &[0.5; 8]) > segment.score(0.5, &rest));
    for name in Segment::ALL {
        assert_eq!(Segment::parse(&name.name().to_lowercase()), Some(name));
    }
}

proptest! {
    #[test]
    fn the_order_of_events_does_not_matter(hours in proptest::collection::vec((0..2000_i64, any::<bool>()), 1..20)) {
        let count = |events: &[(i64, bool)]| {
            let mut demand = Demand::none(noon());
            for (hour, booking) in events {
                let at = noon() + TimeDelta::hours(*hour);
                if *booking { demand.add_booking(at) } else { demand.add_search(at) }
            }
            demand.at(noon() + TimeDelta::hours(2000))
        };
        let mut reversed = hours.clone();
        reversed.reverse();
        let (one, other) = (count(&hours), count(&reversed));
        prop_assert!((one.searches - other.searches).abs() < 1e-9);
        prop_assert!((one.bookings - other.bookings).abs() < 1e-9);
        prop_assert!((one.short - other.short).abs() < 1e-9);
    }

    #[test]
    fn popularity_stays_between_0_and_1(counts in proptest::collection::vec((0..50_u32, 0..50_u32, 0..900_i64), 0..20)) {
        let demands: Vec<_> = counts.iter().map(|(searches, bookings, age)| {
            let at = noon() - TimeDelta::days(*age);
            let mut demand = Demand::none(at);
            (0..*searches).for_each(|_| demand.add_search(at));
            (0..*bookings).for_each(|_| demand.add_booking(at));
            demand
        }).collect();
        for score in popularity(&demands, noon()) {
            prop_assert!((0.0..=1.0).contains(&score), "{score}");
        }
    }

    #[test]
    fn a_booking_is_counted_by_its_latest_event(events in proptest::collection::vec((0..1000_i64, any::<bool>()), 1..12)) {
        let mut booking = CountedBooking::default();
        for (hour, confirmed) in &events {
            let at = noon() + TimeDelta::hours(*hour);
            if *confirmed { booking.confirm(at, vec!["PAR".to_owned()]); } else { booking.cancel(at); }
        }
        let latest_cancel = events.iter().filter(|(_, confirmed)| !confirmed).map(|(hour, _)| hour).max();
        let counted_at = booking.confirmed_at.map(|at| (at - noon()).num_hours());
        // what is counted was confirmed after every cancellation that could concern it
        prop_assert!(counted_at.is_none() || latest_cancel.is_none() || counted_at > latest_cancel.copied());
    }
}
