//! Erasure of accounts: a saga that survives being killed anywhere (core §5.11, §14).

use std::time::Duration;

use core_pod::{
    fault,
    user::gdpr::erasure::{self, ErasureId, Outcome, Step},
};
use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    privacy_world::World,
    support::{PASSWORD, Traveller},
};

const DAY: i64 = 86_400;
/// Longer than a worker holds a claim.
const LEASE: i64 = 301;

async fn ask(world: &World, who: &Traveller) -> Value {
    let reply = world.gdpr(who, Method::POST, "/data-deletion", None).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.body["data"].clone()
}

/// Begins all erasures whose grace is over.
async fn begin(world: &World) -> usize {
    let mut begun = 0;
    while erasure::begin_due(&world.app.services.user).await.unwrap() {
        begun += 1;
    }
    begun
}

impl World {
    /// Tables, outside of the queues of events and mails, in which one of these texts stands.
    async fn traces(&self, texts: &[&str]) -> Vec<String> {
        let tables: Vec<(String, String)> = sqlx::query_as(
            "select table_schema::text, table_name::text from information_schema.tables
             where table_schema in ('auth', 'users') and table_type = 'BASE TABLE'
                 and table_name not in ('outbox', 'inbox', '_sqlx_migrations')
             order by 1, 2",
        )
        .fetch_all(&self.app.pool)
        .await
        .unwrap();
        let mut traces = Vec::new();
        for (schema, table) in tables {
            let sql = format!("select to_jsonb(t)::text from {schema}.{table} as t");
            let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .fetch_all(&self.app.pool)
                .await
                .unwrap();
            let found = rows.iter().any(|row| texts.iter().any(|text| row.contains(text)));
            if found {
                traces.push(format!("{schema}.{table}"));
            }
        }
        traces
    }

    async fn told(&self, who: &Traveller) -> Vec<Value> {
        let events = self.app.events("users").await.into_iter();
        events
            .filter(|(topic, envelope)| topic == "user.deleted" && envelope["payload"]["userId"] == who.id.as_str())
            .map(|(_, envelope)| envelope["payload"].clone())
            .collect()
    }

    /// Goes on with an erasure whose worker was killed. Its connection may hold the row until it has rolled back.
    async fn resume(&self, who: &Traveller, id: ErasureId) -> Outcome {
        for _ in 0..500 {
            let outcome = erasure::run_one(&self.app.services.user, Some(id)).await.unwrap();
            if outcome != Outcome::Idle || self.erasure_of(who).await.is_none() {
                return outcome;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Outcome::Idle
    }

    async fn assert_erased(&self, who: &Traveller, email: &str) {
        let texts = [who.id.as_str(), email];
        assert_eq!(self.traces(&texts).await, Vec::<String>::new(), "{email}");
        assert!(self.objects(&who.id).is_empty(), "{email} has left objects");
        assert_eq!(self.told(who).await.len(), 1, "{email} is told of once");
        let login = self.app.try_login(email, PASSWORD).await;
        login.refused(401, "INVALID_CREDENTIALS");
    }
}

#[sqlx::test(migrations = false)]
async fn nothing_happens_within_the_grace_and_everything_after_it(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller("ada@example.com").await;
    let eve = world.traveller("eve@example.com").await;
    world.gdpr(&ada, Method::POST, "/data-export", None).await;
    ask(&world, &ada).await;
    assert_eq!(world.mails("deletion-scheduled").await, 1);
    world.app.advance(30 * DAY - 1);
    assert_eq!(begin(&world).await, 0);
    let ada = Traveller {
        token: world.app.login("ada@example.com").await.token,
        ..ada
    };
    assert!(!world.objects(&format!("exports/{}", ada.id)).is_empty());
    world.app.advance(1);
    assert_eq!(begin(&world).await, 1);
    let state = &world.app.services.user;
    assert_eq!(erasure::run_one(state, None).await.unwrap(), Outcome::Done);
    assert_eq!(erasure::run_one(state, None).await.unwrap(), Outcome::Idle);

    world.assert_erased(&ada, "ada@example.com").await;
    world.app.profile(&ada.token).await.refused(401, "USER_INACTIVE");
    assert_eq!(
        world.told(&ada).await,
        [json!({ "userId": ada.id, "deletedAt": "2027-02-14T08:00:00.000Z", "reason": "user_request" })]
    );
    assert_eq!(world.mails("deletion-done").await, 1);
    let (hash, requested, completed, summary): (String, String, String, Value) = sqlx::query_as(
        "select user_id_hash, to_char(requested_at at time zone 'UTC', 'YYYY-MM-DD'),
                to_char(completed_at at time zone 'UTC', 'YYYY-MM-DD'), summary
         from users.erasure_log",
    )
    .fetch_one(&world.app.pool)
    .await
    .unwrap();
    assert_eq!(hash, erasure::user_id_hash(ada.id.parse().unwrap()));
    assert_eq!((requested.as_str(), completed.as_str()), ("2027-01-15", "2027-02-14"));
    assert_eq!(
        (&summary["origin"], &summary["steps"]["account"]),
        (&json!("request"), &json!({ "existed": true }))
    );
    assert_eq!(summary["steps"]["data"]["favorites"], 1);
    assert_eq!(summary["kept"][0]["data"], "payments");

    let kept: Vec<(String, String, String)> = sqlx::query_as(
        "select user_id::text, resource_id, endpoint from users.data_access_logs where accessor_type = 'admin'
             and user_id::text <> $1",
    )
    .bind(&eve.id)
    .fetch_all(&world.app.pool)
    .await
    .unwrap();
    let pseudonym = summary["pseudonym"].as_str().unwrap().to_owned();
    let endpoint = format!("/api/v1/admin/users/{pseudonym}");
    assert_eq!(
        kept,
        [(pseudonym.clone(), pseudonym, endpoint)],
        "what the administrator did stays"
    );
    let others = world.traces(&[&eve.id]).await;
    assert!(others.len() > 10, "another traveller keeps everything: {others:?}");
    assert_eq!(world.objects(&eve.id).len(), 1);
}

#[sqlx::test(migrations = false)]
async fn an_erasure_killed_at_any_point_is_finished_and_told_once(pool: PgPool) {
    let world = World::start(pool).await;
    let mut travellers = Vec::new();
    for step in Step::ORDER {
        for moment in ["done", "noted"] {
            let point = format!("erasure.{}.{moment}", step.as_str());
            let email = format!("{}-{moment}@example.com", step.as_str());
            let who = world.traveller(&email).await;
            ask(&world, &who).await;
            travellers.push((point, email, who));
        }
    }
    world.app.advance(31 * DAY);
    assert_eq!(begin(&world).await, travellers.len());
    let state = &world.app.services.user;
    for (point, email, who) in &travellers {
        let id = world.erasure_of(who).await.unwrap();
        let killed = fault::stopping_at(point, erasure::run_one(state, Some(id))).await;
        assert!(killed, "{point} was not reached");
        assert_eq!(
            erasure::run_one(state, Some(id)).await.unwrap(),
            Outcome::Idle,
            "{point}: its worker may still live"
        );
        world.app.advance(LEASE);
        let resumed = world.resume(who, id).await;
        let expected = if point == "erasure.certificate.noted" {
            Outcome::Idle
        } else {
            Outcome::Done
        };
        assert_eq!(resumed, expected, "{point}");
        world.assert_erased(who, email).await;
        assert_eq!(world.erasure_of(who).await, None, "{point}");
    }
    let count = i64::try_from(travellers.len()).unwrap();
    assert_eq!(world.app.count("select count(*) from users.erasure_log").await, count);
    assert_eq!(world.mails("deletion-done").await, count);
    assert_eq!(world.app.count("select count(*) from users.erasure_steps").await, 0);
}

#[sqlx::test(migrations = false)]
async fn workers_at_the_same_time_erase_each_account_once(pool: PgPool) {
    let world = World::start(pool).await;
    let mut travellers = Vec::new();
    for name in ["ada", "bea", "cleo"] {
        let email = format!("{name}@example.com");
        let who = world.traveller(&email).await;
        ask(&world, &who).await;
        travellers.push((email, who));
    }
    world.app.advance(31 * DAY);
    let state = &world.app.services.user;
    for begun in futures_util::future::join_all((0..6).map(|_| erasure::begin_due(state))).await {
        begun.unwrap();
    }
    let outcomes = futures_util::future::join_all((0..6).map(|_| erasure::run_one(state, None))).await;
    let done = outcomes
        .into_iter()
        .filter(|outcome| *outcome.as_ref().unwrap() == Outcome::Done)
        .count();
    assert_eq!(done, 3);
    for (email, who) in &travellers {
        world.assert_erased(who, email).await;
    }
    assert_eq!(world.mails("deletion-done").await, 3);
}

#[sqlx::test(migrations = false)]
async fn a_deletion_that_was_taken_back_is_never_carried_out(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller("ada@example.com").await;
    let request = ask(&world, &ada).await;
    let path = format!("/requests/{}", request["id"].as_str().unwrap());
    world.gdpr(&ada, Method::DELETE, &path, None).await;
    world.app.advance(400 * DAY);
    assert_eq!(begin(&world).await, 0);
    assert_eq!(world.app.try_login("ada@example.com", PASSWORD).await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn a_deletion_that_has_begun_cannot_be_taken_back(pool: PgPool) {
    let world = World::start(pool).await;
    world.traveller("ada@example.com").await;
    let ada = world.app.login("ada@example.com").await;
    let request = ask(&world, &ada).await;
    world.app.advance(31 * DAY);
    assert_eq!(begin(&world).await, 1);
    let ada = world.app.login("ada@example.com").await;
    let path = format!("/requests/{}", request["id"].as_str().unwrap());
    let late = world.gdpr(&ada, Method::DELETE, &path, None).await;
    late.refused(409, "REQUEST_NOT_PENDING");
    let again = ask(&world, &ada).await;
    assert_eq!(
        (&again["id"], &again["status"]),
        (&request["id"], &json!("IN_PROGRESS"))
    );
}

#[sqlx::test(migrations = false)]
async fn an_administrators_deletion_is_the_same_saga_at_once(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller("ada@example.com").await;
    let root = world.app.register("root@example.com").await;
    ask(&world, &ada).await;
    let state = &world.app.services.user;
    let (user, actor) = (ada.id.parse().unwrap(), root.id.parse().unwrap());
    erasure::start_now(state, user, actor, Some("fraud")).await.unwrap();
    world.assert_erased(&ada, "ada@example.com").await;
    assert_eq!(world.told(&ada).await[0]["reason"], "admin_action");
    assert_eq!(world.app.count("select count(*) from users.gdpr_requests").await, 0);
    let gone = erasure::start_now(state, user, actor, None).await.unwrap_err();
    assert_eq!((gone.status().as_u16(), gone.code()), (404, "USER_NOT_FOUND"));
    assert_eq!(begin(&world).await, 0);
}

#[sqlx::test(migrations = false)]
async fn the_last_administrator_cannot_be_erased_and_keeps_everything(pool: PgPool) {
    let world = World::start(pool).await;
    let root = world.traveller("root@example.com").await;
    world.app.execute("update auth.users set role = 'ADMIN'").await;
    ask(&world, &root).await;
    let state = &world.app.services.user;
    let user = root.id.parse().unwrap();
    let refused = erasure::start_now(state, user, user, None).await.unwrap_err();
    assert_eq!((refused.status().as_u16(), refused.code()), (409, "LAST_ADMIN"));
    world.app.advance(31 * DAY);
    assert_eq!(begin(&world).await, 1);
    assert_eq!(erasure::run_one(state, None).await.unwrap(), Outcome::Refused);
    assert_eq!(begin(&world).await, 0, "asked again tomorrow");
    assert_eq!(world.app.try_login("root@example.com", PASSWORD).await.status, 200);
    assert_eq!(world.app.count("select count(*) from users.favorites").await, 1);
    world.app.register("second@example.com").await;
    world.app.execute("update auth.users set role = 'ADMIN'").await;
    world.app.advance(DAY);
    assert_eq!(begin(&world).await, 1);
    assert_eq!(erasure::run_one(state, None).await.unwrap(), Outcome::Done);
    world.assert_erased(&root, "root@example.com").await;
}
