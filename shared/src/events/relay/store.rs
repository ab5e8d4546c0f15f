//! The relay's SQL over `<schema>.outbox` and `<schema>.inbox`.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, FromRow, PgPool};
use uuid::Uuid;

use crate::db::Service;

/// How many rows one deletion takes, so that no transaction lives long.
const BITE: i64 = 5_000;

/// A committed event that is not published.
#[derive(Debug, FromRow)]
pub struct Row {
    pub position: i64,
    pub event_id: Uuid,
    pub topic: String,
    pub key: String,
    pub envelope: String,
    pub traceparent: Option<String>,
}

/// The oldest pending rows, without those on their way and those of blocked topics.
pub async fn pending<S: Service>(
    pool: &PgPool,
    on_the_way: &[i64],
    blocked: &[&str],
    limit: usize,
) -> sqlx::Result<Vec<Row>> {
    let sql = format!(
        "select position, event_id, topic, key, envelope::text as envelope, traceparent
         from {}.outbox
         where published_at is null and refused_at is null
           and position <> all ($1) and topic <> all ($2)
         order by position
         limit $3",
        S::SCHEMA
    );
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(on_the_way)
        .bind(blocked)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(pool)
        .await
}

/// Notes that the brokers have these rows.
pub async fn mark_published<S: Service>(pool: &PgPool, positions: &[i64]) -> sqlx::Result<()> {
    if positions.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "update {}.outbox set published_at = now() where position = any ($1) and published_at is null",
        S::SCHEMA
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(positions)
        .execute(pool)
        .await
        .map(drop)
}

/// Puts a row aside that the brokers will never take.
pub async fn refuse<S: Service>(pool: &PgPool, position: i64, reason: &str) -> sqlx::Result<()> {
    let sql = format!(
        "update {}.outbox set refused_at = now(), refusal = $2 where position = $1",
        S::SCHEMA
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(position)
        .bind(reason)
        .execute(pool)
        .await
        .map(drop)
}

/// How many rows wait, and since when the oldest does.
pub async fn backlog<S: Service>(pool: &PgPool) -> sqlx::Result<(i64, Option<DateTime<Utc>>)> {
    let sql = format!(
        "select count(*), min(created_at) from {}.outbox where published_at is null and refused_at is null",
        S::SCHEMA
    );
    sqlx::query_as(AssertSqlSafe(sql)).fetch_one(pool).await
}

/// Deletes some rows published before an instant. Returns whether there may be more.
pub async fn delete_published<S: Service>(pool: &PgPool, before: DateTime<Utc>) -> sqlx::Result<bool> {
    let sql = format!(
        "delete from {schema}.outbox where position in
             (select position from {schema}.outbox where published_at < $1 limit $2)",
        schema = S::SCHEMA
    );
    let deleted = sqlx::query(AssertSqlSafe(sql))
        .bind(before)
        .bind(BITE)
        .execute(pool)
        .await?;
    Ok(i64::try_from(deleted.rows_affected()) == Ok(BITE))
}

/// Deletes some inbox rows older than an instant. Returns whether there may be more.
pub async fn forget_inbox<S: Service>(pool: &PgPool, before: DateTime<Utc>) -> sqlx::Result<bool> {
    let sql = format!(
        "delete from {schema}.inbox where (consumer_group, event_id) in
             (select consumer_group, event_id from {schema}.inbox where processed_at < $1 limit $2)",
        schema = S::SCHEMA
    );
    let deleted = sqlx::query(AssertSqlSafe(sql))
        .bind(before)
        .bind(BITE)
        .execute(pool)
        .await?;
    Ok(i64::try_from(deleted.rows_affected()) == Ok(BITE))
}
