//! All SQL of the mail service, but for the one call that other services make (`queue.rs`).
//!
//! contract: core §9. The clock is the caller's.

use chrono::{DateTime, Utc};
use shared::id::{SessionId, UserId};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// A mail that this worker has claimed for a while.
pub struct Claimed {
    pub id: Uuid,
    pub template: String,
    pub sealed: Option<Vec<u8>>,
    /// This claim included. Also the fence: a later claim has a higher number.
    pub attempts: i32,
    pub not_after: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    /// What the reader has chosen.
    pub language: Option<String>,
    pub timezone: Option<String>,
}

/// Claims what is due, oldest first, until `lease`. Of any number of workers each gets rows of its own.
pub async fn claim(
    db: impl PgExecutor<'_>,
    now: DateTime<Utc>,
    lease: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<Vec<Claimed>> {
    sqlx::query_as!(
        Claimed,
        r#"with claimed as (
               update mail.messages
               set attempts = attempts + 1, next_attempt_at = $2
               where id in (
                   select id from mail.messages
                   where state = 'pending' and next_attempt_at <= $1
                   order by next_attempt_at
                   limit $3
                   for update skip locked
               )
               returning id, user_id, template, sealed, attempts, not_after, created_at
           )
           select claimed.id as "id!", claimed.template as "template!", claimed.sealed, claimed.attempts as "attempts!",
                  claimed.not_after as "not_after!", claimed.created_at as "created_at!",
                  reader.language as "language?", reader.timezone as "timezone?"
           from claimed
           left join users.mail_readers as reader on reader.user_id = claimed.user_id
           order by claimed.created_at"#,
        now,
        lease,
        limit,
    )
    .fetch_all(db)
    .await
}

/// The mail has left: its content is wiped. Does nothing if somebody else has claimed it meanwhile.
pub async fn mark_sent(db: impl PgExecutor<'_>, id: Uuid, attempts: i32, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "update mail.messages
         set state = 'sent', sealed = null, ended_at = $3, outcome = null
         where id = $1 and attempts = $2 and state = 'pending'",
        id,
        attempts,
        now,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Another attempt later.
pub async fn postpone(
    db: impl PgExecutor<'_>,
    id: Uuid,
    attempts: i32,
    until: DateTime<Utc>,
    why: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update mail.messages
         set next_attempt_at = $3, outcome = $4
         where id = $1 and attempts = $2 and state = 'pending'",
        id,
        attempts,
        until,
        why,
    )
    .execute(db)
    .await
    .map(drop)
}

/// The mail will not leave. What might still be of use after a repair keeps its content for a while.
pub async fn bury(
    db: impl PgExecutor<'_>,
    id: Uuid,
    attempts: i32,
    now: DateTime<Utc>,
    why: &str,
    keep: bool,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update mail.messages
         set state = 'dead', sealed = case when $5 then sealed end, ended_at = $3, outcome = $4
         where id = $1 and attempts = $2 and state = 'pending'",
        id,
        attempts,
        now,
        why,
        keep,
    )
    .execute(db)
    .await
    .map(drop)
}

/// How full the queue is.
pub struct Backlog {
    pub pending: i64,
    pub dead: i64,
    pub oldest: Option<DateTime<Utc>>,
}

/// How full the queue is.
pub async fn backlog(db: impl PgExecutor<'_>) -> sqlx::Result<Backlog> {
    sqlx::query_as!(
        Backlog,
        r#"select (select count(*) from mail.messages where state = 'pending') as "pending!",
                  (select count(*) from mail.messages where state = 'dead') as "dead!",
                  (select min(created_at) from mail.messages where state = 'pending') as oldest"#,
    )
    .fetch_one(db)
    .await
}

/// Buries mails that are of no use any more, also where nothing is sent at all. Gives their number.
pub async fn bury_overdue(db: impl PgExecutor<'_>, now: DateTime<Utc>) -> sqlx::Result<u64> {
    let buried = sqlx::query!(
        "update mail.messages
         set state = 'dead', sealed = null, ended_at = $1, outcome = 'overdue'
         where id in (
             select id from mail.messages
             where state = 'pending' and not_after < $1 and next_attempt_at <= $1
             limit 1000
             for update skip locked
         )",
        now,
    )
    .execute(db)
    .await?;
    Ok(buried.rows_affected())
}

/// Wipes what dead mails still hold, and deletes rows and inbox entries nobody needs any more. Gives their number.
pub async fn tidy(
    conn: &mut PgConnection,
    wipe_before: DateTime<Utc>,
    delete_before: DateTime<Utc>,
    forget_before: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let wiped = sqlx::query!(
        "update mail.messages set sealed = null where state <> 'pending' and ended_at < $1 and sealed is not null",
        wipe_before,
    )
    .execute(&mut *conn)
    .await?;
    let deleted = sqlx::query!(
        "delete from mail.messages
         where id in (select id from mail.messages where state <> 'pending' and ended_at < $1 limit 10000)",
        delete_before,
    )
    .execute(&mut *conn)
    .await?;
    let forgotten = sqlx::query!(
        "delete from mail.inbox
         where (consumer_group, event_id) in
             (select consumer_group, event_id from mail.inbox where processed_at < $1 limit 10000)",
        forget_before,
    )
    .execute(conn)
    .await?;
    Ok(wiped.rows_affected() + deleted.rows_affected() + forgotten.rows_affected())
}

/// Where mail of an account goes.
pub struct Addressee {
    pub address: String,
    pub first_name: Option<String>,
}

/// Where mail of an account goes; `None` if the account is gone.
pub async fn find_addressee(conn: &mut PgConnection, user: UserId) -> sqlx::Result<Option<Addressee>> {
    sqlx::query_as!(
        Addressee,
        r#"select email_display as "address!", first_name from auth.accounts where id = $1"#,
        user as UserId,
    )
    .fetch_optional(conn)
    .await
}

/// Has auth keep the digest of a token that ends this session of this account; `false` if there is no such session.
pub async fn issue_session_revocation(
    conn: &mut PgConnection,
    id: Uuid,
    user: UserId,
    session: SessionId,
    token: &[u8],
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select auth.issue_session_revocation($1, $2, $3, $4, $5, $6) as "issued!""#,
        id,
        user as UserId,
        session as SessionId,
        token,
        now,
        until,
    )
    .fetch_one(conn)
    .await
}

/// An account is erased: what waits for it goes, but for the letter that says so; the rest no longer names it.
pub async fn forget_user(conn: &mut PgConnection, user: UserId) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from mail.messages where user_id = $1 and state = 'pending' and template <> 'deletion-done'",
        user as UserId,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!(
        "update mail.messages set user_id = null where user_id = $1",
        user as UserId
    )
    .execute(conn)
    .await
    .map(drop)
}
