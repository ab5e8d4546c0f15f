//! One relay per service works at a time: whoever holds a session lock on a connection of its own.
//!
//! The lock ends with the connection, so a replica that is killed is replaced as soon as the server notices. It keeps two
//! relays from sending the same rows in the steady state; correctness does not rest on it.

use std::time::Duration;

use sqlx::{
    PgPool,
    postgres::{PgListener, PgPoolOptions},
};

use crate::db::{Db, Service};

/// An answer to "do I still hold the lock" that takes longer than this is a no.
const CHECK_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the relay waits for transactions that have just asked whether it is awake.
const LOCK_TIMEOUT_MILLIS: &str = "50";

/// A connection on which a relay waits for its lock, and then for wake-ups.
pub struct Session {
    listener: PgListener,
    pool: PgPool,
    lock: String,
    outbox: String,
    awake: bool,
}

impl Session {
    /// Connects and listens for commits to the outbox.
    pub async fn open<S: Service>(db: &Db<S>) -> sqlx::Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(Duration::from_secs(3))
            .connect_lazy_with(db.dedicated().options([("lock_timeout", LOCK_TIMEOUT_MILLIS)]));
        let mut listener = PgListener::connect_with(&pool).await?;
        // a new connection would not have the lock: losing the old one must be seen
        listener.eager_reconnect(false);
        listener.ignore_pool_close_event(true);
        listener.listen(&format!("outbox_{}", S::SCHEMA)).await?;
        Ok(Self {
            listener,
            pool,
            lock: format!("{}.relay", S::SCHEMA),
            outbox: format!("{}.outbox", S::SCHEMA),
            awake: false,
        })
    }

    /// Takes the lock if nobody holds it.
    pub async fn try_lock(&mut self) -> anyhow::Result<bool> {
        let ask = sqlx::query_scalar("select pg_try_advisory_lock(hashtextextended($1, 1))")
            .bind(&self.lock)
            .fetch_one(&mut self.listener);
        Ok(tokio::time::timeout(CHECK_TIMEOUT, ask).await??)
    }

    /// Waits for a commit to the outbox; wake-ups that have piled up count as one.
    pub async fn woken(&mut self) -> anyhow::Result<()> {
        let woken = self.listener.try_recv().await?;
        anyhow::ensure!(woken.is_some(), "the connection that holds the relay's lock is lost");
        while self.listener.next_buffered().is_some() {}
        Ok(())
    }

    /// Whether commits to the outbox need not wake this relay.
    pub fn is_awake(&self) -> bool {
        self.awake
    }

    /// Lets commits to the outbox go without waking the relay, unless too many are about to; then it stays as it is.
    pub async fn stay_awake(&mut self) -> anyhow::Result<()> {
        let lock = sqlx::query("select pg_advisory_lock(hashtextextended($1, 2))")
            .bind(&self.outbox)
            .execute(&mut self.listener);
        match tokio::time::timeout(CHECK_TIMEOUT, lock).await? {
            Ok(_) => self.awake = true,
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55P03") => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Lets commits to the outbox wake the relay again. What was appended before has to be looked for once more.
    pub async fn doze(&mut self) -> anyhow::Result<()> {
        let unlock = sqlx::query("select pg_advisory_unlock(hashtextextended($1, 2))")
            .bind(&self.outbox)
            .execute(&mut self.listener);
        tokio::time::timeout(CHECK_TIMEOUT, unlock).await??;
        self.awake = false;
        Ok(())
    }

    /// Fails when the connection, and with it the lock, is gone.
    pub async fn still_holds(&mut self) -> anyhow::Result<()> {
        let check = sqlx::query("select 1").execute(&mut self.listener);
        tokio::time::timeout(CHECK_TIMEOUT, check).await??;
        Ok(())
    }

    /// Ends the session, and with it the lock.
    pub async fn close(self) {
        let Self { listener, pool, .. } = self;
        drop(listener);
        // whether it closes in time or not, the connection goes with the pool
        drop(tokio::time::timeout(CHECK_TIMEOUT, pool.close()).await);
    }
}
