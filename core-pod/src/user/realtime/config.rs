//! The settings of sockets.
//!
//! contract: core §5.10, §12

use std::time::Duration;

use shared::{config::Reader, http::limit::Rule, rate_limit_rule};

/// The settings of sockets.
#[derive(Debug, Clone, Copy)]
pub struct RealtimeConfig {
    /// Sockets of one account at once; the oldest make room.
    pub per_user: usize,
    /// Between two looks at whether the sessions of open sockets still live.
    pub check_every: Duration,
    /// Between two pings.
    pub ping_interval: Duration,
    /// How long a client may take to answer one.
    pub ping_timeout: Duration,
    /// New connections from one address.
    pub limit: Rule,
}

impl RealtimeConfig {
    /// Reads the settings. A revoked session must lose its sockets within 30 s, so checks are never further apart than 20 s.
    pub fn read(reader: &mut Reader) -> Self {
        let per_user = reader.or(
            "SOCKETS_PER_USER",
            10_usize,
            "Socket.IO connections of one account at once; the oldest make room",
        );
        let check = reader.or(
            "SOCKET_CHECK_MS",
            10_000_u64,
            "milliseconds between two looks at whether the sessions of open sockets still live, 100 to 20000",
        );
        if !(100..=20_000).contains(&check) {
            reader.problem("SOCKET_CHECK_MS must be between 100 and 20000");
        }
        let interval = reader.or(
            "SOCKET_PING_INTERVAL_MS",
            25_000_u64,
            "milliseconds between two pings of a socket",
        );
        let timeout = reader.or(
            "SOCKET_PING_TIMEOUT_MS",
            20_000_u64,
            "milliseconds in which a client must answer a ping",
        );
        let limit = Rule::new("sockets", 600, Duration::from_mins(1));
        Self {
            per_user: per_user.max(1),
            check_every: Duration::from_millis(check.clamp(100, 20_000)),
            ping_interval: Duration::from_millis(interval.max(100)),
            ping_timeout: Duration::from_millis(timeout.max(100)),
            limit: rate_limit_rule!(reader, "SOCKETS", limit),
        }
    }
}
