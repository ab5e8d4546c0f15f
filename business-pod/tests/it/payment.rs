//! Starting, reading, confirming, cancelling and refunding payments (payment §4, §7, §11).

use business_pod::payment::client::{CancelReason, Cancelled, PaymentClient as _, PaymentError};
use devkit::stripe::Fault;
use http::Method;
use serde_json::json;
use shared::{auth::Role, events::Topic};
use sqlx::PgPool;

use crate::app::{BAD_CARD, GOOD_CARD, PRICE, Setup, TestApp, create};

const CREATE: &str = "/api/v1/payment/create-intent";

#[sqlx::test(migrations = false)]
async fn a_traveller_pays_and_the_booking_hears_of_it_once(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.traveller();
    let booking = ada.books(PRICE);

    let answer = ada.post(CREATE, &ada.body(&booking)).await.expect(200);
    assert_eq!(answer.body["data"]["amount"], PRICE);
    assert_eq!(answer.body["data"]["currency"], "eur");
    assert_eq!(answer.body["data"]["status"], "requires_payment_method");
    let (intent, secret) = (answer.text("/data/paymentIntentId"), answer.text("/data/clientSecret"));
    let (status, _) = app.stripe.pay_in_browser(&secret, GOOD_CARD).await.unwrap();
    assert_eq!(status, 200);
    app.becomes(&intent, "SUCCEEDED").await;
    app.quiet().await;

    let events = app.published(None).await;
    assert_eq!(app.story().await, ["initiated", "completed"]);
    let completed = events[1].payload();
    assert_eq!(events[1].key, intent);
    assert_eq!(completed["paymentId"], intent.as_str());
    assert_eq!(completed["bookingId"], booking.reference.as_str());
    assert_eq!(completed["amount"], 450.5);
    assert_eq!(completed["currency"], "EUR");
    assert!(completed["transactionId"].as_str().unwrap().starts_with("ch_"));
    let seen = ada.get(&format!("/api/v1/payment/status/{intent}")).await.expect(200);
    assert_eq!(seen.body["data"]["status"], "succeeded");
    assert_eq!(seen.body["data"]["transactionStatus"], "SUCCEEDED");
    assert_eq!(app.balances().await["psp:stripe:clearing"], PRICE);
}

#[sqlx::test(migrations = false)]
async fn starting_a_payment_again_gives_the_same_one_however_many_do_it_at_once(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.traveller();
    let booking = ada.books(PRICE);

    let first = ada.starts(&booking).await;
    let body = ada.body(&booking);
    let all = futures_util::future::join_all((0..8).map(|_| ada.post(CREATE, &body))).await;
    for answer in all {
        assert_eq!(answer.expect(200).text("/data/clientSecret"), first.secret);
    }
    assert_eq!(app.stripe.payment_intents().len(), 1);
    assert_eq!(app.story().await, ["initiated"]);

    let other = ada.books(PRICE);
    let body = ada.body(&other);
    let all = futures_util::future::join_all((0..8).map(|_| ada.post(CREATE, &body))).await;
    let intents: std::collections::HashSet<_> = all
        .into_iter()
        .map(|answer| answer.expect(200).text("/data/paymentIntentId"))
        .collect();
    assert_eq!((intents.len(), app.stripe.payment_intents().len()), (1, 2));
}

#[sqlx::test(migrations = false)]
async fn an_answer_of_stripe_that_gets_lost_is_found_by_the_next_try_and_charged_once(pool: PgPool) {
    let app = TestApp::start_with(
        pool,
        Setup {
            stripe_timeout: 700,
            ..Setup::default()
        },
    )
    .await;
    let ada = app.traveller();
    let booking = ada.books(PRICE);

    app.stripe
        .fail_calls(Method::POST, "/v1/payment_intents", Fault::TimeoutAfterCommit, 1);
    let refused = ada
        .post(CREATE, &ada.body(&booking))
        .await
        .refused(503, "PAYMENT_UNAVAILABLE");
    assert_eq!(refused.body["error"], "Failed to create payment intent");
    assert!(refused.headers.contains_key("retry-after"));

    let started = ada.starts(&booking).await;
    assert_eq!(app.stripe.payment_intents().len(), 1);
    app.stripe.pay_in_browser(&started.secret, GOOD_CARD).await.unwrap();
    app.becomes(&started.intent, "SUCCEEDED").await;
    assert_eq!(app.stripe.paid_charges_of(&started.intent).len(), 1);
    assert_eq!(app.story().await, ["initiated", "completed"]);
}

#[sqlx::test(migrations = false)]
async fn passing_failures_of_stripe_are_not_noticed(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.traveller();
    for fault in [
        Fault::ServerError,
        Fault::RateLimited,
        Fault::ConnectionReset,
        Fault::ConnectionResetAfterCommit,
    ] {
        let booking = ada.books(PRICE);
        app.stripe.fail_next(fault);
        ada.starts(&booking).await;
    }
    assert_eq!(app.stripe.payment_intents().len(), 4);
}

#[sqlx::test(migrations = false)]
async fn while_stripe_is_away_the_answer_is_503_and_soon_without_asking(pool: PgPool) {
    let app = TestApp::start_with(
        pool,
        Setup {
            stripe_timeout: 300,
            ..Setup::default()
        },
    )
    .await;
    let ada = app.traveller();
    let booking = ada.books(PRICE);
    app.stripe.fail_always(Fault::Timeout);
    for _ in 0..5 {
        ada.post(CREATE, &ada.body(&booking))
            .await
            .refused(503, "PAYMENT_UNAVAILABLE");
    }
    let asked = app.stripe.requests().len();
    ada.post(CREATE, &ada.body(&booking))
        .await
        .refused(503, "PAYMENT_UNAVAILABLE");
    assert_eq!(app.stripe.requests().len(), asked, "nobody waits for Stripe");
}

#[sqlx::test(migrations = false)]
async fn an_idempotency_key_is_one_answer_and_the_secret_in_it_is_stored_nowhere(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.traveller();
    let booking = ada.books(PRICE);
    let body = ada.body(&booking);

    let first = ada.post_once(CREATE, "k1", &body).await.expect(200);
    let second = ada.post_once(CREATE, "k1", &body).await.expect(200);
    assert_eq!(second.headers["idempotent-replayed"], "true");
    assert_eq!(first.body, second.body);
    let other = ada.body(&ada.books(PRICE));
    ada.post_once(CREATE, "k1", &other)
        .await
        .refused(422, "IDEMPOTENCY_CONFLICT");

    app.stripe
        .pay_in_browser(&first.text("/data/clientSecret"), GOOD_CARD)
        .await
        .unwrap();
    app.becomes(&first.text("/data/paymentIntentId"), "SUCCEEDED").await;
    let everything = app
        .one(
            "select string_agg(t, ' ') from (
                 select convert_from(body, 'UTF8') as t from payment.idempotency_keys where body is not null
                 union all select payload::text from payment.webhook_inbox
                 union all select envelope::text from payment.outbox
                 union all select row(p.*)::text from payment.payment_transactions p) as all_texts",
        )
        .await;
    assert!(
        everything.contains("pi_") && !everything.contains("_secret_"),
        "a client secret was stored"
    );
}

#[sqlx::test(migrations = false)]
async fn only_the_owner_starts_the_payment_of_a_booking_and_only_for_its_price(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (ada, eve) = (app.traveller(), app.traveller());
    let booking = ada.books(PRICE);
    let mut body = ada.body(&booking);

    app.call(Method::POST, CREATE, None, Some(&body))
        .await
        .refused(401, "TOKEN_MISSING");
    eve.post(CREATE, &body).await.refused(403, "FORBIDDEN");
    body["userId"] = json!(eve.user);
    eve.post(CREATE, &body).await.refused(422, "BOOKING_NOT_PAYABLE");
    body["userId"] = json!(ada.user);
    body["amount"] = json!(100);
    ada.post(CREATE, &body).await.refused(409, "AMOUNT_MISMATCH");
    body["amount"] = json!(PRICE);
    body["currency"] = json!("usd");
    ada.post(CREATE, &body).await.refused(409, "AMOUNT_MISMATCH");
    body["bookingReference"] = json!("BOOK-20260101-NOONE");
    ada.post(CREATE, &body).await.refused(422, "BOOKING_NOT_PAYABLE");
    assert!(app.stripe.payment_intents().is_empty());

    // another service of the platform names the traveller
    let service = app.issuer.service("experience-pod");
    let body = ada.body(&booking);
    app.call(Method::POST, CREATE, Some(&service), Some(&body))
        .await
        .expect(200);
}

#[sqlx::test(migrations = false)]
async fn bad_bodies_are_400_whoever_sends_them(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.traveller();
    for path in [
        CREATE,
        "/api/v1/payment/intent",
        "/api/v1/payment/confirm",
        "/api/payment/confirm",
        "/api/v1/payments/confirm",
    ] {
        for text in ["{", "\"x\"", "{\"amount\":}", "\u{0}"] {
            let request = app
                .request(Method::POST, path)
                .header("content-type", "application/json")
                .body(text);
            app.send(request).await.refused(400, "INVALID_JSON");
        }
        ada.post(path, &json!({})).await.expect(400);
        ada.post(path, &json!([])).await.expect(400);
        app.call(Method::GET, path, None, None).await.expect(404);
    }
    let huge = json!({ "metadata": { "a": "x".repeat(200 * 1024) } });
    ada.post(CREATE, &huge).await.refused(413, "PAYLOAD_TOO_LARGE");
    let missing = ada.post(CREATE, &json!({ "amount": 0 })).await.expect(400);
    assert_eq!(missing.body["error"], "Missing required fields");
    assert_eq!(missing.body["required"].as_array().unwrap().len(), 5);
    let booking = ada.books(30);
    let cheap = ada.post(CREATE, &ada.body(&booking)).await.expect(400);
    assert_eq!(cheap.body["error"], "Invalid amount");
}

#[sqlx::test(migrations = false)]
async fn a_payment_is_seen_by_its_owner_and_by_administrators_only(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (ada, eve) = (app.traveller(), app.traveller());
    let started = ada.starts(&ada.books(PRICE)).await;
    for path in [
        format!("/api/v1/payment/status/{}", started.intent),
        format!("/api/v1/payment/{}", started.intent),
    ] {
        let seen = ada.get(&path).await.expect(200);
        assert_eq!(seen.body["data"]["id"], started.intent.as_str());
        assert_eq!(seen.body["data"]["status"], "requires_payment_method");
        assert_eq!(seen.body["data"]["confirmedAt"], json!(null));
        eve.get(&path).await.refused(404, "NOT_FOUND");
        app.call(Method::GET, &path, None, None)
            .await
            .refused(401, "TOKEN_MISSING");
        let admin = app.issuer.sign_in_as(eve.user, Role::Admin).token;
        app.call(Method::GET, &path, Some(&admin), None).await.expect(200);
    }
    for path in [
        "status/pi_unknown",
        "status/%00",
        "status/ch_1",
        "process",
        "history",
        "pi_unknown",
    ] {
        ada.get(&format!("/api/v1/payment/{path}"))
            .await
            .refused(404, "NOT_FOUND");
    }
    eve.post("/api/v1/payment/confirm", &json!({ "paymentIntentId": started.intent }))
        .await
        .refused(404, "NOT_FOUND");
}

#[sqlx::test(migrations = false)]
async fn confirming_looks_at_stripe_and_tells_what_it_says(pool: PgPool) {
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
    let confirm = "/api/v1/payment/confirm";
    let only = json!({ "paymentIntentId": started.intent });
    let with = |method: &str| json!({ "paymentIntentId": started.intent, "paymentMethodId": method });

    let answer = ada.post(confirm, &only).await.expect(200);
    assert_eq!(answer.body["data"]["status"], "requires_payment_method");
    let declined = ada
        .post(confirm, &with("pm_card_chargeDeclined"))
        .await
        .refused(402, "CARD_DECLINED");
    assert_eq!(
        (&declined.body["error"], declined.body["declineCode"].is_string()),
        (&json!("Payment failed"), true)
    );
    assert_eq!(app.story().await, ["initiated", "failed"]);
    let elsewhere = json!({ "paymentIntentId": started.intent, "paymentMethodId": "pm_card_visa", "returnUrl": "https://evil.example/x" });
    ada.post(confirm, &elsewhere).await.expect(400);

    let mut good = with("pm_card_visa");
    good["returnUrl"] = json!("http://localhost:5173/payment/confirmation");
    let paid = ada.post(confirm, &good).await.expect(200);
    assert_eq!(paid.body["data"]["status"], "succeeded");
    ada.post(confirm, &with("pm_card_visa"))
        .await
        .refused(409, "INVALID_STATE");
    assert_eq!(
        ada.post(confirm, &only).await.expect(200).body["data"]["status"],
        "succeeded"
    );
    assert_eq!(app.story().await, ["initiated", "failed", "completed"]);
}

#[sqlx::test(migrations = false)]
async fn a_declined_card_fails_the_attempt_and_another_card_succeeds_on_the_same_payment(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.traveller();
    let started = ada.starts(&ada.books(PRICE)).await;

    app.stripe.pay_in_browser(&started.secret, BAD_CARD).await.unwrap();
    app.becomes(&started.intent, "FAILED").await;
    app.stripe.pay_in_browser(&started.secret, BAD_CARD).await.unwrap();
    app.quiet().await;
    app.stripe.pay_in_browser(&started.secret, GOOD_CARD).await.unwrap();
    app.becomes(&started.intent, "SUCCEEDED").await;

    assert_eq!(app.story().await, ["initiated", "failed", "failed", "completed"]);
    let failed = app.published(Some(Topic::PaymentFailed)).await;
    let attempts: Vec<_> = failed
        .iter()
        .map(|event| event.payload()["attempt"].as_i64().unwrap())
        .collect();
    assert_eq!(attempts, [1, 2]);
    for event in &failed {
        assert_eq!(event.payload()["errorCode"], "card_declined");
        assert_eq!(event.payload()["terminal"], false);
        assert_eq!(event.payload()["reason"], event.payload()["errorMessage"]);
    }
    assert_eq!(
        app.one("select count(*)::text from payment.payment_attempts").await,
        "3"
    );
}

#[sqlx::test(migrations = false)]
async fn another_price_takes_the_place_of_the_open_payment_without_a_word(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.traveller();
    let mut booking = ada.books(PRICE);
    let first = app.payments.create_intent(create(&booking)).await.unwrap();
    booking.amount.minor += 100;
    let second = app.payments.create_intent(create(&booking)).await.unwrap();
    assert_ne!(first.payment_intent_id, second.payment_intent_id);
    app.becomes(&first.payment_intent_id, "CANCELED").await;
    app.quiet().await;
    assert_eq!(app.story().await, ["initiated", "initiated"]);
    assert_eq!(
        app.stripe.object(&first.payment_intent_id).unwrap()["cancellation_reason"],
        "duplicate"
    );
}

#[sqlx::test(migrations = false)]
async fn a_cancelled_payment_is_told_once_and_a_paid_one_is_not_cancelled(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.traveller();
    let booking = ada.books(PRICE);
    let started = ada.starts(&booking).await;
    for _ in 0..2 {
        let cancelled = app
            .payments
            .cancel(&started.intent, CancelReason::Abandoned)
            .await
            .unwrap();
        assert_eq!(cancelled, Cancelled::Cancelled);
    }
    app.quiet().await;
    let failed = app.published(Some(Topic::PaymentFailed)).await;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].payload()["errorCode"], "payment_canceled");
    assert_eq!(failed[0].payload()["terminal"], true);

    let again = ada.starts(&booking).await;
    assert_ne!(again.intent, started.intent);
    app.stripe.pay_in_browser(&again.secret, GOOD_CARD).await.unwrap();
    let cancelled = app
        .payments
        .cancel_of_booking(booking.id, CancelReason::Abandoned)
        .await
        .unwrap();
    assert_eq!(cancelled, Some(Cancelled::Succeeded));
    let started = app.payments.create_intent(create(&booking)).await;
    assert!(matches!(started, Err(PaymentError::AlreadyPaid)), "{started:?}");
    assert_eq!(
        app.payments
            .cancel_of_booking(ada.books(1).id, CancelReason::Abandoned)
            .await
            .unwrap(),
        None
    );
}

#[sqlx::test(migrations = false)]
async fn an_intent_whose_answer_was_lost_is_cancelled_with_its_booking(pool: PgPool) {
    let app = TestApp::start_with(
        pool,
        Setup {
            stripe_timeout: 500,
            ..Setup::default()
        },
    )
    .await;
    let ada = app.traveller();
    let booking = ada.books(PRICE);
    app.stripe
        .fail_calls(Method::POST, "/v1/payment_intents", Fault::TimeoutAfterCommit, 1);
    app.payments.create_intent(create(&booking)).await.unwrap_err();
    assert_eq!(app.payments.status_of_booking(booking.id, false).await.unwrap(), None);

    let cancelled = app
        .payments
        .cancel_of_booking(booking.id, CancelReason::Abandoned)
        .await
        .unwrap();
    assert_eq!(cancelled, Some(Cancelled::Cancelled));
    let intents = app.stripe.payment_intents();
    assert_eq!((intents.len(), intents[0]["status"].as_str()), (1, Some("canceled")));
}

#[sqlx::test(migrations = false)]
async fn without_keys_the_service_says_so_and_nothing_else_breaks(pool: PgPool) {
    let app = TestApp::start_with(
        pool,
        Setup {
            configured: false,
            ..Setup::default()
        },
    )
    .await;
    let ada = app.traveller();
    let refused = app
        .call(Method::GET, "/api/v1/payment/config", None, None)
        .await
        .refused(503, "PAYMENT_UNAVAILABLE");
    assert_eq!(refused.body["message"], "STRIPE_PUBLISHABLE_KEY is not configured");
    let booking = ada.books(PRICE);
    ada.post(CREATE, &ada.body(&booking))
        .await
        .refused(503, "PAYMENT_UNAVAILABLE");
    app.payments.round().await.unwrap();
    let health = app.call(Method::GET, "/health", None, None).await.expect(200);
    assert!(health.body["checks"].get("stripe").is_none());
}

#[sqlx::test(migrations = false)]
async fn the_public_routes_have_the_shapes_of_the_contract(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let config = app
        .call(Method::GET, "/api/v1/payment/config", None, None)
        .await
        .expect(200);
    assert_eq!(
        config.body,
        json!({ "success": true, "data": { "publishableKey": app.stripe.publishable_key() } })
    );
    let card = app.call(Method::GET, "/", None, None).await.expect(200);
    assert_eq!(card.body["service"], "DreamScape Payment Service");
    let health = app.call(Method::GET, "/health", None, None).await.expect(200);
    assert_eq!(
        (&health.body["status"], &health.body["service"]),
        (&json!("ok"), &json!("payment-service"))
    );
    assert_eq!(
        health.body["checks"]["stripe"],
        json!({ "healthy": true, "details": { "livemode": false } })
    );
    assert_eq!(health.body["checks"]["database"]["healthy"], true);
    assert!(!health.body.to_string().contains("available\":"), "no balances");
    for path in ["/health/live", "/health/ready", "/live", "/ready", "/api/health"] {
        app.call(Method::GET, path, None, None).await.expect(200);
    }
}

#[sqlx::test(migrations = false)]
async fn a_caller_who_starts_too_many_payments_is_asked_to_wait(pool: PgPool) {
    let app = TestApp::start_with(
        pool,
        Setup {
            limits: 1.0,
            ..Setup::default()
        },
    )
    .await;
    let (ada, eve) = (app.traveller(), app.traveller());
    for left in (0..20).rev() {
        let answer = ada.post(CREATE, &json!({})).await;
        assert_eq!(answer.status, 400, "{left} left: {}", answer.body);
    }
    let refused = ada.post(CREATE, &json!({})).await.refused(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(
        (&refused.body["error"], &refused.body["retryAfter"]),
        (&json!("Too many requests"), &json!("1 minute"))
    );
    for name in [
        "retry-after",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "ratelimit-policy",
    ] {
        assert!(refused.headers.contains_key(name), "{name}");
    }
    eve.post(CREATE, &json!({})).await.expect(400);
}
