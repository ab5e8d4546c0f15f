//! Webhooks: proofs, duplicates, order, mistakes and attacks (payment §6, §7).

use std::time::Duration;

use business_pod::payment::client::{PaymentClient as _, Refund, RefundReason, Status};
use chrono::TimeDelta;
use http::Method;
use serde_json::{Value, json};
use shared::events::Topic;
use sqlx::PgPool;

use crate::app::{BAD_CARD, GOOD_CARD, PRICE, Setup, Started, TestApp};

const WEBHOOK: &str = "/api/v1/payment/webhook";

/// The newest event of a type about an intent, as Stripe would send it.
pub fn event(app: &TestApp, kind: &str) -> Value {
    app.stripe
        .events()
        .into_iter()
        .rev()
        .find(|event| event["type"] == kind)
        .unwrap()
}

/// An app that hears nothing from Stripe but what the test delivers, and a paid payment in it.
pub async fn paid_but_unheard(pool: PgPool) -> (TestApp, Started) {
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
    app.stripe.pay_in_browser(&started.secret, GOOD_CARD).await.unwrap();
    (app, started)
}

#[sqlx::test(migrations = false)]
async fn an_event_has_its_effect_once_however_often_and_at_once_it_comes(pool: PgPool) {
    let (app, started) = paid_but_unheard(pool).await;
    let succeeded = event(&app, "payment_intent.succeeded");
    let all = futures_util::future::join_all((0..10).map(|_| app.deliver(&succeeded))).await;
    for answer in all {
        assert_eq!(answer.expect(200).body, json!({ "received": true }));
    }
    // the same fact under another id
    let mut copy = succeeded.clone();
    copy["id"] = json!("evt_copy");
    app.deliver(&copy).await.expect(200);
    app.becomes(&started.intent, "SUCCEEDED").await;
    assert_eq!(app.story().await, ["initiated", "completed"]);
    assert_eq!(app.balances().await["psp:stripe:clearing"], PRICE);
}

#[sqlx::test(migrations = false)]
async fn events_that_stripe_repeats_reorders_and_missigns_end_in_one_payment(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.traveller();
    let started = ada.starts(&ada.books(PRICE)).await;
    app.quiet().await;
    let webhooks = app.stripe.webhooks();
    webhooks.only("payment_intent.payment_failed").wrong_secret_next();
    webhooks.only("payment_intent.payment_failed").duplicate_next();
    webhooks.only("payment_intent.succeeded").stale_next();
    for card in [BAD_CARD, BAD_CARD, GOOD_CARD] {
        app.stripe.pay_in_browser(&started.secret, card).await.unwrap();
    }
    app.becomes(&started.intent, "SUCCEEDED").await;
    app.quiet().await;
    let other = ada.starts(&ada.books(PRICE)).await;
    app.quiet().await;
    webhooks.reorder_next(4);
    for card in [BAD_CARD, GOOD_CARD] {
        app.stripe.pay_in_browser(&other.secret, card).await.unwrap();
    }
    app.becomes(&other.intent, "SUCCEEDED").await;
    app.quiet().await;
    for intent in [&started.intent, &other.intent] {
        app.becomes(intent, "SUCCEEDED").await;
        assert_eq!(app.stripe.paid_charges_of(intent).len(), 1);
    }
    assert_eq!(app.published(Some(Topic::PaymentCompleted)).await.len(), 2);
    assert_eq!(app.balances().await["psp:stripe:clearing"], 2 * PRICE);
    assert!(
        webhooks.attempts().iter().any(|attempt| attempt.status == Some(400)),
        "a bad signature was refused"
    );
}

#[sqlx::test(migrations = false)]
async fn a_failure_that_arrives_after_the_success_changes_nothing(pool: PgPool) {
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
    app.stripe.pay_in_browser(&started.secret, BAD_CARD).await.unwrap();
    app.stripe.pay_in_browser(&started.secret, GOOD_CARD).await.unwrap();
    app.deliver(&event(&app, "payment_intent.succeeded")).await.expect(200);
    app.deliver(&event(&app, "payment_intent.payment_failed"))
        .await
        .expect(200);
    app.becomes(&started.intent, "SUCCEEDED").await;
    assert_eq!(app.story().await, ["initiated", "completed"]);
}

#[sqlx::test(migrations = false)]
async fn unproven_requests_are_refused_in_the_order_of_the_contract(pool: PgPool) {
    let (app, started) = paid_but_unheard(pool).await;
    let body = event(&app, "payment_intent.succeeded").to_string();
    let now = shared::sources::Clock::now(&*app.clock).timestamp();
    let send = |signature: Option<String>, content_type: &'static str, body: String| {
        let mut request = app
            .request(Method::POST, WEBHOOK)
            .header("content-type", content_type)
            .body(body);
        if let Some(signature) = signature {
            request = request.header("stripe-signature", signature);
        }
        app.send(request)
    };
    let secret = app.stripe.webhook_secret();
    let sign = |secret: &str, time: i64| Some(devkit::stripe::sign(secret, time, body.as_bytes()));

    let answer = send(None, "text/plain", body.clone()).await.expect(400);
    assert_eq!(answer.body["error"], "Missing stripe-signature header");
    let answer = send(sign("whsec_wrong", now), "text/plain", body.clone())
        .await
        .expect(400);
    assert_eq!(
        (&answer.body["error"], &answer.body["message"]),
        (
            &json!("Invalid request body"),
            &json!("Webhook endpoint expects raw body")
        )
    );
    let unprefixed = secret.trim_start_matches("whsec_");
    let forgeries = [
        sign("whsec_wrong", now),
        sign(unprefixed, now),
        sign(secret, now - 301),
        sign(secret, now + 301),
        Some("garbage".to_owned()),
        Some(String::new()),
    ];
    for signature in forgeries {
        let answer = send(signature.clone(), "application/json", body.clone())
            .await
            .expect(400);
        assert_eq!(answer.body["error"], "Webhook processing failed", "{signature:?}");
        assert_eq!(answer.body["details"], "signature verification failed");
    }
    let answer = send(
        sign(secret, now),
        "application/json",
        body.replace("succeeded", "succeedet"),
    )
    .await;
    assert_eq!(answer.status, 400, "another body under the same signature");
    send(sign(secret, now), "application/json", "x".repeat(1024 * 1024 + 1))
        .await
        .refused(413, "PAYLOAD_TOO_LARGE");
    app.becomes(&started.intent, "PENDING").await;
    assert_eq!(app.one("select count(*)::text from payment.webhook_inbox").await, "0");

    send(sign(secret, now), "application/json; charset=utf-8", body.clone())
        .await
        .expect(200);
    app.becomes(&started.intent, "SUCCEEDED").await;
}

#[sqlx::test(migrations = false)]
async fn an_event_of_almost_a_megabyte_is_taken(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let padding = "x".repeat(1000 * 1024);
    let large = json!({ "id": "evt_large", "type": "customer.created", "created": 1, "data": { "object": { "pad": padding } } });
    app.deliver(&large).await.expect(200);
    assert_eq!(
        app.one("select status::text from payment.webhook_inbox").await,
        "IGNORED"
    );
}

#[sqlx::test(migrations = false)]
async fn without_a_secret_webhooks_are_refused_as_unavailable(pool: PgPool) {
    let app = TestApp::start_with(
        pool,
        Setup {
            configured: false,
            ..Setup::default()
        },
    )
    .await;
    app.deliver(&json!({ "id": "evt_1" }))
        .await
        .refused(503, "PAYMENT_UNAVAILABLE");
}

#[sqlx::test(migrations = false)]
async fn money_that_does_not_match_the_booking_is_flagged_and_confirms_nothing(pool: PgPool) {
    let (app, started) = paid_but_unheard(pool).await;
    let mut wrong = event(&app, "payment_intent.succeeded");
    wrong["data"]["object"]["amount_received"] = json!(PRICE - 1);
    app.deliver(&wrong).await.expect(200);
    app.becomes(&started.intent, "SUCCEEDED").await;
    assert_eq!(app.story().await, ["initiated"]);
    let view = app.payments.status(&started.intent, false).await.unwrap().unwrap();
    assert_eq!(
        (view.status, view.review.as_deref()),
        (Status::Succeeded, Some("amount_mismatch"))
    );
    assert!(!view.pays(view.booking, view.user, view.amount));
}

#[sqlx::test(migrations = false)]
async fn money_for_a_payment_that_was_given_up_goes_back(pool: PgPool) {
    let (app, started) = paid_but_unheard(pool).await;
    // what Stripe would say had it cancelled: a lie here, so that the success is late
    let mut canceled = event(&app, "payment_intent.succeeded");
    canceled["id"] = json!("evt_canceled");
    canceled["type"] = json!("payment_intent.canceled");
    canceled["data"]["object"]["status"] = json!("canceled");
    app.deliver(&canceled).await.expect(200);
    app.becomes(&started.intent, "CANCELED").await;

    app.deliver(&event(&app, "payment_intent.succeeded")).await.expect(200);
    app.payments.round().await.unwrap();
    app.becomes(&started.intent, "REFUNDED").await;
    assert_eq!(app.stripe.refunds_of(&started.intent).len(), 1);
    assert_eq!(app.story().await, ["initiated", "failed", "refunded"]);
    assert!(app.balances().await.values().all(|balance| *balance == 0));
    // voyage would ask for the same refund under the same key
    let late = Refund {
        payment_intent_id: started.intent.clone(),
        amount: None,
        reason: RefundReason::Duplicate,
        note: None,
        idempotency_key: format!("late:{}", started.intent),
    };
    app.payments.refund(late).await.unwrap();
    assert_eq!(app.stripe.refunds_of(&started.intent).len(), 1);
}

#[sqlx::test(migrations = false)]
async fn an_event_that_cannot_be_applied_is_parked_and_tried_again(pool: PgPool) {
    let (app, started) = paid_but_unheard(pool).await;
    let succeeded = event(&app, "payment_intent.succeeded");
    let mut live = succeeded.clone();
    (live["id"], live["livemode"]) = (json!("evt_live"), json!(true));
    app.deliver(&live).await.expect(200);
    let mut foreign = succeeded.clone();
    foreign["id"] = json!("evt_foreign");
    foreign["data"]["object"]["id"] = json!("pi_foreign");
    foreign["data"]["object"]["metadata"] = json!({});
    app.deliver(&foreign).await.expect(200);
    assert_eq!(
        app.one("select count(*)::text from payment.webhook_inbox where status = 'PARKED'")
            .await,
        "2"
    );
    app.becomes(&started.intent, "PENDING").await;

    // the row that the foreign event was about turns up
    sqlx::query("update payment.webhook_inbox set payload = jsonb_set(payload, '{data,object}', $1) where event_id = 'evt_foreign'")
        .bind(&succeeded["data"]["object"])
        .execute(&app.pool)
        .await
        .unwrap();
    app.later(TimeDelta::minutes(2));
    assert_eq!(app.payments.round().await.unwrap().unparked, 1);
    app.becomes(&started.intent, "SUCCEEDED").await;
    assert_eq!(
        app.one("select event_id from payment.webhook_inbox where status = 'PARKED'")
            .await,
        "evt_live"
    );
}

#[sqlx::test(migrations = false)]
async fn refunds_made_at_stripe_are_taken_over(pool: PgPool) {
    let (app, started) = paid_but_unheard(pool).await;
    let refund = async |amount: &str| {
        let form = [("payment_intent", started.intent.as_str()), ("amount", amount)];
        let request = reqwest::Client::new()
            .post(format!("{}/v1/refunds", app.stripe.base_url()))
            .bearer_auth(app.stripe.secret_key())
            .form(&form);
        assert_eq!(request.send().await.unwrap().status(), 200);
    };
    refund("50").await;
    // the news of the refund overtakes the news of the payment
    app.deliver(&event(&app, "charge.refunded")).await.expect(200);
    assert_eq!(app.story().await, ["initiated", "completed", "partial.refund"]);
    app.deliver(&event(&app, "payment_intent.succeeded")).await.expect(200);
    refund("45000").await;
    app.deliver(&event(&app, "charge.refunded")).await.expect(200);
    app.becomes(&started.intent, "REFUNDED").await;
    assert_eq!(
        app.story().await,
        ["initiated", "completed", "partial.refund", "refunded"]
    );
    assert!(app.balances().await.values().all(|balance| *balance == 0));
}

#[sqlx::test(migrations = false)]
async fn a_payment_whose_row_does_not_know_its_intent_is_found_by_the_webhook(pool: PgPool) {
    let (app, started) = paid_but_unheard(pool).await;
    // as after a crash between Stripe's answer and our commit; the guard forbids it to everybody else
    sqlx::raw_sql(
        "alter table payment.payment_transactions disable trigger payment_transactions_guard;
         update payment.payment_transactions set payment_intent_id = null;
         delete from payment.outbox;
         alter table payment.payment_transactions enable trigger payment_transactions_guard;",
    )
    .execute(&app.pool)
    .await
    .unwrap();
    app.deliver(&event(&app, "payment_intent.succeeded")).await.expect(200);
    app.becomes(&started.intent, "SUCCEEDED").await;
    assert_eq!(app.story().await, ["initiated", "completed"]);
}

#[sqlx::test(migrations = false)]
async fn the_database_refuses_what_the_model_would_never_do(pool: PgPool) {
    let (app, _) = paid_but_unheard(pool).await;
    app.deliver(&event(&app, "payment_intent.succeeded")).await.expect(200);
    let forbidden = [
        (
            "update payment.payment_transactions set status = 'PENDING'",
            "payment_transactions_status_guard",
        ),
        (
            "update payment.payment_transactions set status = 'REFUNDED'",
            "payment_transactions_status_guard",
        ),
        (
            "update payment.payment_transactions set amount_minor = 1",
            "payment_transactions_identity_guard",
        ),
        (
            "update payment.payment_transactions set reserved_minor = 45051",
            "payment_transactions_refund_check",
        ),
        (
            "update payment.ledger_entries set minor = 1",
            "ledger_entries_append_only",
        ),
        ("delete from payment.ledger_entries", "ledger_entries_append_only"),
        ("truncate payment.ledger_entries", "ledger_entries_append_only"),
        (
            "insert into payment.ledger_entries (tx_id, posting, transaction_id, account_id, side, minor, currency, at)
             select gen_random_uuid(), 'charge', transaction_id, account_id, 'debit', 1, 'EUR', now()
             from payment.ledger_entries limit 1",
            "ledger_entries_balance_check",
        ),
    ];
    for (sql, constraint) in forbidden {
        let error = sqlx::raw_sql(sql).execute(&app.pool).await.unwrap_err();
        assert_eq!(
            shared::db::violated_constraint(&error),
            Some(constraint),
            "{sql}: {error}"
        );
    }
}

#[sqlx::test(migrations = false)]
async fn while_the_database_is_away_stripe_is_told_to_come_again(pool: PgPool) {
    let (app, started) = paid_but_unheard(pool).await;
    let succeeded = event(&app, "payment_intent.succeeded");
    // another session holds the payment for longer than the handler waits
    let mut tx = shared::db::Db::<business_pod::payment::Payment>::new(app.pool.clone())
        .begin()
        .await
        .unwrap();
    sqlx::query("select 1 from payment.payment_transactions for update")
        .execute(&mut *tx)
        .await
        .unwrap();
    let answer = app.deliver(&succeeded).await.expect(500);
    assert_eq!(answer.body["error"], "Webhook processing failed");
    tx.rollback().await.unwrap();
    app.deliver(&succeeded).await.expect(200);
    app.becomes(&started.intent, "SUCCEEDED").await;
    assert_eq!(app.story().await, ["initiated", "completed"]);
}

#[sqlx::test(migrations = false)]
async fn secrets_never_reach_the_log_and_what_happens_is_counted(pool: PgPool) {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    let guard = devkit::log::scoped(subscriber);
    let metrics = shared::telemetry::Metrics::current();
    let app = TestApp::start(pool).await;
    let ada = app.traveller();
    let started = ada.starts(&ada.books(PRICE)).await;
    app.stripe.pay_in_browser(&started.secret, BAD_CARD).await.unwrap();
    app.stripe.pay_in_browser(&started.secret, GOOD_CARD).await.unwrap();
    app.becomes(&started.intent, "SUCCEEDED").await;
    app.deliver(&json!({ "id": "x" })).await;
    tokio::time::timeout(Duration::from_secs(20), app.quiet())
        .await
        .unwrap();
    drop(guard);

    let text = log.text();
    assert!(text.contains(&started.intent), "the log speaks of the payment");
    let secrets = [
        app.stripe.secret_key(),
        app.stripe.webhook_secret(),
        started.secret.as_str(),
        "v1=",
    ];
    // the double itself may speak of what it does; only our own lines count
    for line in text
        .lines()
        .filter(|line| line.contains("business_pod") || line.contains("shared"))
    {
        for secret in secrets {
            assert!(!line.contains(secret), "{line}");
        }
    }
    let rendered = metrics.render();
    for name in [
        "payment_webhook_total",
        "payment_intents_total",
        "external_api_requests_total",
        "dreamscape_payments_total",
    ] {
        assert!(rendered.contains(name), "no {name}");
    }
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
