//! The gateway against real servers on loopback.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{WebSocketUpgrade, ws::Message},
    http::HeaderMap,
    response::IntoResponse,
    routing::{any, get, post},
};
use futures_util::{SinkExt as _, StreamExt as _};
use shared::{
    gateway::{Gateway, GatewayConfig, Target},
    lifecycle::{Shutdown, Tasks},
};
use tokio::net::TcpListener;

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// A gateway in front of one address that stands for every service.
async fn gateway_to(upstream: SocketAddr) -> SocketAddr {
    serve(gateway(upstream).router()).await
}

fn gateway(upstream: SocketAddr) -> Gateway {
    gateway_that_bears_silence(upstream, Duration::from_secs(5))
}

/// The same with its own patience for WebSockets on which nothing is said.
fn gateway_that_bears_silence(upstream: SocketAddr, socket_idle: Duration) -> Gateway {
    let url: url::Url = format!("http://{upstream}").parse().unwrap();
    let config = GatewayConfig {
        targets: Target::ALL
            .into_iter()
            .map(|target| (target, url.clone()))
            .collect::<BTreeMap<_, _>>(),
        probed: Target::ALL.into_iter().collect(),
        connect_timeout: Duration::from_secs(1),
        read_timeout: Some(Duration::from_millis(500)),
        socket_idle,
        skip_probes: true,
    };
    Gateway::new(config, "127.0.0.0/8".parse().unwrap(), Tasks::new(Shutdown::new()))
}

async fn body_of(response: reqwest::Response) -> serde_json::Value {
    response.json().await.unwrap()
}

#[tokio::test]
async fn a_body_and_its_signature_pass_byte_for_byte() {
    let echo = |headers: HeaderMap, body: Bytes| async move {
        let signature = headers["stripe-signature"].to_str().unwrap().to_owned();
        ([("x-seen-signature", signature)], body)
    };
    let gateway = gateway_to(serve(Router::new().route("/api/v1/payment/webhook", post(echo))).await).await;
    let body = "{ \"spaces\" :  1,\n\"ünïcode\":\"\\u00e9\" }".as_bytes().to_vec();

    let response = reqwest::Client::new()
        .post(format!("http://{gateway}/api/v1/payment/webhook"))
        .header("stripe-signature", "t=1,v1=abc")
        .body(body.clone())
        .send()
        .await
        .unwrap();

    assert_eq!(response.headers()["x-seen-signature"], "t=1,v1=abc");
    assert_eq!(response.bytes().await.unwrap(), body);
}

#[tokio::test]
async fn a_large_body_is_streamed_both_ways() {
    let echo = |body: Body| async move { body };
    let gateway = gateway_to(serve(Router::new().route("/api/v1/cart", post(echo))).await).await;
    let chunk = Bytes::from(vec![7_u8; 64 * 1024]);
    let chunks = futures_util::stream::iter((0..128).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));

    let request = reqwest::Client::new().post(format!("http://{gateway}/api/v1/cart"));
    let response = request.body(reqwest::Body::wrap_stream(chunks)).send().await.unwrap();

    assert_eq!(response.bytes().await.unwrap().len(), 128 * 64 * 1024);
}

#[tokio::test]
async fn a_client_cannot_pose_as_a_service_and_cookies_come_back() {
    let look = |headers: HeaderMap| async move {
        let names: Vec<String> = headers.keys().map(ToString::to_string).collect();
        let mut response = axum::Json(names).into_response();
        response
            .headers_mut()
            .insert("set-cookie", "ds_session=1; HttpOnly".parse().unwrap());
        response
            .headers_mut()
            .insert("access-control-allow-origin", "*".parse().unwrap());
        response
    };
    let gateway = gateway_to(serve(Router::new().route("/api/v1/users/profile", get(look))).await).await;

    let response = reqwest::Client::new()
        .get(format!("http://{gateway}/api/v1/users/profile"))
        .header("x-user-id", "1")
        .header("x-internal-service", "ai-service")
        .header("cookie", "ds_session=2")
        .send()
        .await
        .unwrap();

    assert_eq!(response.headers()["set-cookie"], "ds_session=1; HttpOnly");
    assert!(response.headers().get("access-control-allow-origin").is_none());
    let seen: Vec<String> = response.json().await.unwrap();
    assert!(seen.contains(&"cookie".to_owned()));
    assert!(
        !seen
            .iter()
            .any(|name| name == "x-user-id" || name == "x-internal-service"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_service_that_is_away_is_503_in_the_contracts_shape() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gateway = gateway_to(nobody).await;

    let response = reqwest::get(format!("http://{gateway}/api/v1/flights/search"))
        .await
        .unwrap();

    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    let body = body_of(response).await;
    assert_eq!(body["code"], "UPSTREAM_UNAVAILABLE");
    assert_eq!(body["success"], false);
    assert!(
        !body.to_string().contains("127.0.0.1"),
        "no address of ours leaves: {body}"
    );
}

#[tokio::test]
async fn a_service_that_does_not_answer_in_time_is_504() {
    let silent = Router::new().route("/api/v1/bookings", get(std::future::pending::<()>));
    let gateway = gateway_to(serve(silent).await).await;

    let response = reqwest::get(format!("http://{gateway}/api/v1/bookings")).await.unwrap();

    assert_eq!(response.status(), 504);
    assert_eq!(body_of(response).await["code"], "UPSTREAM_TIMEOUT");
}

#[tokio::test]
async fn a_service_that_talks_nonsense_is_502() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut buffer = [0_u8; 1024];
            let _ = socket.read(&mut buffer).await;
            let _ = socket.write_all(b"this is not HTTP\r\n\r\n").await;
        }
    });
    let gateway = gateway_to(address).await;

    let response = reqwest::get(format!("http://{gateway}/api/v1/cart")).await.unwrap();

    assert_eq!(response.status(), 502);
}

#[tokio::test]
async fn unknown_and_internal_paths_are_404_with_their_path() {
    let everything = Router::new().fallback(any(|| async { "the service was asked" }));
    let gateway = gateway_to(serve(everything).await).await;
    for path in [
        "/api/v1/nothing",
        "/api/v1/users/notifications/internal",
        "/api/v1/auth/test/reset",
        "/metrics",
        "/status",
    ] {
        let response = reqwest::get(format!("http://{gateway}{path}")).await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
        let body = body_of(response).await;
        assert_eq!(
            (body["error"].as_str(), body["path"].as_str()),
            (Some("Not Found"), Some(path))
        );
    }
}

#[tokio::test]
async fn a_websocket_works_from_the_first_request() {
    let echo = |upgrade: WebSocketUpgrade| async move {
        upgrade.on_upgrade(|mut socket| async move {
            while let Some(Ok(message)) = socket.recv().await {
                let Message::Text(text) = message else { break };
                if socket.send(Message::Text(format!("echo {text}").into())).await.is_err() {
                    break;
                }
            }
        })
    };
    let gateway = gateway_to(serve(Router::new().route("/socket.io/", get(echo))).await).await;

    let (mut socket, response) =
        tokio_tungstenite::connect_async(format!("ws://{gateway}/socket.io/?EIO=4&transport=websocket"))
            .await
            .unwrap();
    assert_eq!(response.status(), 101);
    socket.send("hello".into()).await.unwrap();
    let answer = socket.next().await.unwrap().unwrap();

    assert_eq!(answer.into_text().unwrap().as_str(), "echo hello");
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn close_codes_pings_and_pongs_pass_a_websocket() {
    use tokio_tungstenite::tungstenite::{
        Message as Frame,
        protocol::{CloseFrame as Close, frame::coding::CloseCode},
    };
    let service = |upgrade: WebSocketUpgrade| async move {
        upgrade.on_upgrade(|mut socket| async move {
            // axum answers pings by itself; the first message makes it close with a code of its own
            while let Some(Ok(message)) = socket.recv().await {
                if matches!(message, Message::Text(_)) {
                    let reason = axum::extract::ws::CloseFrame {
                        code: 4001,
                        reason: "session over".into(),
                    };
                    let _ = socket.send(Message::Close(Some(reason))).await;
                    break;
                }
            }
        })
    };
    let gateway = gateway_to(serve(Router::new().route("/socket.io/", get(service))).await).await;
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{gateway}/socket.io/"))
        .await
        .unwrap();

    socket.send(Frame::Ping("are you there".into())).await.unwrap();
    let pong = socket.next().await.unwrap().unwrap();
    assert_eq!(pong, Frame::Pong("are you there".into()));

    socket.send("bye".into()).await.unwrap();
    let Frame::Close(Some(Close { code, reason })) = socket.next().await.unwrap().unwrap() else {
        panic!("no close frame");
    };
    assert_eq!((code, reason.as_str()), (CloseCode::Library(4001), "session over"));
}

#[tokio::test]
async fn a_websocket_that_falls_silent_is_closed_on_both_sides_and_one_that_pings_is_kept() {
    use tokio_tungstenite::tungstenite::Message as Frame;
    const IDLE: Duration = Duration::from_millis(1_500);
    let ended = Arc::new(AtomicUsize::new(0));
    let note = ended.clone();
    // says nothing of its own accord; axum answers pings
    let service = move |upgrade: WebSocketUpgrade| {
        let note = note.clone();
        async move {
            upgrade.on_upgrade(move |mut socket| async move {
                while let Some(Ok(_)) = socket.recv().await {}
                note.fetch_add(1, Ordering::SeqCst);
            })
        }
    };
    let app = Router::new().route("/socket.io/", get(service));
    let gateway = serve(gateway_that_bears_silence(serve(app).await, IDLE).router()).await;
    let open = || tokio_tungstenite::connect_async(format!("ws://{gateway}/socket.io/"));
    let opened = tokio::time::Instant::now();
    let (mut silent, _) = open().await.unwrap();
    let (mut pinging, _) = open().await.unwrap();
    let closed = tokio::spawn(async move {
        let next = tokio::time::timeout(Duration::from_secs(20), silent.next()).await;
        (next.expect("the silent one is closed"), opened.elapsed())
    });

    while opened.elapsed() < 2 * IDLE {
        tokio::time::sleep(IDLE / 10).await;
        pinging.send(Frame::Ping("still here".into())).await.unwrap();
        let answer = pinging.next().await.unwrap().unwrap();
        assert_eq!(answer, Frame::Pong("still here".into()));
    }

    let (next, after) = closed.await.unwrap();
    assert!(!matches!(next, Some(Ok(_))), "{next:?}");
    assert!(after >= IDLE, "closed after {after:?} already");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while ended.load(Ordering::SeqCst) == 0 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the service still holds the silent one"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(ended.load(Ordering::SeqCst), 1, "and the other one goes on");
    pinging.close(None).await.unwrap();
}

#[tokio::test]
async fn long_polling_passes_as_plain_requests() {
    let poll = |headers: HeaderMap, body: Bytes| async move {
        assert!(!headers.contains_key("upgrade"));
        format!("{}{}", "0{\"sid\":\"1\"}", String::from_utf8_lossy(&body))
    };
    let app = Router::new().route("/socket.io/", get(poll).post(poll));
    let gateway = gateway_to(serve(app).await).await;
    let url = format!("http://{gateway}/socket.io/?EIO=4&transport=polling");
    let client = reqwest::Client::new();
    let opened = client.get(&url).send().await.unwrap().text().await.unwrap();
    assert_eq!(opened, "0{\"sid\":\"1\"}");
    let sent = client.post(&url).body("40").send().await.unwrap().text().await.unwrap();
    assert!(sent.ends_with("40"), "{sent}");
}

#[tokio::test]
async fn more_than_ten_megabytes_are_413_however_they_come() {
    let echo = |body: Bytes| async move { body.len().to_string() };
    let app = Router::new()
        .route("/api/v1/cart", post(echo))
        .layer(axum::extract::DefaultBodyLimit::disable());
    let gateway = gateway_to(serve(app).await).await;
    let url = format!("http://{gateway}/api/v1/cart");
    let declared = reqwest::Client::new()
        .post(&url)
        .body(vec![7_u8; 11 * 1024 * 1024])
        .send()
        .await;
    // the refusal may come while the client still sends: then its connection is closed on it
    if let Ok(response) = declared {
        assert_eq!(response.status(), 413);
        assert_eq!(body_of(response).await["code"], "PAYLOAD_TOO_LARGE");
    }
    let chunk = Bytes::from(vec![7_u8; 64 * 1024]);
    let chunks = futures_util::stream::iter((0..200).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
    let streamed = reqwest::Client::new()
        .post(&url)
        .body(reqwest::Body::wrap_stream(chunks))
        .send()
        .await;
    if let Ok(response) = streamed {
        assert_eq!(response.status(), 413);
    }
    let fits = reqwest::Client::new()
        .post(&url)
        .body(vec![7_u8; 9 * 1024 * 1024])
        .send()
        .await
        .unwrap();
    assert_eq!(fits.text().await.unwrap(), (9 * 1024 * 1024).to_string());
}

#[tokio::test]
async fn a_client_that_does_not_send_its_body_is_408_and_no_fault_of_the_service() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let app = Router::new().route(
        "/api/v1/cart",
        post(|body: Bytes| async move { body }).get(|| async { "here" }),
    );
    let gateway = gateway_to(serve(app).await).await;
    // more than the breaker would bear
    let slow = (0..25).map(|_| async move {
        let mut stream = tokio::net::TcpStream::connect(gateway).await.unwrap();
        let head = "POST /api/v1/cart HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nonly this";
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer));
        read.await.expect("the connection is closed").ok();
        String::from_utf8_lossy(&answer).into_owned()
    });
    for answer in futures_util::future::join_all(slow).await {
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("REQUEST_TIMEOUT"), "{answer}");
    }
    let response = reqwest::get(format!("http://{gateway}/api/v1/cart")).await.unwrap();
    assert_eq!(response.status(), 200, "the breaker is not open");
}

#[tokio::test]
async fn paths_that_could_be_read_in_two_ways_reach_no_service() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let everything = Router::new().fallback(any(|| async { "the service was asked" }));
    let gateway = gateway_to(serve(everything).await).await;
    for path in [
        "/api/v1/cart/../users/notifications/internal",
        "/api/v1/cart/%2e%2e/admin",
        "/api/v1/cart/..%2fadmin",
        "/api/v1/cart/%00",
        "/api/v1/users/notifications/internal",
        "/api/v1/ai/users/7/preferences",
        "/api/v1/ai/users/preferences/batch",
        "/api/v1/users/7/ai-preferences",
        "/api/v1/auth/test/reset",
        "/uploads/../api/v1/users/profile",
    ] {
        // by hand, because clients tidy such paths up
        let mut stream = tokio::net::TcpStream::connect(gateway).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 404") && !answer.contains("was asked"),
            "{path}: {answer}"
        );
    }
}

#[tokio::test]
async fn the_second_request_of_a_smuggler_never_reaches_a_service() {
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = seen.clone();
    let everything = Router::new().fallback(any(move |uri: axum::http::Uri, headers: HeaderMap, body: Bytes| {
        note.lock().unwrap().push((uri.path().to_owned(), headers, body));
        async { "ok" }
    }));
    let gateway = gateway_to(serve(everything).await).await;
    let inner = "0\r\n\r\nGET /api/v1/bookings/smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    let framings = [
        format!("content-length: {}\r\ntransfer-encoding: chunked", inner.len()),
        format!("transfer-encoding: chunked\r\ncontent-length: {}", inner.len()),
        "transfer-encoding: chunked\r\ntransfer-encoding: identity".to_owned(),
        "transfer-encoding: xchunked".to_owned(),
        "transfer-encoding : chunked".to_owned(),
        "content-length: 5\r\ncontent-length: 6".to_owned(),
        "content-length: +5".to_owned(),
    ];
    for framing in framings {
        let mut stream = tokio::net::TcpStream::connect(gateway).await.unwrap();
        let request = format!("POST /api/v1/cart HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n{inner}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer));
        read.await.expect("the connection is closed").ok();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let answers = answer.matches("HTTP/1.1 ").count();
        assert!(answers <= 1, "{framing}: {answer}");
    }
    for (path, headers, body) in seen.lock().unwrap().iter() {
        assert_eq!(path, "/api/v1/cart");
        assert!(
            !(headers.contains_key("content-length") && headers.contains_key("transfer-encoding")),
            "{headers:?}"
        );
        assert!(body.is_empty(), "{body:?}");
    }
}

#[tokio::test]
async fn only_services_that_were_named_count_for_health() {
    let up = serve(Router::new().route("/health/live", get(|| async { "alive" }))).await;
    let mut reader = shared::config::Reader::from_pairs([
        ("VOYAGE_SERVICE_URL".to_owned(), format!("http://{up}")),
        ("PAYMENT_SERVICE_URL".to_owned(), format!("http://{up}")),
    ]);
    let config = GatewayConfig::read(&mut reader, &[Target::Auth, Target::User, Target::Core]);
    reader.finish().unwrap();
    let gateway = Gateway::new(config, "127.0.0.0/8".parse().unwrap(), Tasks::new(Shutdown::new()));
    gateway.start_probes();
    let names: Vec<&str> = gateway.dependencies().iter().map(|one| one.target.name()).collect();
    assert_eq!(names, ["voyage-service", "payment-service"]);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !gateway.dependencies().iter().all(|one| one.state.healthy == Some(true)) {
        assert!(tokio::time::Instant::now() < deadline, "never seen up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let report = gateway.health().report().await;
    let fields = gateway.report_dependencies(&report);
    let text = serde_json::to_string(&fields).unwrap();
    assert!(
        text.contains("voyage-service") && !text.contains("127.0.0.1") && !text.contains("http"),
        "{text}"
    );
}
