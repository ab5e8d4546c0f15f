//! What happens to payments afterwards: refunds, reconciliation, events from other services (payment §4.3, §11).

use business_pod::payment::client::{PaymentClient as _, PaymentError, Refund, RefundReason, RefundStatus, Status};
use chrono::TimeDelta;
use devkit::stripe::Fault;
use http::Method;
use serde_json::json;
use shared::events::Topic;
use sqlx::PgPool;

use crate::app::{GOOD_CARD, PRICE, Setup, TestApp, create};

fn refund(intent: &str, amount: Option<i64>, key: &str) -> Refund {
    Refund {
        payment_intent_id: intent.to_owned(),
        amount,
        reason: RefundReason::RequestedByCustomer,
        note: Some("changed my mind".to_owned()),
        idempotency_key: key.to_owned(),
    }
}

#[sqlx::test(migrations = false)]
async fn refunds_add_up_to_what_was_paid_and_no_further(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.traveller();
    let started = ada.starts(&ada.books(PRICE)).await;
    let refused = app.payments.refund(refund(&started.intent, None, "early")).await;
    assert!(matches!(refused, Err(PaymentError::WrongState(_))), "{refused:?}");
    app.stripe.pay_in_browser(&started.secret, GOOD_CARD).await.unwrap();
    app.becomes(&started.intent, "SUCCEEDED").await;

    let part = app
        .payments
        .refund(refund(&started.intent, Some(50), "a"))
        .await
        .unwrap();
    let same = app
        .payments
        .refund(refund(&started.intent, Some(50), "a"))
        .await
        .unwrap();
    assert_eq!((part.refund, part.status), (same.refund, RefundStatus::Succeeded));
    let refused = app.payments.refund(refund(&started.intent, Some(PRICE), "b")).await;
    assert!(matches!(refused, Err(PaymentError::InvalidRefundAmount)), "{refused:?}");
    let rest = app.payments.refund(refund(&started.intent, None, "c")).await.unwrap();
    assert_eq!(rest.amount.minor, PRICE - 50);
    app.quiet().await;

    assert_eq!(
        app.story().await,
        ["initiated", "completed", "partial.refund", "refunded"]
    );
    let events = app.published(None).await;
    assert_eq!(events[2].payload()["remaining"], 450.0);
    assert_eq!(events[3].payload()["totalRefunded"], 450.5);
    assert_eq!(app.stripe.refunds_of(&started.intent).len(), 2);
    assert!(app.balances().await.values().all(|balance| *balance == 0));
    let view = app.payments.status(&started.intent, false).await.unwrap().unwrap();
    assert_eq!((view.status, view.refunded), (Status::Refunded, PRICE));
}

#[sqlx::test(migrations = false)]
async fn a_refund_accepted_while_stripe_is_away_is_carried_out_later_and_once(pool: PgPool) {
    let app = TestApp::start_with(
        pool,
        Setup {
            stripe_timeout: 400,
            ..Setup::default()
        },
    )
    .await;
    let ada = app.traveller();
    let started = ada.starts(&ada.books(PRICE)).await;
    app.stripe.pay_in_browser(&started.secret, GOOD_CARD).await.unwrap();
    app.becomes(&started.intent, "SUCCEEDED").await;

    app.stripe
        .fail_calls(Method::POST, "/v1/refunds", Fault::TimeoutAfterCommit, 1);
    let accepted = app.payments.refund(refund(&started.intent, None, "a")).await.unwrap();
    assert_eq!(accepted.amount.minor, PRICE);
    app.later(TimeDelta::minutes(2));
    app.payments.round().await.unwrap();
    app.becomes(&started.intent, "REFUNDED").await;
    assert_eq!(app.stripe.refunds_of(&started.intent).len(), 1);
    assert_eq!(app.published(Some(Topic::PaymentRefunded)).await.len(), 1);
}

#[sqlx::test(migrations = false)]
async fn a_refund_that_bounces_frees_its_amount(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.traveller();
    let started = ada.starts(&ada.books(PRICE)).await;
    app.stripe.pay_in_browser(&started.secret, GOOD_CARD).await.unwrap();
    app.becomes(&started.intent, "SUCCEEDED").await;
    let done = app.payments.refund(refund(&started.intent, None, "a")).await.unwrap();
    app.becomes(&started.intent, "REFUNDED").await;
    app.stripe.end_refund(&done.stripe_refund_id.unwrap(), false).unwrap();
    app.becomes(&started.intent, "SUCCEEDED").await;
    assert_eq!(app.balances().await["psp:stripe:clearing"], PRICE);
    let view = app.payments.status(&started.intent, false).await.unwrap().unwrap();
    assert_eq!((view.refunded, view.review.as_deref()), (0, Some("refund_failed")));
}

#[sqlx::test(migrations = false)]
async fn what_no_webhook_told_is_found_by_the_worker(pool: PgPool) {
    let app = TestApp::start_with(
        pool,
        Setup {
            webhooks: false,
            ..Setup::default()
        },
    )
    .await;
    let ada = app.traveller();
    let (paid, open, lost) = (ada.books(PRICE), ada.books(PRICE), ada.books(PRICE));
    let (paid, open) = (ada.starts(&paid).await, ada.starts(&open).await);
    app.stripe
        .fail_calls(Method::POST, "/v1/payment_intents", Fault::ServerErrorAfterCommit, 3);
    app.payments.create_intent(create(&lost)).await.unwrap_err();
    app.stripe.clear_faults();
    app.stripe.pay_in_browser(&paid.secret, GOOD_CARD).await.unwrap();

    assert_eq!(app.payments.round().await.unwrap().compared, 0, "too young");
    app.later(TimeDelta::minutes(4));
    app.payments.round().await.unwrap();
    app.becomes(&paid.intent, "SUCCEEDED").await;
    app.becomes(&open.intent, "PENDING").await;
    assert_eq!(app.payments.round().await.unwrap().compared, 0, "looked at already");
    assert_eq!(app.published(Some(Topic::PaymentCompleted)).await.len(), 1);
    assert_eq!(
        app.one("select event_id from payment.webhook_inbox").await,
        format!("recon:{}:succeeded", paid.intent)
    );
}

#[sqlx::test(migrations = false)]
async fn events_that_stripe_could_not_deliver_are_fetched(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.traveller();
    let started = ada.starts(&ada.books(PRICE)).await;
    app.quiet().await;
    app.stripe.webhooks().only("payment_intent.succeeded").drop_next();
    app.stripe.pay_in_browser(&started.secret, GOOD_CARD).await.unwrap();
    app.quiet().await;
    app.becomes(&started.intent, "PENDING").await;
    assert!(app.payments.catch_up().await.unwrap() >= 1);
    app.becomes(&started.intent, "SUCCEEDED").await;
    assert_eq!(app.payments.catch_up().await.unwrap(), 0);
    assert_eq!(app.story().await, ["initiated", "completed"]);
}

#[sqlx::test(migrations = false)]
async fn the_payment_of_a_dead_booking_is_cancelled_but_a_declined_one_may_be_tried_again(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.traveller();
    let booking = ada.books(PRICE);
    let started = ada.starts(&booking).await;
    let cancelled = |reason: &str| json!({ "bookingId": booking.reference, "userId": ada.user, "reason": reason, "cancelledAt": "x" });

    app.consume(
        Topic::VoyageBookingCancelled,
        cancelled("payment_failed: card_declined - no"),
    )
    .await;
    app.payments.round().await.unwrap();
    app.becomes(&started.intent, "PENDING").await;
    app.consume(Topic::VoyageBookingCancelled, cancelled("user_cancelled: rain"))
        .await;
    app.payments.round().await.unwrap();
    app.becomes(&started.intent, "CANCELED").await;
    assert_eq!(app.stripe.object(&started.intent).unwrap()["status"], "canceled");
}

#[sqlx::test(migrations = false)]
async fn an_erased_account_leaves_its_payments_without_a_name(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.traveller();
    let (paid, open) = (ada.starts(&ada.books(PRICE)).await, ada.starts(&ada.books(PRICE)).await);
    app.stripe.pay_in_browser(&paid.secret, GOOD_CARD).await.unwrap();
    app.becomes(&paid.intent, "SUCCEEDED").await;
    app.consume(Topic::UserDeleted, json!({ "userId": ada.user, "deletedAt": "x" }))
        .await;
    app.payments.round().await.unwrap();
    app.becomes(&open.intent, "CANCELED").await;
    ada.get(&format!("/api/v1/payment/status/{}", paid.intent))
        .await
        .refused(404, "NOT_FOUND");
    let names = app
        .one("select count(distinct user_id)::text from payment.payment_transactions")
        .await;
    assert_eq!(names, "1");
}
