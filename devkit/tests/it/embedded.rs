//! The keeper of a checkout: shared by pods, replaced when it dies, gone with the last pod.

use std::{
    collections::BTreeMap,
    os::fd::AsRawFd as _,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use devkit::embedded::{self, Need, Request};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::postgres::folder;

const SOON: Duration = Duration::from_mins(1);

/// A process that holds the back ends, as a pod does.
struct Holder {
    child: Child,
    settings: BTreeMap<String, String>,
}

impl Holder {
    async fn start(folder: &Path, need: &str) -> Self {
        let mut child = command(folder)
            .args(["--need", need])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut settings = BTreeMap::new();
        loop {
            let line = timeout(SOON, lines.next_line())
                .await
                .unwrap()
                .unwrap()
                .expect("the holder has ended");
            if line.starts_with("# ready") {
                return Self { child, settings };
            }
            let (name, value) = line.strip_prefix("export ").unwrap().split_once('=').unwrap();
            settings.insert(name.to_owned(), value.trim_matches('\'').to_owned());
        }
    }

    async fn end(mut self, signal: Signal) -> ExitStatus {
        kill(Pid::from_raw(self.child.id().unwrap().try_into().unwrap()), signal).unwrap();
        timeout(SOON, self.child.wait()).await.unwrap().unwrap()
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_devkit"));
    command
        .arg("--data")
        .arg(folder)
        .args(["--pod", "business-pod"])
        .kill_on_drop(true);
    command
}

fn state(folder: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(folder.join("state.json")).ok()?).ok()
}

fn keeper(folder: &Path) -> Pid {
    let pid = state(folder).unwrap()["pid"].as_i64().unwrap();
    Pid::from_raw(pid.try_into().unwrap())
}

async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + SOON;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "still missing: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn database_answers(url: &str) -> bool {
    matches!(
        timeout(Duration::from_secs(3), PgConnection::connect(url)).await,
        Ok(Ok(_))
    )
}

async fn listens(address: &str) -> bool {
    tokio::net::TcpStream::connect(address.trim_start_matches("http://"))
        .await
        .is_ok()
}

#[tokio::test]
async fn two_pods_at_the_same_moment_share_one_keeper_and_the_last_one_ends_it() {
    let folder = folder();
    let data = folder.path();
    let all = "postgres,kafka,s3,stripe";
    let (first, second) = tokio::join!(Holder::start(data, all), Holder::start(data, all));
    assert_eq!(first.settings, second.settings);
    let settings = second.settings.clone();
    assert_eq!(settings["KAFKA_AUTO_OFFSET_RESET"], "earliest");
    assert!(settings["STRIPE_SECRET_KEY"].starts_with("sk_test_"));
    assert!(settings["SERVICE_CLIENTS"].contains(&format!("business-pod={}", settings["SERVICE_CLIENT_SECRET"])));
    let keys: Value = serde_json::from_str(&settings["JWT_KEYSET"]).unwrap();
    assert_eq!(
        (keys[0]["use"].as_str(), keys[0]["seed"].as_str().unwrap().len()),
        (Some("sign"), 43)
    );
    let addresses = state(data).unwrap()["addresses"].clone();
    assert_eq!(addresses["kafka"], settings["KAFKA_BROKERS"].as_str());

    // A pod that is killed takes nothing with it that another pod needs.
    first.end(Signal::SIGKILL).await;
    assert!(database_answers(&settings["PAYMENT_DATABASE_URL"]).await);
    assert!(listens(&settings["STRIPE_API_BASE"]).await);

    // Nor does a crash of PostgreSQL.
    let pid_file = std::fs::read_to_string(data.join("postgres/data/postmaster.pid")).unwrap();
    kill(
        Pid::from_raw(pid_file.lines().next().unwrap().parse().unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    eventually("postgresql is back", async || {
        database_answers(&settings["DATABASE_URL"]).await
    })
    .await;

    // The last pod ends it all, also when it is killed.
    second.end(Signal::SIGKILL).await;
    eventually("the keeper is gone", async || state(data).is_none()).await;
    assert!(!database_answers(&settings["DATABASE_URL"]).await);
    for name in ["STRIPE_API_BASE", "S3_ENDPOINT"] {
        assert!(!listens(&settings[name]).await, "{name}");
    }

    // Keys, passwords and ports are those of the checkout.
    let third = Holder::start(data, "postgres,stripe").await;
    for name in [
        "DATABASE_URL",
        "STRIPE_SECRET_KEY",
        "STRIPE_API_BASE",
        "JWT_KEYSET",
        "SERVICE_CLIENTS",
    ] {
        assert_eq!(third.settings[name], settings[name], "{name}");
    }
    assert!(
        !third.settings.contains_key("KAFKA_BROKERS"),
        "only what is needed is there"
    );
    assert!(third.end(Signal::SIGINT).await.success());
    eventually("the keeper is gone", async || state(data).is_none()).await;
}

#[tokio::test]
async fn a_keeper_that_dies_is_replaced_and_postgresql_is_adopted() {
    let folder = folder();
    let data = folder.path();
    let holder = Holder::start(data, "postgres,stripe").await;
    let (died, database) = (keeper(data), holder.settings["DATABASE_URL"].clone());
    let intent = create_intent(&holder.settings).await;
    let pid_file = data.join("postgres/data/postmaster.pid");
    let server = std::fs::read_to_string(&pid_file).unwrap();
    let mut session = PgConnection::connect(&database).await.unwrap();

    kill(died, Signal::SIGKILL).unwrap();
    eventually("another keeper", async || {
        // While one keeper follows another there is no state at all.
        state(data).is_some_and(|state| {
            state["pid"].as_i64() != Some(died.as_raw().into()) && !state["addresses"]["stripe"].is_null()
        })
    })
    .await;
    assert_eq!(
        std::fs::read_to_string(&pid_file).unwrap(),
        server,
        "postgresql went on"
    );
    session.ping().await.unwrap();
    let url = format!("{}/v1/payment_intents/{intent}", holder.settings["STRIPE_API_BASE"]);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let found = http
        .get(url)
        .bearer_auth(&holder.settings["STRIPE_SECRET_KEY"])
        .send()
        .await
        .unwrap();
    assert_eq!(found.status(), 200, "the double kept its objects and its port");

    holder.end(Signal::SIGTERM).await;
    eventually("the keeper is gone", async || state(data).is_none()).await;
    assert!(!database_answers(&database).await);
}

async fn create_intent(settings: &BTreeMap<String, String>) -> String {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.post(format!("{}/v1/payment_intents", settings["STRIPE_API_BASE"]));
    let request = request
        .bearer_auth(&settings["STRIPE_SECRET_KEY"])
        .form(&[("amount", "500"), ("currency", "eur")]);
    let intent: Value = request.send().await.unwrap().json().await.unwrap();
    intent["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn without_postgresql_the_pod_hears_one_clear_error() {
    let folder = folder();
    let output = command(folder.path()).args(["--postgres", "/nonexistent"]).output();
    let output = timeout(SOON, output).await.unwrap().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains("package `postgresql`") && text.contains("DATABASE_URL"),
        "{text}"
    );
    eventually("the keeper is gone", async || state(folder.path()).is_none()).await;
}

#[tokio::test]
async fn a_second_pod_may_need_more_and_say_where_webhooks_go() {
    let folder = folder();
    let program = Some(env!("CARGO_BIN_EXE_devkit").into());
    let request = Request {
        keeper_program: program,
        ..Request::new("core-pod", folder.path())
    };
    let first = embedded::start(Request {
        need: [Need::S3].into(),
        ..request.clone()
    })
    .await
    .unwrap();
    assert!(first.variable("STRIPE_API_BASE").is_none());
    assert!(first.variable("SERVICE_CLIENT_SECRET").is_none());
    assert!(first.service_client_secret("experience-pod").is_some());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let second = embedded::start(Request {
        need: [Need::Stripe].into(),
        payment_webhook_url: Some(url),
        topics: vec![("t".to_owned(), 2)],
        ..request
    })
    .await
    .unwrap();
    let settings = second
        .variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let (_, accepted) = tokio::join!(create_intent(&settings), timeout(SOON, listener.accept()));
    assert!(accepted.unwrap().unwrap().0.as_raw_fd() > 0, "the event was sent");
    drop((first, second));
    eventually("the keeper is gone", async || state(folder.path()).is_none()).await;
}
