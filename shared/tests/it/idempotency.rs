//! Idempotency keys on a real PostgreSQL.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, TimeDelta};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use shared::{
    ApiError, Sources,
    db::{Db, Service},
    idempotency::{self, Answer, BodyHash, Claimed, IdempotencyKey, Scope},
    sources::FixedClock,
};
use sqlx::{AssertSqlSafe, PgPool};

enum Demo {}

impl Service for Demo {
    const NAME: &'static str = "demo-service";
    const SCHEMA: &'static str = "demo";
}

struct World {
    db: Db<Demo>,
    sources: Sources,
    clock: Arc<FixedClock>,
    done: Arc<AtomicU32>,
}

impl World {
    async fn on(pool: PgPool) -> Self {
        let table = include_str!("../../sql/idempotency.sql").replace("service_schema", "demo");
        sqlx::raw_sql(AssertSqlSafe(format!("create schema demo; {table}")))
            .execute(&pool)
            .await
            .unwrap();
        let clock = FixedClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        Self {
            db: Db::new(pool),
            sources: Sources::fixed(clock.clone(), 7),
            clock,
            done: Arc::default(),
        }
    }

    async fn pay(&self, key: &str, body: &Value, status: StatusCode) -> Result<Response, ApiError> {
        let work = async || {
            let number = self.done.fetch_add(1, Ordering::SeqCst) + 1;
            Ok((status, axum::Json(json!({ "number": number }))).into_response())
        };
        self.run(key, body, work).await
    }

    async fn run<F: Future<Output = Result<Response, ApiError>>>(
        &self,
        key: &str,
        body: &Value,
        work: impl FnOnce() -> F,
    ) -> Result<Response, ApiError> {
        let key = IdempotencyKey::parse(key).unwrap();
        idempotency::run(
            &self.db,
            &self.sources,
            Some(key),
            &scope("user:ada"),
            BodyHash::of_value(body),
            work,
        )
        .await
    }

    fn times_done(&self) -> u32 {
        self.done.load(Ordering::SeqCst)
    }
}

fn scope(caller: &str) -> Scope {
    Scope::new(caller, Method::POST, "/api/v1/payment/create-intent")
}

async fn seen(response: Response) -> (u16, bool, Value) {
    let replayed = response
        .headers()
        .get("idempotent-replayed")
        .is_some_and(|value| value == "true");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, replayed, serde_json::from_slice(&body).unwrap())
}

#[sqlx::test(migrations = false)]
async fn a_second_call_gets_the_first_answer(pool: PgPool) {
    let world = World::on(pool).await;
    let body = json!({ "amount": 10 });
    let first = world.pay("k", &body, StatusCode::CREATED).await.unwrap();
    assert_eq!(seen(first).await, (201, false, json!({ "number": 1 })));
    let second = world.pay("k", &body, StatusCode::CREATED).await.unwrap();
    assert_eq!(second.headers()["content-type"], "application/json");
    assert_eq!(seen(second).await, (201, true, json!({ "number": 1 })));

    let conflict = world
        .pay("k", &json!({ "amount": 11 }), StatusCode::CREATED)
        .await
        .unwrap_err();
    assert_eq!(
        (conflict.status().as_u16(), conflict.code()),
        (422, "IDEMPOTENCY_CONFLICT")
    );
    world.pay("other", &body, StatusCode::CREATED).await.unwrap();
    assert_eq!(world.times_done(), 2);
}

#[sqlx::test(migrations = false)]
async fn a_key_means_nothing_to_another_caller(pool: PgPool) {
    let world = World::on(pool).await;
    let key = IdempotencyKey::parse("k").unwrap();
    let mut conn = world.db.acquire().await.unwrap();
    for caller in ["user:ada", "user:bob"] {
        let hash = BodyHash::of_value(&json!(caller));
        let claimed = idempotency::claim::<Demo>(&mut conn, &world.sources, &key, &scope(caller), hash)
            .await
            .unwrap();
        assert!(matches!(claimed, Claimed::Ours(_)));
    }
}

#[sqlx::test(migrations = false)]
async fn of_fifty_callers_at_once_one_works(pool: PgPool) {
    let world = Arc::new(World::on(pool).await);
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.pay("k", &json!({}), StatusCode::OK).await })
        })
        .collect();
    let (mut first, mut replays, mut waiting) = (0, 0, 0);
    for caller in callers {
        match caller.await.unwrap() {
            Ok(response) => match seen(response).await {
                (200, false, _) => first += 1,
                (200, true, body) => {
                    assert_eq!(body, json!({ "number": 1 }));
                    replays += 1;
                }
                other => panic!("{other:?}"),
            },
            Err(error) => {
                assert_eq!(
                    (error.status().as_u16(), error.code()),
                    (409, "IDEMPOTENCY_IN_PROGRESS")
                );
                waiting += 1;
            }
        }
    }
    assert_eq!((world.times_done(), first, replays + waiting), (1, 1, 49));
}

#[sqlx::test(migrations = false)]
async fn an_answer_that_says_nothing_lasting_is_not_kept(pool: PgPool) {
    let world = World::on(pool).await;
    for status in [
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::CONFLICT,
        StatusCode::TOO_MANY_REQUESTS,
    ] {
        assert_eq!(world.pay("k", &json!({}), status).await.unwrap().status(), status);
    }
    let failed = world
        .run("k", &json!({}), async || {
            Err(ApiError::internal(anyhow::anyhow!("boom")))
        })
        .await;
    assert_eq!(failed.unwrap_err().status(), 500);
    let declined = ApiError::new(StatusCode::PAYMENT_REQUIRED, "CARD_DECLINED", "Your card was declined");
    let first = world.run("k", &json!({}), async || Err(declined)).await.unwrap();
    assert_eq!(
        (
            first.status().as_u16(),
            first.headers().contains_key("idempotent-replayed")
        ),
        (402, false)
    );
    let (status, replayed, body) = seen(world.pay("k", &json!({}), StatusCode::OK).await.unwrap()).await;
    assert_eq!(
        (status, replayed, body["code"].as_str()),
        (402, true, Some("CARD_DECLINED"))
    );
}

#[sqlx::test(migrations = false)]
async fn a_first_caller_that_crashed_blocks_for_a_minute_and_not_longer(pool: PgPool) {
    let world = World::on(pool).await;
    let crashed = tokio::time::timeout(Duration::from_millis(300), world.run("k", &json!({}), pending)).await;
    assert!(crashed.is_err());
    let waiting = world.pay("k", &json!({}), StatusCode::OK).await.unwrap_err();
    assert_eq!(waiting.code(), "IDEMPOTENCY_IN_PROGRESS");
    world.clock.advance(TimeDelta::seconds(61));
    let conflict = world
        .pay("k", &json!({ "other": true }), StatusCode::OK)
        .await
        .unwrap_err();
    assert_eq!(conflict.code(), "IDEMPOTENCY_CONFLICT");
    assert_eq!(world.pay("k", &json!({}), StatusCode::OK).await.unwrap().status(), 200);
    assert_eq!(world.times_done(), 1);
}

#[sqlx::test(migrations = false)]
async fn an_attempt_that_lost_its_lock_cannot_store_its_answer(pool: PgPool) {
    let world = World::on(pool).await;
    let key = IdempotencyKey::parse("k").unwrap();
    let hash = BodyHash::of_value(&json!({}));
    let mut conn = world.db.acquire().await.unwrap();
    let claimed = idempotency::claim::<Demo>(&mut conn, &world.sources, &key, &scope("user:ada"), hash)
        .await
        .unwrap();
    let Claimed::Ours(slow) = claimed else {
        panic!("the first claim")
    };
    world.clock.advance(TimeDelta::seconds(61));
    world.pay("k", &json!({}), StatusCode::OK).await.unwrap();
    let late = slow
        .complete::<Demo>(
            &mut conn,
            &world.sources,
            &Answer::json(StatusCode::OK, &json!({ "late": true })),
        )
        .await;
    assert_eq!(late.unwrap_err().status(), 409);
    let (_, replayed, body) = seen(world.pay("k", &json!({}), StatusCode::OK).await.unwrap()).await;
    assert_eq!((replayed, body), (true, json!({ "number": 1 })));
}

#[sqlx::test(migrations = false)]
async fn in_a_transaction_the_answer_and_the_change_are_one(pool: PgPool) {
    let world = World::on(pool).await;
    let key = IdempotencyKey::parse("k").unwrap();
    let hash = BodyHash::of_value(&json!({}));
    let answer = Answer::json(StatusCode::OK, &json!({ "done": true }));
    for commit in [false, true] {
        let mut tx = world.db.begin().await.unwrap();
        let claimed = idempotency::claim::<Demo>(&mut tx, &world.sources, &key, &scope("user:ada"), hash)
            .await
            .unwrap();
        let Claimed::Ours(claim) = claimed else {
            panic!("rolled back, so free")
        };
        claim.complete::<Demo>(&mut tx, &world.sources, &answer).await.unwrap();
        if commit {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
    }
    let (_, replayed, body) = seen(world.pay("k", &json!({}), StatusCode::OK).await.unwrap()).await;
    assert_eq!((replayed, body, world.times_done()), (true, json!({ "done": true }), 0));
}

#[sqlx::test(migrations = false)]
async fn a_key_is_forgotten_after_a_day_or_with_its_account(pool: PgPool) {
    let world = World::on(pool).await;
    for key in ["a", "b"] {
        world.pay(key, &json!({}), StatusCode::OK).await.unwrap();
    }
    world.clock.advance(TimeDelta::hours(23));
    world.pay("c", &json!({}), StatusCode::OK).await.unwrap();
    assert_eq!(idempotency::purge(&world.db, &world.sources, 10).await.unwrap(), 0);
    world.clock.advance(TimeDelta::hours(2));
    // used again before the purge came by
    let (_, replayed, body) = seen(world.pay("a", &json!({ "new": 1 }), StatusCode::OK).await.unwrap()).await;
    assert_eq!((replayed, body), (false, json!({ "number": 4 })));
    assert_eq!(idempotency::purge(&world.db, &world.sources, 10).await.unwrap(), 1);
    let mut conn = world.db.acquire().await.unwrap();
    assert_eq!(idempotency::erase::<Demo>(&mut conn, "user:ada").await.unwrap(), 2);
}
