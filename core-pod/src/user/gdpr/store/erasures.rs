//! SQL of erasures.
//!
//! contract: core §11 (`gdpr_requests`, `erasure_log`), §14

use chrono::{DateTime, Utc};
use serde_json::Value;
use shared::id::UserId;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::user::gdpr::{erasure::ErasureId, model::RequestId};

/// An erasure to begin.
pub struct NewErasure<'a> {
    pub id: ErasureId,
    pub user: UserId,
    pub request: Option<RequestId>,
    /// `request` or `admin`.
    pub origin: &'a str,
    pub actor: Option<UserId>,
    pub reason: Option<&'a str>,
    /// Whom to write to at the end, sealed.
    pub contact: &'a [u8],
    pub requested_at: DateTime<Utc>,
    pub now: DateTime<Utc>,
}

/// An erasure that this process works on.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub id: ErasureId,
    pub user: UserId,
    pub request: Option<RequestId>,
    pub origin: String,
    pub contact: Option<Vec<u8>>,
    pub requested_at: DateTime<Utc>,
    /// Which attempt this is.
    pub attempts: i32,
}

/// What is remembered of a traveller until the end.
pub struct Addressee {
    pub email: String,
    pub first_name: Option<String>,
    pub language: Option<String>,
}

/// A deletion whose grace is over.
pub struct DueDeletion {
    pub id: RequestId,
    pub user: UserId,
    pub requested_at: DateTime<Utc>,
    pub reason: Option<String>,
}

/// Where to write to, and in which language. `None`: there is no such account.
pub async fn find_addressee(conn: &mut PgConnection, user: UserId) -> sqlx::Result<Option<Addressee>> {
    sqlx::query_as!(
        Addressee,
        r#"select account.email_display as "email!", account.first_name, settings.language as "language?"
           from auth.accounts as account
           left join users.settings as settings on settings.user_id = account.id
           where account.id = $1"#,
        user as UserId,
    )
    .fetch_optional(conn)
    .await
}

/// Locks one deletion whose grace is over and says that it is being carried out.
pub async fn take_due(conn: &mut PgConnection, now: DateTime<Utc>) -> sqlx::Result<Option<DueDeletion>> {
    sqlx::query_as!(
        DueDeletion,
        r#"update users.gdpr_requests
           set status = 'IN_PROGRESS', processed_at = $1
           where id = (
               select id from users.gdpr_requests
               where request_type = 'DATA_DELETION' and status = 'PENDING' and execute_after <= $1
               order by execute_after
               limit 1
               for update skip locked
           )
           returning id as "id: RequestId", user_id as "user: UserId", requested_at, reason"#,
        now,
    )
    .fetch_optional(conn)
    .await
}

/// A deletion whose account is gone already has nothing left to do.
pub async fn close_request(conn: &mut PgConnection, id: RequestId, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "update users.gdpr_requests set status = 'COMPLETED', completed_at = $2 where id = $1",
        id as RequestId,
        now,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Begins an erasure, unless one of this traveller is under way. Gives the one that is.
pub async fn begin(conn: &mut PgConnection, new: &NewErasure<'_>) -> sqlx::Result<ErasureId> {
    sqlx::query!(
        "insert into users.erasures
             (id, user_id, request_id, origin, actor_id, reason, contact, requested_at, started_at, next_attempt_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)
         on conflict (user_id) do nothing",
        new.id as ErasureId,
        new.user as UserId,
        new.request as Option<RequestId>,
        new.origin,
        new.actor as Option<UserId>,
        new.reason,
        new.contact,
        new.requested_at,
        new.now,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query_scalar!(
        r#"select id as "id: ErasureId" from users.erasures where user_id = $1"#,
        new.user as UserId,
    )
    .fetch_one(conn)
    .await
}

/// Takes one erasure that is due until `lease`: a certain one or any.
pub async fn claim(
    db: impl PgExecutor<'_>,
    only: Option<ErasureId>,
    now: DateTime<Utc>,
    lease: DateTime<Utc>,
) -> sqlx::Result<Option<Claimed>> {
    sqlx::query_as!(
        Claimed,
        r#"update users.erasures
           set attempts = attempts + 1, next_attempt_at = $3
           where id = (
               select id from users.erasures
               where next_attempt_at <= $2 and ($1::uuid is null or id = $1)
               order by next_attempt_at
               limit 1
               for update skip locked
           )
           returning id as "id: ErasureId", user_id as "user: UserId", request_id as "request: RequestId", origin,
                     contact, requested_at, attempts"#,
        only.map(|id| id.0) as Option<Uuid>,
        now,
        lease,
    )
    .fetch_optional(db)
    .await
}

/// The steps that are done.
pub async fn steps_done(db: impl PgExecutor<'_>, id: ErasureId) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "select step from users.erasure_steps where erasure_id = $1",
        id as ErasureId
    )
    .fetch_all(db)
    .await
}

/// Notes that a step is done. False: it was noted before, or the erasure is over.
pub async fn note_step(
    conn: &mut PgConnection,
    id: ErasureId,
    step: &str,
    summary: &Value,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let noted = sqlx::query!(
        "insert into users.erasure_steps (erasure_id, step, done_at, summary)
         select erasure.id, $2, $3, $4
         from users.erasures as erasure
         where erasure.id = $1
         for update
         on conflict (erasure_id, step) do nothing",
        id as ErasureId,
        step,
        now,
        summary,
    )
    .execute(conn)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// Lets an erasure be tried again from `next` on.
pub async fn postpone(db: impl PgExecutor<'_>, job: &Claimed, next: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "update users.erasures set next_attempt_at = $3 where id = $1 and attempts = $2",
        job.id as ErasureId,
        job.attempts,
        next,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Gives an erasure up before anything was erased; its request waits until `again`.
pub async fn abandon(conn: &mut PgConnection, job: &Claimed, again: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!("delete from users.erasures where id = $1", job.id as ErasureId)
        .execute(&mut *conn)
        .await?;
    sqlx::query!(
        "update users.gdpr_requests
         set status = 'PENDING', execute_after = $2
         where id = $1 and status = 'IN_PROGRESS'",
        job.request as Option<RequestId>,
        again,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// The address of the picture of a traveller.
pub async fn find_avatar(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<Option<String>> {
    let avatar = sqlx::query_scalar!("select avatar from users.profiles where user_id = $1", user as UserId)
        .fetch_optional(db)
        .await?;
    Ok(avatar.flatten())
}

/// Deletes a batch of what a traveller did with their own data.
pub async fn delete_own_accesses(conn: &mut PgConnection, user: UserId, batch: i64) -> sqlx::Result<u64> {
    let deleted = sqlx::query!(
        "delete from users.data_access_logs where id in (
             select id from users.data_access_logs where user_id = $1 and accessor_type = 'user' limit $2
         )",
        user as UserId,
        batch,
    )
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected())
}

/// Puts the pseudonym for the traveller in a batch of what others did with the data, and of what the traveller did as an
/// administrator with the data of others.
pub async fn pseudonymise_accesses(
    conn: &mut PgConnection,
    user: UserId,
    pseudonym: UserId,
    batch: i64,
) -> sqlx::Result<u64> {
    let about = sqlx::query!(
        "update users.data_access_logs
         set user_id = $2, resource_id = case when resource_id = $1::uuid::text then $2::uuid::text else resource_id end,
             endpoint = replace(endpoint, $1::uuid::text, $2::uuid::text)
         where id in (select id from users.data_access_logs where user_id = $1 limit $3)",
        user as UserId,
        pseudonym as UserId,
        batch,
    )
    .execute(&mut *conn)
    .await?;
    let by = sqlx::query!(
        "update users.data_access_logs
         set accessor_id = $2::uuid::text, ip_address = null, user_agent = null
         where id in (select id from users.data_access_logs where accessor_id = $1::uuid::text limit $3)",
        user as UserId,
        pseudonym as UserId,
        batch,
    )
    .execute(conn)
    .await?;
    Ok(about.rows_affected() + by.rows_affected())
}

/// What each step noted, by its name.
pub async fn summaries(conn: &mut PgConnection, id: ErasureId) -> sqlx::Result<Value> {
    sqlx::query_scalar!(
        r#"select coalesce(jsonb_object_agg(step, summary), '{}') as "summary!"
           from users.erasure_steps
           where erasure_id = $1"#,
        id as ErasureId,
    )
    .fetch_one(conn)
    .await
}

/// Writes the certificate and ends the erasure. False: it is written already.
pub async fn certify(
    conn: &mut PgConnection,
    job: &Claimed,
    user_id_hash: &str,
    summary: &Value,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let written = sqlx::query!(
        "insert into users.erasure_log (id, user_id_hash, requested_at, completed_at, summary)
         values ($1, $2, $3, $4, $5)
         on conflict (id) do nothing",
        job.id as ErasureId,
        user_id_hash,
        job.requested_at,
        now,
        summary,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query!("delete from users.erasures where id = $1", job.id as ErasureId)
        .execute(conn)
        .await?;
    Ok(written.rows_affected() == 1)
}
