//! SQL that belongs to no single area of the user service.
//!
//! contract: core §5.8, §11

use chrono::{DateTime, Utc};
use shared::id::{NotificationId, UserId};
use sqlx::{PgConnection, PgExecutor};

use super::model::{Filter, Kind, Notification, Page};

/// A notification to be stored.
pub struct NewNotification<'a> {
    pub id: NotificationId,
    pub user: UserId,
    pub kind: Kind,
    pub title: &'a str,
    pub message: &'a str,
    pub metadata: serde_json::Value,
    pub now: DateTime<Utc>,
}

/// Makes the settings row of a new account. May be repeated.
pub async fn ensure_settings(conn: &mut PgConnection, user: UserId, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into users.settings (user_id, created_at, updated_at) values ($1, $2, $2) on conflict do nothing",
        user as UserId,
        now,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Whether there is such an account, and the language it has chosen.
pub async fn find_reader(conn: &mut PgConnection, user: UserId) -> sqlx::Result<Option<Option<String>>> {
    sqlx::query_scalar!(
        r#"select settings.language as "language?"
           from auth.accounts as account
           left join users.settings as settings on settings.user_id = account.id
           where account.id = $1"#,
        user as UserId,
    )
    .fetch_optional(conn)
    .await
}

/// Stores a notification.
pub async fn insert_notification(conn: &mut PgConnection, new: &NewNotification<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into users.notifications (id, user_id, type, title, message, metadata, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $7)",
        new.id as NotificationId,
        new.user as UserId,
        new.kind as Kind,
        new.title,
        new.message,
        new.metadata,
        new.now,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// One page of a traveller's notifications, newest first.
pub async fn list_notifications(
    conn: &mut PgConnection,
    user: UserId,
    filter: Filter,
    page: Page,
) -> sqlx::Result<Vec<Notification>> {
    sqlx::query_as!(
        Notification,
        r#"select id as "id: NotificationId", user_id as "user_id: UserId", type as "kind: Kind", title, message,
                  (read_at is not null) as "read!", read_at, metadata, created_at, updated_at
           from users.notifications
           where user_id = $1 and ($2::boolean is null or (read_at is not null) = $2)
           order by created_at desc, id desc
           limit $3 offset $4"#,
        user as UserId,
        filter.read(),
        page.limit,
        page.offset(),
    )
    .fetch_all(conn)
    .await
}

/// How many notifications pass the filter.
pub async fn count_notifications(db: impl PgExecutor<'_>, user: UserId, filter: Filter) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!"
           from users.notifications
           where user_id = $1 and ($2::boolean is null or (read_at is not null) = $2)"#,
        user as UserId,
        filter.read(),
    )
    .fetch_one(db)
    .await
}

/// How many notifications are unread; by the index of unread ones alone.
pub async fn count_unread(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from users.notifications where user_id = $1 and read_at is null"#,
        user as UserId,
    )
    .fetch_one(db)
    .await
}

/// Marks a notification of this traveller read and gives it; one that is read already stays as it is.
pub async fn mark_read(
    db: impl PgExecutor<'_>,
    user: UserId,
    id: NotificationId,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Notification>> {
    sqlx::query_as!(
        Notification,
        r#"update users.notifications
           set read_at = coalesce(read_at, $3), updated_at = case when read_at is null then $3 else updated_at end
           where id = $1 and user_id = $2
           returning id as "id: NotificationId", user_id as "user_id: UserId", type as "kind: Kind", title, message,
                     (read_at is not null) as "read!", read_at, metadata, created_at, updated_at"#,
        id as NotificationId,
        user as UserId,
        now,
    )
    .fetch_optional(db)
    .await
}

/// Marks all of a traveller's notifications read; gives how many were not.
pub async fn mark_all_read(db: impl PgExecutor<'_>, user: UserId, now: DateTime<Utc>) -> sqlx::Result<u64> {
    let marked = sqlx::query!(
        "update users.notifications set read_at = $2, updated_at = $2 where user_id = $1 and read_at is null",
        user as UserId,
        now,
    )
    .execute(db)
    .await?;
    Ok(marked.rows_affected())
}
