//! The Kafka client: configuration, producer, topics.
