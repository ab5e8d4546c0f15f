//! PostgreSQL: one bounded pool per service, one way to open a transaction.
//!
//! contract: core §11 (one schema per service); the trap that [`Db::begin`] avoids is sqlx #4393.

mod config;
pub mod migrate;

use std::{io, marker::PhantomData};

use sqlx::{PgPool, Postgres, Transaction, pool::PoolConnection};
use tracing::Instrument as _;

pub use config::DatabaseConfig;

/// A service that owns a schema. Implemented by an empty enum per service.
pub trait Service: Send + Sync + 'static {
    /// The service's name as events and health reports carry it: `auth-service`.
    const NAME: &'static str;
    /// Its PostgreSQL schema: `auth`.
    const SCHEMA: &'static str;
}

/// The pool of one service: its only way to the database and to open a transaction.
#[derive(Debug)]
pub struct Db<S> {
    pool: PgPool,
    service: PhantomData<fn() -> S>,
}

impl<S> Clone for Db<S> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            service: PhantomData,
        }
    }
}

impl<S: Service> Db<S> {
    /// Wraps a pool whose connections belong to the service's role.
    pub fn new(pool: PgPool) -> Self {
        Self {
            pool,
            service: PhantomData,
        }
    }

    /// The pool, for single statements: `query!(…).fetch_one(db.pool())`.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A connection, for several reads in a row.
    pub async fn acquire(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        self.pool.acquire().await
    }

    /// Opens a transaction on a task of its own, so that a request dropped at this point cannot give the pool a
    /// connection with a transaction still open (whose next statement would be acknowledged and later rolled back).
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one function that may open a transaction"
    )]
    pub async fn begin(&self) -> sqlx::Result<Transaction<'static, Postgres>> {
        let pool = self.pool.clone();
        tokio::spawn(async move { pool.begin().await }.in_current_span())
            .await
            .unwrap_or_else(|join| Err(sqlx::Error::Io(io::Error::other(join))))
    }
}

/// Whether trying again may help: the pool is exhausted or closed, the connection is lost, the server is starting,
/// stopping or out of connections, or two transactions met.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            // 08 connection, 53 resources, 57P operator intervention, 40001/40P01 serialisation and deadlock
            code.starts_with("08")
                || code.starts_with("53")
                || code.starts_with("57P")
                || code == "40001"
                || code == "40P01"
        }),
        _ => false,
    }
}

/// Whether a statement failed because the schema, a table, a column or a grant that it needs is not there: the
/// migrations of this release have not run yet.
pub fn is_behind_the_code(error: &sqlx::Error) -> bool {
    // 3F000 schema, 42P01 table, 42703 column, 42883 function, 42501 privilege
    let code = error.as_database_error().and_then(|database| database.code());
    matches!(code.as_deref(), Some("3F000" | "42P01" | "42703" | "42883" | "42501"))
}

/// The name of the unique or check constraint a statement violated, if that is why it failed.
pub fn violated_constraint(error: &sqlx::Error) -> Option<&str> {
    error.as_database_error().and_then(|database| database.constraint())
}

/// Turns a violated constraint into a domain error in one line: `.on_constraint("users_email_key", || …)`.
pub trait OnConstraint<T> {
    /// Replaces the error if this constraint was violated; other errors become `E` as usual.
    fn on_constraint<E: From<sqlx::Error>>(self, constraint: &str, domain: impl FnOnce() -> E) -> Result<T, E>;
}

impl<T> OnConstraint<T> for sqlx::Result<T> {
    fn on_constraint<E: From<sqlx::Error>>(self, constraint: &str, domain: impl FnOnce() -> E) -> Result<T, E> {
        self.map_err(|error| {
            if violated_constraint(&error) == Some(constraint) {
                domain()
            } else {
                error.into()
            }
        })
    }
}
