//! The settings of the experience pod.

use std::time::Duration;

use shared::{
    auth::config::PublishedKeysConfig,
    config::Reader,
    gateway::GatewayConfig,
    http::{
        HttpConfig,
        limit::{LimitConfig, Rule},
    },
    redis::RedisConfig,
};

/// Everything the pod is told.
#[derive(Debug)]
pub struct Config {
    /// `development` or `production`.
    pub environment: &'static str,
    /// Origins, proxies, limits of the listener.
    pub http: HttpConfig,
    /// How tokens are looked at before they are passed on.
    pub keys: PublishedKeysConfig,
    /// Where the services are.
    pub gateway: GatewayConfig,
    /// Where rate limits are counted.
    pub redis: RedisConfig,
    /// How rate limits are scaled.
    pub limits: LimitConfig,
    /// What one address may ask of the gateway (core §1.10: 1,000 a minute).
    pub gateway_rule: Rule,
}

impl Config {
    /// Reads the settings.
    pub fn read(reader: &mut Reader) -> Self {
        let rule = Rule::new("gateway", 1_000, Duration::from_secs(60));
        Self {
            environment: if reader.production() {
                "production"
            } else {
                "development"
            },
            http: HttpConfig::read(reader),
            keys: PublishedKeysConfig::read(reader),
            gateway: GatewayConfig::read(reader, &[]),
            redis: RedisConfig::read(reader),
            limits: LimitConfig::read(reader),
            gateway_rule: rule.read(
                reader,
                "RATE_LIMIT_GATEWAY_MAX",
                "RATE_LIMIT_GATEWAY_WINDOW",
                "RATE_LIMIT_GATEWAY_BURST",
            ),
        }
    }
}
