//! SQL of security events and known devices.
//!
//! contract: core §11 (`security_events`), §14

use chrono::{DateTime, Utc};
use shared::id::{SessionId, UserId};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// A security event as its owner sees it.
pub struct SecurityEventRow {
    pub id: Uuid,
    pub kind: String,
    pub session_id: Option<SessionId>,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
    pub data: serde_json::Value,
    pub created_at: DateTime<Utc>,
}

/// A security event to be stored.
pub struct NewSecurityEvent<'a> {
    pub id: Uuid,
    pub user: UserId,
    pub kind: &'a str,
    pub session: Option<SessionId>,
    pub ip_address: Option<&'a str>,
    pub user_agent: Option<&'a str>,
    pub data: &'a serde_json::Value,
    pub now: DateTime<Utc>,
}

/// Stores a security event.
pub async fn insert_security_event(conn: &mut PgConnection, event: &NewSecurityEvent<'_>) -> sqlx::Result<()> {
    let NewSecurityEvent {
        id,
        user,
        kind,
        session,
        ip_address,
        user_agent,
        data,
        now,
    } = event;
    sqlx::query!(
        "insert into auth.security_events (id, user_id, kind, session_id, ip_address, user_agent, data, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        *id,
        *user as UserId,
        *kind,
        *session as Option<SessionId>,
        *ip_address,
        *user_agent,
        data,
        *now,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// A part of an account's security events, newest first, and how many there are in all.
pub async fn list_security_events(
    conn: &mut PgConnection,
    user: UserId,
    limit: i64,
    offset: i64,
) -> sqlx::Result<(Vec<SecurityEventRow>, i64)> {
    let total = sqlx::query_scalar!(
        r#"select count(*) as "count!" from auth.security_events where user_id = $1"#,
        user as UserId
    )
    .fetch_one(&mut *conn)
    .await?;
    let rows = sqlx::query_as!(
        SecurityEventRow,
        r#"select id, kind, session_id as "session_id: SessionId", ip_address, user_agent, data, created_at
           from auth.security_events
           where user_id = $1
           order by created_at desc, id desc
           limit $2 offset $3"#,
        user as UserId,
        limit,
        offset,
    )
    .fetch_all(conn)
    .await?;
    Ok((rows, total))
}

/// Forgets the addresses of a batch of sessions and of events older than `before`. Gives their number.
pub async fn forget_addresses(conn: &mut PgConnection, before: DateTime<Utc>, batch: i64) -> sqlx::Result<u64> {
    let sessions = sqlx::query!(
        "update auth.sessions set ip_address = null where id in (
             select id from auth.sessions
             where created_at < $1 and ip_address is not null
             limit $2
             for update skip locked
         )",
        before,
        batch,
    )
    .execute(&mut *conn)
    .await?;
    let events = sqlx::query!(
        "update auth.security_events set ip_address = null where id in (
             select id from auth.security_events
             where created_at < $1 and ip_address is not null
             order by created_at
             limit $2
             for update skip locked
         )",
        before,
        batch,
    )
    .execute(conn)
    .await?;
    Ok(sessions.rows_affected() + events.rows_affected())
}

/// Deletes a batch of events from before `before`.
pub async fn purge_security_events(db: impl PgExecutor<'_>, before: DateTime<Utc>, batch: i64) -> sqlx::Result<u64> {
    let deleted = sqlx::query!(
        "delete from auth.security_events where id in (
             select id from auth.security_events where created_at < $1 limit $2 for update skip locked
         )",
        before,
        batch,
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected())
}
