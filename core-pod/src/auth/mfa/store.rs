//! All SQL of second factors, passkeys and ceremonies.
//!
//! contract: core §11, §14. Whatever may count once only is decided by one statement: the time step of a code, a recovery
//! code, a ceremony.

use chrono::{DateTime, Utc};
use serde_json::Value;
use shared::{
    auth::Role,
    id::{SessionId, UserId},
};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::model::Evidence;
use crate::auth::{model::Account, store::Digest};

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

/// A session as a token needs it.
pub struct Proven {
    pub amr: Vec<String>,
    pub email: String,
    pub role: Role,
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
