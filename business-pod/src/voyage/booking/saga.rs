//! One transition of a booking with everything that belongs to it, in the caller's transaction.
//!
//! contract: voyage §7.2 (effects), events §7. The consumer, the confirm call, the checkout and the reconciler all end up
//! here, so that it does not matter who comes first: whoever comes second finds nothing left to do.

use shared::{
    Sources,
    events::{Envelope, outbox},
    id::UserId,
};
use sqlx::PgConnection;

use super::{
    model::{Booking, Decision, Settlement, Status, Trigger},
    orders::{self, Task, TaskKind},
    store,
};
use crate::voyage::{Voyage, cart, events};

/// Who causes a transition, as the history tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// A checkout of the owner.
    Checkout,
    /// The payment service.
    Payment,
    /// The suppliers.
    Supplier,
    /// The reconciler.
    Reconciler,
    /// The account service.
    Account,
    /// This administrator.
    Admin(UserId),
}

impl Actor {
    /// The name in the history.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Checkout => "checkout",
            Self::Payment => "payment",
            Self::Supplier => "supplier",
            Self::Reconciler => "reconciler",
            Self::Account => "account",
            Self::Admin(_) => "admin",
        }
    }

    /// The person, where it is one who acts on somebody else's booking.
    pub const fn person(self) -> Option<UserId> {
        match self {
            Self::Admin(admin) => Some(admin),
            _ => None,
        }
    }
}

/// Drives a booking that the caller has locked. Decides, stores, tells, and leaves the tasks that follow. The booking is
/// changed in place; the decision says what happened.
pub async fn drive(
    conn: &mut PgConnection,
    sources: &Sources,
    booking: &mut Booking,
    trigger: &Trigger,
    actor: Actor,
    cause: Option<&Envelope>,
) -> sqlx::Result<Decision> {
    let now = sources.now();
    let decision = booking.decide(trigger, now);
    match &decision {
        Decision::Stay => {}
        Decision::Alert(what) => {
            tracing::error!(booking = %booking.id, status = ?booking.status, alert = true, "{what}");
        }
        Decision::GiveBack => give_back(&mut *conn, sources, booking).await?,
        Decision::Move(decided) => {
            let change = booking.apply(decided.clone(), now);
            if !store::save(&mut *conn, booking, &change).await? {
                // the caller holds the row's lock, so nobody can have been faster
                return Err(sqlx::Error::Protocol(format!(
                    "booking {} changed under its lock",
                    booking.id
                )));
            }
            store::add_event(&mut *conn, booking.id, Some(change.from), &change, actor).await?;
            match booking.status {
                Status::Pending => orders::plan(&mut *conn, booking, now).await?,
                Status::Confirmed => cart::remove_bought(&mut *conn, booking, now).await?,
                Status::Cancelled => cancel_payment(&mut *conn, sources, booking, trigger).await?,
                _ => {}
            }
            if let Some(event) = events::booking_changed(sources, booking, &change) {
                let event = match cause {
                    Some(cause) if cause.correlation_id.is_some() => event.caused_by(cause),
                    Some(cause) => event.caused_by(cause).correlated(booking.correlation.clone()),
                    None => event,
                };
                outbox::append::<Voyage>(&mut *conn, &[event]).await?;
                count(booking.status);
            }
            tracing::info!(
                booking = %booking.id, from = ?change.from, to = ?change.to, actor = actor.name(), "booking moved"
            );
        }
    }
    Ok(decision)
}

/// Counts a booking that came to an end or into being.
pub fn count(status: Status) {
    let outcome = match status {
        Status::Draft => "created",
        Status::Confirmed => "confirmed",
        Status::Failed => "failed",
        Status::Cancelled => "cancelled",
        Status::Completed => "completed",
        Status::PendingPayment | Status::Pending => return,
    };
    metrics::counter!("dreamscape_bookings_total", "outcome" => outcome).increment(1);
}

/// Money was taken for a booking that is dead: all of it goes back, once per payment.
pub async fn give_back_intent(
    conn: &mut PgConnection,
    sources: &Sources,
    booking: &Booking,
    intent: &str,
) -> sqlx::Result<()> {
    let task = Task {
        id: sources.uuid_v7(),
        booking: booking.id,
        kind: TaskKind::Refund,
        payment_intent: Some(intent.to_owned()),
        reason: format!("late success for a booking in state {:?}", booking.status),
        key: format!("late:{intent}"),
        attempts: 0,
    };
    if orders::add_task(conn, &task, sources.now()).await? {
        tracing::error!(booking = %booking.id, alert = true, "payment succeeded for a dead booking, giving it back");
    }
    Ok(())
}

async fn give_back(conn: &mut PgConnection, sources: &Sources, booking: &Booking) -> sqlx::Result<()> {
    let Some(intent) = booking.payment_intent.clone() else {
        tracing::error!(booking = %booking.id, alert = true, "a dead booking was paid for, but has no payment to give back");
        return Ok(());
    };
    give_back_intent(conn, sources, booking, &intent).await
}

/// The booking is over: its payment must not be paid any more.
async fn cancel_payment(
    conn: &mut PgConnection,
    sources: &Sources,
    booking: &Booking,
    trigger: &Trigger,
) -> sqlx::Result<()> {
    let reason = match trigger {
        Trigger::Superseded => "duplicate",
        Trigger::AccountDeleted
        | Trigger::AdminCancelled {
            money: Settlement::Unpaid,
            ..
        } => "requested_by_customer",
        _ => return Ok(()),
    };
    let task = Task {
        id: sources.uuid_v7(),
        booking: booking.id,
        kind: TaskKind::Cancel,
        payment_intent: None,
        reason: reason.to_owned(),
        key: format!("cancel-intent:{}", booking.id),
        attempts: 0,
    };
    orders::add_task(conn, &task, sources.now()).await.map(drop)
}
