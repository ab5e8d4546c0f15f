//! The saga: events in any order, time-outs, late money, deleted accounts (contract: voyage §7.2, events §6 to §8).

use business_pod::payment::client::Status;
use chrono::TimeDelta;
use serde_json::{Value, json};
use shared::events::{Envelope, Topic, consumer::Failure};
use sqlx::PgPool;

use crate::voyage_world::World;

#[sqlx::test(migrations = false)]
async fn a_payment_confirms_its_booking_and_empties_only_what_was_bought(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let (reference, intent) = ada.has_booking().await;
    ada.add_stay(80.0).await;
    world.payments.succeed(&intent);

    world
        .deliver(Topic::PaymentCompleted, &world.completed(&intent))
        .await
        .unwrap();
    assert_eq!(world.status(&reference).await, "PENDING");
    world.settle().await;

    assert_eq!(world.status(&reference).await, "CONFIRMED");
    let left = ada.get("/api/v1/cart").await.expect(200);
    assert_eq!(
        (&left["meta"]["itemCount"], &left["data"]["totalPrice"]),
        (&json!(1), &json!(80.0))
    );
}

#[sqlx::test(migrations = false)]
async fn a_decline_keeps_the_cart_and_the_same_payment_makes_it_good(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let (reference, intent) = ada.has_booking().await;

    world
        .deliver(Topic::PaymentFailed, &world.declined(&intent))
        .await
        .unwrap();

    assert_eq!(world.status(&reference).await, "FAILED");
    let cancelled = world.published(Topic::VoyageBookingCancelled).await;
    assert_eq!(
        cancelled[0]["reason"],
        "payment_failed: card_declined - Your card was declined."
    );
    assert_eq!(ada.get("/api/v1/cart").await.expect(200)["meta"]["itemCount"], 1);
    let detail = ada.get(&format!("/api/v1/bookings/{reference}")).await.expect(200);
    assert!(
        detail["data"]["failureReason"]
            .as_str()
            .unwrap()
            .starts_with("payment_failed")
    );

    world.payments.succeed(&intent);
    world
        .deliver(Topic::PaymentCompleted, &world.completed(&intent))
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(world.status(&reference).await, "CONFIRMED");
    assert_eq!(world.published(Topic::VoyageBookingConfirmed).await.len(), 1);
    assert!(world.payments.refunds.lock().unwrap().is_empty());
}

#[sqlx::test(migrations = false)]
async fn checking_out_after_a_decline_goes_on_with_the_same_booking(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let first = ada.has_booking().await;
    world
        .deliver(Topic::PaymentFailed, &world.declined(&first.1))
        .await
        .unwrap();
    assert_eq!(ada.checkout().await, first);
    assert_eq!(world.status(&first.0).await, "DRAFT");
}

#[sqlx::test(migrations = false)]
async fn duplicate_and_shuffled_events_end_in_the_same_state(pool: PgPool) {
    let world = World::start(pool).await;
    for (number, order) in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
        .into_iter()
        .enumerate()
    {
        let ada = world.traveller(10 + u128::try_from(number).unwrap());
        let (reference, intent) = ada.has_booking().await;
        world.payments.succeed(&intent);
        let initiated = world.event(
            Topic::PaymentInitiated,
            json!({ "paymentId": intent, "bookingId": reference, "userId": ada.user, "amount": 1, "currency": "EUR" }),
        );
        let events: [(Topic, Envelope); 3] = [
            (Topic::PaymentInitiated, initiated),
            (Topic::PaymentFailed, world.declined(&intent)),
            (Topic::PaymentCompleted, world.completed(&intent)),
        ];
        for place in order.into_iter().chain(order) {
            let (topic, event) = &events[place];
            world.deliver(*topic, event).await.unwrap();
        }
        // the same news once more, as another event
        world
            .deliver(Topic::PaymentCompleted, &world.completed(&intent))
            .await
            .unwrap();
        world.settle().await;
        assert_eq!(world.status(&reference).await, "CONFIRMED", "{order:?}");
    }
    assert_eq!(world.published(Topic::VoyageBookingConfirmed).await.len(), 6);
    assert!(world.payments.refunds.lock().unwrap().is_empty());
}

#[sqlx::test(migrations = false)]
async fn events_that_cannot_be_meant_go_to_the_dead_letters(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let (reference, intent) = ada.has_booking().await;
    let good = world.completed(&intent).payload;
    let changed = |key: &str, value: Value| {
        let mut payload = good.clone();
        payload[key] = value;
        world.event(Topic::PaymentCompleted, payload)
    };
    for (key, value) in [
        ("userId", json!("0192f0c1-2222-7000-8000-000000000009")),
        ("userId", json!(null)),
        ("amount", json!(0.5)),
        ("amount", json!(null)),
        ("currency", json!("USD")),
        ("currency", json!("?")),
        ("amount", json!("12")),
    ] {
        let event = changed(key, value.clone());
        let failure = world.deliver(Topic::PaymentCompleted, &event).await.unwrap_err();
        assert!(matches!(failure, Failure::Permanent(_)), "{key}={value}: {failure:?}");
    }
    let unknown = world.event(
        Topic::PaymentCompleted,
        json!({ "paymentId": "pi_nobody", "bookingId": "temp", "userId": ada.user, "amount": 1.0, "currency": "EUR" }),
    );
    assert!(matches!(
        world.deliver(Topic::PaymentCompleted, &unknown).await.unwrap_err(),
        Failure::Unknown(_)
    ));
    assert_eq!(world.status(&reference).await, "DRAFT");
}

#[sqlx::test(migrations = false)]
async fn an_event_without_a_reference_of_its_own_is_understood(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let (reference, intent) = ada.has_booking().await;
    let mut payload = world.completed(&intent).payload;
    payload.as_object_mut().unwrap().remove("bookingReference");
    payload["method"] = json!("card");
    payload["metadata"] = json!({ "any": 1 });
    sqlx::query("update voyage.bookings set payment_intent_id = null")
        .execute(&world.pool)
        .await
        .unwrap();

    let event = world.event(Topic::PaymentCompleted, payload);
    world.deliver(Topic::PaymentCompleted, &event).await.unwrap();
    world.settle().await;

    assert_eq!(world.status(&reference).await, "CONFIRMED");
}

#[sqlx::test(migrations = false)]
async fn an_unpaid_booking_times_out_and_its_payment_with_it(pool: PgPool) {
    let world = World::start(pool).await;
    let (reference, intent) = world.traveller(1).has_booking().await;
    world.advance(TimeDelta::minutes(29));
    world.settle().await;
    assert_eq!(world.status(&reference).await, "DRAFT");
    world.advance(TimeDelta::minutes(2));

    world.settle().await;
    world.settle().await;

    assert_eq!(world.status(&reference).await, "FAILED");
    assert_eq!(world.payments.view(&intent).stripe_status, "canceled");
    let cancelled = world.published(Topic::VoyageBookingCancelled).await;
    assert_eq!(
        (cancelled.len(), &cancelled[0]["reason"]),
        (1, &json!("payment_timeout"))
    );
}

#[sqlx::test(migrations = false)]
async fn a_timeout_that_meets_a_success_is_a_success(pool: PgPool) {
    let world = World::start(pool).await;
    let (reference, intent) = world.traveller(1).has_booking().await;
    world.payments.succeed(&intent);
    world.advance(TimeDelta::minutes(31));
    world.settle().await;
    assert_eq!(world.status(&reference).await, "CONFIRMED");
}

#[sqlx::test(migrations = false)]
async fn a_timeout_that_meets_the_bank_waits_another_day(pool: PgPool) {
    let world = World::start(pool).await;
    let (reference, intent) = world.traveller(1).has_booking().await;
    world.payments.set_status(&intent, Status::Processing, "processing");
    world.advance(TimeDelta::minutes(31));
    world.settle().await;
    assert_eq!(world.status(&reference).await, "PENDING_PAYMENT");
    world.advance(TimeDelta::hours(24));
    world.settle().await;
    assert_eq!(world.status(&reference).await, "PENDING_PAYMENT");
    world.payments.set_status(&intent, Status::Canceled, "canceled");
    world.advance(TimeDelta::hours(25));
    world.settle().await;
    assert_eq!(world.status(&reference).await, "FAILED");
}

#[sqlx::test(migrations = false)]
async fn money_for_a_dead_booking_goes_back_until_it_has_arrived(pool: PgPool) {
    let world = World::start(pool).await;
    let ada = world.traveller(1);
    let (old, intent) = ada.has_booking().await;
    ada.add_stay(80.0).await;
    world.payments.succeed(&intent);
    ada.checkout().await;
    assert_eq!(world.status(&old).await, "CANCELLED");
    world.payments.set_away(true);
    world
        .deliver(Topic::PaymentCompleted, &world.completed(&intent))
        .await
        .unwrap();
    world.settle().await;
    assert!(world.payments.refunds.lock().unwrap().is_empty());

    world.payments.set_away(false);
    world.advance(TimeDelta::minutes(5));
    world.settle().await;

    let key = format!("late:{intent}");
    assert!(world.payments.refunds.lock().unwrap().contains_key(&key));
    assert_eq!(world.payments.refunds.lock().unwrap().len(), 1);
    world
        .deliver(Topic::PaymentRefunded, &world.refunded(&intent))
        .await
        .unwrap();
    world
        .deliver(Topic::PaymentCompleted, &world.completed(&intent))
        .await
        .unwrap();
    world.settle().await;
    assert_eq!(world.status(&old).await, "CANCELLED");
    assert_eq!(
        world
            .count("select count(*) from voyage.payment_tasks where done_at is null")
            .await,
        0
    );
}

#[sqlx::test(migrations = false)]
async fn a_success_after_the_second_chance_goes_back(pool: PgPool) {
    let world = World::start(pool).await;
    let (reference, intent) = world.traveller(1).has_booking().await;
    world
        .deliver(Topic::PaymentFailed, &world.declined(&intent))
        .await
        .unwrap();
    world.payments.succeed(&intent);
    world.advance(TimeDelta::minutes(31));

    world.settle().await;
    world
        .deliver(Topic::PaymentCompleted, &world.completed(&intent))
        .await
        .unwrap();
    world.settle().await;

    assert_eq!(world.status(&reference).await, "FAILED");
    assert_eq!(world.payments.refunds.lock().unwrap().len(), 1);
    assert_eq!(world.published(Topic::VoyageBookingConfirmed).await.len(), 0);
}

#[sqlx::test(migrations = false)]
async fn a_full_refund_cancels_and_a_late_decline_does_not(pool: PgPool) {
    let world = World::start(pool).await;
    let (reference, intent) = world.traveller(1).has_booking().await;
    world.payments.succeed(&intent);
    world
        .deliver(Topic::PaymentCompleted, &world.completed(&intent))
        .await
        .unwrap();
    world.settle().await;
    world
        .deliver(Topic::PaymentFailed, &world.declined(&intent))
        .await
        .unwrap();
    assert_eq!(world.status(&reference).await, "CONFIRMED");

    world
        .deliver(Topic::PaymentRefunded, &world.refunded(&intent))
        .await
        .unwrap();

    assert_eq!(world.status(&reference).await, "CANCELLED");
    let cancelled = world.published(Topic::VoyageBookingCancelled).await;
    assert_eq!(cancelled[0]["reason"], "refunded");
    assert_eq!(
        cancelled[0]["refundAmount"],
        json!(world.payments.view(&intent).amount.major())
    );
    let detail = world
        .traveller(1)
        .get(&format!("/api/v1/bookings/{reference}"))
        .await
        .expect(200);
    assert_eq!(detail["data"]["cancellation"]["reason"], "refunded");
    world.settle().await;
    assert!(world.payments.refunds.lock().unwrap().is_empty());
}

#[sqlx::test(migrations = false)]
async fn rows_of_old_without_supplier_work_follow_the_suites(pool: PgPool) {
    let world = World::start(pool).await;
    for (number, topic, expected) in [
        (1_u128, Topic::PaymentCompleted, "CONFIRMED"),
        (2, Topic::PaymentFailed, "CANCELLED"),
    ] {
        let ada = world.traveller(number);
        ada.add_stay(80.0).await;
        let (reference, intent) = ada.checkout().await;
        sqlx::query("update voyage.bookings set status = 'PENDING', payment_intent_id = null where reference = $1")
            .bind(&reference)
            .execute(&world.pool)
            .await
            .unwrap();
        let event = match topic {
            Topic::PaymentCompleted => world.completed(&intent),
            _ => world.declined(&intent),
        };
        world.deliver(topic, &event).await.unwrap();
        assert_eq!(world.status(&reference).await, expected);
    }
}

#[sqlx::test(migrations = false)]
async fn a_deleted_account_leaves_bookings_without_a_person(pool: PgPool) {
    let world = World::start(pool).await;
    let (ada, eve) = (world.traveller(1), world.traveller(2));
    let (paid, intent) = ada.has_booking().await;
    world.payments.succeed(&intent);
    world
        .deliver(Topic::PaymentCompleted, &world.completed(&intent))
        .await
        .unwrap();
    world.settle().await;
    let (open, open_intent) = ada.has_booking().await;
    eve.add_stay(80.0).await;

    let event = world.event(
        Topic::UserDeleted,
        json!({ "userId": ada.user, "deletedAt": "2026-11-23T10:05:00.000Z" }),
    );
    world.deliver(Topic::UserDeleted, &event).await.unwrap();
    world.settle().await;

    assert_eq!(
        (world.status(&paid).await, world.status(&open).await),
        ("CONFIRMED".into(), "CANCELLED".into())
    );
    assert_eq!(world.payments.view(&open_intent).stripe_status, "canceled");
    let left = "select count(*) from voyage.bookings where user_id = '00000000-0000-0000-0000-000000000001'";
    assert_eq!(world.count(left).await, 0);
    let named =
        "select count(*) from voyage.bookings where items -> 0 -> 'itemData' <> '{}' or pseudonymised_at is null";
    assert_eq!(world.count(named).await, 0);
    assert_eq!(world.count("select count(*) from voyage.carts").await, 1);
}

#[sqlx::test(migrations = false)]
async fn an_order_begun_before_a_crash_is_finished_after_it(pool: PgPool) {
    let world = World::start(pool).await;
    let (reference, intent) = world.traveller(1).has_booking().await;
    world.payments.succeed(&intent);
    world
        .deliver(Topic::PaymentCompleted, &world.completed(&intent))
        .await
        .unwrap();
    // as after a crash between two orders' answers
    let pending = "select count(*) from voyage.provider_orders where status = 'pending'";
    assert_eq!(world.count(pending).await, 1);

    world.settle().await;
    world.settle().await;

    assert_eq!(world.count(pending).await, 0);
    assert_eq!(world.status(&reference).await, "CONFIRMED");
    assert_eq!(world.published(Topic::VoyageBookingConfirmed).await.len(), 1);
}

#[sqlx::test(migrations = false)]
async fn payment_can_ask_what_is_to_be_paid(pool: PgPool) {
    use business_pod::voyage::{LocalBookings, client::BookingClient};

    let world = World::start(pool).await;
    let (ada, eve) = (world.traveller(1), world.traveller(2));
    let (reference, intent) = ada.has_booking().await;
    let client = LocalBookings::new(world.state.db.clone(), world.state.sources.clone());

    let payable = client.payable(&reference, ada.user).await.unwrap().unwrap();

    assert_eq!(
        (payable.amount, payable.payable),
        (world.payments.view(&intent).amount, true)
    );
    assert!(
        client
            .payable(&payable.id.to_string(), ada.user)
            .await
            .unwrap()
            .is_some()
    );
    assert!(client.payable(&reference, eve.user).await.unwrap().is_none());
    assert!(client.payable("BOOK-\0", ada.user).await.unwrap().is_none());
    world.advance(TimeDelta::minutes(31));
    assert!(!client.payable(&reference, ada.user).await.unwrap().unwrap().payable);
}
