//! SQL of what begins in one request and ends in another.
//!
//! contract: core §14

use chrono::{DateTime, Utc};
use shared::id::UserId;
use sqlx::PgExecutor;

use crate::auth::store::Digest;

/// Expired rows that each new ceremony takes with it.
const SWEEP: i64 = 20;

/// A ceremony about to begin.
pub struct NewCeremony<'a> {
    pub key: Digest,
    pub kind: &'a str,
    pub user: Option<UserId>,
    pub binding: Option<Digest>,
    pub state: &'a [u8],
    pub expires_at: DateTime<Utc>,
    pub now: DateTime<Utc>,
}

/// A ceremony that was found.
pub struct Found {
    pub user: Option<UserId>,
    pub state: Vec<u8>,
}

/// Puts a ceremony in place and clears a few expired ones away.
pub async fn insert_ceremony(db: impl PgExecutor<'_>, new: &NewCeremony<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "with swept as (
             delete from auth.ceremonies where key_hash in (
                 select key_hash from auth.ceremonies where expires_at < $7 limit $8 for update skip locked
             )
         )
         insert into auth.ceremonies (key_hash, kind, user_id, binding, state_sealed, expires_at)
         values ($1, $2, $3, $4, $5, $6)",
        new.key.as_slice(),
        new.kind,
        new.user as Option<UserId>,
        new.binding.as_ref().map(Digest::as_slice),
        new.state,
        new.expires_at,
        new.now,
        SWEEP,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Takes a ceremony: of any number of callers one gets it.
pub async fn take_ceremony(
    db: impl PgExecutor<'_>,
    key: Digest,
    kind: &str,
    binding: Option<Digest>,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Found>> {
    sqlx::query_as!(
        Found,
        r#"delete from auth.ceremonies
           where key_hash = $1 and kind = $2 and binding is not distinct from $3 and expires_at > $4
           returning user_id as "user: UserId", state_sealed as state"#,
        key.as_slice(),
        kind,
        binding.as_ref().map(Digest::as_slice),
        now,
    )
    .fetch_optional(db)
    .await
}

/// Counts a try at a ceremony, if it has any left. Not part of the caller's transaction: a failure stays counted.
pub async fn try_ceremony(
    db: impl PgExecutor<'_>,
    key: Digest,
    kind: &str,
    binding: Digest,
    tries: i16,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Found>> {
    sqlx::query_as!(
        Found,
        r#"update auth.ceremonies
           set tries = tries + 1
           where key_hash = $1 and kind = $2 and binding = $3 and tries < $4 and expires_at > $5
           returning user_id as "user: UserId", state_sealed as state"#,
        key.as_slice(),
        kind,
        binding.as_slice(),
        tries,
        now,
    )
    .fetch_optional(db)
    .await
}

/// A ceremony without taking it.
pub async fn find_ceremony(
    db: impl PgExecutor<'_>,
    key: Digest,
    kind: &str,
    binding: Digest,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Found>> {
    sqlx::query_as!(
        Found,
        r#"select user_id as "user: UserId", state_sealed as state
           from auth.ceremonies
           where key_hash = $1 and kind = $2 and binding = $3 and expires_at > $4"#,
        key.as_slice(),
        kind,
        binding.as_slice(),
        now,
    )
    .fetch_optional(db)
    .await
}

/// Replaces what a ceremony holds.
pub async fn update_ceremony(db: impl PgExecutor<'_>, key: Digest, state: &[u8]) -> sqlx::Result<()> {
    sqlx::query!(
        "update auth.ceremonies set state_sealed = $2 where key_hash = $1",
        key.as_slice(),
        state
    )
    .execute(db)
    .await
    .map(drop)
}
