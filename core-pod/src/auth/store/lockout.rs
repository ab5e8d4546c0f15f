//! SQL of wrong passwords in a row and of lockouts. The row of the account is the lock: whatever replicas and however many
//! guesses at once there are, they are counted one after the other.
//!
//! contract: core §2.6

use chrono::{DateTime, Utc};
use shared::id::UserId;
use sqlx::PgConnection;

/// Wrong passwords of one account.
#[derive(Debug, Clone, Copy)]
pub struct FailureRow {
    pub failed_logins: i32,
    pub lockouts: i32,
    pub locked_until: Option<DateTime<Utc>>,
}

/// Lets the transaction commit without waiting for the disk: what it counts may be lost with the machine, and its commit
/// takes as long as one that changed nothing.
pub async fn relax_durability(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("set local synchronous_commit = off")
        .execute(conn)
        .await
        .map(drop)
}

/// Takes that back.
pub async fn insist_on_durability(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("set local synchronous_commit = on")
        .execute(conn)
        .await
        .map(drop)
}

/// The wrong passwords of an account, locked until the end of the transaction.
pub async fn lock_failures(conn: &mut PgConnection, id: UserId) -> sqlx::Result<Option<FailureRow>> {
    sqlx::query_as!(
        FailureRow,
        "select failed_logins, lockouts, locked_until from auth.users
         where id = $1 and deleted_at is null
         for no key update",
        id as UserId,
    )
    .fetch_optional(conn)
    .await
}

/// Writes them back.
pub async fn save_failures(conn: &mut PgConnection, id: UserId, failures: FailureRow) -> sqlx::Result<()> {
    sqlx::query!(
        "update auth.users set failed_logins = $2, lockouts = $3, locked_until = $4 where id = $1",
        id as UserId,
        failures.failed_logins,
        failures.lockouts,
        failures.locked_until,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Forgets all wrong passwords and lockouts: after the right one, a reset, or by an administrator.
pub async fn clear_failures(conn: &mut PgConnection, id: UserId) -> sqlx::Result<()> {
    sqlx::query!(
        "update auth.users set failed_logins = 0, lockouts = 0, locked_until = null
         where id = $1 and (failed_logins, lockouts) <> (0, 0)",
        id as UserId,
    )
    .execute(conn)
    .await
    .map(drop)
}
