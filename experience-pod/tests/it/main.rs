//! The origin as a running pod on loopback ports, in front of services that are not there.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test stops where something is not as it should be"
)]

use std::net::SocketAddr;

use axum::{Json, Router, routing::get as get_route};
use experience_pod::{Config, ExperiencePod};
use serde_json::{Value, json};
use shared::{
    Sources,
    auth::{
        Role,
        keys::KeySet,
        tokens::{Grant, Signer, TokenPolicy},
    },
    config::Reader,
    lifecycle::{Shutdown, Tasks},
    pod::{Listeners, Pod as _},
};

/// A pod whose services are all away, and the switch that stops it.
async fn start() -> (SocketAddr, Shutdown) {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    before(nobody).await
}

/// A pod in front of services that are all at this address.
async fn before(nobody: SocketAddr) -> (SocketAddr, Shutdown) {
    let services = ["AUTH", "USER", "VOYAGE", "PAYMENT", "AI"];
    let settings = services.map(|service| (format!("{service}_SERVICE_URL"), format!("http://{nobody}")));
    let config = Config::read(&mut Reader::from_pairs(settings));
    let listeners = Listeners::loopback(&[]).await.unwrap();
    let address = listeners.public.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let tasks = Tasks::new(shutdown.clone());
    tokio::spawn(ExperiencePod::serve(config, listeners, tasks));
    (address, shutdown)
}

async fn get(address: SocketAddr, path: &str) -> (u16, reqwest::header::HeaderMap, Value) {
    let response = reqwest::get(format!("http://{address}{path}")).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, headers, response.json().await.unwrap())
}

#[tokio::test]
async fn the_origin_says_who_it_is_and_carries_the_security_headers() {
    let (address, _shutdown) = start().await;
    let (status, headers, banner) = get(address, "/").await;
    assert_eq!(status, 200);
    assert_eq!(banner["message"], "DreamScape API Gateway");
    assert_eq!(banner.as_object().unwrap().len(), 3);
    for name in [
        "x-request-id",
        "x-content-type-options",
        "x-frame-options",
        "content-security-policy",
    ] {
        assert!(headers.contains_key(name), "{name}");
    }
    assert!(!headers.contains_key("server") && !headers.contains_key("x-powered-by"));
}

#[tokio::test]
async fn a_service_that_is_away_is_503_and_an_unknown_path_is_404() {
    let (address, _shutdown) = start().await;
    // the older spellings are brought to the one form before they are looked up
    for path in [
        "/api/v1/cart",
        "/api/cart",
        "/api/api/v1/cart/",
        "/uploads/avatars/a.png",
    ] {
        let (status, headers, body) = get(address, path).await;
        assert_eq!(
            (status, body["code"].as_str()),
            (503, Some("UPSTREAM_UNAVAILABLE")),
            "{path}"
        );
        assert!(headers.contains_key("retry-after"));
    }
    for path in [
        "/api/v1/analytics",
        "/api/v1/users/notifications/internal",
        "/metrics",
        "/status",
        "/.env",
    ] {
        let (status, _, body) = get(address, path).await;
        assert_eq!((status, body["code"].as_str()), (404, Some("NOT_FOUND")), "{path}");
        assert_eq!(body["success"], false);
    }
}

#[tokio::test]
async fn a_token_that_is_obviously_no_good_reaches_no_service() {
    let sources = Sources::system();
    let keys = KeySet::generate(&sources).unwrap();
    let jwks = serde_json::to_value(keys.jwks()).unwrap();
    let services = Router::new()
        .route("/.well-known/jwks.json", get_route(async move || Json(jwks)))
        .fallback(async || Json(json!({ "reached": true })));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, services).await.unwrap() });
    let (address, _shutdown) = before(service).await;

    let grant = |session| Grant {
        user: sources.id(),
        email: "ada@example.com".to_owned(),
        role: Role::User,
        session,
        amr: Vec::new(),
        auth_time: None,
    };
    let sign = |keys: KeySet| {
        let signer = Signer::new(keys, TokenPolicy::default(), sources.clone());
        signer.access(&grant(sources.id())).unwrap()
    };
    let good = sign(keys);
    let foreign = sign(KeySet::generate(&sources).unwrap());
    let ask = async |path: &str, token: &str| {
        let request = reqwest::Client::new().get(format!("http://{address}{path}"));
        let response = request.bearer_auth(token).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    for bad in ["nonsense", &foreign] {
        let (status, body) = ask("/api/v1/bookings", bad).await;
        assert_eq!((status, body["code"].as_str()), (401, Some("INVALID_TOKEN")), "{body}");
        // where a stranger is welcome the service decides
        let (status, body) = ask("/api/v1/flights/search", bad).await;
        assert_eq!((status, &body["reached"]), (200, &json!(true)));
    }
    let (status, body) = ask("/api/v1/bookings", &good).await;
    assert_eq!((status, &body["reached"]), (200, &json!(true)), "{body}");
}

#[tokio::test]
async fn the_origin_lives_while_its_critical_services_are_away_and_says_so() {
    let (address, shutdown) = start().await;
    let (status, _, live) = get(address, "/health/live").await;
    assert_eq!((status, live["alive"].as_bool()), (200, Some(true)));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let (status, _, health) = get(address, "/health").await;
        if status == 503 {
            assert_eq!(health["status"], "unhealthy");
            assert!(!health.to_string().contains("127.0.0.1"), "no address leaves: {health}");
            break;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "the probes notice nothing: {health}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    shutdown.drain();
}
