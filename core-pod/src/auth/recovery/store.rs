//! All SQL of single-use tokens and of requests for them.
//!
//! contract: core §11, §14. Tokens arrive here as SHA-256 only.

use chrono::{DateTime, Utc};
use shared::id::UserId;
use sqlx::{PgConnection, PgExecutor, types::Json};
use uuid::Uuid;

use super::model::{About, Found, Purpose, Request};
use crate::auth::store::Digest;

/// A token to be kept.
pub struct NewToken<'a> {
    pub id: Uuid,
    pub user: UserId,
    pub purpose: Purpose,
    pub hash: Digest,
    pub about: &'a About,
    pub created_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// Keeps a token.
pub async fn insert_token(conn: &mut PgConnection, token: &NewToken<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into auth.one_time_tokens (id, user_id, purpose, token_hash, payload, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
        token.id,
        token.user as UserId,
        token.purpose.as_str(),
        token.hash.as_slice(),
        Json(token.about) as _,
        token.created_at,
        token.expires_at,
    )
    .execute(conn)
    .await
    .map(drop)
}

struct Row {
    user: UserId,
    purpose: Purpose,
    about: Json<About>,
    created_at: DateTime<Utc>,
}

impl From<Row> for Found {
    fn from(row: Row) -> Self {
        Self {
            user: row.user,
            purpose: row.purpose,
            about: row.about.0,
            created_at: row.created_at,
        }
    }
}

/// A token that could be used now, without using it.
pub async fn find_token(
    db: impl PgExecutor<'_>,
    hash: Digest,
    purposes: &[Purpose],
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Found>> {
    let row = sqlx::query_as!(
        Row,
        r#"select token.user_id as "user: UserId", token.purpose as "purpose: Purpose",
                  token.payload as "about: Json<About>", token.created_at
           from auth.one_time_tokens as token
           where token.token_hash = $1 and token.purpose = any($2) and token.used_at is null and token.expires_at > $3"#,
        hash.as_slice(),
        &names(purposes) as _,
        now,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(Found::from))
}

/// Uses a token. Of any number of callers one gets it.
pub async fn claim_token(
    conn: &mut PgConnection,
    hash: Digest,
    purposes: &[Purpose],
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Found>> {
    let row = sqlx::query_as!(
        Row,
        r#"update auth.one_time_tokens as token
           set used_at = $3
           where token.token_hash = $1 and token.purpose = any($2) and token.used_at is null and token.expires_at > $3
           returning token.user_id as "user: UserId", token.purpose as "purpose: Purpose",
                     token.payload as "about: Json<About>", token.created_at"#,
        hash.as_slice(),
        &names(purposes) as _,
        now,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(Found::from))
}

/// Makes the unused tokens of an account useless: all of these purposes, made at or after `since` if one is given.
pub async fn retire_tokens(
    conn: &mut PgConnection,
    user: UserId,
    purposes: &[Purpose],
    since: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update auth.one_time_tokens
         set used_at = $4
         where user_id = $1 and purpose = any($2) and used_at is null and ($3::timestamptz is null or created_at >= $3)",
        user as UserId,
        &names(purposes) as _,
        since,
        now,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// How many tokens of this purpose an account was sent since an instant.
pub async fn count_tokens(
    conn: &mut PgConnection,
    user: UserId,
    purpose: Purpose,
    since: DateTime<Utc>,
) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from auth.one_time_tokens
           where user_id = $1 and purpose = $2 and created_at > $3"#,
        user as UserId,
        purpose.as_str(),
        since,
    )
    .fetch_one(conn)
    .await
}

fn names(purposes: &[Purpose]) -> Vec<String> {
    purposes.iter().map(|purpose| purpose.as_str().to_owned()).collect()
}

/// Notes that somebody asked for a link.
pub async fn insert_request(db: impl PgExecutor<'_>, request: &Request, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into auth.recovery_requests (id, purpose, email, requested_at) values ($1, $2, $3, $4)",
        request.id,
        request.purpose.as_str(),
        request.email,
        now,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Takes the oldest requests. They are gone when the transaction commits and back when it does not.
pub async fn take_requests(conn: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Request>> {
    sqlx::query_as!(
        Request,
        r#"delete from auth.recovery_requests
           where id in (
               select id from auth.recovery_requests order by requested_at limit $1 for update skip locked
           )
           returning id, purpose as "purpose: Purpose", email"#,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// An account as a link is written to it.
pub struct Recipient {
    pub id: UserId,
    pub email: String,
    pub email_display: String,
    pub first_name: Option<String>,
    pub is_verified: bool,
}

/// The account of this address, if it may sign in at all; locked until the end of the transaction.
pub async fn lock_recipient(conn: &mut PgConnection, email: &str) -> sqlx::Result<Option<Recipient>> {
    sqlx::query_as!(
        Recipient,
        r#"select id as "id: UserId", email, email_display, first_name, is_verified
           from auth.users
           where email = $1 and deleted_at is null and suspended_at is null
           for no key update"#,
        email,
    )
    .fetch_optional(conn)
    .await
}

/// The account of this id.
pub async fn find_recipient(conn: &mut PgConnection, user: UserId) -> sqlx::Result<Option<Recipient>> {
    sqlx::query_as!(
        Recipient,
        r#"select id as "id: UserId", email, email_display, first_name, is_verified
           from auth.users
           where id = $1 and deleted_at is null"#,
        user as UserId,
    )
    .fetch_optional(conn)
    .await
}

/// Whether an account has this address.
pub async fn is_taken(conn: &mut PgConnection, email: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from auth.users where email = $1) as "taken!""#,
        email,
    )
    .fetch_one(conn)
    .await
}

/// Sets a new password and ends a lockout. Whoever holds a link sent to the present address has proven that it is theirs.
/// `false`: the account is gone or suspended.
pub async fn reset_password(
    conn: &mut PgConnection,
    user: UserId,
    password_hash: &str,
    proven_address: Option<&str>,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let reset = sqlx::query!(
        "update auth.users
         set password_hash = $2, password_changed_at = $4, failed_logins = 0, lockouts = 0, locked_until = null,
             is_verified = is_verified or email = coalesce($3, ''), updated_at = $4
         where id = $1 and deleted_at is null and suspended_at is null",
        user as UserId,
        password_hash,
        proven_address,
        now,
    )
    .execute(conn)
    .await?;
    Ok(reset.rows_affected() == 1)
}

/// Deletes tokens that ran out before an instant.
pub async fn purge_tokens(db: impl PgExecutor<'_>, before: DateTime<Utc>) -> sqlx::Result<u64> {
    let purged = sqlx::query!(
        "delete from auth.one_time_tokens
         where id in (select id from auth.one_time_tokens where expires_at < $1 limit 10000)",
        before,
    )
    .execute(db)
    .await?;
    Ok(purged.rows_affected())
}
