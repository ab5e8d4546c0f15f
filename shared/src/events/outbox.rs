//! The transactional outbox: an event is appended in the transaction of the change it tells of (events §6).
//!
//! Nothing is published from here. The [`relay`](super::relay) sends committed rows to Kafka, in order per key.

use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::NewEvent;
use crate::db::Service;

/// Records larger than this are refused at the append, where the transaction can still be rolled back; the broker takes
/// 10 MiB with headers and framing.
const MAX_ENVELOPE_BYTES: usize = 10 * 1024 * 1024 - 64 * 1024;

/// Appends events to the outbox of service `S`, in one statement, inside the caller's transaction.
///
/// The keys are locked (until the commit) before positions are drawn: of two transactions that append under one key, the
/// one that commits first has the lower position, so the order per key is the order of commits. Append late in the
/// transaction, after the rows of the change are locked.
pub async fn append<S: Service>(conn: &mut PgConnection, events: &[NewEvent]) -> sqlx::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let traceparent = super::trace::current_traceparent();
    let mut ids = Vec::with_capacity(events.len());
    let mut topics = Vec::with_capacity(events.len());
    let mut keys = Vec::with_capacity(events.len());
    let mut envelopes = Vec::with_capacity(events.len());
    for event in events {
        let envelope = serde_json::to_string(&event.envelope).map_err(|error| sqlx::Error::Encode(error.into()))?;
        if envelope.len() > MAX_ENVELOPE_BYTES {
            return Err(sqlx::Error::Encode(
                format!("event for {} is too large", event.topic.name()).into(),
            ));
        }
        let id: Uuid = event
            .envelope
            .event_id
            .parse()
            .map_err(|error: uuid::Error| sqlx::Error::Encode(error.into()))?;
        ids.push(id);
        topics.push(event.topic.name());
        keys.push(event.key.as_str());
        envelopes.push(envelope);
    }
    let schema = S::SCHEMA;
    let sql = format!(
        "with locked as materialized (
             select pg_advisory_xact_lock(hashtextextended('{schema}.outbox/' || key, 0))
             from (select distinct key from unnest($3::text[]) as given (key) order by key) as keys
         )
         insert into {schema}.outbox (event_id, topic, key, envelope, traceparent)
         select event_id, topic, key, envelope::json, $5
         from unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
             with ordinality as given (event_id, topic, key, envelope, place),
             (select count(*) from locked) as all_locked
         order by place"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(ids)
        .bind(topics)
        .bind(keys)
        .bind(envelopes)
        .bind(traceparent)
        .execute(conn)
        .await
        .map(drop)
}
