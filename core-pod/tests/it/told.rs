//! Events of other services, applied as the consumer applies them.

use serde_json::{Value, json};
use shared::{
    events::{
        Envelope, Topic,
        consumer::{Failure, Handler as _},
    },
    sources::Sources,
};

use core_pod::user::User;

use crate::support::TestApp;

pub fn envelope(topic: Topic, payload: Value) -> Envelope {
    Envelope {
        event_id: Sources::system().uuid_v4().to_string(),
        event_type: topic.event_type().to_owned(),
        timestamp: "2027-01-15T08:00:00.000Z".to_owned(),
        version: "1.0".to_owned(),
        source: "test".to_owned(),
        correlation_id: Some("req-1".to_owned()),
        causation_id: None,
        metadata: None,
        payload,
    }
}

/// In a transaction of its own, with what follows the commit.
pub async fn apply(app: &TestApp, topic: Topic, payload: Value) -> Result<Envelope, Failure> {
    let event = envelope(topic, payload);
    let handler = app.services.user.events();
    let mut tx = shared::db::Db::<User>::new(app.pool.clone()).begin().await?;
    handler.handle(&mut tx, topic, &event).await?;
    tx.commit().await?;
    handler.committed(topic, &event).await;
    Ok(event)
}

pub fn payment(user: &str) -> Value {
    json!({
        "paymentId": "pi_1", "bookingId": "BOOK-20270115-ABCDE", "userId": user, "amount": 299.5, "currency": "EUR",
        "transactionId": "ch_1", "completedAt": "2027-01-15T08:00:00.000Z", "unknown": [1],
    })
}
