//! All SQL of the auth service.
//!
//! contract: core §2.4, §2.5, §11. Secrets arrive here as SHA-256 only. The clock is the caller's: no statement asks the
//! database for the time.

mod identity;
mod keys;
mod lockout;
mod security;

use chrono::{DateTime, Utc};
use shared::{
    auth::Role,
    id::{SessionId, UserId},
};
use sqlx::{PgConnection, PgExecutor};

pub use self::{identity::*, keys::*, lockout::*, security::*};
use super::model::{Account, Family};

/// Cookies one session may have: a browser that lost its own gets another, a program that never keeps one cannot pile up.
const COOKIES_PER_SESSION: i64 = 5;

/// A digest of a secret, as stored.
pub type Digest = [u8; 32];

/// A new account.
pub struct NewAccount<'a> {
    pub id: UserId,
    pub email: &'a str,
    pub email_display: &'a str,
    pub username: Option<&'a str>,
    pub password_hash: &'a str,
    pub first_name: Option<&'a str>,
    pub last_name: Option<&'a str>,
    pub role: Role,
    pub now: DateTime<Utc>,
}

/// A new sign-in with its first secrets.
pub struct NewSession<'a> {
    pub id: SessionId,
    pub user: UserId,
    pub remember_me: bool,
    pub method: &'a str,
    pub amr: &'a [String],
    pub second_factor: bool,
    pub ip_address: &'a str,
    pub user_agent: Option<&'a str>,
    pub refresh: Digest,
    pub cookie: Digest,
    /// The fingerprint of the program.
    pub device: Digest,
    pub event: NewSessionEvent<'a>,
    pub expires_at: DateTime<Utc>,
    pub absolute_expires_at: DateTime<Utc>,
    pub now: DateTime<Utc>,
}

/// The security event of a new session.
pub struct NewSessionEvent<'a> {
    pub id: uuid::Uuid,
    pub kind: &'a str,
    /// The kind if the account never used the program.
    pub new_device_kind: &'a str,
    pub data: &'a serde_json::Value,
}

/// What a claimed refresh token leads to.
pub struct Claimed {
    pub session: SessionId,
    pub user: UserId,
    pub remember_me: bool,
    pub absolute_expires_at: DateTime<Utc>,
    pub email: String,
    pub role: Role,
    pub amr: Vec<String>,
    pub authenticated_at: DateTime<Utc>,
}

/// What a session check reads.
pub struct Checked {
    pub session: SessionId,
    pub user: UserId,
    pub role: Role,
    pub email: String,
    /// Digests of the session's cookies; none when it was found by one.
    pub cookies: Vec<Vec<u8>>,
    pub suspended: bool,
    pub gone: bool,
    pub live: bool,
}

/// A session that has just been ended.
pub struct Ended {
    pub session: SessionId,
    pub user: UserId,
}

/// Inserts an account. The constraints `users_email_key` and `users_username_key` decide races.
pub async fn insert_account(conn: &mut PgConnection, account: &NewAccount<'_>) -> sqlx::Result<()> {
    let NewAccount {
        id,
        email,
        email_display,
        username,
        password_hash,
        first_name,
        last_name,
        role,
        now,
    } = *account;
    sqlx::query!(
        "insert into auth.users
             (id, email, email_display, username, password_hash, first_name, last_name, role, last_login_at, created_at,
              updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $9)",
        id as UserId,
        email,
        email_display,
        username,
        password_hash,
        first_name,
        last_name,
        role as Role,
        now,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// The account of this id.
pub async fn find_account(db: impl PgExecutor<'_>, id: UserId) -> sqlx::Result<Option<Account>> {
    sqlx::query_as!(
        Account,
        r#"select id as "id: UserId", email, username, first_name, last_name, role as "role: Role", is_verified,
                  onboarding_completed_at, suspended_at, created_at, updated_at
           from auth.users
           where id = $1 and deleted_at is null"#,
        id as UserId,
    )
    .fetch_optional(db)
    .await
}

/// The stored password of the account with this address.
pub async fn find_password(db: impl PgExecutor<'_>, email: &str) -> sqlx::Result<Option<(UserId, String)>> {
    let row = sqlx::query!(
        r#"select id as "id: UserId", password_hash from auth.users where email = $1 and deleted_at is null"#,
        email,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| (row.id, row.password_hash)))
}

/// The stored password of this account.
pub async fn find_password_of(db: impl PgExecutor<'_>, id: UserId) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        "select password_hash from auth.users where id = $1 and deleted_at is null",
        id as UserId
    )
    .fetch_optional(db)
    .await
}

/// An account whose password was accepted.
pub struct Entered {
    pub account: Account,
    /// Whether the password alone is not enough.
    pub second_factor: bool,
}

/// Notes a sign-in and locks the account, so that the limit of sessions holds for sign-ins at the same time; wrong
/// passwords are forgotten, an outdated hash is replaced. `None` if the account was deleted or locked or its password
/// changed since it was checked.
pub async fn note_login(
    conn: &mut PgConnection,
    id: UserId,
    password_hash: &str,
    upgraded: Option<&str>,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Entered>> {
    let row = sqlx::query!(
        r#"update auth.users
           set last_login_at = case when suspended_at is null then $3 else last_login_at end,
               password_hash = coalesce($4, password_hash),
               failed_logins = 0, lockouts = 0, locked_until = null
           where id = $1 and password_hash = $2 and deleted_at is null and (locked_until is null or locked_until <= $3)
           returning id as "id: UserId", email, username, first_name, last_name, role as "role: Role", is_verified,
                     onboarding_completed_at, suspended_at, created_at, updated_at, mfa_enabled"#,
        id as UserId,
        password_hash,
        now,
        upgraded,
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| Entered {
        account: Account {
            id: row.id,
            email: row.email,
            username: row.username,
            first_name: row.first_name,
            last_name: row.last_name,
            role: row.role,
            is_verified: row.is_verified,
            onboarding_completed_at: row.onboarding_completed_at,
            suspended_at: row.suspended_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        },
        second_factor: row.mfa_enabled,
    }))
}

/// Replaces the outdated hash of a password that was checked, and nothing else. Says whether it was still there.
pub async fn replace_hash(
    db: impl PgExecutor<'_>,
    id: UserId,
    checked_hash: &str,
    upgraded: &str,
) -> sqlx::Result<bool> {
    let replaced = sqlx::query!(
        "update auth.users set password_hash = $3 where id = $1 and password_hash = $2 and deleted_at is null",
        id as UserId,
        checked_hash,
        upgraded,
    )
    .execute(db)
    .await?;
    Ok(replaced.rows_affected() > 0)
}

/// Replaces the password of an account whose present one was checked. `false` if the account was deleted or locked or its
/// password changed since.
pub async fn change_password(
    conn: &mut PgConnection,
    id: UserId,
    checked_hash: &str,
    new_hash: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let changed = sqlx::query!(
        "update auth.users
         set password_hash = $3, password_changed_at = $4, updated_at = $4,
             failed_logins = 0, lockouts = 0, locked_until = null
         where id = $1 and password_hash = $2 and deleted_at is null and (locked_until is null or locked_until <= $4)",
        id as UserId,
        checked_hash,
        new_hash,
        now,
    )
    .execute(conn)
    .await?;
    Ok(changed.rows_affected() > 0)
}

/// What opening a session found.
pub struct OpenedSession {
    /// The account was used before, and never with this program.
    pub new_device: bool,
    /// The sessions that had to make room.
    pub evicted: Vec<SessionId>,
}

/// Inserts a session with its first refresh token and cookie, ends the oldest ones beyond `max_live`, this included, and
/// notes the program and the security event (`kind`, or `new_device_kind` for a new program): all in one statement. Its
/// snapshot has to be younger than the lock of the account's row, which the caller holds.
pub async fn insert_session(
    conn: &mut PgConnection,
    session: &NewSession<'_>,
    max_live: i64,
) -> sqlx::Result<OpenedSession> {
    let NewSession {
        id,
        user,
        remember_me,
        method,
        amr,
        second_factor,
        ip_address,
        user_agent,
        refresh,
        cookie,
        device,
        event,
        ..
    } = session;
    let opened = sqlx::query!(
        r#"with opened as (
               insert into auth.sessions
                   (id, user_id, remember_me, auth_method, ip_address, user_agent, created_at, last_seen_at, expires_at,
                    absolute_expires_at, amr, authenticated_at, second_factor_at)
               values ($1, $2, $3, $4, $5, $6, $11, $11, $9, $10, $13, $11, case when $14 then $11::timestamptz end)
           ), token as (
               insert into auth.refresh_tokens (token_hash, session_id, issued_at, expires_at) values ($7, $1, $11, $9)
           ), cookie as (
               insert into auth.session_cookies (token_hash, session_id, created_at) values ($8, $1, $11)
           ), evicted as (
               update auth.sessions
               set revoked_at = $11, revoke_reason = 'evicted'
               where id in (
                   select id from auth.sessions
                   where user_id = $2 and revoked_at is null and expires_at > $11
                   order by created_at desc, id desc
                   offset $12
               )
               returning id
           ), noted as (
               insert into auth.known_devices as device (user_id, fingerprint, first_seen_at, last_seen_at)
               values ($2, $15, $11, $11)
               on conflict (user_id, fingerprint) do update set last_seen_at = excluded.last_seen_at
               returning (device.xmax = 0) as inserted
           ), news as (
               select noted.inserted and exists (select from auth.known_devices where user_id = $2) as new_device
               from noted
           ), told as (
               insert into auth.security_events
                   (id, user_id, kind, session_id, ip_address, user_agent, data, created_at)
               select $16, $2, case when new_device then $18 else $17 end, $1, $5, $6, $19, $11 from news
           )
           select new_device as "new_device!", array(select id from evicted) as "evicted!" from news"#,
        *id as SessionId,
        *user as UserId,
        *remember_me,
        *method,
        *ip_address,
        *user_agent,
        refresh.as_slice(),
        cookie.as_slice(),
        session.expires_at,
        session.absolute_expires_at,
        session.now,
        (max_live - 1).max(0),
        *amr,
        *second_factor,
        device.as_slice(),
        event.id,
        event.kind,
        event.new_device_kind,
        event.data,
    )
    .fetch_one(conn)
    .await?;
    Ok(OpenedSession {
        new_device: opened.new_device,
        evicted: opened.evicted.into_iter().map(SessionId::from).collect(),
    })
}

/// The accounts with a live session that was opened or refreshed within `window`: its newest refresh token says so by
/// when it expires, which is `lives` after that.
pub async fn count_active_people(
    db: impl PgExecutor<'_>,
    lives: [std::time::Duration; 2],
    window: std::time::Duration,
    now: DateTime<Utc>,
) -> sqlx::Result<i64> {
    let [short, long] = lives.map(|life| now + life);
    sqlx::query_scalar!(
        r#"select count(distinct session.user_id) as "count!"
           from auth.refresh_tokens as token
           join auth.sessions as session on session.id = token.session_id
           where ((token.expires_at > $1 and token.expires_at <= $2 and not session.remember_me)
                  or (token.expires_at > $3 and token.expires_at <= $4 and session.remember_me))
             and session.revoked_at is null"#,
        short - window,
        short,
        long - window,
        long,
    )
    .fetch_one(db)
    .await
}

/// Marks a refresh token used, if it is unused and all around it lives. Of any number of callers one gets the row.
pub async fn claim_refresh(
    conn: &mut PgConnection,
    token: Digest,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Claimed>> {
    sqlx::query_as!(
        Claimed,
        r#"update auth.refresh_tokens as token
           set used_at = $2
           from auth.sessions as session
           join auth.users as account on account.id = session.user_id
           where token.token_hash = $1 and token.used_at is null and token.expires_at > $2
             and session.id = token.session_id and session.revoked_at is null and session.absolute_expires_at > $2
             and account.deleted_at is null and account.suspended_at is null
           returning session.id as "session: SessionId", session.user_id as "user: UserId", session.remember_me,
                     session.absolute_expires_at, account.email, account.role as "role: Role", session.amr,
                     coalesce(session.authenticated_at, session.created_at) as "authenticated_at!""#,
        token.as_slice(),
        now,
    )
    .fetch_optional(conn)
    .await
}

/// Puts the next refresh token in place and lets the session slide.
pub async fn insert_refresh(
    conn: &mut PgConnection,
    session: SessionId,
    token: Digest,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "with token as (
             insert into auth.refresh_tokens (token_hash, session_id, issued_at, expires_at) values ($2, $1, $4, $3)
         )
         update auth.sessions set expires_at = $3, last_seen_at = $4 where id = $1",
        session as SessionId,
        token.as_slice(),
        expires_at,
        now,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// What is known of a refresh token that could not be claimed.
pub async fn find_family(conn: &mut PgConnection, token: Digest) -> sqlx::Result<Option<Family>> {
    sqlx::query_as!(
        Family,
        r#"select session.id as "session: SessionId", session.user_id as "user: UserId", token.used_at, token.expires_at,
                  session.revoked_at, (account.suspended_at is not null) as "suspended!"
           from auth.refresh_tokens as token
           join auth.sessions as session on session.id = token.session_id
           join auth.users as account on account.id = session.user_id
           where token.token_hash = $1"#,
        token.as_slice(),
    )
    .fetch_optional(conn)
    .await
}

/// Adds a browser cookie to a live session in one round trip; the oldest beyond the limit go. Gives when the session ends
/// unless it is refreshed, `None` if it is over.
pub async fn give_cookie(
    db: impl PgExecutor<'_>,
    session: SessionId,
    cookie: Digest,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        "with live as (
             select id, expires_at from auth.sessions where id = $1 and revoked_at is null and expires_at > $3
         ), surplus as (
             delete from auth.session_cookies
             where token_hash in (
                 select token_hash from auth.session_cookies
                 where session_id = $1
                 order by created_at desc
                 offset $4
             )
         ), given as (
             insert into auth.session_cookies (token_hash, session_id, created_at) select $2, id, $3 from live
         )
         select expires_at from live",
        session as SessionId,
        cookie.as_slice(),
        now,
        COOKIES_PER_SESSION - 1,
    )
    .fetch_optional(db)
    .await
}

/// Adds a browser cookie to a live session; the oldest beyond the limit go.
pub async fn insert_cookie(
    conn: &mut PgConnection,
    session: SessionId,
    cookie: Digest,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "with surplus as (
             delete from auth.session_cookies
             where token_hash in (
                 select token_hash from auth.session_cookies
                 where session_id = $1
                 order by created_at desc
                 offset $4
             )
         )
         insert into auth.session_cookies (token_hash, session_id, created_at) values ($2, $1, $3)",
        session as SessionId,
        cookie.as_slice(),
        now,
        COOKIES_PER_SESSION - 1,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Deletes all secrets of a session and gives it one new cookie. A deleted refresh token is unknown: presenting it is
/// refused and taken for no theft, for its browser may not have heard of the change yet. Gives the digests of the cookies.
pub async fn replace_secrets(
    conn: &mut PgConnection,
    session: SessionId,
    cookie: Digest,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<Vec<u8>>> {
    sqlx::query_scalar!(
        "with tokens as (
             delete from auth.refresh_tokens where session_id = $1
         ), old as (
             delete from auth.session_cookies where session_id = $1 returning token_hash
         ), new as (
             insert into auth.session_cookies (token_hash, session_id, created_at) values ($2, $1, $3)
         )
         select token_hash from old",
        session as SessionId,
        cookie.as_slice(),
        now,
    )
    .fetch_all(conn)
    .await
}

/// When a live session ends unless it is refreshed, and whether its browser is to be remembered.
pub async fn find_expiry(db: impl PgExecutor<'_>, session: SessionId) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_scalar!(
        "select expires_at from auth.sessions where id = $1",
        session as SessionId
    )
    .fetch_optional(db)
    .await
}

/// Ends live sessions named by id, by refresh token or by cookie. Repeating it ends nothing more.
pub async fn end_sessions(
    conn: &mut PgConnection,
    ids: &[SessionId],
    refresh: &[Vec<u8>],
    cookies: &[Vec<u8>],
    reason: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<Vec<Ended>> {
    let ids: Vec<uuid::Uuid> = ids.iter().map(|id| id.0).collect();
    sqlx::query_as!(
        Ended,
        r#"update auth.sessions
           set revoked_at = $5, revoke_reason = $4
           where revoked_at is null and id in (
               select unnest($1::uuid[])
               union select session_id from auth.refresh_tokens where token_hash = any($2)
               union select session_id from auth.session_cookies where token_hash = any($3)
           )
           returning id as "session: SessionId", user_id as "user: UserId""#,
        &ids,
        refresh,
        cookies,
        reason,
        now,
    )
    .fetch_all(conn)
    .await
}

/// The session of this id and the state of its account, for the check of every request.
pub async fn check_session(
    db: impl PgExecutor<'_>,
    session: SessionId,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Checked>> {
    sqlx::query_as!(
        Checked,
        r#"select session.id as "session: SessionId", session.user_id as "user: UserId", account.role as "role: Role",
                  account.email, array(select token_hash from auth.session_cookies where session_id = session.id) as "cookies!",
                  (account.suspended_at is not null) as "suspended!", (account.deleted_at is not null) as "gone!",
                  (session.revoked_at is null and session.expires_at > $2 and session.absolute_expires_at > $2) as "live!"
           from auth.sessions as session
           join auth.users as account on account.id = session.user_id
           where session.id = $1"#,
        session as SessionId,
        now,
    )
    .fetch_optional(db)
    .await
}

/// The same by cookie.
pub async fn check_cookie(
    db: impl PgExecutor<'_>,
    cookie: Digest,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Checked>> {
    sqlx::query_as!(
        Checked,
        r#"select session.id as "session: SessionId", session.user_id as "user: UserId", account.role as "role: Role",
                  account.email, '{}'::bytea[] as "cookies!",
                  (account.suspended_at is not null) as "suspended!", (account.deleted_at is not null) as "gone!",
                  (session.revoked_at is null and session.expires_at > $2 and session.absolute_expires_at > $2) as "live!"
           from auth.session_cookies as cookie
           join auth.sessions as session on session.id = cookie.session_id
           join auth.users as account on account.id = session.user_id
           where cookie.token_hash = $1"#,
        cookie.as_slice(),
        now,
    )
    .fetch_optional(db)
    .await
}

/// Deletes a batch of sessions that ended before `before`, with their secrets, and refresh tokens nobody can present any
/// more. Gives the number of rows.
pub async fn purge(conn: &mut PgConnection, before: DateTime<Utc>, batch: i64) -> sqlx::Result<u64> {
    let sessions = sqlx::query!(
        "delete from auth.sessions where id in (
             select id from auth.sessions
             where expires_at < $1 or revoked_at < $1
             limit $2
             for update skip locked
         )",
        before,
        batch,
    )
    .execute(&mut *conn)
    .await?;
    let tokens = sqlx::query!(
        "delete from auth.refresh_tokens where token_hash in (
             select token_hash from auth.refresh_tokens where expires_at < $1 limit $2 for update skip locked
         )",
        before,
        batch,
    )
    .execute(conn)
    .await?;
    Ok(sessions.rows_affected() + tokens.rows_affected())
}
