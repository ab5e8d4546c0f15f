//! The server over real sockets.

use axum::{
    extract::ws::{Message, WebSocketUpgrade},
    routing::{get, post},
};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
    task::JoinHandle,
};

use super::*;
use crate::http::{ClientAddress, HttpConfig, Kit};

struct Running {
    address: SocketAddr,
    shutdown: Shutdown,
    served: JoinHandle<()>,
    entered: Arc<Notify>,
    release: Arc<Notify>,
}

async fn start(config: ServerConfig) -> Running {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (is_in, goes_on) = (entered.clone(), release.clone());
    let wait = move || async move {
        is_in.notify_one();
        goes_on.notified().await;
        "done"
    };
    let socket = |upgrade: WebSocketUpgrade| async {
        upgrade.on_upgrade(|mut socket| async move {
            while let Some(Ok(Message::Text(text))) = socket.recv().await {
                socket.send(Message::Text(text)).await.ok();
            }
        })
    };
    let router = Router::new()
        .route("/", get(|address: ClientAddress| async move { address.to_string() }))
        .route("/wait", get(wait))
        .route("/socket", get(socket))
        .route("/refuse", post(|| async { crate::ApiError::forbidden("no") }));
    let router = Kit::new("test-service", &HttpConfig::default(), None).wrap(router);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let served = tokio::spawn(serve(listener, router, config, shutdown.clone()));
    Running {
        address,
        shutdown,
        served,
        entered,
        release,
    }
}

async fn quickly<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .expect("took too long")
}

/// Sends text and reads until the other side closes.
async fn exchange(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    quickly(stream.read_to_end(&mut answer)).await.ok();
    String::from_utf8_lossy(&answer).into_owned()
}

const CLOSING: &str = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn the_peer_is_the_client() {
    let server = start(ServerConfig::default()).await;
    let answer = exchange(server.address, CLOSING).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_header_that_trickles_in_is_cut_off() {
    let config = ServerConfig {
        header_timeout: Duration::from_millis(50),
        ..ServerConfig::default()
    };
    let server = start(config).await;
    assert_eq!(exchange(server.address, "GET / HTTP/1.1\r\nhost: x\r\n").await, "");
    assert_eq!(exchange(server.address, "").await, "");
    assert!(exchange(server.address, CLOSING).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let config = ServerConfig {
        idle_timeout: Duration::from_millis(50),
        ..ServerConfig::default()
    };
    let server = start(config).await;
    let answer = exchange(server.address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_header_that_is_too_large_is_refused() {
    let server = start(ServerConfig::default()).await;
    let answer = exchange(
        server.address,
        &format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100_000)),
    )
    .await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let config = ServerConfig {
        max_connections: 1,
        ..ServerConfig::default()
    };
    let server = start(config).await;
    let first = TcpStream::connect(server.address).await.unwrap();
    let mut second = Box::pin(exchange(server.address, CLOSING));
    assert!(
        tokio::time::timeout(Duration::from_millis(50), &mut second)
            .await
            .is_err()
    );
    drop(first);
    assert!(quickly(second).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn the_drain_finishes_what_is_in_flight_and_still_answers_meanwhile() {
    let server = start(ServerConfig::default()).await;
    let idle = TcpStream::connect(server.address).await.unwrap();
    let slow = tokio::spawn(exchange(server.address, "GET /wait HTTP/1.1\r\nhost: x\r\n\r\n"));
    quickly(server.entered.notified()).await;
    server.shutdown.drain();
    let late = exchange(server.address, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(
        late.starts_with("HTTP/1.1 200"),
        "a late connection gets one answer and is closed: {late}"
    );
    assert!(!server.served.is_finished());
    server.release.notify_one();
    let answer = quickly(slow).await.unwrap();
    assert!(answer.ends_with("done"), "{answer}");
    quickly(server.served).await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
    drop(idle);
}

#[tokio::test]
async fn connections_are_accepted_while_lingering() {
    let mut config = ServerConfig::default();
    config.drain.linger = Duration::from_mins(10);
    let server = start(config).await;
    server.shutdown.drain();
    assert!(exchange(server.address, CLOSING).await.starts_with("HTTP/1.1 200"));
    assert!(!server.served.is_finished());
    server.shutdown.halt();
    quickly(server.served).await.unwrap();
}

#[tokio::test]
async fn the_halt_ends_requests_at_once() {
    let server = start(ServerConfig::default()).await;
    let slow = tokio::spawn(exchange(server.address, "GET /wait HTTP/1.1\r\nhost: x\r\n\r\n"));
    quickly(server.entered.notified()).await;
    server.shutdown.drain();
    server.shutdown.halt();
    quickly(server.served).await.unwrap();
    assert_eq!(quickly(slow).await.unwrap(), "");
}

#[tokio::test]
async fn a_web_socket_lives_through_its_upgrade_and_the_drain_but_not_the_halt() {
    let server = start(ServerConfig::default()).await;
    let url = format!("ws://{}/socket", server.address);
    let (mut socket, response) = quickly(tokio_tungstenite::connect_async(url)).await.unwrap();
    assert_eq!(response.status(), 101);
    assert!(response.headers().contains_key("x-request-id"));
    server.shutdown.drain();
    socket.send("hello".into()).await.unwrap();
    assert_eq!(quickly(socket.next()).await.unwrap().unwrap(), "hello".into());
    assert!(!server.served.is_finished(), "an open socket holds the drain");
    server.shutdown.halt();
    quickly(server.served).await.unwrap();
    assert!(quickly(socket.next()).await.is_none_or(|message| message.is_err()));
}

#[tokio::test]
async fn the_sender_of_a_large_refused_upload_sees_the_refusal() {
    let server = start(ServerConfig::default()).await;
    let body = "x".repeat(3_000_000);
    let head = format!(
        "POST /refuse HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let answer = exchange(server.address, &(head + &body)).await;
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.contains("FORBIDDEN"),
        "{answer}"
    );
}

#[tokio::test]
async fn http_2_works_without_tls() {
    let server = start(ServerConfig::default()).await;
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let answer = client.get(format!("http://{}/", server.address)).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, http::Version::HTTP_2)
    );
    server.shutdown.drain();
    quickly(server.served).await.unwrap();
}
