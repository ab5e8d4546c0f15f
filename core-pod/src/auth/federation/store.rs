//! All SQL of accounts at other providers.
//!
//! contract: core §11 (external_identities), §14

use chrono::{DateTime, Utc};
use shared::id::UserId;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// An account of ours and one at a provider.
pub struct NewIdentity<'a> {
    pub id: Uuid,
    pub user: UserId,
    pub provider: &'a str,
    pub subject: &'a str,
    pub email: Option<&'a str>,
    pub now: DateTime<Utc>,
}

/// A link as its owner sees it.
pub struct Identity {
    pub id: Uuid,
    pub provider: String,
    pub email: Option<String>,
    pub created_at: DateTime<Utc>,
    pub last_used_at: DateTime<Utc>,
}

/// Whose account this one at a provider belongs to; notes the visit.
pub async fn use_identity(
    db: impl PgExecutor<'_>,
    provider: &str,
    subject: &str,
    email: Option<&str>,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<UserId>> {
    sqlx::query_scalar!(
        r#"update auth.external_identities
           set last_used_at = $4, email = coalesce($3, email)
           where provider = $1 and subject = $2
           returning user_id as "user: UserId""#,
        provider,
        subject,
        email,
        now,
    )
    .fetch_optional(db)
    .await
}

/// Links an account of ours to one at a provider. The constraints decide races.
pub async fn insert_identity(db: impl PgExecutor<'_>, new: &NewIdentity<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into auth.external_identities (id, user_id, provider, subject, email, created_at, last_used_at)
         values ($1, $2, $3, $4, $5, $6, $6)",
        new.id,
        new.user as UserId,
        new.provider,
        new.subject,
        new.email,
        new.now,
    )
    .execute(db)
    .await
    .map(drop)
}

/// The links of an account.
pub async fn list_identities(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<Vec<Identity>> {
    sqlx::query_as!(
        Identity,
        "select id, provider, email, created_at, last_used_at from auth.external_identities
         where user_id = $1 order by created_at, id",
        user as UserId,
    )
    .fetch_all(db)
    .await
}

/// Takes a link of this account away; gives its provider.
pub async fn delete_identity(db: impl PgExecutor<'_>, user: UserId, id: Uuid) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "delete from auth.external_identities where id = $2 and user_id = $1 returning provider",
        user as UserId,
        id,
    )
    .fetch_optional(db)
    .await
}

/// Marks a new account as one whose password nobody knows and whose address a provider has verified.
pub async fn mark_as_foreign(conn: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    sqlx::query!(
        "update auth.users set has_password = false, is_verified = true where id = $1",
        user as UserId
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Notes that a provider has verified the account's own address.
pub async fn mark_as_verified(conn: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    sqlx::query!(
        "update auth.users set is_verified = true where id = $1 and not is_verified",
        user as UserId
    )
    .execute(conn)
    .await
    .map(drop)
}
