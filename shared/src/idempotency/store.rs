//! SQL of the idempotency keys. The schema differs per service, so the text is put together from the service's constant.

use chrono::{DateTime, Utc};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use super::{Answer, BodyHash, Claim, IdempotencyKey, LIFE, LOCK, Scope, after};
use crate::db::{Db, Service};

pub(super) struct Row {
    pub(super) body_hash: Vec<u8>,
    pub(super) answer: Option<Answer>,
}

/// Inserts the row, or takes over one that has expired or whose attempt has lost its lock. Says whether it is ours.
pub(super) async fn take<S: Service>(
    conn: &mut PgConnection,
    now: DateTime<Utc>,
    key: &IdempotencyKey,
    scope: &Scope,
    body: BodyHash,
    attempt: Uuid,
) -> sqlx::Result<bool> {
    let sql = format!(
        "insert into {schema}.idempotency_keys as known
             (caller, method, path, key, body_hash, attempt, locked_until, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict (caller, method, path, key) do update set
             body_hash = excluded.body_hash, attempt = excluded.attempt, locked_until = excluded.locked_until,
             status = null, headers = null, body = null,
             created_at = excluded.created_at, expires_at = excluded.expires_at
         where known.expires_at <= excluded.created_at
            or (known.status is null and known.locked_until <= excluded.created_at
                and known.body_hash = excluded.body_hash)",
        schema = S::SCHEMA
    );
    let done = sqlx::query(AssertSqlSafe(sql))
        .bind(&scope.caller)
        .bind(scope.method.as_str())
        .bind(&scope.path)
        .bind(key.as_str())
        .bind(body.0.as_slice())
        .bind(attempt)
        .bind(after(now, LOCK))
        .bind(now)
        .bind(after(now, LIFE))
        .execute(conn)
        .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn find<S: Service>(
    conn: &mut PgConnection,
    key: &IdempotencyKey,
    scope: &Scope,
) -> sqlx::Result<Option<Row>> {
    let sql = format!(
        "select body_hash, status, headers, body from {schema}.idempotency_keys
         where caller = $1 and method = $2 and path = $3 and key = $4",
        schema = S::SCHEMA
    );
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(&scope.caller)
        .bind(scope.method.as_str())
        .bind(&scope.path)
        .bind(key.as_str())
        .fetch_optional(conn)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let status: Option<i16> = row.try_get("status")?;
    let answer = match status {
        None => None,
        Some(status) => Some(Answer {
            status: u16::try_from(status)
                .ok()
                .and_then(|code| StatusCode::from_u16(code).ok())
                .unwrap_or(StatusCode::OK),
            headers: read_headers(&row.try_get::<Option<Value>, _>("headers")?.unwrap_or_default()),
            body: row.try_get::<Option<Vec<u8>>, _>("body")?.unwrap_or_default().into(),
        }),
    };
    Ok(Some(Row {
        body_hash: row.try_get("body_hash")?,
        answer,
    }))
}

pub(super) async fn complete<S: Service>(
    conn: &mut PgConnection,
    now: DateTime<Utc>,
    claim: &Claim,
    answer: &Answer,
) -> sqlx::Result<bool> {
    let sql = format!(
        "update {schema}.idempotency_keys
         set status = $6, headers = $7, body = $8, expires_at = $9
         where caller = $1 and method = $2 and path = $3 and key = $4 and attempt = $5 and status is null",
        schema = S::SCHEMA
    );
    let done = sqlx::query(AssertSqlSafe(sql))
        .bind(&claim.scope.caller)
        .bind(claim.scope.method.as_str())
        .bind(&claim.scope.path)
        .bind(claim.key.as_str())
        .bind(claim.attempt)
        .bind(i16::try_from(answer.status.as_u16()).unwrap_or(500))
        .bind(write_headers(&answer.headers))
        .bind(answer.body.as_ref())
        .bind(after(now, LIFE))
        .execute(conn)
        .await?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn release<S: Service>(conn: &mut PgConnection, claim: &Claim) -> sqlx::Result<()> {
    let sql = format!(
        "delete from {schema}.idempotency_keys
         where caller = $1 and method = $2 and path = $3 and key = $4 and attempt = $5 and status is null",
        schema = S::SCHEMA
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(&claim.scope.caller)
        .bind(claim.scope.method.as_str())
        .bind(&claim.scope.path)
        .bind(claim.key.as_str())
        .bind(claim.attempt)
        .execute(conn)
        .await?;
    Ok(())
}

pub(super) async fn purge<S: Service>(db: &Db<S>, now: DateTime<Utc>, limit: u32) -> sqlx::Result<u64> {
    let sql = format!(
        "delete from {schema}.idempotency_keys where ctid = any (array(
             select ctid from {schema}.idempotency_keys where expires_at <= $1 order by expires_at limit $2
             for update skip locked))",
        schema = S::SCHEMA
    );
    let done = sqlx::query(AssertSqlSafe(sql))
        .bind(now)
        .bind(i64::from(limit))
        .execute(db.pool())
        .await?;
    Ok(done.rows_affected())
}

pub(super) async fn erase<S: Service>(conn: &mut PgConnection, caller: &str) -> sqlx::Result<u64> {
    let sql = format!(
        "delete from {schema}.idempotency_keys where caller = $1",
        schema = S::SCHEMA
    );
    let done = sqlx::query(AssertSqlSafe(sql)).bind(caller).execute(conn).await?;
    Ok(done.rows_affected())
}

fn write_headers(headers: &[(HeaderName, HeaderValue)]) -> Value {
    let fields: Map<String, Value> = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), Value::from(value.to_str().ok()?))))
        .collect();
    Value::Object(fields)
}

fn read_headers(value: &Value) -> Vec<(HeaderName, HeaderValue)> {
    let fields = value.as_object().into_iter().flatten();
    fields
        .filter_map(|(name, value)| Some((name.parse().ok()?, value.as_str()?.parse().ok()?)))
        .collect()
}
