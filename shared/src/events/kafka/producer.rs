//! The idempotent producer of one service.
//!
//! librdkafka's client (five threads and their buffers, a connection to each broker) is made for the first record, or for the first
//! question whether a broker answers: replicas whose relay stands by have none.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::BaseRecord,
};
use tokio::sync::oneshot;

use super::{
    KafkaConfig, blocking,
    deliveries::{Answer, Delivering},
    observer::Observer,
};

/// How long an answer to "is a broker there" is good for.
const PROBE_FRESH: Duration = Duration::from_secs(5);
/// How long that question may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A record on its way to Kafka.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// The topic's full name.
    pub topic: &'a str,
    /// The partition key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: &'a [u8],
    /// Names and texts.
    pub headers: &'a [(&'a str, &'a str)],
}

/// Why a record was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The brokers will never take it as it is (too large, not valid).
    #[error("the record is refused: {0}")]
    Refused(String),
    /// Nobody took it; trying again is right.
    #[error("the record is not delivered: {0}")]
    Away(String),
}

/// Publishes records in the order given, per key, without duplicates of its own making. Cheap to clone.
#[derive(Clone)]
pub struct Producer {
    shared: Arc<Shared>,
}

struct Shared {
    config: KafkaConfig,
    service: &'static str,
    client: Mutex<Option<Client>>,
    probe: tokio::sync::Mutex<Option<(Instant, bool)>>,
}

/// librdkafka's producer, numbered: a fatal error makes it useless, and then one caller replaces it.
#[derive(Clone)]
struct Client {
    number: u64,
    producer: Arc<Delivering>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer")
            .field("service", &self.shared.service)
            .finish_non_exhaustive()
    }
}

/// The broker's answer to one record, still to come.
pub struct Ack {
    producer: Producer,
    number: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Producer {
    /// The producer of a service (`payment-service`). Needs no broker; fails on settings that librdkafka does not take.
    pub fn new(config: &KafkaConfig, service: &'static str) -> anyhow::Result<Self> {
        config.producer(service).create_native_config()?;
        let shared = Shared {
            config: config.clone(),
            service,
            client: Mutex::new(None),
            probe: tokio::sync::Mutex::new(None),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &KafkaConfig {
        &self.shared.config
    }

    /// Queues a record and returns the broker's answer as a future. Records of one key queued one after the other arrive
    /// in this order, whatever happens to the brokers in between.
    pub fn enqueue(&self, record: Record<'_>) -> Result<Ack, SendError> {
        let headers = record.headers.iter().fold(
            OwnedHeaders::new_with_capacity(record.headers.len()),
            |all, (key, value)| {
                all.insert(Header {
                    key,
                    value: Some(*value),
                })
            },
        );
        let Client { number, producer } = self.client()?;
        let sent = producer.send(|answer| {
            let message = BaseRecord::with_opaque_to(record.topic, answer)
                .payload(record.value)
                .headers(headers);
            match record.key {
                Some(key) => message.key(key),
                None => message,
            }
        });
        match sent {
            Ok(answer) => Ok(Ack {
                producer: self.clone(),
                number,
                answer,
            }),
            Err(error) => Err(self.failed(number, &error)),
        }
    }

    /// Sends one record and waits for the answer, but no longer than `within`.
    pub async fn send(&self, record: Record<'_>, within: Duration) -> Result<(), SendError> {
        let ack = self.enqueue(record)?;
        match tokio::time::timeout(within, ack.wait()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(SendError::Away("no broker answered in time".to_owned())),
        }
    }

    /// Waits until everything queued is delivered, but no longer than `within`; part of a graceful stop.
    pub async fn flush(&self, within: Duration) {
        let Some(Client { producer, .. }) = self.lock().clone() else {
            return;
        };
        let flushed = blocking(move || producer.flush(within)).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::warn!(
                service = self.shared.service,
                "kafka producer stopped with records that are not delivered"
            );
        }
    }

    /// Whether a broker answers, for health reports (`{healthy, details: {connected}}`). The answer may be a few seconds
    /// old; many callers cause one question.
    pub async fn connected(&self) -> bool {
        let mut probe = self.shared.probe.lock().await;
        if let Some((at, connected)) = *probe
            && at.elapsed() < PROBE_FRESH
        {
            return connected;
        }
        let connected = match self.client() {
            Ok(Client { producer, .. }) => {
                let asked = blocking(move || producer.is_connected(PROBE_TIMEOUT)).await;
                asked.unwrap_or(false)
            }
            Err(_) => false,
        };
        *probe = Some((Instant::now(), connected));
        connected
    }

    fn lock(&self) -> MutexGuard<'_, Option<Client>> {
        self.shared.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client, made now if nobody has needed it before.
    fn client(&self) -> Result<Client, SendError> {
        let mut client = self.lock();
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let producer = connect(&self.shared.config, self.shared.service)
            .map_err(|error| SendError::Away(format!("the client cannot be made: {error:#}")))?;
        Ok(client.insert(Client { number: 0, producer }).clone())
    }

    /// Sorts an error; after a fatal one the client is replaced, once.
    fn failed(&self, number: u64, error: &KafkaError) -> SendError {
        let code = error.rdkafka_error_code();
        match code {
            Some(
                RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::InvalidMessage,
            ) => SendError::Refused(error.to_string()),
            Some(RDKafkaErrorCode::Fatal) => {
                self.renew(number);
                SendError::Away(error.to_string())
            }
            _ => SendError::Away(error.to_string()),
        }
    }

    fn renew(&self, number: u64) {
        let mut client = self.lock();
        let Some(failed) = client.as_mut().filter(|client| client.number == number) else {
            return;
        };
        tracing::error!(
            service = self.shared.service,
            "kafka producer failed for good and is replaced"
        );
        match connect(&self.shared.config, self.shared.service) {
            Ok(producer) => {
                *failed = Client {
                    number: number + 1,
                    producer,
                };
            }
            Err(error) => tracing::error!(%error, "kafka producer cannot be replaced"),
        }
    }
}

impl Ack {
    /// Waits for the broker's answer, as long as it takes. Dropping this does not take the record back.
    pub async fn wait(self) -> Result<(), SendError> {
        match self.answer.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.producer.failed(self.number, &error)),
            Err(_) => Err(SendError::Away("the producer was replaced".to_owned())),
        }
    }
}

fn connect(config: &KafkaConfig, service: &'static str) -> anyhow::Result<Arc<Delivering>> {
    let producer = Delivering::start(&config.producer(service), Observer { service })?;
    Ok(Arc::new(producer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_made_for_the_first_record_only() {
        let producer = Producer::new(&KafkaConfig::at("127.0.0.1:1"), "test-service").unwrap();
        assert!(producer.lock().is_none());
        let record = Record {
            topic: "dreamscape.test",
            key: Some(b"key"),
            value: b"{}",
            headers: &[("name", "text")],
        };
        let ack = producer.enqueue(record).unwrap();
        assert!(producer.lock().is_some());
        drop(ack);
    }

    #[test]
    fn settings_that_the_client_does_not_take_are_refused_at_the_start() {
        let mut config = KafkaConfig::at("127.0.0.1:1");
        config.max_in_flight = 0;
        assert!(Producer::new(&config, "test-service").is_err());
    }
}
