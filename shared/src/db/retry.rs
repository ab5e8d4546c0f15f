//! Transactions that met another one are done again, here and nowhere else.

use std::{error::Error, time::Duration};

use sqlx::{Postgres, Transaction};

use super::{Db, Service};
use crate::{
    error::ApiError,
    sources::{Entropy as _, SystemEntropy},
};

/// How often a transaction is tried before its conflict reaches the caller (who answers 503).
const TRIES: u32 = 5;

/// An error that can tell whether it is a serialisation failure or a deadlock.
pub trait Conflict {
    /// Whether two transactions met and doing this one again is right.
    fn is_conflict(&self) -> bool;
}

impl Conflict for sqlx::Error {
    fn is_conflict(&self) -> bool {
        let code = self.as_database_error().and_then(sqlx::error::DatabaseError::code);
        matches!(code.as_deref(), Some("40001" | "40P01"))
    }
}

impl Conflict for anyhow::Error {
    fn is_conflict(&self) -> bool {
        self.chain()
            .any(|cause| cause.downcast_ref::<sqlx::Error>().is_some_and(Conflict::is_conflict))
    }
}

impl Conflict for ApiError {
    fn is_conflict(&self) -> bool {
        let mut cause: Option<&(dyn Error + 'static)> = self.source();
        while let Some(error) = cause {
            if error.downcast_ref::<sqlx::Error>().is_some_and(Conflict::is_conflict) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

impl<S: Service> Db<S> {
    /// Runs `work` with a transaction, which it commits; serialisation failures and deadlocks are tried again with a
    /// short, growing pause. `work` may run several times, so it must have no effect outside its transaction.
    ///
    /// ```ignore
    /// db.retrying(|mut tx| async move {
    ///     let booking = store::lock_owned(&mut tx, id, user).await?;
    ///     …
    ///     tx.commit().await?;
    ///     Ok(booking)
    /// })
    /// ```
    ///
    /// The transaction is handed over by value because a closure over `&mut` of it makes futures that cannot be sent
    /// between threads.
    pub async fn retrying<T, E, W>(&self, mut work: impl FnMut(Transaction<'static, Postgres>) -> W) -> Result<T, E>
    where
        W: Future<Output = Result<T, E>>,
        E: From<sqlx::Error> + Conflict,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = work(self.begin().await?).await;
            match outcome {
                Err(error) if tries < TRIES && error.is_conflict() => {
                    metrics::counter!("db_transaction_conflicts_total", "service" => S::NAME).increment(1);
                    tokio::time::sleep(pause(tries)).await;
                }
                outcome => return outcome,
            }
        }
    }
}

/// 5 to 10 ms, doubled with each try, so that the two do not meet again.
fn pause(tries: u32) -> Duration {
    Duration::from_millis(10)
        .saturating_mul(1 << tries.saturating_sub(1).min(6))
        .mul_f64(jitter())
}

/// Evenly between one half and one. Not a secret: the operating system's bytes are merely at hand.
pub(crate) fn jitter() -> f64 {
    let mut byte = [0_u8; 1];
    SystemEntropy.fill(&mut byte);
    let [byte] = byte;
    0.5 + f64::from(byte) / 510.0
}
