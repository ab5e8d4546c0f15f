//! From the queue of pushes to the sockets of all replicas.
//!
//! contract: core §5.10, experience c.6 (200 ms from commit); docs/decisions/0052
//!
//! A push is taken for a while, published, and forgotten. Whoever commits a notification wakes the pusher of its own
//! process; the pushers of other processes look once a second for what a crash left behind. So nothing is lost, and after
//! a crash at the wrong moment a socket may be told twice.

use std::time::Duration;

use shared::{db::observed, id::NotificationId, lifecycle::Shutdown};

use super::store;
use crate::user::UserState;

const BATCH: i64 = 100;
/// How long a push belongs to the replica that took it.
const LEASE: Duration = Duration::from_secs(10);
/// Between two looks when nobody wakes us.
const IDLE: Duration = Duration::from_secs(1);

/// Publishes what waits until the process has answered its last request.
pub async fn keep_pushing(state: UserState, shutdown: Shutdown) -> anyhow::Result<()> {
    loop {
        while push_batch(&state).await? == BATCH.unsigned_abs() {}
        tokio::select! {
            () = state.notifications.waiting.notified() => {}
            () = tokio::time::sleep(IDLE) => {}
            () = shutdown.served() => {
                push_batch(&state).await?;
                return Ok(());
            }
        }
    }
}

/// Publishes one batch. Gives how many there were.
async fn push_batch(state: &UserState) -> sqlx::Result<u64> {
    let now = state.sources.now();
    let claim = store::claim_pushes(state.db.pool(), now, now + LEASE, BATCH);
    let taken = observed("user.notification.claim_pushes", claim).await?;
    if taken.is_empty() {
        return Ok(0);
    }
    for notification in &taken {
        state.realtime.tell(notification.user_id, notification).await;
    }
    let done: Vec<NotificationId> = taken.iter().map(|notification| notification.id).collect();
    store::finish_pushes(state.db.pool(), &done).await?;
    Ok(u64::try_from(done.len()).unwrap_or(u64::MAX))
}
