//! SQL of the log of accesses.
//!
//! contract: core §10, §11 (`data_access_logs`)

use chrono::{DateTime, Utc};
use serde_json::Value;
use shared::id::UserId;
use sqlx::{PgConnection, PgExecutor};

use super::model::{AccessLog, AccessorType, Action, Entry};

/// Stores entries in one statement. One that is there already is left alone, so that a batch may be sent again.
pub async fn insert(db: impl PgExecutor<'_>, entries: &[Entry]) -> sqlx::Result<()> {
    let rows: Value = serde_json::to_value(entries).map_err(|error| sqlx::Error::Encode(error.into()))?;
    sqlx::query!(
        "insert into users.data_access_logs
             (id, user_id, accessor_id, accessor_type, action, resource, resource_id, ip_address, user_agent, endpoint,
              method, reason, before_digest, after_digest, accessed_at)
         select id, user_id, accessor_id, accessor_type, action, resource, resource_id, ip_address, user_agent, endpoint,
                method, reason, before_digest, after_digest, accessed_at
         from jsonb_to_recordset($1) as entry (
             id uuid, user_id uuid, accessor_id text, accessor_type text, action text, resource text, resource_id text,
             ip_address text, user_agent text, endpoint text, method text, reason text, before_digest text,
             after_digest text, accessed_at timestamptz
         )
         on conflict (id) do nothing",
        rows,
    )
    .execute(db)
    .await
    .map(drop)
}

/// A piece of what the log tells about one traveller, newest first. Where other people work is none of their business.
pub async fn list(conn: &mut PgConnection, user: UserId, limit: i64, offset: i64) -> sqlx::Result<Vec<AccessLog>> {
    sqlx::query_as!(
        AccessLog,
        r#"select id, user_id as "user_id: UserId", accessor_id, accessor_type as "accessor_type: AccessorType",
                  action as "action: Action", resource, resource_id,
                  case when accessor_type = 'user' then ip_address end as ip_address,
                  case when accessor_type = 'user' then user_agent end as user_agent,
                  endpoint, method, accessed_at
           from users.data_access_logs
           where user_id = $1
           order by accessed_at desc, id desc
           limit $2 offset $3"#,
        user as UserId,
        limit,
        offset,
    )
    .fetch_all(conn)
    .await
}

/// How many entries there are about a traveller.
pub async fn count(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from users.data_access_logs where user_id = $1"#,
        user as UserId,
    )
    .fetch_one(db)
    .await
}

/// Deletes a batch of entries older than `before`. Gives their number.
pub async fn purge(conn: &mut PgConnection, before: DateTime<Utc>, batch: i64) -> sqlx::Result<u64> {
    let purged = sqlx::query!(
        "delete from users.data_access_logs where id in (
             select id from users.data_access_logs
             where accessed_at < $1
             order by accessed_at
             limit $2
             for update skip locked
         )",
        before,
        batch,
    )
    .execute(conn)
    .await?;
    Ok(purged.rows_affected())
}
