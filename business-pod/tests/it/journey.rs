//! Voyage and payment together, with the double of Stripe: what a traveller goes through (contract: events §7.1 to §7.6).

use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::{Value, json};
use shared::events::Topic;
use sqlx::PgPool;

use crate::{
    app::{BAD_CARD, GOOD_CARD, TestApp},
    voyage_world::{Traveller, World},
};

const CHECKOUT: &str = "/api/v1/cart/checkout";

/// Payment and voyage over one database.
async fn both(pool: PgPool) -> (TestApp, World) {
    let app = TestApp::start(pool.clone()).await;
    let world = World::paying_with(pool, Arc::new(app.payments.clone())).await;
    (app, world)
}

/// A checkout of one flight: reference, payment, secret.
async fn checked_out(world: &World, ada: &Traveller<'_>) -> (String, String, String) {
    let offer = world.offer(1).await;
    ada.add_flight(&offer).await;
    let body = ada
        .post(CHECKOUT, &json!({ "metadata": { "seat": "12A" } }))
        .await
        .expect(200);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let payment = &body["data"]["payment"];
    assert_eq!(body["data"]["totalAmount"], json!(offer.price.total));
    (
        text(&body["data"]["bookingReference"]),
        text(&payment["paymentIntentId"]),
        text(&payment["clientSecret"]),
    )
}

#[sqlx::test(migrations = false)]
async fn a_card_payment_confirms_the_booking_once(pool: PgPool) {
    let (app, world) = both(pool).await;
    let ada = world.traveller(1);
    let (reference, intent, secret) = checked_out(&world, &ada).await;

    app.stripe.pay_in_browser(&secret, GOOD_CARD).await.unwrap();
    app.becomes(&intent, "SUCCEEDED").await;
    world.hear_payment().await;

    assert_eq!(world.status(&reference).await, "CONFIRMED");
    let path = format!("/api/v1/bookings/{reference}/confirm");
    ada.post(&path, &json!({ "paymentIntentId": intent })).await.expect(200);
    assert_eq!(world.published(Topic::VoyageBookingConfirmed).await.len(), 1);
    assert_eq!(ada.get("/api/v1/cart").await.expect(200)["data"], Value::Null);
}

#[sqlx::test(migrations = false)]
async fn the_browsers_own_confirmation_is_enough_while_events_are_late(pool: PgPool) {
    let (app, world) = both(pool).await;
    let ada = world.traveller(1);
    let (reference, intent, secret) = checked_out(&world, &ada).await;
    let path = format!("/api/v1/bookings/{reference}/confirm");
    ada.post(&path, &json!({ "paymentIntentId": intent }))
        .await
        .refused(402, "PAYMENT_REQUIRED");

    app.stripe.pay_in_browser(&secret, GOOD_CARD).await.unwrap();
    let confirmed = ada.post(&path, &json!({ "paymentIntentId": intent })).await.expect(200);

    assert_eq!(confirmed["data"]["status"], "CONFIRMED");
    app.becomes(&intent, "SUCCEEDED").await;
    world.hear_payment().await;
    assert_eq!(world.published(Topic::VoyageBookingConfirmed).await.len(), 1);
}

#[sqlx::test(migrations = false)]
async fn a_declined_card_keeps_the_cart_and_another_card_pays_the_same_booking(pool: PgPool) {
    let (app, world) = both(pool).await;
    let ada = world.traveller(1);
    let (reference, intent, secret) = checked_out(&world, &ada).await;

    app.stripe.pay_in_browser(&secret, BAD_CARD).await.unwrap();
    app.becomes(&intent, "FAILED").await;
    world.hear_payment().await;
    assert_eq!(world.status(&reference).await, "FAILED");
    assert_eq!(ada.get("/api/v1/cart").await.expect(200)["meta"]["itemCount"], 1);
    let again = ada.post(CHECKOUT, &json!({})).await.expect(200);
    assert_eq!(again["data"]["payment"]["clientSecret"], json!(secret));
    assert_eq!(
        (&again["data"]["bookingReference"], &again["data"]["status"]),
        (&json!(reference), &json!("DRAFT"))
    );

    app.stripe.pay_in_browser(&secret, GOOD_CARD).await.unwrap();
    app.becomes(&intent, "SUCCEEDED").await;
    world.hear_payment().await;
    assert_eq!(world.status(&reference).await, "CONFIRMED");
}

#[sqlx::test(migrations = false)]
async fn what_nobody_pays_can_no_longer_be_paid(pool: PgPool) {
    let (app, world) = both(pool).await;
    let ada = world.traveller(1);
    let (reference, intent, secret) = checked_out(&world, &ada).await;

    world.advance(TimeDelta::minutes(31));
    world.settle().await;

    assert_eq!(world.status(&reference).await, "FAILED");
    app.becomes(&intent, "CANCELED").await;
    app.stripe.pay_in_browser(&secret, GOOD_CARD).await.ok();
    app.quiet().await;
    world.hear_payment().await;
    app.becomes(&intent, "CANCELED").await;
    assert_eq!(world.status(&reference).await, "FAILED");
}

#[sqlx::test(migrations = false)]
async fn money_for_a_superseded_booking_is_given_back(pool: PgPool) {
    let (app, world) = both(pool).await;
    let ada = world.traveller(1);
    let (old, old_intent, secret) = checked_out(&world, &ada).await;
    // paid in one window while the cart is changed and checked out in another
    app.stripe.pay_in_browser(&secret, GOOD_CARD).await.unwrap();
    ada.add_stay(80.0).await;
    ada.post(CHECKOUT, &json!({})).await.expect(200);
    app.becomes(&old_intent, "SUCCEEDED").await;

    world.hear_payment().await;
    app.quiet().await;
    world.hear_payment().await;

    assert_eq!(world.status(&old).await, "CANCELLED");
    app.becomes(&old_intent, "REFUNDED").await;
    assert_eq!(world.published(Topic::VoyageBookingConfirmed).await.len(), 0);
}
