//! A receiver of webhooks that checks signatures as the contract asks (payment §6) and remembers what it took.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU16, Ordering},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use devkit::{chance, stripe};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

#[derive(Clone)]
pub struct Receiver {
    secret: Arc<str>,
    refuse: Arc<AtomicU16>,
    taken: Arc<Mutex<Vec<Value>>>,
    refused: Arc<Mutex<Vec<String>>>,
    pub url: String,
}

impl Receiver {
    pub async fn start(secret: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            secret: secret.into(),
            refuse: Arc::default(),
            taken: Arc::default(),
            refused: Arc::default(),
            url: format!("http://{}/webhook", listener.local_addr().unwrap()),
        };
        let router = Router::new().route("/webhook", post(take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    /// The next `count` deliveries are answered with 500.
    pub fn fail(&self, count: u16) {
        self.refuse.store(count, Ordering::SeqCst);
    }

    pub fn taken(&self) -> Vec<Value> {
        self.taken.lock().unwrap().clone()
    }

    pub fn kinds(&self) -> Vec<String> {
        self.taken()
            .iter()
            .map(|event| event["type"].as_str().unwrap().to_owned())
            .collect()
    }

    pub fn refused(&self) -> Vec<String> {
        self.refused.lock().unwrap().clone()
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = headers["stripe-signature"].to_str().unwrap();
    let timestamp = header.split(',').find_map(|part| part.strip_prefix("t=")).unwrap();
    let timestamp: i64 = timestamp.parse().unwrap();
    if (chance::unix_seconds() - timestamp).abs() > 300 {
        receiver.refused.lock().unwrap().push("stale".to_owned());
        return StatusCode::BAD_REQUEST;
    }
    if stripe::sign(&receiver.secret, timestamp, &body) != header {
        receiver.refused.lock().unwrap().push("signature".to_owned());
        return StatusCode::BAD_REQUEST;
    }
    let failing = receiver
        .refuse
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    if failing.is_ok() {
        receiver.refused.lock().unwrap().push("failing".to_owned());
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    receiver
        .taken
        .lock()
        .unwrap()
        .push(serde_json::from_slice(&body).unwrap());
    StatusCode::OK
}
