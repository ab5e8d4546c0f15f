//! Consumers: inbox, retries, dead letters (events §6).
//!
//! A [`Handler`] is a service's view of the events it subscribes to; the [`Consumer`] around it sees to it that every
//! event takes effect once. Each event is applied in one transaction together with its inbox row, and the offset is
//! stored after the commit: a crash in between delivers it again, and the inbox row makes that a no-op.

mod dead_letter;
mod group;
mod lane;
mod process;
mod run;

use async_trait::async_trait;
use sqlx::PgConnection;

use super::{Envelope, Topic};
use crate::db::{self, Service};

pub use run::Consumer;

/// What a service does with the events it subscribes to. One per consumer group.
#[async_trait]
pub trait Handler<S: Service>: Send + Sync + 'static {
    /// The consumer group: `dreamscape-voyage-service-group` (events §3).
    fn group(&self) -> &'static str;

    /// What it subscribes to.
    fn topics(&self) -> &'static [Topic];

    /// Whether there is anything to do. An event that does not concern this service costs no transaction and no inbox row.
    /// Must depend on the event alone, and say yes to one it does not understand: that is for [`handle`](Self::handle).
    fn concerns(&self, _topic: Topic, _event: &Envelope) -> bool {
        true
    }

    /// Applies one event in `tx`, which already holds the inbox row; the consumer commits. Must have no effect outside
    /// `tx`: the transaction may be rolled back and the event delivered again.
    async fn handle(&self, tx: &mut PgConnection, topic: Topic, event: &Envelope) -> Result<(), Failure>;

    /// Told now and then how many records wait in the partitions of this member.
    fn waiting(&self, _records: u64) {}

    /// Called after the commit, at most once per event and not at all after a crash at that moment: for hints that may
    /// be lost (cache invalidation, realtime push), never for effects.
    async fn committed(&self, _topic: Topic, _event: &Envelope) {}
}

/// Why an event could not be applied, which decides what happens to it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It will never be applicable (wrong owner, illegal transition): dead letter at once. The text goes into the dead
    /// letter, so it must not contain personal data.
    #[error("{0}")]
    Permanent(String),
    /// It may become applicable shortly (an unknown booking whose event is on its way): dead letter after three tries
    /// over about five seconds.
    #[error("{0}")]
    Unknown(String),
    /// Something we need is away: the partition waits, nothing is skipped.
    #[error("a dependency is away")]
    Transient(#[source] anyhow::Error),
}

impl Failure {
    /// Dead letter at once, for this reason.
    pub fn permanent(reason: impl Into<String>) -> Self {
        Self::Permanent(reason.into())
    }

    /// Dead letter after three tries, for this reason.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown(reason.into())
    }

    /// Wait and try again, for as long as it takes.
    pub fn transient(cause: impl Into<anyhow::Error>) -> Self {
        Self::Transient(cause.into())
    }
}

/// Database away, conflicts between transactions, and a schema that is not migrated yet: wait. Anything else is about
/// this event (a violated constraint, a value out of range): three tries.
impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        if db::is_transient(&error) || db::is_behind_the_code(&error) {
            return Self::Transient(error.into());
        }
        match &error {
            // the message of a database error can quote values; its code cannot
            sqlx::Error::Database(database) => Self::Unknown(format!(
                "the database refused the effects (SQLSTATE {})",
                database.code().as_deref().unwrap_or("unknown")
            )),
            sqlx::Error::RowNotFound => Self::Unknown("a row that the event refers to does not exist".to_owned()),
            _ => Self::Unknown("the effects could not be written".to_owned()),
        }
    }
}

/// A payload of another shape than the topic's.
impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        // the category and the place, not serde's text: that quotes values
        Self::Permanent(format!(
            "the payload does not have the topic's shape ({:?} error)",
            error.classify()
        ))
    }
}
