//! What voyage does with the events it subscribes to.
//!
//! contract: voyage §8.3, §7.2; events §6 (failures), §7 (saga). Order does not matter: every effect is a guarded
//! transition, so duplicates and late arrivals find nothing to do.

use async_trait::async_trait;
use serde::Deserialize;
use shared::{
    events::{
        Envelope, Topic,
        consumer::{Failure, Handler},
        outbox,
    },
    id::UserId,
    idempotency,
    money::{Currency, Money},
};
use sqlx::PgConnection;

use super::{
    Voyage, VoyageState, Wake,
    booking::{
        model::{Booking, Trigger, payment_failed_reason},
        orders::{self, RefundOutcome},
        saga::{self, Actor},
        store,
    },
    cart, events,
};

/// The handler of the group `dreamscape-voyage-service-group`.
pub fn handler(state: &VoyageState) -> impl Handler<Voyage> + use<> {
    Consumer {
        sources: state.sources.clone(),
        wake: state.wake.clone(),
    }
}

struct Consumer {
    sources: shared::Sources,
    wake: Wake,
}

/// A payment's event, as payment and others send it: much may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PaymentEvent {
    payment_id: Option<String>,
    booking_id: Option<String>,
    booking_reference: Option<String>,
    user_id: Option<String>,
    amount: Option<f64>,
    refund_amount: Option<f64>,
    total_refunded: Option<f64>,
    currency: Option<String>,
    error_code: Option<String>,
    error_message: Option<String>,
    reason: Option<String>,
    terminal: bool,
    status: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserDeleted {
    user_id: UserId,
}

#[async_trait]
impl Handler<Voyage> for Consumer {
    fn group(&self) -> &'static str {
        "dreamscape-voyage-service-group"
    }

    fn topics(&self) -> &'static [Topic] {
        &[
            Topic::PaymentCompleted,
            Topic::PaymentFailed,
            Topic::PaymentRefunded,
            Topic::PaymentInitiated,
            Topic::UserDeleted,
        ]
    }

    async fn handle(&self, tx: &mut PgConnection, topic: Topic, event: &Envelope) -> Result<(), Failure> {
        if topic == Topic::UserDeleted {
            return self.forget(tx, event).await;
        }
        let payment: PaymentEvent = event.payload()?;
        let mut booking = find(tx, &payment).await?;
        check_owner(&booking, &payment)?;
        let own = is_own_payment(&booking, &payment);
        let trigger = match topic {
            Topic::PaymentCompleted => {
                check_amount(&booking, &payment)?;
                if !own {
                    return self.second_payment(tx, &booking, &payment).await;
                }
                Trigger::Paid
            }
            Topic::PaymentFailed => {
                let message = payment.error_message.as_deref().or(payment.reason.as_deref());
                let reason = payment_failed_reason(payment.error_code.as_deref(), message);
                Trigger::PaymentFailed {
                    reason,
                    terminal: payment.terminal,
                }
            }
            Topic::PaymentRefunded => Trigger::Refunded(refunded_minor(&booking, &payment)),
            Topic::PaymentInitiated => match payment.status.as_deref() {
                Some("processing") => Trigger::Processing,
                Some("requires_action") => Trigger::ActionRequired,
                _ => return self.note_payment(tx, &booking, &payment).await,
            },
            _ => return Ok(()),
        };
        if !own {
            return Ok(());
        }
        if booking.payment_intent.is_none() {
            booking.payment_intent.clone_from(&payment.payment_id);
        }
        if let Trigger::Refunded(_) = trigger {
            let now = self.sources.now();
            orders::note_refund(tx, booking.id, RefundOutcome::Arrived(None), now).await?;
        }
        saga::drive(tx, &self.sources, &mut booking, &trigger, Actor::Payment, Some(event)).await?;
        Ok(())
    }

    async fn committed(&self, _topic: Topic, _event: &Envelope) {
        self.wake.now();
    }
}

impl Consumer {
    /// The checkout may have stopped before it could note which payment it started.
    async fn note_payment(
        &self,
        conn: &mut PgConnection,
        booking: &Booking,
        payment: &PaymentEvent,
    ) -> Result<(), Failure> {
        let (None, Some(intent), Some((cart, _))) = (&booking.payment_intent, &payment.payment_id, booking.cart) else {
            return Ok(());
        };
        if store::set_intent(conn, booking.id, intent, self.sources.now()).await? {
            let event = events::cart_checkout(&self.sources, booking, cart, intent);
            outbox::append::<Voyage>(conn, &[event]).await?;
        }
        Ok(())
    }

    /// The booking has another payment: this one must not keep its money.
    async fn second_payment(
        &self,
        conn: &mut PgConnection,
        booking: &Booking,
        payment: &PaymentEvent,
    ) -> Result<(), Failure> {
        if let Some(intent) = &payment.payment_id {
            saga::give_back_intent(conn, &self.sources, booking, intent).await?;
        }
        Ok(())
    }

    /// The account is gone: what it had in its cart, what it looked for, and who it was.
    async fn forget(&self, conn: &mut PgConnection, event: &Envelope) -> Result<(), Failure> {
        let UserDeleted { user_id } = event.payload()?;
        for mut open in store::lock_open_of_user(conn, user_id).await? {
            saga::drive(
                conn,
                &self.sources,
                &mut open,
                &Trigger::AccountDeleted,
                Actor::Account,
                Some(event),
            )
            .await?;
        }
        cart::store::delete_of(conn, &cart::model::Owner::User(user_id)).await?;
        store::erase_searches(conn, user_id).await?;
        let pseudonym = UserId(self.sources.uuid_v4());
        let bookings = store::pseudonymise(conn, user_id, pseudonym, self.sources.now()).await?;
        idempotency::erase::<Voyage>(conn, &format!("user:{user_id}"))
            .await
            .map_err(Failure::from)?;
        tracing::info!(bookings, "an account's data was erased");
        Ok(())
    }
}

/// The booking an event is about: by reference, by row id, by payment.
async fn find(conn: &mut PgConnection, payment: &PaymentEvent) -> Result<Booking, Failure> {
    let names = [payment.booking_id.as_deref(), payment.booking_reference.as_deref()];
    for name in names
        .into_iter()
        .flatten()
        .filter(|name| !name.is_empty() && !name.contains('\0'))
    {
        if let Some(booking) = store::lock(conn, name).await? {
            return Ok(booking);
        }
    }
    if let Some(intent) = payment.payment_id.as_deref().filter(|intent| !intent.contains('\0'))
        && let Some(booking) = store::lock_by_intent(conn, intent).await?
    {
        return Ok(booking);
    }
    Err(Failure::unknown("there is no such booking"))
}

fn check_owner(booking: &Booking, payment: &PaymentEvent) -> Result<(), Failure> {
    let claimed: Option<UserId> = payment.user_id.as_deref().and_then(|user| user.parse().ok());
    if claimed == Some(booking.user) {
        return Ok(());
    }
    Err(Failure::permanent("the payment is not by the booking's owner"))
}

/// Whether the event is about the payment that the booking has, or would be its first.
fn is_own_payment(booking: &Booking, payment: &PaymentEvent) -> bool {
    match (&booking.payment_intent, &payment.payment_id) {
        (Some(own), Some(told)) => own == told,
        _ => true,
    }
}

fn check_amount(booking: &Booking, payment: &PaymentEvent) -> Result<(), Failure> {
    let paid = amount_of(payment, payment.amount);
    if paid == Some(booking.total) {
        return Ok(());
    }
    Err(Failure::permanent("the amount paid is not what the booking costs"))
}

fn amount_of(payment: &PaymentEvent, major: Option<f64>) -> Option<Money> {
    let currency: Currency = payment.currency.as_deref()?.parse().ok()?;
    Money::from_major(major?, currency)
}

/// How much was given back; the topic says that it was all.
fn refunded_minor(booking: &Booking, payment: &PaymentEvent) -> i64 {
    let told = payment.total_refunded.or(payment.refund_amount).or(payment.amount);
    let amount = amount_of(payment, told).filter(|amount| amount.currency == booking.total.currency);
    amount.map_or(booking.total.minor, |amount| amount.minor)
}
