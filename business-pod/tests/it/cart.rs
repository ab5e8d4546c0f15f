//! Carts over HTTP (contract: voyage §4.7, §2.1, §7.4).

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};
use shared::events::Topic;
use sqlx::PgPool;

use crate::voyage_world::World;

const ITEMS: &str = "/api/v1/cart/items";
const CART: &str = "/api/v1/cart";

fn hotel() -> Value {
    json!({ "type": "HOTEL", "itemId": "h1", "itemData": { "name": "Inn" }, "price": 100.0 })
}

fn line(cart: &Value, number: usize) -> String {
    cart["data"]["items"][number]["id"].as_str().unwrap().to_owned()
}

#[sqlx::test(migrations = false)]
async fn a_flight_costs_what_we_quoted_whatever_the_client_says(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let offer = world.offer(2).await;
    let body = json!({ "type": "FLIGHT", "itemId": offer.id, "itemData": offer, "price": 1.0, "quantity": 2 });

    let added = ada.post(ITEMS, &body).await.expect(201);

    assert_eq!(added["meta"]["message"], "Item added to cart successfully");
    assert_eq!(added["meta"]["itemCount"], 1);
    assert_eq!(added["data"]["totalPrice"], json!(offer.price.total));
    let item = &added["data"]["items"][0];
    assert_eq!((&item["quantity"], &item["priceVerified"]), (&json!(2), &json!(true)));
    assert_eq!(item["lineTotal"], json!(offer.price.total));
    assert!((item["price"].as_f64().unwrap() * 2.0 - offer.price.total).abs() < 1e-6);
    assert_eq!(item["status"], "active");
    let selected = world.published(Topic::VoyageFlightSelected).await;
    assert_eq!(selected.len(), 1);
    assert_eq!(selected[0]["destination"], "FCO");
}

#[sqlx::test(migrations = false)]
async fn the_same_line_again_leaves_the_cart_unchanged(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let first = ada.post(ITEMS, &hotel()).await.expect(201);
    let mut again = hotel();
    again["price"] = json!(999);

    let second = ada.post(ITEMS, &again).await.expect(201);

    assert_eq!(second["data"]["items"], first["data"]["items"]);
    let mut other_dates = hotel();
    other_dates["itemData"]["checkInDate"] = json!("2027-01-01");
    let third = ada.post(ITEMS, &other_dates).await.expect(201);
    assert_eq!(third["data"]["totalPrice"], 200.0);
}

#[sqlx::test(migrations = false)]
async fn quantities_change_and_lines_go(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let cart = ada.post(ITEMS, &hotel()).await.expect(201);
    let path = format!("{ITEMS}/{}", line(&cart, 0));

    let changed = ada
        .put(&path, &json!({ "quantity": 3, "userId": ada.user }))
        .await
        .expect(200);
    assert_eq!(
        (&changed["data"]["totalPrice"], &changed["data"]["items"][0]["price"]),
        (&json!(300.0), &json!(100.0))
    );
    let patched = ada
        .send(Method::PATCH, &path, Some(br#"{"quantity":2}"#.to_vec()), None)
        .await
        .expect(200);
    assert_eq!(patched["data"]["totalPrice"], 200.0);
    for bad in [
        json!({}),
        json!({ "quantity": 0 }),
        json!({ "quantity": "2" }),
        json!({ "quantity": 1.5 }),
    ] {
        let refused = ada.put(&path, &bad).await.refused(400, "VALIDATION");
        assert_eq!(refused["error"], "Quantity must be a positive integer");
    }
    ada.put(&path, &json!({ "quantity": 10 }))
        .await
        .refused(400, "VALIDATION");

    let emptied = ada.delete(&path).await.expect(200);
    assert_eq!(emptied["data"]["items"], json!([]));
    let gone = ada.delete(&path).await.refused(404, "NOT_FOUND");
    assert_eq!(
        (&gone["error"], &gone["message"]),
        (&json!("Failed to remove cart item"), &json!("Cart item not found"))
    );
    let cleared = ada.delete(CART).await.expect(200);
    assert_eq!(
        cleared,
        json!({ "data": null, "meta": { "message": "Cart cleared successfully" } })
    );
    assert_eq!(ada.delete(CART).await.expect(200), cleared);
    let missing = ada
        .put(&path, &json!({ "quantity": 1 }))
        .await
        .refused(404, "NOT_FOUND");
    assert_eq!(
        (&missing["error"], &missing["message"]),
        (&json!("Failed to update cart item"), &json!("Cart not found"))
    );
    assert_eq!(
        ada.get(CART).await.expect(200),
        json!({ "data": null, "meta": { "message": "No active cart found" } })
    );
}

#[sqlx::test(migrations = false)]
async fn every_browser_has_its_own_anonymous_cart(pool: PgPool) {
    let world = World::start(pool).await;
    let mut one = world.browser();
    let mut body = hotel();
    body["userId"] = json!("guest");
    let added = one.post(ITEMS, &body).await;
    one.keep(&added);
    assert_eq!(added.expect(201)["data"]["userId"], "guest");

    let stranger = world.browser();
    assert_eq!(
        stranger.get("/api/v1/cart?userId=guest").await.expect(200)["data"],
        Value::Null
    );
    assert_eq!(
        one.get("/api/v1/cart?userId=guest").await.expect(200)["meta"]["itemCount"],
        1
    );
    assert_eq!(one.get(CART).await.expect(200)["meta"]["itemCount"], 1);
    stranger.get(CART).await.refused(401, "TOKEN_MISSING");
    one.post("/api/v1/cart/checkout", &json!({ "userId": "guest" }))
        .await
        .refused(401, "TOKEN_MISSING");
}

#[sqlx::test(migrations = false)]
async fn signing_in_brings_the_anonymous_cart_along(pool: PgPool) {
    let world = World::start(pool).await;
    let mut browser = world.browser();
    let mut body = hotel();
    body["userId"] = json!("guest");
    let added = browser.post(ITEMS, &body).await;
    browser.keep(&added);
    let mut ada = world.traveller(1);
    ada.add_stay(50.0).await;
    ada.take_cookie_of(&browser);

    // signed in, but the client says guest: still the browser's own
    assert_eq!(
        ada.get("/api/v1/cart?userId=guest").await.expect(200)["data"]["totalPrice"],
        100.0
    );
    let merged = ada.get(CART).await;

    assert_eq!(merged.guest_cookie().as_deref(), Some("ds_guest="));
    assert_eq!(merged.expect(200)["data"]["totalPrice"], 150.0);
    assert_eq!(
        browser.get("/api/v1/cart?userId=guest").await.expect(200)["data"],
        Value::Null
    );
    assert_eq!(world.count("select count(*) from voyage.carts").await, 1);
}

#[sqlx::test(migrations = false)]
async fn an_anonymous_cart_becomes_the_accounts_if_that_has_none(pool: PgPool) {
    let world = World::start(pool).await;
    let mut browser = world.browser();
    let mut body = hotel();
    body["userId"] = json!("guest");
    let added = browser.post(ITEMS, &body).await;
    browser.keep(&added);
    let mut ada = world.traveller(1);
    ada.take_cookie_of(&browser);

    let both = ada.add_stay(50.0).await;

    assert_eq!(both["data"]["totalPrice"], 150.0);
    assert_eq!(both["data"]["userId"], json!(ada.user));
}

#[sqlx::test(migrations = false)]
async fn nobody_reaches_somebody_elses_cart(pool: PgPool) {
    let world = World::start(pool).await;
    let (ada, eve) = (world.traveller(1), world.traveller(2));
    let cart = ada.add_stay(80.0).await;
    let (id, item) = (ada.user, line(&cart, 0));

    eve.get(&format!("{CART}?userId={id}")).await.refused(403, "FORBIDDEN");
    eve.delete(&format!("{CART}?userId={id}"))
        .await
        .refused(403, "FORBIDDEN");
    let mut body = hotel();
    body["userId"] = json!(id);
    eve.post(ITEMS, &body).await.refused(403, "FORBIDDEN");
    eve.put(&format!("{ITEMS}/{item}"), &json!({ "quantity": 2, "userId": id }))
        .await
        .refused(403, "FORBIDDEN");
    eve.put("/api/v1/cart/extend", &json!({ "userId": id }))
        .await
        .refused(403, "FORBIDDEN");
    eve.post("/api/v1/cart/checkout", &json!({ "userId": id }))
        .await
        .refused(403, "FORBIDDEN");
    eve.put(&format!("{ITEMS}/{item}"), &json!({ "quantity": 2 }))
        .await
        .refused(404, "NOT_FOUND");
    eve.delete(&format!("{ITEMS}/{item}")).await.refused(404, "NOT_FOUND");
    world
        .browser()
        .get(&format!("{CART}?userId={id}"))
        .await
        .refused(401, "TOKEN_MISSING");
    world.browser().post(ITEMS, &body).await.refused(401, "TOKEN_MISSING");
    assert_eq!(ada.get(CART).await.expect(200)["data"]["totalPrice"], 80.0);
}

#[sqlx::test(migrations = false)]
async fn the_paths_with_an_id_are_for_its_owner_alone(pool: PgPool) {
    let world = World::start(pool).await;
    let (ada, eve) = (world.traveller(1), world.traveller(2));
    let base = format!("{CART}/{}", ada.user);

    let added = ada.post(&format!("{base}/items"), &hotel()).await.expect(201);
    let item = format!("{base}/items/{}", line(&added, 0));
    assert_eq!(ada.get(&base).await.expect(200)["data"]["totalPrice"], 100.0);
    assert_eq!(
        ada.put(&item, &json!({ "quantity": 2 })).await.expect(200)["data"]["totalPrice"],
        200.0
    );
    ada.put(&format!("{base}/extend"), &json!({})).await.expect(200);
    for answer in [
        eve.get(&base).await,
        eve.delete(&base).await,
        eve.put(&item, &json!({ "quantity": 2 })).await,
        eve.delete(&item).await,
        eve.post(&format!("{base}/items"), &hotel()).await,
        eve.post(&format!("{base}/checkout"), &json!({})).await,
        world.browser().delete(&base).await,
    ] {
        answer.refused(404, "NOT_FOUND");
    }
    assert_eq!(ada.delete(&item).await.expect(200)["data"]["items"], json!([]));
    ada.post(CART, &hotel()).await.refused(404, "NOT_FOUND");
}

#[sqlx::test(migrations = false)]
async fn a_cart_expires_is_extended_and_is_purged(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let made = ada.add_stay(80.0).await;
    assert_eq!(made["meta"]["expiresAt"], "2026-11-23T10:35:00.000Z");
    world.advance(TimeDelta::minutes(12));
    let extended = ada.put("/api/v1/cart/extend", &json!({})).await.expect(200);
    assert_eq!(extended["meta"]["expiresAt"], "2026-11-23T10:47:00.000Z");
    let ada = world.traveller(1);
    world.advance(TimeDelta::minutes(31));

    let ada_later = world.traveller(1);
    assert_eq!(ada_later.get(CART).await.expect(200)["data"], Value::Null);
    let gone = ada_later
        .put("/api/v1/cart/extend", &json!({}))
        .await
        .refused(404, "NOT_FOUND");
    assert_eq!(gone["error"], "Cart not found or expired");
    world.settle().await;
    assert_eq!(world.count("select count(*) from voyage.carts").await, 0);
    assert_eq!(world.traveller(1).add_stay(70.0).await["data"]["totalPrice"], 70.0);
    drop(ada);
}

#[sqlx::test(migrations = false)]
async fn an_offer_whose_time_has_passed_is_shown_as_expired_and_not_added_again(pool: PgPool) {
    let world = World::start(pool).await;
    let offer = world.offer(1).await;
    world.traveller(1).add_flight(&offer).await;
    world.advance(TimeDelta::minutes(21));

    let cart = world.traveller(1).get(CART).await.expect(200);
    assert_eq!(cart["data"]["items"][0]["status"], "expired");
    let body = json!({ "type": "FLIGHT", "itemId": offer.id, "itemData": {}, "price": 1.0 });
    world
        .traveller(2)
        .post(ITEMS, &body)
        .await
        .refused(409, "OFFER_EXPIRED");
}

#[sqlx::test(migrations = false)]
async fn a_cart_has_one_currency(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    ada.add_stay(100.0).await;
    let mut dollars = hotel();
    dollars["currency"] = json!("USD");
    dollars["price"] = json!(115.7);

    let mixed = ada.post(ITEMS, &dollars).await.expect(201);

    assert_eq!(
        (&mixed["data"]["totalPrice"], &mixed["data"]["currency"]),
        (&json!(200.0), &json!("EUR"))
    );
    assert_eq!(
        mixed["data"]["items"][1]["itemData"]["_pricing"]["originalTotal"],
        115.7
    );
    let mut unknown = hotel();
    unknown["currency"] = json!("XAF");
    unknown["itemId"] = json!("h9");
    ada.post(ITEMS, &unknown).await.refused(400, "VALIDATION");
}

#[sqlx::test(migrations = false)]
async fn a_cart_has_room_for_fifty_lines(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    for number in 0..50 {
        let mut body = hotel();
        body["itemId"] = json!(format!("h{number}"));
        ada.post(ITEMS, &body).await.expect(201);
    }
    let mut body = hotel();
    body["itemId"] = json!("one too many");
    ada.post(ITEMS, &body).await.refused(400, "VALIDATION");
    body["itemId"] = json!("h7");
    assert_eq!(ada.post(ITEMS, &body).await.expect(201)["meta"]["itemCount"], 50);
}

#[sqlx::test(migrations = false)]
async fn additions_at_the_same_time_are_all_counted(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let bodies: Vec<Value> = (0..8)
        .map(|number| {
            let mut body = hotel();
            body["itemId"] = json!(format!("h{number}"));
            body
        })
        .collect();

    let answers = futures_util::future::join_all(bodies.iter().map(|body| ada.post(ITEMS, body))).await;

    for answer in answers {
        answer.expect(201);
    }
    assert_eq!(ada.get(CART).await.expect(200)["data"]["totalPrice"], 800.0);
}

#[sqlx::test(migrations = false)]
async fn a_key_makes_an_addition_happen_once(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let body = || Some(hotel().to_string().into_bytes());
    ada.send(Method::POST, ITEMS, body(), Some("k1")).await.expect(201);
    let again = ada.send(Method::POST, ITEMS, body(), Some("k1")).await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    again.expect(201);
    let mut other = hotel();
    other["price"] = json!(5);
    let conflict = ada
        .send(Method::POST, ITEMS, Some(other.to_string().into_bytes()), Some("k1"))
        .await;
    conflict.refused(422, "IDEMPOTENCY_CONFLICT");
}

#[sqlx::test(migrations = false)]
async fn the_prefix_of_old_wants_a_token_for_everything(pool: PgPool) {
    let world = World::start(pool).await;
    world
        .browser()
        .get("/api/v1/voyage/cart?userId=guest")
        .await
        .refused(401, "TOKEN_MISSING");
    world.traveller(1).get("/api/v1/voyage/cart").await.expect(200);
    world.traveller(1).get("/api/cart").await.expect(200);
}

#[sqlx::test(migrations = false)]
async fn an_account_that_asks_too_often_is_told_to_wait(pool: PgPool) {
    let world = World::with(pool, |config| config.user_rule.max = 2).await;
    let ada = world.traveller(1);
    ada.get(CART).await.expect(200);
    let second = ada.get(CART).await;
    assert_eq!(second.headers["ratelimit-remaining"], "0");
    let third = ada.get(CART).await;
    assert!(third.headers.contains_key("retry-after"));
    third.refused(429, "RATE_LIMIT_EXCEEDED");
    world.traveller(2).get(CART).await.expect(200);
}
