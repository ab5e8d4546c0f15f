//! Exports of all data of a traveller (core §5.11, §14).

use std::time::Duration;

use core_pod::{
    fault,
    user::gdpr::{
        data::{Erase, Export, TABLES},
        export::{self, Outcome},
        retention,
    },
};
use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::{
    privacy_world::World,
    support::{Reply, TestApp, Traveller},
};

const DAY: i64 = 86_400;

async fn ask(world: &World, who: &Traveller) -> String {
    let reply = world.gdpr(who, Method::POST, "/data-export", None).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.body["data"]["id"].as_str().unwrap().to_owned()
}

async fn download(world: &World, who: &Traveller, id: &str) -> Reply {
    world
        .gdpr(who, Method::GET, &format!("/data-export/{id}/download"), None)
        .await
}

async fn status(world: &World, who: &Traveller, id: &str) -> Value {
    let reply = world.gdpr(who, Method::GET, &format!("/requests/{id}"), None).await;
    reply.body["data"]["status"].clone()
}

#[sqlx::test(migrations = false)]
async fn an_export_is_ready_at_once_complete_encrypted_and_downloaded_as_a_file(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller("ada@example.com").await;
    world.buys(&ada).await;
    let asked = world.gdpr(&ada, Method::POST, "/data-export", None).await;
    assert_eq!(asked.body["message"], "Data export request created");
    let request = &asked.body["data"];
    assert_eq!(
        *request,
        json!({
            "id": request["id"], "userId": ada.id, "requestType": "DATA_EXPORT", "status": "PENDING",
            "requestedAt": "2027-01-15T08:00:00.000Z", "processedAt": null, "completedAt": null,
            "expiresAt": "2027-02-14T08:00:00.000Z", "executeAfter": null, "reason": null, "notes": null,
        })
    );
    let id = request["id"].as_str().unwrap();
    assert_eq!(status(&world, &ada, id).await, "COMPLETED");
    let told = world.app.events("users").await;
    let told = &told
        .iter()
        .find(|(topic, _)| topic == "gdpr.export.requested")
        .unwrap()
        .1["payload"];
    assert_eq!(
        *told,
        json!({
            "requestId": id, "userId": ada.id, "requestedAt": "2027-01-15T08:00:00.000Z",
            "expiresAt": "2027-02-14T08:00:00.000Z",
        })
    );
    assert_eq!(world.mails("export-ready").await, 1);

    let stored = world.objects("exports/");
    assert_eq!(stored.len(), 1);
    for secret in ["ada@example.com", "Lovelace", "h-1"] {
        let plain = stored[0]
            .1
            .windows(secret.len())
            .any(|bytes| bytes == secret.as_bytes());
        assert!(!plain, "{secret} lies there in clear");
    }

    let file = download(&world, &ada, id).await;
    assert_eq!(file.status, 200);
    assert_eq!(
        file.headers["content-disposition"],
        "attachment; filename=\"dreamscape-data-export.json\""
    );
    assert_eq!(file.headers["content-type"], "application/json");
    let content = file.body;
    for key in ["settings", "profile", "preferences", "consent", "user"] {
        assert!(content[key].is_object(), "{key}: {}", content[key]);
    }
    for key in [
        "favorites",
        "history",
        "searches",
        "policyAcceptances",
        "notifications",
        "sessions",
        "bookings",
        "accessLogs",
        "gdprRequests",
        "analytics",
        "securityEvents",
    ] {
        assert!(!content[key].as_array().unwrap().is_empty(), "{key} is empty");
    }
    assert_eq!(content["payments"], json!([]));
    assert_eq!(content["passkeys"], json!([]));
    assert_eq!(content["linkedAccounts"], json!([]));
    assert_eq!(content["user"]["email"], "ada@example.com");
    assert_eq!(content["consent"]["history"][0]["analytics"], true);
    assert_eq!(content["travelOnboarding"]["healthConsiderations"], json!(["asthma"]));
    assert_eq!(content["favorites"][0]["entityData"], json!({ "snake_key": 1 }));
    assert_eq!(content["bookings"][0]["totalAmount"], json!(299.5));
    assert_eq!(content["searches"][0]["destination"], "JFK");
    assert_eq!(content["preferences"]["language"], "English");
    assert_eq!(content["exportedAt"], "2027-01-15T08:00:00.000Z");
    assert_eq!(content["schemaVersion"], "1.0");
    let text = content.to_string();
    for secret in [&ada.token, &ada.refresh, &ada.session] {
        assert!(!text.contains(secret.as_str()), "a secret is in the export");
    }
    for word in ["password", "tokenHash", "argon2", "digest"] {
        let named = text
            .to_ascii_lowercase()
            .contains(&format!("{}\":\"", word.to_ascii_lowercase()));
        assert!(!named && !text.contains("$argon2"), "{word}");
    }
    world.app.services.flush_audit().await.unwrap();
    let logged = world
        .app
        .count("select count(*) from users.data_access_logs where action = 'EXPORT' and resource = 'GdprData'");
    assert_eq!(logged.await, 1);
}

#[sqlx::test(migrations = false)]
async fn an_export_is_never_partial_and_waits_for_the_business_pod(pool: PgPool) {
    let world = World::alone(pool).await;
    let ada = world.traveller("ada@example.com").await;
    let id = ask(&world, &ada).await;
    let state = &world.app.services.user;
    for _ in 0..3 {
        let reply = download(&world, &ada, &id).await;
        assert_eq!(reply.status, 202);
        assert_eq!(reply.body["success"], true);
        assert_eq!(reply.body["data"], json!({ "id": id, "status": "PENDING" }));
        assert!(reply.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() > 0);
        assert!(world.objects("exports/").is_empty());
        assert_eq!(
            export::run_one(state, None).await.unwrap(),
            Outcome::Idle,
            "not before its time"
        );
        world.app.advance(120);
        assert_eq!(export::run_one(state, None).await.unwrap(), Outcome::Postponed);
    }
    let shown = world.gdpr(&ada, Method::GET, "/requests", None).await;
    assert_eq!(shown.body["data"][0]["notes"], Value::Null, "why is nobody's business");
    world.business_comes().await;
    world.app.advance(3_600);
    let ada = world.app.login("ada@example.com").await;
    assert_eq!(export::run_one(state, None).await.unwrap(), Outcome::Done);
    assert_eq!(export::run_one(state, None).await.unwrap(), Outcome::Idle);
    assert_eq!(download(&world, &ada, &id).await.status, 200);
    assert_eq!(world.mails("export-ready").await, 1);
}

#[sqlx::test(migrations = false)]
async fn an_export_whose_worker_dies_is_finished_by_the_next_one_and_told_once(pool: PgPool) {
    let world = World::start(pool).await;
    let state = &world.app.services.user;
    for (round, point) in ["export.stored", "export.completed"].into_iter().enumerate() {
        let ada = world.traveller(&format!("ada{round}@example.com")).await;
        let asking = world.gdpr(&ada, Method::POST, "/data-export", None);
        assert!(fault::stopping_at(point, asking).await, "{point} was not reached");
        let requests = world.gdpr(&ada, Method::GET, "/requests", None).await;
        let id = requests.body["data"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!(requests.body["data"][0]["status"], "IN_PROGRESS");
        assert_eq!(download(&world, &ada, &id).await.status, 202);
        assert_eq!(
            export::run_one(state, None).await.unwrap(),
            Outcome::Idle,
            "its worker may still live"
        );
        world.app.advance(121);
        // the dead worker's connection may hold the row until it has rolled back
        let mut tries = 0..500;
        while export::run_one(state, None).await.unwrap() == Outcome::Idle && tries.next().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(download(&world, &ada, &id).await.status, 200);
        assert_eq!(world.mails("export-ready").await, i64::try_from(round).unwrap() + 1);
    }
}

#[sqlx::test(migrations = false)]
async fn workers_at_the_same_time_make_each_export_once(pool: PgPool) {
    let world = World::alone(pool).await;
    let ada = world.traveller("ada@example.com").await;
    for _ in 0..4 {
        ask(&world, &ada).await;
    }
    world.business_comes().await;
    world.app.advance(60);
    let state = &world.app.services.user;
    let outcomes = futures_util::future::join_all((0..8).map(|_| export::run_one(state, None))).await;
    let done = outcomes
        .into_iter()
        .filter(|outcome| *outcome.as_ref().unwrap() == Outcome::Done)
        .count();
    assert_eq!(done, 4);
    assert_eq!(world.mails("export-ready").await, 4);
}

#[sqlx::test(migrations = false)]
async fn an_export_expires_and_its_object_is_removed(pool: PgPool) {
    let world = World::start(pool).await;
    world.traveller("ada@example.com").await;
    let ada = world.app.login("ada@example.com").await;
    let id = ask(&world, &ada).await;
    world.app.advance(29 * DAY);
    retention::run(&world.app.services.user).await.unwrap();
    let ada = world.app.login("ada@example.com").await;
    assert_eq!(download(&world, &ada, &id).await.status, 200);
    world.app.advance(DAY);
    let ada = world.app.login("ada@example.com").await;
    download(&world, &ada, &id).await.refused(410, "EXPORT_EXPIRED");
    let forgotten = retention::run(&world.app.services.user).await.unwrap();
    assert_eq!(forgotten.exports, 1);
    assert!(world.objects("exports/").is_empty());
    download(&world, &ada, &id).await.refused(410, "EXPORT_EXPIRED");
    assert_eq!(status(&world, &ada, &id).await, "COMPLETED");
    let again = retention::run(&world.app.services.user).await.unwrap();
    assert_eq!(again.exports, 0);
}

#[sqlx::test(migrations = false)]
async fn an_export_that_could_not_be_made_in_time_is_given_up_without_saying_why(pool: PgPool) {
    let world = World::alone(pool).await;
    world.traveller("ada@example.com").await;
    let ada = world.app.login("ada@example.com").await;
    let id = ask(&world, &ada).await;
    world.app.advance(30 * DAY);
    let forgotten = retention::run(&world.app.services.user).await.unwrap();
    assert_eq!(forgotten.given_up, 1);
    let ada = world.app.login("ada@example.com").await;
    let request = world
        .gdpr(&ada, Method::GET, &format!("/requests/{id}"), None)
        .await
        .body["data"]
        .clone();
    assert_eq!(request["status"], "REJECTED");
    assert_eq!(
        request["notes"],
        "The export could not be prepared in time. Please request a new one."
    );
    download(&world, &ada, &id).await.refused(404, "NOT_FOUND");
}

#[sqlx::test(migrations = false)]
async fn somebody_elses_export_is_refused_and_a_damaged_one_is_not_served(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller("ada@example.com").await;
    let eve = world.app.register("eve@example.com").await;
    let id = ask(&world, &ada).await;
    download(&world, &eve, &id).await.refused(403, "FORBIDDEN");
    for unknown in ["nonsense", "00000000-0000-7000-8000-000000000000", "..%2f"] {
        download(&world, &eve, unknown).await.refused(404, "NOT_FOUND");
    }
    let deletion = world.gdpr(&ada, Method::POST, "/data-deletion", None).await;
    let deletion = deletion.body["data"]["id"].as_str().unwrap().to_owned();
    download(&world, &ada, &deletion).await.refused(404, "NOT_FOUND");

    let other = ask(&world, &eve).await;
    let path = |who: &Traveller, id: &str| world.folder.path().join(format!("dreamscape/exports/{}/{id}", who.id));
    std::fs::copy(path(&ada, &id), path(&eve, &other)).unwrap();
    let call = world
        .app
        .get(&format!("/api/v1/users/gdpr/data-export/{other}/download"));
    let body = call.bearer(&eve.token).try_bytes().await;
    assert!(body.is_err(), "another traveller's export opens in its place");
    std::fs::remove_file(path(&ada, &id)).unwrap();
    download(&world, &ada, &id).await.refused(410, "EXPORT_EXPIRED");
}

#[sqlx::test(migrations = false)]
async fn an_export_can_be_taken_back_while_it_waits(pool: PgPool) {
    let world = World::alone(pool).await;
    let ada = world.traveller("ada@example.com").await;
    let id = ask(&world, &ada).await;
    let cancelled = world.gdpr(&ada, Method::DELETE, &format!("/requests/{id}"), None).await;
    assert_eq!(cancelled.body["data"]["status"], "CANCELLED");
    world.business_comes().await;
    world.app.advance(3_600);
    let state = &world.app.services.user;
    assert_eq!(export::run_one(state, None).await.unwrap(), Outcome::Idle);
    let ada = world.app.login("ada@example.com").await;
    download(&world, &ada, &id).await.refused(404, "NOT_FOUND");
    let done = ask(&world, &ada).await;
    let late = world
        .gdpr(&ada, Method::DELETE, &format!("/requests/{done}"), None)
        .await;
    late.refused(409, "REQUEST_NOT_PENDING");
}

/// What an export and an erasure do with a table is written down in one list.
#[sqlx::test(migrations = false)]
async fn every_table_about_a_traveller_is_exported_and_erased_or_says_why_not(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let found: Vec<String> = sqlx::query_scalar(
        "select c.table_name::text from information_schema.columns as c
         join information_schema.tables as t using (table_schema, table_name)
         where c.table_schema = 'users' and c.column_name = 'user_id' and t.table_type = 'BASE TABLE'
         order by 1",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    let mut listed: Vec<_> = TABLES.iter().map(|table| table.name.to_owned()).collect();
    listed.sort();
    assert_eq!(found, listed);
    for table in TABLES {
        if let Export::Nothing(reason) = table.export {
            assert!(reason.len() > 10, "{}", table.name);
        }
        if let Erase::Saga(reason) = table.erase {
            assert!(reason.len() > 10, "{}", table.name);
        }
    }
    let odd: Vec<String> = sqlx::query_scalar(
        "select table_name || '.' || column_name from information_schema.columns
         where table_schema = 'users' and data_type like 'timestamp%' and column_name not like '%\\_at'
             and column_name <> 'execute_after' and table_name not like '\\_sqlx%'",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    assert_eq!(odd, Vec::<String>::new(), "the export knows instants by their names");
}
