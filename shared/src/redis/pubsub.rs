//! Subscriptions to a server or a Cluster: one connection each, kept alive by pings, moved to another node when it breaks.
//!
//! A Cluster passes every published message to all nodes, so any node will do.

use std::time::Duration;

use ::redis::Client;
use futures_util::StreamExt as _;
use tokio::{
    sync::{mpsc, oneshot},
    time::MissedTickBehavior,
};
use tokio_util::task::AbortOnDropHandle;

use super::{Message, Received, Subscription};

const DEPTH: usize = 1024;
/// How often a silent connection is asked whether it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// Subscribes; returns when the subscription stands or its first attempt has failed.
pub(super) async fn start(nodes: Vec<Client>, channels: &[&str], timeout: Duration) -> Subscription {
    let channels: Vec<String> = channels.iter().map(|channel| (*channel).to_owned()).collect();
    let (sender, receiver) = mpsc::channel(DEPTH);
    let (first, attempted) = oneshot::channel();
    let feeder = tokio::spawn(keep(nodes, channels, timeout, sender, first));
    // the other end is dropped only with the task
    let _ = attempted.await;
    Subscription {
        receiver,
        _feeder: AbortOnDropHandle::new(feeder),
    }
}

async fn keep(
    nodes: Vec<Client>,
    channels: Vec<String>,
    timeout: Duration,
    sender: mpsc::Sender<Received>,
    first: oneshot::Sender<()>,
) {
    let mut first = Some(first);
    let mut delay = FIRST_DELAY;
    for node in nodes.iter().cycle() {
        let established = tokio::time::timeout(timeout.max(FIRST_DELAY) * 2, subscribe(node, &channels)).await;
        let outcome = established.unwrap_or_else(|_| Err(timed_out()));
        if let Some(first) = first.take() {
            let _ = first.send(());
            if outcome.is_err() && sender.send(Received::Gap).await.is_err() {
                return;
            }
        }
        match outcome {
            Ok(connection) => {
                delay = FIRST_DELAY;
                if forward(connection, timeout, &sender).await.is_err() {
                    return;
                }
                tracing::warn!("redis subscription lost");
                if sender.send(Received::Gap).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::debug!(%error, "redis subscription not established"),
        }
        if sender.is_closed() {
            return;
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LONGEST_DELAY);
    }
}

async fn subscribe(node: &Client, channels: &[String]) -> ::redis::RedisResult<::redis::aio::PubSub> {
    let mut connection = node.get_async_pubsub().await?;
    connection.subscribe(channels).await?;
    Ok(connection)
}

/// The reader of the subscription has gone.
struct Abandoned;

/// Passes messages on until the connection breaks.
async fn forward(
    connection: ::redis::aio::PubSub,
    timeout: Duration,
    sender: &mpsc::Sender<Received>,
) -> Result<(), Abandoned> {
    let (mut sink, mut messages) = connection.split();
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.tick().await;
    loop {
        tokio::select! {
            message = messages.next() => {
                let Some(message) = message else { return Ok(()) };
                let message = Message {
                    channel: message.get_channel_name().to_owned(),
                    payload: message.get_payload_bytes().to_vec(),
                };
                sender.send(Received::Message(message)).await.map_err(|_| Abandoned)?;
            }
            _ = heartbeat.tick() => {
                let alive = tokio::time::timeout(timeout.max(HEARTBEAT), sink.ping::<::redis::Value>()).await;
                if !matches!(alive, Ok(Ok(_))) {
                    return Ok(());
                }
            }
            () = sender.closed() => return Err(Abandoned),
        }
    }
}

fn timed_out() -> ::redis::RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}
