//! When sessions were used last, without a write per request.
//!
//! contract: core §2.5 (last seen). Every pod asks the owner about a live session at least once a minute; the owner
//! remembers who was asked about and writes it down in one statement now and then. What a crash forgets is half a minute.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use shared::{db::Db, id::SessionId, lifecycle::Shutdown};

use crate::auth::{Auth, store};

/// Between two writes.
const WRITE_EVERY: Duration = Duration::from_secs(30);
/// More sessions than this between two writes are not noted; the next minute has another chance.
const MAX_NOTED: usize = 100_000;

/// Sessions that were used since the last write. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LastSeen(Arc<Mutex<HashMap<SessionId, DateTime<Utc>>>>);

impl LastSeen {
    /// Notes that a session is in use.
    pub fn note(&self, session: SessionId, now: DateTime<Utc>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() < MAX_NOTED || seen.contains_key(&session) {
            seen.insert(session, now);
        }
    }

    /// Writes down what was noted. What cannot be written is noted again.
    pub async fn write(&self, db: &Db<Auth>) -> sqlx::Result<u64> {
        let seen = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if seen.is_empty() {
            return Ok(0);
        }
        let written = store::note_seen(db.pool(), &seen).await;
        if written.is_err() {
            for (session, at) in seen {
                self.note(session, at);
            }
        }
        written
    }
}

/// The job around [`LastSeen::write`]; writes once more when the process drains.
pub async fn keep_noting(seen: LastSeen, db: Db<Auth>, shutdown: Shutdown) -> anyhow::Result<()> {
    loop {
        let ending = tokio::select! {
            () = shutdown.draining() => true,
            () = tokio::time::sleep(WRITE_EVERY) => false,
        };
        if let Err(error) = seen.write(&db).await {
            tracing::debug!(%error, "not noted when sessions were used last");
        }
        if ending {
            return Ok(());
        }
    }
}
