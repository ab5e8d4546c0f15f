//! SQL of the export worker. A claim is a lease and counts as an attempt; whoever finishes an attempt that is not the last
//! one changes nothing.
//!
//! contract: core §5.11, §11 (`gdpr_requests`)

use chrono::{DateTime, Utc};
use shared::id::UserId;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::user::gdpr::model::{GdprRequest, RequestId, RequestStatus, RequestType};

/// An export that this process works on.
#[derive(Debug, Clone)]
pub struct Claimed {
    pub id: RequestId,
    pub user: UserId,
    pub expires_at: Option<DateTime<Utc>>,
    /// Which attempt this is.
    pub attempts: i32,
}

/// Takes one export that is due until `lease`: a certain one or any.
pub async fn claim(
    db: impl PgExecutor<'_>,
    only: Option<RequestId>,
    now: DateTime<Utc>,
    lease: DateTime<Utc>,
) -> sqlx::Result<Option<Claimed>> {
    sqlx::query_as!(
        Claimed,
        r#"update users.gdpr_requests
           set status = 'IN_PROGRESS', processed_at = coalesce(processed_at, $2), attempts = attempts + 1,
               next_attempt_at = $3
           where id = (
               select id from users.gdpr_requests
               where request_type = 'DATA_EXPORT' and status in ('PENDING', 'IN_PROGRESS') and next_attempt_at <= $2
                 and expires_at > $2 and ($1::uuid is null or id = $1)
               order by next_attempt_at
               limit 1
               for update skip locked
           )
           returning id as "id: RequestId", user_id as "user: UserId", expires_at, attempts"#,
        only.map(|id| id.0) as Option<Uuid>,
        now,
        lease,
    )
    .fetch_optional(db)
    .await
}

/// The export is stored. False: this attempt is not the last one any more, or the request is gone.
pub async fn complete(conn: &mut PgConnection, job: &Claimed, object: &str, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "update users.gdpr_requests
         set status = 'COMPLETED', completed_at = $3, export_object = $4, next_attempt_at = null
         where id = $1 and attempts = $2 and status = 'IN_PROGRESS'",
        job.id as RequestId,
        job.attempts,
        now,
        object,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives an export back, to be tried again from `next` on.
pub async fn release(db: impl PgExecutor<'_>, job: &Claimed, next: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "update users.gdpr_requests
         set status = 'PENDING', next_attempt_at = $3
         where id = $1 and attempts = $2 and status = 'IN_PROGRESS'",
        job.id as RequestId,
        job.attempts,
        next,
    )
    .execute(db)
    .await
    .map(drop)
}

/// A request with the place of its export.
pub struct Stored {
    pub request: GdprRequest,
    pub object: Option<String>,
}

/// The request of this id and where its export lies.
pub async fn find_stored(db: impl PgExecutor<'_>, id: RequestId) -> sqlx::Result<Option<Stored>> {
    let row = sqlx::query!(
        r#"select id as "id: RequestId", user_id as "user_id: UserId", request_type as "request_type: RequestType",
                  status as "status: RequestStatus", requested_at, processed_at, completed_at, expires_at, execute_after,
                  reason, notes, export_object
           from users.gdpr_requests
           where id = $1"#,
        id as RequestId,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Stored {
        object: row.export_object,
        request: GdprRequest {
            id: row.id,
            user_id: row.user_id,
            request_type: row.request_type,
            status: row.status,
            requested_at: row.requested_at,
            processed_at: row.processed_at,
            completed_at: row.completed_at,
            expires_at: row.expires_at,
            execute_after: row.execute_after,
            reason: row.reason,
            notes: row.notes,
        },
    }))
}

/// Exports whose time is over, with their objects.
pub async fn list_expired(
    db: impl PgExecutor<'_>,
    now: DateTime<Utc>,
    batch: i64,
) -> sqlx::Result<Vec<(RequestId, String)>> {
    let rows = sqlx::query!(
        r#"select id as "id: RequestId", export_object as "object!"
           from users.gdpr_requests
           where export_object is not null and expires_at <= $1
           order by expires_at
           limit $2"#,
        now,
        batch,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.object)).collect())
}

/// The object of an export is gone.
pub async fn forget_object(db: impl PgExecutor<'_>, id: RequestId) -> sqlx::Result<()> {
    sqlx::query!(
        "update users.gdpr_requests set export_object = null where id = $1",
        id as RequestId,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Gives up exports that could not be made before they would have expired. Gives their number.
pub async fn reject_overdue(db: impl PgExecutor<'_>, now: DateTime<Utc>, notes: &str) -> sqlx::Result<u64> {
    let rejected = sqlx::query!(
        "update users.gdpr_requests
         set status = 'REJECTED', notes = $2, next_attempt_at = null
         where request_type = 'DATA_EXPORT' and status in ('PENDING', 'IN_PROGRESS') and expires_at <= $1",
        now,
        notes,
    )
    .execute(db)
    .await?;
    Ok(rejected.rows_affected())
}

/// Deletes a batch of what travellers did before `before`. Gives its size.
pub async fn purge_history(conn: &mut PgConnection, before: DateTime<Utc>, batch: i64) -> sqlx::Result<u64> {
    let purged = sqlx::query!(
        "delete from users.history where id in (
             select id from users.history where created_at < $1 order by created_at limit $2 for update skip locked
         )",
        before,
        batch,
    )
    .execute(conn)
    .await?;
    Ok(purged.rows_affected())
}
