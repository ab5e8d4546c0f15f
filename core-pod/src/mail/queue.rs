//! Enqueueing: a mail becomes a row in the transaction of the change it tells of.
//!
//! contract: core §9. Any service of this database may do it, through a function of the database: it can add to the queue
//! and nothing else.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use shared::{crypto::Cipher, id::UserId, sources::Sources};
use sqlx::PgConnection;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{format::Locale, letter::Letter};

/// A letter that says nothing else is of no use after this time.
const USEFUL_FOR: TimeDelta = TimeDelta::days(3);

/// A mail to be enqueued.
#[derive(Clone)]
pub struct NewMail {
    key: String,
    user: Option<UserId>,
    sealed: Sealed,
}

/// What the queue keeps encrypted.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Sealed {
    pub to: String,
    pub name: Option<String>,
    pub locale: Option<Locale>,
    pub letter: Letter,
}

impl fmt::Debug for NewMail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewMail")
            .field("letter", &self.sealed.letter)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl NewMail {
    /// A letter to an address. Of several mails with one `key` the first is sent: derive it from what happened
    /// (`auth.reset:<token id>`), and name no address in it.
    pub fn new(key: impl Into<String>, to: impl Into<String>, letter: Letter) -> Self {
        Self {
            key: key.into(),
            user: None,
            sealed: Sealed {
                to: to.into(),
                name: None,
                locale: None,
                letter,
            },
        }
    }

    /// Whose mail it is: their language and time zone are used, unless [`NewMail::in_language`] says otherwise.
    #[must_use]
    pub fn for_user(mut self, user: UserId) -> Self {
        self.user = Some(user);
        self
    }

    /// Whom to greet.
    #[must_use]
    pub fn greeting(mut self, first_name: Option<&str>) -> Self {
        self.sealed.name = first_name.map(str::to_owned);
        self
    }

    /// For a reader whose settings will be gone by the time the mail is written.
    #[must_use]
    pub fn in_language(mut self, locale: Locale) -> Self {
        self.sealed.locale = Some(locale);
        self
    }
}

/// Puts mails into the queue. Cheap to clone; in the state of every service that sends mail.
#[derive(Debug, Clone)]
pub struct Mailer {
    cipher: Cipher,
    sources: Sources,
    configured: bool,
}

impl Mailer {
    /// `configured`: whether mail leaves this platform at all.
    pub fn new(cipher: Cipher, sources: Sources, configured: bool) -> Self {
        Self {
            cipher,
            sources,
            configured,
        }
    }

    /// Whether mail leaves this platform. Enqueueing works either way.
    pub fn is_configured(&self) -> bool {
        self.configured
    }

    /// Adds a mail to the queue in the caller's transaction. `false` if there was one of this key already.
    pub async fn enqueue(&self, conn: &mut PgConnection, mail: &NewMail) -> sqlx::Result<bool> {
        let id = self.sources.uuid_v7();
        let now = self.sources.now();
        let encode = |error: anyhow::Error| sqlx::Error::Encode(error.into());
        let plain = serde_json::to_vec(&mail.sealed).map_err(|error| encode(error.into()))?;
        let plain = Zeroizing::new(plain);
        let sealed = self
            .cipher
            .seal(&context(id), &plain)
            .map_err(|error| encode(error.into()))?;
        let letter = &mail.sealed.letter;
        let not_after: DateTime<Utc> = letter.useless_after().unwrap_or(now + USEFUL_FOR);
        sqlx::query_scalar!(
            r#"select mail.enqueue($1, $2, $3, $4, $5, $6, $7) as "added!""#,
            id,
            mail.key,
            mail.user as Option<UserId>,
            letter.template(),
            sealed,
            not_after,
            now,
        )
        .fetch_one(conn)
        .await
    }
}

/// What the value of a row is bound to: copied into another row it does not open.
pub(super) fn context(id: Uuid) -> String {
    format!("mail.messages:{id}")
}
