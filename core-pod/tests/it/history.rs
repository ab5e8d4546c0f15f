//! History (core §5.7).

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Reply, TestApp, Traveller};

const HISTORY: &str = "/api/v1/users/history";

async fn add(app: &TestApp, who: &Traveller, action: &str, kind: &str, id: &str) -> String {
    let body = json!({ "actionType": action, "entityType": kind, "entityId": id });
    let reply = app.post(HISTORY).bearer(&who.token).json(&body).send().await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    app.advance(1);
    reply.body["data"]["id"].as_str().unwrap().to_owned()
}

async fn get(app: &TestApp, who: &Traveller, path: &str) -> Reply {
    app.get(&format!("{HISTORY}{path}")).bearer(&who.token).send().await
}

async fn clear(app: &TestApp, who: &Traveller, query: &str) -> Reply {
    app.delete(&format!("{HISTORY}{query}")).bearer(&who.token).send().await
}

fn ids(reply: &Reply) -> Vec<&str> {
    let items = reply.body["data"]["items"].as_array().unwrap();
    items.iter().map(|item| item["entityId"].as_str().unwrap()).collect()
}

#[sqlx::test(migrations = false)]
async fn an_entry_is_written_down_and_read_back(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let body = json!({
        "actionType": "SEARCHED", "entityType": "search", "entityId": "s-1",
        "metadata": { "query": "Rome", "resultsCount": 12, "clicked": true },
    });
    let reply = app.post(HISTORY).bearer(&ada.token).json(&body).send().await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body["message"]),
        (200, &json!("History entry created successfully"))
    );
    let row = &reply.body["data"];
    assert_eq!(
        *row,
        json!({
            "id": row["id"], "userId": ada.id, "actionType": "SEARCHED", "entityType": "search", "entityId": "s-1",
            "metadata": { "query": "Rome", "resultsCount": 12, "clicked": true }, "createdAt": "2027-01-15T08:00:00.000Z",
        })
    );
    let list = get(&app, &ada, "").await;
    assert_eq!(list.body["data"]["items"], json!([row]));
    let alias = &list.body["data"]["history"][0];
    assert_eq!(
        alias["details"],
        json!({ "query": "Rome", "resultsCount": 12, "clicked": true })
    );
    assert_eq!(alias["id"], row["id"]);

    for (bad, start) in [
        (
            json!({}),
            "Invalid action type. Valid values are: CREATED, VIEWED, UPDATED, DELETED, SEARCHED, FAVORITED, UNFAVORITED",
        ),
        (
            json!({ "actionType": "VIEWED", "entityType": "car", "entityId": "x" }),
            "Invalid entity type. Valid values are: booking, ",
        ),
        (json!({ "actionType": "VIEWED", "entityType": "hotel" }), "Entity ID"),
        (
            json!({ "actionType": "VIEWED", "entityType": "hotel", "entityId": "x", "metadata": "text" }),
            "Metadata",
        ),
        (
            json!({ "actionType": "VIEWED", "entityType": "hotel", "entityId": "x", "metadata": { "a": "\u{0}" } }),
            "Metadata",
        ),
    ] {
        let reply = app.post(HISTORY).bearer(&ada.token).json(&bad).send().await;
        reply.refused(400, "VALIDATION");
        assert!(
            reply.body["error"].as_str().unwrap().starts_with(start),
            "{}",
            reply.body
        );
    }
    app.post(HISTORY).json(&body).send().await.refused(401, "TOKEN_MISSING");
}

#[sqlx::test(migrations = false)]
async fn filters_narrow_the_list_and_unknown_ones_are_ignored(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let eve = app.register("eve@example.com").await;
    add(&app, &eve, "VIEWED", "hotel", "hers").await;
    for (action, kind, id) in [
        ("SEARCHED", "search", "a"),
        ("VIEWED", "hotel", "b"),
        ("VIEWED", "flight", "c"),
        ("FAVORITED", "hotel", "b"),
    ] {
        add(&app, &ada, action, kind, id).await;
    }
    app.advance(86_400);
    let ada = app.login("ada@example.com").await;
    add(&app, &ada, "VIEWED", "hotel", "late").await;
    for (query, expected) in [
        ("", vec!["late", "b", "c", "b", "a"]),
        ("?actionType=SEARCH", vec!["a"]),
        ("?actionType=SEARCHED", vec!["a"]),
        ("?actionType=VIEWED&entityType=hotel", vec!["late", "b"]),
        ("?type=flight", vec!["c"]),
        ("?entityId=b", vec!["b", "b"]),
        ("?entityId=none", vec![]),
        (
            "?actionType=DANCED&entityType=car&from=never&entityId=",
            vec!["late", "b", "c", "b", "a"],
        ),
        ("?from=2027-01-16", vec!["late"]),
        ("?to=2027-01-15", vec!["b", "c", "b", "a"]),
        ("?from=2027-01-15T08:00:02.000Z&to=2027-01-15T08:00:02.000Z", vec!["b"]),
        ("?limit=2&page=2", vec!["c", "b"]),
    ] {
        let reply = get(&app, &ada, query).await;
        assert_eq!(ids(&reply), expected, "{query}");
    }
    let page = get(&app, &ada, "/?limit=2&page=2").await;
    assert_eq!(
        page.body["data"]["pagination"],
        json!({ "page": 2, "limit": 2, "total": 5, "totalPages": 3, "hasNext": true, "hasPrevious": true })
    );
    let beyond = get(&app, &ada, "?page=99&limit=0").await;
    assert_eq!(
        beyond.body["data"]["pagination"],
        json!({ "page": 99, "limit": 1, "total": 5, "totalPages": 5, "hasNext": false, "hasPrevious": true })
    );
}

#[sqlx::test(migrations = false)]
async fn the_numbers_count_everything_and_name_the_latest(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let empty = get(&app, &ada, "/stats").await;
    let none = json!({ "totalCount": 0, "byActionType": {}, "byEntityType": {}, "mostRecentActivity": null });
    assert_eq!(empty.body, json!({ "success": true, "data": none }));
    for (action, kind) in [
        ("VIEWED", "hotel"),
        ("VIEWED", "flight"),
        ("SEARCHED", "search"),
        ("VIEWED", "hotel"),
    ] {
        add(&app, &ada, action, kind, "x").await;
    }
    let latest = add(&app, &ada, "DELETED", "favorite", "f").await;
    let stats = &get(&app, &ada, "/stats").await.body["data"];
    assert_eq!(stats["totalCount"], 5);
    assert_eq!(
        stats["byActionType"],
        json!({ "VIEWED": 3, "SEARCHED": 1, "DELETED": 1 })
    );
    assert_eq!(
        stats["byEntityType"],
        json!({ "hotel": 2, "flight": 1, "search": 1, "favorite": 1 })
    );
    assert_eq!(
        (
            &stats["mostRecentActivity"]["id"],
            &stats["mostRecentActivity"]["createdAt"]
        ),
        (&json!(latest), &json!("2027-01-15T08:00:04.000Z"))
    );
}

#[sqlx::test(migrations = false)]
async fn an_entry_is_deleted_by_its_owner_alone(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let eve = app.register("eve@example.com").await;
    let id = add(&app, &ada, "VIEWED", "hotel", "h").await;
    clear(&app, &eve, &format!("/{id}")).await.refused(404, "NOT_FOUND");
    for other in ["/x", "/00000000-0000-7000-8000-000000000000", "/%00"] {
        clear(&app, &ada, other).await.refused(404, "NOT_FOUND");
    }
    let gone = clear(&app, &ada, &format!("/{id}")).await;
    assert_eq!((gone.status.as_u16(), &gone.body["data"]), (200, &Value::Null));
    assert_eq!(
        (&gone.body["success"], gone.body["message"].is_string()),
        (&json!(true), true)
    );
    clear(&app, &ada, &format!("/{id}")).await.refused(404, "NOT_FOUND");
}

#[sqlx::test(migrations = false)]
async fn clearing_takes_ones_own_entries_of_one_kind_or_all(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let eve = app.register("eve@example.com").await;
    for who in [&ada, &eve] {
        for kind in ["hotel", "hotel", "flight"] {
            add(&app, who, "VIEWED", kind, "x").await;
        }
    }
    assert_eq!(
        clear(&app, &ada, "?entityType=hotel").await.body["data"],
        json!({ "deletedCount": 2 })
    );
    assert_eq!(clear(&app, &ada, "/").await.body["data"], json!({ "deletedCount": 1 }));
    assert_eq!(clear(&app, &ada, "").await.body["data"], json!({ "deletedCount": 0 }));
    assert_eq!(get(&app, &eve, "").await.body["data"]["pagination"]["total"], 3);
    app.delete(HISTORY).send().await.refused(401, "TOKEN_MISSING");
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_18_a_typo_in_a_deletion_deletes_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    add(&app, &ada, "VIEWED", "hotel", "h").await;
    for slip in [
        "?entityType=hotels",
        "?entityType=HOTEL",
        "?entityType=",
        "?entitytype=hotel",
        "?entityId=h",
        "?entityType[]=hotel",
        "?hotel",
    ] {
        let reply = clear(&app, &ada, slip).await;
        assert_eq!(reply.status, 400, "{slip}");
    }
    let reply = clear(&app, &ada, "?entityType=hotels").await;
    reply.refused(400, "VALIDATION");
    assert_eq!(
        reply.body["error"],
        "Invalid entity type. Valid values are: booking, search, favorite, destination, hotel, activity, flight"
    );
    assert_eq!(app.count("select count(*) from users.history").await, 1);
}

#[sqlx::test(migrations = false)]
async fn statistics_are_kept_of_those_who_consented_and_of_nobody_else(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    add(&app, &ada, "VIEWED", "hotel", "h").await;
    clear(&app, &ada, "").await;
    assert_eq!(app.count("select count(*) from users.analytics").await, 0);

    let consent = app.put("/api/v1/users/gdpr/consent").bearer(&ada.token);
    assert_eq!(consent.json(&json!({ "analytics": true })).send().await.status, 200);
    let id = add(&app, &ada, "VIEWED", "hotel", "h").await;
    clear(&app, &ada, "?entityType=hotel").await;
    let rows: Vec<(String, String, Value)> = sqlx::query_as(
        "select service, event, data from users.analytics where user_id is not null order by occurred_at, id",
    )
    .fetch_all(&app.pool)
    .await
    .unwrap();
    let created = json!({ "historyId": id, "actionType": "VIEWED", "entityType": "hotel" });
    let cleared = json!({ "entityType": "hotel", "deletedCount": 1 });
    let service = "user-service".to_owned();
    assert_eq!(
        rows,
        [
            (service.clone(), "history_entry_created".to_owned(), created),
            (service, "history_cleared".to_owned(), cleared)
        ]
    );
}
