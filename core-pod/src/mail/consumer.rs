//! The consumer of `notification.email.requested`: one mail per event.
//!
//! contract: core §5.8, §7 (group `dreamscape-notification-service-group`), events §5 (union payload). Preferences were
//! applied by whoever published the event; nothing is asked here but where the mail goes. The inbox row and the queued
//! mail commit together. `user.deleted` empties the queue of what waits for the account.
//!
//! The letter is named by `templateId`, else follows from `type`; its variables stand in `variables` or `metadata`:
//!
//! | `templateId` | `type` | variables |
//! |---|---|---|
//! | `booking-confirmed` | BOOKING_CONFIRMED | `bookingReference` or `bookingId`, `bookingType?`, `destination?` or `destinations?`, `totalAmount?` or `amount?` with `currency` |
//! | `booking-cancelled` | BOOKING_CANCELLED | the same |
//! | `payment-received`, `payment-failed` | PAYMENT_RECEIVED, PAYMENT_FAILED | the same |
//! | `refund-processed` | REFUND_PROCESSED | the same, `refundAmount?` |
//! | `new-device` | – | `sessionId`, `loginAt`, `userAgent?` or `device?`, `ipAddress?`; the "not me" link is made here |
//! | `session-closed` | – | `at?` |
//! | `password-changed` | – | `changedAt?` |
//! | `account-locked`, `account-suspended` | – | `unlockAt?`, – |
//! | `recovery-code-used` | – | `at?`, `remaining` |
//! | `export-ready`, `deletion-scheduled`, `deletion-done` | – | `expiresAt?`, `executeAfter`, – |
//! | none of these | PROMO_OFFER | title and message, with a link to unsubscribe |
//! | none of these | any other | title and message |

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use shared::{
    events::{
        Envelope, Topic,
        consumer::{Failure, Handler},
    },
    id::{SessionId, UserId},
    money::{Currency, Money},
    sources::Sources,
};
use sqlx::PgConnection;

use super::{
    Mail,
    letter::{BookingFacts, BookingKind, Letter, Token},
    queue::{Mailer, NewMail},
    store, unsubscribe,
};

/// How long a "not me" link works.
const REVOCATION_LIFE: TimeDelta = TimeDelta::days(7);

/// The handler of `dreamscape-notification-service-group`.
#[derive(Debug, Clone)]
pub struct MailEvents {
    mailer: Mailer,
    unsubscribe: unsubscribe::Links,
    sources: Sources,
}

/// `notification.email.requested`: what the original emits, and what it declares.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EmailRequested {
    user_id: UserId,
    #[serde(default)]
    template_id: Option<String>,
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    variables: Option<Map<String, Value>>,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
    #[serde(default)]
    requested_at: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserDeleted {
    user_id: UserId,
}

impl MailEvents {
    /// With this queue.
    pub fn new(mailer: Mailer, unsubscribe: unsubscribe::Links, sources: Sources) -> Self {
        Self {
            mailer,
            unsubscribe,
            sources,
        }
    }

    async fn email_requested(&self, tx: &mut PgConnection, event: &Envelope) -> Result<(), Failure> {
        let requested: EmailRequested = event.payload()?;
        let user = requested.user_id;
        let Some(addressee) = store::find_addressee(tx, user).await? else {
            tracing::info!(%user, "no mail: there is no such account");
            return Ok(());
        };
        let letter = self.letter(tx, &requested).await?;
        let mail = NewMail::new(format!("event:{}", event.event_id), addressee.address, letter)
            .for_user(user)
            .greeting(addressee.first_name.as_deref());
        self.mailer.enqueue(tx, &mail).await?;
        Ok(())
    }

    async fn letter(&self, tx: &mut PgConnection, requested: &EmailRequested) -> Result<Letter, Failure> {
        let variables = Variables(requested);
        let template = requested.template_id.as_deref().unwrap_or_default();
        let now = requested.requested_at.unwrap_or_else(|| self.sources.now());
        let at = |names: &[&str]| variables.instant(names).unwrap_or(now);
        Ok(match (template, requested.kind.as_deref().unwrap_or_default()) {
            ("new-device", _) => {
                let token = self.not_me(tx, requested.user_id, &variables).await?;
                Letter::NewDevice {
                    at: at(&["loginAt", "at"]),
                    device: variables.text(&["device", "userAgent"]),
                    ip_address: variables.text(&["ipAddress"]),
                    token,
                }
            }
            ("session-closed", _) => Letter::SessionClosed {
                at: at(&["at", "logoutAt"]),
            },
            ("password-changed", _) => Letter::PasswordChanged {
                at: at(&["changedAt", "at"]),
            },
            ("account-locked", _) => Letter::AccountLocked {
                until: variables.instant(&["unlockAt"]),
            },
            ("account-suspended", _) => Letter::AccountLocked { until: None },
            ("recovery-code-used", _) => Letter::RecoveryCodeUsed {
                at: at(&["at"]),
                remaining: variables.count(&["remaining"]),
            },
            ("export-ready", _) => Letter::ExportReady {
                until: variables.instant(&["expiresAt"]),
            },
            ("deletion-scheduled", _) => Letter::DeletionScheduled {
                at: at(&["executeAfter", "at"]),
            },
            ("deletion-done", _) => Letter::DeletionDone,
            ("booking-confirmed", _) | ("", "BOOKING_CONFIRMED") => Letter::BookingConfirmed(variables.booking()?),
            ("booking-cancelled", _) | ("", "BOOKING_CANCELLED") => Letter::BookingCancelled(variables.booking()?),
            ("payment-received", _) | ("", "PAYMENT_RECEIVED") => Letter::PaymentReceived(variables.booking()?),
            ("payment-failed", _) | ("", "PAYMENT_FAILED") => Letter::PaymentFailed(variables.booking()?),
            ("refund-processed", _) | ("", "REFUND_PROCESSED") => Letter::RefundProcessed(variables.booking()?),
            (_, "PROMO_OFFER") => Letter::Promotion {
                title: requested.heading()?,
                message: requested.message.clone().unwrap_or_default(),
                unsubscribe: self.unsubscribe.token(requested.user_id).map_err(Failure::transient)?,
            },
            // a template nobody has written still has a title and a text
            _ => Letter::Notification {
                title: requested.heading()?,
                message: requested.message.clone().unwrap_or_default(),
            },
        })
    }

    /// A token that ends the session the mail is about; none if the session is not this account's or already forgotten.
    async fn not_me(
        &self,
        tx: &mut PgConnection,
        user: UserId,
        variables: &Variables<'_>,
    ) -> Result<Option<Token>, Failure> {
        let Some(session) = variables
            .text(&["sessionId"])
            .and_then(|id| id.parse::<SessionId>().ok())
        else {
            return Ok(None);
        };
        let (id, secret, now) = (self.sources.uuid_v7(), self.sources.secret(), self.sources.now());
        let digest = Sha256::digest(secret.as_bytes());
        let issued =
            store::issue_session_revocation(tx, id, user, session, &digest, now, now + REVOCATION_LIFE).await?;
        Ok(issued.then(|| Token::new(secret)))
    }
}

impl EmailRequested {
    fn heading(&self) -> Result<String, Failure> {
        let heading = self.title.as_ref().or(self.subject.as_ref());
        heading
            .cloned()
            .ok_or_else(|| Failure::permanent("the request has neither a known template nor a title"))
    }
}

/// The variables of a request, wherever they stand.
struct Variables<'a>(&'a EmailRequested);

impl Variables<'_> {
    fn find(&self, names: &[&str]) -> Option<&Value> {
        let places = [self.0.variables.as_ref(), self.0.metadata.as_ref()];
        let places = places.into_iter().flatten();
        places
            .flat_map(|place| names.iter().filter_map(|name| place.get(*name)))
            .find(|value| !value.is_null())
    }

    fn text(&self, names: &[&str]) -> Option<String> {
        self.find(names)?.as_str().map(str::to_owned)
    }

    /// The first few texts of a list, as one.
    fn list(&self, name: &str) -> Option<String> {
        let texts = self.find(&[name])?.as_array()?.iter().filter_map(Value::as_str);
        let joined = texts.take(3).collect::<Vec<_>>().join(", ");
        (!joined.is_empty()).then_some(joined)
    }

    fn instant(&self, names: &[&str]) -> Option<DateTime<Utc>> {
        let text = self.find(names)?.as_str()?;
        DateTime::parse_from_rfc3339(text).ok().map(|instant| instant.to_utc())
    }

    fn count(&self, names: &[&str]) -> u32 {
        let count = self.find(names).and_then(Value::as_u64).unwrap_or_default();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn booking(&self) -> Result<BookingFacts, Failure> {
        let reference = self
            .text(&["bookingReference", "reference", "bookingId"])
            .ok_or_else(|| Failure::permanent("the request names no booking"))?;
        let major = self
            .find(&["refundAmount", "totalAmount", "amount"])
            .and_then(Value::as_f64);
        let currency = self.text(&["currency"]).and_then(|code| code.parse::<Currency>().ok());
        Ok(BookingFacts {
            reference,
            kind: self
                .text(&["bookingType"])
                .and_then(|name| BookingKind::from_name(&name)),
            destination: self.text(&["destination"]).or_else(|| self.list("destinations")),
            amount: major
                .zip(currency)
                .and_then(|(major, currency)| Money::from_major(major, currency))
                .map(Into::into),
        })
    }
}

#[async_trait]
impl Handler<Mail> for MailEvents {
    fn group(&self) -> &'static str {
        "dreamscape-notification-service-group"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::NotificationEmailRequested, Topic::UserDeleted]
    }

    async fn handle(&self, tx: &mut PgConnection, topic: Topic, event: &Envelope) -> Result<(), Failure> {
        match topic {
            Topic::NotificationEmailRequested => self.email_requested(tx, event).await,
            Topic::UserDeleted => {
                let deleted: UserDeleted = event.payload()?;
                store::forget_user(tx, deleted.user_id).await?;
                Ok(())
            }
            other => Err(Failure::permanent(format!("nothing is done with {}", other.name()))),
        }
    }
}
