//! The core pod is killed (`kill -9`) in the middle of an export, an erasure and a mail, and started again: the work is
//! done, once, and nothing is left half-done.
//!
//! contract: core §5.11, §9, §14. The pod is a real process over a real database. What it waits for when it dies is held
//! by the test: a table, the object store, the mail server. So each death comes at a known moment, without a hook in the pod.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use devkit::{
    kafka::MockCluster,
    postgres::{Options, PostgresServer},
    proxy::TcpProxy,
    s3::S3Server,
};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use shared::events::Topic;
use sqlx::{Connection as _, PgConnection, PgPool};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream},
    net::{TcpListener, TcpStream},
};

use crate::{
    kafka::drain,
    process::{Running, Site, eventually, ready},
};

const BUCKET: &str = "dreamscape";
const PASSWORD: &str = "Dream-scape-1!";
/// The one place where an obstacle can be that is no table.
const STORE: &str = "the object store";

/// Everything round the pods, which outlives their deaths.
struct World {
    site: Site,
    client: Client,
    pool: PgPool,
    /// The address of the database.
    url: String,
    /// Between the pods and the object store.
    line: TcpProxy,
    kafka: MockCluster,
    _store: S3Server,
    _database: PostgresServer,
    folder: TempDir,
}

/// What a pod comes to a stand at.
enum Obstacle {
    Table(PgConnection),
    Store,
}

struct Traveller {
    id: String,
    email: String,
    token: String,
}

impl World {
    /// With the settings that `more` adds.
    async fn start(more: impl FnOnce(Site) -> Site) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::Builder::new().prefix("dreamscape-kills").tempdir().unwrap();
        // PostgreSQL runs as another user when we are root
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let database = PostgresServer::start(Options::new(folder.path().join("postgres")).throwaway())
            .await
            .unwrap();
        let store = S3Server::start(&folder.path().join("objects"), "access", "secret")
            .await
            .unwrap();
        store.create_bucket(BUCKET).unwrap();
        let line = TcpProxy::start(&format!("127.0.0.1:{}", store.port())).await.unwrap();
        let kafka = MockCluster::start().unwrap();
        for topic in Topic::ALL {
            kafka.create_topic(topic.name(), 1).unwrap();
            kafka.create_topic(&topic.dead_letters(), 1).unwrap();
        }
        let site = Site::new()
            .with("DATABASE_URL", database.url())
            .with("KAFKA_BROKERS", kafka.bootstrap_servers())
            .with("KAFKA_AUTO_OFFSET_RESET", "earliest")
            .with("S3_ENDPOINT", format!("http://127.0.0.1:{}", line.port()))
            .with("S3_BUCKET", BUCKET)
            .with("S3_ACCESS_KEY", "access")
            .with("S3_SECRET_KEY", "secret");
        let url = database.url();
        Self {
            site: more(site),
            client: Client::new(),
            pool: PgPool::connect(&url).await.unwrap(),
            url,
            line,
            kafka,
            _store: store,
            _database: database,
            folder,
        }
    }

    /// Starts the core pod and waits until it is ready.
    async fn core(&self) -> Running {
        let mut pod = self.site.spawn("core-pod", &[]);
        ready(&self.site.address("GATEWAY_PORT"), &mut pod).await;
        pod
    }

    /// The same with the Business Pod, beside a core pod that is ready.
    async fn business(&self) -> Running {
        let mut pod = self.site.spawn("business-pod", &[]);
        ready(&self.site.address("BUSINESS_PORT"), &mut pod).await;
        pod
    }

    async fn sign_up(&self, email: &str) -> Traveller {
        let url = format!("{}/api/v1/auth/register", self.site.address("GATEWAY_PORT"));
        let body = json!({ "email": email, "password": PASSWORD, "firstName": "Ada" });
        let answer = self.client.post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let answer: Value = answer.json().await.unwrap();
        Traveller {
            id: answer["data"]["user"]["id"].as_str().unwrap().to_owned(),
            email: email.to_owned(),
            token: answer["data"]["tokens"]["accessToken"].as_str().unwrap().to_owned(),
        }
    }

    /// Whether somebody can sign in.
    async fn can_sign_in(&self, email: &str) -> bool {
        let url = format!("{}/api/v1/auth/login", self.site.address("GATEWAY_PORT"));
        let body = json!({ "email": email, "password": PASSWORD });
        let status = self.client.post(url).json(&body).send().await.unwrap().status();
        assert!(matches!(status.as_u16(), 200 | 401), "{status}");
        status == 200
    }

    /// Looks for a flight and puts it into the cart, so that the Business Pod knows the traveller.
    async fn shops(&self, who: &Traveller) {
        let base = self.site.address("BUSINESS_PORT");
        let day = (shared::Sources::system().now() + Duration::from_secs(60 * 86_400)).format("%Y-%m-%d");
        let search = format!(
            "{base}/api/v1/flights/search?originLocationCode=PAR&destinationLocationCode=NYC&departureDate={day}"
        );
        let found = self.client.get(search).bearer_auth(&who.token).send().await.unwrap();
        let found: Value = found.json().await.unwrap();
        let offer = &found["data"][0];
        let item = json!({
            "type": "FLIGHT", "itemId": offer["id"], "itemData": offer, "quantity": 1,
            "price": offer["price"]["total"], "currency": offer["price"]["currency"],
        });
        let cart = self.client.post(format!("{base}/api/v1/cart/items"));
        let added = cart.bearer_auth(&who.token).json(&item).send().await.unwrap();
        assert_eq!(added.status(), 201);
        // searches are written down a moment later
        eventually("the search is noted", async || {
            let noted: i64 = sqlx::query_scalar("select count(*) from voyage.search_history where user_id::text = $1")
                .bind(&who.id)
                .fetch_one(&self.pool)
                .await
                .unwrap();
            noted == 1
        })
        .await;
    }

    fn privacy(&self, who: &Traveller, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/api/v1/users/gdpr{path}", self.site.address("GATEWAY_PORT"));
        self.client.request(method, url).bearer_auth(&who.token)
    }

    /// The traveller's export, as soon as it is there.
    async fn export_of(&self, who: &Traveller) -> Value {
        let id: String = sqlx::query_scalar(
            "select id::text from users.gdpr_requests where user_id::text = $1 and request_type = 'DATA_EXPORT'",
        )
        .bind(&who.id)
        .fetch_one(&self.pool)
        .await
        .unwrap();
        let path = format!("/data-export/{id}/download");
        let mut file = Value::Null;
        eventually("the export can be downloaded", async || {
            let answer = self.privacy(who, Method::GET, &path).send().await.unwrap();
            let is_ready = answer.status() == 200;
            file = answer.json().await.unwrap_or_default();
            is_ready
        })
        .await;
        file
    }

    /// How many exports of a traveller lie in the object store.
    fn stored_exports(&self, who: &Traveller) -> usize {
        let objects = self.folder.path().join("objects").join(BUCKET);
        let Ok(found) = std::fs::read_dir(objects.join("exports").join(&who.id)) else {
            return 0;
        };
        // the server keeps what it knows of an object beside it
        found
            .filter(|file| !file.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'))
            .count()
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.pool).await.unwrap();
    }

    /// Whoever needs this place stands still from here on.
    async fn obstruct(&self, place: &str) -> Obstacle {
        if place == STORE {
            self.line.stall();
            return Obstacle::Store;
        }
        let mut held = PgConnection::connect(&self.url).await.unwrap();
        let sql = format!("begin; lock table {place} in access exclusive mode");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut held)
            .await
            .unwrap();
        Obstacle::Table(held)
    }

    async fn clear(&self, obstacle: Obstacle) {
        match obstacle {
            Obstacle::Table(held) => held.close().await.unwrap(),
            Obstacle::Store => {
                // what a dead pod has said arrives no more
                self.line.break_connections();
                self.line.restore();
            }
        }
    }

    /// Whether somebody stands before this table.
    async fn is_waited_for(&self, table: &str) -> bool {
        let waiting: i64 =
            sqlx::query_scalar("select count(*) from pg_locks where not granted and relation = $1::text::regclass")
                .bind(table)
                .fetch_one(&self.pool)
                .await
                .unwrap();
        waiting > 0
    }

    /// Tables of all services in which one of these texts stands; the queues of events tell of everybody.
    async fn traces(&self, texts: &[&str]) -> Vec<String> {
        let tables: Vec<(String, String)> = sqlx::query_as(
            "select table_schema::text, table_name::text from information_schema.tables
             where table_schema in ('auth', 'users', 'mail', 'voyage', 'payment', 'ai') and table_type = 'BASE TABLE'
                 and table_name not in ('outbox', 'inbox', '_sqlx_migrations')
             order by 1, 2",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        let mut traces = Vec::new();
        for (schema, table) in tables {
            let sql = format!("select to_jsonb(t)::text from {schema}.{table} as t");
            let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
                .fetch_all(&self.pool)
                .await
                .unwrap();
            if rows.iter().any(|row| texts.iter().any(|text| row.contains(text))) {
                traces.push(format!("{schema}.{table}"));
            }
        }
        traces
    }
}

#[tokio::test]
async fn an_export_whose_pod_is_killed_is_made_by_the_next_one_and_told_of_once() {
    let world = World::start(|site| site).await;
    let mut core = world.core().await;
    // an export is complete or not made: it needs what the Business Pod publishes
    let _business = world.business().await;
    let (ada, eve) = (
        world.sign_up("ada@example.com").await,
        world.sign_up("eve@example.com").await,
    );
    for who in [&ada, &eve] {
        world.shops(who).await;
    }
    // while the file is on its way to the store; when it is there, and the traveller is to be told
    for (round, (who, place)) in [(&ada, STORE), (&eve, "mail.messages")].into_iter().enumerate() {
        let obstacle = world.obstruct(place).await;
        let asking = tokio::spawn(world.privacy(who, Method::POST, "/data-export").send());
        let is_stored = usize::from(place != STORE);
        eventually(&format!("the export stands before {place}"), async || {
            let begun = "select count(*) from users.gdpr_requests where status = 'IN_PROGRESS'";
            world.count(begun).await == 1 && world.stored_exports(who) == is_stored
        })
        .await;
        core.kill();
        asking.abort();
        world.clear(obstacle).await;
        // its claim would hold for two minutes more
        world
            .execute(
                "update users.gdpr_requests set next_attempt_at = now() - interval '1 second'
                 where status = 'IN_PROGRESS'",
            )
            .await;
        let completed = "select count(*) from users.gdpr_requests where status = 'COMPLETED'";
        let before = i64::try_from(round).unwrap();
        assert_eq!(world.count(completed).await, before, "{place}: nothing was noted");
        assert_eq!(world.stored_exports(who), is_stored, "{place}");

        core = world.core().await;
        let file = world.export_of(who).await;
        assert_eq!(file["user"]["email"], who.email.as_str(), "{place}: {file}");
        assert!(!file["searches"].as_array().unwrap().is_empty(), "{place}: {file}");
        assert_eq!(world.stored_exports(who), 1, "{place}");
        let told = "select count(*) from mail.messages where template = 'export-ready'";
        assert_eq!(world.count(told).await, before + 1, "{place}");
        let once = "select count(*) from users.gdpr_requests where attempts < 2";
        assert_eq!(world.count(once).await, 0, "{place}: it was begun again");
    }
}

#[tokio::test]
async fn an_erasure_whose_pod_is_killed_at_every_step_leaves_nothing_in_any_service() {
    // what stops each step, in their order
    const STEPS: [(&str, &str); 5] = [
        ("account", "auth.known_devices"),
        ("objects", STORE),
        ("data", "users.favorites"),
        ("announce", "users.outbox"),
        ("certificate", "users.erasure_log"),
    ];
    // whoever asks for a deletion here is deleted at once
    let world = World::start(|site| site.with("GDPR_DELETION_GRACE_DAYS", "0")).await;
    let mut core = world.core().await;
    let _business = world.business().await;
    let (ada, eve) = (
        world.sign_up("ada@example.com").await,
        world.sign_up("eve@example.com").await,
    );
    for who in [&ada, &eve] {
        world.shops(who).await;
        let asked = world.privacy(who, Method::POST, "/data-export").send().await.unwrap();
        assert_eq!(asked.status(), 201);
        world.export_of(who).await;
    }
    eventually("the account is known to its services", async || {
        let known = world.traces(&[&ada.id]).await;
        let tables = [
            "auth.users",
            "users.consents",
            "users.gdpr_requests",
            "voyage.search_history",
        ];
        tables.iter().all(|table| known.iter().any(|name| name == table))
    })
    .await;

    for (position, (step, place)) in STEPS.into_iter().enumerate() {
        let obstacle = world.obstruct(place).await;
        if position == 0 {
            let asking = world.privacy(&ada, Method::POST, "/data-deletion");
            let asked = asking.send().await.unwrap();
            assert_eq!(asked.status(), 201);
            // a pod looks for due erasures when it starts
            core.kill();
        }
        // the claim of the dead pod would hold for five minutes
        world
            .execute("update users.erasures set next_attempt_at = now() - interval '1 second'")
            .await;
        core = world.site.spawn("core-pod", &[]);
        let done = i64::try_from(position).unwrap();
        eventually(&format!("the erasure stands before {step}"), async || {
            assert!(core.ended().is_none(), "the pod ended by itself");
            let begun = world.count("select count(*) from users.erasures").await;
            let steps = world.count("select count(*) from users.erasure_steps").await;
            (begun, steps) == (1, done) && (place == STORE || world.is_waited_for(place).await)
        })
        .await;
        core.kill();
        world.clear(obstacle).await;
    }
    world
        .execute("update users.erasures set next_attempt_at = now() - interval '1 second'")
        .await;
    let _core = world.core().await;
    eventually("the erasure is over", async || {
        world.count("select count(*) from users.erasures").await == 0
    })
    .await;

    let texts = [ada.id.as_str(), ada.email.as_str()];
    eventually("every service has forgotten the account", async || {
        world.traces(&texts).await.is_empty()
    })
    .await;
    assert!(!world.can_sign_in(&ada.email).await);
    assert_eq!(world.stored_exports(&ada), 0);
    assert_eq!(world.count("select count(*) from users.erasure_log").await, 1);
    let told = "select count(*) from mail.messages where template = 'deletion-done'";
    assert_eq!(world.count(told).await, 1);
    let events = drain(world.kafka.bootstrap_servers(), Topic::UserDeleted.name(), 1).await;
    assert!(!events.is_empty(), "the others were told");
    for event in &events {
        assert_eq!(event["payload"]["userId"], ada.id.as_str());
        assert_eq!(event["eventId"], events[0]["eventId"], "a repetition is the same event");
    }

    assert!(world.can_sign_in(&eve.email).await);
    assert_eq!(world.stored_exports(&eve), 1);
    let others = world.traces(&[&eve.id]).await;
    assert!(others.contains(&"voyage.search_history".to_owned()), "{others:?}");
}

#[tokio::test]
async fn a_mail_whose_pod_is_killed_is_sent_by_the_next_one_and_recognisable_if_it_comes_twice() {
    let server = MailServer::start().await;
    let world = World::start(|site| {
        site.with("SMTP_HOST", "127.0.0.1")
            .with("SMTP_PORT", server.port.to_string())
            .with("SMTP_TLS", "none")
    })
    .await;
    // what the server never answered for is sent once; what it took and the pod could not note comes again (0049)
    for (email, moment, copies) in [
        ("ada@example.com", Moment::BeforeItIsTaken, 1),
        ("eve@example.com", Moment::OnceItIsTaken, 2),
    ] {
        server.stop_at(moment, email);
        let mut core = world.core().await;
        world.sign_up(email).await;
        eventually(&format!("the mail to {email} is being sent"), async || {
            server.has_stopped()
        })
        .await;
        core.kill();
        assert_eq!(server.message_ids(email).len(), copies - 1, "{email}");
        // its claim would hold for a minute
        world
            .execute("update mail.messages set next_attempt_at = now() - interval '1 second' where state = 'pending'")
            .await;

        let mut core = world.core().await;
        eventually(&format!("the mail to {email} is noted as sent"), async || {
            world
                .count("select count(*) from mail.messages where state = 'pending'")
                .await
                == 0
        })
        .await;
        let ids = server.message_ids(email);
        assert_eq!(ids.len(), copies, "{email}: {ids:?}");
        assert!(
            ids.iter().all(|id| id.starts_with('<') && *id == ids[0]),
            "{email}: {ids:?}"
        );
        core.kill();
    }
    let sent = "select count(*) from mail.messages where state = 'sent' and sealed is null";
    assert_eq!(world.count(sent).await, 2);
}

/// When the mail server falls silent.
#[derive(Clone, Copy, PartialEq)]
enum Moment {
    /// The client wants to hand the mail over.
    BeforeItIsTaken,
    /// The server has the mail, and has not said so.
    OnceItIsTaken,
}

#[derive(Default)]
struct Post {
    /// Falls silent once, for a mail to this address.
    stop: Option<(Moment, String)>,
    has_stopped: bool,
    /// Addresses and Message-IDs of what was taken.
    taken: Vec<(String, String)>,
}

/// A mail server that can fall silent in the middle of a mail.
#[derive(Clone)]
struct MailServer {
    port: u16,
    post: Arc<Mutex<Post>>,
}

impl MailServer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            post: Arc::default(),
        };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.converse(socket).await });
            }
        });
        server
    }

    fn stop_at(&self, moment: Moment, address: &str) {
        let mut post = self.post.lock().unwrap();
        post.stop = Some((moment, address.to_owned()));
        post.has_stopped = false;
    }

    fn has_stopped(&self) -> bool {
        self.post.lock().unwrap().has_stopped
    }

    fn message_ids(&self, address: &str) -> Vec<String> {
        let post = self.post.lock().unwrap();
        let to = post.taken.iter().filter(|(to, _)| to == address);
        to.map(|(_, id)| id.clone()).collect()
    }

    fn is_to_stop(&self, moment: Moment, address: &str) -> bool {
        let mut post = self.post.lock().unwrap();
        let stops = post
            .stop
            .as_ref()
            .is_some_and(|(at, of)| *at == moment && of == address);
        if stops {
            post.stop = None;
            post.has_stopped = true;
        }
        stops
    }

    async fn converse(&self, socket: TcpStream) -> Option<()> {
        let mut stream = BufStream::new(socket);
        say(&mut stream, "220 mail.example ready").await?;
        let mut to = String::new();
        loop {
            let line = hear(&mut stream).await?;
            let verb = line.split_whitespace().next().unwrap_or_default();
            let answer = match verb.to_ascii_uppercase().as_str() {
                "EHLO" => "250-mail.example\r\n250 8BITMIME",
                "RCPT" => {
                    let inside = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
                    inside.map_or("", |(inside, _)| inside).clone_into(&mut to);
                    "250 ok"
                }
                "DATA" => {
                    if self.is_to_stop(Moment::BeforeItIsTaken, &to) {
                        // silent until the client is gone
                        while hear(&mut stream).await.is_some() {}
                        return None;
                    }
                    say(&mut stream, "354 speak").await?;
                    let id = hear_mail(&mut stream).await?;
                    self.post.lock().unwrap().taken.push((to.clone(), id));
                    if self.is_to_stop(Moment::OnceItIsTaken, &to) {
                        while hear(&mut stream).await.is_some() {}
                        return None;
                    }
                    "250 taken"
                }
                "QUIT" => {
                    say(&mut stream, "221 bye").await?;
                    return None;
                }
                _ => "250 ok",
            };
            say(&mut stream, answer).await?;
        }
    }
}

async fn say(stream: &mut BufStream<TcpStream>, line: &str) -> Option<()> {
    stream.write_all(format!("{line}\r\n").as_bytes()).await.ok()?;
    stream.flush().await.ok()
}

async fn hear(stream: &mut BufStream<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await.ok()?;
    (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Hears a mail to its end; gives its Message-ID.
async fn hear_mail(stream: &mut BufStream<TcpStream>) -> Option<String> {
    let mut id = String::new();
    loop {
        let line = hear(stream).await?;
        if line == "." {
            return Some(id);
        }
        if let Some(found) = line.strip_prefix("Message-ID: ") {
            found.clone_into(&mut id);
        }
    }
}
