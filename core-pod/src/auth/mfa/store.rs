//! All SQL of second factors, passkeys and ceremonies.
//!
//! contract: core §11, §14. Whatever may count once only is decided by one statement: the time step of a code, a recovery
//! code, a ceremony.

mod ceremony;
mod passkey;

use chrono::{DateTime, Utc};
use shared::{
    auth::Role,
    id::{SessionId, UserId},
};
use sqlx::{PgConnection, PgExecutor};

pub use self::{ceremony::*, passkey::*};
use super::model::Evidence;
use crate::auth::{model::Account, store::Digest};

/// The second factors of an account.
pub struct Status {
    pub totp_confirmed_at: Option<DateTime<Utc>>,
    pub recovery_codes: i64,
    pub passkeys: i64,
    pub has_password: bool,
    pub identities: i64,
}

/// A stored authenticator app.
pub struct StoredTotp {
    pub secret: Vec<u8>,
    pub confirmed_at: Option<DateTime<Utc>>,
}

/// A session as a token needs it.
pub struct Proven {
    pub amr: Vec<String>,
    pub email: String,
    pub role: Role,
}

/// Whether a password alone is not enough for this account.
pub async fn has_second_factor(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"select mfa_enabled from auth.users where id = $1"#, user as UserId)
        .fetch_optional(db)
        .await
        .map(Option::unwrap_or_default)
}

/// An account that is locked until the end of the transaction.
pub struct Locked {
    pub account: Account,
    pub password_hash: String,
    /// Until when passwords and second factors are refused.
    pub refused_until: Option<DateTime<Utc>>,
}

impl Locked {
    /// Whether there were too many wrong passwords or second factors.
    pub fn is_locked_out(&self, now: DateTime<Utc>) -> bool {
        self.refused_until.is_some_and(|until| now < until)
    }
}

/// Locks the account and reads it with its stored password.
pub async fn lock_account(conn: &mut PgConnection, user: UserId) -> sqlx::Result<Option<Locked>> {
    let row = sqlx::query!(
        "select password_hash, locked_until from auth.users where id = $1 and deleted_at is null for no key update",
        user as UserId,
    )
    .fetch_optional(&mut *conn)
    .await?;
    let account = crate::auth::store::find_account(conn, user).await?;
    Ok(account.zip(row).map(|(account, row)| Locked {
        account,
        password_hash: row.password_hash,
        refused_until: row.locked_until,
    }))
}

/// Notes the sign-in that the second factor completed.
pub async fn note_sign_in(conn: &mut PgConnection, user: UserId, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "update auth.users set last_login_at = $2 where id = $1",
        user as UserId,
        now
    )
    .execute(conn)
    .await
    .map(drop)
}

/// What the owner's page shows.
pub async fn find_status(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<Option<Status>> {
    sqlx::query_as!(
        Status,
        r#"select totp.confirmed_at as "totp_confirmed_at?", account.has_password,
                  (select count(*) from auth.mfa_recovery_codes as code
                   where code.user_id = account.id and code.used_at is null) as "recovery_codes!",
                  (select count(*) from auth.webauthn_credentials as passkey
                   where passkey.user_id = account.id) as "passkeys!",
                  (select count(*) from auth.external_identities as identity
                   where identity.user_id = account.id) as "identities!"
           from auth.users as account
           left join auth.mfa_totp as totp on totp.user_id = account.id
           where account.id = $1"#,
        user as UserId,
    )
    .fetch_optional(db)
    .await
}

/// Puts the secret of an app in place that is not confirmed yet. Says no if one is confirmed already.
pub async fn begin_totp(
    db: impl PgExecutor<'_>,
    user: UserId,
    secret: &[u8],
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "insert into auth.mfa_totp as totp (user_id, secret_sealed, created_at) values ($1, $2, $3)
         on conflict (user_id) do update
         set secret_sealed = excluded.secret_sealed, created_at = excluded.created_at, last_step = 0
         where totp.confirmed_at is null",
        user as UserId,
        secret,
        now,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The app of an account, confirmed or not.
pub async fn find_totp(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<Option<StoredTotp>> {
    sqlx::query_as!(
        StoredTotp,
        "select secret_sealed as secret, confirmed_at from auth.mfa_totp where user_id = $1",
        user as UserId,
    )
    .fetch_optional(db)
    .await
}

/// Takes a time step of a confirmed app. Of any number of uses of one code one gets it.
pub async fn take_step(db: impl PgExecutor<'_>, user: UserId, step: i64) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update auth.mfa_totp set last_step = $2 where user_id = $1 and last_step < $2 and confirmed_at is not null",
        user as UserId,
        step,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Confirms an app whose secret is still this one, with the step of its first code; from now on the account has a second
/// factor.
pub async fn confirm_totp(
    conn: &mut PgConnection,
    user: UserId,
    secret: &[u8],
    step: i64,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "with confirmed as (
             update auth.mfa_totp set confirmed_at = $4, last_step = $3
             where user_id = $1 and secret_sealed = $2 and confirmed_at is null
             returning user_id
         )
         update auth.users set mfa_enabled = true, updated_at = $4 where id in (select user_id from confirmed)",
        user as UserId,
        secret,
        step,
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes the app and the recovery codes away. Says whether there was a confirmed app.
pub async fn delete_totp(conn: &mut PgConnection, user: UserId, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let confirmed = sqlx::query_scalar!(
        r#"with gone as (
               delete from auth.mfa_totp where user_id = $1 returning confirmed_at
           ), codes as (
               delete from auth.mfa_recovery_codes where user_id = $1
           ), account as (
               update auth.users set mfa_enabled = false, updated_at = $2 where id = $1 and mfa_enabled
           )
           select (confirmed_at is not null) as "confirmed!" from gone"#,
        user as UserId,
        now,
    )
    .fetch_optional(conn)
    .await?;
    Ok(confirmed.unwrap_or_default())
}

/// Replaces all recovery codes.
pub async fn replace_recovery_codes(
    conn: &mut PgConnection,
    user: UserId,
    codes: &[Vec<u8>],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!("delete from auth.mfa_recovery_codes where user_id = $1", user as UserId)
        .execute(&mut *conn)
        .await?;
    sqlx::query!(
        "insert into auth.mfa_recovery_codes (user_id, code_hash, created_at)
         select $1, code, $3 from unnest($2::bytea[]) as code",
        user as UserId,
        codes,
        now,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Uses up a recovery code. Of any number of uses of one code one counts.
pub async fn take_recovery_code(
    db: impl PgExecutor<'_>,
    user: UserId,
    code: Digest,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update auth.mfa_recovery_codes set used_at = $3 where user_id = $1 and code_hash = $2 and used_at is null",
        user as UserId,
        code.as_slice(),
        now,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// What is known about the proofs of a live session.
pub async fn find_evidence(db: impl PgExecutor<'_>, session: SessionId) -> sqlx::Result<Option<Evidence>> {
    sqlx::query_as!(
        Evidence,
        r#"select coalesce(session.authenticated_at, session.created_at) as "authenticated_at!",
                  session.second_factor_at,
                  (account.mfa_enabled or exists (
                      select from auth.webauthn_credentials as passkey where passkey.user_id = account.id
                  )) as "uses_second_factor!"
           from auth.sessions as session
           join auth.users as account on account.id = session.user_id
           where session.id = $1"#,
        session as SessionId,
    )
    .fetch_optional(db)
    .await
}

/// Notes a new proof in a live session.
pub async fn note_proof(
    conn: &mut PgConnection,
    session: SessionId,
    amr: &[String],
    second_factor: bool,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Proven>> {
    sqlx::query_as!(
        Proven,
        r#"update auth.sessions as session
           set authenticated_at = $4,
               second_factor_at = case when $3 then $4 else session.second_factor_at end,
               amr = (select array_agg(distinct method) from unnest(session.amr || $2) as method)
           from auth.users as account
           where session.id = $1 and session.revoked_at is null and account.id = session.user_id
           returning session.amr, account.email, account.role as "role: Role""#,
        session as SessionId,
        amr,
        second_factor,
        now,
    )
    .fetch_optional(conn)
    .await
}
