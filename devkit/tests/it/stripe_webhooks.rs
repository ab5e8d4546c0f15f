//! The webhooks of the Stripe double: signed, in order, tried again, and spoilt on request (contract: payment §6, §12).

use std::time::Duration;

use devkit::stripe::{Backoff, Options};
use serde_json::json;

use crate::{receiver::Receiver, stripe::Client};

const SOON: Duration = Duration::from_secs(10);

async fn start() -> (Client, Receiver) {
    let backoff = Backoff {
        first: Duration::from_millis(20),
        longest: Duration::from_millis(100),
        attempts: 50,
    };
    let client = Client::with(Options {
        backoff,
        ..Options::default()
    })
    .await;
    let receiver = Receiver::start(client.stripe.webhook_secret()).await;
    client.stripe.webhooks().set_url(Some(&receiver.url));
    (client, receiver)
}

#[tokio::test]
async fn a_payment_is_told_in_order_with_a_good_signature() {
    let (client, receiver) = start().await;
    client.attempt("4242424242424242").await;
    assert!(client.stripe.webhooks().settled(SOON).await);
    assert_eq!(
        receiver.kinds(),
        ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]
    );
    assert!(receiver.refused().is_empty());
    assert_eq!(
        receiver.taken()[2]["data"]["object"]["metadata"]["bookingReference"],
        "BK-1"
    );
}

#[tokio::test]
async fn a_refused_delivery_is_tried_again() {
    let (client, receiver) = start().await;
    receiver.fail(3);
    client.intent().await;
    assert!(client.stripe.webhooks().settled(SOON).await);
    assert_eq!(receiver.kinds(), ["payment_intent.created"]);
    let statuses: Vec<Option<u16>> = client
        .stripe
        .webhooks()
        .attempts()
        .iter()
        .map(|attempt| attempt.status)
        .collect();
    assert_eq!(statuses, [Some(500), Some(500), Some(500), Some(200)]);
    assert_eq!(
        client.get("events?delivery_success=true").await.body["data"][0]["pending_webhooks"],
        0
    );
}

#[tokio::test]
async fn a_dropped_event_is_listed_as_undelivered_and_can_be_sent_again() {
    let (client, receiver) = start().await;
    client.stripe.webhooks().only("payment_intent.succeeded").drop_next();
    let (id, ..) = client.attempt("4242424242424242").await;
    assert!(client.stripe.webhooks().settled(SOON).await);
    assert_eq!(receiver.kinds(), ["payment_intent.created", "charge.succeeded"]);
    let lost = client.get("events?delivery_success=false").await.body;
    assert_eq!(lost["data"].as_array().unwrap().len(), 1);
    assert_eq!(lost["data"][0]["data"]["object"]["id"], json!(id));
    client.stripe.webhooks().resend(lost["data"][0]["id"].as_str().unwrap());
    assert!(client.stripe.webhooks().settled(SOON).await);
    assert_eq!(
        client.get("events?delivery_success=false").await.body["data"],
        json!([])
    );
}

#[tokio::test]
async fn events_can_be_doubled_reordered_and_delayed() {
    let (client, receiver) = start().await;
    client.stripe.webhooks().only("payment_intent.created").duplicate_next();
    client.stripe.webhooks().only("charge.succeeded").reorder_next(2);
    client.attempt("4242424242424242").await;
    assert!(client.stripe.webhooks().settled(SOON).await);
    let expected = [
        "payment_intent.created",
        "payment_intent.created",
        "payment_intent.succeeded",
        "charge.succeeded",
    ];
    assert_eq!(receiver.kinds(), expected);
    assert_eq!(receiver.taken()[0]["id"], receiver.taken()[1]["id"]);

    let (client, receiver) = start().await;
    client
        .stripe
        .webhooks()
        .only("payment_intent.created")
        .delay_next(Duration::from_millis(200));
    client.attempt("4242424242424242").await;
    assert!(client.stripe.webhooks().settled(SOON).await);
    assert_eq!(receiver.kinds().last().unwrap(), "payment_intent.created");
}

#[tokio::test]
async fn bad_signatures_are_refused_once_and_then_put_right() {
    let (client, receiver) = start().await;
    client.stripe.webhooks().wrong_secret_next();
    client.stripe.webhooks().only("charge.succeeded").stale_next();
    client.attempt("4242424242424242").await;
    assert!(client.stripe.webhooks().settled(SOON).await);
    let mut refused = receiver.refused();
    refused.sort();
    assert_eq!(refused, ["signature", "stale"]);
    assert_eq!(receiver.taken().len(), 3);
}

#[tokio::test]
async fn a_pause_holds_everything_back() {
    let (client, receiver) = start().await;
    client.stripe.webhooks().pause();
    client.attempt("4242424242424242").await;
    assert!(!client.stripe.webhooks().settled(Duration::from_millis(100)).await);
    assert!(receiver.taken().is_empty());
    client.stripe.webhooks().resume();
    assert!(client.stripe.webhooks().settled(SOON).await);
    assert_eq!(receiver.taken().len(), 3);
}

#[tokio::test]
async fn what_was_not_delivered_is_sent_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = |url: Option<String>| Options {
        secret_key: "sk_test_1".to_owned(),
        webhook_secret: "whsec_1".to_owned(),
        webhook_url: url,
        journal: Some(folder.path().join("stripe.jsonl")),
        ..Options::default()
    };
    let client = Client::with(options(Some("http://127.0.0.1:1/nobody".to_owned()))).await;
    client.intent().await;
    drop(client);
    let receiver = Receiver::start("whsec_1").await;
    let client = Client::with(options(Some(receiver.url.clone()))).await;
    assert!(client.stripe.webhooks().settled(SOON).await);
    assert_eq!(receiver.kinds(), ["payment_intent.created"]);
}
