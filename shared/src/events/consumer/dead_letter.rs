//! Dead letters: `<topic>.dlq`, under the same key, in an envelope that says what happened (events §6).

use std::time::Duration;

use base64::Engine as _;
use chrono::{DateTime, Utc};
use rdkafka::{Message as _, message::OwnedMessage};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    events::{
        Envelope,
        kafka::{Producer, Record, SendError},
    },
    sources::iso_millis,
};

/// How long the brokers may take before the partition waits and tries again.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// A record that cannot be applied.
pub struct Letter<'a> {
    pub record: &'a OwnedMessage,
    /// The event in it, if it is one.
    pub event: Option<&'a Envelope>,
    pub reason: &'a str,
    pub group: &'a str,
    pub attempts: usize,
}

/// Sends the letter and waits for the brokers.
pub async fn send(producer: &Producer, letter: &Letter<'_>, now: DateTime<Utc>) -> Result<(), SendError> {
    let topic = format!("{}.dlq", letter.record.topic());
    let envelope = letter.envelope(now);
    let value = serde_json::to_vec(&envelope).map_err(|error| SendError::Refused(error.to_string()))?;
    let headers = [
        ("eventType", envelope.event_type.as_str()),
        ("source", envelope.source.as_str()),
        ("version", envelope.version.as_str()),
        ("correlationId", envelope.correlation_id.as_deref().unwrap_or_default()),
        ("timestamp", envelope.timestamp.as_str()),
        ("eventId", envelope.event_id.as_str()),
    ];
    let record = Record {
        topic: &topic,
        key: letter.record.key(),
        value: &value,
        headers: &headers,
    };
    producer.send(record, SEND_TIMEOUT).await
}

impl Letter<'_> {
    fn envelope(&self, now: DateTime<Utc>) -> Envelope {
        let payload = json!({
            "originalEvent": self.original(),
            "error": { "message": self.reason },
            "failedTopic": self.record.topic(),
            "failedPartition": self.record.partition(),
            "failedOffset": self.record.offset(),
            "failedAt": iso_millis(now),
            "group": self.group,
            "attempts": self.attempts,
        });
        Envelope {
            event_id: self.id(),
            event_type: "dead_letter.event".to_owned(),
            timestamp: iso_millis(now),
            version: "1.0".to_owned(),
            source: "kafka-error-handler".to_owned(),
            correlation_id: self.event.and_then(|event| event.correlation_id.clone()),
            causation_id: self.event.map(|event| event.event_id.clone()),
            metadata: None,
            payload,
        }
    }

    /// What arrived: as JSON if it is JSON, else its bytes.
    fn original(&self) -> Value {
        let bytes = self.record.payload().unwrap_or_default();
        serde_json::from_slice(bytes)
            .unwrap_or_else(|_| json!({ "rawBase64": base64::engine::general_purpose::STANDARD.encode(bytes) }))
    }

    /// The same for every try of the same record, so that a letter sent twice can be recognised.
    fn id(&self) -> String {
        let place = format!(
            "{}/{}/{}/{}",
            self.group,
            self.record.topic(),
            self.record.partition(),
            self.record.offset()
        );
        let digest = Sha256::digest(place.as_bytes());
        let bytes = digest.first_chunk::<16>().copied().unwrap_or_default();
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Timestamp;

    use super::*;

    fn letter_for(value: &[u8]) -> Envelope {
        let record = OwnedMessage::new(
            Some(value.to_vec()),
            Some(b"key".to_vec()),
            "dreamscape.payment.completed".to_owned(),
            Timestamp::NotAvailable,
            2,
            41,
            None,
        );
        let event = Envelope::parse(value).ok();
        let letter = Letter {
            record: &record,
            event: event.as_ref(),
            reason: "wrong owner",
            group: "g",
            attempts: 3,
        };
        letter.envelope(DateTime::from_timestamp_millis(1_700_000_000_000).unwrap())
    }

    #[test]
    fn a_dead_letter_carries_the_event_and_where_it_failed() {
        let value = br#"{"eventId":"e","eventType":"payment.completed","timestamp":"t","version":"1.0",
            "source":"payment-service","correlationId":"c","payload":{"amount":1.50}}"#;
        let letter = letter_for(value);
        assert_eq!(letter.event_type, "dead_letter.event");
        assert_eq!(letter.source, "kafka-error-handler");
        assert_eq!(letter.correlation_id.as_deref(), Some("c"));
        assert_eq!(letter.causation_id.as_deref(), Some("e"));
        assert_eq!(letter.payload["originalEvent"]["payload"]["amount"], 1.5);
        assert_eq!(letter.payload["error"], json!({ "message": "wrong owner" }));
        assert_eq!(letter.payload["failedTopic"], "dreamscape.payment.completed");
        assert_eq!(
            (
                letter.payload["failedPartition"].as_i64(),
                letter.payload["failedOffset"].as_i64()
            ),
            (Some(2), Some(41))
        );
        assert_eq!(letter.payload["failedAt"], "2023-11-14T22:13:20.000Z");
        assert_eq!(letter.payload["attempts"], 3);
        assert_eq!(letter.event_id, letter_for(value).event_id);
    }

    #[test]
    fn bytes_that_are_not_json_are_kept_as_they_are() {
        let letter = letter_for(b"\xff\x00");
        assert_eq!(letter.payload["originalEvent"], json!({ "rawBase64": "/wA=" }));
    }
}
