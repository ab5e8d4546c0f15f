//! The state machine of payment §7, row by row and under random orders.

use chrono::TimeDelta;
use proptest::prelude::*;
use shared::money::Currency;
use uuid::Uuid;

use super::*;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
}

fn payment(status: Status) -> Transaction {
    let captured = if matches!(status, Status::Succeeded | Status::Refunded) {
        45_050
    } else {
        0
    };
    let refunded = if status == Status::Refunded { captured } else { 0 };
    Transaction {
        id: PaymentId(Uuid::from_u128(1)),
        intent: Some("pi_1".to_owned()),
        booking: BookingId(Uuid::from_u128(2)),
        reference: "BOOK-20260101-ABCDE".to_owned(),
        user: UserId(Uuid::from_u128(3)),
        amount: Money::new(45_050, Currency::EUR),
        status,
        provider_status: None,
        livemode: false,
        attempt: 0,
        captured,
        reserved: refunded,
        refunded,
        payment_method: None,
        charge: None,
        failure_key: None,
        failure_code: None,
        failure_message: None,
        review: None,
        cancel_reason: None,
        metadata: BTreeMap::new(),
        correlation: None,
        last_event_at: None,
        checked_at: None,
        created_at: at(0),
        confirmed_at: None,
        failed_at: None,
        canceled_at: None,
        refunded_at: None,
    }
}

fn failure(key: &str) -> Observed {
    Observed::AttemptFailed(AttemptFailure {
        key: key.to_owned(),
        code: "card_declined".to_owned(),
        decline_code: Some("generic_decline".to_owned()),
        message: "Your card was declined.".to_owned(),
        charge: Some(key.to_owned()),
        payment_method: None,
    })
}

fn success(minor: i64) -> Observed {
    Observed::Succeeded(Success {
        received: Money::new(minor, Currency::EUR),
        charge: Some("ch_1".to_owned()),
        payment_method: Some("pm_1".to_owned()),
        transaction: Some(Uuid::from_u128(1).to_string()),
        reference: Some("BOOK-20260101-ABCDE".to_owned()),
    })
}

const CANCELED: Observed = Observed::Canceled { reason: None };

#[test]
fn the_table_of_the_contract_is_followed_row_by_row() {
    use Status::{Canceled, Failed, Pending, Processing, Refunded, Succeeded};
    let rows = [
        (Pending, failure("ch_1"), Failed),
        (Pending, Observed::Processing, Processing),
        (Pending, success(45_050), Succeeded),
        (Pending, CANCELED, Canceled),
        (Processing, failure("ch_1"), Failed),
        (Processing, Observed::Processing, Processing),
        (Processing, success(45_050), Succeeded),
        (Processing, CANCELED, Canceled),
        (Failed, failure("ch_1"), Failed),
        (Failed, Observed::Processing, Processing),
        (Failed, success(45_050), Succeeded),
        (Failed, CANCELED, Canceled),
        (Succeeded, failure("ch_1"), Succeeded),
        (Succeeded, Observed::Processing, Succeeded),
        (Succeeded, success(45_050), Succeeded),
        (Succeeded, CANCELED, Succeeded),
        (Canceled, failure("ch_1"), Canceled),
        (Canceled, Observed::Processing, Canceled),
        (Canceled, success(45_050), Canceled),
        (Canceled, CANCELED, Canceled),
        (Refunded, failure("ch_1"), Refunded),
        (Refunded, Observed::Processing, Refunded),
        (Refunded, success(45_050), Refunded),
        (Refunded, CANCELED, Refunded),
    ];
    for (from, observed, to) in rows {
        let mut payment = payment(from);
        payment.observe(&observed, Source::Event(at(1)), at(1));
        assert_eq!(payment.status, to, "{from} on {observed:?}");
    }
}

#[test]
fn a_late_failure_of_a_paid_payment_asks_stripe_and_changes_nothing() {
    let mut paid = payment(Status::Succeeded);
    assert_eq!(
        paid.observe(&failure("ch_0"), Source::Event(at(1)), at(1)),
        Verdict::AskStripe
    );
    assert!(matches!(
        paid.observe(&failure("ch_0"), Source::Truth, at(1)),
        Verdict::Alert(_)
    ));
    assert_eq!(paid.status, Status::Succeeded);
}

#[test]
fn a_success_after_cancellation_counts_only_when_stripe_confirms_it_and_is_given_back() {
    let mut dead = payment(Status::Canceled);
    assert_eq!(
        dead.observe(&success(45_050), Source::Event(at(9)), at(9)),
        Verdict::AskStripe
    );
    let verdict = dead.observe(&success(45_050), Source::Truth, at(9));
    assert!(matches!(verdict, Verdict::Changed(Effect::LateSuccess(_))));
    assert_eq!(
        (dead.status, dead.review.as_deref()),
        (Status::Succeeded, Some("late_success"))
    );
}

#[test]
fn one_failed_attempt_is_counted_once_and_a_second_attempt_again() {
    let mut open = payment(Status::Pending);
    assert!(matches!(
        open.observe(&failure("ch_1"), Source::Event(at(1)), at(1)),
        Verdict::Changed(_)
    ));
    assert_eq!(open.observe(&failure("ch_1"), Source::Truth, at(2)), Verdict::Unchanged);
    assert!(matches!(
        open.observe(&failure("ch_2"), Source::Event(at(3)), at(3)),
        Verdict::Changed(_)
    ));
    assert_eq!((open.attempt, open.status), (2, Status::Failed));
}

#[test]
fn an_event_older_than_the_last_one_asks_stripe_instead_of_changing_anything() {
    let mut open = payment(Status::Pending);
    open.observe(&failure("ch_1"), Source::Event(at(10)), at(10));
    assert_eq!(
        open.observe(&Observed::Processing, Source::Event(at(9)), at(11)),
        Verdict::AskStripe
    );
    assert_eq!(open.status, Status::Failed);
}

#[test]
fn money_that_is_not_what_was_asked_for_confirms_nothing() {
    let stranger = Observed::Succeeded(Success {
        received: Money::new(45_050, Currency::EUR),
        charge: None,
        payment_method: None,
        transaction: Some("another".to_owned()),
        reference: None,
    });
    for observed in [success(45_049), success(1), stranger] {
        let mut open = payment(Status::Pending);
        let verdict = open.observe(&observed, Source::Event(at(1)), at(1));
        assert!(matches!(verdict, Verdict::Changed(Effect::Flagged(_))), "{observed:?}");
        assert_eq!(
            (open.status, open.review.as_deref()),
            (Status::Succeeded, Some("amount_mismatch"))
        );
    }
}

#[test]
fn a_refund_never_exceeds_what_was_captured() {
    let mut paid = payment(Status::Succeeded);
    assert_eq!(paid.reserve(Some(0)), Err(RefundRefusal::Amount));
    assert_eq!(paid.reserve(Some(45_051)), Err(RefundRefusal::Amount));
    assert_eq!(paid.reserve(Some(50)).unwrap().minor, 50);
    assert_eq!(paid.reserve(None).unwrap().minor, 45_000);
    assert_eq!(paid.reserve(None), Err(RefundRefusal::NotRefundable));
}

#[test]
fn a_refund_that_bounces_reopens_the_payment() {
    let mut paid = payment(Status::Succeeded);
    paid.reserve(None).unwrap();
    assert!(paid.refund_arrived(45_050, at(1)));
    assert_eq!(paid.status, Status::Refunded);
    paid.refund_failed(45_050, true);
    assert_eq!((paid.status, paid.remaining()), (Status::Succeeded, 45_050));
}

#[derive(Debug, Clone)]
enum Step {
    Event(Observed, i64),
    Truth(Observed),
}

fn observation() -> impl Strategy<Value = Observed> {
    prop_oneof![
        (0..3_u8).prop_map(|n| failure(&format!("ch_{n}"))),
        Just(Observed::Processing),
        Just(success(45_050)),
        Just(CANCELED),
        Just(Observed::Waiting),
    ]
}

proptest! {
    #[test]
    fn whatever_arrives_in_whatever_order_a_payment_succeeds_at_most_once_and_never_loses_the_money(
        steps in prop::collection::vec(
            prop_oneof![
                (observation(), 0..20_i64).prop_map(|(observed, time)| Step::Event(observed, time)),
                observation().prop_map(Step::Truth),
            ],
            0..30,
        )
    ) {
        let mut payment = payment(Status::Pending);
        let mut successes = 0;
        for (index, step) in steps.iter().enumerate() {
            let now = at(100) + TimeDelta::seconds(i64::try_from(index).unwrap());
            let before = payment.status;
            let verdict = match step {
                Step::Event(observed, time) => payment.observe(observed, Source::Event(at(*time)), now),
                Step::Truth(observed) => payment.observe(observed, Source::Truth, now),
            };
            if let Verdict::Changed(Effect::Completed(_) | Effect::LateSuccess(_) | Effect::Flagged(_)) = verdict {
                successes += 1;
            }
            prop_assert!(before != Status::Succeeded || payment.status == Status::Succeeded);
            prop_assert!(successes <= 1);
            prop_assert_eq!(payment.captured > 0, payment.status == Status::Succeeded);
        }
    }
}
