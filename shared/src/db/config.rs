//! Where PostgreSQL is and how a service's pool behaves.
//!
//! contract: core §12 (`DATABASE_URL` or `DB_HOST, DB_PORT, DB_NAME, DB_USER, DB_PASSWORD`), operations §6.7

use std::{str::FromStr as _, time::Duration};

use secrecy::ExposeSecret as _;
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};

use crate::config::Reader;

/// The names of one service's own settings.
struct Names {
    url: &'static str,
    pool_max: &'static str,
    pool_min: &'static str,
}

macro_rules! names {
    ($service:expr, $($prefix:literal)+) => {
        match $service {
            $($prefix => Some(Names {
                url: concat!($prefix, "_DATABASE_URL"),
                pool_max: concat!($prefix, "_DB_POOL_MAX"),
                pool_min: concat!($prefix, "_DB_POOL_MIN"),
            }),)+
            _ => None,
        }
    };
}

/// The address of the database and the bounds of one service's pool.
#[derive(Debug, Clone)]
pub struct DatabaseConfig {
    /// Host, role, password, database, TLS. `Debug` does not print the password.
    pub options: PgConnectOptions,
    /// At most this many connections. The maxima of all services and replicas stay below the server's limit.
    pub max_connections: u32,
    /// Kept open even when idle.
    pub min_connections: u32,
    /// How long a request waits for a connection before it is answered with 503.
    pub acquire_timeout: Duration,
    /// The server cancels a statement that takes longer.
    pub statement_timeout: Duration,
    /// A connection is replaced after this time.
    pub max_lifetime: Duration,
    /// A connection unused for this time is closed.
    pub idle_timeout: Duration,
    /// A statement slower than this is logged, without its values.
    pub slow_statement: Duration,
}

impl DatabaseConfig {
    /// Reads the settings of one service; `service_env` is its prefix (`AUTH`, `USER`, `MAIL`, `VOYAGE`, `PAYMENT`, `AI`).
    ///
    /// `<PREFIX>_DATABASE_URL` wins over `DATABASE_URL`, which wins over the `DB_*` parts. Each secret may come from a file.
    pub fn read(reader: &mut Reader, service_env: &'static str) -> Self {
        let names = names!(service_env, "AUTH" "USER" "MAIL" "VOYAGE" "PAYMENT" "AI");
        let url_name = match &names {
            Some(names) if reader.is_set(names.url) => names.url,
            _ => "DATABASE_URL",
        };
        let options = Self::read_url(reader, url_name).unwrap_or_else(|| Self::read_parts(reader));
        let max_connections = reader.or("DB_POOL_MAX", 10_u32, "connections per service and process, at most");
        let min_connections = reader.or("DB_POOL_MIN", 0_u32, "connections per service kept open when idle");
        let (own_max, own_min) = match &names {
            Some(names) => (
                reader.optional(names.pool_max, "the same as DB_POOL_MAX for this service alone"),
                reader.optional(names.pool_min, "the same as DB_POOL_MIN for this service alone"),
            ),
            None => (None, None),
        };
        let mut millis = |name, default: u64, help| Duration::from_millis(reader.or(name, default, help));
        let mut config = Self {
            options,
            max_connections: own_max.unwrap_or(max_connections),
            min_connections: own_min.unwrap_or(min_connections),
            acquire_timeout: millis(
                "DB_ACQUIRE_TIMEOUT_MS",
                3_000,
                "wait for a connection before answering 503, ms",
            ),
            statement_timeout: millis(
                "DB_STATEMENT_TIMEOUT_MS",
                30_000,
                "the server cancels a longer statement, ms",
            ),
            max_lifetime: millis(
                "DB_MAX_LIFETIME_MS",
                1_800_000,
                "age at which a connection is replaced, ms",
            ),
            idle_timeout: millis(
                "DB_IDLE_TIMEOUT_MS",
                600_000,
                "idle time after which a connection is closed, ms",
            ),
            slow_statement: millis(
                "DB_SLOW_STATEMENT_MS",
                500,
                "statements slower than this are logged, ms",
            ),
        };
        if config.max_connections == 0 {
            reader.problem("DB_POOL_MAX: a pool needs at least one connection");
            config.max_connections = 1;
        }
        if config.min_connections > config.max_connections {
            reader.problem("DB_POOL_MIN is larger than DB_POOL_MAX");
        }
        config
    }

    /// The defaults with a given address, for tests and for the `migrate` subcommand.
    pub fn at(url: &str) -> Result<Self, sqlx::Error> {
        Ok(Self {
            options: parse(url)?,
            max_connections: 10,
            min_connections: 0,
            acquire_timeout: Duration::from_secs(3),
            statement_timeout: Duration::from_secs(30),
            max_lifetime: Duration::from_mins(30),
            idle_timeout: Duration::from_mins(10),
            slow_statement: Duration::from_millis(500),
        })
    }

    /// The address as a URL, password included: for `migrate::run` and for child processes, never for a log.
    pub fn url(&self) -> String {
        self.options.to_url_lossy().to_string()
    }

    fn read_url(reader: &mut Reader, name: &'static str) -> Option<PgConnectOptions> {
        let url = reader.secret(
            name,
            "address of PostgreSQL, postgres://role:password@host:port/database",
        )?;
        let Ok(options) = parse(url.expose_secret()) else {
            // sqlx's text can quote parts of the address, and with them the password
            reader.problem(format!(
                "{name} is not an address like postgres://role:password@host:port/database"
            ));
            return Some(PgConnectOptions::new_without_pgpass());
        };
        Some(options)
    }

    fn read_parts(reader: &mut Reader) -> PgConnectOptions {
        if !reader.is_set("DB_HOST") && !reader.is_set("DATABASE_URL") {
            reader.problem("DATABASE_URL (or DB_HOST, DB_PORT, DB_NAME, DB_USER, DB_PASSWORD) is missing");
        }
        let host = reader.or(
            "DB_HOST",
            "localhost".to_owned(),
            "host of PostgreSQL, when DATABASE_URL is not set",
        );
        let port = reader.or("DB_PORT", 5432_u16, "port of PostgreSQL");
        let database = reader.or("DB_NAME", "dreamscape".to_owned(), "database");
        let role = reader.or("DB_USER", "dreamscape".to_owned(), "role");
        let password = reader.secret("DB_PASSWORD", "password of the role");
        let options = PgConnectOptions::new_without_pgpass()
            .host(&host)
            .port(port)
            .database(&database)
            .username(&role);
        match password {
            Some(password) => options.password(password.expose_secret()),
            None => options,
        }
    }
}

/// Parses an address and drops the parameters that only other clients understand (`?schema=`, pool settings).
fn parse(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    const FOREIGN: [&str; 6] = [
        "schema",
        "connection_limit",
        "pool_timeout",
        "connect_timeout",
        "socket_timeout",
        "pgbouncer",
    ];
    let mut parsed = url::Url::parse(url).map_err(|error| sqlx::Error::Configuration(error.into()))?;
    if !matches!(parsed.scheme(), "postgres" | "postgresql") {
        return Err(sqlx::Error::Configuration("not an address of PostgreSQL".into()));
    }
    let kept: Vec<(String, String)> = parsed
        .query_pairs()
        .filter(|(name, _)| !FOREIGN.contains(&name.as_ref()))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    parsed.set_query(None);
    if !kept.is_empty() {
        parsed.query_pairs_mut().extend_pairs(kept);
    }
    PgConnectOptions::from_str(parsed.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (DatabaseConfig, Vec<String>) {
        let mut reader = Reader::from_pairs(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let config = DatabaseConfig::read(&mut reader, "AUTH");
        (config, reader.finish().err().map(|errors| errors.0).unwrap_or_default())
    }

    #[test]
    fn an_address_made_for_another_client_is_understood() {
        let (config, problems) = read(&[(
            "DATABASE_URL",
            "postgresql://ada:p%40ss@db:5433/travel?schema=public&connection_limit=5&sslmode=disable",
        )]);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!((config.options.get_host(), config.options.get_port()), ("db", 5433));
        assert_eq!(config.options.get_database(), Some("travel"));
        assert!(config.url().contains("p%40ss"));
        assert!(!config.url().contains("schema"));
    }

    #[test]
    fn the_address_of_the_service_wins_over_the_common_one() {
        let (config, problems) = read(&[
            ("DATABASE_URL", "postgres://all@one/db"),
            ("AUTH_DATABASE_URL", "postgres://auth_service@two/db"),
            ("DB_POOL_MAX", "7"),
            ("AUTH_DB_POOL_MAX", "3"),
        ]);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(
            (config.options.get_host(), config.options.get_username()),
            ("two", "auth_service")
        );
        assert_eq!(config.max_connections, 3);
    }

    #[test]
    fn parts_are_an_address_too() {
        let (config, problems) = read(&[
            ("DB_HOST", "db"),
            ("DB_PORT", "6000"),
            ("DB_NAME", "travel"),
            ("DB_USER", "ada"),
            ("DB_PASSWORD", "x"),
        ]);
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!((config.options.get_host(), config.options.get_port()), ("db", 6000));
    }

    #[test]
    fn a_missing_or_bad_address_is_a_problem_and_is_not_repeated() {
        assert_eq!(read(&[]).1.len(), 1);
        let (_, problems) = read(&[("DATABASE_URL", "mysql:/secret")]);
        assert_eq!(problems.len(), 1);
        assert!(!problems[0].contains("secret"));
    }

    #[test]
    fn the_pool_has_room_for_its_minimum() {
        let (_, problems) = read(&[
            ("DATABASE_URL", "postgres://a@b/c"),
            ("DB_POOL_MIN", "5"),
            ("DB_POOL_MAX", "4"),
        ]);
        assert_eq!(problems.len(), 1);
    }
}
