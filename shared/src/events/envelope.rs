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

/// Why a record's value is not an event (events §2). Says what is wrong, never what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, or not an object.
    #[error("the value is not a JSON object")]
    NotAnObject,
    /// A field that every event has is missing or not a text.
    #[error("the field `{0}` is missing or not a text")]
    Field(&'static str),
    /// The payload is missing.
    #[error("the payload is missing")]
    NoPayload,
}

impl Envelope {
    /// Reads a record's value as strictly as events §2 says and no stricter: optional fields of a wrong type are ignored.
    pub fn parse(value: &[u8]) -> Result<Self, Malformed> {
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(value) else {
            return Err(Malformed::NotAnObject);
        };
        let mut text = |name: &'static str| match fields.remove(name) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(Malformed::Field(name)),
        };
        let event_id = text("eventId")?;
        let event_type = text("eventType")?;
        let timestamp = text("timestamp")?;
        let version = text("version")?;
        let source = text("source")?;
        let correlation_id = text("correlationId").ok();
        let causation_id = text("causationId").ok();
        let metadata = fields.remove("metadata").filter(Value::is_object);
        let payload = fields.remove("payload").ok_or(Malformed::NoPayload)?;
        Ok(Self {
            event_id,
            event_type,
            timestamp,
            version,
            source,
            correlation_id,
            causation_id,
            metadata,
            payload,
        })
    }

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
    #[expect(
        clippy::needless_pass_by_value,
        reason = "ids are copies and texts are handed over; `&` at every call says nothing"
    )]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Value {
        serde_json::json!({
            "eventId": "0b0f2a0c-0000-4000-8000-000000000001", "eventType": "user.created",
            "timestamp": "2026-01-02T03:04:05.678Z", "version": "1.0", "source": "auth-service", "payload": {}
        })
    }

    #[test]
    fn unknown_fields_and_optional_fields_of_a_wrong_type_are_accepted() {
        let mut value = event();
        value["shape"] = 7.into();
        value["correlationId"] = 7.into();
        let parsed = Envelope::parse(value.to_string().as_bytes()).unwrap();
        assert_eq!(parsed.correlation_id, None);
        assert_eq!(parsed.event_type, "user.created");
    }

    #[test]
    fn only_the_fields_that_every_event_has_are_required() {
        for name in ["eventId", "eventType", "timestamp", "version", "source"] {
            for broken in [None, Some(Value::Null), Some(1.into())] {
                let mut value = event();
                match broken {
                    Some(broken) => value[name] = broken,
                    None => drop(value.as_object_mut().unwrap().remove(name)),
                }
                assert_eq!(
                    Envelope::parse(value.to_string().as_bytes()).unwrap_err(),
                    Malformed::Field(name)
                );
            }
        }
        let mut value = event();
        value.as_object_mut().unwrap().remove("payload");
        assert_eq!(
            Envelope::parse(value.to_string().as_bytes()).unwrap_err(),
            Malformed::NoPayload
        );
        assert_eq!(Envelope::parse(b"[1]").unwrap_err(), Malformed::NotAnObject);
        assert_eq!(Envelope::parse(b"\xff").unwrap_err(), Malformed::NotAnObject);
    }
}
