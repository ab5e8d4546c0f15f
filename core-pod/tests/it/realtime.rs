//! Open sockets (core §5.10): a client of our own that speaks the wire format, for what a browser's client hides.
//! The official JavaScript client is in `javascript.rs`.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{Method, header};
use serde_json::{Value, json};
use shared::{
    auth::tokens::{KeySet, Signer, TokenPolicy},
    events::{Topic, consumer::Handler as _},
    gateway::{Gateway, GatewayConfig, Target},
    http::{
        HttpConfig, Kit,
        client_address::TrustedProxies,
        server::{self, ServerConfig},
    },
    lifecycle::{Shutdown, Tasks},
    redis::{Redis, RedisConfig},
};
use sqlx::PgPool;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::{
    support::{OWN_ORIGIN, TestApp, Traveller, eventually},
    told::{apply, envelope, payment},
};

/// Everything that is waited for comes within this time, or the test fails.
const PATIENCE: Duration = Duration::from_secs(15);
/// Limits nobody reaches, and sessions looked at ten times a second.
pub const SETTINGS: [(&str, &str); 3] = [
    ("RATE_LIMIT_MULTIPLIER", "1000"),
    ("SOCKET_CHECK_MS", "100"),
    ("JWT_SIGNING_KEY", SIGNING_KEY),
];
/// Between packets of one poll.
const SEPARATOR: char = '\u{1e}';
/// The same at all replicas, and known to tests that need a token nobody would give them.
const SIGNING_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// A replica on a socket, with its workers.
pub struct Replica {
    pub app: TestApp,
    pub address: String,
    pub shutdown: Shutdown,
}

impl Replica {
    pub async fn start(pool: PgPool) -> Self {
        Self::serve(TestApp::with(pool, &SETTINGS).await).await
    }

    pub async fn over(pool: PgPool, redis: &Redis) -> Self {
        Self::serve(TestApp::over(pool, &SETTINGS, redis.clone())).await
    }

    pub async fn serve(app: TestApp) -> Self {
        let shutdown = Shutdown::new();
        core_pod::user::start_workers(&app.services.user, &Tasks::new(shutdown.clone()));
        let address = listen(app.router.clone(), &shutdown).await;
        Self { app, address, shutdown }
    }

    async fn open(&self, token: &str) -> Socket {
        let mut socket = Socket::dial(&self.address, &[]).await;
        let answer = socket.join(&json!({ "token": token })).await;
        assert!(answer.starts_with("40{"), "{answer}");
        socket
    }

    fn open_sockets(&self) -> usize {
        self.app.services.user.realtime().open_sockets()
    }
}

impl Drop for Replica {
    /// Not a halt: closed sockets let go of the pool, which the test's database waits for.
    fn drop(&mut self) {
        self.shutdown.drain();
    }
}

async fn listen(router: axum::Router, shutdown: &Shutdown) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(server::serve(
        listener,
        router,
        ServerConfig::default(),
        shutdown.clone(),
    ));
    address
}

/// One WebSocket that speaks Engine.IO 4.
struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn try_dial(address: &str, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((stream, _)) => Ok(Self(stream)),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    async fn dial(address: &str, headers: &[(&'static str, &str)]) -> Self {
        let mut socket = Self::try_dial(address, headers).await.unwrap();
        let open = socket.next().await.unwrap();
        assert!(open.starts_with("0{"), "{open}");
        socket
    }

    async fn say(&mut self, text: String) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// Offers an identity and gives the answer.
    async fn join(&mut self, auth: &Value) -> String {
        self.say(format!("40{auth}")).await;
        self.next().await.unwrap()
    }

    /// The next packet but pings; `None` when the connection is closed.
    async fn next(&mut self) -> Option<String> {
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        loop {
            let message = tokio::select! {
                message = self.0.next() => message,
                () = &mut patience => panic!("nothing was heard"),
            };
            match message {
                Some(Ok(Message::Text(text))) if text.as_str() == "2" => self.say("3".to_owned()).await,
                Some(Ok(Message::Text(text))) => return Some(text.as_str().to_owned()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    async fn notification(&mut self) -> Value {
        let packet = self.next().await.unwrap();
        let event: Value = serde_json::from_str(packet.strip_prefix("42").expect(&packet)).unwrap();
        assert_eq!(event[0], "notification:new");
        event[1].clone()
    }

    /// Whether nothing is heard for a while.
    async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(500), self.next())
            .await
            .is_err()
    }
}

/// The token of a traveller as a good token of another type.
pub fn of_another_type(app: &TestApp, ada: &Traveller) -> String {
    let claims = URL_SAFE_NO_PAD.decode(ada.token.split('.').nth(1).unwrap()).unwrap();
    let mut claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["type"] = json!("refresh");
    let sources = shared::sources::Sources {
        clock: app.clock.clone(),
        entropy: shared::sources::Sources::system().entropy,
    };
    let keys = KeySet::single(SIGNING_KEY).unwrap();
    Signer::new(keys, TokenPolicy::default(), sources)
        .sign(&claims)
        .unwrap()
}

async fn tell(app: &TestApp, user: &str) {
    apply(app, Topic::PaymentCompleted, payment(user)).await.unwrap();
}

fn message_of(refusal: &str) -> String {
    let body: Value = serde_json::from_str(refusal.strip_prefix("44").expect(refusal)).unwrap();
    body["message"].as_str().unwrap().to_owned()
}

#[sqlx::test(migrations = false)]
async fn a_new_notification_reaches_every_socket_of_its_account_and_no_other(pool: PgPool) {
    let replica = Replica::start(pool).await;
    let (ada, eve) = (
        replica.app.register("ada@example.com").await,
        replica.app.register("eve@example.com").await,
    );
    let mut first = Socket::try_dial(&replica.address, &[]).await.unwrap();
    let open = first.next().await.unwrap();
    let open: Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
    assert_eq!(
        (&open["pingInterval"], &open["pingTimeout"]),
        (&json!(25_000), &json!(20_000))
    );
    assert_eq!(
        (&open["maxPayload"], &open["upgrades"]),
        (&json!(1_000_000), &json!([]))
    );
    let joined = first.join(&json!({ "token": ada.token })).await;
    assert!(
        serde_json::from_str::<Value>(&joined[2..]).unwrap()["sid"].is_string(),
        "{joined}"
    );
    let mut second = replica.open(&ada.token).await;
    let mut other = replica.open(&eve.token).await;

    tell(&replica.app, &ada.id).await;
    let heard = first.notification().await;
    assert_eq!(second.notification().await, heard);
    let listed = replica
        .app
        .get("/api/v1/users/notifications")
        .bearer(&ada.token)
        .send()
        .await;
    assert_eq!(
        heard, listed.body["data"]["notifications"][0],
        "the row as the list shows it"
    );
    assert!(other.is_silent().await);
    assert_eq!(replica.app.count("select count(*) from users.pushes").await, 0);

    // clients have nothing to say: what they say is ignored, and too much of it ends the connection
    first.say(r#"42["notification:read",{"id":1}]"#.to_owned()).await;
    first.say(r#"425["ask",1]"#.to_owned()).await;
    tell(&replica.app, &ada.id).await;
    first.notification().await;
    second.say(format!(r#"42["x","{}"]"#, "y".repeat(5_000))).await;
    second.notification().await;
    assert_eq!(second.next().await, None);
    eventually("the register follows", async || replica.open_sockets() == 2).await;
}

#[sqlx::test(migrations = false)]
async fn refusals_have_the_texts_of_the_contract(pool: PgPool) {
    let replica = Replica::start(pool).await;
    let app = &replica.app;
    let (ada, eve) = (
        app.register("ada@example.com").await,
        app.register("eve@example.com").await,
    );
    let service = app.service_token("business-pod").await;
    let suspended = app.register("bob@example.com").await;
    app.execute("update auth.users set suspended_at = now() where email = 'bob@example.com'")
        .await;
    let gone = app.register("dan@example.com").await;
    app.execute("update auth.users set deleted_at = now() where email = 'dan@example.com'")
        .await;
    app.post("/api/v1/auth/logout").bearer(&eve.token).send().await;
    let (head, _) = ada.token.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", "A".repeat(86));
    for (auth, text) in [
        (json!({}), "Authentication required"),
        (json!({ "token": null }), "Authentication required"),
        (json!({ "token": "" }), "Authentication required"),
        (json!({ "token": "undefined" }), "Authentication required"),
        (json!([1]), "Invalid token"),
        (json!("text"), "Authentication required"),
        (json!({ "token": of_another_type(app, &ada) }), "Invalid token type"),
        (json!({ "token": service }), "Invalid token"),
        (json!({ "token": forged }), "Invalid token"),
        (json!({ "token": "nonsense" }), "Invalid token"),
        (json!({ "token": "a\nb" }), "Invalid token"),
        (json!({ "token": 7 }), "Invalid token"),
        (json!({ "token": ada.refresh }), "Invalid token"),
        (json!({ "token": eve.token }), "Invalid token"),
        (json!({ "token": suspended.token }), "Invalid token"),
        (json!({ "token": gone.token }), "Invalid token"),
    ] {
        let mut socket = Socket::dial(&replica.address, &[]).await;
        assert_eq!(message_of(&socket.join(&auth).await), text, "{auth}");
    }
    let mut without = Socket::dial(&replica.address, &[]).await;
    without.say("40".to_owned()).await;
    assert_eq!(message_of(&without.next().await.unwrap()), "Authentication required");
    let mut elsewhere = Socket::dial(&replica.address, &[]).await;
    elsewhere.say(format!(r#"40/admin,{{"token":"{}"}}"#, ada.token)).await;
    assert!(
        elsewhere.next().await.unwrap().contains("Invalid namespace"),
        "there is one namespace"
    );
    assert_eq!(replica.open_sockets(), 0);

    // where nobody can say whether the session lives, nobody comes in
    app.execute("alter table auth.sessions rename to away").await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let mut unknown = Socket::dial(&replica.address, &[]).await;
    let answer = unknown.join(&json!({ "token": ada.token })).await;
    assert_eq!(message_of(&answer), "Server misconfiguration");
}

#[sqlx::test(migrations = false)]
async fn the_browsers_cookie_identifies_a_socket_and_carries_an_expired_token(pool: PgPool) {
    let replica = Replica::start(pool).await;
    let app = &replica.app;
    let (ada, eve) = (
        app.register("ada@example.com").await,
        app.register("eve@example.com").await,
    );
    let cookie = |traveller: &Traveller| format!("ds_guest=x; ds_session={}; refreshToken=y", traveller.session);
    let mut by_cookie = Socket::dial(&replica.address, &[("cookie", &cookie(&ada))]).await;
    assert!(by_cookie.join(&json!({})).await.starts_with("40{"));
    let mut nobody = Socket::dial(
        &replica.address,
        &[("cookie", &format!("ds_session={}", "x".repeat(43)))],
    )
    .await;
    assert_eq!(message_of(&nobody.join(&json!({})).await), "Authentication required");
    let mut forged = Socket::dial(&replica.address, &[("cookie", &cookie(&ada))]).await;
    assert_eq!(
        message_of(&forged.join(&json!({ "token": "x.y.z" })).await),
        "Invalid token",
        "whatever the cookie says"
    );

    app.advance(16 * 60);
    let mut alone = Socket::dial(&replica.address, &[]).await;
    assert_eq!(
        message_of(&alone.join(&json!({ "token": ada.token })).await),
        "Invalid token"
    );
    let mut others = Socket::dial(&replica.address, &[("cookie", &cookie(&eve))]).await;
    assert_eq!(
        message_of(&others.join(&json!({ "token": ada.token })).await),
        "Invalid token"
    );
    let mut carried = Socket::dial(&replica.address, &[("cookie", &cookie(&ada))]).await;
    assert!(carried.join(&json!({ "token": ada.token })).await.starts_with("40{"));
    tell(app, &ada.id).await;
    carried.notification().await;
    by_cookie.notification().await;
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_10_sockets_are_closed_when_their_session_is_over(pool: PgPool) {
    let replica = Replica::start(pool).await;
    let app = &replica.app;
    let ada = app.register("ada@example.com").await;
    let again = app.login("ada@example.com").await;
    let (mut first, mut second) = (replica.open(&ada.token).await, replica.open(&again.token).await);
    app.post("/api/v1/auth/logout").bearer(&ada.token).send().await;
    assert_eq!(
        first.next().await.as_deref(),
        Some("41"),
        "told that it is disconnected"
    );
    assert!(second.is_silent().await, "the other session lives on");
    tell(app, &ada.id).await;
    second.notification().await;

    let eve = app.register("eve@example.com").await;
    let cookie = format!("ds_session={}", eve.session);
    let mut by_cookie = Socket::dial(&replica.address, &[("cookie", &cookie)]).await;
    assert!(by_cookie.join(&json!({})).await.starts_with("40{"));
    app.execute("update auth.users set suspended_at = now() where email = 'ada@example.com'")
        .await;
    assert_eq!(second.next().await.as_deref(), Some("41"), "suspended");
    app.execute("update auth.users set deleted_at = now() where email = 'eve@example.com'")
        .await;
    assert_eq!(by_cookie.next().await.as_deref(), Some("41"), "deleted");
    eventually("nobody is left", async || replica.open_sockets() == 0).await;
}

#[sqlx::test(migrations = false)]
async fn a_socket_outlives_its_token_by_a_minute_or_as_long_as_its_cookie_lives(pool: PgPool) {
    let replica = Replica::start(pool).await;
    let app = &replica.app;
    let ada = app.register("ada@example.com").await;
    let mut alone = replica.open(&ada.token).await;
    let cookie = format!("ds_session={}", ada.session);
    let mut carried = Socket::dial(&replica.address, &[("cookie", &cookie)]).await;
    assert!(carried.join(&json!({ "token": ada.token })).await.starts_with("40{"));
    app.advance(15 * 60 + 59);
    assert!(alone.is_silent().await, "within the minute");
    app.advance(1);
    assert_eq!(alone.next().await.as_deref(), Some("41"));
    app.advance(24 * 3600);
    assert!(carried.is_silent().await);
    tell(app, &ada.id).await;
    carried.notification().await;
    app.advance(7 * 24 * 3600);
    assert_eq!(
        carried.next().await.as_deref(),
        Some("41"),
        "the cookie's session has run out as well"
    );
}

#[sqlx::test(migrations = false)]
async fn the_eleventh_socket_of_an_account_closes_its_first(pool: PgPool) {
    let replica = Replica::start(pool).await;
    let (ada, eve) = (
        replica.app.register("ada@example.com").await,
        replica.app.register("eve@example.com").await,
    );
    let mut other = replica.open(&eve.token).await;
    let mut sockets = Vec::new();
    for count in 1..=10 {
        sockets.push(replica.open(&ada.token).await);
        // they are entered one after the other
        eventually("the register", async || replica.open_sockets() == count + 1).await;
    }
    let mut eleventh = replica.open(&ada.token).await;
    assert_eq!(sockets[0].next().await.as_deref(), Some("41"));
    tell(&replica.app, &ada.id).await;
    for socket in &mut sockets[1..] {
        socket.notification().await;
    }
    eleventh.notification().await;
    assert!(other.is_silent().await);
    assert_eq!(replica.open_sockets(), 11);
}

#[sqlx::test(migrations = false)]
async fn pages_of_other_origins_open_no_socket(pool: PgPool) {
    let replica = Replica::start(pool).await;
    let ada = replica.app.register("ada@example.com").await;
    let cookie = format!("ds_session={}", ada.session);
    let with = |origin: &'static str| [("origin", origin), ("cookie", cookie.as_str())];
    for foreign in ["https://evil.example", "null", "http://localhost:5173.evil.example"] {
        assert_eq!(
            Socket::try_dial(&replica.address, &with(foreign)).await.err(),
            Some(403),
            "{foreign}"
        );
    }
    let mut own = Socket::dial(&replica.address, &with(OWN_ORIGIN)).await;
    assert!(own.join(&json!({})).await.starts_with("40{"));
    let same = [
        ("origin", "https://app.example"),
        ("sec-fetch-site", "same-origin"),
        ("cookie", cookie.as_str()),
    ];
    assert!(
        Socket::dial(&replica.address, &same)
            .await
            .join(&json!({}))
            .await
            .starts_with("40{")
    );

    let poll = "/socket.io/?EIO=4&transport=polling";
    let foreign = replica
        .app
        .get(poll)
        .header("origin", "https://evil.example")
        .send()
        .await;
    foreign.refused(403, "FORBIDDEN");
    assert!(!foreign.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
    let known = replica.app.get(poll).header("origin", OWN_ORIGIN).send().await;
    assert_eq!(known.status, 200);
    assert_eq!(known.headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], OWN_ORIGIN);
    assert_eq!(known.headers[header::ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
    let preflight = replica
        .app
        .call(Method::OPTIONS, poll)
        .header("origin", OWN_ORIGIN)
        .send()
        .await;
    assert_eq!(preflight.status, 204);
}

#[sqlx::test(migrations = false)]
async fn nonsense_at_the_entrance_is_refused_and_harms_nobody(pool: PgPool) {
    let replica = Replica::start(pool).await;
    let ada = replica.app.register("ada@example.com").await;
    let mut witness = replica.open(&ada.token).await;
    for (method, query) in [
        (Method::GET, ""),
        (Method::GET, "?EIO=4"),
        (Method::GET, "?EIO=99&transport=polling"),
        (Method::GET, "?EIO=4&transport=pigeon"),
        (Method::GET, "?EIO=4&transport=websocket"),
        (Method::GET, "?EIO=4&transport=polling&sid=unknown"),
        (Method::GET, "?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA"),
        (Method::POST, "?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA"),
        (Method::POST, "?EIO=4&transport=polling"),
        (Method::PUT, "?EIO=4&transport=polling"),
        (Method::DELETE, "?sid=%00%ff"),
    ] {
        let reply = replica
            .app
            .call(method.clone(), &format!("/socket.io/{query}"))
            .send()
            .await;
        assert_eq!(reply.status, 400, "{method} {query}: {}", reply.body);
        assert!(reply.body["message"].is_string(), "{method} {query}: {}", reply.body);
    }
    let large = replica
        .app
        .post("/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA");
    let large = large.header("content-length", "99999999").send().await;
    large.refused(413, "PAYLOAD_TOO_LARGE");
    for odd in [
        "",
        "9",
        "40",
        "4",
        "\u{0}",
        "42[",
        "451-[\"x\",{\"_placeholder\":true,\"num\":0}]",
        "0{}",
        "b4AAA=",
    ] {
        let mut socket = Socket::dial(&replica.address, &[]).await;
        socket.say(odd.to_owned()).await;
        let _ = tokio::time::timeout(Duration::from_millis(50), socket.0.next()).await;
    }
    tell(&replica.app, &ada.id).await;
    witness.notification().await;
}

/// Polls until a packet begins like this; pings come between.
async fn poll_until(http: &reqwest::Client, session: &str, start: &str) {
    for _ in 0..5 {
        let heard = http.get(session).send().await.unwrap().text().await.unwrap();
        if heard.split(SEPARATOR).any(|packet| packet.starts_with(start)) {
            return;
        }
        assert!(heard.split(SEPARATOR).all(|packet| packet == "2"), "{heard}");
    }
    panic!("{start} was not heard");
}

#[sqlx::test(migrations = false)]
async fn polling_delivers_as_well(pool: PgPool) {
    let replica = Replica::start(pool).await;
    let ada = replica.app.register("ada@example.com").await;
    let base = format!("http://{}/socket.io/?EIO=4&transport=polling", replica.address);
    let http = reqwest::Client::new();
    let open = http.get(&base).send().await.unwrap().text().await.unwrap();
    let open: Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
    assert_eq!(open["upgrades"], json!(["websocket"]));
    let session = format!("{base}&sid={}", open["sid"].as_str().unwrap());
    let post = |body: String| http.post(&session).body(body).send();
    assert_eq!(
        post(format!("40{}", json!({ "token": ada.token })))
            .await
            .unwrap()
            .status(),
        200
    );
    poll_until(&http, &session, "40{").await;
    let waiting = {
        let (http, session) = (http.clone(), session.clone());
        tokio::spawn(async move { poll_until(&http, &session, r#"42["notification:new",{"#).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    tell(&replica.app, &ada.id).await;
    waiting.await.unwrap();
    let large = post("4".repeat(20_000)).await.unwrap();
    assert_eq!(large.status(), 413);
}

#[sqlx::test(migrations = false)]
async fn a_drain_closes_all_sockets_and_opens_no_more(pool: PgPool) {
    let replica = Replica::start(pool).await;
    let ada = replica.app.register("ada@example.com").await;
    let mut socket = replica.open(&ada.token).await;
    let waiting = Socket::try_dial(&replica.address, &[]).await.unwrap();
    let closing = replica.app.services.user.realtime().clone();
    replica.shutdown.drain();
    assert_eq!(
        socket.next().await.as_deref(),
        Some("1"),
        "the connection, so that the client looks for another replica"
    );
    assert_eq!(socket.next().await, None);
    eventually("nobody is left", async || closing.open_sockets() == 0).await;
    let late = replica.app.get("/socket.io/?EIO=4&transport=polling").send().await;
    late.refused(503, "SERVICE_UNAVAILABLE");
    drop(waiting);
}

#[sqlx::test(migrations = false)]
async fn a_notification_whose_process_died_before_the_push_is_pushed_by_another(pool: PgPool) {
    let replica = Replica::start(pool).await;
    let app = &replica.app;
    let ada = app.register("ada@example.com").await;
    let mut socket = replica.open(&ada.token).await;
    // committed, and then the process that committed is gone: nobody wakes the pusher
    let event = envelope(Topic::PaymentCompleted, payment(&ada.id));
    let mut tx = shared::db::Db::<core_pod::user::User>::new(app.pool.clone())
        .begin()
        .await
        .unwrap();
    app.services
        .user
        .events()
        .handle(&mut tx, Topic::PaymentCompleted, &event)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(socket.notification().await["type"], "PAYMENT_RECEIVED");

    eventually("the push is done", async || {
        app.count("select count(*) from users.pushes").await == 0
    })
    .await;
    // taken by a process that died before it was done: taken again once its time is over
    app.execute("update users.notifications set read_at = null").await;
    app.execute(
        "insert into users.pushes (notification_id, due_at, created_at)
         select id, created_at + interval '10 seconds', created_at from users.notifications",
    )
    .await;
    assert!(socket.is_silent().await);
    app.advance(10);
    assert_eq!(socket.notification().await["type"], "PAYMENT_RECEIVED");
    eventually("the queue is empty", async || {
        app.count("select count(*) from users.pushes").await == 0
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn nothing_is_pushed_that_was_not_committed(pool: PgPool) {
    let replica = Replica::start(pool).await;
    let app = &replica.app;
    let ada = app.register("ada@example.com").await;
    let mut socket = replica.open(&ada.token).await;
    let event = envelope(Topic::PaymentCompleted, payment(&ada.id));
    let handler = app.services.user.events();
    let mut tx = shared::db::Db::<core_pod::user::User>::new(app.pool.clone())
        .begin()
        .await
        .unwrap();
    handler.handle(&mut tx, Topic::PaymentCompleted, &event).await.unwrap();
    handler.committed(Topic::PaymentCompleted, &event).await;
    assert!(socket.is_silent().await, "the transaction is still open");
    tx.rollback().await.unwrap();
    handler.committed(Topic::PaymentCompleted, &event).await;
    assert!(socket.is_silent().await);
}

/// Two replicas over one database and one real Redis.
pub async fn two_replicas(pool: &PgPool) -> (Replica, Replica, devkit::redis::RedisServer) {
    let server = devkit::redis::RedisServer::start().await.unwrap();
    drop(TestApp::with(pool.clone(), &SETTINGS).await); // runs the migrations
    let connect = || Redis::connect(&RedisConfig::single(server.url())).unwrap();
    let first = Replica::over(pool.clone(), &connect()).await;
    let second = Replica::over(pool.clone(), &connect()).await;
    (first, second, server)
}

#[sqlx::test(migrations = false)]
async fn replicas_tell_each_other_over_redis(pool: PgPool) {
    let (first, second, mut redis) = two_replicas(&pool).await;
    let ada = first.app.register("ada@example.com").await;
    let (mut here, mut there) = (first.open(&ada.token).await, second.open(&ada.token).await);
    for _ in 0..3 {
        tell(&first.app, &ada.id).await;
        assert_eq!(here.notification().await, there.notification().await);
    }
    // revoked at one replica, closed at the other
    let again = first.app.login("ada@example.com").await;
    let (mut newer, mut elsewhere) = (first.open(&again.token).await, second.open(&again.token).await);
    first.app.post("/api/v1/auth/logout").bearer(&ada.token).send().await;
    assert_eq!(there.next().await.as_deref(), Some("41"));
    assert_eq!(here.next().await.as_deref(), Some("41"));

    // without Redis each replica serves its own, and one of the two pushes
    redis.kill().await.unwrap();
    tell(&first.app, &ada.id).await;
    let heard = tokio::select! { heard = newer.notification() => heard, heard = elsewhere.notification() => heard };
    assert_eq!(heard["type"], "PAYMENT_RECEIVED");
    redis.restart().await.unwrap();
    eventually("both hear again", async || {
        tell(&second.app, &ada.id).await;
        let both = async { tokio::join!(newer.notification(), elsewhere.notification()) };
        tokio::time::timeout(Duration::from_secs(1), both).await.is_ok()
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn the_limit_of_sockets_holds_over_all_replicas(pool: PgPool) {
    let (first, second, _redis) = two_replicas(&pool).await;
    let ada = first.app.register("ada@example.com").await;
    let mut oldest = first.open(&ada.token).await;
    let mut others = Vec::new();
    for count in 1..10 {
        let replica = if count % 2 == 0 { &first } else { &second };
        others.push(replica.open(&ada.token).await);
        eventually("the register", async || {
            first.open_sockets() + second.open_sockets() == count + 1
        })
        .await;
    }
    // the register of a replica is written before the list in Redis
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut newest = second.open(&ada.token).await;
    assert_eq!(oldest.next().await.as_deref(), Some("41"));
    tell(&second.app, &ada.id).await;
    newest.notification().await;
    for socket in &mut others {
        socket.notification().await;
    }
}

#[sqlx::test(migrations = false)]
async fn sockets_pass_the_gateway_from_the_first_request(pool: PgPool) {
    let replica = Replica::start(pool).await;
    let ada = replica.app.register("ada@example.com").await;
    let user = format!("http://{}", replica.address).parse().unwrap();
    let config = GatewayConfig {
        targets: [(Target::User, user)].into(),
        connect_timeout: Duration::from_secs(2),
        read_timeout: None,
        socket_idle: Duration::from_secs(90),
        skip_probes: true,
        probed: std::collections::BTreeSet::new(),
    };
    let shutdown = Shutdown::new();
    let gateway = Gateway::new(config, TrustedProxies::default(), Tasks::new(shutdown.clone()));
    let kit = Kit::new("gateway", &HttpConfig::default(), None).proxying();
    let edge = kit.front_of_gateway(axum::Router::new(), kit.routes(gateway.router()));
    let address = listen(edge, &shutdown).await;

    let cookie = format!("ds_session={}", ada.session);
    let mut socket = Socket::dial(&address, &[("origin", OWN_ORIGIN), ("cookie", &cookie)]).await;
    assert!(socket.join(&json!({ "token": ada.token })).await.starts_with("40{"));
    let base = format!("http://{address}/socket.io/?EIO=4&transport=polling");
    let http = reqwest::Client::new();
    let open = http.get(&base).send().await.unwrap().text().await.unwrap();
    let open: Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
    let session = format!("{base}&sid={}", open["sid"].as_str().unwrap());
    http.post(&session)
        .body(format!("40{}", json!({ "token": ada.token })))
        .send()
        .await
        .unwrap();
    poll_until(&http, &session, "40{").await;
    let polling = tokio::spawn(async move { poll_until(&http, &session, "42[").await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    tell(&replica.app, &ada.id).await;
    polling.await.unwrap();
    // a poll waits longer than other requests of the user service may take
    let patience = Target::User.read_timeout("/socket.io/");
    assert!(patience > Duration::from_secs(45), "{patience:?}");
    socket.notification().await;

    replica.app.post("/api/v1/auth/logout").bearer(&ada.token).send().await;
    assert_eq!(socket.next().await.as_deref(), Some("41"));
    assert_eq!(
        Socket::try_dial(&address, &[("origin", "https://evil.example")])
            .await
            .err(),
        Some(403)
    );
    shutdown.halt();
}

#[sqlx::test(migrations = false)]
async fn new_connections_of_one_address_are_limited_and_open_ones_are_not(pool: PgPool) {
    let settings = [("RATE_LIMIT_SOCKETS_MAX", "3"), ("RATE_LIMIT_SOCKETS_WINDOW", "60")];
    let replica = Replica::serve(TestApp::with(pool, &settings).await).await;
    let base = "/socket.io/?EIO=4&transport=polling";
    for _ in 0..3 {
        assert_eq!(replica.app.get(base).send().await.status, 200);
    }
    let refused = replica.app.get(base).send().await;
    refused.refused(429, "RATE_LIMIT_EXCEEDED");
    assert!(refused.headers.contains_key("retry-after"));
    let going_on = replica.app.get(&format!("{base}&sid=AAAAAAAAAAAAAAAA")).send().await;
    assert_eq!(going_on.status, 400, "unknown, but not counted");
    let elsewhere = replica.app.get(base).at_address([198, 51, 100, 1]).send().await;
    assert_eq!(elsewhere.status, 200);
}
