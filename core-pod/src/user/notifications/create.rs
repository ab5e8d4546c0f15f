//! The one way to make a notification: preferences, row, events, push, all in the caller's transaction.
//!
//! contract: core §5.8 (creation pipeline), §5.9 (channels), §7 (events); docs/decisions/0052

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use shared::{
    events::{Envelope, NewEvent, Topic, outbox},
    id::{NotificationId, UserId},
    sources::iso,
};
use sqlx::PgConnection;

use super::{
    Notifications, User,
    messages::{Language, News},
    model::{Kind, Notification},
    preferences::{Channels, Preferences},
    store,
};

/// The template of mail for what has no template of its own: title and message as they are.
const PLAIN_TEMPLATE: &str = "notification";

/// What a notification says.
#[derive(Debug, Clone, Copy)]
pub enum Text<'a> {
    /// Something we have words for, in the reader's language.
    News(&'a News<'a>),
    /// Words that somebody else chose.
    Given {
        /// What it is about.
        kind: Kind,
        /// At most 200 characters.
        title: &'a str,
        /// At most 2,000 characters.
        message: &'a str,
    },
}

/// A notification to be made.
#[derive(Debug, Clone)]
pub struct Draft<'a> {
    /// Whom it is for.
    pub user: UserId,
    /// What it says.
    pub text: Text<'a>,
    /// What the client may want to link to.
    pub metadata: Option<Value>,
    /// The event it reacts to, if it does.
    pub cause: Option<&'a Envelope>,
}

/// What became of a draft.
#[derive(Debug, Clone)]
pub enum Created {
    /// There is no such account.
    Nobody,
    /// The traveller does not want to see it in the application; a mail may have been asked for.
    Unseen,
    /// It is stored. Open sockets are told after the commit.
    Stored(Notification),
}

impl Notifications {
    /// Makes a notification in `tx`. Call [`Notifications::wake`] after the commit.
    ///
    /// Preferences, language, consent and the account itself are read in one statement of the same transaction.
    pub async fn create(&self, tx: &mut PgConnection, draft: &Draft<'_>) -> sqlx::Result<Created> {
        let Some(reader) = store::find_reader(tx, draft.user).await? else {
            return Ok(Created::Nobody);
        };
        let language = Language::of(reader.language.as_deref());
        let told = Told::new(draft, language);
        let channels = channels(&reader, told.kind);
        let (id, now): (NotificationId, _) = (self.sources.id(), self.sources.now());
        let stored = if channels.in_app {
            Some(store::insert(tx, id, draft.user, &told, draft.metadata.as_ref(), now).await?)
        } else {
            None
        };
        let mut events = Vec::new();
        if let Some(stored) = &stored {
            events.push(self.event(draft, Topic::NotificationInappCreated, &InAppCreated::of(stored)));
        }
        if channels.email {
            let request = told.mail(draft, stored.as_ref().map(|_| id), language, now);
            events.push(self.event(draft, Topic::NotificationEmailRequested, &request));
        }
        outbox::append::<User>(tx, &events).await?;
        Ok(stored.map_or(Created::Unseen, Created::Stored))
    }

    fn event(&self, draft: &Draft<'_>, topic: Topic, payload: &impl Serialize) -> NewEvent {
        let event = NewEvent::new::<User>(&self.sources, topic, draft.user, payload);
        match draft.cause {
            Some(cause) => event.caused_by(cause),
            None => event,
        }
    }
}

/// Where it goes: preferences, and for offers by mail also the consent to marketing.
fn channels(reader: &store::Reader, kind: Kind) -> Channels {
    let mut channels = Preferences::stored(reader.preferences.as_ref()).of(kind);
    if kind == Kind::PromoOffer {
        channels.email &= reader.marketing;
    }
    channels
}

/// A draft in the words of its reader.
pub struct Told<'a> {
    pub kind: Kind,
    pub title: &'a str,
    pub message: String,
    template: &'static str,
    variables: Value,
}

impl<'a> Told<'a> {
    fn new(draft: &Draft<'a>, language: Language) -> Self {
        match draft.text {
            Text::News(news) => {
                let (title, message) = news.words(language);
                Self {
                    kind: news.kind(),
                    title,
                    message,
                    template: news.template(),
                    variables: news.variables(),
                }
            }
            Text::Given { kind, title, message } => Self {
                kind,
                title,
                message: message.to_owned(),
                template: PLAIN_TEMPLATE,
                variables: json!({}),
            },
        }
    }

    fn mail<'m>(
        &'m self,
        draft: &'m Draft<'_>,
        notification_id: Option<NotificationId>,
        language: Language,
        now: DateTime<Utc>,
    ) -> EmailRequested<'m> {
        EmailRequested {
            notification_id,
            user_id: draft.user,
            kind: self.kind.as_str(),
            title: self.title,
            message: &self.message,
            metadata: draft.metadata.as_ref(),
            template_id: self.template,
            subject: self.title,
            variables: &self.variables,
            locale: language.code(),
            priority: self.kind.priority(),
            requested_at: now,
        }
    }
}

/// `notification.inapp.created` (events §5).
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

impl<'a> InAppCreated<'a> {
    fn of(stored: &'a Notification) -> Self {
        Self {
            notification_id: stored.id,
            user_id: stored.user_id,
            kind: stored.kind.as_str(),
            title: &stored.title,
            message: &stored.message,
            created_at: stored.created_at,
        }
    }
}

/// `notification.email.requested`: what the original sends and what its type declares (core §7). The address is missing on
/// purpose: the sender looks it up when it sends, so that it is not on the bus and not out of date.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EmailRequested<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    notification_id: Option<NotificationId>,
    user_id: UserId,
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Value>,
    template_id: &'static str,
    subject: &'a str,
    variables: &'a Value,
    locale: &'static str,
    priority: &'static str,
    #[serde(with = "iso")]
    requested_at: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offers_by_mail_need_a_preference_and_the_consent_to_marketing() {
        let wants = json!({ "promo_offer": { "inApp": true, "email": true } });
        for (preferences, marketing, email) in [
            (None, true, false),
            (Some(wants.clone()), false, false),
            (Some(wants), true, true),
        ] {
            let reader = store::Reader {
                language: None,
                preferences,
                marketing,
            };
            assert_eq!(channels(&reader, Kind::PromoOffer).email, email);
            assert!(channels(&reader, Kind::PromoOffer).in_app);
            assert_eq!(channels(&reader, Kind::AccountSecurity), Channels::ALL);
        }
    }
}
