//! The queue between requests and the table.
//!
//! contract: core §10 (queue-buffered, never blocks or fails the request). What does not fit is dropped and counted; the
//! rest is written in batches, and to the end when the process drains.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use shared::{
    db::{self, Db},
    lifecycle::Shutdown,
};
use tokio::sync::{Mutex, mpsc};

use super::{model::Entry, store};
use crate::user::User;

/// Entries that wait at most; some 4 MiB.
const CAPACITY: usize = 8_192;
const BATCH: usize = 500;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A handle on the queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Audit {
    sender: mpsc::Sender<Entry>,
    inbox: Arc<Mutex<Inbox>>,
}

/// The receiving end. It survives the task that reads it, with what that task had in its hands.
#[derive(Debug)]
struct Inbox {
    receiver: mpsc::Receiver<Entry>,
    batch: Vec<Entry>,
}

impl Default for Audit {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl Audit {
    /// A queue of this length.
    pub fn with_capacity(capacity: usize) -> Self {
        let (sender, receiver) = mpsc::channel(capacity);
        let inbox = Inbox {
            receiver,
            batch: Vec::with_capacity(BATCH),
        };
        Self {
            sender,
            inbox: Arc::new(Mutex::new(inbox)),
        }
    }

    /// Puts an entry into the queue. Never waits: with a full queue the entry is dropped and counted.
    pub fn note(&self, entry: Entry) {
        if self.sender.try_send(entry).is_err() {
            dropped("full");
        }
    }

    /// Writes what waits now. Gives the number of entries.
    pub async fn flush(&self, db: &Db<User>) -> sqlx::Result<usize> {
        let mut inbox = self.inbox.lock().await;
        let Inbox { receiver, batch } = &mut *inbox;
        let mut written = 0;
        loop {
            while batch.len() < BATCH
                && let Ok(entry) = receiver.try_recv()
            {
                batch.push(entry);
            }
            if batch.is_empty() {
                return Ok(written);
            }
            write(db, batch).await?;
            written += batch.len();
            batch.clear();
        }
    }

    /// The worker: writes until the listeners have answered their last request, then empties the queue and ends.
    pub async fn keep_writing(self, db: Db<User>, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut pause = FIRST_PAUSE;
        loop {
            let last = self.wait(&shutdown).await;
            match self.flush(&db).await {
                Ok(_) if last => return Ok(()),
                Ok(_) => pause = FIRST_PAUSE,
                Err(error) if db::is_transient(&error) || db::is_behind_the_code(&error) => {
                    tracing::debug!(%error, "audit entries not written yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(error).context("failed to write audit entries"),
            }
        }
    }

    /// Waits for an entry. True: there will be none any more.
    async fn wait(&self, shutdown: &Shutdown) -> bool {
        let mut inbox = self.inbox.lock().await;
        let Inbox { receiver, batch } = &mut *inbox;
        if !batch.is_empty() {
            return false;
        }
        tokio::select! {
            biased;
            count = receiver.recv_many(batch, BATCH) => count == 0,
            () = shutdown.served() => true,
        }
    }
}

/// Writes a batch. An entry that the table refuses must not hold up the others: then they go one by one.
async fn write(db: &Db<User>, batch: &[Entry]) -> sqlx::Result<()> {
    match store::insert(db.pool(), batch).await {
        Ok(()) => Ok(()),
        Err(error) if db::is_transient(&error) || db::is_behind_the_code(&error) => Err(error),
        Err(_) => {
            for entry in batch {
                match store::insert(db.pool(), std::slice::from_ref(entry)).await {
                    Err(error) if db::is_transient(&error) => return Err(error),
                    Err(error) => {
                        tracing::error!(entry = %entry.id, resource = entry.resource, %error, "audit entry refused");
                        dropped("refused");
                    }
                    Ok(()) => {}
                }
            }
            Ok(())
        }
    }
}

fn dropped(reason: &'static str) {
    metrics::counter!("audit_entries_dropped_total", "reason" => reason).increment(1);
}
