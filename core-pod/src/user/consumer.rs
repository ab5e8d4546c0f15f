//! What the user service does with the events of others: settings for new accounts, notifications for the rest.
//!
//! contract: core §7, events §3, §7.1 step 9. The inbox row, the notification and its own event commit together, so an
//! event makes at most one notification however often it is delivered.
//!
//! A decline is told once, by `payment.failed`: the `booking.cancelled` that the saga publishes for it (and for a draft
//! that a newer checkout replaced) makes no second notification.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::{
    events::{
        Envelope, NewEvent, Topic,
        consumer::{Failure, Handler},
        outbox,
    },
    id::{NotificationId, UserId},
    money::{Currency, Money},
    sources::{Sources, iso},
};
use sqlx::PgConnection;

use super::{
    User,
    messages::{Language, News},
    store::{self, NewNotification},
};

/// The handler of `dreamscape-user-service-group`.
#[derive(Debug, Clone)]
pub struct UserEvents {
    sources: Sources,
}

impl UserEvents {
    /// With this clock.
    pub fn new(sources: Sources) -> Self {
        Self { sources }
    }

    /// Stores a notification for `user` and publishes that it exists. An account that is gone gets none.
    async fn notify(
        &self,
        tx: &mut PgConnection,
        user: UserId,
        news: &News<'_>,
        metadata: serde_json::Value,
        cause: &Envelope,
    ) -> Result<(), Failure> {
        let Some(language) = store::find_reader(tx, user).await? else {
            tracing::info!(%user, "no notification: there is no such account");
            return Ok(());
        };
        let (title, message) = news.words(Language::of(language.as_deref()));
        let id: NotificationId = self.sources.id();
        let now = self.sources.now();
        let new = NewNotification {
            id,
            user,
            kind: news.kind(),
            title,
            message: &message,
            metadata,
            now,
        };
        store::insert_notification(tx, &new).await?;
        let created = InAppCreated {
            notification_id: id,
            user_id: user,
            kind: news.kind().as_str(),
            title,
            message: &message,
            created_at: now,
        };
        let event = NewEvent::new::<User>(&self.sources, Topic::NotificationInappCreated, user, &created);
        outbox::append::<User>(tx, &[event.caused_by(cause)]).await?;
        Ok(())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InAppCreated<'a> {
    notification_id: NotificationId,
    user_id: UserId,
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'a str,
    message: &'a str,
    #[serde(with = "iso")]
    created_at: DateTime<Utc>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserCreated {
    user_id: UserId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionEnded {
    user_id: UserId,
    session_id: String,
    reason: Option<String>,
}

/// `payment.completed` and `payment.failed`; `bookingId` is the booking's reference.
#[expect(clippy::struct_field_names, reason = "the names of the contract")]
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payment {
    payment_id: String,
    booking_id: String,
    user_id: UserId,
    amount: f64,
    currency: Currency,
    error_code: Option<String>,
}

#[expect(clippy::struct_field_names, reason = "the names of the contract")]
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refund {
    payment_id: String,
    booking_id: String,
    user_id: UserId,
    refund_amount: Option<f64>,
    /// The same under the name the original used.
    amount: Option<f64>,
    currency: Currency,
    refund_id: Option<String>,
}

#[expect(clippy::struct_field_names, reason = "the names of the contract")]
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Booking {
    booking_id: String,
    user_id: UserId,
    reason: Option<String>,
}

#[async_trait]
impl Handler<User> for UserEvents {
    fn group(&self) -> &'static str {
        "dreamscape-user-service-group"
    }

    fn topics(&self) -> &'static [Topic] {
        &[
            Topic::UserCreated,
            Topic::AuthLogout,
            Topic::PaymentCompleted,
            Topic::PaymentFailed,
            Topic::PaymentRefunded,
            Topic::PaymentPartialRefund,
            Topic::VoyageBookingConfirmed,
            Topic::VoyageBookingCancelled,
        ]
    }

    async fn handle(&self, tx: &mut PgConnection, topic: Topic, event: &Envelope) -> Result<(), Failure> {
        match topic {
            Topic::UserCreated => {
                let created: UserCreated = event.payload()?;
                store::ensure_settings(tx, created.user_id, self.sources.now()).await?;
                Ok(())
            }
            Topic::AuthLogout => {
                let ended: SessionEnded = event.payload()?;
                if ended.reason.as_deref() != Some("forced") {
                    return Ok(());
                }
                let metadata = serde_json::json!({ "sessionId": ended.session_id });
                self.notify(tx, ended.user_id, &News::SessionStolen, metadata, event)
                    .await
            }
            Topic::PaymentCompleted | Topic::PaymentFailed => {
                let payment: Payment = event.payload()?;
                if payment.error_code.as_deref() == Some("payment_canceled") {
                    return Ok(());
                }
                let amount = money(payment.amount, payment.currency)?;
                let booking = payment.booking_id.as_str();
                let news = if topic == Topic::PaymentCompleted {
                    News::PaymentReceived { amount, booking }
                } else {
                    News::PaymentFailed { amount, booking }
                };
                let metadata = serde_json::json!({ "paymentId": payment.payment_id, "bookingId": booking });
                self.notify(tx, payment.user_id, &news, metadata, event).await
            }
            Topic::PaymentRefunded | Topic::PaymentPartialRefund => {
                let refund: Refund = event.payload()?;
                let major = refund
                    .refund_amount
                    .or(refund.amount)
                    .ok_or_else(|| Failure::permanent("the refund names no amount"))?;
                let booking = refund.booking_id.as_str();
                let news = News::RefundProcessed {
                    amount: money(major, refund.currency)?,
                    booking,
                };
                let metadata = serde_json::json!({
                    "paymentId": refund.payment_id, "bookingId": booking, "refundId": refund.refund_id,
                });
                self.notify(tx, refund.user_id, &news, metadata, event).await
            }
            Topic::VoyageBookingConfirmed => {
                let confirmed: Booking = event.payload()?;
                let booking = confirmed.booking_id.as_str();
                let metadata = serde_json::json!({ "bookingId": booking });
                self.notify(
                    tx,
                    confirmed.user_id,
                    &News::BookingConfirmed { booking },
                    metadata,
                    event,
                )
                .await
            }
            Topic::VoyageBookingCancelled => {
                let cancelled: Booking = event.payload()?;
                let reason = cancelled.reason.as_deref().unwrap_or_default();
                if reason.starts_with("payment_failed") || reason == "superseded" {
                    return Ok(());
                }
                let booking = cancelled.booking_id.as_str();
                let metadata = serde_json::json!({ "bookingId": booking });
                self.notify(
                    tx,
                    cancelled.user_id,
                    &News::BookingCancelled { booking },
                    metadata,
                    event,
                )
                .await
            }
            other => Err(Failure::permanent(format!("nothing is done with {}", other.name()))),
        }
    }
}

fn money(major: f64, currency: Currency) -> Result<Money, Failure> {
    Money::from_major(major, currency).ok_or_else(|| Failure::permanent("the amount is not an amount of its currency"))
}
