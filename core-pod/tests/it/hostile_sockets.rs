//! Hostile clients on real sockets: whatever they send, the answer is a contract error or a closed connection in bounded time,
//! others are served meanwhile, and nothing leaks (core §1.3, §3.2; issue of the core pod, point 9).
//!
//! A request that is no HTTP gets a bare status without a body and a closed connection: there is no request to answer.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use http::Method;
use serde_json::Value;
use shared::{
    http::server::{self, ServerConfig},
    lifecycle::Shutdown,
};
use sqlx::PgPool;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::TestApp;

const LOOSE: (&str, &str) = ("RATE_LIMIT_MULTIPLIER", "1000");
/// Nothing here may take longer, on the slowest machine.
const BOUND: Duration = Duration::from_secs(40);

/// The public listener of a pod on a socket, with little patience.
struct Site {
    app: TestApp,
    address: SocketAddr,
    _shutdown: Shutdown,
}

async fn site(pool: PgPool) -> Site {
    let app = TestApp::with(pool, &[LOOSE, ("HTTP_TIMEOUT_SECONDS", "1")])
        .await
        .at_the_edge();
    let config = ServerConfig {
        header_timeout: Duration::from_millis(400),
        idle_timeout: Duration::from_millis(600),
        write_timeout: Duration::from_millis(400),
        ..ServerConfig::default()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    tokio::spawn(server::serve(listener, app.router.clone(), config, shutdown.clone()));
    Site {
        app,
        address,
        _shutdown: shutdown,
    }
}

impl Site {
    /// Sends bytes and reads until the server closes, which it must.
    async fn send(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // the server may close before everything is sent
        let _ = stream.write_all(bytes.as_ref()).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(BOUND, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "not closed: {}", String::from_utf8_lossy(&answer));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        note(bytes.as_ref(), &answer);
        assert_harmless(&answer);
        answer
    }

    /// A request that asks to be the last one.
    async fn ask(&self, line: &str, headers: &str) -> String {
        self.send(format!(
            "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n"
        ))
        .await
    }

    async fn is_alive(&self) {
        let answer = self.ask("GET /health/live", "").await;
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains("\"alive\":true"),
            "{answer}"
        );
    }
}

/// Notes the exchange in the table of the contract.
fn note(request: &[u8], answer: &str) {
    let line = String::from_utf8_lossy(request);
    let mut words = line.lines().next().unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if let (Ok(method), Some(status)) = (method.parse::<Method>(), status(answer)) {
        let path = path.split('?').next().unwrap_or_default();
        crate::conformance::record(&method, path, http::StatusCode::from_u16(status).unwrap());
    }
}

fn status(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

/// No answer is a server error, tells of our insides, or breaks the shape of errors.
fn assert_harmless(answer: &str) {
    let Some(status) = status(answer) else {
        assert!(
            answer.is_empty() || !answer.is_ascii(),
            "neither HTTP nor silence: {answer}"
        );
        return;
    };
    assert!(status < 500, "{answer}");
    for leak in ["panicked", "/src/", "stack", "traceback", "sqlx", "postgres"] {
        assert!(!answer.contains(leak), "`{leak}` in {answer}");
    }
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return;
    };
    if status >= 400 && head.contains("content-type: application/json") && !head.contains("transfer-encoding") {
        let body: Value = serde_json::from_str(body.split("HTTP/1.1").next().unwrap_or(body)).unwrap();
        assert!(
            body["success"] == false && body["error"].is_string() && body["message"].is_string(),
            "{body}"
        );
        assert!(body["code"].is_string() && body["requestId"].is_string(), "{body}");
    }
}

fn refused(answer: &str) -> bool {
    answer.is_empty() || status(answer).is_some_and(|status| (400..500).contains(&status))
}

#[sqlx::test(migrations = false)]
async fn headers_that_trickle_are_cut_off_while_others_are_served(pool: PgPool) {
    let site = site(pool).await;
    let slow = (0..100).map(|_| async {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        let begun = Instant::now();
        for piece in "GET /health/live HTTP/1.1\r\nhost: x\r\nx-slow: yes".chars().cycle() {
            if stream.write_all(&[piece as u8]).await.is_err() {
                break;
            }
            let mut byte = [0_u8; 64];
            match tokio::time::timeout(Duration::from_millis(20), stream.read(&mut byte)).await {
                Ok(Ok(0) | Err(_)) => break,
                _ => assert!(begun.elapsed() < BOUND, "still open"),
            }
        }
    });
    let others = async {
        for _ in 0..20 {
            site.is_alive().await;
        }
    };
    tokio::join!(futures_util::future::join_all(slow), others);
}

#[sqlx::test(migrations = false)]
async fn a_body_that_does_not_come_is_408_and_a_closed_connection(pool: PgPool) {
    let site = site(pool).await;
    for framing in ["content-length: 1000", "transfer-encoding: chunked"] {
        let started = Instant::now();
        let head = format!("POST /api/v1/vr/sessions HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n3");
        let answer = site.send(head).await;
        assert_eq!(status(&answer), Some(408), "{answer}");
        assert!(answer.contains("REQUEST_TIMEOUT"), "{answer}");
        assert!(started.elapsed() < BOUND);
    }
    // a byte now and then keeps nothing alive
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream
        .write_all(b"POST /api/v1/vr/sessions HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
        .await
        .unwrap();
    let started = Instant::now();
    loop {
        let _ = stream.write_all(b" ").await;
        let mut buffer = [0_u8; 1024];
        match tokio::time::timeout(Duration::from_millis(50), stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => break,
            _ => assert!(started.elapsed() < BOUND, "still open"),
        }
    }
    site.is_alive().await;
}

#[sqlx::test(migrations = false)]
async fn a_client_that_reads_nothing_is_cut_off(pool: PgPool) {
    let site = site(pool).await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let request = "GET /docs/reference HTTP/1.1\r\nhost: x\r\n\r\n".repeat(500);
    let started = Instant::now();
    // writing stops when all buffers are full; the server then waits for us in vain and goes
    let wrote = tokio::time::timeout(BOUND, stream.write_all(request.as_bytes())).await;
    assert!(wrote.is_ok(), "the server holds on to us");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut rest = Vec::new();
    let read = tokio::time::timeout(BOUND, stream.read_to_end(&mut rest)).await;
    assert!(read.is_ok(), "not closed after {:?}", started.elapsed());
    let answers = String::from_utf8_lossy(&rest).matches("HTTP/1.1 200").count();
    assert!(answers < 500, "everything was sent to somebody who did not read");
    site.is_alive().await;
}

#[sqlx::test(migrations = false)]
async fn floods_of_headers_are_refused(pool: PgPool) {
    let site = site(pool).await;
    let many: String = (0..5_000).map(|number| format!("x-{number}: y\r\n")).collect();
    let long = format!("x-long: {}\r\n", "y".repeat(200_000));
    let cookies = "cookie: a=b\r\n".repeat(3_000);
    let name = format!("{}: y\r\n", "x".repeat(70_000));
    for headers in [many, long, cookies, name] {
        let answer = site.ask("GET /health/live", &headers).await;
        assert!(refused(&answer), "{answer}");
    }
    // what fits is served: many cookies, a long token, a long list of hops
    let within = format!(
        "cookie: {}\r\nauthorization: Bearer {}\r\nx-forwarded-for: {}\r\n",
        "a=b; ".repeat(1_000),
        "x".repeat(8_000),
        "1.2.3.4, ".repeat(1_000)
    );
    let answer = site.ask("GET /api/v1/auth/profile", &within).await;
    assert_eq!(status(&answer), Some(401), "{answer}");
    site.is_alive().await;
}

#[sqlx::test(migrations = false)]
async fn no_second_request_hides_in_a_body(pool: PgPool) {
    let site = site(pool).await;
    let inner = "GET /api/services HTTP/1.1\r\nhost: x\r\n\r\n";
    let framings = [
        "content-length: 6\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 6",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked, identity",
        "transfer-encoding: identity, chunked, identity",
        "transfer-encoding: gzip",
        "transfer-encoding:\tchunked\u{b}",
        "transfer-encoding : chunked",
        "transfer_encoding: chunked\r\ncontent-length: 0x10",
        "content-length: 5\r\ncontent-length: 50",
        "content-length: 5, 50",
        "content-length: +5",
        "content-length: -1",
        "content-length: 99999999999999999999999",
        "content-length:",
        "x: y\r\n transfer-encoding: chunked",
        "x: y\rtransfer-encoding: chunked",
        "x: y\u{0}z",
        " content-length: 5",
        "conte\u{0}nt-length: 5",
    ];
    for framing in framings {
        let head = format!("POST /api/v1/vr/sessions HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n0\r\n\r\n{inner}");
        let answer = site.send(head).await;
        assert!(
            !answer.contains("auth-service"),
            "{framing}: the inner request was answered: {answer}"
        );
        assert!(refused(&answer), "{framing}: {answer}");
    }
    site.is_alive().await;
}

#[sqlx::test(migrations = false)]
async fn bad_chunks_end_the_connection(pool: PgPool) {
    let site = site(pool).await;
    let huge_extension = format!("5;{}\r\n{{\"a\":\r\n0\r\n\r\n", "x".repeat(100_000));
    let many_trailers = format!("2\r\n{{}}\r\n0\r\n{}\r\n", "x-trailer: y\r\n".repeat(5_000));
    for body in [
        "zz\r\n{}\r\n0\r\n\r\n",
        "-2\r\n{}\r\n0\r\n\r\n",
        "0x2\r\n{}\r\n0\r\n\r\n",
        "2\n{}\n0\n\n",
        "2\r\n{}0\r\n\r\n",
        "ffffffffffffffffff\r\n{}\r\n",
        "fffffffffffffff\r\n{}\r\n",
        "2\r\n{}",
        " \r\n\r\n",
        huge_extension.as_str(),
        many_trailers.as_str(),
    ] {
        let request =
            format!("POST /api/v1/vr/sessions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        let answer = site.send(request).await;
        assert!(refused(&answer), "{body:.40}: {answer}");
    }
    site.is_alive().await;
}

#[sqlx::test(migrations = false)]
async fn what_is_no_request_is_refused(pool: PgPool) {
    let site = site(pool).await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(100_000));
    let deep = format!(
        "GET {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "/a".repeat(10_000)
    );
    let doubled = format!(
        "GET {} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "/api".repeat(10_000)
    );
    let requests: Vec<Vec<u8>> = vec![
        b"\x00\x01\x02\x03\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\nhost: x\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1 extra\r\nhost: x\r\n\r\n".to_vec(),
        b"G\x00T / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        b"GET /a b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        b"GET //evil.example/%2e%2e HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        b"GET http://evil.example/api/v1/auth/profile HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        b"CONNECT evil.example:443 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        b"TRACE /api/v1/auth/profile HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        b"DEBUG /api/v1/auth/profile HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
        long.into_bytes(),
        deep.into_bytes(),
    ];
    for request in requests {
        let answer = site.send(&request).await;
        let shown = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        assert!(refused(&answer), "{shown:?}: {answer}");
    }
    // the doubled prefix is one, however often it is there
    let started = Instant::now();
    assert_eq!(status(&site.send(doubled).await), Some(200));
    assert!(started.elapsed() < Duration::from_secs(5));
    // OPTIONS for the whole server is a preflight like any other, and tells a stranger nothing
    let answer = site.ask("OPTIONS *", "origin: https://evil.example\r\n").await;
    assert!(!answer.contains("access-control-allow-origin"), "{answer}");
    site.is_alive().await;
}

#[sqlx::test(migrations = false)]
async fn tricks_with_paths_reach_nothing_they_should_not(pool: PgPool) {
    let site = site(pool).await;
    for path in [
        "/api/v1/auth/../users/profile",
        "/api/v1/auth/%2e%2e/users/profile",
        "/api/v1/users/profile/%2e%2e/%2e%2e/admin/users",
        "/api/v1/users%2fprofile",
        "/api/v1/users/profile%00",
        "/api/v1/users/profile%0d%0aset-cookie:%20a=b",
        "/api/v1/users/profile;jsessionid=1",
        "/api/v1/users/profile%20",
        "/API/V1/USERS/PROFILE",
        "/api/v1//users//profile",
        "/api/v1/users/notifications/%69nternal",
        "/api/v1/users/notifications/internal%2f",
        "/api/v1/ai/users/%2e%2e/preferences",
        "/uploads/../../etc/passwd",
        "/uploads/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/uploads/..%5c..%5cetc%5cpasswd",
        "/uploads//etc/passwd",
        "/docs/../../Cargo.toml",
        "/.git/config",
        "/.env",
    ] {
        let answer = site.ask(&format!("GET {path}"), "").await;
        assert!(
            refused(&answer) && !answer.contains("root:") && !answer.contains("\r\nset-cookie: a=b"),
            "{path}: {answer}"
        );
    }
    site.is_alive().await;
}

#[sqlx::test(migrations = false)]
async fn huge_queries_cost_little_and_break_nothing(pool: PgPool) {
    let site = site(pool).await;
    let ada = site.app.register("ada@example.com").await;
    let token = format!("authorization: Bearer {}\r\n", ada.token);
    let queries = [
        "filter[]=unread&".repeat(3_000),
        "limit=1&".repeat(6_000),
        format!("filter[{}]=x", "[".repeat(20_000)),
        format!("filter{}=x", "[]".repeat(10_000)),
        (0..4_000).map(|number| format!("filter[{number}]=x&")).collect(),
        format!("page={}", "9".repeat(40_000)),
        "%".repeat(40_000),
        "=&".repeat(20_000),
        "page=%00%ff%fe&limit=%F0%9F%92%A9".to_owned(),
    ];
    for query in queries {
        let started = Instant::now();
        let answer = site
            .ask(&format!("GET /api/v1/users/notifications?{query}"), &token)
            .await;
        let status = status(&answer);
        assert!(status.is_some_and(|status| status < 500), "{query:.40}: {answer}");
        assert!(started.elapsed() < Duration::from_secs(5), "{query:.40}");
    }
    site.is_alive().await;
}

#[sqlx::test(migrations = false)]
async fn what_is_too_large_is_413_before_it_is_read(pool: PgPool) {
    let site = site(pool).await;
    for path in [
        "/api/v1/auth/login",
        "/api/v1/auth/register",
        "/api/v1/vr/sessions",
        "/api/v1/vr/links",
    ] {
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n");
        let answer = site.send(format!("{head}content-length: 999999999999\r\n\r\n{{")).await;
        assert_eq!(status(&answer), Some(413), "{path}: {answer}");
        assert!(answer.contains("PAYLOAD_TOO_LARGE"), "{answer}");
        let chunk = format!("{:x}\r\n{}\r\n", 1_100_000, " ".repeat(1_100_000));
        let answer = site
            .send(format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"))
            .await;
        assert_eq!(status(&answer), Some(413), "{path}: {answer}");
    }
    // a body that is announced within the cap and does not come holds nothing for long
    let head = "POST /api/v1/vr/sessions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    let answer = site.send(format!("{head}content-length: 2000000\r\n\r\n{{")).await;
    assert_eq!(status(&answer), Some(408), "{answer}");
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let nested = format!("{{\"destination\":{deep}}}");
    let head = "POST /api/v1/vr/sessions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
    let answer = site
        .send(format!("{head}content-length: {}\r\n\r\n{nested}", nested.len()))
        .await;
    assert_eq!(status(&answer), Some(400), "{answer}");
    site.is_alive().await;
}

/// The frames of HTTP/2 that the attacks need, by hand: clients refuse to send them.
mod h2 {
    pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    /// `GET http://x/`, all from the static table but the authority.
    pub const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'x'];
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;

    pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    pub fn settings() -> Vec<u8> {
        frame(4, 0, 0, &[])
    }

    pub fn headers(stream: u32, flags: u8) -> Vec<u8> {
        frame(1, flags, stream, GET)
    }

    pub fn reset(stream: u32) -> Vec<u8> {
        frame(3, 0, stream, &8_u32.to_be_bytes())
    }
}

#[sqlx::test(migrations = false)]
async fn abuses_of_http_2_cost_the_abuser_its_connection(pool: PgPool) {
    let site = site(pool).await;
    let opened = [h2::PREFACE.to_vec(), h2::settings()].concat();
    let with = |frames: Vec<u8>| [opened.clone(), frames].concat();
    let odd = |count: u32| (0..count).map(|number| 2 * number + 1);
    let rapid_resets = odd(20_000)
        .flat_map(|stream| [h2::headers(stream, h2::END_STREAM | h2::END_HEADERS), h2::reset(stream)].concat())
        .collect();
    let settings_flood = h2::settings().repeat(20_000);
    let pings = h2::frame(6, 0, 0, &[0; 8]).repeat(50_000);
    // a header block that never ends
    let mut continuations = h2::headers(1, 0);
    let field = [&[0x40, 0x01, b'y', 0x7f, 0x81, 0x7d][..], &[b'z'; 16_000]].concat();
    continuations.extend(h2::frame(9, 0, 1, &field).repeat(200));
    let empty_continuations = [h2::headers(1, 0), h2::frame(9, 0, 1, &[]).repeat(50_000)].concat();
    let too_many_streams = odd(5_000)
        .flat_map(|stream| h2::headers(stream, h2::END_HEADERS))
        .collect();
    let no_window = [
        h2::frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]),
        odd(50)
            .flat_map(|stream| h2::headers(stream, h2::END_STREAM | h2::END_HEADERS))
            .collect(),
    ]
    .concat();
    let overflow = [
        h2::headers(1, h2::END_HEADERS),
        h2::frame(8, 0, 1, &0x7fff_ffff_u32.to_be_bytes()).repeat(3),
    ]
    .concat();
    let nonsense = h2::frame(1, 0xff, 1, &[0xff; 100]);
    let even_stream = h2::headers(2, h2::END_STREAM | h2::END_HEADERS);
    let large_frame = h2::frame(0, 0, 1, &vec![0; 100_000]);
    let attacks: [(&str, Vec<u8>); 11] = [
        ("rapid resets", rapid_resets),
        ("settings", settings_flood),
        ("pings", pings),
        ("an endless header block", continuations),
        ("empty continuations", empty_continuations),
        ("streams without end", too_many_streams),
        ("no window", no_window),
        ("window overflow", overflow),
        ("nonsense", nonsense),
        ("a stream of ours", even_stream),
        ("a large frame", large_frame),
    ];
    for (name, frames) in attacks {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        let bytes = with(frames);
        let (mut reading, mut writing) = stream.split();
        let mut answer = Vec::new();
        let attack = async {
            let _ = writing.write_all(&bytes).await;
        };
        let listen = async {
            let mut buffer = vec![0_u8; 65_536];
            while let Ok(count) = reading.read(&mut buffer).await {
                if count == 0 {
                    break;
                }
                answer.extend_from_slice(&buffer[..count]);
                assert!(answer.len() < 50_000_000, "{name}: answered without end");
            }
        };
        let both = async { tokio::join!(attack, listen) };
        assert!(
            tokio::time::timeout(BOUND, both).await.is_ok(),
            "{name}: the connection stays"
        );
        site.is_alive().await;
    }
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let served = client
        .get(format!("http://{}/health/live", site.address))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (served.status().as_u16(), served.version()),
        (200, http::Version::HTTP_2)
    );
}

#[sqlx::test(migrations = false)]
async fn a_preface_that_trickles_is_cut_off(pool: PgPool) {
    let site = site(pool).await;
    for begun in [&h2::PREFACE[..5], h2::PREFACE, &[h2::PREFACE, &h2::settings()].concat()] {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(BOUND, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "{} bytes of a preface keep a connection", begun.len());
    }
}

#[sqlx::test(migrations = false)]
async fn a_thousand_connections_that_say_nothing_keep_nobody_out(pool: PgPool) {
    let site = site(pool).await;
    let mut silent = Vec::new();
    for _ in 0..1_000 {
        silent.push(TcpStream::connect(site.address).await.unwrap());
    }
    site.is_alive().await;
    for mut stream in silent {
        let mut byte = [0_u8; 1];
        let read = tokio::time::timeout(BOUND, stream.read(&mut byte))
            .await
            .expect("closed in time");
        assert!(matches!(read, Ok(0) | Err(_)));
    }
}
