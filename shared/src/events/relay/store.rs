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

/// Notes that the brokers have the rows `published`, and gives the oldest pending ones without those `sent` (the published
/// among them) and those of blocked topics.
pub async fn advance<S: Service>(
    pool: &PgPool,
    published: &[i64],
    sent: &[i64],
    blocked: &[&str],
    limit: usize,
) -> sqlx::Result<Vec<Row>> {
    let schema = S::SCHEMA;
    let marked = if published.is_empty() {
        String::new()
    } else {
        format!("with marked as ({})", mark::<S>("$4"))
    };
    let sql = format!(
        "{marked}
         select position, event_id, topic, key, envelope::text as envelope, traceparent
         from {schema}.outbox
         where published_at is null and refused_at is null
           and position <> all ($1) and topic <> all ($2)
         order by position
         limit $3"
    );
    let mut query = sqlx::query_as(AssertSqlSafe(sql))
        .bind(sent)
        .bind(blocked)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX));
    if !published.is_empty() {
        query = query.bind(published);
    }
    query.fetch_all(pool).await
}

/// The statement that marks the rows at these positions.
fn mark<S: Service>(positions: &str) -> String {
    let schema = S::SCHEMA;
    format!(
        "update {schema}.outbox set published_at = now() where position = any ({positions}) and published_at is null"
    )
}

/// Notes that the brokers have these rows.
pub async fn mark_published<S: Service>(pool: &PgPool, positions: &[i64]) -> sqlx::Result<()> {
    if positions.is_empty() {
        return Ok(());
    }
    sqlx::query(AssertSqlSafe(mark::<S>("$1")))
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
