//! Bookings and the one state machine that moves them.
//!
//! contract: voyage §7.2 (transitions), events §7 (what payment relies on). No HTTP, no SQL. [`Booking::decide`] is pure:
//! it looks at the booking, a trigger and the time; [`Booking::apply`] is the only way to change the state.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::{
    Sources,
    id::{BookingId, CartId, CartItemId, UserId},
    money::Money,
};
use utoipa::ToSchema;

pub use crate::voyage::client::BookingStatus as Status;

/// How long a payment that the bank is working on may take (voyage §7.2).
pub const PROCESSING_WINDOW: TimeDelta = TimeDelta::hours(24);

/// What a line of a cart or booking is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[sqlx(type_name = "text", rename_all = "UPPERCASE")]
pub enum ItemKind {
    /// A flight.
    Flight,
    /// A stay.
    Hotel,
    /// An activity.
    Activity,
}

impl ItemKind {
    /// The kind a client names, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "FLIGHT" => Some(Self::Flight),
            "HOTEL" => Some(Self::Hotel),
            "ACTIVITY" => Some(Self::Activity),
            _ => None,
        }
    }

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flight => "FLIGHT",
            Self::Hotel => "HOTEL",
            Self::Activity => "ACTIVITY",
        }
    }
}

/// What a booking as a whole is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[sqlx(type_name = "text", rename_all = "UPPERCASE")]
pub enum BookingKind {
    /// One flight.
    Flight,
    /// One stay.
    Hotel,
    /// One transfer.
    Transfer,
    /// One activity.
    Activity,
    /// Several things.
    Package,
}

impl BookingKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Flight, Self::Hotel, Self::Transfer, Self::Activity, Self::Package];

    /// The kind of a booking with these lines.
    pub fn of(lines: &[Line]) -> Self {
        match lines {
            [line] => match line.kind {
                ItemKind::Flight => Self::Flight,
                ItemKind::Hotel => Self::Hotel,
                ItemKind::Activity => Self::Activity,
            },
            _ => Self::Package,
        }
    }

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flight => "FLIGHT",
            Self::Hotel => "HOTEL",
            Self::Transfer => "TRANSFER",
            Self::Activity => "ACTIVITY",
            Self::Package => "PACKAGE",
        }
    }
}

/// One traveller of a line as events carry them: a kind, never a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Traveler {
    /// `adult`, `child`, `infant`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// One bought line: a copy of the cart line as it was at checkout.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: ItemKind,
    /// What was bought, in the words of whoever sells it.
    pub item_id: String,
    /// What the client shows of it. May name passengers: never logged, never published.
    pub item_data: Box<RawValue>,
    /// How many.
    pub quantity: i32,
    /// What the line costs, exactly, in minor units of the booking's currency.
    pub line_total_minor: i64,
    /// The cart line it came from.
    pub cart_item: CartItemId,
    /// Who sells it. A line with a provider needs an order there; one without needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Where it leads, as a code, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Who travels.
    #[serde(default)]
    pub travelers: Vec<Traveler>,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("kind", &self.kind)
            .field("item_id", &self.item_id)
            .finish_non_exhaustive()
    }
}

/// The unit price of a line as a number of major units. A line's total is exact, its unit price need not be (voyage §7.4).
pub fn unit_price(line_total: Money, quantity: i32) -> f64 {
    line_total.major() / f64::from(quantity.max(1))
}

/// A booking: an immutable snapshot of a cart, and how far it has come.
#[derive(Debug, Clone)]
pub struct Booking {
    /// The row.
    pub id: BookingId,
    /// `BOOK-YYYYMMDD-XXXXX`.
    pub reference: String,
    /// The owner.
    pub user: UserId,
    /// What it is as a whole.
    pub kind: BookingKind,
    /// Where it stands. Changed by [`Booking::apply`] only.
    pub status: Status,
    /// Counts the changes of the row.
    pub version: i32,
    /// The cart and its version that were bought.
    pub cart: Option<(CartId, i32)>,
    /// Stripe's id of its payment.
    pub payment_intent: Option<String>,
    /// What it costs.
    pub total: Money,
    /// What was bought.
    pub lines: Vec<Line>,
    /// The client's own additions.
    pub metadata: Box<RawValue>,
    /// Why it failed or was cancelled.
    pub reason: Option<String>,
    /// Whether a later success of its payment revives it (until it expires).
    pub revivable: bool,
    /// When it failed or was cancelled.
    pub ended_at: Option<DateTime<Utc>>,
    /// When it was confirmed.
    pub confirmed_at: Option<DateTime<Utc>>,
    /// Until when it may be paid.
    pub expires_at: DateTime<Utc>,
    /// What was given back, in minor units; 0 where it was decided that nothing is.
    pub refunded_minor: Option<i64>,
    /// The request id of its checkout.
    pub correlation: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// What may move a booking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// The payment waits for the traveller's bank to ask them something.
    ActionRequired,
    /// The bank is working on the payment.
    Processing,
    /// The payment succeeded, with the right amount, by the right user, for this booking.
    Paid,
    /// The payment was declined or could not be started. Not `terminal`: the same payment may still succeed.
    PaymentFailed {
        /// `payment_failed: <code> - <message>`.
        reason: String,
        /// Whether the payment is over for good.
        terminal: bool,
    },
    /// Not paid in time, and the payment can no longer succeed.
    TimedOut,
    /// A newer checkout of the same cart takes its place.
    Superseded,
    /// Its owner checks the same cart out again after a decline.
    Reopened,
    /// Every supplier has confirmed.
    Ordered,
    /// All of its money was given back: so many minor units.
    Refunded(i64),
    /// Its owner's account was deleted.
    AccountDeleted,
    /// An administrator cancels it.
    AdminCancelled {
        /// `admin_cancelled[: text]`.
        reason: String,
        /// What becomes of its money.
        money: Settlement,
    },
    /// An administrator says that the journey is over.
    Finished,
}

/// What becomes of the money of a booking that an administrator cancels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Nothing was paid: whatever payment it has is cancelled.
    Unpaid,
    /// It was paid, and the money stays.
    Kept,
    /// It was paid, and so many minor units go back.
    GivenBack(i64),
}

impl Settlement {
    /// What a later success of the payment is compared with: something, once it was decided about its money.
    const fn refunded_minor(self) -> Option<i64> {
        match self {
            Self::Unpaid => None,
            Self::Kept => Some(0),
            Self::GivenBack(minor) => Some(minor),
        }
    }
}

/// What a trigger means for a booking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It moves.
    Move(Move),
    /// It stays: a repetition, or something it no longer cares about.
    Stay,
    /// It stays, and somebody should know why.
    Alert(&'static str),
    /// It is dead and money was taken for it: all of it goes back.
    GiveBack,
}

/// A transition that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The new status.
    pub to: Status,
    /// Why, if it ends.
    pub reason: Option<String>,
    /// Whether it may come back.
    pub revivable: bool,
    /// A new time limit.
    pub expires_at: Option<DateTime<Utc>>,
    /// What was given back.
    pub refunded_minor: Option<i64>,
}

impl Move {
    fn to(to: Status) -> Self {
        Self {
            to,
            reason: None,
            revivable: false,
            expires_at: None,
            refunded_minor: None,
        }
    }

    fn because(to: Status, reason: impl Into<String>) -> Self {
        Self {
            reason: Some(reason.into()),
            ..Self::to(to)
        }
    }
}

/// A transition that has been made and waits to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The status before.
    pub from: Status,
    /// The status now.
    pub to: Status,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

impl Booking {
    /// Whether a line needs an order at a supplier.
    pub fn needs_supplier(&self) -> bool {
        self.lines.iter().any(|line| line.provider.is_some())
    }

    /// Whether its money was taken, as far as the booking itself knows.
    pub fn is_paid(&self) -> bool {
        match self.status {
            Status::Pending => self.needs_supplier(),
            Status::Confirmed | Status::Completed => true,
            Status::Draft | Status::PendingPayment | Status::Cancelled | Status::Failed => false,
        }
    }

    /// Whether a payment may still succeed for what it costs now.
    pub fn awaits_payment(&self) -> bool {
        match self.status {
            Status::Draft | Status::PendingPayment => true,
            Status::Pending => !self.needs_supplier(),
            Status::Failed => self.revivable,
            Status::Confirmed | Status::Completed | Status::Cancelled => false,
        }
    }

    /// Whether a success of its payment would still be taken.
    pub fn is_payable(&self, now: DateTime<Utc>) -> bool {
        match self.status {
            Status::Draft | Status::PendingPayment => now < self.expires_at,
            Status::Failed => self.is_revivable(now),
            Status::Pending | Status::Confirmed | Status::Cancelled | Status::Completed => false,
        }
    }

    /// Whether it failed in a way that a success of the same payment makes good.
    pub fn is_revivable(&self, now: DateTime<Utc>) -> bool {
        self.status == Status::Failed && self.revivable && now < self.expires_at
    }

    /// What a trigger means at `now`. Pure, and the only place that knows the table of voyage §7.2.
    #[expect(
        clippy::match_same_arms,
        reason = "one arm per row of the contract's table, in its order"
    )]
    pub fn decide(&self, trigger: &Trigger, now: DateTime<Utc>) -> Decision {
        use Decision::{Alert, GiveBack, Stay};
        use Status::{Cancelled, Completed, Confirmed, Draft, Failed, Pending, PendingPayment};

        // a declined booking that may still be paid behaves like a draft
        let revivable = self.is_revivable(now);
        match (trigger, self.status) {
            (Trigger::ActionRequired, Draft) => Decision::Move(Move::to(PendingPayment)),
            (Trigger::ActionRequired, Failed) if revivable => Decision::Move(Move::to(PendingPayment)),
            (Trigger::Processing, Draft | PendingPayment) => self.wait_for_the_bank(now),
            // also after its time: the money may come, and then the booking is better than a refund
            (Trigger::Processing, Failed) if self.revivable => self.wait_for_the_bank(now),
            (Trigger::ActionRequired | Trigger::Processing, _) => Stay,

            (Trigger::Paid, Draft | PendingPayment) => self.paid(),
            (Trigger::Paid, Failed) if revivable => self.paid(),
            (Trigger::Paid, Pending) if self.needs_supplier() => Stay,
            (Trigger::Paid, Pending) => Decision::Move(Move::to(Confirmed)),
            (Trigger::Paid, Confirmed | Completed) => Stay,
            (Trigger::Paid, Cancelled) if self.refunded_minor.is_some() => Stay,
            (Trigger::Paid, Failed | Cancelled) => GiveBack,

            (Trigger::PaymentFailed { reason, terminal }, Draft | PendingPayment) => Decision::Move(Move {
                revivable: !terminal,
                ..Move::because(Failed, reason)
            }),
            // paid and being ordered: the decline of an earlier attempt arrives late
            (Trigger::PaymentFailed { .. }, Pending) if self.needs_supplier() => Stay,
            (Trigger::PaymentFailed { reason, .. }, Pending) => Decision::Move(Move::because(Cancelled, reason)),
            (Trigger::PaymentFailed { .. }, Confirmed | Completed) => Alert("a payment failed for a confirmed booking"),
            (Trigger::PaymentFailed { .. }, Failed | Cancelled) => Stay,

            (Trigger::TimedOut, Draft | PendingPayment) => Decision::Move(Move::because(Failed, "payment_timeout")),
            // told already when the payment was declined; only its second chance ends
            (Trigger::TimedOut, Failed) if self.revivable => Decision::Move(Move {
                reason: self.reason.clone(),
                ..Move::to(Failed)
            }),
            (Trigger::TimedOut, _) => Stay,

            (Trigger::Superseded, Draft | PendingPayment) => Decision::Move(Move::because(Cancelled, "superseded")),
            (Trigger::Superseded, Failed) if self.revivable => Decision::Move(Move::because(Cancelled, "superseded")),
            (Trigger::Superseded, _) => Stay,

            (Trigger::Reopened, Failed) if revivable => Decision::Move(Move::to(Draft)),
            (Trigger::Reopened, _) => Stay,

            (Trigger::Ordered, Pending) => Decision::Move(Move::to(Confirmed)),
            (Trigger::Ordered, Confirmed | Completed) => Stay,
            (Trigger::Ordered, _) => Alert("a supplier confirmed an order of a booking that is over"),

            (Trigger::Refunded(minor), Draft | PendingPayment | Pending | Confirmed) => refunded(*minor),
            (Trigger::Refunded(minor), Failed) if revivable => refunded(*minor),
            (Trigger::Refunded(_), Completed) => Alert("a completed booking was refunded"),
            (Trigger::Refunded(_), Failed | Cancelled) => Stay,

            (Trigger::AccountDeleted, Draft | PendingPayment) => {
                Decision::Move(Move::because(Cancelled, ACCOUNT_DELETED))
            }
            (Trigger::AccountDeleted, Failed) if self.revivable => {
                Decision::Move(Move::because(Cancelled, ACCOUNT_DELETED))
            }
            (Trigger::AccountDeleted, _) => Stay,

            (Trigger::AdminCancelled { reason, money }, Draft | PendingPayment | Pending | Confirmed) => {
                cancelled_by_admin(reason, *money)
            }
            (Trigger::AdminCancelled { reason, money }, Failed) if self.revivable => cancelled_by_admin(reason, *money),
            (Trigger::AdminCancelled { .. }, Failed | Cancelled | Completed) => Stay,

            (Trigger::Finished, Confirmed) => Decision::Move(Move::to(Completed)),
            (Trigger::Finished, _) => Stay,
        }
    }

    /// Makes a move that was decided.
    pub fn apply(&mut self, decided: Move, now: DateTime<Utc>) -> Change {
        let change = Change {
            from: self.status,
            to: decided.to,
            reason: decided.reason.clone(),
            at: now,
        };
        self.status = decided.to;
        self.version += 1;
        self.updated_at = now;
        self.reason = decided.reason;
        self.revivable = decided.revivable;
        if change.from != change.to {
            self.ended_at = matches!(decided.to, Status::Failed | Status::Cancelled).then_some(now);
        }
        self.expires_at = decided.expires_at.unwrap_or(self.expires_at);
        self.refunded_minor = decided.refunded_minor.or(self.refunded_minor);
        if decided.to == Status::Confirmed {
            self.confirmed_at.get_or_insert(now);
        }
        change
    }

    fn paid(&self) -> Decision {
        let to = if self.needs_supplier() {
            Status::Pending
        } else {
            Status::Confirmed
        };
        Decision::Move(Move::to(to))
    }

    fn wait_for_the_bank(&self, now: DateTime<Utc>) -> Decision {
        // a day from when it was first seen, and another one if the bank still has not made up its mind by then
        if self.status == Status::PendingPayment && now < self.expires_at && self.expires_at - now > TimeDelta::hours(1)
        {
            return Decision::Stay;
        }
        let expires_at = Some(now + PROCESSING_WINDOW);
        Decision::Move(Move {
            expires_at,
            ..Move::to(Status::PendingPayment)
        })
    }
}

fn refunded(minor: i64) -> Decision {
    Decision::Move(Move {
        refunded_minor: Some(minor),
        ..Move::because(Status::Cancelled, "refunded")
    })
}

fn cancelled_by_admin(reason: &str, money: Settlement) -> Decision {
    Decision::Move(Move {
        refunded_minor: money.refunded_minor(),
        ..Move::because(Status::Cancelled, reason)
    })
}

const ACCOUNT_DELETED: &str = "user_cancelled: account deleted";

/// The reason of a failed payment: `payment_failed: <code> - <message>` (events §5).
pub fn payment_failed_reason(code: Option<&str>, message: Option<&str>) -> String {
    let code = code.filter(|code| !code.is_empty()).unwrap_or("UNKNOWN");
    let message = message
        .filter(|message| !message.is_empty())
        .unwrap_or("Payment processing failed");
    let reason = format!("payment_failed: {code} - {message}");
    reason
        .chars()
        .filter(|character| !character.is_control())
        .take(500)
        .collect()
}

/// A new reference: `BOOK-YYYYMMDD-XXXXX`, UTC date, five characters drawn from the source of randomness.
pub fn new_reference(sources: &Sources) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    format!("BOOK-{}-{}", sources.now().format("%Y%m%d"), sources.code(ALPHABET, 5))
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
