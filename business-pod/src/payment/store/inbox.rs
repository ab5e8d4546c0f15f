//! The webhook inbox: every verified event once.
//!
//! contract: payment §6 (duplicates, parked events)

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

/// An event about to be stored.
#[derive(Debug)]
pub struct NewEvent<'a> {
    /// `evt_…`, or `recon:…` for what reconciliation found.
    pub id: &'a str,
    /// `payment_intent.succeeded`
    pub kind: &'a str,
    /// The object it is about.
    pub object: Option<&'a str>,
    /// Whether real money moves.
    pub livemode: bool,
    /// The event without client secrets.
    pub payload: Option<&'a Value>,
    /// When Stripe made it.
    pub created_at: DateTime<Utc>,
}

/// Stores an event as processed, or takes over a parked one. `false`: it was handled before; there is nothing to do.
/// A second delivery waits here until the first has committed or given up.
pub async fn receive(db: &mut PgConnection, event: &NewEvent<'_>, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"insert into payment.webhook_inbox as stored
               (event_id, event_type, object_id, livemode, payload, status, created_at, received_at, processed_at)
           values ($1, $2, $3, $4, $5, 'PROCESSED', $6, $7, $7)
           on conflict (event_id) do update
               set status = 'PROCESSED', parked_reason = null, processed_at = $7, attempts = stored.attempts + 1
               where stored.status = 'PARKED'"#,
        event.id,
        event.kind,
        event.object,
        event.livemode,
        event.payload,
        event.created_at,
        now,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Whether an event was handled before (and is not waiting for another try).
pub async fn is_handled(db: &mut PgConnection, event: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select 1 from payment.webhook_inbox where event_id = $1 and status <> 'PARKED') as "handled!""#,
        event,
    )
    .fetch_one(db)
    .await
}

/// Says that a stored event had no effect.
pub async fn ignore(db: &mut PgConnection, event: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update payment.webhook_inbox set status = 'IGNORED' where event_id = $1",
        event
    )
    .execute(db)
    .await
    .map(drop)
}

/// Says that a stored event could not be applied.
pub async fn park(db: &mut PgConnection, event: &str, reason: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update payment.webhook_inbox set status = 'PARKED', parked_reason = $2, processed_at = null where event_id = $1",
        event,
        reason,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Parked events whose turn it is, oldest first: tried again after 1, 2, 4 … minutes since they were received, ten times.
pub async fn list_parked(db: &mut PgConnection, now: DateTime<Utc>, limit: i64) -> sqlx::Result<Vec<Value>> {
    let payloads = sqlx::query_scalar!(
        r#"select payload from payment.webhook_inbox
           where status = 'PARKED' and payload is not null and attempts <= 10
             and received_at + power(2, attempts - 1) * interval '1 minute' <= $1
           order by received_at limit $2"#,
        now,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(payloads.into_iter().flatten().collect())
}

/// Drops the payloads of settled events older than `before` (90 days); that they were handled is remembered.
pub async fn purge(db: &mut PgConnection, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "update payment.webhook_inbox set payload = null where received_at < $1 and payload is not null and status <> 'PARKED'",
        before,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// How many events wait for a person or another try.
pub async fn parked(db: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select count(*) as "count!" from payment.webhook_inbox where status = 'PARKED'"#)
        .fetch_one(db)
        .await
}
