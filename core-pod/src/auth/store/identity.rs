//! SQL of accounts as the other services of the pod see and change them.
//!
//! contract: core §4.4, §5.12, §11 (users)

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use shared::{
    auth::Role,
    id::{SessionId, UserId},
};
use sqlx::{PgConnection, PgExecutor};

use crate::auth::model::{AccountDetails, Category};

/// The advisory lock of whatever could leave the platform without an administrator.
const ADMINISTRATORS: i64 = 0x6164_6d69_6e73;

/// A session as its owner sees it.
pub struct SessionRow {
    pub id: SessionId,
    pub auth_method: String,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
    pub created_at: DateTime<Utc>,
    pub last_seen_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// The accounts of these ids, in no order.
pub async fn list_details(db: impl PgExecutor<'_>, ids: &[UserId]) -> sqlx::Result<Vec<AccountDetails>> {
    let ids: Vec<uuid::Uuid> = ids.iter().map(|id| id.0).collect();
    sqlx::query_as!(
        AccountDetails,
        r#"select id as "id: UserId", email, email_display, username, first_name, last_name, role as "role: Role",
                  is_verified, phone_number, date_of_birth, nationality, user_category as "user_category: Category", locale,
                  mfa_enabled, onboarding_completed_at, suspended_at, suspended_reason, locked_until, last_login_at,
                  password_changed_at, created_at, updated_at
           from auth.users
           where id = any($1) and deleted_at is null"#,
        &ids,
    )
    .fetch_all(db)
    .await
}

/// The account of this id, locked until the end of the transaction.
pub async fn lock_details(conn: &mut PgConnection, id: UserId) -> sqlx::Result<Option<AccountDetails>> {
    sqlx::query_as!(
        AccountDetails,
        r#"select id as "id: UserId", email, email_display, username, first_name, last_name, role as "role: Role",
                  is_verified, phone_number, date_of_birth, nationality, user_category as "user_category: Category", locale,
                  mfa_enabled, onboarding_completed_at, suspended_at, suspended_reason, locked_until, last_login_at,
                  password_changed_at, created_at, updated_at
           from auth.users
           where id = $1 and deleted_at is null
           for no key update"#,
        id as UserId,
    )
    .fetch_optional(conn)
    .await
}

/// Writes back what may change of an account that is locked. The constraints `users_email_key` and `users_username_key`
/// refuse what another account has.
pub async fn save_details(conn: &mut PgConnection, account: &AccountDetails) -> sqlx::Result<()> {
    sqlx::query!(
        "update auth.users
         set email = $2, email_display = $3, username = $4, first_name = $5, last_name = $6, role = $7, is_verified = $8,
             phone_number = $9, date_of_birth = $10, nationality = $11, user_category = $12, locale = $13,
             suspended_at = $14, suspended_reason = $15, updated_at = $16
         where id = $1",
        account.id as UserId,
        account.email,
        account.email_display,
        account.username,
        account.first_name,
        account.last_name,
        account.role as Role,
        account.is_verified,
        account.phone_number,
        account.date_of_birth,
        account.nationality,
        account.user_category as Category,
        account.locale,
        account.suspended_at,
        account.suspended_reason,
        account.updated_at,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Whether another administrator could still act if this one could not. One transaction at a time may ask, until its end.
pub async fn is_dispensable_admin(conn: &mut PgConnection, id: UserId) -> sqlx::Result<bool> {
    sqlx::query!("select 1 as locked from pg_advisory_xact_lock($1)", ADMINISTRATORS)
        .fetch_one(&mut *conn)
        .await?;
    sqlx::query_scalar!(
        r#"select exists (
               select from auth.users
               where role = 'ADMIN' and id <> $1 and suspended_at is null and deleted_at is null
           ) as "exists!""#,
        id as UserId,
    )
    .fetch_one(conn)
    .await
}

/// Notes or takes back that the questions for new travellers are answered. False: there is no such account.
pub async fn set_onboarding_completed(
    db: impl PgExecutor<'_>,
    id: UserId,
    at: Option<DateTime<Utc>>,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select auth.set_onboarding_completed($1, $2) as "changed!""#,
        id as UserId,
        at,
    )
    .fetch_one(db)
    .await
}

/// Deletes an account with everything that hangs on it. False: there was none.
pub async fn delete_account(conn: &mut PgConnection, id: UserId) -> sqlx::Result<bool> {
    let deleted = sqlx::query!("delete from auth.users where id = $1", id as UserId)
        .execute(conn)
        .await?;
    Ok(deleted.rows_affected() > 0)
}

/// The live sessions of an account, newest first.
pub async fn list_sessions(db: impl PgExecutor<'_>, user: UserId, now: DateTime<Utc>) -> sqlx::Result<Vec<SessionRow>> {
    sqlx::query_as!(
        SessionRow,
        r#"select id as "id: SessionId", auth_method, ip_address, user_agent, created_at, last_seen_at, expires_at
           from auth.sessions
           where user_id = $1 and revoked_at is null and expires_at > $2 and absolute_expires_at > $2
           order by created_at desc, id desc"#,
        user as UserId,
        now,
    )
    .fetch_all(db)
    .await
}

/// Ends all live sessions of an account but perhaps one.
pub async fn end_all_sessions(
    conn: &mut PgConnection,
    user: UserId,
    except: Option<SessionId>,
    reason: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<SessionId>> {
    sqlx::query_scalar!(
        r#"update auth.sessions
           set revoked_at = $4, revoke_reason = $3
           where user_id = $1 and revoked_at is null and ($2::uuid is null or id <> $2)
           returning id as "id: SessionId""#,
        user as UserId,
        except as Option<SessionId>,
        reason,
        now,
    )
    .fetch_all(conn)
    .await
}

/// Ends one live session of an account. False: it has no such session.
pub async fn end_session_of(
    conn: &mut PgConnection,
    user: UserId,
    session: SessionId,
    reason: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let ended = sqlx::query!(
        "update auth.sessions
         set revoked_at = $4, revoke_reason = $3
         where id = $2 and user_id = $1 and revoked_at is null and expires_at > $4 and absolute_expires_at > $4",
        user as UserId,
        session as SessionId,
        reason,
        now,
    )
    .execute(conn)
    .await?;
    Ok(ended.rows_affected() > 0)
}

/// Writes down when sessions were used last.
pub async fn note_seen(db: impl PgExecutor<'_>, seen: &HashMap<SessionId, DateTime<Utc>>) -> sqlx::Result<u64> {
    let (sessions, times): (Vec<uuid::Uuid>, Vec<DateTime<Utc>>) = seen.iter().map(|(id, at)| (id.0, *at)).unzip();
    let noted = sqlx::query!(
        "update auth.sessions as session
         set last_seen_at = seen.at
         from unnest($1::uuid[], $2::timestamptz[]) as seen (id, at)
         where session.id = seen.id and session.last_seen_at < seen.at",
        &sessions,
        &times,
    )
    .execute(db)
    .await?;
    Ok(noted.rows_affected())
}

/// Sessions of an account that ended for this reason since `since`: their tokens are not past yet.
pub async fn list_ended(
    db: impl PgExecutor<'_>,
    user: UserId,
    reason: &str,
    since: DateTime<Utc>,
) -> sqlx::Result<Vec<SessionId>> {
    sqlx::query_scalar!(
        r#"select id as "id: SessionId" from auth.sessions
           where user_id = $1 and revoke_reason = $2 and revoked_at > $3"#,
        user as UserId,
        reason,
        since,
    )
    .fetch_all(db)
    .await
}
