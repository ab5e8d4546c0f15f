//! What the core pod may ask on behalf of administrators, and what it may read (contract: core §2.8, §5.12, §11; voyage §7.2,
//! §7.5; payment §9).

use std::sync::Arc;

use business_pod::payment::client::{PaymentClient as _, Status};
use chrono::TimeDelta;
use devkit::stripe::Fault;
use reqwest::Method;
use serde_json::{Value, json};
use shared::{
    events::Topic,
    money::{Currency, Money},
};
use sqlx::PgPool;

use crate::{
    app::{self, GOOD_CARD, PRICE, Setup, TestApp},
    voyage_world::{Answer, World},
};

const ADMIN: &str = "0192f0c1-0000-7000-8000-0000000000ad";
const NOBODY: &str = "0192f0c1-0000-7000-8000-000000000000";

/// The row of a booking.
async fn id_of(pool: &PgPool, reference: &str) -> String {
    sqlx::query_scalar("select id::text from voyage.bookings where reference = $1")
        .bind(reference)
        .fetch_one(pool)
        .await
        .unwrap()
}

/// A booking's `data` as others read it.
async fn data_of(pool: &PgPool, reference: &str) -> Value {
    sqlx::query_scalar("select data from voyage.booking_data where reference = $1")
        .bind(reference)
        .fetch_one(pool)
        .await
        .unwrap()
}

async fn cancel(world: &World, reference: &str, refund: bool) -> Answer {
    let id = id_of(&world.pool, reference).await;
    let body = json!({ "refund": refund, "reason": "strike", "actor": ADMIN });
    let path = format!("/api/v1/internal/bookings/{id}/cancel");
    let key = format!("cancel:{reference}");
    world
        .service("core-pod")
        .send(Method::POST, &path, Some(body.to_string().into_bytes()), Some(&key))
        .await
}

async fn set_status(world: &World, reference: &str, status: &str) -> Answer {
    let id = id_of(&world.pool, reference).await;
    let path = format!("/api/v1/internal/bookings/{id}/status");
    let body = json!({ "status": status, "actor": ADMIN });
    world.service("core-pod").put(&path, &body).await
}

async fn modify(world: &World, reference: &str, mut body: Value) -> Answer {
    let id = id_of(&world.pool, reference).await;
    body["actor"] = json!(ADMIN);
    let path = format!("/api/v1/internal/bookings/{id}/modify");
    world.service("core-pod").put(&path, &body).await
}

/// A booking that is paid and ordered.
async fn confirmed(world: &World, number: u128) -> (String, String) {
    let (reference, intent) = world.traveller(number).has_booking().await;
    world.payments.succeed(&intent);
    let event = world.completed(&intent);
    world.deliver(Topic::PaymentCompleted, &event).await.unwrap();
    world.settle().await;
    assert_eq!(world.status(&reference).await, "CONFIRMED");
    (reference, intent)
}

/// Payment and voyage over one database, and a booking that was paid by card.
async fn paid(pool: PgPool, setup: Setup) -> (TestApp, World, String, String) {
    let app = TestApp::start_with(pool.clone(), setup).await;
    let world = World::paying_with(pool, Arc::new(app.payments.clone())).await;
    let ada = world.traveller(1);
    let offer = world.offer(1).await;
    ada.add_flight(&offer).await;
    let body = ada.post("/api/v1/cart/checkout", &json!({})).await.expect(200);
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap().to_owned();
    let (reference, intent) = (text("/data/bookingReference"), text("/data/payment/paymentIntentId"));
    let secret = text("/data/payment/clientSecret");
    app.stripe.pay_in_browser(&secret, GOOD_CARD).await.unwrap();
    app.becomes(&intent, "SUCCEEDED").await;
    world.hear_payment().await;
    assert_eq!(world.status(&reference).await, "CONFIRMED");
    (app, world, reference, intent)
}

#[sqlx::test(migrations = false)]
async fn only_the_core_pod_may_call(pool: PgPool) {
    let world = World::start(pool).await;
    let (reference, _) = world.traveller(1).has_booking().await;
    let id = id_of(&world.pool, &reference).await;
    let body = json!({ "status": "CANCELLED", "ids": [id], "notes": "x", "actor": ADMIN });
    for (method, path) in [
        (Method::PUT, "/api/v1/internal/bookings/status".to_owned()),
        (Method::PUT, format!("/api/v1/internal/bookings/{id}/status")),
        (Method::POST, format!("/api/v1/internal/bookings/{id}/cancel")),
        (Method::PUT, format!("/api/v1/internal/bookings/{id}/modify")),
    ] {
        let key = format!("cancel:{reference}");
        let bytes = Some(body.to_string().into_bytes());
        let send = async |caller: crate::voyage_world::Traveller<'_>| {
            caller.send(method.clone(), &path, bytes.clone(), Some(&key)).await
        };
        send(world.browser()).await.refused(401, "TOKEN_MISSING");
        send(world.traveller(1)).await.refused(401, "INVALID_TOKEN");
        send(world.service("experience-pod")).await.refused(403, "FORBIDDEN");
        send(world.service("business-pod")).await.refused(403, "FORBIDDEN");
    }
    assert_eq!(world.status(&reference).await, "DRAFT");
}

#[sqlx::test(migrations = false)]
async fn a_paid_booking_is_cancelled_with_one_refund_and_told_once(pool: PgPool) {
    let (app, world, reference, intent) = paid(pool, Setup::default()).await;

    let done = cancel(&world, &reference, true).await.expect(200);
    assert_eq!(
        (&done["data"]["status"], &done["data"]["refundStatus"]),
        (&json!("CANCELLED"), &json!("succeeded"))
    );
    let again = cancel(&world, &reference, true).await.refused(409, "BOOKING_CANCELLED");
    assert_eq!(again["data"]["refundStatus"], "succeeded");
    app.becomes(&intent, "REFUNDED").await;
    world.hear_payment().await;
    app.quiet().await;

    assert_eq!(app.stripe.refunds_of(&intent).len(), 1);
    let told = world.published(Topic::VoyageBookingCancelled).await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["reason"], "admin_cancelled: strike");
    let total = app.payments.status(&intent, false).await.unwrap().unwrap().amount;
    assert_eq!(told[0]["refundAmount"], json!(total.major()));
    let data = data_of(&world.pool, &reference).await;
    assert_eq!(data["refund"]["status"], "succeeded");
    assert_eq!(
        (&data["refund"]["amount"], &data["refund"]["currency"]),
        (&json!(total.major()), &json!("EUR"))
    );
    assert_eq!(data["cancellationReason"], "admin_cancelled: strike");
    let books = "select count(*) from voyage.booking_events
                 where actor = 'admin' and actor_id = '0192f0c1-0000-7000-8000-0000000000ad' and to_status = 'CANCELLED'";
    assert_eq!(world.count(books).await, 1);
    assert_eq!(
        world
            .count("select count(*) from voyage.payment_tasks where done_at is null")
            .await,
        0
    );
}

#[sqlx::test(migrations = false)]
async fn any_number_of_cancellations_at_once_make_one_refund(pool: PgPool) {
    let (app, world, reference, intent) = paid(pool, Setup::default()).await;
    let calls = (0..6).map(|_| cancel(&world, &reference, true));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().any(|answer| answer.status == 200));
    for answer in answers {
        assert!([200, 409].contains(&answer.status.as_u16()), "{:#}", answer.body);
    }
    assert_eq!(app.stripe.refunds_of(&intent).len(), 1);
    assert_eq!(world.published(Topic::VoyageBookingCancelled).await.len(), 1);
}

#[sqlx::test(migrations = false)]
async fn a_refund_that_stripe_did_not_answer_is_pending_until_somebody_asks_again(pool: PgPool) {
    let setup = Setup {
        stripe_timeout: 400,
        webhooks: true,
        ..Setup::default()
    };
    let (app, world, reference, intent) = paid(pool, setup).await;
    app.stripe.webhooks().set_url(None);
    app.stripe
        .fail_calls(Method::POST, "/v1/refunds", Fault::TimeoutAfterCommit, 1);

    let done = cancel(&world, &reference, true).await.expect(200);
    assert_eq!(done["data"]["refundStatus"], "pending");
    assert_eq!(data_of(&world.pool, &reference).await["refund"]["status"], "pending");

    let again = cancel(&world, &reference, true).await.expect(200);
    assert_eq!(again["data"]["refundStatus"], "succeeded");
    assert_eq!(app.stripe.refunds_of(&intent).len(), 1);
    assert_eq!(world.published(Topic::VoyageBookingCancelled).await.len(), 1);
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_22_a_refund_that_fails_is_recorded_and_returned(pool: PgPool) {
    let world = World::start(pool).await;
    let (reference, intent) = confirmed(&world, 1).await;
    world.payments.refuse_refunds();
    let done = cancel(&world, &reference, true).await.expect(200);
    assert_eq!(
        (&done["data"]["status"], &done["data"]["refundStatus"]),
        (&json!("CANCELLED"), &json!("failed"))
    );
    let data = data_of(&world.pool, &reference).await;
    assert_eq!(data["refund"]["status"], "failed");
    assert_eq!(
        data["refund"]["amount"],
        json!(world.payments.view(&intent).amount.major())
    );
    // nor is it tried behind everybody's back
    world
        .deliver(Topic::PaymentCompleted, &world.completed(&intent))
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(
        world
            .count("select count(*) from voyage.payment_tasks where done_at is null")
            .await,
        0
    );
    cancel(&world, &reference, true).await.refused(409, "BOOKING_CANCELLED");
}

#[sqlx::test(migrations = false)]
async fn a_pending_refund_is_closed_by_payments_own_news(pool: PgPool) {
    let world = World::start(pool).await;
    let (reference, intent) = confirmed(&world, 1).await;
    let done = cancel(&world, &reference, true).await.expect(200);
    assert_eq!(done["data"]["refundStatus"], "pending");
    world
        .deliver(Topic::PaymentRefunded, &world.refunded(&intent))
        .await
        .unwrap();
    assert_eq!(data_of(&world.pool, &reference).await["refund"]["status"], "succeeded");
    assert_eq!(world.published(Topic::VoyageBookingCancelled).await.len(), 1);
    assert_eq!(world.payments.refunds.lock().unwrap().len(), 1);
}

#[sqlx::test(migrations = false)]
async fn money_that_an_administrator_keeps_does_not_go_back_by_itself(pool: PgPool) {
    let world = World::start(pool).await;
    let (reference, intent) = confirmed(&world, 1).await;
    let done = cancel(&world, &reference, false).await.expect(200);
    assert_eq!(done["data"]["refundStatus"], Value::Null);
    world
        .deliver(Topic::PaymentCompleted, &world.completed(&intent))
        .await
        .unwrap();
    world.settle().await;
    assert!(world.payments.refunds.lock().unwrap().is_empty());
    assert_eq!(world.status(&reference).await, "CANCELLED");
}

#[sqlx::test(migrations = false)]
async fn an_unpaid_booking_is_cancelled_with_its_payment(pool: PgPool) {
    let world = World::start(pool).await;
    let (reference, intent) = world.traveller(1).has_booking().await;
    let done = cancel(&world, &reference, true).await.expect(200);
    assert_eq!(done["data"]["refundStatus"], Value::Null, "nothing was paid");
    world.settle().await;
    assert_eq!(world.payments.view(&intent).status, Status::Canceled);
    assert!(data_of(&world.pool, &reference).await.get("refund").is_none());
}

#[sqlx::test(migrations = false)]
async fn without_payment_a_refund_is_refused_and_nothing_is_half_done(pool: PgPool) {
    let world = World::start(pool).await;
    let (reference, _) = confirmed(&world, 1).await;
    world.payments.set_away(true);
    cancel(&world, &reference, true)
        .await
        .refused(503, "PAYMENT_UNAVAILABLE");
    assert_eq!(world.status(&reference).await, "CONFIRMED");
    assert!(world.published(Topic::VoyageBookingCancelled).await.is_empty());
    cancel(&world, &reference, false).await.expect(200);
}

#[sqlx::test(migrations = false)]
async fn a_cancellation_names_its_booking_twice_or_is_refused(pool: PgPool) {
    let world = World::start(pool).await;
    let (reference, _) = world.traveller(1).has_booking().await;
    let id = id_of(&world.pool, &reference).await;
    let core = world.service("core-pod");
    let send = async |id: &str, key: Option<&str>, body: Value| {
        let path = format!("/api/v1/internal/bookings/{id}/cancel");
        core.send(Method::POST, &path, Some(body.to_string().into_bytes()), key)
            .await
    };
    let good = json!({ "actor": ADMIN });
    send(&id, None, good.clone()).await.expect(400);
    send(&id, Some("cancel:BOOK-OTHER"), good.clone())
        .await
        .refused(400, "INVALID_IDEMPOTENCY_KEY");
    let key = format!("cancel:{reference}");
    send(NOBODY, Some(&key), good.clone()).await.refused(404, "NOT_FOUND");
    send("x", Some(&key), good.clone()).await.refused(404, "NOT_FOUND");
    for bad in [
        json!({}),
        json!({ "actor": "me" }),
        json!({ "actor": ADMIN, "refund": "yes" }),
        json!([]),
    ] {
        send(&id, Some(&key), bad).await.expect(400);
    }
    send(&id, Some(&key), json!({ "actor": ADMIN, "reason": "x".repeat(501) }))
        .await
        .expect(400);
    assert_eq!(world.status(&reference).await, "DRAFT");
}

#[sqlx::test(migrations = false)]
async fn an_administrator_confirms_nothing_that_is_not_paid(pool: PgPool) {
    let world = World::start(pool).await;
    let (reference, intent) = world.traveller(1).has_booking().await;
    let refusal = set_status(&world, &reference, "CONFIRMED")
        .await
        .refused(409, "INVALID_TRANSITION");
    assert_eq!(refusal["data"], json!({ "from": "DRAFT", "to": "CONFIRMED" }));
    assert_eq!(world.status(&reference).await, "DRAFT");

    // paid, and the news of it got lost
    world.payments.succeed(&intent);
    let done = set_status(&world, &reference, "CONFIRMED").await.expect(200);
    assert_eq!(done["data"]["status"], "CONFIRMED");
    assert_eq!(world.published(Topic::VoyageBookingConfirmed).await.len(), 1);
    set_status(&world, &reference, "CONFIRMED").await.expect(200);
    assert_eq!(world.published(Topic::VoyageBookingConfirmed).await.len(), 1);

    for never in ["DRAFT", "PENDING_PAYMENT", "PENDING", "FAILED"] {
        set_status(&world, &reference, never)
            .await
            .refused(409, "INVALID_TRANSITION");
    }
    assert_eq!(
        set_status(&world, &reference, "COMPLETED").await.expect(200)["data"]["status"],
        "COMPLETED"
    );
    let told = world.published(Topic::VoyageBookingUpdated).await;
    assert_eq!(
        told.last().unwrap()["changes"],
        json!({ "status": { "old": "CONFIRMED", "new": "COMPLETED" } })
    );
    set_status(&world, &reference, "CANCELLED")
        .await
        .refused(409, "BOOKING_COMPLETED");
    cancel(&world, &reference, true).await.refused(409, "BOOKING_COMPLETED");

    let path = format!("/api/v1/internal/bookings/{NOBODY}/status");
    let body = json!({ "status": "CANCELLED", "actor": ADMIN });
    world
        .service("core-pod")
        .put(&path, &body)
        .await
        .refused(404, "NOT_FOUND");
    for bad in [
        json!({ "status": "LOST", "actor": ADMIN }),
        json!({ "status": "CANCELLED" }),
        json!({ "actor": ADMIN }),
    ] {
        let id = id_of(&world.pool, &reference).await;
        let path = format!("/api/v1/internal/bookings/{id}/status");
        world.service("core-pod").put(&path, &bad).await.expect(400);
    }
}

#[sqlx::test(migrations = false)]
async fn many_are_changed_together_and_only_what_changed_is_counted(pool: PgPool) {
    let world = World::start(pool).await;
    let (first, _) = confirmed(&world, 1).await;
    let (second, _) = confirmed(&world, 2).await;
    let (draft, _) = world.traveller(3).has_booking().await;
    let mut ids = Vec::new();
    for reference in [&first, &second, &draft] {
        ids.push(id_of(&world.pool, reference).await);
    }
    ids.push(NOBODY.to_owned());
    let core = world.service("core-pod");
    let put = async |ids: &[String], status: &str| {
        let body = json!({ "ids": ids, "status": status, "actor": ADMIN });
        core.put("/api/v1/internal/bookings/status", &body).await
    };
    let done = put(&ids, "COMPLETED").await.expect(200);
    assert_eq!(done["data"], json!({ "updated": 2, "refused": [ids[2]] }));
    let again = put(&ids, "COMPLETED").await.expect(200);
    assert_eq!(again["data"]["updated"], 0, "they are there already");
    assert_eq!(world.status(&draft).await, "DRAFT");
    let done = put(&ids, "CANCELLED").await.expect(200);
    assert_eq!(
        (&done["data"]["updated"], world.status(&draft).await.as_str()),
        (&json!(1), "CANCELLED")
    );
    put(&[], "CANCELLED").await.expect(400);
    put(&vec![NOBODY.to_owned(); 501], "CANCELLED").await.expect(400);
    put(&["x".to_owned()], "CANCELLED").await.expect(400);
    put(&ids, "LOST").await.expect(400);
}

#[sqlx::test(migrations = false)]
async fn notes_data_and_total_are_corrected_and_the_purchase_is_not(pool: PgPool) {
    let world = World::start(pool).await;
    let (reference, _) = confirmed(&world, 1).await;
    let before = data_of(&world.pool, &reference).await;

    let change =
        json!({ "totalAmount": 19.99, "notes": "=call back", "data": { "seat": "12A", "destination": "Roma" } });
    modify(&world, &reference, change).await.expect(200);
    let row: (String, i64, String) =
        sqlx::query_as("select total_amount::text, total_minor, destination from voyage.booking_data")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!(row, ("19.99".to_owned(), 1999, "Roma".to_owned()));
    let data = data_of(&world.pool, &reference).await;
    assert_eq!(
        (&data["adminNotes"], &data["seat"]),
        (&json!("=call back"), &json!("12A"))
    );
    assert_eq!(data["items"], before["items"]);
    let told = world.published(Topic::VoyageBookingUpdated).await;
    let told = told.last().unwrap();
    assert_eq!(told["changes"]["totalAmount"]["new"], 19.99);
    assert!(!told.to_string().contains("call back") && !told.to_string().contains("12A"));

    // a key that is merged stays beside the others; what is sent back unchanged is no offence
    modify(
        &world,
        &reference,
        json!({ "data": { "meal": "none", "items": data["items"], "createdFrom": "cart" } }),
    )
    .await
    .expect(200);
    let data = data_of(&world.pool, &reference).await;
    assert_eq!((&data["seat"], &data["meal"]), (&json!("12A"), &json!("none")));
    modify(&world, &reference, json!({ "notes": null })).await.expect(200);
    assert!(data_of(&world.pool, &reference).await.get("adminNotes").is_none());

    let stored = data_of(&world.pool, &reference).await;
    for bad in [
        json!({}),
        json!({ "totalAmount": -1 }),
        json!({ "totalAmount": 1.001 }),
        json!({ "totalAmount": "12" }),
        json!({ "data": { "refund": { "status": "succeeded" } } }),
        json!({ "data": { "paymentIntentId": "pi_other" } }),
        json!({ "data": { "PaymentStatus": "paid" } }),
        json!({ "data": { "items": [] } }),
        json!({ "data": { "cancellationReason": "x" } }),
        json!({ "data": { "adminNotes": 7 } }),
        json!({ "data": "x" }),
        json!({ "notes": ["x"] }),
        json!({ "data": { "x": "a\0b" } }),
    ] {
        modify(&world, &reference, bad.clone()).await.expect(400);
        assert_eq!(data_of(&world.pool, &reference).await, stored, "{bad}");
    }
}

#[sqlx::test(migrations = false)]
async fn the_total_of_a_booking_that_may_still_be_paid_stays(pool: PgPool) {
    let world = World::start(pool).await;
    let (reference, _) = world.traveller(1).has_booking().await;
    modify(&world, &reference, json!({ "totalAmount": 1 }))
        .await
        .refused(409, "BOOKING_UNPAID");
    modify(&world, &reference, json!({ "notes": "fragile" }))
        .await
        .expect(200);
}

#[sqlx::test(migrations = false)]
async fn an_erased_account_takes_the_administrators_notes_with_it(pool: PgPool) {
    let world = World::start(pool).await;
    let (reference, _) = confirmed(&world, 1).await;
    modify(&world, &reference, json!({ "notes": "Ada Lovelace, room 12" }))
        .await
        .expect(200);
    let payload = json!({ "userId": world.traveller(1).user, "deletedAt": "2026-11-23T10:05:00.000Z" });
    let event = world.event(Topic::UserDeleted, payload);
    world.deliver(Topic::UserDeleted, &event).await.unwrap();
    assert!(!data_of(&world.pool, &reference).await.to_string().contains("Lovelace"));
}

#[sqlx::test(migrations = false)]
async fn the_views_tell_amounts_exactly_in_every_currency(pool: PgPool) {
    let world = World::start(pool).await;
    let letters = || 'A'..='Z';
    let all = letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| format!("{a}{b}{c}"))));
    let known: Vec<Currency> = all.filter_map(|code| code.parse().ok()).collect();
    assert!(known.len() > 150, "the walk found only {}", known.len());
    for currency in known {
        let text: String = sqlx::query_scalar("select voyage.major_units(123456789, $1)::text")
            .bind(currency.code())
            .fetch_one(&world.pool)
            .await
            .unwrap();
        let digits = usize::try_from(currency.exponent()).unwrap();
        let major = Money::new(123_456_789, currency).major();
        assert_eq!(text, format!("{major:.digits$}"), "{currency}");
    }

    let (reference, intent) = confirmed(&world, 1).await;
    let view = world.payments.view(&intent);
    let data = data_of(&world.pool, &reference).await;
    assert_eq!(data["items"][0]["price"], json!(view.amount.major()));
    assert_eq!((&data["createdFrom"], &data["metadata"]), (&json!("cart"), &json!({})));
    let row: (String, Option<String>, String) =
        sqlx::query_as("select type, destination, destination_city from voyage.booking_data")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!(row, ("FLIGHT".to_owned(), Some("FCO".to_owned()), "FCO".to_owned()));
}

/// Asks payment to set a status.
async fn force(app: &TestApp, id: &str, status: &str, expected: &str) -> app::Answer {
    let body = json!({ "status": status, "expected": expected, "reason": "seen in the dashboard", "actor": ADMIN,
                       "ipAddress": "203.0.113.7" });
    let path = format!("/api/v1/internal/payments/{id}/status");
    app.call(Method::PUT, &path, Some(&app.issuer.service("core-pod")), Some(&body))
        .await
}

async fn payment_id(app: &TestApp) -> String {
    app.one("select id::text from payment.transaction_data").await
}

#[sqlx::test(migrations = false)]
async fn a_payments_status_follows_stripe_and_not_the_administrator(pool: PgPool) {
    let app = TestApp::start_with(
        pool,
        Setup {
            webhooks: false,
            ..Setup::default()
        },
    )
    .await;
    let ada = app.traveller();
    let started = ada.starts(&ada.books(PRICE)).await;
    let id = payment_id(&app).await;

    let refusal = force(&app, &id, "SUCCEEDED", "PENDING")
        .await
        .refused(409, "PROVIDER_CONTRADICTS");
    assert_eq!(refusal.body["data"]["status"], "PENDING");
    force(&app, &id, "SUCCEEDED", "FAILED")
        .await
        .refused(409, "STATUS_CHANGED");
    // Stripe has one word for a payment that waits and one that failed
    let failed = force(&app, &id, "FAILED", "PENDING").await.expect(200);
    assert_eq!(
        failed.body["data"],
        json!({ "id": id, "status": "FAILED", "verified": true })
    );

    // the webhook got lost: asking is enough, and the truth has its event
    app.stripe.pay_in_browser(&started.secret, GOOD_CARD).await.unwrap();
    force(&app, &id, "SUCCEEDED", "FAILED").await.expect(200);
    assert_eq!(app.story().await, ["initiated", "completed"]);
    for (to, code) in [
        ("PENDING", "PROVIDER_CONTRADICTS"),
        ("FAILED", "PROVIDER_CONTRADICTS"),
        ("REFUNDED", "PROVIDER_CONTRADICTS"),
    ] {
        force(&app, &id, to, "SUCCEEDED").await.refused(409, code);
    }
    assert_eq!(app.story().await, ["initiated", "completed"]);
    let actions = "select string_agg(from_status || '>' || to_status || ' ' || verified || ' ' || ip_address, ', ' order by from_status::text desc)
                   from payment.admin_actions";
    assert_eq!(
        app.one(actions).await,
        "PENDING>FAILED true 203.0.113.7, FAILED>SUCCEEDED true 203.0.113.7"
    );
}

#[sqlx::test(migrations = false)]
async fn an_administrators_word_alone_confirms_nothing_and_is_put_right_by_stripe(pool: PgPool) {
    let setup = Setup {
        stripe_timeout: 400,
        webhooks: false,
        ..Setup::default()
    };
    let app = TestApp::start_with(pool, setup).await;
    let ada = app.traveller();
    let booking = ada.books(PRICE);
    let started = ada.starts(&booking).await;
    let id = payment_id(&app).await;
    app.stripe.pay_in_browser(&started.secret, GOOD_CARD).await.unwrap();
    app.stripe
        .fail_calls(Method::GET, "/v1/payment_intents", Fault::ServerError, 100);

    let forced = force(&app, &id, "SUCCEEDED", "PENDING").await.expect(200);
    assert_eq!(forced.body["data"]["verified"], false);
    assert_eq!(app.story().await, ["initiated"], "nothing is published");
    let view = app.payments.status(&started.intent, false).await.unwrap().unwrap();
    assert_eq!(view.status, Status::Succeeded);
    assert!(!view.pays(booking.id, ada.user, Money::new(PRICE, Currency::EUR)));
    assert!(app.balances().await.is_empty(), "no money was seen");
    force(&app, &id, "REFUNDED", "SUCCEEDED")
        .await
        .refused(409, "INVALID_TRANSITION");
    force(&app, &id, "PENDING", "SUCCEEDED")
        .await
        .refused(409, "INVALID_TRANSITION");

    app.stripe.clear_faults();
    app.later(TimeDelta::minutes(5));
    app.payments.round().await.unwrap();
    assert_eq!(app.story().await, ["initiated", "completed"]);
    let view = app.payments.status(&started.intent, false).await.unwrap().unwrap();
    assert!(view.pays(booking.id, ada.user, Money::new(PRICE, Currency::EUR)));
    assert_eq!(app.balances().await["psp:stripe:clearing"], PRICE);
    app.later(TimeDelta::minutes(5));
    app.payments.round().await.unwrap();
    assert_eq!(app.story().await.len(), 2);
}

#[sqlx::test(migrations = false)]
async fn a_refund_that_no_webhook_told_of_is_found_when_somebody_looks(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.traveller();
    let started = ada.starts(&ada.books(PRICE)).await;
    app.stripe.pay_in_browser(&started.secret, GOOD_CARD).await.unwrap();
    app.becomes(&started.intent, "SUCCEEDED").await;
    let id = payment_id(&app).await;
    app.stripe.webhooks().set_url(None);
    let refunded = reqwest::Client::new()
        .post(format!("{}/v1/refunds", app.stripe.base_url()))
        .bearer_auth(app.stripe.secret_key())
        .form(&[("payment_intent", started.intent.as_str())])
        .send()
        .await
        .unwrap();
    assert_eq!(refunded.status(), 200);
    force(&app, &id, "REFUNDED", "SUCCEEDED").await.expect(200);
    assert_eq!(app.story().await, ["initiated", "completed", "refunded"]);
    assert!(app.balances().await.values().all(|balance| *balance == 0));
}

#[sqlx::test(migrations = false)]
async fn a_payments_status_needs_a_reason_and_the_core_pod(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.traveller();
    ada.starts(&ada.books(PRICE)).await;
    let id = payment_id(&app).await;
    let path = format!("/api/v1/internal/payments/{id}/status");
    let good = json!({ "status": "FAILED", "expected": "PENDING", "reason": "x", "actor": ADMIN });
    app.call(Method::PUT, &path, None, Some(&good))
        .await
        .refused(401, "TOKEN_MISSING");
    let own = app.issuer.sign_in(ada.user);
    app.call(Method::PUT, &path, Some(&own), Some(&good))
        .await
        .refused(401, "INVALID_TOKEN");
    let other = app.issuer.service("experience-pod");
    app.call(Method::PUT, &path, Some(&other), Some(&good))
        .await
        .refused(403, "FORBIDDEN");
    let core = app.issuer.service("core-pod");
    for (key, value) in [
        ("status", json!("CANCELED")),
        ("status", json!("PROCESSING")),
        ("status", json!("LOST")),
        ("status", json!(1)),
        ("reason", json!("")),
        ("reason", json!("a\nb")),
        ("reason", json!("x".repeat(501))),
        ("actor", json!("me")),
    ] {
        let mut bad = good.clone();
        bad[key] = value;
        app.call(Method::PUT, &path, Some(&core), Some(&bad)).await.expect(400);
    }
    for id in [NOBODY, "x"] {
        let path = format!("/api/v1/internal/payments/{id}/status");
        app.call(Method::PUT, &path, Some(&core), Some(&good))
            .await
            .refused(404, "NOT_FOUND");
    }
    assert_eq!(app.one("select count(*)::text from payment.admin_actions").await, "0");
}
