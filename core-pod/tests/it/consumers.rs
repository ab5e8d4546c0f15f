//! What the user service makes of the events of others (core §7, §14).

use serde_json::{Value, json};
use shared::{
    events::{
        Topic,
        consumer::{Failure, Handler as _},
    },
    sources::Sources,
};
use sqlx::PgPool;

use crate::{
    support::{TestApp, Traveller},
    told::{apply, payment},
};

const PATH: &str = "/api/v1/users/notifications";

async fn newest(app: &TestApp, ada: &Traveller) -> Value {
    let reply = app.get(PATH).bearer(&ada.token).send().await;
    reply.body["data"]["notifications"][0].clone()
}

#[sqlx::test(migrations = false)]
async fn a_payment_makes_a_notification_and_its_events(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let cause = apply(&app, Topic::PaymentCompleted, payment(&ada.id)).await.unwrap();

    let row = newest(&app, &ada).await;
    assert_eq!(
        (&row["type"], &row["title"]),
        (&json!("PAYMENT_RECEIVED"), &json!("Paiement confirmé"))
    );
    let message = row["message"].as_str().unwrap();
    assert!(
        message.contains("299,50 EUR") && message.contains("BOOK-20270115-ABCDE"),
        "{message}"
    );
    assert_eq!(
        row["metadata"],
        json!({ "paymentId": "pi_1", "bookingId": "BOOK-20270115-ABCDE" })
    );

    let events = app.events("users").await;
    let kinds: Vec<_> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["notification.inapp.created", "notification.email.requested"]);
    for (kind, event) in &events {
        assert_eq!(event["source"], "user-service", "{kind}");
        assert_eq!(
            (&event["causationId"], &event["correlationId"]),
            (&json!(cause.event_id), &json!("req-1"))
        );
        assert_eq!(event["payload"]["notificationId"], row["id"]);
    }
    let mail = &events[1].1["payload"];
    assert_eq!(
        (&mail["type"], &mail["title"], &mail["message"]),
        (&row["type"], &row["title"], &row["message"])
    );
    assert_eq!(
        (&mail["templateId"], &mail["locale"]),
        (&json!("payment-received"), &json!("fr"))
    );
    assert_eq!(
        mail["variables"],
        json!({ "bookingReference": "BOOK-20270115-ABCDE", "amount": 299.5, "currency": "EUR" })
    );
    assert_eq!((&mail["subject"], &mail["priority"]), (&row["title"], &json!("normal")));
    assert_eq!(mail["metadata"], row["metadata"]);
    assert!(mail["requestedAt"].as_str().unwrap().ends_with(".000Z"));
    assert!(
        !mail.to_string().contains("ada@example.com"),
        "the address is not on the bus"
    );
}

#[sqlx::test(migrations = false)]
async fn a_new_account_gets_default_settings_and_consents_once(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let created = json!({ "userId": ada.id, "email": "ada@example.com" });
    for _ in 0..2 {
        apply(&app, Topic::UserCreated, created.clone()).await.unwrap();
    }
    assert_eq!(app.count("select count(*) from users.settings").await, 1);
    let defaults = "select count(*) from users.consents
                    where not analytics and not marketing and functional and preferences and ip_address is null";
    assert_eq!(app.count(defaults).await, 1);

    let nobody = json!({ "userId": Sources::system().uuid_v4(), "email": "gone@example.com" });
    apply(&app, Topic::UserCreated, nobody).await.unwrap();
    assert_eq!(
        app.count("select count(*) from users.settings").await,
        1,
        "an account that is gone gets nothing"
    );
}

#[sqlx::test(migrations = false)]
async fn texts_follow_the_language_that_was_chosen(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    apply(&app, Topic::UserCreated, json!({ "userId": ada.id }))
        .await
        .unwrap();
    let booking = json!({ "bookingId": "BOOK-1", "userId": ada.id });
    apply(&app, Topic::VoyageBookingConfirmed, booking.clone())
        .await
        .unwrap();
    assert_eq!(newest(&app, &ada).await["title"], "Réservation confirmée");
    app.execute("update users.settings set language = 'English'").await;
    app.advance(1);
    apply(&app, Topic::VoyageBookingConfirmed, booking).await.unwrap();
    assert_eq!(newest(&app, &ada).await["title"], "Booking confirmed");
    let (_, mail) = app.events("users").await.pop().unwrap();
    assert_eq!(mail["payload"]["locale"], "en");
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
    let login = |new: Value| json!({ "userId": user, "sessionId": "s", "ipAddress": "203.0.113.7", "userAgent": "Firefox\u{0}", "newDevice": new });
    let locked = |reason: &str| json!({ "userId": user, "reason": reason, "unlockAt": "2027-01-15T08:15:00.000Z" });
    let declined = with(
        with(payment(user), "errorCode", json!("card_declined")),
        "errorMessage",
        json!("raw provider text"),
    );
    let canceled = with(payment(user), "errorCode", json!("payment_canceled"));
    let security = Some("ACCOUNT_SECURITY");
    for (topic, payload, kind) in [
        (Topic::PaymentCompleted, payment(user), Some("PAYMENT_RECEIVED")),
        (Topic::PaymentFailed, declined, Some("PAYMENT_FAILED")),
        (Topic::PaymentFailed, canceled, None),
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
        (Topic::AuthLogin, login(json!(true)), security),
        (Topic::AuthLogin, login(json!(false)), None),
        (Topic::AuthLogin, json!({ "userId": user, "sessionId": "s" }), None),
        (Topic::AuthLogout, logout("forced"), security),
        (Topic::AuthLogout, logout("user_initiated"), None),
        (
            Topic::AuthPasswordChanged,
            json!({ "userId": user, "method": "user_initiated" }),
            security,
        ),
        (Topic::AuthAccountLocked, locked("too_many_attempts"), security),
        (Topic::AuthAccountLocked, locked("admin_action"), security),
    ] {
        app.execute("delete from users.notifications").await;
        apply(&app, topic, payload).await.unwrap();
        let row = newest(&app, &ada).await;
        assert_eq!(row["type"].as_str(), kind, "{topic:?}");
        assert!(!row.to_string().contains("raw provider text"));
    }
}

#[sqlx::test(migrations = false)]
async fn news_about_the_safety_of_an_account_says_what_happened_and_is_mailed_whatever_was_chosen(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let ada = app.register("ada@example.com").await;
    let all_off = json!({ "inApp": false, "email": false });
    let off: serde_json::Map<_, _> = [
        "booking_confirmed",
        "booking_cancelled",
        "payment_succeeded",
        "payment_failed",
        "refund_processed",
        "promo_offer",
        "platform_update",
    ]
    .into_iter()
    .map(|key| (key.to_owned(), all_off.clone()))
    .collect();
    let put = app.call(http::Method::PUT, "/api/v1/users/notification-preferences");
    assert_eq!(put.bearer(&ada.token).json(&off.into()).send().await.status, 200);

    let login = json!({
        "userId": ada.id, "sessionId": "s-1", "ipAddress": "203.0.113.7", "userAgent": "Firefox on Linux", "newDevice": true,
    });
    apply(&app, Topic::AuthLogin, login).await.unwrap();
    let row = newest(&app, &ada).await;
    let message = row["message"].as_str().unwrap();
    assert!(
        message.contains("Firefox on Linux") && message.contains("203.0.113.7"),
        "{message}"
    );
    assert_eq!(row["metadata"]["sessionId"], "s-1");
    let (kind, mail) = app.events("users").await.pop().unwrap();
    assert_eq!(kind, "notification.email.requested");
    assert_eq!(
        (&mail["payload"]["templateId"], &mail["payload"]["priority"]),
        (&json!("new-device"), &json!("high"))
    );

    app.advance(1);
    let locked = json!({ "userId": ada.id, "reason": "too_many_attempts", "unlockAt": "2027-01-15T08:15:00.000Z" });
    apply(&app, Topic::AuthAccountLocked, locked).await.unwrap();
    let message = newest(&app, &ada).await["message"].to_string();
    assert!(message.contains("15/01/2027") && message.contains("08:15"), "{message}");
    let (_, mail) = app.events("users").await.pop().unwrap();
    assert_eq!(mail["payload"]["variables"]["unlockAt"], "2027-01-15T08:15:00.000Z");
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
        for topic in app.services.user.events().topics() {
            let outcome = apply(&app, *topic, payload.clone()).await;
            assert!(matches!(outcome, Err(Failure::Permanent(_))), "{topic:?} {payload}");
        }
    }
    let nobody = Sources::system().uuid_v4().to_string();
    apply(&app, Topic::PaymentCompleted, payment(&nobody)).await.unwrap();
    apply(&app, Topic::AuthPasswordChanged, json!({ "userId": nobody }))
        .await
        .unwrap();
    let mut odd = payment(&nobody);
    odd["amount"] = json!(1e300);
    assert!(matches!(
        apply(&app, Topic::PaymentCompleted, odd).await,
        Err(Failure::Permanent(_))
    ));
    assert_eq!(app.count("select count(*) from users.notifications").await, 0);
    assert_eq!(app.count("select count(*) from users.outbox").await, 0);
}

#[sqlx::test(migrations = false)]
async fn a_deleted_account_leaves_neither_notifications_nor_answers(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (ada, eve) = (
        app.register("ada@example.com").await,
        app.register("eve@example.com").await,
    );
    for traveller in [&ada, &eve] {
        apply(&app, Topic::PaymentCompleted, payment(&traveller.id))
            .await
            .unwrap();
        let begun = app
            .post("/api/v1/users/onboarding")
            .bearer(&traveller.token)
            .send()
            .await;
        assert_eq!(begun.status, 200);
    }
    let deleted = json!({ "userId": ada.id, "deletedAt": "2027-01-15T08:00:00.000Z" });
    for _ in 0..2 {
        apply(&app, Topic::UserDeleted, deleted.clone()).await.unwrap();
    }
    for table in [
        "select count(*) from users.notifications",
        "select count(*) from users.onboarding_profiles",
        "select count(*) from users.pushes",
    ] {
        assert_eq!(app.count(table).await, 1, "{table}");
    }
    assert_eq!(newest(&app, &eve).await["type"], "PAYMENT_RECEIVED");
}
