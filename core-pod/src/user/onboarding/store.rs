//! All SQL of onboarding.
//!
//! contract: core §5.5, §11

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use shared::id::UserId;
use sqlx::{PgConnection, PgExecutor, types::Json};
use uuid::Uuid;

use super::model::Stored;

/// A traveller's row.
pub async fn find(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<Option<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"select id, user_id as "user_id: UserId", is_completed, completed_steps, completed_at, version, step_data,
                  to_jsonb(profile) as "answers!", created_at, updated_at
           from users.onboarding_profiles as profile
           where user_id = $1"#,
        user as UserId,
    )
    .fetch_optional(db)
    .await
}

/// The same, until the end of the transaction nobody else's to change.
pub async fn lock(conn: &mut PgConnection, user: UserId) -> sqlx::Result<Option<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"select id, user_id as "user_id: UserId", is_completed, completed_steps, completed_at, version, step_data,
                  to_jsonb(profile) as "answers!", created_at, updated_at
           from users.onboarding_profiles as profile
           where user_id = $1
           for update"#,
        user as UserId,
    )
    .fetch_optional(conn)
    .await
}

/// An empty row; `None` if there is one already.
pub async fn insert(
    db: impl PgExecutor<'_>,
    id: Uuid,
    user: UserId,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Stored>> {
    sqlx::query_as!(
        Stored,
        r#"insert into users.onboarding_profiles as profile (id, user_id, created_at, updated_at)
           values ($1, $2, $3, $3)
           on conflict (user_id) do nothing
           returning id, user_id as "user_id: UserId", is_completed, completed_steps, completed_at, version, step_data,
                     to_jsonb(profile) as "answers!", created_at, updated_at"#,
        id,
        user as UserId,
        now,
    )
    .fetch_optional(db)
    .await
}

/// One saved step.
pub struct Save<'a> {
    /// Its name.
    pub step: &'a str,
    /// Whether it counts as completed from now on.
    pub completed: bool,
    /// New values by column; columns that are not named keep theirs.
    pub columns: &'a Map<String, Value>,
    /// What the step remembers.
    pub named: &'a Map<String, Value>,
}

/// Writes a step over a row that is locked. Which columns can be written stands here, whatever `columns` names.
pub async fn save(conn: &mut PgConnection, user: UserId, save: &Save<'_>, now: DateTime<Utc>) -> sqlx::Result<Stored> {
    sqlx::query_file_as!(
        Stored,
        "src/user/onboarding/store/save.sql",
        user as UserId,
        Json(save.columns) as _,
        save.step,
        save.completed,
        Json(save.named) as _,
        now,
    )
    .fetch_one(conn)
    .await
}

/// Marks a row completed.
pub async fn complete(conn: &mut PgConnection, user: UserId, at: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "update users.onboarding_profiles set is_completed = true, completed_at = $2, updated_at = $2 where user_id = $1",
        user as UserId,
        at,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Sets or takes back the account's own flag, by the function that auth publishes. False if there is no such account.
pub async fn flag_account(conn: &mut PgConnection, user: UserId, at: Option<DateTime<Utc>>) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select auth.set_onboarding_completed($1, $2) as "known!""#,
        user as UserId,
        at,
    )
    .fetch_one(conn)
    .await
}

/// Deletes a row. Says whether there was one.
pub async fn delete(conn: &mut PgConnection, user: UserId) -> sqlx::Result<bool> {
    let deleted = sqlx::query!(
        "delete from users.onboarding_profiles where user_id = $1",
        user as UserId
    )
    .execute(conn)
    .await?;
    Ok(deleted.rows_affected() > 0)
}
