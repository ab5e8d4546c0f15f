//! What is forgotten because its time is over.
//!
//! contract: core §14 (retention jobs), §11 (log of accesses 3 years). Batch by batch, so that no lock is held for long;
//! several replicas do not meet.

use std::time::Duration;

use chrono::TimeDelta;
use shared::lifecycle::Shutdown;
use sqlx::AssertSqlSafe;

use super::store::exports;
use crate::user::{UserState, audit};

const EVERY: Duration = Duration::from_hours(1);
const BATCH: i64 = 1_000;
/// Exports that are removed between two looks at the table.
const EXPORTS: i64 = 100;
/// What travellers did: searches and views.
const HISTORY: TimeDelta = TimeDelta::days(2 * 365);
/// What a traveller reads of an export that could not be made; why is in our log.
const GIVEN_UP: &str = "The export could not be prepared in time. Please request a new one.";
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
    /// Exports that can no longer be downloaded.
    pub exports: u64,
    /// Exports that could not be made in time.
    pub given_up: u64,
    /// What travellers did.
    pub history: u64,
}

/// Forgets everything whose time is over.
pub async fn run(state: &UserState) -> anyhow::Result<Forgotten> {
    let now = state.sources.now();
    let mut forgotten = Forgotten {
        given_up: exports::reject_overdue(state.db.pool(), now, GIVEN_UP).await?,
        exports: remove_exports(state).await?,
        ..Forgotten::default()
    };
    let mut conn = state.db.acquire().await?;
    loop {
        let purged = exports::purge_history(&mut conn, now - HISTORY, BATCH).await?;
        forgotten.history += purged;
        if purged == 0 {
            break;
        }
    }
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
    loop {
        let emptied = state.accounts.forget_addresses(now - ADDRESSES, BATCH).await?;
        forgotten.addresses += emptied;
        if emptied == 0 {
            return Ok(forgotten);
        }
    }
}

/// Removes exports from object storage; the row keeps telling that there was one. An object whose row was not updated is
/// removed again, which does no harm.
async fn remove_exports(state: &UserState) -> anyhow::Result<u64> {
    let mut removed = 0;
    loop {
        let expired = exports::list_expired(state.db.pool(), state.sources.now(), EXPORTS).await?;
        if expired.is_empty() {
            return Ok(removed);
        }
        for (id, object) in expired {
            state.objects.delete(&object).await?;
            exports::forget_object(state.db.pool(), id).await?;
            removed += 1;
        }
    }
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
