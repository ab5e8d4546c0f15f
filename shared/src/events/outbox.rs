//! The transactional outbox: an event is appended in the transaction of the change (events §6).
