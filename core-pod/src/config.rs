//! The settings of the core pod.
//!
//! contract: core §12

use shared::{
    config::{Environment, Reader},
    crypto::Cipher,
    db::DatabaseConfig,
    events::kafka::KafkaConfig,
    gateway::{GatewayConfig, Target},
    http::{HttpConfig, limit::LimitConfig},
    objects::ObjectConfig,
    redis::RedisConfig,
};

use crate::{auth::AuthConfig, gateway::GatewaySettings, mail::MailConfig, user::UserConfig};

/// Everything the pod is told.
#[derive(Debug)]
pub struct Config {
    /// Where the process runs.
    pub environment: Environment,
    /// Origins, proxies and bounds of the listeners.
    pub http: HttpConfig,
    /// Encryption of single fields at rest.
    pub cipher: Cipher,
    /// The auth service.
    pub auth: AuthConfig,
    /// Its database.
    pub auth_database: DatabaseConfig,
    /// The user service.
    pub user: UserConfig,
    /// Its database.
    pub user_database: DatabaseConfig,
    /// The mail service.
    pub mail: MailConfig,
    /// Its database.
    pub mail_database: DatabaseConfig,
    /// Pictures and exports.
    pub objects: ObjectConfig,
    /// Rate limits and session checks.
    pub redis: RedisConfig,
    /// How rate limits are scaled.
    pub limits: LimitConfig,
    /// Events.
    pub kafka: KafkaConfig,
    /// Where the services of the other pods are.
    pub gateway: GatewayConfig,
    /// What the gateway does itself: limits of the public listener, PINs.
    pub edge: GatewaySettings,
}

impl Config {
    /// Reads all settings.
    pub fn read(reader: &mut Reader) -> Self {
        let http = HttpConfig::read(reader);
        Self {
            environment: reader.environment(),
            cipher: Cipher::read(reader),
            auth: AuthConfig::read(reader, http.secure_cookies),
            auth_database: DatabaseConfig::read(reader, "AUTH"),
            user: UserConfig::read(reader),
            user_database: DatabaseConfig::read(reader, "USER"),
            mail: MailConfig::read(reader, &http.cors_origins),
            mail_database: DatabaseConfig::read(reader, "MAIL"),
            objects: ObjectConfig::read(reader),
            redis: RedisConfig::read(reader),
            limits: LimitConfig::read(reader),
            kafka: KafkaConfig::read(reader),
            gateway: GatewayConfig::read(reader, &[Target::Auth, Target::User, Target::Core]),
            edge: GatewaySettings::read(reader, &http.cors_origins),
            http,
        }
    }

    /// `development` or `production`, as health reports say it.
    pub fn environment_name(&self) -> &'static str {
        match self.environment {
            Environment::Development => "development",
            Environment::Production => "production",
        }
    }
}
