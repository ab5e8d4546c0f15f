//! One try of one record: parse, inbox, effects, commit; or a dead letter.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use rdkafka::{
    Message as _,
    message::{Headers as _, OwnedMessage},
};
use sqlx::{AssertSqlSafe, PgConnection};
use tracing::Instrument as _;

use super::{
    Failure, Handler,
    dead_letter::{self, Letter},
    lane::{Try, Verdict},
};
use crate::{
    db::{Db, Service},
    events::{Envelope, Topic, kafka::Producer, trace},
    http::REQUEST_ID,
    sources::Sources,
};

/// A handler that takes longer is cut off and tried again; its transaction is rolled back.
const HANDLER_TIMEOUT: Duration = Duration::from_mins(1);

/// What a try needs.
pub struct Processor<S> {
    pub db: Db<S>,
    pub producer: Producer,
    pub handler: Arc<dyn Handler<S>>,
    pub sources: Sources,
}

impl<S: Service> Processor<S> {
    /// Tries one record.
    pub async fn process(&self, record: &OwnedMessage, this: Try) -> Verdict {
        let group = self.handler.group();
        let span = tracing::info_span!(
            "consume",
            group,
            topic = record.topic(),
            partition = record.partition(),
            offset = record.offset(),
        );
        if let Some(traceparent) = header(record, "traceparent") {
            trace::continue_from(&span, &traceparent);
        }
        self.attempt(record, this).instrument(span).await
    }

    async fn attempt(&self, record: &OwnedMessage, this: Try) -> Verdict {
        let Some(value) = record.payload().filter(|value| !value.is_empty()) else {
            tracing::warn!("record without a value skipped");
            return Verdict::Done;
        };
        let Some(topic) = Topic::from_name(record.topic()) else {
            // cannot happen with a subscription made from the registry
            return self.bury(record, None, this, "the topic is not known").await;
        };
        let event = match Envelope::parse(value) {
            Ok(event) => event,
            Err(malformed) => return self.bury(record, None, this, &malformed.to_string()).await,
        };
        let applied = self.apply(topic, &event);
        let correlation = event.correlation_id.clone().unwrap_or_else(|| event.event_id.clone());
        let outcome = REQUEST_ID.scope(correlation, guarded(applied)).await;
        match outcome {
            Ok(effects) => {
                self.count(record, "kafka_consumer_messages_consumed_total");
                tracing::debug!(event_id = event.event_id, applied = effects, "event consumed");
                Verdict::Done
            }
            Err(Failure::Permanent(reason)) => self.bury(record, Some(&event), this, &reason).await,
            Err(Failure::Unknown(reason)) if this.last => self.bury(record, Some(&event), this, &reason).await,
            Err(Failure::Unknown(reason)) => {
                self.count(record, "kafka_consumer_errors_total");
                tracing::warn!(
                    event_id = event.event_id,
                    reason,
                    attempt = this.number,
                    "event not applicable yet"
                );
                Verdict::Unknown
            }
            Err(Failure::Transient(error)) => {
                self.count(record, "kafka_consumer_errors_total");
                tracing::warn!(
                    event_id = event.event_id,
                    error = format!("{error:#}"),
                    "event has to wait"
                );
                Verdict::Transient
            }
        }
    }

    /// Applies the event in one transaction with its inbox row. `false` if it was applied before or concerns nobody here.
    async fn apply(&self, topic: Topic, event: &Envelope) -> Result<bool, Failure> {
        if !self.handler.concerns(topic, event) {
            return Ok(false);
        }
        let mut tx = self.db.begin().await?;
        if !enter::<S>(&mut tx, self.handler.group(), topic, event).await? {
            return Ok(false);
        }
        self.handler.handle(&mut tx, topic, event).await?;
        tx.commit().await?;
        // the effects are there; what happens now must not bring the event back
        let told = AssertUnwindSafe(self.handler.committed(topic, event)).catch_unwind();
        if !matches!(tokio::time::timeout(HANDLER_TIMEOUT, told).await, Ok(Ok(()))) {
            tracing::error!(event_id = event.event_id, "hook after the commit failed");
        }
        Ok(true)
    }

    /// Sends a dead letter. The record counts as dealt with once the brokers have it.
    async fn bury(&self, record: &OwnedMessage, event: Option<&Envelope>, this: Try, reason: &str) -> Verdict {
        self.count(record, "kafka_consumer_errors_total");
        let letter = Letter {
            record,
            event,
            reason,
            group: self.handler.group(),
            attempts: this.number,
        };
        match dead_letter::send(&self.producer, &letter, self.sources.now()).await {
            Ok(()) => {
                self.count(record, "kafka_dead_letters_total");
                let event_id = event.map(|event| event.event_id.as_str());
                tracing::error!(
                    event_id,
                    reason,
                    attempts = this.number,
                    "event sent to the dead letters"
                );
                Verdict::Done
            }
            Err(error) => {
                tracing::warn!(%error, "dead letter not sent, the partition waits");
                Verdict::Transient
            }
        }
    }

    fn count(&self, record: &OwnedMessage, counter: &'static str) {
        let topic = record.topic().to_owned();
        metrics::counter!(counter, "topic" => topic, "group" => self.handler.group()).increment(1);
    }
}

/// Notes the event in the inbox. `false` if it is there already; waits while another transaction applies it.
async fn enter<S: Service>(tx: &mut PgConnection, group: &str, topic: Topic, event: &Envelope) -> sqlx::Result<bool> {
    let sql = format!(
        "insert into {}.inbox (consumer_group, event_id, topic) values ($1, $2, $3) on conflict do nothing",
        S::SCHEMA
    );
    let entered = sqlx::query(AssertSqlSafe(sql))
        .bind(group)
        .bind(&event.event_id)
        .bind(topic.name())
        .execute(tx)
        .await?;
    Ok(entered.rows_affected() == 1)
}

/// A panic is a failure of this event, not of the consumer; a handler that hangs waits for something that is away.
async fn guarded<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(HANDLER_TIMEOUT, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Failure::unknown("the handler panicked")),
        Err(_) => Err(Failure::transient(anyhow::anyhow!(
            "the handler did not finish in time"
        ))),
    }
}

fn header(record: &OwnedMessage, name: &str) -> Option<String> {
    let headers = record.headers()?;
    let value = headers.iter().find(|header| header.key == name)?.value?;
    String::from_utf8(value.to_vec()).ok()
}
