//! The table of voyage §7.2, row by row, and what must hold for every order of events.

use chrono::TimeDelta;
use proptest::prelude::*;
use shared::money::Currency;

use super::*;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn booking(status: Status, revivable: bool, supplier: bool) -> Booking {
    let id = uuid::Uuid::from_u128(1);
    let line = Line {
        kind: ItemKind::Flight,
        item_id: "off_1".to_owned(),
        item_data: RawValue::from_string("{}".to_owned()).unwrap(),
        quantity: 1,
        line_total_minor: 10_000,
        cart_item: CartItemId(id),
        provider: supplier.then(|| "offline".to_owned()),
        destination: None,
        travelers: Vec::new(),
    };
    Booking {
        id: BookingId(id),
        reference: "BOOK-20270115-AAAAA".to_owned(),
        user: UserId(id),
        kind: BookingKind::Flight,
        status,
        version: 0,
        cart: None,
        payment_intent: Some("pi_1".to_owned()),
        total: Money::new(10_000, Currency::EUR),
        lines: vec![line],
        metadata: RawValue::from_string("{}".to_owned()).unwrap(),
        reason: None,
        revivable,
        ended_at: None,
        confirmed_at: None,
        expires_at: now() + TimeDelta::minutes(30),
        refunded_minor: None,
        correlation: None,
        created_at: now(),
        updated_at: now(),
    }
}

fn declined(terminal: bool) -> Trigger {
    Trigger::PaymentFailed {
        reason: payment_failed_reason(Some("card_declined"), None),
        terminal,
    }
}

/// The status after a trigger, or what happened instead.
fn after(mut booking: Booking, trigger: &Trigger) -> String {
    match booking.decide(trigger, now()) {
        Decision::Move(decided) => {
            booking.apply(decided, now());
            booking.status.name().to_owned()
        }
        Decision::Stay => "stays".to_owned(),
        Decision::Alert(_) => "alert".to_owned(),
        Decision::GiveBack => "gives back".to_owned(),
    }
}

#[test]
fn the_table_of_the_contract_holds() {
    use Status::{Cancelled, Completed, Confirmed, Draft, Failed, Pending, PendingPayment};
    let refunded = Trigger::Refunded(10_000);
    let rows = [
        // (status, revivable, needs a supplier, trigger, expected)
        (Draft, false, true, Trigger::Paid, "PENDING"),
        (Draft, false, false, Trigger::Paid, "CONFIRMED"),
        (PendingPayment, false, true, Trigger::Paid, "PENDING"),
        (PendingPayment, false, false, Trigger::Paid, "CONFIRMED"),
        (Pending, false, false, Trigger::Paid, "CONFIRMED"),
        (Pending, false, true, Trigger::Paid, "stays"),
        (Failed, true, true, Trigger::Paid, "PENDING"),
        (Failed, false, true, Trigger::Paid, "gives back"),
        (Cancelled, false, true, Trigger::Paid, "gives back"),
        (Confirmed, false, true, Trigger::Paid, "stays"),
        (Completed, false, true, Trigger::Paid, "stays"),
        (Draft, false, true, declined(false), "FAILED"),
        (PendingPayment, false, true, declined(true), "FAILED"),
        (Pending, false, false, declined(false), "CANCELLED"),
        (Pending, false, true, declined(false), "stays"),
        (Confirmed, false, true, declined(true), "alert"),
        (Completed, false, true, declined(false), "alert"),
        (Failed, true, true, declined(false), "stays"),
        (Cancelled, false, true, declined(false), "stays"),
        (Draft, false, true, Trigger::ActionRequired, "PENDING_PAYMENT"),
        (Draft, false, true, Trigger::Processing, "PENDING_PAYMENT"),
        (Confirmed, false, true, Trigger::Processing, "stays"),
        (Draft, false, true, Trigger::TimedOut, "FAILED"),
        (PendingPayment, false, true, Trigger::TimedOut, "FAILED"),
        (Confirmed, false, true, Trigger::TimedOut, "stays"),
        (Draft, false, true, Trigger::Superseded, "CANCELLED"),
        (Failed, true, true, Trigger::Superseded, "CANCELLED"),
        (Failed, false, true, Trigger::Superseded, "stays"),
        (Pending, false, true, Trigger::Superseded, "stays"),
        (Failed, true, true, Trigger::Reopened, "DRAFT"),
        (Failed, false, true, Trigger::Reopened, "stays"),
        (Pending, false, true, Trigger::Ordered, "CONFIRMED"),
        (Cancelled, false, true, Trigger::Ordered, "alert"),
        (Confirmed, false, true, refunded.clone(), "CANCELLED"),
        (Draft, false, true, refunded.clone(), "CANCELLED"),
        (Failed, false, true, refunded.clone(), "stays"),
        (Completed, false, true, refunded, "alert"),
        (Draft, false, true, Trigger::AccountDeleted, "CANCELLED"),
        (Confirmed, false, true, Trigger::AccountDeleted, "stays"),
    ];
    for (status, revivable, supplier, trigger, expected) in rows {
        let found = after(booking(status, revivable, supplier), &trigger);
        assert_eq!(
            found, expected,
            "{status:?} revivable={revivable} supplier={supplier} {trigger:?}"
        );
    }
}

#[test]
fn a_decline_can_be_made_good_until_the_time_is_up() {
    let mut one = booking(Status::Draft, false, false);
    let Decision::Move(decided) = one.decide(&declined(false), now()) else {
        panic!("a draft fails")
    };
    one.apply(decided, now());
    assert!(one.is_payable(now()));
    assert_eq!(
        one.reason.as_deref(),
        Some("payment_failed: card_declined - Payment processing failed")
    );
    let late = one.expires_at;
    assert_eq!(one.decide(&Trigger::Paid, late), Decision::GiveBack);
}

#[test]
fn a_payment_at_the_bank_gets_a_day_and_then_another() {
    let mut one = booking(Status::Draft, false, false);
    let Decision::Move(decided) = one.decide(&Trigger::Processing, now()) else {
        panic!("a draft waits")
    };
    one.apply(decided, now());
    assert_eq!(one.expires_at, now() + PROCESSING_WINDOW);
    assert_eq!(
        one.decide(&Trigger::Processing, now() + TimeDelta::minutes(5)),
        Decision::Stay
    );
    let Decision::Move(again) = one.decide(&Trigger::Processing, one.expires_at) else {
        panic!("it waits on")
    };
    assert_eq!(again.expires_at, Some(one.expires_at + PROCESSING_WINDOW));
}

#[test]
fn a_second_chance_ends_without_another_event() {
    let mut one = booking(Status::Failed, true, true);
    one.reason = Some("payment_failed: x - y".to_owned());
    let Decision::Move(decided) = one.decide(&Trigger::TimedOut, one.expires_at) else {
        panic!("it ends")
    };
    let change = one.apply(decided, now());
    assert_eq!(change.from, change.to);
    assert!(!one.revivable);
    assert_eq!(one.reason.as_deref(), Some("payment_failed: x - y"));
}

#[test]
fn a_reference_has_the_form_of_the_contract() {
    let reference = new_reference(&Sources::system());
    let (head, tail) = reference.rsplit_once('-').unwrap();
    assert!(head.starts_with("BOOK-20") && head.len() == 13, "{reference}");
    assert!(
        tail.len() == 5
            && tail
                .bytes()
                .all(|sign| sign.is_ascii_uppercase() || sign.is_ascii_digit()),
        "{reference}"
    );
}

#[test]
fn a_reason_is_one_bounded_line() {
    let reason = payment_failed_reason(Some("x"), Some(&"line\n".repeat(1000)));
    assert!(!reason.contains('\n') && reason.chars().count() == 500);
    assert_eq!(
        payment_failed_reason(None, None),
        "payment_failed: UNKNOWN - Payment processing failed"
    );
}

fn any_status() -> impl Strategy<Value = Status> {
    prop::sample::select(Status::ALL.to_vec())
}

fn any_trigger() -> impl Strategy<Value = Trigger> {
    prop_oneof![
        Just(Trigger::ActionRequired),
        Just(Trigger::Processing),
        Just(Trigger::Paid),
        any::<bool>().prop_map(declined),
        Just(Trigger::TimedOut),
        Just(Trigger::Superseded),
        Just(Trigger::Reopened),
        Just(Trigger::Ordered),
        Just(Trigger::Refunded(10_000)),
        Just(Trigger::AccountDeleted),
    ]
}

fn run(booking: &mut Booking, triggers: &[Trigger]) -> (usize, usize) {
    let (mut confirmations, mut refunds) = (0, 0);
    for trigger in triggers {
        match booking.decide(trigger, now()) {
            Decision::Move(decided) => {
                let change = booking.apply(decided, now());
                confirmations += usize::from(change.to == Status::Confirmed && change.from != Status::Confirmed);
            }
            Decision::GiveBack => refunds += 1,
            Decision::Stay | Decision::Alert(_) => {}
        }
    }
    (confirmations, refunds)
}

proptest! {
    /// The same trigger twice is the same as once, in every state.
    #[test]
    fn a_repetition_changes_nothing(
        status in any_status(), revivable: bool, supplier: bool, trigger in any_trigger()
    ) {
        let mut once = booking(status, revivable && status == Status::Failed, supplier);
        run(&mut once, std::slice::from_ref(&trigger));
        let mut twice = once.clone();
        if trigger == Trigger::Paid && once.status == Status::Pending && !supplier {
            // a row of old without supplier work is paid step by step
            return Ok(());
        }
        run(&mut twice, std::slice::from_ref(&trigger));
        prop_assert_eq!(once.status, twice.status);
        prop_assert_eq!(once.revivable, twice.revivable);
    }

    /// Whatever happens, a booking is confirmed at most once, and what is confirmed or completed ends only by a refund.
    #[test]
    fn nothing_but_a_refund_undoes_a_confirmation(
        supplier: bool, triggers in prop::collection::vec(any_trigger(), 0..20)
    ) {
        let mut one = booking(Status::Draft, false, supplier);
        let (confirmations, _) = run(&mut one, &triggers);
        prop_assert!(confirmations <= 1);
        let refunded = triggers.contains(&Trigger::Refunded(10_000));
        if confirmations == 1 && !refunded {
            prop_assert_eq!(one.status, Status::Confirmed);
        }
    }

    /// Money that was taken for a booking that stays dead goes back.
    #[test]
    fn a_dead_booking_never_keeps_money(triggers in prop::collection::vec(any_trigger(), 0..20)) {
        let mut one = booking(Status::Draft, false, true);
        run(&mut one, &triggers);
        let dead = matches!(one.status, Status::Cancelled | Status::Failed) && !one.is_revivable(now());
        if dead && one.refunded_minor.is_none() {
            prop_assert_eq!(one.decide(&Trigger::Paid, now()), Decision::GiveBack);
        }
    }

    /// One payment's events in every order, with repetitions: declined first, then paid, the supplier answering after.
    #[test]
    fn the_order_of_a_payments_events_does_not_matter(
        supplier: bool,
        order in Just(vec![declined(false), Trigger::Paid, declined(false), Trigger::Processing, Trigger::Paid]).prop_shuffle(),
    ) {
        let mut one = booking(Status::Draft, false, supplier);
        run(&mut one, &order);
        run(&mut one, &[Trigger::Ordered]);
        prop_assert_eq!(one.status, Status::Confirmed);
    }

    /// A success and its full refund leave a cancelled booking, whoever arrives first.
    #[test]
    fn a_refund_may_overtake_its_payment(
        supplier: bool, order in Just(vec![Trigger::Paid, Trigger::Refunded(10_000)]).prop_shuffle(),
    ) {
        let mut one = booking(Status::Draft, false, supplier);
        let (_, refunds) = run(&mut one, &order);
        prop_assert_eq!(one.status, Status::Cancelled);
        prop_assert_eq!(refunds, 0);
    }
}
