//! The gateway against real servers on loopback.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

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
    let url: url::Url = format!("http://{upstream}").parse().unwrap();
    let config = GatewayConfig {
        targets: Target::ALL
            .into_iter()
            .map(|target| (target, url.clone()))
            .collect::<BTreeMap<_, _>>(),
        connect_timeout: Duration::from_secs(1),
        read_timeout: Some(Duration::from_millis(500)),
        socket_idle: Duration::from_secs(5),
        skip_probes: true,
    };
    serve(Gateway::new(config, "127.0.0.0/8".parse().unwrap(), Tasks::new(Shutdown::new())).router()).await
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
    let chunks = futures_util::stream::iter((0..256).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));

    let request = reqwest::Client::new().post(format!("http://{gateway}/api/v1/cart"));
    let response = request.body(reqwest::Body::wrap_stream(chunks)).send().await.unwrap();

    assert_eq!(response.bytes().await.unwrap().len(), 256 * 64 * 1024);
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
