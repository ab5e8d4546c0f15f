//! All SQL of notifications.
//!
//! contract: core §5.8, §5.9, §5.10, §11

use chrono::{DateTime, Utc};
use serde_json::Value;
use shared::id::{NotificationId, UserId};
use sqlx::{PgConnection, PgExecutor};

use super::{
    create::Told,
    model::{Filter, Kind, Notification, Page},
};

/// What decides how and whether an account is told something.
#[derive(Debug, Clone)]
pub struct Reader {
    /// The language of the settings, `None` until chosen.
    pub language: Option<String>,
    /// The stored notification preferences, `None` until chosen.
    pub preferences: Option<Value>,
    /// Whether offers by mail were consented to.
    pub marketing: bool,
}

/// The reader of this account, `None` if there is none.
pub async fn find_reader(conn: &mut PgConnection, user: UserId) -> sqlx::Result<Option<Reader>> {
    sqlx::query_as!(
        Reader,
        r#"select settings.language as "language?", settings.notification_preferences as "preferences?",
                  coalesce(consent.marketing, false) as "marketing!"
           from auth.accounts as account
           left join users.settings as settings on settings.user_id = account.id
           left join users.consents as consent on consent.user_id = account.id
           where account.id = $1"#,
        user as UserId,
    )
    .fetch_optional(conn)
    .await
}

/// Stores a notification together with its place in the queue of pushes.
pub async fn insert(
    conn: &mut PgConnection,
    id: NotificationId,
    user: UserId,
    told: &Told<'_>,
    metadata: Option<&Value>,
    now: DateTime<Utc>,
) -> sqlx::Result<Notification> {
    sqlx::query_as!(
        Notification,
        r#"with made as (
               insert into users.notifications (id, user_id, type, title, message, metadata, created_at, updated_at)
               values ($1, $2, $3, $4, $5, $6, $7, $7)
               returning id, user_id, type, title, message, read_at, metadata, created_at, updated_at
           ),
           queued as (insert into users.pushes (notification_id, due_at, created_at) select id, $7, $7 from made)
           select id as "id!: NotificationId", user_id as "user_id!: UserId", type as "kind!: Kind", title as "title!",
                  message as "message!", (read_at is not null) as "read!", read_at, metadata, created_at as "created_at!",
                  updated_at as "updated_at!"
           from made"#,
        id as NotificationId,
        user as UserId,
        told.kind as Kind,
        told.title,
        told.message,
        metadata,
        now,
    )
    .fetch_one(conn)
    .await
}

/// A page of a list, or its total alone where the page is empty.
struct Line {
    total: i64,
    id: Option<NotificationId>,
    user_id: Option<UserId>,
    kind: Option<Kind>,
    title: Option<String>,
    message: Option<String>,
    read_at: Option<DateTime<Utc>>,
    metadata: Option<Value>,
    created_at: Option<DateTime<Utc>>,
    updated_at: Option<DateTime<Utc>>,
}

impl Line {
    fn notification(self) -> Option<Notification> {
        Some(Notification {
            id: self.id?,
            user_id: self.user_id?,
            kind: self.kind?,
            title: self.title?,
            message: self.message?,
            read: self.read_at.is_some(),
            read_at: self.read_at,
            metadata: self.metadata,
            created_at: self.created_at?,
            updated_at: self.updated_at?,
        })
    }
}

/// One page of a traveller's notifications, newest first, and how many there are, in one round trip.
pub async fn list(
    db: impl PgExecutor<'_>,
    user: UserId,
    filter: Filter,
    page: Page,
) -> sqlx::Result<(Vec<Notification>, i64)> {
    let lines = sqlx::query_as!(
        Line,
        r#"with page as (
               select id, user_id, type, title, message, read_at, metadata, created_at, updated_at
               from users.notifications
               where user_id = $1 and ($2::boolean is null or (read_at is not null) = $2)
               order by created_at desc, id desc
               limit $3 offset $4
           )
           select counted.total as "total!", page.id as "id?: NotificationId", page.user_id as "user_id?: UserId",
                  page.type as "kind?: Kind", page.title as "title?", page.message as "message?", page.read_at as "read_at?",
                  page.metadata as "metadata?", page.created_at as "created_at?", page.updated_at as "updated_at?"
           from (
               select count(*) as total
               from users.notifications
               where user_id = $1 and ($2::boolean is null or (read_at is not null) = $2)
           ) as counted
           left join page on true
           order by page.created_at desc, page.id desc"#,
        user as UserId,
        filter.read(),
        page.limit,
        page.offset(),
    )
    .fetch_all(db)
    .await?;
    let total = lines.first().map_or(0, |line| line.total);
    Ok((lines.into_iter().filter_map(Line::notification).collect(), total))
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

/// Deletes what a traveller has read; gives how many there were.
pub async fn delete_read(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<u64> {
    let deleted = sqlx::query!(
        "delete from users.notifications where user_id = $1 and read_at is not null",
        user as UserId,
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected())
}

/// The stored preferences, `None` until chosen.
pub async fn find_preferences(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<Option<Value>> {
    let found = sqlx::query_scalar!(
        "select notification_preferences from users.settings where user_id = $1",
        user as UserId,
    )
    .fetch_optional(db)
    .await?;
    Ok(found.flatten())
}

/// The same, under the lock of the settings row, which is made if it is missing.
pub async fn lock_preferences(
    conn: &mut PgConnection,
    user: UserId,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Value>> {
    sqlx::query_scalar!(
        "insert into users.settings (user_id, created_at, updated_at) values ($1, $2, $2)
         on conflict (user_id) do update set user_id = excluded.user_id
         returning notification_preferences",
        user as UserId,
        now,
    )
    .fetch_one(conn)
    .await
}

/// Replaces the preferences, making the settings row if it is missing.
pub async fn save_preferences(
    db: impl PgExecutor<'_>,
    user: UserId,
    preferences: &Value,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into users.settings (user_id, notification_preferences, created_at, updated_at) values ($1, $2, $3, $3)
         on conflict (user_id) do update
         set notification_preferences = excluded.notification_preferences, updated_at = excluded.updated_at",
        user as UserId,
        preferences,
        now,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Takes a batch of pushes for a while: until `lease` nobody else takes them. Oldest first.
pub async fn claim_pushes(
    db: impl PgExecutor<'_>,
    now: DateTime<Utc>,
    lease: DateTime<Utc>,
    batch: i64,
) -> sqlx::Result<Vec<Notification>> {
    sqlx::query_as!(
        Notification,
        r#"with claimed as (
               update users.pushes
               set due_at = $2
               where notification_id in (
                   select notification_id
                   from users.pushes
                   where due_at <= $1
                   order by created_at, notification_id
                   limit $3
                   for update skip locked
               )
               returning notification_id
           )
           select told.id as "id: NotificationId", told.user_id as "user_id: UserId", told.type as "kind: Kind", told.title,
                  told.message, (told.read_at is not null) as "read!", told.read_at, told.metadata, told.created_at,
                  told.updated_at
           from claimed
           join users.notifications as told on told.id = claimed.notification_id
           order by told.created_at, told.id"#,
        now,
        lease,
        batch,
    )
    .fetch_all(db)
    .await
}

/// Forgets pushes that were published.
pub async fn finish_pushes(db: impl PgExecutor<'_>, done: &[NotificationId]) -> sqlx::Result<()> {
    let done: Vec<uuid::Uuid> = done.iter().map(|id| id.0).collect();
    sqlx::query!("delete from users.pushes where notification_id = any($1)", &done)
        .execute(db)
        .await
        .map(drop)
}

/// Deletes all notifications of an account; their pushes go with them.
pub async fn erase(conn: &mut PgConnection, user: UserId) -> sqlx::Result<u64> {
    let erased = sqlx::query!("delete from users.notifications where user_id = $1", user as UserId)
        .execute(conn)
        .await?;
    Ok(erased.rows_affected())
}
