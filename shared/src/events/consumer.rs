//! Consumers: inbox, retries, dead letters (events §6).
