//! The ways out: SendGrid, SMTP, and in development a mailbox. Each takes a finished mail and says what became of it.
//!
//! contract: core §9 (provider trait)

#[cfg(feature = "embedded")]
mod mailbox;
mod sendgrid;
mod smtp;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::config::{MailConfig, Sender, Way};

#[cfg(feature = "embedded")]
pub use mailbox::Mailbox;
pub use {sendgrid::SendGrid, smtp::Smtp};

/// A mail as it leaves. Personal, so `Debug` masks it.
#[derive(Clone)]
pub struct Outgoing {
    /// `<id@domain>`, the same for every attempt.
    pub message_id: String,
    /// Who it is from.
    pub from: Sender,
    /// Who it is for.
    pub to: String,
    /// One line.
    pub subject: String,
    /// For programs that show no HTML.
    pub text: String,
    /// For the others.
    pub html: String,
    /// Where one click ends such mails (RFC 8058), for marketing only.
    pub unsubscribe: Option<String>,
    /// Which template it was written from.
    pub template: String,
    /// When it was written.
    pub date: DateTime<Utc>,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("message_id", &self.message_id)
            .field("template", &self.template)
            .finish_non_exhaustive()
    }
}

/// Why a mail did not leave. The reason is a class such as `smtp 550`, never a provider's text: that quotes addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Trying again is right, not before this time if one was named.
    #[error("{reason}")]
    Later {
        /// Why.
        reason: String,
        /// What the other side asked for.
        after: Option<Duration>,
    },
    /// It will never be taken.
    #[error("{0}")]
    Never(String),
}

impl SendError {
    /// Trying again is right.
    pub fn later(reason: impl Into<String>) -> Self {
        Self::Later {
            reason: reason.into(),
            after: None,
        }
    }
}

/// A way out.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// For metrics.
    fn name(&self) -> &'static str;

    /// Hands the mail over. `Ok` once the other side has taken responsibility for it.
    async fn send(&self, mail: &Outgoing) -> Result<(), SendError>;
}

/// The way out of these settings; `None` if there is none.
pub fn of(config: &MailConfig) -> anyhow::Result<Option<Arc<dyn Transport>>> {
    Ok(match &config.way {
        Way::SendGrid(sendgrid) => Some(Arc::new(SendGrid::new(sendgrid)?)),
        Way::Smtp(smtp) => Some(Arc::new(Smtp::new(smtp)?)),
        #[cfg(feature = "embedded")]
        Way::Mailbox => None,
        Way::Nowhere => None,
    })
}
