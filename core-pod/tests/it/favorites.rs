//! Favourites (core §5.6).

use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{Reply, TestApp, Traveller};

const FAVORITES: &str = "/api/v1/users/favorites";

async fn add(app: &TestApp, who: &Traveller, body: Value) -> Reply {
    app.post(FAVORITES).bearer(&who.token).json(&body).send().await
}

async fn added(app: &TestApp, who: &Traveller, kind: &str, id: &str) -> String {
    let reply = add(app, who, json!({ "entityType": kind, "entityId": id })).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.body["data"]["id"].as_str().unwrap().to_owned()
}

async fn get(app: &TestApp, who: &Traveller, path: &str) -> Reply {
    app.get(&format!("{FAVORITES}{path}")).bearer(&who.token).send().await
}

#[sqlx::test(migrations = false)]
async fn a_favourite_is_added_read_changed_and_removed(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let body = json!({
        "entityType": "HOTEL", "entityId": "h-1", "entityData": { "name": "Ritz" }, "category": "Paris", "notes": "", "other": 1,
    });
    let reply = add(&app, &ada, body).await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body["message"]),
        (201, &json!("Favorite added successfully"))
    );
    let favorite = &reply.body["data"];
    let id = favorite["id"].as_str().unwrap();
    assert_eq!(
        *favorite,
        json!({
            "id": id, "userId": ada.id, "entityType": "HOTEL", "entityId": "h-1", "entityData": { "name": "Ritz" },
            "category": "Paris", "notes": null, "createdAt": "2027-01-15T08:00:00.000Z",
            "updatedAt": "2027-01-15T08:00:00.000Z",
            "user": { "id": ada.id, "email": "ada@example.com", "username": null },
        })
    );
    assert_eq!(
        get(&app, &ada, &format!("/{id}")).await.body,
        json!({ "success": true, "data": favorite })
    );

    app.advance(60);
    let path = format!("{FAVORITES}/{id}");
    let change = json!({ "notes": "by the river", "category": null, "entityId": "other" });
    let changed = app.put(&path).bearer(&ada.token).json(&change).send().await;
    assert_eq!(
        (changed.status.as_u16(), &changed.body["message"]),
        (200, &json!("Favorite updated successfully"))
    );
    let data = &changed.body["data"];
    assert_eq!(
        (&data["notes"], &data["category"], &data["entityId"]),
        (&json!("by the river"), &Value::Null, &json!("h-1"))
    );
    assert_eq!(
        (&data["entityData"]["name"], &data["updatedAt"]),
        (&json!("Ritz"), &json!("2027-01-15T08:01:00.000Z"))
    );

    let gone = app.delete(&path).bearer(&ada.token).send().await;
    assert_eq!(
        gone.body,
        json!({ "success": true, "message": "Favorite deleted successfully" })
    );
    app.delete(&path)
        .bearer(&ada.token)
        .send()
        .await
        .refused(404, "NOT_FOUND");
    get(&app, &ada, &format!("/{id}")).await.refused(404, "NOT_FOUND");
}

#[sqlx::test(migrations = false)]
async fn the_list_is_an_array_newest_first_with_its_total_beside_it(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let eve = app.register("eve@example.com").await;
    added(&app, &eve, "HOTEL", "hers").await;
    for number in 0..5 {
        added(
            &app,
            &ada,
            if number % 2 == 0 { "HOTEL" } else { "FLIGHT" },
            &format!("e{number}"),
        )
        .await;
        app.advance(1);
    }
    let ids = |reply: &Reply| -> Vec<String> {
        let data = reply.body["data"].as_array().unwrap();
        data.iter()
            .map(|favorite| favorite["entityId"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = get(&app, &ada, "/").await;
    assert_eq!(ids(&all), ["e4", "e3", "e2", "e1", "e0"]);
    assert_eq!(
        all.body["pagination"],
        json!({ "total": 5, "limit": 20, "offset": 0, "hasMore": false })
    );
    assert_eq!((&all.body["success"], &all.body["total"]), (&json!(true), &json!(5)));

    let page = get(&app, &ada, "?limit=2&offset=1").await;
    assert_eq!(ids(&page), ["e3", "e2"]);
    assert_eq!(
        page.body["pagination"],
        json!({ "total": 5, "limit": 2, "offset": 1, "hasMore": true })
    );
    let hotels = get(&app, &ada, "?entityType=hotel&limit=x&offset=-4").await;
    assert_eq!(
        (ids(&hotels), &hotels.body["total"]),
        (vec!["e4".into(), "e2".into(), "e0".into()], &json!(3))
    );
    let beyond = get(&app, &ada, "?offset=50").await;
    assert_eq!((ids(&beyond).len(), &beyond.body["total"]), (0, &json!(5)));
    get(&app, &ada, "?entityType=CAR").await.refused(400, "VALIDATION");
}

#[sqlx::test(migrations = false)]
async fn a_limit_of_nothing_is_an_empty_list_with_the_real_total(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let none = get(&app, &ada, "?limit=0").await;
    assert_eq!((&none.body["data"], &none.body["total"]), (&json!([]), &json!(0)));
    added(&app, &ada, "HOTEL", "h").await;
    let badge = get(&app, &ada, "?limit=0").await;
    assert_eq!(badge.body["data"], json!([]));
    assert_eq!(
        badge.body["pagination"],
        json!({ "total": 1, "limit": 0, "offset": 0, "hasMore": true })
    );
}

#[sqlx::test(migrations = false)]
async fn the_short_vocabulary_is_understood_and_answered(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let reply = add(
        &app,
        &ada,
        json!({ "type": "flight", "itemId": "AF1", "metadata": { "from": "CDG" } }),
    )
    .await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    let data = &reply.body["data"];
    assert_eq!(
        (&data["entityType"], &data["entityId"]),
        (&json!("FLIGHT"), &json!("AF1"))
    );
    let short = json!({
        "id": data["id"], "type": "flight", "itemId": "AF1", "metadata": { "from": "CDG" },
        "createdAt": "2027-01-15T08:00:00.000Z",
    });
    assert_eq!(data["favorite"], short);
    let long = add(&app, &ada, json!({ "entityType": "flight", "entityId": "AF2" })).await;
    assert!(long.body["data"].get("favorite").is_none());
    let same = add(&app, &ada, json!({ "itemType": "FLIGHT", "itemId": "AF1" })).await;
    same.refused(409, "FAVORITE_EXISTS");
    assert_eq!(same.body["message"], "This item is already in your favorites");
}

#[sqlx::test(migrations = false)]
async fn of_many_additions_of_one_item_at_once_one_succeeds(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let body = json!({ "entityType": "DESTINATION", "entityId": "PAR" });
    let calls: Vec<_> = (0..20)
        .map(|_| tokio::spawn(app.post(FAVORITES).bearer(&ada.token).json(&body).send()))
        .collect();
    let mut statuses = Vec::new();
    for call in calls {
        statuses.push(call.await.unwrap().status.as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses[0], 201);
    assert!(statuses[1..].iter().all(|status| *status == 409), "{statuses:?}");
    assert_eq!(app.count("select count(*) from users.favorites").await, 1);
}

#[sqlx::test(migrations = false)]
async fn somebody_elses_favourite_is_403_and_stays(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let eve = app.register("eve@example.com").await;
    let path = format!("{FAVORITES}/{}", added(&app, &ada, "HOTEL", "h").await);
    let denied = app.get(&path).bearer(&eve.token).send().await;
    denied.refused(403, "FORBIDDEN");
    assert_eq!(denied.body["error"], "Access denied");
    app.put(&path)
        .bearer(&eve.token)
        .json(&json!({ "notes": "x" }))
        .send()
        .await
        .refused(403, "FORBIDDEN");
    app.delete(&path)
        .bearer(&eve.token)
        .send()
        .await
        .refused(403, "FORBIDDEN");
    let batch = json!({ "ids": [path.rsplit('/').next().unwrap()] });
    let reply = app
        .delete(&format!("{FAVORITES}/batch"))
        .bearer(&eve.token)
        .json(&batch)
        .send()
        .await;
    assert_eq!(reply.body, json!({ "success": true, "data": { "deleted": 0 } }));
    assert_eq!(
        app.count("select count(*) from users.favorites where notes is null")
            .await,
        1
    );
    for path in ["", "/check/HOTEL/h", "/x"] {
        app.get(&format!("{FAVORITES}{path}"))
            .send()
            .await
            .refused(401, "TOKEN_MISSING");
    }
}

#[sqlx::test(migrations = false)]
async fn checks_answer_in_the_order_of_the_items(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let eve = app.register("eve@example.com").await;
    let id = added(&app, &ada, "HOTEL", "h/1 é").await;
    added(&app, &eve, "FLIGHT", "f").await;
    let check = |items: Value| {
        let call = app.post(&format!("{FAVORITES}/check-batch")).bearer(&ada.token);
        call.json(&json!({ "items": items })).send()
    };
    let items = json!([
        { "entityType": "FLIGHT", "entityId": "f" },
        { "entityType": "hotel", "entityId": "h/1 é" },
        { "entityType": "FLIGHT", "entityId": "f" },
    ]);
    let reply = check(items).await;
    assert_eq!(reply.status, 200);
    let not = json!({ "entityType": "FLIGHT", "entityId": "f", "isFavorited": false, "favorite": null });
    let found = json!({
        "entityType": "HOTEL", "entityId": "h/1 é", "isFavorited": true,
        "favorite": { "id": id, "entityType": "HOTEL", "entityId": "h/1 é", "createdAt": "2027-01-15T08:00:00.000Z" },
    });
    assert_eq!(reply.body, json!({ "success": true, "results": [not, found, not] }));
    assert_eq!(check(json!([])).await.body, json!({ "success": true, "results": [] }));

    let one = get(&app, &ada, "/check/HOTEL/h%2F1%20%C3%A9").await;
    let favorite = json!({ "id": id, "createdAt": "2027-01-15T08:00:00.000Z" });
    assert_eq!(
        one.body,
        json!({ "success": true, "isFavorited": true, "favorite": favorite })
    );
    let none = get(&app, &ada, "/check/flight/f").await;
    assert_eq!(
        none.body,
        json!({ "success": true, "isFavorited": false, "favorite": null })
    );
    get(&app, &ada, "/check/car/f").await.refused(400, "VALIDATION");
    get(&app, &ada, "/check/HOTEL/%00").await.refused(400, "VALIDATION");
}

#[sqlx::test(migrations = false)]
async fn bad_items_are_named_by_their_place(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let path = format!("{FAVORITES}/check-batch");
    let good = json!({ "entityType": "HOTEL", "entityId": "a" });
    for (body, start) in [
        (json!({}), "Items array is required"),
        (json!({ "items": {} }), "Items array is required"),
        (json!({ "items": vec![good.clone(); 101] }), "Items must be at most 100"),
        (
            json!({ "items": [good, { "entityType": "CAR", "entityId": "a" }] }),
            "Item at index 1: entityType must be one of ",
        ),
        (json!({ "items": [7] }), "Item at index 0: must be an object"),
        (json!({ "items": [{}] }), "Item at index 0: entityType is required"),
    ] {
        let reply = app.post(&path).bearer(&ada.token).json(&body).send().await;
        reply.refused(400, "VALIDATION");
        let message = reply.body["message"].as_str().unwrap();
        assert!(message.starts_with(start), "{message}");
    }
    let nothing = add(&app, &ada, json!({})).await;
    assert_eq!(nothing.body["error"], "entityType is required, entityId is required");
    for body in [
        json!([]),
        json!({ "entityType": ["HOTEL"], "entityId": {} }),
        json!({ "entityType": "HOTEL", "entityId": "\u{0}" }),
    ] {
        add(&app, &ada, body).await.refused(400, "VALIDATION");
    }
    let id = added(&app, &ada, "HOTEL", "h").await;
    for body in [json!({}), json!({ "entityId": "x" }), json!({ "notes": 5 })] {
        let reply = app
            .put(&format!("{FAVORITES}/{id}"))
            .bearer(&ada.token)
            .json(&body)
            .send()
            .await;
        reply.refused(400, "VALIDATION");
    }
    for path in ["/x", "/00000000-0000-7000-8000-000000000000", "/%00"] {
        get(&app, &ada, path).await.refused(404, "NOT_FOUND");
    }
}

#[sqlx::test(migrations = false)]
async fn a_batch_adds_what_is_new_and_deletes_what_is_ones_own(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let path = format!("{FAVORITES}/batch");
    let old = added(&app, &ada, "HOTEL", "h").await;
    let items = json!({ "items": [
        { "entityType": "HOTEL", "entityId": "h" },
        { "type": "flight", "itemId": "f", "metadata": { "a": [1] }, "notes": "soon" },
        { "type": "flight", "itemId": "f" },
    ] });
    let reply = app.post(&path).bearer(&ada.token).json(&items).send().await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body["data"]),
        (201, &json!({ "created": 1, "skipped": 2 }))
    );
    assert_eq!(
        app.count("select count(*) from users.favorites where entity_data = '{\"a\": [1]}' and notes = 'soon'")
            .await,
        1
    );

    let bad = json!({ "items": [{ "type": "flight", "itemId": "g" }, { "type": "flight" }] });
    app.post(&path)
        .bearer(&ada.token)
        .json(&bad)
        .send()
        .await
        .refused(400, "VALIDATION");
    assert_eq!(app.count("select count(*) from users.favorites").await, 2);

    let ids = json!({ "ids": [old, "nonsense", "00000000-0000-7000-8000-000000000000"] });
    let reply = app.delete(&path).bearer(&ada.token).json(&ids).send().await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body["data"]),
        (200, &json!({ "deleted": 1 }))
    );
    for bad in [
        json!({}),
        json!({ "ids": "x" }),
        json!({ "ids": [1] }),
        json!({ "ids": vec!["x"; 101] }),
    ] {
        app.delete(&path)
            .bearer(&ada.token)
            .json(&bad)
            .send()
            .await
            .refused(400, "VALIDATION");
    }
}

#[sqlx::test(migrations = false)]
async fn checks_have_a_limit_of_their_own(pool: PgPool) {
    let app = TestApp::with(pool, &[]).await;
    let ada = app.register("ada@example.com").await;
    for number in 0..50 {
        let reply = get(&app, &ada, "/check/HOTEL/h").await;
        assert_eq!(reply.status, 200, "{number}");
        assert_eq!(reply.headers["ratelimit-limit"], "50");
    }
    let refused = get(&app, &ada, "/check/HOTEL/h").await;
    refused.refused(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(refused.body["retryAfter"], "1 minute");
    assert!(refused.headers.contains_key("retry-after"));
    let batch = app
        .post(&format!("{FAVORITES}/check-batch"))
        .bearer(&ada.token)
        .json(&json!({ "items": [] }));
    batch
        .header("x-test-rate-limit", "off")
        .send()
        .await
        .refused(429, "RATE_LIMIT_EXCEEDED");
    let list = get(&app, &ada, "").await;
    assert_eq!(
        (list.status.as_u16(), &list.headers["ratelimit-limit"]),
        (200, &"1000".parse().unwrap())
    );
}
