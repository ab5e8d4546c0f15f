//! From one replica to all: what accounts are told and which sockets are to be closed, over two channels of Redis.
//!
//! contract: core §5.10, §8 (`sio:*`)

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{
    id::UserId,
    lifecycle::Shutdown,
    redis::{Message, Received, Redis},
};

use super::{NAMESPACE, Realtime, gate, room};
use crate::user::{UserState, notifications::Notification};

/// What sockets are told when there is a new notification.
const NOTIFICATION_NEW: &str = "notification:new";
const TELL: &str = "sio:tell";
const CLOSE: &str = "sio:close";

#[derive(Deserialize)]
struct Told {
    user: UserId,
    notification: Value,
}

#[derive(Serialize)]
struct Telling<'a> {
    user: UserId,
    notification: &'a Notification,
}

impl Realtime {
    /// Tells the sockets of an account, on all replicas, that there is a new notification. Where Redis is away, those of
    /// this process alone.
    pub async fn tell(&self, user: UserId, notification: &Notification) {
        let Ok(message) = serde_json::to_vec(&Telling { user, notification }) else {
            return;
        };
        if let Err(error) = self.0.redis.publish(TELL, &message).await {
            tracing::warn!(%error, "only the sockets of this replica are told");
            self.hand_on(&message).await;
        }
    }

    async fn hand_on(&self, message: &[u8]) {
        let Ok(told) = serde_json::from_slice::<Told>(message) else {
            tracing::warn!("a message between replicas could not be read");
            return;
        };
        let Some(open) = self.0.io.of(NAMESPACE) else { return };
        let emitted = open.to(room(told.user)).emit(NOTIFICATION_NEW, &told.notification);
        if let Err(error) = emitted.await {
            // a client that does not read; it finds the notification in its list
            tracing::debug!(%error, "a socket was not told");
        }
    }

    fn close_named(&self, message: &[u8]) {
        let sockets: Vec<String> = serde_json::from_slice(message).unwrap_or_default();
        for socket in sockets.iter().filter_map(|socket| socket.parse().ok()) {
            gate::close(&self.0.io, socket);
        }
    }
}

/// Has sockets closed wherever they are open.
pub async fn announce_closed(redis: &Redis, sockets: &[String]) {
    let Ok(message) = serde_json::to_vec(sockets) else {
        return;
    };
    if let Err(error) = redis.publish(CLOSE, message).await {
        tracing::debug!(%error, "sockets of other replicas stay open");
    }
}

/// Hands on what other replicas say until the drain begins.
pub async fn keep_listening(state: UserState, shutdown: Shutdown) -> anyhow::Result<()> {
    let mut heard = state.redis.subscribe(&[TELL, CLOSE]).await;
    loop {
        let received = tokio::select! {
            received = heard.next() => received,
            () = shutdown.draining() => return Ok(()),
        };
        match received {
            Some(Received::Message(Message { channel, payload })) if channel == TELL => {
                state.realtime.hand_on(&payload).await;
            }
            Some(Received::Message(Message { payload, .. })) => state.realtime.close_named(&payload),
            // clients read their list when they are told something, so nothing has to be caught up
            Some(Received::Gap) => tracing::warn!("messages between replicas may have been lost"),
            None => anyhow::bail!("the subscription ended"),
        }
    }
}
