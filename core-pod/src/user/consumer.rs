//! What the user service does with the events of others: settings for new accounts, notifications for the rest.
//!
//! contract: core §2.4, §2.6, §4.5, §7, events §3, §7.1 step 9. The inbox row, the notification and its own events commit
//! together, so an event makes at most one notification however often it is delivered.
//!
//! A decline is told once, by `payment.failed`: the `booking.cancelled` that the saga publishes for it (and for a draft
//! that a newer checkout replaced) makes no second notification.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    events::{
        Envelope, Topic,
        consumer::{Failure, Handler},
    },
    id::UserId,
    money::{Currency, Money},
    sources::Sources,
};
use sqlx::PgConnection;

use super::{
    Notifications, User, gdpr,
    notifications::{self, Created, Draft, News, Text},
    onboarding, store,
};

/// What of a booking goes into the metadata of its notification, if the event has it.
const TOLD_OF_BOOKINGS: [&str; 5] = ["bookingType", "totalAmount", "refundAmount", "currency", "destinations"];
/// What of a browser's name is kept and shown.
const MAX_PROGRAM: usize = 120;

/// The handler of `dreamscape-user-service-group`.
#[derive(Debug, Clone)]
pub struct UserEvents {
    notifications: Notifications,
    sources: Sources,
}

impl UserEvents {
    /// Over the pipeline of notifications.
    pub fn new(notifications: Notifications, sources: Sources) -> Self {
        Self { notifications, sources }
    }

    /// Makes a notification for `user`. An account that is gone gets none.
    async fn notify(
        &self,
        tx: &mut PgConnection,
        user: UserId,
        news: &News<'_>,
        metadata: Value,
        cause: &Envelope,
    ) -> Result<(), Failure> {
        let draft = Draft {
            user,
            text: Text::News(news),
            metadata: Some(metadata),
            cause: Some(cause),
        };
        if let Created::Nobody = self.notifications.create(tx, &draft).await? {
            tracing::info!(%user, "no notification: there is no such account");
        }
        Ok(())
    }

    async fn account(&self, tx: &mut PgConnection, topic: Topic, event: &Envelope) -> Result<(), Failure> {
        let account: Account = event.payload()?;
        let user = account.user_id;
        if topic == Topic::UserCreated {
            if store::ensure_settings(tx, user, self.sources.now()).await? {
                gdpr::consent::ensure(tx, user, &self.sources).await?;
            }
            return Ok(());
        }
        // what the erasure did not reach: rows that were made while it went on
        notifications::erase(tx, user).await?;
        onboarding::erase(tx, user).await?;
        Ok(())
    }

    /// What the owner of an account must hear about its safety (core §14).
    async fn security(&self, tx: &mut PgConnection, topic: Topic, event: &Envelope) -> Result<(), Failure> {
        let told: Security = event.payload()?;
        let program: String = told
            .user_agent
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_PROGRAM)
            .collect();
        let address = told.ip_address.as_str();
        let session = json!({ "sessionId": told.session_id });
        let (news, metadata) = match topic {
            Topic::AuthLogin if told.new_device => {
                let metadata = json!({ "sessionId": told.session_id, "ipAddress": address, "userAgent": program });
                let program = program.as_str();
                (News::NewDevice { program, address }, metadata)
            }
            Topic::AuthLogout if told.reason.as_deref() == Some("forced") => (News::SessionStolen, session),
            Topic::AuthPasswordChanged => (News::PasswordChanged, json!({ "method": told.method })),
            Topic::AuthAccountLocked => {
                let news = match told.reason.as_deref() {
                    Some("admin_action") => News::AccountSuspended,
                    _ => News::AccountLocked { until: told.unlock_at },
                };
                (news, json!({ "reason": told.reason }))
            }
            _ => return Ok(()),
        };
        self.notify(tx, told.user_id, &news, metadata, event).await
    }

    async fn payment(&self, tx: &mut PgConnection, topic: Topic, event: &Envelope) -> Result<(), Failure> {
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
        let metadata = json!({ "paymentId": payment.payment_id, "bookingId": booking });
        self.notify(tx, payment.user_id, &news, metadata, event).await
    }

    async fn refund(&self, tx: &mut PgConnection, event: &Envelope) -> Result<(), Failure> {
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
        let metadata = json!({
            "paymentId": refund.payment_id, "bookingId": booking, "refundId": refund.refund_id,
        });
        self.notify(tx, refund.user_id, &news, metadata, event).await
    }

    async fn booking(&self, tx: &mut PgConnection, topic: Topic, event: &Envelope) -> Result<(), Failure> {
        let told: Booking = event.payload()?;
        let booking = told.booking_id.as_str();
        let news = if topic == Topic::VoyageBookingConfirmed {
            News::BookingConfirmed { booking }
        } else {
            let reason = told.reason.as_deref().unwrap_or_default();
            if reason.starts_with("payment_failed") || reason == "superseded" {
                return Ok(());
            }
            News::BookingCancelled { booking }
        };
        let mut metadata = json!({ "bookingId": booking });
        if let Some(metadata) = metadata.as_object_mut() {
            // what the mail tells beside the reference (core §9)
            let known = TOLD_OF_BOOKINGS
                .iter()
                .filter_map(|name| Some((*name, event.payload.get(*name)?)));
            metadata.extend(known.map(|(name, value)| (name.to_owned(), value.clone())));
        }
        self.notify(tx, told.user_id, &news, metadata, event).await
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Account {
    user_id: UserId,
}

/// `auth.login`, `auth.logout`, `auth.password.changed` and `auth.account.locked`, as far as they matter here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Security {
    user_id: UserId,
    session_id: Option<String>,
    reason: Option<String>,
    method: Option<String>,
    #[serde(default)]
    new_device: bool,
    #[serde(default)]
    ip_address: String,
    #[serde(default)]
    user_agent: String,
    unlock_at: Option<DateTime<Utc>>,
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
            Topic::UserDeleted,
            Topic::AuthLogin,
            Topic::AuthLogout,
            Topic::AuthPasswordChanged,
            Topic::AuthAccountLocked,
            Topic::PaymentCompleted,
            Topic::PaymentFailed,
            Topic::PaymentRefunded,
            Topic::PaymentPartialRefund,
            Topic::VoyageBookingConfirmed,
            Topic::VoyageBookingCancelled,
        ]
    }

    fn concerns(&self, topic: Topic, event: &Envelope) -> bool {
        // the two that come with every visit, and say something to the owner of an account once in a while
        if !matches!(topic, Topic::AuthLogin | Topic::AuthLogout) {
            return true;
        }
        event.payload().map_or(true, |told: Security| {
            told.new_device || told.reason.as_deref() == Some("forced")
        })
    }

    async fn handle(&self, tx: &mut PgConnection, topic: Topic, event: &Envelope) -> Result<(), Failure> {
        match topic {
            Topic::UserCreated | Topic::UserDeleted => self.account(tx, topic, event).await,
            Topic::AuthLogin | Topic::AuthLogout | Topic::AuthPasswordChanged | Topic::AuthAccountLocked => {
                self.security(tx, topic, event).await
            }
            Topic::PaymentCompleted | Topic::PaymentFailed => self.payment(tx, topic, event).await,
            Topic::PaymentRefunded | Topic::PaymentPartialRefund => self.refund(tx, event).await,
            Topic::VoyageBookingConfirmed | Topic::VoyageBookingCancelled => self.booking(tx, topic, event).await,
            other => Err(Failure::permanent(format!("nothing is done with {}", other.name()))),
        }
    }

    async fn committed(&self, _topic: Topic, _event: &Envelope) {
        self.notifications.wake();
    }
}

fn money(major: f64, currency: Currency) -> Result<Money, Failure> {
    Money::from_major(major, currency).ok_or_else(|| Failure::permanent("the amount is not an amount of its currency"))
}
