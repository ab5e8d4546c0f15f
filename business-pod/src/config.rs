//! The settings of the business pod: those of its three services and of what they share.

use std::time::Duration;

use shared::{
    auth::config::RemoteIdentityConfig,
    config::Reader,
    db::DatabaseConfig,
    events::kafka::KafkaConfig,
    http::{
        HttpConfig,
        limit::{LimitConfig, Rule},
    },
    rate_limit_rule,
    redis::RedisConfig,
};

use crate::{
    ai::AiConfig,
    payment::PaymentConfig,
    voyage::{VoyageConfig, search::SearchConfig},
};

/// Everything the pod is told.
#[derive(Debug)]
pub struct Config {
    /// `development` or `production`.
    pub environment: &'static str,
    /// Origins, proxies, limits of the listeners.
    pub http: HttpConfig,
    /// How callers are known.
    pub identity: RemoteIdentityConfig,
    /// Where rate limits are counted and sessions are cached.
    pub redis: RedisConfig,
    /// How rate limits are scaled.
    pub limits: LimitConfig,
    /// Where events go and come from.
    pub kafka: KafkaConfig,
    /// What one address may ask of each service at once (operations §6.5).
    pub bursts: Bursts,
    /// The databases.
    pub databases: Databases,
    /// Carts, checkouts and bookings.
    pub voyage: VoyageConfig,
    /// Searches.
    pub search: SearchConfig,
    /// Whether the prices of the offline provider move by the hour.
    pub offline_price_drift: bool,
    /// Payments.
    pub payment: PaymentConfig,
    /// Recommendations.
    pub ai: AiConfig,
    /// Where this process dies, for the tests that restart it.
    #[cfg(feature = "embedded")]
    pub fault_point: Option<String>,
}

/// One database address and pool per service.
#[derive(Debug)]
pub struct Databases {
    /// The schema `voyage`.
    pub voyage: DatabaseConfig,
    /// The schema `payment`.
    pub payment: DatabaseConfig,
    /// The schema `ai`.
    pub ai: DatabaseConfig,
}

/// Guards against bursts from one address, beside the limits of single routes.
#[derive(Debug, Clone, Copy)]
pub struct Bursts {
    /// 20 a second.
    pub voyage: Rule,
    /// 15 a second.
    pub payment: Rule,
    /// 10 a second.
    pub ai: Rule,
}

/// A second.
const SECOND: Duration = Duration::from_secs(1);

impl Config {
    /// Reads the settings.
    pub fn read(reader: &mut Reader) -> Self {
        let http = HttpConfig::read(reader);
        let payment = PaymentConfig::read(reader);
        let voyage = VoyageConfig::read(reader, payment.livemode, http.secure_cookies);
        Self {
            environment: if reader.production() {
                "production"
            } else {
                "development"
            },
            identity: RemoteIdentityConfig::read(reader, "business-pod"),
            redis: RedisConfig::read(reader),
            limits: LimitConfig::read(reader),
            kafka: KafkaConfig::read(reader),
            bursts: Bursts {
                voyage: rate_limit_rule!(
                    reader,
                    "VOYAGE_BURST",
                    Rule::new("burst.voyage", 20, SECOND).with_burst(15)
                ),
                payment: rate_limit_rule!(
                    reader,
                    "PAYMENT_BURST",
                    Rule::new("burst.payment", 15, SECOND).with_burst(20)
                ),
                ai: rate_limit_rule!(reader, "AI_BURST", Rule::new("burst.ai", 10, SECOND).with_burst(20)),
            },
            databases: Databases {
                voyage: DatabaseConfig::read(reader, "VOYAGE"),
                payment: DatabaseConfig::read(reader, "PAYMENT"),
                ai: DatabaseConfig::read(reader, "AI"),
            },
            search: SearchConfig::read(reader),
            ai: AiConfig::read(reader),
            offline_price_drift: reader.or(
                "OFFLINE_PRICE_DRIFT",
                false,
                "whether the offline provider's prices move by the hour",
            ),
            #[cfg(feature = "embedded")]
            fault_point: fault_point(reader),
            http,
            voyage,
            payment,
        }
    }
}

/// Tests only: never heeded in production, absent from production builds.
#[cfg(feature = "embedded")]
fn fault_point(reader: &mut Reader) -> Option<String> {
    let name = reader.text(
        "FAULT_POINT",
        "tests only: the step at which the process dies; not in production builds",
    );
    name.filter(|_| !reader.production())
}
