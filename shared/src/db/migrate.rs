//! Migrations of several services in one database, run by the `migrate` job or, in development, at start.
//!
//! contract: core §11, §12; operations §6.5 (advisory lock, never by every replica). Forward only; a migration must be
//! safe under the previous release, because during a deployment the old code runs on the new schema.

use std::{collections::HashSet, time::Duration};

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgExecutor, migrate::Migrator};

use super::{DatabaseConfig, Service};

/// The advisory lock under which migrations run. Any number will do, as long as nothing else takes it.
const LOCK: i64 = 0x6472_6561_6d73_6370;

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

/// What to do about the roles that services connect as: `auth-service` connects as `auth_service`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    /// Nothing: one role does everything (a laptop).
    Ignore,
    /// Each role that exists may read and write its own schema and nothing else.
    GrantExisting,
}

impl Migrations {
    /// The migrations of service `S`; the schema is created and holds the table `_sqlx_migrations`.
    pub fn new<S: Service>(mut migrator: Migrator) -> Self {
        migrator.dangerous_set_table_name(format!("{}._sqlx_migrations", S::SCHEMA));
        migrator.create_schema(S::SCHEMA);
        // an older release, started again after a newer one has migrated, must find its schema good enough
        migrator.set_ignore_missing(true);
        // `run` holds a lock over all services
        migrator.set_locking(false);
        Self {
            service: S::NAME,
            schema: S::SCHEMA,
            migrator,
        }
    }

    /// The role the service connects as.
    pub fn role(&self) -> String {
        self.service.replace('-', "_")
    }

    /// How many migrations of this release are not applied yet, for readiness. A schema that does not exist or may not
    /// be read counts as having none of them.
    pub async fn pending(&self, executor: impl PgExecutor<'_>) -> sqlx::Result<usize> {
        let sql = format!("select version from {}._sqlx_migrations where success", self.schema);
        let applied: HashSet<i64> = match sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(executor).await {
            Ok(versions) => versions.into_iter().collect(),
            Err(error) if super::is_behind_the_code(&error) => HashSet::new(),
            Err(error) => return Err(error),
        };
        let known = self
            .migrator
            .iter()
            .filter(|migration| !migration.migration_type.is_down_migration());
        Ok(known.filter(|migration| !applied.contains(&migration.version)).count())
    }
}

/// Applies all migrations of all services as the owner of the database, one process at a time: others wait, then find
/// nothing to do. `admin_url` belongs to a role that may create schemas.
pub async fn run(admin_url: &str, migrations: &[Migrations], roles: Roles) -> anyhow::Result<()> {
    let options = DatabaseConfig::at(admin_url)
        .context("the address of the database is not valid")?
        .options;
    let mut connection = options
        .application_name("migrate")
        .connect()
        .await
        .context("failed to connect to PostgreSQL")?;
    run_on(&mut connection, migrations, roles).await?;
    connection.close().await.context("failed to close the connection")
}

/// The same on an open connection, which must not be used by anybody else.
pub async fn run_on(connection: &mut PgConnection, migrations: &[Migrations], roles: Roles) -> anyhow::Result<()> {
    lock(connection).await.context("failed to lock the migrations")?;
    let outcome = apply(connection, migrations, roles).await;
    // a lost connection has released the lock by itself
    sqlx::query("select pg_advisory_unlock($1)")
        .bind(LOCK)
        .execute(connection)
        .await
        .ok();
    outcome
}

/// Takes the lock by asking again and again: a session that waits inside `pg_advisory_lock` holds a snapshot, and
/// `create index concurrently` of the session that has the lock would wait for it for ever.
async fn lock(connection: &mut PgConnection) -> sqlx::Result<()> {
    loop {
        let locked: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)")
            .bind(LOCK)
            .fetch_one(&mut *connection)
            .await?;
        if locked {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn apply(connection: &mut PgConnection, migrations: &[Migrations], roles: Roles) -> anyhow::Result<()> {
    for one in migrations {
        let before = one
            .pending(&mut *connection)
            .await
            .context("failed to read the applied migrations")?;
        one.migrator
            .run_direct(None, &mut *connection, false)
            .await
            .with_context(|| format!("failed to migrate schema {}", one.schema))?;
        if roles == Roles::GrantExisting {
            grant(connection, one)
                .await
                .with_context(|| format!("failed to grant schema {}", one.schema))?;
        }
        tracing::info!(
            service = one.service,
            schema = one.schema,
            applied = before,
            "schema migrated"
        );
    }
    Ok(())
}

/// Gives the service's role its own schema, for what is there and for what later migrations create. Views that another
/// service publishes are granted by the migrations of that service.
async fn grant(connection: &mut PgConnection, one: &Migrations) -> sqlx::Result<()> {
    let (role, schema) = (one.role(), one.schema);
    let exists: bool = sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
        .bind(&role)
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        tracing::warn!(%role, "role does not exist, nothing granted");
        return Ok(());
    }
    let statements = format!(
        "revoke all on schema {schema} from public;
         grant usage on schema {schema} to {role};
         grant select, insert, update, delete on all tables in schema {schema} to {role};
         grant usage, select, update on all sequences in schema {schema} to {role};
         grant execute on all functions in schema {schema} to {role};
         alter default privileges in schema {schema} grant select, insert, update, delete on tables to {role};
         alter default privileges in schema {schema} grant usage, select, update on sequences to {role};
         alter default privileges in schema {schema} grant execute on functions to {role};
         revoke insert, update, delete on {schema}._sqlx_migrations from {role};"
    );
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(connection)
        .await
        .map(drop)
}
