//! What is forgotten because its time is over.
//!
//! contract: core §14 (retention jobs), §11 (log of accesses 3 years). Batch by batch, so that no lock is held for long;
//! several replicas do not meet.

use std::time::Duration;

use chrono::TimeDelta;
use shared::lifecycle::Shutdown;
use sqlx::AssertSqlSafe;

use crate::user::{UserState, audit};

const EVERY: Duration = Duration::from_hours(1);
const BATCH: i64 = 1_000;
/// The log of accesses.
const ACCESS_LOG: TimeDelta = TimeDelta::days(3 * 365 + 1);
/// Where somebody was when they decided something.
const ADDRESSES: TimeDelta = TimeDelta::days(90);

/// Tables that keep an address with a decision: name, instant, columns to empty.
const WITH_ADDRESS: [(&str, &str, &str); 4] = [
    ("consents", "last_updated_at", "ip_address = null"),
    ("consent_history", "changed_at", "ip_address = null, user_agent = null"),
    (
        "policy_acceptances",
        "accepted_at",
        "ip_address = null, user_agent = null",
    ),
    (
        "data_access_logs",
        "accessed_at",
        "ip_address = null, user_agent = null",
    ),
];

/// What one pass has forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Entries of the log of accesses.
    pub accesses: u64,
    /// Addresses.
    pub addresses: u64,
}

/// Forgets everything whose time is over.
pub async fn run(state: &UserState) -> anyhow::Result<Forgotten> {
    let now = state.sources.now();
    let mut forgotten = Forgotten::default();
    let mut conn = state.db.acquire().await?;
    loop {
        let purged = audit::purge(&mut conn, now - ACCESS_LOG, BATCH).await?;
        forgotten.accesses += purged;
        if purged == 0 {
            break;
        }
    }
    for (table, instant, emptied) in WITH_ADDRESS {
        let sql = format!(
            "update users.{table} set {emptied} where ctid = any (array(
                 select ctid from users.{table}
                 where ip_address is not null and {instant} < $1
                 limit $2
                 for update skip locked
             ))"
        );
        loop {
            let emptied = sqlx::query(AssertSqlSafe(sql.as_str()))
                .bind(now - ADDRESSES)
                .bind(BATCH)
                .execute(&mut *conn)
                .await?
                .rows_affected();
            forgotten.addresses += emptied;
            if emptied == 0 {
                break;
            }
        }
    }
    Ok(forgotten)
}

/// The job around [`run`]: once an hour until the process drains.
pub async fn keep_forgetting(state: UserState, shutdown: Shutdown) -> anyhow::Result<()> {
    while !shutdown.is_draining() {
        let forgotten = run(&state).await?;
        if forgotten != Forgotten::default() {
            tracing::info!(?forgotten, "old personal data deleted");
        }
        tokio::select! {
            () = shutdown.draining() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
    Ok(())
}
