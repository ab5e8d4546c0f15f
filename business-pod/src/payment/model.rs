//! Payments as the domain sees them: states, what moves one into the next, and what each move brings with it.
//!
//! contract: payment §7 (state machine). No HTTP, no SQL, no Stripe wire format.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use shared::{
    id::{BookingId, PaymentId, RefundId, UserId},
    money::Money,
};

use super::words::{DUPLICATE, RefundReason, RefundStatus, Status};

/// The payment of one booking.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Our id.
    pub id: PaymentId,
    /// Stripe's id, once Stripe has answered.
    pub intent: Option<String>,
    /// The booking row.
    pub booking: BookingId,
    /// The booking's reference.
    pub reference: String,
    /// Who pays.
    pub user: UserId,
    /// What was asked for.
    pub amount: Money,
    /// Our status.
    pub status: Status,
    /// The last word Stripe used.
    pub provider_status: Option<String>,
    /// Whether real money moves.
    pub livemode: bool,
    /// Attempts that ended.
    pub attempt: i32,
    /// Minor units taken.
    pub captured: i64,
    /// Minor units of refunds asked for, pending ones included.
    pub reserved: i64,
    /// Minor units given back.
    pub refunded: i64,
    /// Stripe's payment method.
    pub payment_method: Option<String>,
    /// The charge that took the money.
    pub charge: Option<String>,
    /// The attempt that `failure_code` is about.
    pub failure_key: Option<String>,
    /// Why the last attempt failed.
    pub failure_code: Option<String>,
    /// The same in words fit to be shown.
    pub failure_message: Option<String>,
    /// Why a person has to look at it.
    pub review: Option<String>,
    /// Why it was cancelled; on an open payment: why it is to be cancelled.
    pub cancel_reason: Option<String>,
    /// Free additions to Stripe's metadata.
    pub metadata: BTreeMap<String, String>,
    /// The checkout this belongs to.
    pub correlation: Option<String>,
    /// The time of the newest event of Stripe's that changed it.
    pub last_event_at: Option<DateTime<Utc>>,
    /// When it was last compared with Stripe.
    pub checked_at: Option<DateTime<Utc>>,
    /// When it started.
    pub created_at: DateTime<Utc>,
    /// When it succeeded.
    pub confirmed_at: Option<DateTime<Utc>>,
    /// When the last attempt failed.
    pub failed_at: Option<DateTime<Utc>>,
    /// When it was cancelled.
    pub canceled_at: Option<DateTime<Utc>>,
    /// When all of it was given back.
    pub refunded_at: Option<DateTime<Utc>>,
}

/// What Stripe says about a PaymentIntent, in one of the triggers of payment §7.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// An attempt failed; another may follow.
    AttemptFailed(AttemptFailure),
    /// The bank is working on it.
    Processing,
    /// The money was taken.
    Succeeded(Success),
    /// It will never be charged.
    Canceled {
        /// Stripe's `cancellation_reason`.
        reason: Option<String>,
    },
    /// Nothing that changes our status: waiting for the traveller.
    Waiting,
}

/// A failed attempt as Stripe reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptFailure {
    /// What tells this attempt from the others: the charge, else payment method and code.
    pub key: String,
    /// `card_declined`.
    pub code: String,
    /// `insufficient_funds`.
    pub decline_code: Option<String>,
    /// Stripe's text for card holders.
    pub message: String,
    /// The charge, if it came to one.
    pub charge: Option<String>,
    /// The payment method.
    pub payment_method: Option<String>,
}

/// A successful charge as Stripe reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Success {
    /// `amount_received` and its currency.
    pub received: Money,
    /// `latest_charge`.
    pub charge: Option<String>,
    /// The payment method.
    pub payment_method: Option<String>,
    /// `metadata.transactionId` and `metadata.bookingReference`, as far as present.
    pub transaction: Option<String>,
    /// See `transaction`.
    pub reference: Option<String>,
}

/// How much an observation can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An event of this time: events may arrive late and in any order.
    Event(DateTime<Utc>),
    /// The object as Stripe returned it just now.
    Truth,
}

/// What an observation did to a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing changed: known already, or of no consequence.
    Unchanged,
    /// The status or the attempt changed; this has to be done in the same transaction.
    Changed(Effect),
    /// Only Stripe's present state can tell: retrieve the PaymentIntent and observe again with [`Source::Truth`].
    AskStripe,
    /// Stripe contradicts what is final here. Nothing changes, a person is told.
    Alert(&'static str),
}

/// What belongs to a change of status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Status only.
    None,
    /// Publish `payment.failed`, with `terminal` as given, and note the attempt.
    Failed(AttemptFailure),
    /// The money came in as asked: ledger, attempt, `payment.completed`.
    Completed(Success),
    /// The money came in but not as asked: ledger and attempt, no event; a person is told.
    Flagged(Success),
    /// The money came in after it was given up: ledger, attempt, and a full refund.
    LateSuccess(Success),
    /// Publish `payment.failed` with `payment_canceled`, terminal.
    Canceled,
}

impl Transaction {
    /// Applies what Stripe says. The one place where a payment changes its status (except for refunds).
    pub fn observe(&mut self, observed: &Observed, source: Source, now: DateTime<Utc>) -> Verdict {
        let before = self.status;
        let verdict = self.decide(observed, source);
        match &verdict {
            Verdict::Changed(effect) => self.apply(effect, observed, now),
            Verdict::Unchanged | Verdict::AskStripe | Verdict::Alert(_) => {}
        }
        if let (Verdict::Changed(_), Source::Event(at)) = (&verdict, source) {
            self.last_event_at = self.last_event_at.max(Some(at));
        }
        if source == Source::Truth {
            self.checked_at = Some(now);
        }
        debug_assert!(before == self.status || matches!(verdict, Verdict::Changed(_)));
        verdict
    }

    /// The table of payment §7, read row by row.
    fn decide(&self, observed: &Observed, source: Source) -> Verdict {
        use Status::{Canceled, Failed, Pending, Processing, Refunded, Succeeded};
        let certain = source == Source::Truth;
        let verdict = match (self.status, observed) {
            // paid so far only on an administrator's word: now Stripe says so as well
            (Succeeded, Observed::Succeeded(success)) if self.captured == 0 => Verdict::Changed(self.judge(success)),

            (_, Observed::Waiting)
            | (Processing, Observed::Processing)
            | (Succeeded | Refunded, Observed::Succeeded(_))
            | (Canceled, Observed::Canceled { .. }) => return Verdict::Unchanged,

            (Pending | Processing | Failed, Observed::AttemptFailed(failure)) => {
                if self.failure_key.as_ref() == Some(&failure.key) {
                    return Verdict::Unchanged;
                }
                Verdict::Changed(Effect::Failed(failure.clone()))
            }
            (Pending | Failed, Observed::Processing) => Verdict::Changed(Effect::None),
            (Pending | Processing | Failed, Observed::Succeeded(success)) => Verdict::Changed(self.judge(success)),
            (Pending | Processing | Failed, Observed::Canceled { .. }) => Verdict::Changed(Effect::Canceled),

            // final here: what Stripe says now decides, not what a late event says
            (Succeeded | Refunded, _) if certain => return Verdict::Alert("a final payment is not final at Stripe"),
            (Canceled, Observed::Succeeded(success)) if certain => {
                Verdict::Changed(Effect::LateSuccess(success.clone()))
            }
            (Canceled, _) if certain => return Verdict::Alert("a cancelled payment is alive at Stripe"),
            (Succeeded | Refunded | Canceled, _) => return Verdict::AskStripe,
        };
        match source {
            Source::Event(at) if self.last_event_at.is_some_and(|last| at < last) => Verdict::AskStripe,
            _ => verdict,
        }
    }

    /// The completion check: amount, currency and booking must be what was asked for.
    fn judge(&self, success: &Success) -> Effect {
        let same_transaction = success.transaction.as_ref().is_none_or(|id| *id == self.id.to_string());
        let same_booking = success
            .reference
            .as_ref()
            .is_none_or(|reference| *reference == self.reference);
        let named = success.transaction.is_some() || success.reference.is_some();
        if success.received == self.amount && same_transaction && same_booking && named {
            Effect::Completed(success.clone())
        } else {
            Effect::Flagged(success.clone())
        }
    }

    fn apply(&mut self, effect: &Effect, observed: &Observed, now: DateTime<Utc>) {
        match effect {
            Effect::None => self.status = Status::Processing,
            Effect::Failed(failure) => {
                self.status = Status::Failed;
                self.attempt += 1;
                self.failed_at = Some(now);
                self.failure_key = Some(failure.key.clone());
                self.failure_code = Some(failure.code.clone());
                self.failure_message = Some(failure.message.clone());
            }
            Effect::Completed(success) => {
                // what stood on an administrator's word alone stands on Stripe's now
                self.review.take_if(|review| review == FORCED);
                self.succeed(success, None, now);
            }
            Effect::Flagged(success) => self.succeed(success, Some("amount_mismatch"), now),
            Effect::LateSuccess(success) => self.succeed(success, Some("late_success"), now),
            Effect::Canceled => {
                self.status = Status::Canceled;
                self.canceled_at = Some(now);
                // Stripe's word wins over what was wished: it says who came first
                if let Observed::Canceled { reason: Some(reason) } = observed {
                    self.cancel_reason = Some(reason.clone());
                }
            }
        }
    }

    fn succeed(&mut self, success: &Success, review: Option<&str>, now: DateTime<Utc>) {
        self.status = Status::Succeeded;
        self.attempt += 1;
        self.confirmed_at.get_or_insert(now);
        self.captured = success.received.minor;
        self.charge.clone_from(&success.charge);
        self.payment_method.clone_from(&success.payment_method);
        if let Some(review) = review {
            self.review = Some(review.to_owned());
        }
    }

    /// Sets the status on an administrator's word, while Stripe cannot be asked (payment §9). Moves no money: what is called
    /// paid has nothing to give back, and confirms no booking, until Stripe has said so too.
    pub fn force(&mut self, to: Status, now: DateTime<Utc>) -> Result<(), NotForcible> {
        use Status::{Failed, Pending, Processing, Refunded, Succeeded};
        match (self.status, to) {
            (Pending | Processing, Failed) => {
                self.failed_at.get_or_insert(now);
                self.failure_code.get_or_insert_with(|| FORCED.to_owned());
                self.failure_message
                    .get_or_insert_with(|| "Set by an administrator".to_owned());
            }
            (Pending | Processing | Failed, Succeeded) => {
                self.confirmed_at.get_or_insert(now);
            }
            (Succeeded, Refunded) if self.captured > 0 && self.refunded == self.captured => {
                self.refunded_at.get_or_insert(now);
            }
            _ => return Err(NotForcible),
        }
        self.status = to;
        self.review = Some(FORCED.to_owned());
        Ok(())
    }

    /// Minor units that can still be given back.
    pub const fn remaining(&self) -> i64 {
        self.captured - self.reserved
    }

    /// Whether the cancellation of this payment is news to anybody: not when another payment took its place.
    pub fn cancellation_is_published(&self) -> bool {
        self.cancel_reason.as_deref() != Some(DUPLICATE)
    }

    /// Reserves an amount for a refund: all that is left, or the given part of it.
    pub fn reserve(&mut self, amount: Option<i64>) -> Result<Money, RefundRefusal> {
        if self.status != Status::Succeeded {
            return Err(RefundRefusal::NotRefundable);
        }
        let remaining = self.remaining();
        if remaining <= 0 {
            return Err(RefundRefusal::NotRefundable);
        }
        let amount = amount.unwrap_or(remaining);
        if !(1..=remaining).contains(&amount) {
            return Err(RefundRefusal::Amount);
        }
        self.reserved += amount;
        Ok(Money::new(amount, self.amount.currency))
    }

    /// Reserves what Stripe says was given back without us.
    pub const fn reserve_external(&mut self, amount: i64) {
        self.reserved += amount;
    }

    /// A refund arrived. `true` if with it everything has been given back.
    pub fn refund_arrived(&mut self, amount: i64, now: DateTime<Utc>) -> bool {
        self.refunded += amount;
        let complete = self.refunded == self.captured && self.status == Status::Succeeded;
        if complete {
            self.status = Status::Refunded;
            self.refunded_at = Some(now);
        }
        complete
    }

    /// A refund failed: its amount is free again. `arrived` if it had been counted as given back before.
    pub fn refund_failed(&mut self, amount: i64, arrived: bool) {
        self.reserved -= amount;
        if arrived {
            self.refunded -= amount;
            if self.status == Status::Refunded {
                self.status = Status::Succeeded;
                self.refunded_at = None;
            }
        }
        self.review = Some("refund_failed".to_owned());
    }

    /// The `status` of clients: Stripe's vocabulary, with `refunded` added (payment §7).
    pub fn display_status(&self) -> &str {
        match self.status {
            Status::Pending => self.provider_status.as_deref().unwrap_or("requires_payment_method"),
            Status::Failed => "requires_payment_method",
            Status::Processing => "processing",
            Status::Succeeded => "succeeded",
            Status::Canceled => "canceled",
            Status::Refunded => "refunded",
        }
    }
}

/// Why a person has to look at a payment whose status an administrator set.
const FORCED: &str = "forced_status";

/// Not even an administrator may set this status from the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotForcible;

/// Why no refund can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundRefusal {
    /// Not captured, or nothing left.
    NotRefundable,
    /// Not between 1 and what is left.
    Amount,
}

/// A refund of a payment.
#[derive(Debug, Clone)]
pub struct RefundRow {
    /// Our id.
    pub id: RefundId,
    /// Of which payment.
    pub transaction: PaymentId,
    /// Stripe's id, once Stripe has answered.
    pub stripe_id: Option<String>,
    /// How much.
    pub amount: Money,
    /// Where it is.
    pub status: RefundStatus,
    /// Stripe's reason.
    pub reason: RefundReason,
    /// Free text.
    pub note: Option<String>,
    /// The checkout or cancellation this belongs to.
    pub correlation: Option<String>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
}

/// What a refund's new state brings with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundChange {
    /// Known already, or older than what is known.
    None,
    /// The money is back: ledger and event.
    Arrived,
    /// It never arrived: free the amount.
    Failed,
    /// It had arrived and came back: free the amount and reverse the ledger.
    Bounced,
}

impl RefundRow {
    /// Applies what Stripe says about the refund. A refund that failed stays failed; one that arrived can only bounce.
    pub const fn observe(&mut self, status: RefundStatus) -> RefundChange {
        let change = match (self.status, status) {
            (RefundStatus::Pending, RefundStatus::Succeeded) => RefundChange::Arrived,
            (RefundStatus::Pending, RefundStatus::Failed) => RefundChange::Failed,
            (RefundStatus::Succeeded, RefundStatus::Failed) => RefundChange::Bounced,
            _ => return RefundChange::None,
        };
        self.status = status;
        change
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
