//! PostgreSQL: one bounded pool per service, one way to open a transaction.
//!
//! contract: core §11 (one schema per service), §12; the trap that [`Db::begin`] avoids is sqlx #4393.
//! A pool is made without a server. While there is none, whoever asks waits at most the acquire time-out and is answered
//! with 503; the first request after its return is served.

mod config;
pub mod migrate;
mod retry;

use std::{
    io,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use sqlx::{
    ConnectOptions as _, Connection as _, PgPool, Postgres, Transaction,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tracing::{Instrument as _, log::LevelFilter};

pub use config::DatabaseConfig;
pub use retry::Conflict;
pub(crate) use retry::jitter;

/// A connection that lay idle for longer than this is tried before it is handed out. Busy ones are not: that would cost
/// every request a round trip.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

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
    waiting: Arc<AtomicU32>,
    service: PhantomData<fn() -> S>,
}

impl<S> Clone for Db<S> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            waiting: Arc::clone(&self.waiting),
            service: PhantomData,
        }
    }
}

impl<S: Service> Db<S> {
    /// Wraps a pool whose connections belong to the service's role.
    pub fn new(pool: PgPool) -> Self {
        Self {
            pool,
            waiting: Arc::default(),
            service: PhantomData,
        }
    }

    /// The pool of this configuration, without connecting. Connections are opened when they are asked for.
    pub fn connect_lazy(config: &DatabaseConfig) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections)
            .min_connections(config.min_connections)
            .acquire_timeout(config.acquire_timeout)
            .max_lifetime(config.max_lifetime)
            .idle_timeout(config.idle_timeout)
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                async move {
                    if meta.idle_for > TRUSTED_IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                }
                .boxed()
            })
            .acquire_slow_level(LevelFilter::Debug)
            .connect_lazy_with(Self::connect_options(config));
        Self::new(pool)
    }

    /// The pool, for single statements: `query!(…).fetch_one(db.pool())`.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A connection, for several reads in a row.
    pub async fn acquire(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        let _waiting = Waiting::new::<S>(&self.waiting);
        self.pool.acquire().await
    }

    /// Opens a transaction on a task of its own, so that a request dropped at this point cannot give the pool a
    /// connection with a transaction still open (whose next statement would be acknowledged and later rolled back).
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one function that may open a transaction"
    )]
    pub async fn begin(&self) -> sqlx::Result<Transaction<'static, Postgres>> {
        let waiting = Waiting::new::<S>(&self.waiting);
        let pool = self.pool.clone();
        let open = async move {
            let _waiting = waiting;
            pool.begin().await
        };
        tokio::spawn(open.in_current_span())
            .await
            .unwrap_or_else(|join| Err(sqlx::Error::Io(io::Error::other(join))))
    }

    /// Whether the server answers, for health checks.
    pub async fn ping(&self) -> sqlx::Result<()> {
        self.acquire().await?.ping().await
    }

    /// Sets the pool's gauges; called every few seconds.
    pub fn record_metrics(&self) {
        let (open, idle) = (
            self.pool.size(),
            u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX),
        );
        let max = self.pool.options().get_max_connections();
        let waiting = self.waiting.load(Ordering::Relaxed);
        for (state, count) in [
            ("idle", idle),
            ("in_use", open.saturating_sub(idle)),
            ("waiting", waiting),
            ("max", max),
        ] {
            metrics::gauge!("db_pool_connections", "service" => S::NAME, "state" => state).set(f64::from(count));
        }
    }

    /// A connection outside the pool that is never exchanged behind the caller's back, for session locks and `listen`.
    /// The server notices within seconds when this process is gone.
    pub(crate) fn dedicated(&self) -> PgConnectOptions {
        let keepalive = [
            ("tcp_keepalives_idle", "5"),
            ("tcp_keepalives_interval", "2"),
            ("tcp_keepalives_count", "3"),
        ];
        (*self.pool.connect_options()).clone().options(keepalive)
    }

    fn connect_options(config: &DatabaseConfig) -> PgConnectOptions {
        let statement_timeout = config.statement_timeout.as_millis().to_string();
        config
            .options
            .clone()
            .application_name(S::NAME)
            .options([
                ("statement_timeout", statement_timeout.as_str()),
                ("idle_in_transaction_session_timeout", "60000"),
            ])
            .log_statements(LevelFilter::Trace)
            // the text of a statement has placeholders only, so no value reaches the log
            .log_slow_statements(LevelFilter::Warn, config.slow_statement)
    }
}

/// Counts whoever waits for a connection, also when the wait is given up, and how long the wait took.
struct Waiting {
    count: Arc<AtomicU32>,
    since: Instant,
    service: &'static str,
}

impl Waiting {
    fn new<S: Service>(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self {
            count: Arc::clone(count),
            since: Instant::now(),
            service: S::NAME,
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        metrics::histogram!("db_pool_wait_seconds", "service" => self.service)
            .record(self.since.elapsed().as_secs_f64());
    }
}

/// Measures a piece of database work under a name: `db_query_duration_seconds{operation="voyage.booking.cancel"}`.
pub async fn observed<T>(operation: &'static str, work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let result = work.await;
    metrics::histogram!("db_query_duration_seconds", "operation" => operation).record(started.elapsed().as_secs_f64());
    result
}

/// Whether trying again may help: the pool is exhausted or closed, the connection is lost, the server is starting,
/// stopping or out of connections, is a standby that is not yet promoted, or two transactions met.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => database.code().is_some_and(|code| {
            // 08 connection, 53 resources, 57P operator intervention, 40001/40P01 serialisation and deadlock, 25006 a server
            // that takes no writes
            code.starts_with("08")
                || code.starts_with("53")
                || code.starts_with("57P")
                || code == "40001"
                || code == "40P01"
                || code == "25006"
        }),
        _ => false,
    }
}

/// Whether a statement failed because the schema, a table, a column or a grant that it needs is not there: the
/// migrations of this release have not run yet.
pub fn is_behind_the_code(error: &sqlx::Error) -> bool {
    // 3F000 schema, 42P01 table, 42703 column, 42883 function, 42501 privilege
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
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
