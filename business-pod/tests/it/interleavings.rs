//! Payments under everything that may happen to them, in any order, and under any input (payment §13, property tests).

use business_pod::payment::client::{CancelReason, PaymentClient as _, Refund, RefundReason, Status};
use chrono::TimeDelta;
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};
use shared::events::Topic;
use sqlx::PgPool;

use crate::{
    app::{BAD_CARD, GOOD_CARD, PRICE, Setup, Started, TestApp},
    webhook::{event, paid_but_unheard},
};

/// One thing that happens to a payment.
#[derive(Debug, Clone)]
enum Step {
    Create,
    PayWell,
    PayBadly,
    Deliver(usize),
    Refund(i64),
    Cancel,
    Reconcile,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Create),
        Just(Step::PayWell),
        Just(Step::PayBadly),
        (0..100_usize).prop_map(Step::Deliver),
        (0..100_usize).prop_map(Step::Deliver),
        (1..60_000_i64).prop_map(Step::Refund),
        Just(Step::Cancel),
        Just(Step::Reconcile),
    ]
}

fn runner() -> TestRunner {
    let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(Config::default(), seed)
}

#[sqlx::test(migrations = false)]
async fn whatever_happens_in_whatever_order_the_books_balance_and_agree_with_stripe(pool: PgPool) {
    let app = TestApp::start_with(
        pool,
        Setup {
            webhooks: false,
            ..Setup::default()
        },
    )
    .await;
    let mut runner = runner();
    for _ in 0..12 {
        let steps = prop::collection::vec(step(), 4..16)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let ada = app.traveller();
        let booking = ada.books(PRICE);
        let mut started: Option<Started> = None;
        for step in &steps {
            match (step, &started) {
                (Step::Create, _) => {
                    let answer = ada.post("/api/v1/payment/create-intent", &ada.body(&booking)).await;
                    assert!(matches!(answer.status, 200 | 422), "{steps:?}: {}", answer.body);
                    if answer.status == 200 {
                        started = Some(Started {
                            intent: answer.text("/data/paymentIntentId"),
                            secret: answer.text("/data/clientSecret"),
                        });
                    }
                }
                (Step::Deliver(which), _) => {
                    let events = app.stripe.events();
                    if let Some(event) = events.get(which % events.len().max(1)) {
                        app.deliver(event).await.expect(200);
                    }
                }
                (Step::Reconcile, _) => {
                    app.later(TimeDelta::minutes(4));
                    app.payments.round().await.unwrap();
                }
                (_, None) => {}
                (Step::PayWell, Some(payment)) => {
                    drop(app.stripe.pay_in_browser(&payment.secret, GOOD_CARD).await.unwrap())
                }
                (Step::PayBadly, Some(payment)) => {
                    drop(app.stripe.pay_in_browser(&payment.secret, BAD_CARD).await.unwrap())
                }
                (Step::Cancel, Some(payment)) => {
                    app.payments
                        .cancel(&payment.intent, CancelReason::Abandoned)
                        .await
                        .unwrap();
                }
                (Step::Refund(amount), Some(payment)) => {
                    let refund = Refund {
                        payment_intent_id: payment.intent.clone(),
                        amount: Some(*amount),
                        reason: RefundReason::RequestedByCustomer,
                        note: None,
                        idempotency_key: format!("{}:{amount}", payment.intent),
                    };
                    // refused or done: the books say whether that was right
                    drop(app.payments.refund(refund).await);
                }
            }
        }
        for event in app.stripe.events() {
            app.deliver(&event).await.expect(200);
        }
        app.later(TimeDelta::minutes(4));
        app.payments.round().await.unwrap();
        agrees_with_stripe(&app, &steps).await;
    }
    let balances = app.balances().await;
    assert_eq!(balances.values().sum::<i64>(), 0, "every posting balances");
}

async fn agrees_with_stripe(app: &TestApp, steps: &[Step]) {
    let mut clearing = 0;
    for theirs in app.stripe.payment_intents() {
        let intent = theirs["id"].as_str().unwrap();
        let ours = app.payments.status(intent, false).await.unwrap().unwrap();
        let charges = app.stripe.paid_charges_of(intent).len();
        assert!(charges <= 1, "{steps:?}: {charges} charges");
        let returned: i64 = app
            .stripe
            .refunds_of(intent)
            .iter()
            .map(|refund| refund["amount"].as_i64().unwrap())
            .sum();
        let received = theirs["amount_received"].as_i64().unwrap();
        clearing += received - returned;
        assert_eq!(ours.refunded, returned, "{steps:?}");
        let expected: &[Status] = match theirs["status"].as_str().unwrap() {
            "succeeded" if returned == received => &[Status::Refunded],
            "succeeded" => &[Status::Succeeded],
            "canceled" => &[Status::Canceled],
            _ => &[Status::Pending, Status::Failed],
        };
        assert!(
            expected.contains(&ours.status),
            "{steps:?}: {} at Stripe, {} here",
            theirs["status"],
            ours.status
        );
        let completed = app.published(Some(Topic::PaymentCompleted)).await;
        let told = completed.iter().filter(|event| event.key == intent).count();
        assert_eq!(told, charges, "{steps:?}");
    }
    assert_eq!(
        app.balances()
            .await
            .get("psp:stripe:clearing")
            .copied()
            .unwrap_or_default(),
        clearing,
        "{steps:?}"
    );
}

#[sqlx::test(migrations = false)]
async fn no_body_however_strange_is_answered_with_a_5xx(pool: PgPool) {
    let (app, _) = paid_but_unheard(pool).await;
    let ada = app.traveller();
    let good = event(&app, "payment_intent.succeeded");
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("a\u{0}b")),
        Just(json!({})),
        Just(json!([])),
    ];
    let places = prop::sample::select(vec![
        "/id",
        "/type",
        "/created",
        "/livemode",
        "/data",
        "/data/object",
        "/data/object/id",
        "/data/object/status",
        "/data/object/amount_received",
        "/data/object/currency",
        "/data/object/metadata",
        "/data/object/metadata/transactionId",
        "/data/object/latest_charge",
        "/data/object/last_payment_error",
    ]);
    let kinds = prop::sample::select(vec![
        "payment_intent.succeeded",
        "payment_intent.payment_failed",
        "payment_intent.canceled",
        "charge.refunded",
        "refund.updated",
        "anything",
    ]);
    let mutation = (kinds, prop::collection::vec((places, leaf.clone()), 1..4), "[a-z]{8}");
    let create = prop::collection::btree_map(
        prop::sample::select(vec![
            "amount",
            "currency",
            "bookingId",
            "bookingReference",
            "userId",
            "metadata",
        ]),
        prop_oneof![leaf, Just(json!(PRICE)), Just(json!("eur")), Just(json!("BOOK"))],
        0..7,
    );
    let mut runner = runner();
    for _ in 0..150 {
        let (kind, changes, id) = mutation.new_tree(&mut runner).unwrap().current();
        let mut strange = good.clone();
        strange["type"] = json!(kind);
        strange["id"] = json!(format!("evt_{id}"));
        for (place, value) in changes {
            if let Some(slot) = strange.pointer_mut(place) {
                *slot = value;
            }
        }
        let answer = app.deliver(&strange).await;
        assert!(answer.status < 500, "{strange}: {}", answer.body);

        let body = serde_json::to_value(create.new_tree(&mut runner).unwrap().current()).unwrap();
        let answer = ada.post("/api/v1/payment/create-intent", &body).await;
        assert!(answer.status < 500, "{body}: {}", answer.body);
        let bytes = prop::collection::vec(any::<u8>(), 0..200)
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let answer = app.deliver_bytes(bytes).await;
        assert_eq!(answer.status, 400, "{}", answer.body);
    }
}
