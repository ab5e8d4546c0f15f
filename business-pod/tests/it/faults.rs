//! The pod is killed after each step of checkout and payment, and started again: one charge, one booking, one event.
//!
//! contract: issue "Foundation" §5 (faults), events §8. The real program runs as a child process against a real database,
//! the double of Stripe and librdkafka's mock cluster; `FAULT_POINT` names the step after which it dies at once.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, Router, routing};
use devkit::{
    kafka::MockCluster,
    stripe::{Options, StripeDouble},
};
use http::Method;
use serde_json::{Value, json};
use shared::{
    Sources,
    auth::{
        Role,
        keys::KeySet,
        remote::Question,
        service::{IssuedEnvelope, IssuedToken, SERVICE_TOKEN_PATH},
        tokens::{Grant, Signer, TokenPolicy},
    },
    events::Topic,
    id::UserId,
};
use sqlx::{ConnectOptions as _, PgPool};

use crate::app::{Answer, GOOD_CARD};

/// Longer than anything may take, the expiry of a dead member of a consumer group included.
const PATIENCE: Duration = Duration::from_secs(90);

/// Everything round the pod, which outlives its deaths.
struct World {
    pool: PgPool,
    stripe: StripeDouble,
    token: String,
    core: String,
    http: reqwest::Client,
    base: String,
    settings: Vec<(&'static str, String)>,
    pod: Option<Child>,
    deaths: u32,
    _kafka: MockCluster,
    data: tempfile::TempDir,
}

impl World {
    /// A world whose pod dies at `fault`, once.
    async fn dying_at(fault: &str, pool: PgPool) -> Self {
        let stripe = StripeDouble::start(Options::default()).await.unwrap();
        let kafka = MockCluster::start().unwrap();
        for topic in Topic::ALL {
            kafka.create_topic(topic.name(), 1).unwrap();
            kafka.create_topic(&topic.dead_letters(), 1).unwrap();
        }
        let data = tempfile::tempdir().unwrap();
        let (auth_url, token, core) = auth_service().await;
        let [public, voyage, payment, ai, metrics] = free_ports();
        let settings = vec![
            (
                "PATH",
                std::env::var_os("PATH")
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
            ),
            ("DREAMSCAPE_DATA", data.path().to_string_lossy().into_owned()),
            ("DATABASE_URL", pool.connect_options().to_url_lossy().to_string()),
            ("KAFKA_BROKERS", kafka.bootstrap_servers().to_owned()),
            ("KAFKA_AUTO_OFFSET_RESET", "earliest".to_owned()),
            ("KAFKA_SESSION_TIMEOUT", "6000".to_owned()),
            ("KAFKA_HEARTBEAT_INTERVAL", "500".to_owned()),
            ("S3_ENDPOINT", "http://127.0.0.1:9".to_owned()),
            ("STRIPE_API_BASE", stripe.base_url().to_owned()),
            ("STRIPE_SECRET_KEY", stripe.secret_key().to_owned()),
            ("STRIPE_PUBLISHABLE_KEY", stripe.publishable_key().to_owned()),
            ("STRIPE_WEBHOOK_SECRET", stripe.webhook_secret().to_owned()),
            ("AUTH_SERVICE_URL", auth_url),
            ("SERVICE_CLIENT_SECRET", "a-secret-between-tests".to_owned()),
            ("RATE_LIMIT_MULTIPLIER", "1000".to_owned()),
            ("BUSINESS_PORT", public.to_string()),
            ("VOYAGE_PORT", voyage.to_string()),
            ("PAYMENT_PORT", payment.to_string()),
            ("AI_PORT", ai.to_string()),
            ("BUSINESS_METRICS_PORT", metrics.to_string()),
        ];
        let base = format!("http://127.0.0.1:{public}");
        stripe
            .webhooks()
            .set_url(Some(&format!("{base}/api/v1/payment/webhook")));
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        let mut world = Self {
            pool,
            stripe,
            token,
            core,
            http,
            base,
            settings,
            pod: None,
            deaths: 0,
            _kafka: kafka,
            data,
        };
        world.start(Some(fault)).await;
        world
    }

    async fn start(&mut self, fault: Option<&str>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_business-pod"));
        command
            .env_clear()
            .envs(self.settings.iter().map(|(name, value)| (*name, value.as_str())));
        command.envs(fault.map(|fault| ("FAULT_POINT", fault)));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.pod = Some(command.spawn().unwrap());
        let begun = Instant::now();
        while self
            .call(Method::GET, "/health/ready", None)
            .await
            .is_none_or(|answer| answer.status != 200)
        {
            assert!(begun.elapsed() < PATIENCE, "the pod does not get ready");
            assert!(!self.is_dead(), "the pod died while starting");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the pod says.
    fn log(&self) -> PathBuf {
        self.data.path().join("pod.log")
    }

    fn is_dead(&mut self) -> bool {
        self.pod.as_mut().is_none_or(|pod| pod.try_wait().unwrap().is_some())
    }

    /// Starts the pod again, healthy, if it has died.
    async fn revive(&mut self) {
        if self.is_dead() {
            self.deaths += 1;
            self.start(None).await;
        }
    }

    /// A call; `None` if the pod did not answer.
    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Option<Answer> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.ok()?;
        Some(Answer {
            status,
            headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        })
    }

    /// Calls until the answer has the wanted status, reviving the pod as a supervisor would.
    async fn insist(&mut self, method: Method, path: &str, body: Option<&Value>, status: u16) -> Answer {
        let begun = Instant::now();
        loop {
            let answer = self.call(method.clone(), path, body).await;
            if answer.as_ref().is_some_and(|answer| answer.status == status) {
                return answer.unwrap();
            }
            assert!(begun.elapsed() < PATIENCE, "{path}: {answer:?}");
            self.revive().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Puts a real offer into the cart and checks out.
    async fn checks_out(&mut self) -> (String, String) {
        let day = (Sources::system().now() + chrono::TimeDelta::days(60)).format("%Y-%m-%d");
        let search = format!(
            "/api/v1/flights/search?originLocationCode=CDG&destinationLocationCode=JFK&departureDate={day}&adults=1"
        );
        let found = self.insist(Method::GET, &search, None, 200).await;
        let offer = found.body.pointer("/data/0").expect("an offer").clone();
        let item = json!({
            "type": "FLIGHT", "itemId": offer["id"], "itemData": offer, "price": offer["price"]["total"],
            "currency": offer["price"]["currency"], "quantity": 1,
        });
        self.insist(Method::POST, "/api/v1/cart/items", Some(&item), 201).await;
        let checkout = self
            .insist(Method::POST, "/api/v1/cart/checkout", Some(&json!({})), 200)
            .await;
        (
            checkout.text("/data/bookingReference"),
            checkout.text("/data/payment/clientSecret"),
        )
    }

    /// Waits until the booking has this status, reviving the pod as often as it dies.
    async fn becomes(&mut self, reference: &str, status: &str) {
        let path = format!("/api/v1/bookings/{reference}");
        let begun = Instant::now();
        loop {
            let answer = self.call(Method::GET, &path, None).await;
            let found = answer
                .as_ref()
                .and_then(|answer| answer.body.pointer("/data/status"))
                .and_then(Value::as_str);
            // a pod that dies after the last step has to have died before the books are looked at
            if found == Some(status) && self.deaths > 0 {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{reference}: {answer:?} after {} deaths",
                self.deaths
            );
            self.revive().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the booking has this status while the pod lives.
    async fn reaches(&mut self, reference: &str, status: &str) {
        let path = format!("/api/v1/bookings/{reference}");
        let begun = Instant::now();
        while self.insist(Method::GET, &path, None, 200).await.body["data"]["status"] != status {
            assert!(begun.elapsed() < PATIENCE, "{reference} never was {status}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The core pod cancels the booking with a refund. `None` if the pod did not live to answer.
    async fn cancels_with_refund(&self, id: &str, reference: &str) -> Option<Answer> {
        let url = format!("{}/api/v1/internal/bookings/{id}/cancel", self.base);
        let body = json!({ "refund": true, "reason": "the hotel burnt down", "actor": Sources::system().uuid_v4() });
        let request = self
            .http
            .post(url)
            .bearer_auth(&self.core)
            .header("idempotency-key", format!("cancel:{reference}"))
            .json(&body);
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.ok()?;
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Some(Answer { status, headers, body })
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Waits until a query says 0.
    async fn none_left(&self, sql: &'static str) {
        let begun = Instant::now();
        while self.count(sql).await > 0 {
            assert!(begun.elapsed() < PATIENCE, "still: {sql}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(pod) = &mut self.pod {
            let _ = pod.kill();
            let _ = pod.wait();
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(25)..).unwrap_or_default();
            eprintln!("the pod's last words:\n{}", tail.join("\n"));
        }
    }
}

/// Free ports of loopback. All are held while they are looked for, so that they differ.
fn free_ports<const N: usize>() -> [u16; N] {
    let held = std::array::from_fn::<_, N, _>(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

/// The part of the auth service that the pod talks to, a traveller's token and the core pod's own.
async fn auth_service() -> (String, String, String) {
    let sources = Sources::system();
    let keys = KeySet::generate(&sources).unwrap();
    let jwks = serde_json::to_value(keys.jwks()).unwrap();
    let signer = Arc::new(Signer::new(keys, TokenPolicy::default(), sources.clone()));
    let user: UserId = sources.id();
    let grant = Grant {
        user,
        email: "ada@example.com".to_owned(),
        role: Role::User,
        session: sources.id(),
        amr: Vec::new(),
        auth_time: None,
    };
    let token = signer.access(&grant).unwrap();
    let core = signer.service("core-pod").unwrap();
    let router = Router::new()
        .route(
            "/.well-known/jwks.json",
            routing::get(move || async move { Json(jwks) }),
        )
        .route(
            SERVICE_TOKEN_PATH,
            routing::post(move || async move {
                let access_token = signer.service("business-pod").unwrap();
                let data = IssuedToken {
                    access_token,
                    token_type: "Bearer".to_owned(),
                    expires_in: 300,
                };
                Json(IssuedEnvelope {
                    success: true,
                    message: "ok".to_owned(),
                    data,
                })
            }),
        )
        .route(
            "/api/v1/auth/verify-token",
            routing::post(move |Json(question): Json<Question>| async move {
                let data = json!({ "user": { "id": user, "role": "USER" }, "session": { "id": question.sid } });
                Json(json!({ "success": true, "data": data }))
            }),
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, token, core)
}

/// One journey with one death.
async fn survives(fault: &str, pool: PgPool) {
    let mut world = World::dying_at(fault, pool).await;
    let (reference, secret) = world.checks_out().await;
    let (status, _) = world.stripe.pay_in_browser(&secret, GOOD_CARD).await.unwrap();
    assert_eq!(status, 200);
    world.becomes(&reference, "CONFIRMED").await;
    world
        .none_left("select count(*) from voyage.outbox where published_at is null")
        .await;
    world
        .none_left("select count(*) from payment.outbox where published_at is null")
        .await;

    assert_eq!(world.deaths, 1, "the pod died at {fault}");
    let intents = world.stripe.payment_intents();
    assert_eq!(intents.len(), 1, "one intent");
    let intent = intents[0]["id"].as_str().unwrap();
    assert_eq!(world.stripe.paid_charges_of(intent).len(), 1, "one charge");
    assert!(world.stripe.refunds_of(intent).is_empty());
    assert_eq!(
        world.count("select count(*) from voyage.bookings").await,
        1,
        "one booking"
    );
    for (topic, sql) in [
        (
            "booking.created",
            "select count(*) from voyage.outbox where topic = 'dreamscape.voyage.booking.created'",
        ),
        (
            "booking.confirmed",
            "select count(*) from voyage.outbox where topic = 'dreamscape.voyage.booking.confirmed'",
        ),
        (
            "payment.initiated",
            "select count(*) from payment.outbox where topic = 'dreamscape.payment.initiated'",
        ),
        (
            "payment.completed",
            "select count(*) from payment.outbox where topic = 'dreamscape.payment.completed'",
        ),
    ] {
        assert_eq!(world.count(sql).await, 1, "one {topic}");
    }
    assert_eq!(
        world.count("select count(*) from payment.ledger_entries").await,
        2,
        "one posting"
    );
}

macro_rules! the_pod_survives_a_death_at {
    ($($name:ident: $fault:literal;)+) => {$(
        #[sqlx::test(migrations = false)]
        async fn $name(pool: PgPool) {
            survives($fault, pool).await;
        }
    )+};
}

the_pod_survives_a_death_at! {
    a_death_after_the_booking_is_made_is_repaired: "checkout.booked";
    a_death_after_the_payment_row_is_made_is_repaired: "payment.row_inserted";
    a_death_after_stripe_made_the_intent_is_repaired: "payment.intent_created";
    a_death_before_the_intent_is_noted_is_repaired: "payment.row_completed";
    a_death_after_the_intent_is_noted_is_repaired: "payment.initiated";
    a_death_before_the_booking_knows_its_payment_is_repaired: "checkout.payment_started";
    a_death_before_the_checkout_is_answered_is_repaired: "checkout.payment_noted";
    a_death_before_the_webhook_commits_is_repaired: "webhook.settled";
    a_death_before_the_webhook_is_answered_is_repaired: "webhook.committed";
    a_death_after_the_supplier_order_is_repaired: "booking.ordered";
    a_death_after_the_confirmation_is_repaired: "booking.confirmed";
}

#[sqlx::test(migrations = false)]
async fn a_death_between_stripes_cancellation_and_ours_is_repaired(pool: PgPool) {
    let mut world = World::dying_at("payment.canceled_at_stripe", pool).await;
    let (reference, _) = world.checks_out().await;
    sqlx::query("update voyage.bookings set expires_at = now() - interval '1 second'")
        .execute(&world.pool)
        .await
        .unwrap();
    world.becomes(&reference, "FAILED").await;
    world
        .none_left("select count(*) from payment.payment_transactions where status <> 'CANCELED'")
        .await;

    assert_eq!(world.deaths, 1);
    let intents = world.stripe.payment_intents();
    assert_eq!((intents.len(), intents[0]["status"].as_str()), (1, Some("canceled")));
    let told = "select count(*) from payment.outbox where topic = 'dreamscape.payment.failed'";
    assert_eq!(world.count(told).await, 1, "one payment.failed");
}

/// An administrator's cancellation with one death in the middle: called again it completes, and there is one refund.
async fn cancels_through(fault: &str, pool: PgPool) {
    let mut world = World::dying_at(fault, pool).await;
    let (reference, secret) = world.checks_out().await;
    world.stripe.pay_in_browser(&secret, GOOD_CARD).await.unwrap();
    world.reaches(&reference, "CONFIRMED").await;
    let id: String = sqlx::query_scalar("select id::text from voyage.bookings")
        .fetch_one(&world.pool)
        .await
        .unwrap();

    let first = world.cancels_with_refund(&id, &reference).await;
    assert!(first.is_none(), "the pod answered: {first:?}");
    let begun = Instant::now();
    loop {
        world.revive().await;
        let again = world.cancels_with_refund(&id, &reference).await;
        let done = again.as_ref().is_some_and(|answer| match answer.status {
            200 => answer.body["data"]["refundStatus"] == "succeeded",
            // the worker was faster than the second call
            409 => answer.body["data"]["refundStatus"] == "succeeded",
            _ => false,
        });
        if done {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{again:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world
        .none_left("select count(*) from voyage.payment_tasks where done_at is null")
        .await;

    assert_eq!(world.deaths, 1, "the pod died at {fault}");
    let intents = world.stripe.payment_intents();
    assert_eq!(
        world.stripe.refunds_of(intents[0]["id"].as_str().unwrap()).len(),
        1,
        "one refund"
    );
    let told = "select count(*) from voyage.outbox where topic = 'dreamscape.voyage.booking.cancelled'";
    assert_eq!(world.count(told).await, 1, "one booking.cancelled");
    let kept = "select count(*) from voyage.bookings where status = 'CANCELLED' and refund_status = 'succeeded'";
    assert_eq!(world.count(kept).await, 1);
}

macro_rules! a_cancellation_survives_a_death_at {
    ($($name:ident: $fault:literal;)+) => {$(
        #[sqlx::test(migrations = false)]
        async fn $name(pool: PgPool) {
            cancels_through($fault, pool).await;
        }
    )+};
}

a_cancellation_survives_a_death_at! {
    a_death_between_cancellation_and_refund_is_repaired: "booking.admin_cancelled";
    a_death_after_the_refund_is_accepted_is_repaired: "payment.refund_accepted";
    a_death_between_stripes_refund_and_ours_is_repaired: "payment.refunded_at_stripe";
    a_death_before_the_cancellation_is_answered_is_repaired: "booking.admin_refunded";
}
