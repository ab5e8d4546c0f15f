//! The worker: takes mails from the queue, writes them and hands them to the way out.
//!
//! contract: core §9 (retry with back-off). Every replica runs one. A claim is a lease: a worker that is killed between
//! claiming and marking leaves a mail that is due again a minute later, under the same Message-ID. At least once, then,
//! and recognisable.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use futures_util::StreamExt as _;
use shared::{
    crypto::{Cipher, CryptoError},
    db::Db,
    lifecycle::Shutdown,
    sources::Sources,
};
use sqlx::postgres::PgListener;
use tokio::time::MissedTickBehavior;

use super::{
    Mail,
    config::MailConfig,
    format::Locale,
    queue::{self, Sealed},
    render::{self, Setting},
    store::{self, Claimed},
    transport::{Outgoing, SendError, Transport},
};

/// Mails claimed, and sent, at once.
const BATCH: i64 = 8;
/// One attempt takes no longer than this, whatever the way out does.
const ATTEMPT: Duration = Duration::from_secs(40);
/// A claim; longer than an attempt, so that two workers never hold one mail.
const LEASE: TimeDelta = TimeDelta::seconds(60);
/// Attempts before a mail is given up: about half a day.
const MAX_ATTEMPTS: i32 = 24;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// A look at the queue without having been woken.
const POLL: Duration = Duration::from_secs(2);
const MEASURE_EVERY: Duration = Duration::from_secs(15);
const TIDY_EVERY: Duration = Duration::from_mins(10);
/// Content of given-up mails, for an operator who repairs the way out and sets them pending again.
const KEEP_DEAD: TimeDelta = TimeDelta::days(7);
/// Rows without content: what was sent when.
const KEEP_ROWS: TimeDelta = TimeDelta::days(30);
/// Longer than any topic keeps its events.
const KEEP_INBOX: TimeDelta = TimeDelta::days(45);

/// The worker. Cheap to clone.
#[derive(Clone)]
pub struct Worker {
    pub(super) db: Db<Mail>,
    pub(super) cipher: Cipher,
    pub(super) transport: Option<Arc<dyn Transport>>,
    pub(super) config: Arc<MailConfig>,
    pub(super) sources: Sources,
}

/// What became of an attempt.
enum Outcome {
    Sent,
    Later { why: String, after: Option<Duration> },
    Never { why: String },
}

impl From<SendError> for Outcome {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Later { reason, after } => Self::Later { why: reason, after },
            SendError::Never(why) => Self::Never { why },
        }
    }
}

impl Outcome {
    fn later(why: &str) -> Self {
        Self::Later {
            why: why.to_owned(),
            after: None,
        }
    }

    fn never(why: &str) -> Self {
        Self::Never { why: why.to_owned() }
    }
}

impl Worker {
    /// Attempts one batch of due mails. Gives how many there were.
    pub async fn run_once(&self) -> sqlx::Result<usize> {
        let Some(transport) = &self.transport else {
            return Ok(0);
        };
        let now = self.sources.now();
        let claimed = store::claim(self.db.pool(), now, now + LEASE, BATCH).await?;
        let count = claimed.len();
        let attempts = claimed.into_iter().map(|mail| self.attempt(transport.as_ref(), mail));
        let mut attempts = futures_util::stream::iter(attempts).buffer_unordered(usize::try_from(BATCH).unwrap_or(1));
        let mut failure = None;
        while let Some(recorded) = attempts.next().await {
            // the others of the batch are recorded all the same
            failure = recorded.err().or(failure);
        }
        failure.map_or(Ok(count), Err)
    }

    /// Works for as long as the process runs.
    pub async fn run(self, shutdown: Shutdown) -> anyhow::Result<()> {
        loop {
            match self.serve(&shutdown).await {
                Ok(()) => return Ok(()),
                // PostgreSQL is away, or the migrations have not run: not worth a restart of this task
                Err(error) => tracing::warn!(error = format!("{error:#}"), "mail worker interrupted, will go on"),
            }
            tokio::select! {
                () = shutdown.draining() => return Ok(()),
                () = tokio::time::sleep(POLL.mul_f64(jitter(&self.sources))) => {}
            }
        }
    }

    async fn serve(&self, shutdown: &Shutdown) -> anyhow::Result<()> {
        let mut listener = PgListener::connect_with(self.db.pool()).await?;
        listener.ignore_pool_close_event(true);
        listener.listen("mail_queue").await?;
        let ticks = |every| {
            let mut ticks = tokio::time::interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut poll, mut measure, mut tidy) = (ticks(POLL), ticks(MEASURE_EVERY), ticks(TIDY_EVERY));
        loop {
            while !shutdown.is_draining() && self.run_once().await? > 0 {}
            tokio::select! {
                // what is left is for another replica, or for the next start
                () = shutdown.draining() => return Ok(()),
                woken = listener.try_recv() => {
                    anyhow::ensure!(woken?.is_some(), "the connection that wakes the mail worker is lost");
                    while listener.next_buffered().is_some() {}
                }
                _ = poll.tick() => {}
                _ = measure.tick() => self.measure().await?,
                _ = tidy.tick() => self.tidy().await?,
            }
        }
    }

    async fn attempt(&self, transport: &dyn Transport, mail: Claimed) -> sqlx::Result<()> {
        let now = self.sources.now();
        let outcome = if mail.not_after < now {
            Outcome::never("overdue")
        } else {
            match self.write(&mail) {
                Ok(outgoing) => match tokio::time::timeout(ATTEMPT, transport.send(&outgoing)).await {
                    Ok(Ok(())) => Outcome::Sent,
                    Ok(Err(error)) => error.into(),
                    Err(_elapsed) => Outcome::later("time-out"),
                },
                Err(outcome) => outcome,
            }
        };
        self.record(transport.name(), &mail, outcome).await
    }

    /// Opens and writes a mail, or says why it cannot be.
    fn write(&self, mail: &Claimed) -> Result<Outgoing, Outcome> {
        let sealed = mail.sealed.as_deref().ok_or_else(|| Outcome::never("empty"))?;
        let plain = self
            .cipher
            .open(&queue::context(mail.id), sealed)
            .map_err(|error| match error {
                // another replica may have the key, or an operator may put it back
                CryptoError::UnknownKey => Outcome::later("unknown key"),
                _ => Outcome::never("does not open"),
            })?;
        // a letter of a newer release is for its workers
        let sealed: Sealed = serde_json::from_slice(&plain).map_err(|_| Outcome::later("unknown letter"))?;
        let zone = mail
            .timezone
            .as_deref()
            .and_then(|zone| zone.parse().ok())
            .unwrap_or(Tz::UTC);
        let setting = Setting {
            locale: sealed.locale.unwrap_or_else(|| Locale::of(mail.language.as_deref())),
            zone,
            client_url: &self.config.client_url,
            api_url: &self.config.api_url,
            name: sealed.name.as_deref(),
        };
        let rendered = render::render(&sealed.letter, &setting).map_err(|_| Outcome::never("cannot be written"))?;
        let from = self.config.sender.clone();
        Ok(Outgoing {
            message_id: format!("<{}@{}>", mail.id, from.address.domain()),
            from,
            to: sealed.to,
            subject: rendered.subject,
            text: rendered.text,
            html: rendered.html,
            unsubscribe: rendered.unsubscribe,
            template: mail.template.clone(),
            date: mail.created_at,
        })
    }

    async fn record(&self, transport: &'static str, mail: &Claimed, outcome: Outcome) -> sqlx::Result<()> {
        let Claimed {
            id, template, attempts, ..
        } = mail;
        let now = self.sources.now();
        match outcome {
            Outcome::Sent => {
                store::mark_sent(self.db.pool(), *id, *attempts, now).await?;
                metrics::counter!("mail_sent_total", "template" => template.clone(), "transport" => transport)
                    .increment(1);
                let waited = (now - mail.created_at).as_seconds_f64().max(0.0);
                metrics::histogram!("mail_delivery_seconds").record(waited);
            }
            Outcome::Later { why, after } if *attempts < MAX_ATTEMPTS => {
                let until = now
                    + pause(*attempts)
                        .mul_f64(jitter(&self.sources))
                        .max(after.unwrap_or_default().min(LONGEST_PAUSE));
                tracing::warn!(mail = %id, template, attempts, why, "mail not sent, will try again");
                metrics::counter!("mail_attempts_failed_total", "transport" => transport).increment(1);
                store::postpone(self.db.pool(), *id, *attempts, until, &why).await?;
            }
            Outcome::Later { why, .. } => self.bury(mail, &why, true, now).await?,
            Outcome::Never { why } => self.bury(mail, &why, false, now).await?,
        }
        Ok(())
    }

    async fn bury(&self, mail: &Claimed, why: &str, keep: bool, now: DateTime<Utc>) -> sqlx::Result<()> {
        tracing::error!(mail = %mail.id, template = mail.template, attempts = mail.attempts, why, "mail given up");
        let class = match (why, keep) {
            ("overdue", _) => "overdue",
            (_, true) => "exhausted",
            (_, false) => "refused",
        };
        metrics::counter!("mail_dead_total", "why" => class).increment(1);
        store::bury(self.db.pool(), mail.id, mail.attempts, now, why, keep).await
    }

    async fn measure(&self) -> sqlx::Result<()> {
        self.db.record_metrics();
        let backlog = store::backlog(self.db.pool()).await?;
        let age = backlog
            .oldest
            .map_or(0.0, |oldest| (self.sources.now() - oldest).as_seconds_f64().max(0.0));
        for (state, count) in [("pending", backlog.pending), ("dead", backlog.dead)] {
            #[expect(clippy::cast_precision_loss, reason = "a gauge")]
            metrics::gauge!("mail_queue_messages", "state" => state).set(count as f64);
        }
        metrics::gauge!("mail_queue_oldest_seconds").set(age);
        Ok(())
    }

    /// Buries what is overdue and deletes what nobody needs any more.
    pub async fn tidy(&self) -> sqlx::Result<()> {
        let now = self.sources.now();
        let overdue = store::bury_overdue(self.db.pool(), now).await?;
        if overdue > 0 {
            tracing::error!(overdue, "mails were not sent in time and given up");
            metrics::counter!("mail_dead_total", "why" => "overdue").increment(overdue);
        }
        let mut conn = self.db.acquire().await?;
        store::tidy(&mut conn, now - KEEP_DEAD, now - KEEP_ROWS, now - KEEP_INBOX).await?;
        Ok(())
    }
}

/// From 0.75 to 1.25, so that what failed together does not come back together.
fn jitter(sources: &Sources) -> f64 {
    let mut byte = [0_u8; 1];
    sources.entropy.fill(&mut byte);
    let [byte] = byte;
    0.75 + f64::from(byte) / 510.0
}

/// 5 s, 10 s, 20 s … an hour.
fn pause(attempts: i32) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or_default().min(20);
    FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Worker")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_seconds_to_an_hour() {
        assert_eq!(pause(1), Duration::from_secs(5));
        assert_eq!(pause(2), Duration::from_secs(10));
        assert_eq!(pause(10), Duration::from_secs(2_560));
        assert_eq!(pause(11), LONGEST_PAUSE);
        assert_eq!(pause(i32::MAX), LONGEST_PAUSE);
        let all: Duration = (1..MAX_ATTEMPTS).map(pause).sum();
        assert!(
            (Duration::from_hours(12)..Duration::from_hours(16)).contains(&all),
            "{all:?}"
        );
    }

    #[test]
    fn an_attempt_ends_before_its_claim_does() {
        assert!(TimeDelta::from_std(ATTEMPT).unwrap() < LEASE);
    }
}
