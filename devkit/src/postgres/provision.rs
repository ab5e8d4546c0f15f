//! The database and the roles inside a running server.

use std::{collections::BTreeMap, str::FromStr as _, time::Duration};

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};

/// How long one attempt to connect may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);

/// Connects once.
pub(super) async fn connect(address: &str) -> sqlx::Result<PgConnection> {
    let options = PgConnectOptions::from_str(address)?.disable_statement_logging();
    tokio::time::timeout(CONNECT_WITHIN, options.connect())
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Whether the server does not know our password.
pub(super) fn is_refused(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .is_some_and(|code| code.starts_with("28"))
}

/// Makes the database and the roles that are missing, and gives every role its password. Names are plain words.
pub(super) async fn provision(address: &str, database: &str, roles: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let mut connection = connect(address).await.context("failed to connect to postgresql")?;
    let known: Vec<String> = sqlx::query_scalar("select rolname::text from pg_roles")
        .fetch_all(&mut connection)
        .await
        .context("failed to list the roles")?;
    for (role, password) in roles {
        let verb = if known.contains(role) { "alter" } else { "create" };
        let statement = format!("{verb} role {role} with login password '{password}'");
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await
            .context("failed to make a role")?;
    }
    let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(database)
        .fetch_one(&mut connection)
        .await
        .context("failed to list the databases")?;
    if !exists {
        let statement = format!("create database \"{database}\"");
        sqlx::query(AssertSqlSafe(statement))
            .execute(&mut connection)
            .await
            .context("failed to make the database")?;
    }
    connection.close().await.context("failed to say goodbye to postgresql")
}
