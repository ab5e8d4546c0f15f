//! Notifications: what events make of them, and what their owner does with them (core §5.8, §7).

use core_pod::user::{User, UserEvents};
use serde_json::{Value, json};
use shared::{
    events::{
        Envelope, Topic,
        consumer::{Failure, Handler as _},
    },
    sources::Sources,
};
use sqlx::PgPool;

use crate::support::{TestApp, Traveller};

const PATH: &str = "/api/v1/users/notifications";

fn envelope(topic: Topic, payload: Value) -> Envelope {
    Envelope {
        event_id: Sources::system().uuid_v4().to_string(),
        event_type: topic.event_type().to_owned(),
        timestamp: "2027-01-15T08:00:00.000Z".to_owned(),
        version: "1.0".to_owned(),
        source: "test".to_owned(),
        correlation_id: Some("req-1".to_owned()),
        causation_id: None,
        metadata: None,
        payload,
    }
}

async fn apply(app: &TestApp, topic: Topic, payload: Value) -> Result<Envelope, Failure> {
    let event = envelope(topic, payload);
    let mut tx = shared::db::Db::<User>::new(app.pool.clone()).begin().await?;
    app.user_events().handle(&mut tx, topic, &event).await?;
    tx.commit().await?;
    Ok(event)
}

fn payment(user: &str) -> Value {
    json!({
        "paymentId": "pi_1", "bookingId": "BOOK-20270115-ABCDE", "userId": user, "amount": 299.5, "currency": "EUR",
        "transactionId": "ch_1", "completedAt": "2027-01-15T08:00:00.000Z", "unknown": [1],
    })
}

async fn list(app: &TestApp, ada: &Traveller, query: &str) -> Value {
    let reply = app.get(&format!("{PATH}{query}")).bearer(&ada.token).send().await;
    assert_eq!((reply.status.as_u16(), &reply.body["success"]), (200, &json!(true)));
    reply.body["data"].clone()
}

impl TestApp {
    fn user_events(&self) -> UserEvents {
        let sources = Sources {
            clock: self.clock.clone(),
            entropy: Sources::system().entropy,
        };
        UserEvents::new(sources)
    }
}

#[sqlx::test(migrations = false)]
async fn a_payment_makes_a_notification_and_its_event(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let cause = apply(&app, Topic::PaymentCompleted, payment(&ada.id)).await.unwrap();

    let data = list(&app, &ada, "/").await;
    let row = &data["notifications"][0];
    assert_eq!(row["type"], "PAYMENT_RECEIVED");
    assert_eq!(row["title"], "Paiement confirmé");
    assert!(row["message"].as_str().unwrap().contains("299,50 EUR"));
    assert_eq!(
        row["metadata"],
        json!({ "paymentId": "pi_1", "bookingId": "BOOK-20270115-ABCDE" })
    );
    assert_eq!(
        (&row["read"], &row["readAt"], &row["userId"]),
        (&json!(false), &Value::Null, &json!(ada.id))
    );
    assert_eq!(
        data["pagination"],
        json!({ "total": 1, "page": 1, "limit": 20, "hasMore": false })
    );

    let (kind, told) = app.events("users").await.pop().unwrap();
    assert_eq!(
        (kind.as_str(), &told["source"]),
        ("notification.inapp.created", &json!("user-service"))
    );
    assert_eq!(
        (&told["causationId"], &told["correlationId"]),
        (&json!(cause.event_id), &json!("req-1"))
    );
    assert_eq!(told["payload"]["notificationId"], row["id"]);
}

#[sqlx::test(migrations = false)]
async fn texts_follow_the_language_that_was_chosen(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    apply(
        &app,
        Topic::UserCreated,
        json!({ "userId": ada.id, "email": "ada@example.com" }),
    )
    .await
    .unwrap();
    apply(
        &app,
        Topic::UserCreated,
        json!({ "userId": ada.id, "email": "ada@example.com" }),
    )
    .await
    .unwrap();
    assert_eq!(app.count("select count(*) from users.settings").await, 1);
    let booking = json!({ "bookingId": "BOOK-1", "userId": ada.id });
    apply(&app, Topic::VoyageBookingConfirmed, booking.clone())
        .await
        .unwrap();
    app.execute("update users.settings set language = 'English'").await;
    app.advance(1);
    apply(&app, Topic::VoyageBookingConfirmed, booking).await.unwrap();
    let titles = list(&app, &ada, "").await;
    assert_eq!(titles["notifications"][0]["title"], "Booking confirmed");
    assert_eq!(titles["notifications"][1]["title"], "Réservation confirmée");
}

#[sqlx::test(migrations = false)]
async fn each_topic_makes_its_own_kind_or_none(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let user = ada.id.as_str();
    let with = |mut payload: Value, key: &str, value: Value| {
        payload[key] = value;
        payload
    };
    let refund = json!({
        "paymentId": "pi_1", "bookingId": "BOOK-1", "userId": user, "refundAmount": 10, "amount": 10, "currency": "JPY",
        "refundId": "re_1",
    });
    let booking = |reason: &str| json!({ "bookingId": "BOOK-1", "userId": user, "reason": reason });
    let logout = |reason: &str| json!({ "userId": user, "sessionId": "s", "reason": reason });
    let declined = with(
        with(payment(user), "errorCode", json!("card_declined")),
        "errorMessage",
        json!("raw provider text"),
    );
    for (topic, payload, kind) in [
        (Topic::PaymentCompleted, payment(user), Some("PAYMENT_RECEIVED")),
        (Topic::PaymentFailed, declined, Some("PAYMENT_FAILED")),
        (
            Topic::PaymentFailed,
            with(payment(user), "errorCode", json!("payment_canceled")),
            None,
        ),
        (Topic::PaymentRefunded, refund.clone(), Some("REFUND_PROCESSED")),
        (Topic::PaymentPartialRefund, refund, Some("REFUND_PROCESSED")),
        (Topic::VoyageBookingConfirmed, booking(""), Some("BOOKING_CONFIRMED")),
        (
            Topic::VoyageBookingCancelled,
            booking("user_cancelled"),
            Some("BOOKING_CANCELLED"),
        ),
        (
            Topic::VoyageBookingCancelled,
            booking("payment_timeout"),
            Some("BOOKING_CANCELLED"),
        ),
        (
            Topic::VoyageBookingCancelled,
            booking("payment_failed: card_declined - no"),
            None,
        ),
        (Topic::VoyageBookingCancelled, booking("superseded"), None),
        (Topic::AuthLogout, logout("forced"), Some("ACCOUNT_SECURITY")),
        (Topic::AuthLogout, logout("user_initiated"), None),
    ] {
        app.execute("delete from users.notifications").await;
        apply(&app, topic, payload).await.unwrap();
        let data = list(&app, &ada, "").await;
        assert_eq!(data["notifications"][0]["type"].as_str(), kind, "{topic:?}");
        assert!(!data.to_string().contains("raw provider text"));
    }
}

#[sqlx::test(migrations = false)]
async fn an_event_of_another_shape_is_refused_for_good_and_one_of_nobody_makes_nothing(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for payload in [
        json!({}),
        json!([]),
        json!({ "userId": "temp", "bookingId": 5 }),
        Value::Null,
    ] {
        for topic in app.user_events().topics() {
            let outcome = apply(&app, *topic, payload.clone()).await;
            assert!(matches!(outcome, Err(Failure::Permanent(_))), "{topic:?} {payload}");
        }
    }
    let nobody = Sources::system().uuid_v4().to_string();
    apply(&app, Topic::PaymentCompleted, payment(&nobody)).await.unwrap();
    let mut odd = payment(&nobody);
    odd["amount"] = json!(1e300);
    assert!(matches!(
        apply(&app, Topic::PaymentCompleted, odd).await,
        Err(Failure::Permanent(_))
    ));
    assert_eq!(app.count("select count(*) from users.notifications").await, 0);
}

#[sqlx::test(migrations = false)]
async fn pages_filters_and_counts_agree(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (ada, eve) = (
        app.register("ada@example.com").await,
        app.register("eve@example.com").await,
    );
    for _ in 0..7 {
        app.advance(1);
        apply(&app, Topic::PaymentCompleted, payment(&ada.id)).await.unwrap();
    }
    let first = list(&app, &ada, "?limit=3").await;
    assert_eq!(
        first["pagination"],
        json!({ "total": 7, "page": 1, "limit": 3, "hasMore": true })
    );
    let third = list(&app, &ada, "?limit=3&page=3").await;
    assert_eq!(third["notifications"].as_array().unwrap().len(), 1);
    assert_eq!(third["pagination"]["hasMore"], false);
    let beyond = list(&app, &ada, "?page=99999999999999999999").await;
    assert_eq!(beyond["pagination"]["total"], 7);
    for odd in ["?page=-1&limit=0", "?page=x&limit=y", "?filter=odd", "?page=%00"] {
        assert_eq!(list(&app, &ada, odd).await["pagination"]["total"], 7, "{odd}");
    }

    let newest = first["notifications"][0]["id"].as_str().unwrap().to_owned();
    let mark =
        |traveller: &Traveller, id: &str| app.patch(&format!("{PATH}/{id}/read")).bearer(&traveller.token).send();
    app.advance(5);
    let read = mark(&ada, &newest).await;
    assert_eq!((read.status.as_u16(), &read.body["data"]["read"]), (200, &json!(true)));
    app.advance(5);
    assert_eq!(
        mark(&ada, &newest).await.body["data"]["readAt"],
        read.body["data"]["readAt"],
        "read once"
    );
    mark(&eve, &newest).await.refused(404, "NOT_FOUND");
    mark(&ada, "no-such-id").await.refused(404, "NOT_FOUND");
    mark(&ada, &ada.id).await.refused(404, "NOT_FOUND");
    let put = app
        .call(http::Method::PUT, &format!("{PATH}/{newest}/read"))
        .bearer(&ada.token)
        .send()
        .await;
    assert_eq!(put.status, 200);

    assert_eq!(list(&app, &ada, "?filter=unread").await["pagination"]["total"], 6);
    assert_eq!(
        list(&app, &ada, "?status=read").await["notifications"][0]["id"],
        newest.as_str()
    );
    let count = || app.get(&format!("{PATH}/unread-count")).bearer(&ada.token).send();
    assert_eq!(count().await.body, json!({ "success": true, "data": { "count": 6 } }));
    let all = || app.patch(&format!("{PATH}/mark-all-read/")).bearer(&ada.token).send();
    assert_eq!(all().await.body, json!({ "success": true, "data": { "updated": 6 } }));
    assert_eq!(all().await.body["data"]["updated"], 0);
    assert_eq!(count().await.body["data"]["count"], 0);
    assert_eq!(list(&app, &eve, "").await["pagination"]["total"], 0);
}

#[sqlx::test(migrations = false)]
async fn every_notification_route_needs_a_caller(pool: PgPool) {
    let app = TestApp::start(pool).await;
    app.get(PATH).send().await.refused(401, "TOKEN_MISSING");
    app.get(&format!("{PATH}/unread-count"))
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
    app.patch(&format!("{PATH}/mark-all-read"))
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
    app.patch(&format!("{PATH}/x/read"))
        .send()
        .await
        .refused(401, "TOKEN_MISSING");
    app.post(PATH).send().await.refused(404, "NOT_FOUND");
    app.post(&format!("{PATH}/internal"))
        .send()
        .await
        .refused(404, "NOT_FOUND");
}
