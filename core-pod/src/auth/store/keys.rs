//! SQL of signing keys.
//!
//! contract: core §11 (`signing_keys`), §14

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};

/// The advisory lock of rotations: one at a time.
const ROTATION: i64 = 0x6b65_7973;

/// A key as stored.
#[derive(Clone)]
pub struct KeyRow {
    pub kid: String,
    pub public_key: String,
    pub private_key_enc: Option<Vec<u8>>,
    pub created_at: DateTime<Utc>,
    pub activates_at: DateTime<Utc>,
    pub retires_at: Option<DateTime<Utc>>,
}

/// All keys that ever were, oldest first.
pub async fn list_keys(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<KeyRow>> {
    sqlx::query_as!(
        KeyRow,
        "select kid, public_key, private_key_enc, created_at, activates_at, retires_at
         from auth.signing_keys
         order by activates_at, kid",
    )
    .fetch_all(db)
    .await
}

/// Lets one transaction at a time change keys, until its end.
pub async fn lock_rotation(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("select 1 as locked from pg_advisory_xact_lock($1)", ROTATION)
        .fetch_one(conn)
        .await
        .map(drop)
}

/// Stores a key, unless one of this name is known.
pub async fn insert_key(conn: &mut PgConnection, key: &KeyRow) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into auth.signing_keys (kid, public_key, private_key_enc, created_at, activates_at, retires_at)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (kid) do nothing",
        key.kid,
        key.public_key,
        key.private_key_enc,
        key.created_at,
        key.activates_at,
        key.retires_at,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Retires all keys but one at this time, unless they retire before it. A key that retires now loses its private part.
pub async fn retire_others(
    conn: &mut PgConnection,
    kept: &str,
    at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let retired = sqlx::query!(
        "update auth.signing_keys
         set retires_at = $2, private_key_enc = case when $2 <= $3 then null else private_key_enc end
         where kid <> $1 and (retires_at is null or retires_at > $2)",
        kept,
        at,
        now,
    )
    .execute(conn)
    .await?;
    Ok(retired.rows_affected())
}

/// Retires one key now. False: there is none of this name that still lives.
pub async fn retire_key(conn: &mut PgConnection, kid: &str, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let retired = sqlx::query!(
        "update auth.signing_keys set retires_at = $2, private_key_enc = null
         where kid = $1 and (retires_at is null or retires_at > $2)",
        kid,
        now,
    )
    .execute(conn)
    .await?;
    Ok(retired.rows_affected() > 0)
}

/// Wipes the private parts of keys that are retired.
pub async fn wipe_retired(db: impl PgExecutor<'_>, now: DateTime<Utc>) -> sqlx::Result<u64> {
    let wiped = sqlx::query!(
        "update auth.signing_keys set private_key_enc = null where retires_at <= $1 and private_key_enc is not null",
        now,
    )
    .execute(db)
    .await?;
    Ok(wiped.rows_affected())
}
