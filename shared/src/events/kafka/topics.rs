//! The topics themselves (events §4, operations §6.9).

use std::{collections::HashSet, sync::Arc, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    error::RDKafkaErrorCode,
    metadata::MetadataTopic,
};

use super::{KafkaConfig, blocking, dispose, observer::Observer};
use crate::{db, events::Topic, lifecycle::Shutdown};

/// How long the brokers may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
const DAY_MILLIS: u64 = 24 * 60 * 60 * 1000;

/// Creates the 38 topics and their dead-letter topics; those that exist are left as they are. Fails when no broker
/// answers or one of them could not be created.
pub async fn ensure_topics(config: &KafkaConfig) -> anyhow::Result<()> {
    let admin: AdminClient<Observer> = config
        .client("topics")
        .create_with_context(Observer { service: "topics" })?;
    let admin = Arc::new(admin);
    let outcome = create_missing(&admin, config).await;
    dispose(admin);
    outcome
}

/// The same for as long as it takes: tries again, with a growing pause, until the topics are there or the process stops.
pub async fn keep_topics(config: &KafkaConfig, shutdown: &Shutdown) {
    let mut pause = Duration::from_millis(500);
    loop {
        let outcome = tokio::select! {
            () = shutdown.draining() => return,
            outcome = ensure_topics(config) => outcome,
        };
        let Err(error) = outcome else { return };
        tracing::warn!(error = format!("{error:#}"), "topics are not there yet");
        tokio::select! {
            () = shutdown.draining() => return,
            () = tokio::time::sleep(pause.mul_f64(db::jitter())) => {}
        }
        pause = (pause * 2).min(Duration::from_secs(30));
    }
}

/// Asks first what is there: that is one cheap question at most starts, and the mock cluster of development, whose topics
/// are made by whoever starts it, does not answer the request to create some.
async fn create_missing(admin: &Arc<AdminClient<Observer>>, config: &KafkaConfig) -> anyhow::Result<()> {
    let asking = Arc::clone(admin);
    let metadata = blocking(move || asking.inner().fetch_metadata(None, TIMEOUT)).await??;
    let present: HashSet<&str> = metadata.topics().iter().map(MetadataTopic::name).collect();
    let mut wanted: Vec<Wanted> = Topic::ALL
        .into_iter()
        .flat_map(|topic| Wanted::of(topic, config))
        .collect();
    wanted.retain(|topic| !present.contains(topic.name.as_str()));
    if wanted.is_empty() {
        return Ok(());
    }
    let topics: Vec<NewTopic<'_>> = wanted.iter().map(Wanted::request).collect();
    let options = AdminOptions::new()
        .request_timeout(Some(TIMEOUT))
        .operation_timeout(Some(TIMEOUT));
    let results = admin.create_topics(&topics, &options).await?;
    let mut created = 0;
    let mut failed = Vec::new();
    for result in results {
        match result {
            Ok(_) => created += 1,
            // another replica was faster
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => failed.push(format!("{name}: {code}")),
        }
    }
    tracing::info!(created, failed = failed.len(), "topics ensured");
    anyhow::ensure!(failed.is_empty(), "failed to create topics: {}", failed.join(", "));
    Ok(())
}

/// A topic as it should be.
#[derive(Debug)]
struct Wanted {
    name: String,
    partitions: i32,
    replication: i32,
    settings: Vec<(&'static str, String)>,
}

impl Wanted {
    /// A topic and its dead letters.
    fn of(topic: Topic, config: &KafkaConfig) -> [Self; 2] {
        let replication = config.replication_factor;
        let mut settings = vec![("retention.ms", (retention_days(topic) * DAY_MILLIS).to_string())];
        if replication >= 3 {
            settings.push(("min.insync.replicas", "2".to_owned()));
        }
        let dead = Self {
            name: topic.dead_letters(),
            partitions: 1,
            replication,
            settings: settings.clone(),
        };
        [
            Self {
                name: topic.name().to_owned(),
                partitions: config.partitions_of(topic),
                replication,
                settings,
            },
            dead,
        ]
    }

    fn request(&self) -> NewTopic<'_> {
        let topic = NewTopic::new(&self.name, self.partitions, TopicReplication::Fixed(self.replication));
        self.settings
            .iter()
            .fold(topic, |topic, (key, value)| topic.set(key, value))
    }
}

/// 30 days for payments; everything else a week, which is also the limit for personal data (events §5).
fn retention_days(topic: Topic) -> u64 {
    if topic.event_type().starts_with("payment.") {
        30
    } else {
        7
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_has_dead_letters_and_payments_are_kept_for_thirty_days() {
        let mut config = KafkaConfig::at("localhost:1");
        config.replication_factor = 3;
        let wanted: Vec<_> = Topic::ALL
            .into_iter()
            .flat_map(|topic| Wanted::of(topic, &config))
            .collect();
        assert_eq!(wanted.len(), 76);
        for topic in &wanted {
            let days = if topic.name.starts_with("dreamscape.payment.") {
                30
            } else {
                7
            };
            assert!(
                topic
                    .settings
                    .contains(&("retention.ms", (days * DAY_MILLIS).to_string())),
                "{topic:?}"
            );
            assert!(
                topic.settings.contains(&("min.insync.replicas", "2".to_owned())),
                "{topic:?}"
            );
            assert_eq!(topic.partitions == 1, topic.name.split('.').next_back() == Some("dlq"));
        }
    }
}
