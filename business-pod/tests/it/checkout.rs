//! Checkout over HTTP (contract: voyage §7.3, §7.4; experience D5, D9).

use business_pod::voyage::PricePolicy;
use chrono::TimeDelta;
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};
use reqwest::Method;
use serde_json::{Value, json};
use shared::{
    events::Topic,
    money::{Currency, Money},
};
use sqlx::PgPool;

use crate::voyage_world::World;

const CHECKOUT: &str = "/api/v1/cart/checkout";

#[sqlx::test(migrations = false)]
async fn a_cart_becomes_a_draft_with_a_payment(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let offer = world.offer(2).await;
    ada.add_flight(&offer).await;

    let body = ada
        .post(
            CHECKOUT,
            &json!({ "userId": ada.user, "metadata": { "note": "window" } }),
        )
        .await
        .expect(200);

    let data = &body["data"];
    let reference = data["bookingReference"].as_str().unwrap();
    assert!(
        reference.starts_with("BOOK-20261123-") && reference.len() == 19,
        "{reference}"
    );
    assert_eq!((&data["status"], &data["currency"]), (&json!("DRAFT"), &json!("EUR")));
    assert_eq!(data["totalAmount"], json!(offer.price.total));
    assert_eq!(data["items"][0]["itemId"], json!(offer.id));
    let payment = &data["payment"];
    assert_eq!(
        (&payment["publishableKey"], &payment["currency"]),
        (&json!("pk_test_x"), &json!("eur"))
    );
    let minor = Money::from_major(offer.price.total, Currency::EUR).unwrap().minor;
    assert_eq!(payment["amount"], json!(minor));
    assert_eq!(body["meta"]["nextSteps"].as_array().unwrap().len(), 3);
    let created = world.published(Topic::VoyageBookingCreated).await;
    assert_eq!(
        created[0]["travelers"],
        json!([{ "type": "adult" }, { "type": "adult" }])
    );
    assert_eq!(
        (&created[0]["status"], &created[0]["bookingId"]),
        (&json!("pending"), &data["bookingId"])
    );
    let checked_out = world.published(Topic::VoyageCartCheckout).await;
    assert_eq!(checked_out[0]["paymentIntentId"], payment["paymentIntentId"]);
    let secrets = "select count(*) from voyage.outbox where envelope::text like '%_secret_%'";
    assert_eq!(world.count(secrets).await, 0);
}

#[sqlx::test(migrations = false)]
async fn the_same_cart_again_is_the_same_booking_and_payment(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let first = ada.has_booking().await;
    assert_eq!(ada.checkout().await, first);
    assert_eq!(world.count("select count(*) from voyage.bookings").await, 1);
    assert_eq!(world.published(Topic::VoyageCartCheckout).await.len(), 1);
}

#[sqlx::test(migrations = false)]
async fn two_checkouts_at_once_make_one_booking_and_one_payment(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    ada.add_flight(&world.offer(1).await).await;

    let both = futures_util::future::join_all((0..6).map(|_| ada.checkout())).await;

    assert!(both.iter().all(|one| *one == both[0]), "{both:?}");
    assert_eq!(*world.payments.created.lock().unwrap(), 1);
    assert_eq!(world.published(Topic::VoyageBookingCreated).await.len(), 1);
}

#[sqlx::test(migrations = false)]
async fn a_changed_cart_ends_the_older_booking_and_its_payment(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let (old, old_intent) = ada.has_booking().await;
    ada.add_stay(80.0).await;

    let (new, _) = ada.checkout().await;
    world.settle().await;

    assert_ne!(old, new);
    assert_eq!(world.status(&old).await, "CANCELLED");
    assert_eq!(world.payments.view(&old_intent).stripe_status, "canceled");
    let cancelled = world.published(Topic::VoyageBookingCancelled).await;
    assert_eq!(
        (&cancelled[0]["reason"], &cancelled[0]["bookingId"]),
        (&json!("superseded"), &json!(old))
    );
    let kind: String = ada.get(&format!("/api/v1/bookings/{new}")).await.expect(200)["data"]["type"]
        .as_str()
        .unwrap()
        .into();
    assert_eq!(kind, "PACKAGE");
}

#[sqlx::test(migrations = false)]
async fn an_empty_cart_cannot_be_checked_out(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    assert_eq!(
        ada.post(CHECKOUT, &json!({})).await.refused(400, "VALIDATION")["error"],
        "Cart is empty or not found"
    );
    ada.add_stay(80.0).await;
    world.advance(TimeDelta::minutes(31));
    world
        .traveller(1)
        .post(CHECKOUT, &json!({}))
        .await
        .refused(400, "VALIDATION");
    world
        .browser()
        .post(CHECKOUT, &json!({}))
        .await
        .refused(401, "TOKEN_MISSING");
}

#[sqlx::test(migrations = false)]
async fn a_higher_price_is_agreed_to_first(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let offer = world.offer(1).await;
    let cart = ada.add_flight(&offer).await;
    world.supply.set_percent(110);

    let changed = ada.post(CHECKOUT, &json!({})).await.refused(409, "PRICE_CHANGED");

    let item = &changed["data"]["items"][0];
    assert_eq!(
        (&item["id"], &item["oldPrice"]),
        (&cart["data"]["items"][0]["id"], &json!(offer.price.total))
    );
    assert_eq!(changed["data"]["cart"]["totalPrice"], item["newPrice"]);
    assert_eq!(world.count("select count(*) from voyage.bookings").await, 0);
    let body = ada.post(CHECKOUT, &json!({})).await.expect(200);
    assert_eq!(body["data"]["totalAmount"], item["newPrice"]);
}

#[sqlx::test(migrations = false)]
async fn a_lower_price_is_simply_taken(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let offer = world.offer(1).await;
    ada.add_flight(&offer).await;
    world.supply.set_percent(90);
    let body = ada.post(CHECKOUT, &json!({})).await.expect(200);
    assert!(body["data"]["totalAmount"].as_f64().unwrap() < offer.price.total);
}

#[sqlx::test(migrations = false)]
async fn a_quote_holds_into_the_next_hour(pool: PgPool) {
    let world = World::start(pool).await;
    world.advance(TimeDelta::minutes(50));
    let ada = world.traveller(1);
    let offer = world.offer(1).await;
    ada.add_flight(&offer).await;
    world.advance(TimeDelta::minutes(10));
    let body = ada.post(CHECKOUT, &json!({})).await.expect(200);
    assert_eq!(body["data"]["totalAmount"], json!(offer.price.total));
}

#[sqlx::test(migrations = false)]
async fn an_expired_offer_is_sold_only_if_it_got_no_dearer(pool: PgPool) {
    let world = World::start(pool).await;
    let offer = world.offer(1).await;
    world.traveller(1).add_flight(&offer).await;
    world.traveller(2).add_flight(&offer).await;
    world.advance(TimeDelta::minutes(21));
    world.supply.set_percent(101);
    let refused = world
        .traveller(1)
        .post(CHECKOUT, &json!({}))
        .await
        .refused(409, "OFFER_EXPIRED");
    assert_eq!(refused["data"]["items"][0]["itemId"], json!(offer.id));
    world.supply.set_percent(100);
    world.traveller(1).post(CHECKOUT, &json!({})).await.expect(200);
    world.supply.sell_out();
    world
        .traveller(2)
        .post(CHECKOUT, &json!({}))
        .await
        .refused(409, "OFFER_EXPIRED");
}

#[sqlx::test(migrations = false)]
async fn what_nobody_sells_is_not_sold_where_prices_are_strict(pool: PgPool) {
    let world = World::with(pool, |config| config.price_policy = PricePolicy::Strict).await;
    let ada = world.traveller(1);
    ada.add_stay(1.0).await;
    ada.post(CHECKOUT, &json!({})).await.refused(409, "ITEM_UNAVAILABLE");
    ada.delete("/api/v1/cart").await.expect(200);
    ada.add_flight(&world.offer(1).await).await;
    world.supply.sell_out();
    ada.post(CHECKOUT, &json!({})).await.refused(409, "ITEM_UNAVAILABLE");
}

#[sqlx::test(migrations = false)]
async fn an_invented_offer_is_never_payable_with_real_money(pool: PgPool) {
    let world = World::with(pool, |config| config.live_payments = true).await;
    let ada = world.traveller(1);
    ada.add_flight(&world.offer(1).await).await;
    ada.post(CHECKOUT, &json!({})).await.refused(409, "ITEM_UNAVAILABLE");
    assert_eq!(*world.payments.created.lock().unwrap(), 0);
}

#[sqlx::test(migrations = false)]
async fn a_live_key_that_shows_late_ends_the_booking(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    ada.add_flight(&world.offer(1).await).await;
    world.payments.set_live();
    ada.post(CHECKOUT, &json!({})).await.refused(409, "ITEM_UNAVAILABLE");
    assert_eq!(
        world
            .count("select count(*) from voyage.bookings where status = 'FAILED' and not revivable")
            .await,
        1
    );
}

#[sqlx::test(migrations = false)]
async fn without_payment_the_booking_fails_and_the_next_checkout_takes_it_up(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    ada.add_flight(&world.offer(1).await).await;
    world.payments.set_away(true);

    let refused = ada.post(CHECKOUT, &json!({})).await;
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(
        refused.refused(503, "PAYMENT_UNAVAILABLE")["error"],
        "Failed to initialize payment"
    );
    assert_eq!(
        world
            .count("select count(*) from voyage.bookings where status = 'FAILED'")
            .await,
        1
    );
    let reasons = world.published(Topic::VoyageBookingCancelled).await;
    assert!(
        reasons[0]["reason"]
            .as_str()
            .unwrap()
            .starts_with("payment_failed: PAYMENT_UNAVAILABLE")
    );

    world.payments.set_away(false);
    let (reference, _) = ada.checkout().await;
    assert_eq!(world.status(&reference).await, "DRAFT");
    assert_eq!(world.count("select count(*) from voyage.bookings").await, 1);
}

#[sqlx::test(migrations = false)]
async fn a_key_replays_the_checkout_with_its_secret_though_none_is_stored(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    ada.add_flight(&world.offer(1).await).await;
    let body = || Some(br#"{"metadata":{"a":1}}"#.to_vec());

    let first = ada.send(Method::POST, CHECKOUT, body(), Some("once")).await.expect(200);
    let again = ada.send(Method::POST, CHECKOUT, body(), Some("once")).await;

    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.expect(200), first);
    let other = ada
        .send(Method::POST, CHECKOUT, Some(b"{}".to_vec()), Some("once"))
        .await;
    other.refused(422, "IDEMPOTENCY_CONFLICT");
    let stored = "select count(*) from voyage.idempotency_keys where convert_from(body, 'UTF8') like '%secret%'";
    assert_eq!(world.count(stored).await, 0);
}

#[sqlx::test(migrations = false)]
async fn metadata_cannot_pose_as_ours_or_be_anything_but_an_object(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    ada.add_stay(80.0).await;
    for bad in [
        json!({ "userId": "x" }),
        json!({ "bookingId": 1 }),
        json!({ "bookingReference": null }),
        json!([1]),
        json!("text"),
        json!({ "t": "x".repeat(9000) }),
        json!({ "t": "\u{0}" }),
    ] {
        ada.post(CHECKOUT, &json!({ "metadata": bad }))
            .await
            .refused(400, "VALIDATION");
    }
    assert_eq!(world.count("select count(*) from voyage.bookings").await, 0);
}

#[sqlx::test(migrations = false)]
async fn an_interrupted_checkout_is_finished_by_the_reconciler(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let (reference, intent) = ada.has_booking().await;
    // as after a crash between the booking and its payment
    sqlx::query("update voyage.bookings set payment_intent_id = null")
        .execute(&world.pool)
        .await
        .unwrap();
    world.advance(TimeDelta::minutes(2));

    world.settle().await;

    let detail = world
        .traveller(1)
        .get(&format!("/api/v1/bookings/{reference}"))
        .await
        .expect(200);
    assert_eq!(detail["data"]["paymentIntentId"], json!(intent));
    assert_eq!(*world.payments.created.lock().unwrap(), 1);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        Just(Value::from("a\u{0}b")),
        Just(json!("FLIGHT")),
        Just(json!("EUR")),
        Just(json!(1)),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".{0,8}", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let names = [
        "userId",
        "type",
        "itemType",
        "itemId",
        "itemData",
        "price",
        "quantity",
        "currency",
        "metadata",
        "paymentIntentId",
    ];
    let fields = prop::collection::hash_map(prop::sample::select(names.to_vec()), any_json(), 0..9);
    let object = fields.prop_map(|map| {
        let map: serde_json::Map<String, Value> =
            map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Value::Object(map).to_string().into_bytes()
    });
    prop_oneof![
        6 => object,
        1 => any_json().prop_map(|value| value.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..64),
        1 => Just(b"{\"type\":".to_vec()),
    ]
}

#[sqlx::test(migrations = false)]
async fn no_body_makes_a_route_fail(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let cart = ada.add_stay(80.0).await;
    let line = cart["data"]["items"][0]["id"].as_str().unwrap().to_owned();
    let (reference, _) = ada.checkout().await;
    let routes = [
        (Method::POST, "/api/v1/cart/items".to_owned()),
        (Method::PUT, format!("/api/v1/cart/items/{line}")),
        (Method::PUT, "/api/v1/cart/extend".to_owned()),
        (Method::POST, CHECKOUT.to_owned()),
        (Method::POST, format!("/api/v1/bookings/{reference}/confirm")),
        (Method::POST, "/api/v1/bookings/%00/confirm".to_owned()),
        (
            Method::GET,
            "/api/v1/bookings?search=%00&page=99999999999999999999&status[]=x".to_owned(),
        ),
        (Method::GET, "/api/v1/bookings/a%00b%FF".to_owned()),
        (Method::DELETE, "/api/v1/cart/items/%00".to_owned()),
    ];
    let mut runner = TestRunner::new(Config::default());
    for _ in 0..60 {
        let body = any_body().new_tree(&mut runner).unwrap().current();
        for (method, path) in &routes {
            let answer = ada.send(method.clone(), path, Some(body.clone()), None).await;
            assert!(
                answer.status.as_u16() < 500,
                "{method} {path} {:?}: {}",
                String::from_utf8_lossy(&body),
                answer.body
            );
        }
    }
}

#[sqlx::test(migrations = false)]
async fn a_body_that_is_too_large_is_refused(pool: PgPool) {
    let world = World::start(pool).await;
    let body = format!("{{\"metadata\":{{\"t\":\"{}\"}}}}", "x".repeat(2 * 1024 * 1024));
    let answer = world
        .traveller(1)
        .send(Method::POST, CHECKOUT, Some(body.into_bytes()), None)
        .await;
    answer.refused(413, "PAYLOAD_TOO_LARGE");
}
