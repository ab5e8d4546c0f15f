//! What the tests of storage and events share: two services that exist only here, their schema, waiting, a proxy.

pub mod proxy;

use std::time::{Duration, Instant};

use shared::db::{DatabaseConfig, Service, migrate::Migrations};
use sqlx::{
    AssertSqlSafe, PgPool, SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
};

/// A service that sells.
pub enum Shop {}

impl Service for Shop {
    const NAME: &'static str = "shop-service";
    const SCHEMA: &'static str = "shop";
}

/// Another service, which must be left alone.
pub enum Bank {}

impl Service for Bank {
    const NAME: &'static str = "bank-service";
    const SCHEMA: &'static str = "bank";
}

/// The tables of events, as each service copies them, and one of effects.
pub fn migrations<S: Service>() -> Migrations {
    let effects = "create table service_schema.effects (
        place bigint generated always as identity primary key, event_id text not null, key text not null, n bigint not null
    );";
    let sql = format!("{}{effects}", include_str!("../../sql/events.sql")).replace("service_schema", S::SCHEMA);
    let migration = Migration::new(
        1,
        "events".into(),
        MigrationType::Simple,
        AssertSqlSafe(sql).into_sql_str(),
        false,
    );
    Migrations::new::<S>(Migrator::with_migrations(vec![migration]))
}

/// The default configuration with the address of this database.
pub fn config_at(pool: &PgPool) -> DatabaseConfig {
    let mut config = DatabaseConfig::at("postgres://localhost/any").unwrap();
    config.options = (*pool.connect_options()).clone();
    config
}

/// Waits until something holds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "still not true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
