//! The payment service under test: its own routes over HTTP, a real database, the double of Stripe, real tokens. The clock
//! stands still until a test moves it; bookings are what the test says they are.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use business_pod::{
    payment::{self, Payment, PaymentConfig, PaymentState, Payments, client::CreateIntent, events::PaymentConsumer},
    voyage::client::{BookingClient, BookingStatus, PayableBooking},
};
use chrono::{DateTime, TimeDelta, Utc};
use devkit::stripe::{Options, StripeDouble};
use serde_json::{Value, json};
use shared::{
    ApiError, Sources,
    auth::testing::Issuer,
    config::Reader,
    db::{
        Db,
        migrate::{Roles, run_on},
    },
    events::{Envelope, Topic, consumer::Handler as _},
    health::Health,
    http::{
        HttpConfig, Kit,
        limit::{LimitConfig, RateLimiter},
    },
    id::{BookingId, UserId},
    lifecycle::{Shutdown, Tasks},
    money::{Currency, Money},
    redis::Redis,
    sources::{Clock as _, FixedClock, SystemClock},
};
use sqlx::PgPool;

/// What everything costs.
pub const PRICE: i64 = 45_050;

/// The payment service and everything round it.
pub struct TestApp {
    /// The double of Stripe.
    pub stripe: StripeDouble,
    /// The service, for what is not reached over HTTP.
    pub payments: Payments,
    /// Its database.
    pub pool: PgPool,
    /// The service's clock.
    pub clock: Arc<FixedClock>,
    /// Signs travellers in.
    pub issuer: Issuer,
    bookings: Arc<Bookings>,
    base: String,
    http: reqwest::Client,
    sources: Sources,
}

/// How an app differs from the usual one.
pub struct Setup {
    /// Milliseconds for a call to Stripe.
    pub stripe_timeout: u64,
    /// Whether the double delivers webhooks.
    pub webhooks: bool,
    /// Raises every limit.
    pub limits: f64,
    /// Whether the service has keys at all.
    pub configured: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            stripe_timeout: 8000,
            webhooks: true,
            limits: 1000.0,
            configured: true,
        }
    }
}

/// Bookings as the voyage service would tell of them.
#[derive(Default)]
struct Bookings(Mutex<HashMap<String, PayableBooking>>);

#[async_trait]
impl BookingClient for Bookings {
    async fn payable(&self, reference_or_id: &str, user: UserId) -> Result<Option<PayableBooking>, ApiError> {
        let bookings = self.0.lock().unwrap();
        let found = bookings
            .values()
            .find(|booking| booking.reference == reference_or_id || booking.id.to_string() == reference_or_id);
        Ok(found.filter(|booking| booking.user == user).cloned())
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Value,
}

impl Answer {
    /// The answer, if it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    /// The code of a refusal with this status.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        let answer = self.expect(status);
        assert_eq!(answer.body["code"], code, "{}", answer.body);
        for key in ["success", "error", "message", "requestId", "timestamp"] {
            assert!(answer.body.get(key).is_some(), "no {key} in {}", answer.body);
        }
        answer
    }

    /// A text at a place in the body.
    #[track_caller]
    pub fn text(&self, pointer: &str) -> String {
        let found = self.body.pointer(pointer).and_then(Value::as_str);
        found
            .unwrap_or_else(|| panic!("no text at {pointer} in {}", self.body))
            .to_owned()
    }
}

/// An event as the outbox holds it.
#[derive(Debug)]
pub struct Published {
    pub topic: String,
    pub key: String,
    pub envelope: Value,
}

impl Published {
    /// Its payload.
    pub fn payload(&self) -> &Value {
        &self.envelope["payload"]
    }
}

/// A traveller who is signed in.
pub struct Traveller<'a> {
    app: &'a TestApp,
    pub user: UserId,
    token: String,
}

impl TestApp {
    /// The usual app.
    pub async fn start(pool: PgPool) -> Self {
        Self::start_with(pool, Setup::default()).await
    }

    /// Another app.
    pub async fn start_with(pool: PgPool, setup: Setup) -> Self {
        run_on(
            &mut pool.acquire().await.unwrap(),
            &[payment::migrations()],
            Roles::Ignore,
        )
        .await
        .unwrap();
        let stripe = StripeDouble::start(Options::default()).await.unwrap();
        let clock = FixedClock::at(SystemClock.now());
        let sources = Sources {
            clock: clock.clone(),
            ..Sources::system()
        };
        let issuer = Issuer::new();

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let config = Self::config(&stripe, &setup);
        let tasks = Tasks::new(Shutdown::new());
        let payments = Payments::new(&config, Db::new(pool.clone()), sources.clone(), tasks).unwrap();
        let bookings = Arc::new(Bookings::default());
        let limiter = RateLimiter::new(
            Redis::memory(),
            LimitConfig {
                multiplier: setup.limits,
            },
        );
        let state = PaymentState {
            payments: payments.clone(),
            authenticator: issuer.authenticator(),
            bookings: bookings.clone(),
            limits: payment::Limits::new(limiter, &config),
            origins: vec!["http://localhost:5173".to_owned()].into(),
        };
        let health = Health::new("payment-service", "1.0.0", payment::health::checks(&payments, None)).degraded_is_ok();
        let routes = payment::router(&state)
            .merge(payment::webhook_router(&payments))
            .merge(payment::internal_router(&state))
            .merge(payment::health::routes(&health));
        let router = Kit::new("payment-service", &HttpConfig::default(), None).wrap(routes);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        if setup.webhooks {
            stripe
                .webhooks()
                .set_url(Some(&format!("{base}/api/v1/payment/webhook")));
        }
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        Self {
            stripe,
            payments,
            pool,
            clock,
            issuer,
            bookings,
            base,
            http,
            sources,
        }
    }

    fn config(stripe: &StripeDouble, setup: &Setup) -> PaymentConfig {
        let mut pairs = vec![("STRIPE_TIMEOUT_MS", setup.stripe_timeout.to_string())];
        if setup.configured {
            pairs.extend([
                ("STRIPE_API_BASE", stripe.base_url().to_owned()),
                ("STRIPE_SECRET_KEY", stripe.secret_key().to_owned()),
                ("STRIPE_PUBLISHABLE_KEY", stripe.publishable_key().to_owned()),
                ("STRIPE_WEBHOOK_SECRET", stripe.webhook_secret().to_owned()),
            ]);
        }
        let mut reader = Reader::from_pairs(pairs.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let config = PaymentConfig::read(&mut reader);
        reader.finish().unwrap();
        config
    }

    /// Somebody new.
    pub fn traveller(&self) -> Traveller<'_> {
        let user: UserId = self.sources.id();
        Traveller {
            app: self,
            user,
            token: self.issuer.sign_in(user),
        }
    }

    /// A call; `token` as bearer, a JSON body if given.
    pub async fn call(&self, method: http::Method, path: &str, token: Option<&str>, body: Option<&Value>) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request).await
    }

    /// A request that a test has built itself.
    pub fn request(&self, method: http::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Sends it.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        Answer {
            status,
            headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    /// Delivers an event, signed with the right secret at the service's present.
    pub async fn deliver(&self, event: &Value) -> Answer {
        self.deliver_bytes(event.to_string().into_bytes()).await
    }

    /// Delivers any bytes, signed.
    pub async fn deliver_bytes(&self, body: Vec<u8>) -> Answer {
        let signature = devkit::stripe::sign(self.stripe.webhook_secret(), self.clock.now().timestamp(), &body);
        let request = self
            .request(http::Method::POST, "/api/v1/payment/webhook")
            .header("stripe-signature", signature)
            .header("content-type", "application/json")
            .body(body);
        self.send(request).await
    }

    /// What was published, in order; of one topic, if given.
    pub async fn published(&self, topic: Option<Topic>) -> Vec<Published> {
        let rows: Vec<(String, String, Value)> =
            sqlx::query_as("select topic, key, envelope::jsonb from payment.outbox order by position")
                .fetch_all(&self.pool)
                .await
                .unwrap();
        rows.into_iter()
            .map(|(topic, key, envelope)| Published { topic, key, envelope })
            .filter(|event| topic.is_none_or(|topic| topic.name() == event.topic))
            .collect()
    }

    /// The names of what was published, without `dreamscape.payment.`.
    pub async fn story(&self) -> Vec<String> {
        let events = self.published(None).await;
        events
            .iter()
            .map(|event| event.topic.replace("dreamscape.payment.", ""))
            .collect()
    }

    /// One text of the database.
    pub async fn one(&self, sql: &'static str) -> String {
        sqlx::query_scalar::<_, Option<String>>(sql)
            .fetch_one(&self.pool)
            .await
            .unwrap()
            .unwrap_or_default()
    }

    /// Waits until the payment of a PaymentIntent has this status.
    pub async fn becomes(&self, intent: &str, status: &str) {
        let deadline = std::time::Instant::now() + Duration::from_secs(15);
        loop {
            let found: Option<String> = sqlx::query_scalar(
                "select status::text from payment.payment_transactions where payment_intent_id = $1",
            )
            .bind(intent)
            .fetch_optional(&self.pool)
            .await
            .unwrap();
            if found.as_deref() == Some(status) {
                return;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "{intent} is {found:?}, not {status}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until every webhook was taken.
    pub async fn quiet(&self) {
        assert!(
            self.stripe.webhooks().settled(Duration::from_secs(20)).await,
            "webhooks still on their way"
        );
    }

    /// Moves the service's clock.
    pub fn later(&self, step: TimeDelta) {
        self.clock.advance(step);
    }

    /// Lets the service consume an event from another service.
    pub async fn consume(&self, topic: Topic, payload: Value) {
        let envelope = Envelope {
            event_id: self.sources.uuid_v4().to_string(),
            event_type: topic.event_type().to_owned(),
            timestamp: shared::sources::iso_millis(self.clock.now()),
            version: "1.0".to_owned(),
            source: "voyage-service".to_owned(),
            correlation_id: None,
            causation_id: None,
            metadata: None,
            payload,
        };
        let consumer = PaymentConsumer(self.payments.clone());
        let db = Db::<Payment>::new(self.pool.clone());
        let mut tx = db.begin().await.unwrap();
        consumer.handle(&mut tx, topic, &envelope).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// Money of all ledger entries per account: debits less credits.
    pub async fn balances(&self) -> HashMap<String, i64> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "select account.name, sum(case side when 'debit' then minor else -minor end)::bigint
             from payment.ledger_entries join payment.ledger_accounts account on account.id = account_id
             group by account.name",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        rows.into_iter().collect()
    }
}

impl Traveller<'_> {
    /// A booking that can be paid.
    pub fn books(&self, minor: i64) -> PayableBooking {
        let id: BookingId = self.app.sources.id();
        let expires_at: DateTime<Utc> = self.app.clock.now() + TimeDelta::minutes(30);
        let booking = PayableBooking {
            id,
            reference: format!("BOOK-20260101-{:05X}", id.0.as_u128() & 0xF_FFFF_FFFF),
            user: self.user,
            amount: Money::new(minor, Currency::EUR),
            status: BookingStatus::Draft,
            expires_at,
            payable: true,
        };
        self.app
            .bookings
            .0
            .lock()
            .unwrap()
            .insert(booking.reference.clone(), booking.clone());
        booking
    }

    /// The body that starts the payment of a booking.
    pub fn body(&self, booking: &PayableBooking) -> Value {
        json!({
            "amount": booking.amount.minor, "currency": booking.amount.currency.lower(),
            "bookingId": booking.reference, "bookingReference": booking.reference, "userId": self.user,
        })
    }

    /// Starts the payment of a booking.
    pub async fn starts(&self, booking: &PayableBooking) -> Started {
        let answer = self
            .post("/api/v1/payment/create-intent", &self.body(booking))
            .await
            .expect(200);
        Started {
            intent: answer.text("/data/paymentIntentId"),
            secret: answer.text("/data/clientSecret"),
        }
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.app
            .call(http::Method::POST, path, Some(&self.token), Some(body))
            .await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.app.call(http::Method::GET, path, Some(&self.token), None).await
    }

    /// A POST with an idempotency key.
    pub async fn post_once(&self, path: &str, key: &str, body: &Value) -> Answer {
        let request = self
            .app
            .request(http::Method::POST, path)
            .bearer_auth(&self.token)
            .header("idempotency-key", key)
            .json(body);
        self.app.send(request).await
    }
}

/// A payment that the browser can confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    pub intent: String,
    pub secret: String,
}

/// What voyage asks payment for a booking, in process.
pub fn create(booking: &PayableBooking) -> CreateIntent {
    CreateIntent {
        booking: booking.id,
        reference: booking.reference.clone(),
        user: booking.user,
        amount: booking.amount,
        metadata: std::collections::BTreeMap::new(),
    }
}

/// A card that is taken.
pub const GOOD_CARD: &str = "4242424242424242";
/// A card that is declined.
pub const BAD_CARD: &str = "4000000000000002";
