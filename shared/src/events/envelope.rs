//! The envelope every event travels in (events §2).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::Topic;
use crate::{db::Service, sources::Sources};

/// The value of a Kafka record. Absent optionals are omitted, not null; unknown fields are ignored when reading.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// UUID v4, lower case.
    pub event_id: String,
    /// The topic without `dreamscape.` (exceptions: events §4).
    pub event_type: String,
    /// ISO-8601 UTC, exactly three fraction digits.
    pub timestamp: String,
    /// `1.0`.
    pub version: String,
    /// The producing service: `auth-service`.
    pub source: String,
    /// The request or saga this belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// `eventId` of the event this reacts to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<String>,
    /// Free additions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// What happened.
    pub payload: Value,
}

impl Envelope {
    /// The payload as a type; a mismatch is a permanent error of the consumer.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.payload)
    }
}

/// An event about to be appended to the outbox: where it goes, under which key, in which envelope.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The Kafka topic.
    pub topic: Topic,
    /// The partition key (events §4, column Key).
    pub key: String,
    /// The record's value.
    pub envelope: Envelope,
}

impl NewEvent {
    /// An event of service `S` now. The correlation id is that of the current request, if there is one.
    pub fn new<S: Service>(sources: &Sources, topic: Topic, key: impl ToString, payload: &impl Serialize) -> Self {
        Self::at::<S>(sources, sources.now(), topic, key, payload)
    }

    /// The same with a given instant.
    pub fn at<S: Service>(
        sources: &Sources,
        at: DateTime<Utc>,
        topic: Topic,
        key: impl ToString,
        payload: &impl Serialize,
    ) -> Self {
        let envelope = Envelope {
            event_id: sources.uuid_v4().to_string(),
            event_type: topic.event_type().to_owned(),
            timestamp: crate::sources::iso_millis(at),
            version: "1.0".to_owned(),
            source: S::NAME.to_owned(),
            correlation_id: crate::http::current_request_id(),
            causation_id: None,
            metadata: None,
            payload: serde_json::to_value(payload).unwrap_or_default(),
        };
        Self {
            topic,
            key: key.to_string(),
            envelope,
        }
    }

    /// Marks the event as a reaction: keeps the correlation id, names the cause.
    #[must_use]
    pub fn caused_by(mut self, cause: &Envelope) -> Self {
        self.envelope.correlation_id.clone_from(&cause.correlation_id);
        self.envelope.causation_id = Some(cause.event_id.clone());
        self
    }

    /// Sets the correlation id, for work outside a request.
    #[must_use]
    pub fn correlated(mut self, correlation: Option<String>) -> Self {
        self.envelope.correlation_id = correlation;
        self
    }
}
