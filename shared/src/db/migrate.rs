//! Migrations of several services in one database, run by the `migrate` job or, in development, at start.
//!
//! contract: core §11, §12; operations §6.5 (advisory lock, never by every replica)

use sqlx::migrate::Migrator;

use super::Service;

/// The migrations of one service. Each service has `pub fn migrations() -> Migrations`:
///
/// ```ignore
/// pub fn migrations() -> Migrations {
///     Migrations::new::<Auth>(sqlx::migrate!("../migrations/auth"))
/// }
/// ```
#[derive(Debug)]
pub struct Migrations {
    /// `auth-service`.
    pub service: &'static str,
    /// The schema it owns; its table of applied migrations lives there.
    pub schema: &'static str,
    /// What to apply.
    pub migrator: Migrator,
}

impl Migrations {
    /// The migrations of service `S`; the schema is created and holds the table `_sqlx_migrations`.
    pub fn new<S: Service>(mut migrator: Migrator) -> Self {
        migrator.dangerous_set_table_name(format!("{}._sqlx_migrations", S::SCHEMA));
        migrator.create_schema(S::SCHEMA);
        // an older release, started again after a newer one has migrated, must find its schema good enough
        migrator.set_ignore_missing(true);
        // the lock is taken by `run`, by polling
        migrator.set_locking(false);
        Self {
            service: S::NAME,
            schema: S::SCHEMA,
            migrator,
        }
    }
}
