//! The consumer group: where it starts, who has which partition, how far behind it is.

use std::time::Duration;

use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance},
    error::{KafkaError, RDKafkaErrorCode},
};
use tokio::sync::mpsc::UnboundedSender;

use crate::events::{
    Topic,
    kafka::{KafkaConfig, report},
};

/// How long a question to the brokers may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A partition of a topic.
pub type Place = (String, i32);

/// What librdkafka calls back. Lives in the consumer and must not block.
pub struct Membership {
    pub service: &'static str,
    pub group: &'static str,
    /// Told how many records wait.
    pub waiting: Box<dyn Fn(u64) + Send + Sync>,
    /// Told of partitions that another member gets.
    pub revoked: UnboundedSender<Vec<Place>>,
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        report(self.service, level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(service = self.service, group = self.group, %error, reason, "kafka client error");
    }

    fn stats(&self, statistics: Statistics) {
        let mut waiting = 0;
        for (name, topic) in statistics.topics {
            for (number, partition) in topic.partitions {
                if partition.fetch_state != "active" {
                    continue;
                }
                let lag = partition.consumer_lag_stored.max(partition.consumer_lag).max(0);
                waiting += lag.unsigned_abs();
                let labels = [
                    ("group", self.group.to_owned()),
                    ("topic", name.clone()),
                    ("partition", number.to_string()),
                ];
                #[expect(clippy::cast_precision_loss, reason = "a gauge")]
                metrics::gauge!("kafka_consumer_lag", &labels).set(lag as f64);
            }
        }
        (self.waiting)(waiting);
    }
}

impl ConsumerContext for Membership {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            // the receiver is gone when the consumer is being closed, and then nobody needs to know
            drop(self.revoked.send(places(partitions)));
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            // a pause from an earlier time with this partition must not outlive it
            if let Err(error) = consumer.resume(partitions) {
                tracing::warn!(%error, "partitions not resumed");
            }
            tracing::info!(
                group = self.group,
                partitions = partitions.count(),
                "partitions assigned"
            );
        }
    }
}

fn places(partitions: &TopicPartitionList) -> Vec<Place> {
    partitions
        .elements()
        .iter()
        .map(|element| (element.topic().to_owned(), element.partition()))
        .collect()
}

/// Makes `latest` mean: the ends of the topics when the group first starts. Partitions without a committed offset get one
/// now, before the first subscription; without this, a partition that has not had a record yet would lose those that
/// arrive while the group is away. Blocks.
pub fn settle_start(config: &KafkaConfig, service: &'static str, group: &str, topics: &[Topic]) -> anyhow::Result<()> {
    let consumer: BaseConsumer = config.consumer(service, group).create()?;
    let metadata = consumer.fetch_metadata(None, TIMEOUT)?;
    let mut wanted = TopicPartitionList::new();
    for topic in metadata.topics() {
        if topics.iter().any(|one| one.name() == topic.name()) {
            for partition in topic.partitions() {
                wanted.add_partition(topic.name(), partition.id());
            }
        }
    }
    if wanted.count() == 0 {
        return Ok(());
    }
    let committed = consumer.committed_offsets(wanted, TIMEOUT)?;
    let mut ends = TopicPartitionList::new();
    for element in committed.elements() {
        if matches!(element.offset(), Offset::Offset(_)) {
            continue;
        }
        let (_, end) = consumer.fetch_watermarks(element.topic(), element.partition(), TIMEOUT)?;
        ends.add_partition_offset(element.topic(), element.partition(), Offset::Offset(end))?;
    }
    if ends.count() == 0 {
        return Ok(());
    }
    match consumer.commit(&ends, CommitMode::Sync) {
        Ok(()) => {
            tracing::info!(
                group,
                partitions = ends.count(),
                "consumer group starts at the ends of the topics"
            );
            Ok(())
        }
        // another member is at work already and has done this
        Err(error) if is_refusal(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_refusal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::RebalanceInProgress
        )
    )
}
