//! The mail service: a queue that the other services fill in their own transactions, workers that empty it, and the
//! consumer of mail requests.
//!
//! contract: core §9, §7 (`notification.email.requested`), §14
//!
//! It owns the schema `mail` and connects as its own role, which reads addresses from the view `auth.accounts` and
//! languages from `users.mail_readers`. Others may enqueue (`Mailer`) and nothing else. Bodies, addresses and links are
//! encrypted while they wait, wiped once sent, and never logged.

mod config;
mod consumer;
#[cfg(feature = "embedded")]
mod dev;
mod format;
mod letter;
mod queue;
mod render;
mod store;
mod transport;
mod unsubscribe;
mod words;
mod worker;

use std::sync::Arc;

use shared::{
    crypto::Cipher,
    db::{Db, Service, migrate::Migrations},
    sources::Sources,
};

pub use config::MailConfig;
pub use consumer::MailEvents;
pub use format::Locale;
pub use letter::{Amount, BookingFacts, BookingKind, Letter, Protection, Token, masked};
pub use queue::{Mailer, NewMail};
#[cfg(feature = "embedded")]
pub use transport::Mailbox;
pub use transport::{Outgoing, SendError, Transport};
pub use unsubscribe::Links as UnsubscribeLinks;
pub use worker::Worker;

/// Where mail programs post to end marketing mail; the token follows.
const UNSUBSCRIBE_PATH: &str = "/api/v1/users/unsubscribe";

/// The mail service.
#[derive(Debug, Clone, Copy)]
pub enum Mail {}

impl Service for Mail {
    const NAME: &'static str = "mail-service";
    const SCHEMA: &'static str = "mail";
}

/// The migrations of this service.
pub fn migrations() -> Migrations {
    Migrations::new::<Mail>(sqlx::migrate!("../migrations/mail"))
}

/// The service over its database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MailService {
    mailer: Mailer,
    worker: Worker,
    unsubscribe: unsubscribe::Links,
    #[cfg(feature = "embedded")]
    mailbox: Option<Mailbox>,
}

impl MailService {
    /// Over these settings. Connects to the mail server when there is something to send.
    pub fn new(config: MailConfig, db: Db<Mail>, cipher: &Cipher, sources: Sources) -> anyhow::Result<Self> {
        let mailer = Mailer::new(cipher.clone(), sources.clone(), config.is_configured());
        if !mailer.is_configured() {
            tracing::warn!("no mail will be sent: neither SENDGRID_API_KEY nor SMTP_HOST is set");
        }
        let transport = transport::of(&config)?;
        #[cfg(feature = "embedded")]
        let mailbox = matches!(config.way, config::Way::Mailbox).then(Mailbox::default);
        #[cfg(feature = "embedded")]
        let transport = transport.or_else(|| mailbox.clone().map(|mailbox| Arc::new(mailbox) as Arc<dyn Transport>));
        let worker = Worker {
            db,
            cipher: cipher.clone(),
            transport,
            config: Arc::new(config),
            sources,
        };
        Ok(Self {
            mailer,
            worker,
            unsubscribe: unsubscribe::Links::new(cipher.clone()),
            #[cfg(feature = "embedded")]
            mailbox,
        })
    }

    /// For the services that send mail.
    pub fn mailer(&self) -> Mailer {
        self.mailer.clone()
    }

    /// What empties the queue.
    pub fn worker(&self) -> Worker {
        self.worker.clone()
    }

    /// The same worker over another way out, for tests.
    pub fn worker_over(&self, transport: Arc<dyn Transport>) -> Worker {
        Worker {
            transport: Some(transport),
            ..self.worker.clone()
        }
    }

    /// What fills it from Kafka.
    pub fn events(&self) -> MailEvents {
        MailEvents::new(
            self.mailer.clone(),
            self.unsubscribe.clone(),
            self.worker.sources.clone(),
        )
    }

    /// The mailbox of development, if mail goes there.
    #[cfg(feature = "embedded")]
    pub fn mailbox(&self) -> Option<&Mailbox> {
        self.mailbox.as_ref()
    }

    /// The pages of development, if mail stays here.
    pub fn development_router(&self) -> axum::Router {
        #[cfg(feature = "embedded")]
        if let Some(mailbox) = &self.mailbox {
            return dev::routes(mailbox.clone());
        }
        axum::Router::new()
    }
}
