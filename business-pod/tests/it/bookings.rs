//! Bookings over HTTP: list, detail, confirm (contract: voyage §4.8; experience D8).

use business_pod::payment::client::Status;
use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};
use shared::{
    events::Topic,
    money::{Currency, Money},
};
use sqlx::PgPool;

use crate::voyage_world::World;

const BOOKINGS: &str = "/api/v1/bookings";

#[sqlx::test(migrations = false)]
async fn a_list_has_the_shape_of_the_contract(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let (reference, _) = ada.has_booking().await;

    let list = ada
        .get(&format!(
            "{BOOKINGS}?userId={}&status=draft,NONSENSE&type[]=FLIGHT",
            ada.user
        ))
        .await
        .expect(200);

    let row = &list["data"][0];
    for key in [
        "id",
        "type",
        "status",
        "totalAmount",
        "currency",
        "items",
        "itemCount",
        "createdAt",
        "updatedAt",
        "confirmedAt",
    ] {
        assert!(row.get(key).is_some(), "missing {key}");
    }
    assert_eq!(
        (&row["reference"], &row["confirmedAt"]),
        (&json!(reference), &Value::Null)
    );
    assert!(row["totalAmount"].is_number());
    assert_eq!(
        list["meta"],
        json!({
            "pagination": {
                "page": 1, "limit": 10, "totalCount": 1, "totalPages": 1, "hasNextPage": false, "hasPrevPage": false,
            },
            "filters": { "status": ["DRAFT"], "type": ["FLIGHT"], "search": null },
            "sorting": { "sortBy": "createdAt", "sortOrder": "desc" },
        })
    );
    let none = ada.get(&format!("{BOOKINGS}?status=CONFIRMED")).await.expect(200);
    assert_eq!(none["data"], json!([]));
    let tail = reference.chars().skip(14).collect::<String>().to_lowercase();
    assert_eq!(
        ada.get(&format!("{BOOKINGS}?search={tail}")).await.expect(200)["data"][0]["reference"],
        json!(reference)
    );
    assert_eq!(
        ada.get(&format!("{BOOKINGS}?search=%25")).await.expect(200)["data"],
        json!([])
    );
}

#[sqlx::test(migrations = false)]
async fn a_list_is_paged_and_sorted(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    for price in [30.0, 10.0, 20.0] {
        ada.add_stay(price).await;
        ada.checkout().await;
        ada.delete("/api/v1/cart").await.expect(200);
        world.advance(TimeDelta::seconds(1));
    }
    let page = async |query: &str| ada.get(&format!("{BOOKINGS}?{query}")).await.expect(200);
    let amounts = |list: &Value| -> Vec<f64> {
        list["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["totalAmount"].as_f64().unwrap())
            .collect()
    };
    assert_eq!(
        amounts(&page("sortBy=totalAmount&sortOrder=asc").await),
        [10.0, 20.0, 30.0]
    );
    assert_eq!(amounts(&page("sortBy=createdAt").await), [20.0, 10.0, 30.0]);
    let second = page("sortBy=totalAmount&sortOrder=asc&limit=2&page=2").await;
    assert_eq!(amounts(&second), [30.0]);
    let pagination = &second["meta"]["pagination"];
    assert_eq!(
        (&pagination["totalPages"], &pagination["hasPrevPage"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(page("limit=1000").await["meta"]["pagination"]["limit"], 50);
    ada.get(&format!("{BOOKINGS}?page=2abc"))
        .await
        .refused(400, "VALIDATION");
}

#[sqlx::test(migrations = false)]
async fn a_booking_is_shown_to_its_owner_alone(pool: PgPool) {
    let world = World::start(pool).await;
    let (ada, eve) = (world.traveller(1), world.traveller(2));
    let (reference, intent) = ada.has_booking().await;

    let detail = ada.get(&format!("{BOOKINGS}/{reference}")).await.expect(200);

    assert_eq!(
        (&detail["data"]["paymentIntentId"], &detail["data"]["metadata"]),
        (&json!(intent), &json!({}))
    );
    assert_eq!(detail["data"]["timeline"][0]["to"], "DRAFT");
    let by_id = format!("{BOOKINGS}/{}", detail["data"]["id"].as_str().unwrap());
    assert_eq!(ada.get(&by_id).await.expect(200)["data"]["reference"], json!(reference));
    for path in [format!("{BOOKINGS}/{reference}"), by_id] {
        assert_eq!(eve.get(&path).await.refused(403, "FORBIDDEN")["error"], "Access denied");
        eve.post(&format!("{path}/confirm"), &json!({}))
            .await
            .refused(403, "FORBIDDEN");
        world.browser().get(&path).await.refused(401, "TOKEN_MISSING");
        world
            .browser()
            .post(&format!("{path}/confirm"), &json!({}))
            .await
            .refused(401, "TOKEN_MISSING");
    }
    let unknown = ada
        .get(&format!("{BOOKINGS}/BOOK-20200101-AAAAA"))
        .await
        .refused(404, "NOT_FOUND");
    assert_eq!(unknown["error"], "Booking not found");
    ada.post(&format!("{BOOKINGS}/BOOK-20200101-AAAAA/confirm"), &json!({}))
        .await
        .refused(404, "NOT_FOUND");
    ada.get(&format!("{BOOKINGS}?userId={}", eve.user))
        .await
        .refused(403, "FORBIDDEN");
    world.browser().get(BOOKINGS).await.refused(401, "TOKEN_MISSING");
}

#[sqlx::test(migrations = false)]
async fn a_paid_booking_is_confirmed_once(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let (reference, intent) = ada.has_booking().await;
    world.payments.succeed(&intent);
    let path = format!("{BOOKINGS}/{reference}/confirm");
    let body = json!({ "userId": ada.user, "paymentIntentId": intent });

    let confirmed = ada.post(&path, &body).await.expect(200);

    assert_eq!(
        (&confirmed["data"]["status"], &confirmed["data"]["reference"]),
        (&json!("CONFIRMED"), &json!(reference))
    );
    assert_eq!(confirmed["data"]["confirmedAt"], "2026-11-23T10:05:00.000Z");
    assert_eq!(ada.post(&path, &body).await.expect(200), confirmed);
    world
        .deliver(Topic::PaymentCompleted, &world.completed(&intent))
        .await
        .unwrap();
    let events = world.published(Topic::VoyageBookingConfirmed).await;
    assert_eq!(events.len(), 1);
    assert_eq!(
        (&events[0]["bookingId"], &events[0]["destinations"]),
        (&json!(reference), &json!(["FCO"]))
    );
    assert_eq!(events[0]["paymentId"], json!(intent));
    assert_eq!(ada.get("/api/v1/cart").await.expect(200)["data"], Value::Null);
    let detail = ada.get(&format!("{BOOKINGS}/{reference}")).await.expect(200);
    let order = &detail["data"]["providerOrders"][0];
    assert_eq!(
        (&order["status"], order["ref"].as_str().unwrap().len()),
        (&json!("confirmed"), 6)
    );
}

#[sqlx::test(migrations = false)]
async fn nothing_a_caller_says_confirms_an_unpaid_booking(pool: PgPool) {
    let world = World::start(pool).await;
    let (ada, eve) = (world.traveller(1), world.traveller(2));
    let (reference, intent) = ada.has_booking().await;
    let (_, paid_by_eve) = eve.has_booking().await;
    world.payments.succeed(&paid_by_eve);
    let path = format!("{BOOKINGS}/{reference}/confirm");

    let unpaid = ada
        .post(&path, &json!({ "paymentIntentId": intent }))
        .await
        .refused(402, "PAYMENT_REQUIRED");
    assert_eq!(unpaid["error"], "Payment not completed");
    assert_eq!(unpaid["data"]["paymentStatus"], "requires_payment_method");
    ada.post(&path, &json!({ "paymentIntentId": paid_by_eve }))
        .await
        .refused(402, "PAYMENT_REQUIRED");
    ada.post(&path, &json!({ "paymentIntentId": "pi_unknown" }))
        .await
        .refused(402, "PAYMENT_REQUIRED");
    ada.post(&path, &json!({ "paymentIntentId": 7 }))
        .await
        .refused(402, "PAYMENT_REQUIRED");
    world.payments.succeed(&intent);
    world.payments.set_amount(&intent, Money::new(1, Currency::EUR));
    ada.post(&path, &json!({})).await.refused(402, "PAYMENT_REQUIRED");
    assert_eq!(world.status(&reference).await, "DRAFT");
}

#[sqlx::test(migrations = false)]
async fn a_payment_at_the_bank_gives_the_booking_a_day(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let (reference, intent) = ada.has_booking().await;
    world.payments.set_status(&intent, Status::Processing, "processing");

    let waiting = ada
        .post(&format!("{BOOKINGS}/{reference}/confirm"), &json!({}))
        .await
        .refused(402, "PAYMENT_REQUIRED");

    assert_eq!(waiting["data"]["paymentStatus"], "processing");
    let detail = ada.get(&format!("{BOOKINGS}/{reference}")).await.expect(200);
    assert_eq!(detail["data"]["status"], "PENDING_PAYMENT");
    assert_eq!(detail["data"]["expiresAt"], "2026-11-24T10:05:00.000Z");
}

#[sqlx::test(migrations = false)]
async fn a_booking_that_is_over_is_not_confirmed(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let (old, _) = ada.has_booking().await;
    ada.add_stay(80.0).await;
    ada.checkout().await;
    let refused = ada
        .post(&format!("{BOOKINGS}/{old}/confirm"), &json!({}))
        .await
        .refused(400, "VALIDATION");
    assert_eq!(refused["error"], "Cannot confirm booking with status: CANCELLED");
}

#[sqlx::test(migrations = false)]
async fn a_confirmation_waits_for_payment_to_be_back(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let (reference, intent) = ada.has_booking().await;
    world.payments.succeed(&intent);
    world.payments.set_away(true);
    let path = format!("{BOOKINGS}/{reference}/confirm");
    ada.send(Method::POST, &path, None, Some("k"))
        .await
        .refused(503, "PAYMENT_UNAVAILABLE");
    world.payments.set_away(false);
    ada.send(Method::POST, &path, None, Some("k")).await.expect(200);
}
