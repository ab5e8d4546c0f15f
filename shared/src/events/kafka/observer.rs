//! What librdkafka tells about itself: into the log, with constant messages.

use rdkafka::{ClientContext, config::RDKafkaLogLevel, error::KafkaError};

/// The context of producers and admin clients.
#[derive(Debug, Clone)]
pub struct Observer {
    /// `payment-service`.
    pub service: &'static str,
}

impl ClientContext for Observer {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        report(self.service, level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(service = self.service, %error, reason, "kafka client error");
    }

    // the default implementation logs them
    fn stats(&self, _: rdkafka::Statistics) {}
}

/// Passes a line of librdkafka's own log on. Brokers that are away make many of them, and the client goes on by itself.
pub fn report(service: &'static str, level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(service, facility, text, "kafka client");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::warn!(service, facility, text, "kafka client"),
        _ => tracing::debug!(service, facility, text, "kafka client"),
    }
}
