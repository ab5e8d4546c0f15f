//! SQL of requests.
//!
//! contract: core §5.11, §11 (`gdpr_requests`)

use chrono::{DateTime, Utc};
use shared::id::UserId;
use sqlx::{PgConnection, PgExecutor};

use crate::user::gdpr::model::{GdprRequest, RequestId, RequestStatus, RequestType};

/// A list of requests is cut here; nobody reads more.
const MAX_LISTED: i64 = 500;

/// A request to be stored.
pub struct NewRequest<'a> {
    pub id: RequestId,
    pub user: UserId,
    pub kind: RequestType,
    pub reason: Option<&'a str>,
    pub now: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub execute_after: Option<DateTime<Utc>>,
    /// When a worker may take it.
    pub next_attempt_at: Option<DateTime<Utc>>,
}

/// Stores a request. `None`: it is a deletion, and the traveller has an open one.
pub async fn insert(conn: &mut PgConnection, new: &NewRequest<'_>) -> sqlx::Result<Option<GdprRequest>> {
    sqlx::query_as!(
        GdprRequest,
        r#"insert into users.gdpr_requests
               (id, user_id, request_type, requested_at, expires_at, execute_after, reason, next_attempt_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8)
           on conflict (user_id) where request_type = 'DATA_DELETION' and status in ('PENDING', 'IN_PROGRESS') do nothing
           returning id as "id: RequestId", user_id as "user_id: UserId", request_type as "request_type: RequestType",
                     status as "status: RequestStatus", requested_at, processed_at, completed_at, expires_at,
                     execute_after, reason, notes"#,
        new.id as RequestId,
        new.user as UserId,
        new.kind as RequestType,
        new.now,
        new.expires_at,
        new.execute_after,
        new.reason,
        new.next_attempt_at,
    )
    .fetch_optional(conn)
    .await
}

/// The deletion that a traveller has asked for and that is neither carried out nor taken back.
pub async fn find_open_deletion(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<Option<GdprRequest>> {
    sqlx::query_as!(
        GdprRequest,
        r#"select id as "id: RequestId", user_id as "user_id: UserId", request_type as "request_type: RequestType",
                  status as "status: RequestStatus", requested_at, processed_at, completed_at, expires_at, execute_after,
                  reason, notes
           from users.gdpr_requests
           where user_id = $1 and request_type = 'DATA_DELETION' and status in ('PENDING', 'IN_PROGRESS')"#,
        user as UserId,
    )
    .fetch_optional(db)
    .await
}

/// A request by its id, whoever's it is.
pub async fn find(db: impl PgExecutor<'_>, id: RequestId) -> sqlx::Result<Option<GdprRequest>> {
    sqlx::query_as!(
        GdprRequest,
        r#"select id as "id: RequestId", user_id as "user_id: UserId", request_type as "request_type: RequestType",
                  status as "status: RequestStatus", requested_at, processed_at, completed_at, expires_at, execute_after,
                  reason, notes
           from users.gdpr_requests
           where id = $1"#,
        id as RequestId,
    )
    .fetch_optional(db)
    .await
}

/// The requests of a traveller, newest first.
pub async fn list(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<Vec<GdprRequest>> {
    sqlx::query_as!(
        GdprRequest,
        r#"select id as "id: RequestId", user_id as "user_id: UserId", request_type as "request_type: RequestType",
                  status as "status: RequestStatus", requested_at, processed_at, completed_at, expires_at, execute_after,
                  reason, notes
           from users.gdpr_requests
           where user_id = $1
           order by requested_at desc, id desc
           limit $2"#,
        user as UserId,
        MAX_LISTED,
    )
    .fetch_all(db)
    .await
}

/// Takes a request back, if nobody has begun to work on it.
pub async fn cancel(
    conn: &mut PgConnection,
    id: RequestId,
    user: UserId,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<GdprRequest>> {
    sqlx::query_as!(
        GdprRequest,
        r#"update users.gdpr_requests
           set status = 'CANCELLED', processed_at = $3, next_attempt_at = null
           where id = $1 and user_id = $2 and status = 'PENDING'
           returning id as "id: RequestId", user_id as "user_id: UserId", request_type as "request_type: RequestType",
                     status as "status: RequestStatus", requested_at, processed_at, completed_at, expires_at,
                     execute_after, reason, notes"#,
        id as RequestId,
        user as UserId,
        now,
    )
    .fetch_optional(conn)
    .await
}
