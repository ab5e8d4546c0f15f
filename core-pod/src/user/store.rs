//! SQL that belongs to no single area of the user service.
//!
//! contract: core §7, §11

use chrono::{DateTime, Utc};
use shared::id::UserId;
use sqlx::PgConnection;

/// Makes the settings row of a new account. May be repeated. False if there is no such account.
pub async fn ensure_settings(conn: &mut PgConnection, user: UserId, now: DateTime<Utc>) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"with account as (select id from auth.accounts where id = $1),
           made as (
               insert into users.settings (user_id, created_at, updated_at) select id, $2, $2 from account
               on conflict do nothing
           )
           select exists (select from account) as "known!""#,
        user as UserId,
        now,
    )
    .fetch_one(conn)
    .await
}
