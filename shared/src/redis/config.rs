//! Where Redis is and how long a command may take (core §12, operations §6.8).

use std::time::Duration;

use secrecy::SecretString;

use crate::config::Reader;

/// How much the in-process store holds before it drops what was used least recently.
pub(super) const DEFAULT_MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// What to connect to.
#[derive(Debug, Clone)]
pub enum Target {
    /// Nothing: the store of this process.
    Memory,
    /// One server: `redis://…` or `rediss://…`.
    Single(SecretString),
    /// A Cluster: addresses of some of its nodes.
    Cluster(Vec<String>),
}

/// The settings of Redis.
#[derive(Debug, Clone)]
pub struct RedisConfig {
    /// What to connect to.
    pub target: Target,
    /// The user of the access list, if not the default user.
    pub username: Option<String>,
    /// The password.
    pub password: Option<SecretString>,
    /// How long a command may take, connecting included.
    pub timeout: Duration,
    /// The bound of the in-process store.
    pub memory_bytes: usize,
}

impl RedisConfig {
    /// The in-process store.
    pub fn memory() -> Self {
        Self {
            target: Target::Memory,
            username: None,
            password: None,
            timeout: Duration::from_millis(250),
            memory_bytes: DEFAULT_MEMORY_BYTES,
        }
    }

    /// One server at `url`.
    pub fn single(url: impl Into<String>) -> Self {
        Self {
            target: Target::Single(SecretString::from(url.into())),
            ..Self::memory()
        }
    }

    /// A Cluster found through any of `nodes` (`redis://host:port`).
    pub fn cluster(nodes: Vec<String>) -> Self {
        Self {
            target: Target::Cluster(nodes),
            ..Self::memory()
        }
    }

    /// The same with another time-out.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Reads the settings. Unset means the in-process store, which production must ask for by `REDIS_ENABLED=false`.
    pub fn read(reader: &mut Reader) -> Self {
        let enabled = reader.or(
            "REDIS_ENABLED",
            true,
            "`false`: no Redis; limits and caches are per process",
        );
        let url = reader.secret(
            "REDIS_URL",
            "one Redis server: `redis://` or `rediss://` (TLS) `[user:password@]host:port[/db]`",
        );
        let nodes = reader.list(
            "REDIS_CLUSTER_NODES",
            &[],
            "some nodes of a Redis Cluster, `host:port,host:port`; wins over REDIS_URL",
        );
        let host = reader.text("REDIS_HOST", "host of one Redis server, where REDIS_URL is not set");
        let port: u16 = reader.or("REDIS_PORT", 6379, "port of that server");
        let tls = reader.or("REDIS_TLS", false, "TLS to Cluster nodes and to REDIS_HOST");
        let username = reader.text("REDIS_USERNAME", "user of the access list; unset: the default user");
        let password = reader.secret("REDIS_PASSWORD", "password of the server or of all Cluster nodes");
        let timeout_ms: u64 = reader.or("REDIS_TIMEOUT_MS", 250, "how long one command may take, milliseconds");
        let memory_mb: usize = reader.or("REDIS_MEMORY_MB", 64, "bound of the in-process store, MiB");
        if timeout_ms == 0 {
            reader.problem("REDIS_TIMEOUT_MS: must be at least 1");
        }
        let scheme = if tls { "rediss" } else { "redis" };
        let with_scheme = |node: String| {
            if node.contains("://") {
                node
            } else {
                format!("{scheme}://{node}")
            }
        };
        let target = match (enabled, nodes.is_empty(), url, host) {
            (false, ..) => Target::Memory,
            (true, false, ..) => Target::Cluster(nodes.into_iter().map(with_scheme).collect()),
            (true, true, Some(url), _) => Target::Single(url),
            (true, true, None, Some(host)) => Target::Single(SecretString::from(format!("{scheme}://{host}:{port}"))),
            (true, true, None, None) => {
                if reader.production() && !reader.is_set("REDIS_URL") {
                    reader.problem(
                        "REDIS_URL or REDIS_CLUSTER_NODES is missing: where Redis is (or REDIS_ENABLED=false)",
                    );
                }
                Target::Memory
            }
        };
        Self {
            target,
            username,
            password,
            timeout: Duration::from_millis(timeout_ms.max(1)),
            memory_bytes: memory_mb.max(1) * 1024 * 1024,
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (RedisConfig, Result<(), crate::config::ConfigErrors>) {
        let mut reader = Reader::from_pairs(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let config = RedisConfig::read(&mut reader);
        (config, reader.finish())
    }

    #[test]
    fn nothing_set_is_the_in_process_store_but_not_in_production() {
        let (config, outcome) = read(&[]);
        assert!(matches!(config.target, Target::Memory) && outcome.is_ok());
        assert!(read(&[("APP_ENV", "production")]).1.is_err());
        assert!(read(&[("APP_ENV", "production"), ("REDIS_ENABLED", "false")]).1.is_ok());
    }

    #[test]
    fn cluster_nodes_win_and_get_a_scheme() {
        let (config, _) = read(&[
            ("REDIS_CLUSTER_NODES", "redis-1:6379, redis-2:6379"),
            ("REDIS_URL", "redis://x"),
            ("REDIS_TLS", "true"),
        ]);
        let Target::Cluster(nodes) = config.target else {
            panic!("not a cluster")
        };
        assert_eq!(nodes, ["rediss://redis-1:6379", "rediss://redis-2:6379"]);
    }

    #[test]
    fn host_and_port_make_an_address() {
        let (config, _) = read(&[("REDIS_HOST", "cache"), ("REDIS_PORT", "6380")]);
        let Target::Single(url) = config.target else {
            panic!("not single")
        };
        assert_eq!(url.expose_secret(), "redis://cache:6380");
    }

    #[test]
    fn redis_can_be_switched_off() {
        let (config, _) = read(&[("REDIS_ENABLED", "false"), ("REDIS_URL", "redis://cache:6379")]);
        assert!(matches!(config.target, Target::Memory));
    }
}
