//! The official Socket.IO client for JavaScript against our server (core §5.10): `scripts/ci/node` under Node.
//!
//! Skips itself, and says so, where Node or the package is not installed (`scripts/setup.sh test` installs both).

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::{Value, json};
use shared::events::Topic;
use sqlx::PgPool;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    realtime::{Replica, of_another_type, two_replicas},
    told::{apply, payment},
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/ci/node")
}

/// Whether there is a client to test with.
async fn is_installed() -> bool {
    let node = Command::new("node")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    let installed =
        node.is_ok_and(|status| status.success()) && folder().join("node_modules/socket.io-client").is_dir();
    if !installed {
        println!("SKIP: node or socket.io-client is not installed; run scripts/setup.sh test");
    }
    installed
}

/// A socket of the JavaScript client in a process of its own.
struct Browser {
    _process: Child,
    commands: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    fn open(address: &str, options: &Value) -> Self {
        let wish = json!({ "url": format!("http://{address}"), "options": options });
        let mut process = Command::new("node")
            .arg("socket-client.mjs")
            .arg(wish.to_string())
            .current_dir(folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            commands: process.stdin.take().unwrap(),
            events: BufReader::new(process.stdout.take().unwrap()).lines(),
            _process: process,
        }
    }

    async fn next(&mut self) -> (String, Value) {
        let line = tokio::time::timeout(Duration::from_secs(20), self.events.next_line()).await;
        let line = line.expect("nothing was heard").unwrap().expect("the client ended");
        let told: Value = serde_json::from_str(&line).unwrap();
        (told["event"].as_str().unwrap().to_owned(), told["data"].clone())
    }

    async fn expect(&mut self, event: &str) -> Value {
        let (heard, data) = self.next().await;
        assert_eq!(heard, event, "{data}");
        data
    }

    async fn command(&mut self, command: Value) {
        self.commands
            .write_all(format!("{command}\n").as_bytes())
            .await
            .unwrap();
    }
}

#[sqlx::test(migrations = false)]
async fn the_official_client_connects_by_every_transport_and_hears_notifications(pool: PgPool) {
    if !is_installed().await {
        return;
    }
    let replica = Replica::start(pool).await;
    let ada = replica.app.register("ada@example.com").await;
    let auth = json!({ "token": ada.token });
    // as the existing web client does, as a browser without WebSocket, and as the client does by itself
    let mut web = Browser::open(&replica.address, &json!({ "auth": auth, "transports": ["websocket"] }));
    assert_eq!(web.expect("connect").await["transport"], "websocket");
    let mut poll = Browser::open(&replica.address, &json!({ "auth": auth, "transports": ["polling"] }));
    assert_eq!(poll.expect("connect").await["transport"], "polling");
    let mut both = Browser::open(&replica.address, &json!({ "auth": auth }));
    let connected = both.expect("connect").await;
    assert_eq!(connected["opened"], "polling");
    if connected["transport"] == "polling" {
        assert_eq!(both.expect("upgrade").await, "websocket");
    }
    // the page also sends its origin and only a cookie
    let headers = json!({ "origin": "http://localhost:5173", "cookie": format!("ds_session={}", ada.session) });
    let mut page = Browser::open(
        &replica.address,
        &json!({ "transports": ["websocket"], "extraHeaders": headers }),
    );
    page.expect("connect").await;

    web.command(json!({ "emit": ["notification:read", { "id": "x" }] }))
        .await;
    apply(&replica.app, Topic::PaymentCompleted, payment(&ada.id))
        .await
        .unwrap();
    let listed = replica
        .app
        .get("/api/v1/users/notifications")
        .bearer(&ada.token)
        .send()
        .await;
    let row = listed.body["data"]["notifications"][0].clone();
    for browser in [&mut web, &mut poll, &mut both, &mut page] {
        assert_eq!(browser.expect("notification:new").await, json!([row]));
    }

    replica.app.post("/api/v1/auth/logout").bearer(&ada.token).send().await;
    for browser in [&mut web, &mut poll, &mut both, &mut page] {
        assert_eq!(browser.expect("disconnect").await, "io server disconnect");
    }
    // and it does not get in again with what it has
    web.command(json!({ "connect": true })).await;
    assert_eq!(web.expect("connect_error").await, "Invalid token");
}

#[sqlx::test(migrations = false)]
async fn the_official_client_is_told_why_it_is_refused(pool: PgPool) {
    if !is_installed().await {
        return;
    }
    let replica = Replica::start(pool).await;
    let ada = replica.app.register("ada@example.com").await;
    for (auth, text) in [
        (json!({}), "Authentication required"),
        (
            json!({ "token": of_another_type(&replica.app, &ada) }),
            "Invalid token type",
        ),
        (json!({ "token": "x.y.z" }), "Invalid token"),
    ] {
        for transports in [json!(["websocket"]), json!(["polling"])] {
            let mut browser = Browser::open(&replica.address, &json!({ "auth": auth, "transports": transports }));
            assert_eq!(browser.expect("connect_error").await, text, "{transports}");
        }
    }
}

#[sqlx::test(migrations = false)]
async fn official_clients_at_two_replicas_hear_the_same_and_move_when_one_drains(pool: PgPool) {
    if !is_installed().await {
        return;
    }
    let (first, second, _redis) = two_replicas(&pool).await;
    let ada = first.app.register("ada@example.com").await;
    let options = json!({ "auth": { "token": ada.token }, "transports": ["websocket"], "reconnectionDelay": 100 });
    let (mut here, mut there) = (
        Browser::open(&first.address, &options),
        Browser::open(&second.address, &options),
    );
    here.expect("connect").await;
    there.expect("connect").await;
    apply(
        &second.app,
        Topic::VoyageBookingConfirmed,
        json!({ "bookingId": "BOOK-1", "userId": ada.id }),
    )
    .await
    .unwrap();
    let heard = here.expect("notification:new").await;
    assert_eq!(heard[0]["type"], "BOOKING_CONFIRMED");
    assert_eq!(there.expect("notification:new").await, heard);

    // a drained replica closes the transport, which the client takes as a reason to look for another
    first.shutdown.drain();
    assert_eq!(here.expect("disconnect").await, "transport close");
    assert_eq!(here.next().await.0, "connect_error", "it tries again by itself");
    apply(
        &second.app,
        Topic::VoyageBookingConfirmed,
        json!({ "bookingId": "BOOK-2", "userId": ada.id }),
    )
    .await
    .unwrap();
    assert_eq!(
        there.expect("notification:new").await[0]["metadata"]["bookingId"],
        "BOOK-2"
    );
}
