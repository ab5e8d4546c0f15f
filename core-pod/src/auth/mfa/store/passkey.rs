//! SQL of passkeys.
//!
//! contract: core §11 (webauthn_credentials), §14

use chrono::{DateTime, Utc};
use serde_json::Value;
use shared::id::UserId;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// A stored passkey.
pub struct StoredPasskey {
    pub id: Uuid,
    pub user: UserId,
    pub passkey: Value,
}

/// A passkey as its owner sees it.
pub struct ListedPasskey {
    pub id: Uuid,
    pub name: String,
    pub created_at: DateTime<Utc>,
    pub last_used_at: Option<DateTime<Utc>>,
}

/// The passkeys of an account, for a challenge that names them.
pub async fn passkeys_of(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<Vec<Value>> {
    sqlx::query_scalar!(
        "select passkey from auth.webauthn_credentials where user_id = $1 order by created_at",
        user as UserId
    )
    .fetch_all(db)
    .await
}

/// The passkeys of an account, as its owner sees them.
pub async fn list_passkeys(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<Vec<ListedPasskey>> {
    sqlx::query_as!(
        ListedPasskey,
        "select id, name, created_at, last_used_at from auth.webauthn_credentials
         where user_id = $1 order by created_at, id",
        user as UserId,
    )
    .fetch_all(db)
    .await
}

/// Locks a passkey of this account, so that two assertions cannot both move its counter from the same value.
pub async fn lock_passkey(
    conn: &mut PgConnection,
    user: UserId,
    credential: &[u8],
) -> sqlx::Result<Option<StoredPasskey>> {
    sqlx::query_as!(
        StoredPasskey,
        r#"select id, user_id as "user: UserId", passkey
           from auth.webauthn_credentials
           where credential_id = $2 and user_id = $1
           for update"#,
        user as UserId,
        credential,
    )
    .fetch_optional(conn)
    .await
}

/// Inserts a passkey, unless the account has `most` already.
pub async fn insert_passkey(
    conn: &mut PgConnection,
    user: UserId,
    passkey: &NewPasskey<'_>,
    most: i64,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "insert into auth.webauthn_credentials (id, user_id, credential_id, passkey, name, created_at)
         select $1, $2, $3, $4, $5, $6
         where (select count(*) from auth.webauthn_credentials where user_id = $2) < $7",
        passkey.id,
        user as UserId,
        passkey.credential,
        passkey.passkey,
        passkey.name,
        now,
        most,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A passkey about to be stored.
pub struct NewPasskey<'a> {
    pub id: Uuid,
    pub credential: &'a [u8],
    pub passkey: &'a Value,
    pub name: &'a str,
}

/// Stores what an assertion changed: the counter, and when it was.
pub async fn note_passkey_use(
    conn: &mut PgConnection,
    id: Uuid,
    passkey: &Value,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update auth.webauthn_credentials set passkey = $2, last_used_at = $3 where id = $1",
        id,
        passkey,
        now,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Gives a passkey of this account another name.
pub async fn rename_passkey(
    db: impl PgExecutor<'_>,
    user: UserId,
    id: Uuid,
    name: &str,
) -> sqlx::Result<Option<ListedPasskey>> {
    sqlx::query_as!(
        ListedPasskey,
        "update auth.webauthn_credentials set name = $3 where id = $2 and user_id = $1
         returning id, name, created_at, last_used_at",
        user as UserId,
        id,
        name,
    )
    .fetch_optional(db)
    .await
}

/// Deletes a passkey of this account.
pub async fn delete_passkey(db: impl PgExecutor<'_>, user: UserId, id: Uuid) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "delete from auth.webauthn_credentials where id = $2 and user_id = $1",
        user as UserId,
        id
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Deletes all passkeys of an account.
pub async fn delete_passkeys(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from auth.webauthn_credentials where user_id = $1",
        user as UserId
    )
    .execute(db)
    .await
    .map(drop)
}
