//! Voyage over real HTTP and a real database, and the travellers who call it.

use std::{sync::Arc, time::Duration};

use business_pod::{
    payment::client::PaymentClient,
    voyage::{
        self, PricePolicy, Voyage, VoyageConfig, VoyageParts, VoyageState, Wake, reconcile,
        search::{SearchConfig, SearchState},
        supply::{
            Offers, Router,
            flight::{Cabin, FlightFilters, FlightOffer, FlightQuery, Passengers},
            provider::Flights as _,
        },
    },
};
use chrono::TimeDelta;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::{
    Sources,
    auth::testing::Issuer,
    db::Db,
    events::{
        Envelope, Topic,
        consumer::{Failure, Handler as _},
    },
    http::{
        HttpConfig, Kit,
        limit::{LimitConfig, RateLimiter},
    },
    id::UserId,
    lifecycle::{Shutdown, Tasks},
    money::Currency,
    redis::Redis,
    sources::FixedClock,
};
use sqlx::PgPool;

use crate::voyage_fakes::{BentSupply, FakePayments};

/// A running voyage service.
pub struct World {
    /// Its state, as its workers see it.
    pub state: VoyageState,
    /// Its clock.
    pub clock: Arc<FixedClock>,
    /// The payment service.
    pub payments: Arc<FakePayments>,
    /// The supplier.
    pub supply: Arc<BentSupply>,
    /// Signs travellers in.
    pub issuer: Issuer,
    /// Its database.
    pub pool: PgPool,
    base: String,
    http: reqwest::Client,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Value,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
}

impl Answer {
    /// Fails the test unless the status is this; gives the body.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{:#}", self.body);
        self.body
    }

    /// Fails the test unless it is this refusal in the contract's shape.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!(
            (self.status.as_u16(), self.body["code"].as_str()),
            (status, Some(code)),
            "{:#}",
            self.body
        );
        assert_eq!(self.body["success"], false);
        assert!(
            self.body["error"].is_string() && self.body["message"].is_string(),
            "{:#}",
            self.body
        );
        self.body
    }

    /// The value of the anonymous cart's cookie, if the answer sets one.
    pub fn guest_cookie(&self) -> Option<String> {
        let cookies = self
            .headers
            .get_all("set-cookie")
            .iter()
            .filter_map(|value| value.to_str().ok());
        let pair = cookies
            .filter_map(|cookie| cookie.split(';').next())
            .find(|pair| pair.starts_with("ds_guest="))?;
        Some(pair.to_owned())
    }
}

impl World {
    /// A service with lenient prices, as in development.
    pub async fn start(pool: PgPool) -> Self {
        Self::with(pool, |config| config.price_policy = PricePolicy::Lenient).await
    }

    /// A service with these settings.
    pub async fn with(pool: PgPool, change: impl FnOnce(&mut VoyageConfig)) -> Self {
        let fake = Arc::new(FakePayments::default());
        Self::over(pool, fake.clone(), fake, change).await
    }

    /// A service with the real payment service beside it.
    pub async fn paying_with(pool: PgPool, payments: Arc<dyn PaymentClient>) -> Self {
        Self::over(pool, Arc::default(), payments, |config| {
            config.price_policy = PricePolicy::Lenient;
        })
        .await
    }

    async fn over(
        pool: PgPool,
        fake: Arc<FakePayments>,
        payments: Arc<dyn PaymentClient>,
        change: impl FnOnce(&mut VoyageConfig),
    ) -> Self {
        voyage::migrations().migrator.run(&pool).await.unwrap();
        let clock = FixedClock::at("2026-11-23T10:05:00Z".parse().unwrap());
        let sources = Sources {
            clock: clock.clone(),
            ..Sources::system()
        };
        let issuer = Issuer::with_sources(sources.clone()).unwrap();
        let supply = Arc::new(BentSupply::default());
        let mut config = VoyageConfig {
            secure_cookies: false,
            ..VoyageConfig::default()
        };
        config.anonymous_rule.max = 100_000;
        config.user_rule.max = 100_000;
        change(&mut config);
        let limiter = RateLimiter::new(Redis::memory(), LimitConfig::default());
        let (db, auth, providers) = (
            Db::<Voyage>::new(pool.clone()),
            issuer.authenticator(),
            Router::new(vec![supply.clone()]),
        );
        let search = SearchState::new(
            db.clone(),
            providers.clone(),
            auth.clone(),
            limiter.clone(),
            sources.clone(),
            SearchConfig::default(),
        );
        let state = VoyageState::from(VoyageParts {
            db,
            sources,
            auth,
            payments,
            offers: Offers::new(providers),
            search,
            tasks: Tasks::new(Shutdown::new()),
            limiter,
            config: Arc::new(config),
            wake: Wake::default(),
        });
        let (routes, _) = voyage::router(&state).split_for_parts();
        let app = Kit::new("voyage", &HttpConfig::default(), None).wrap(
            routes
                .merge(voyage::token_only_router(&state))
                .merge(voyage::internal_router(&state)),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        Self {
            state,
            clock,
            payments: fake,
            supply,
            issuer,
            pool,
            base,
            http,
        }
    }

    /// A signed-in traveller.
    pub fn traveller(&self, number: u128) -> Traveller<'_> {
        let user = UserId(uuid::Uuid::from_u128(number));
        Traveller {
            world: self,
            user,
            token: Some(self.issuer.sign_in(user)),
            cookie: None,
        }
    }

    /// Another service of the platform.
    pub fn service(&self, name: &str) -> Traveller<'_> {
        Traveller {
            world: self,
            user: UserId(uuid::Uuid::nil()),
            token: Some(self.issuer.service(name)),
            cookie: None,
        }
    }

    /// A browser without an account.
    pub fn browser(&self) -> Traveller<'_> {
        Traveller {
            world: self,
            user: UserId(uuid::Uuid::nil()),
            token: None,
            cookie: None,
        }
    }

    /// The cheapest flight from Paris to Rome in a month, for so many adults.
    pub async fn offer(&self, adults: u8) -> FlightOffer {
        let query = FlightQuery {
            origins: vec!["CDG".parse().unwrap()],
            destinations: vec!["FCO".parse().unwrap()],
            departure: "2026-12-20".parse().unwrap(),
            return_date: None,
            passengers: Passengers::new(adults, 0, 0).unwrap(),
            cabin: Cabin::Economy,
            currency: Currency::EUR,
            filters: FlightFilters::default(),
        };
        let offers = self.supply.search(&query, self.state.sources.now()).await.unwrap();
        let cheapest = offers
            .into_iter()
            .min_by(|one, other| one.price.total.total_cmp(&other.price.total))
            .unwrap();
        let mut conn = self.pool.acquire().await.unwrap();
        let now = self.state.sources.now();
        self.state
            .offers
            .remember(&mut conn, std::slice::from_ref(&cheapest), now)
            .await
            .unwrap();
        cheapest
    }

    /// Moves the clock.
    pub fn advance(&self, step: TimeDelta) {
        self.clock.advance(step);
    }

    /// Lets the background do everything that is due.
    pub async fn settle(&self) {
        reconcile::run_prompt(&self.state).await.unwrap();
        reconcile::run_round(&self.state).await.unwrap();
        reconcile::run_prompt(&self.state).await.unwrap();
    }

    /// Delivers an event as the consumer does: inbox row, effects, commit.
    pub async fn deliver(&self, topic: Topic, event: &Envelope) -> Result<(), Failure> {
        let handler = voyage::handler(&self.state);
        let mut tx = self.state.db.begin().await.unwrap();
        let fresh = sqlx::query(
            "insert into voyage.inbox (consumer_group, event_id, topic) values ($1, $2, $3) on conflict do nothing",
        )
        .bind(handler.group())
        .bind(&event.event_id)
        .bind(topic.name())
        .execute(&mut *tx)
        .await
        .unwrap();
        if fresh.rows_affected() == 0 {
            return Ok(());
        }
        handler.handle(&mut tx, topic, event).await?;
        tx.commit().await.unwrap();
        handler.committed(topic, event).await;
        Ok(())
    }

    /// Delivers everything the real payment service has published so far, in order; what was delivered before is known.
    pub async fn hear_payment(&self) {
        let rows: Vec<(String, Value)> =
            sqlx::query_as("select topic, envelope::jsonb from payment.outbox order by position")
                .fetch_all(&self.pool)
                .await
                .unwrap();
        for (topic, envelope) in rows {
            let (topic, event) = (
                Topic::from_name(&topic).unwrap(),
                serde_json::from_value(envelope).unwrap(),
            );
            self.deliver(topic, &event).await.unwrap();
        }
        self.settle().await;
    }

    /// An event of the payment service.
    pub fn event(&self, topic: Topic, payload: Value) -> Envelope {
        Envelope {
            event_id: self.state.sources.uuid_v4().to_string(),
            event_type: topic.event_type().to_owned(),
            timestamp: "2026-11-23T10:05:00.000Z".to_owned(),
            version: "1.0".to_owned(),
            source: "payment-service".to_owned(),
            correlation_id: None,
            causation_id: None,
            metadata: None,
            payload,
        }
    }

    /// What payment would publish of this payment's success.
    pub fn completed(&self, intent: &str) -> Envelope {
        let view = self.payments.view(intent);
        self.event(
            Topic::PaymentCompleted,
            json!({
                "paymentId": intent, "bookingId": view.booking_reference, "bookingReference": view.booking_reference,
                "userId": view.user, "amount": view.amount.major(), "currency": view.amount.currency,
                "transactionId": "ch_1", "completedAt": "2026-11-23T10:05:00.000Z",
            }),
        )
    }

    /// What payment would publish of a decline of this payment.
    pub fn declined(&self, intent: &str) -> Envelope {
        let view = self.payments.view(intent);
        self.event(
            Topic::PaymentFailed,
            json!({
                "paymentId": intent, "bookingId": view.booking_reference, "userId": view.user,
                "amount": view.amount.major(), "currency": view.amount.currency, "errorCode": "card_declined",
                "errorMessage": "Your card was declined.", "attempt": 1, "terminal": false,
            }),
        )
    }

    /// What payment would publish of a full refund of this payment.
    pub fn refunded(&self, intent: &str) -> Envelope {
        let view = self.payments.view(intent);
        self.event(
            Topic::PaymentRefunded,
            json!({
                "paymentId": intent, "bookingId": view.booking_reference, "userId": view.user,
                "refundAmount": view.amount.major(), "currency": view.amount.currency, "refundId": "re_1",
            }),
        )
    }

    /// The events in the outbox under this topic, oldest first.
    pub async fn published(&self, topic: Topic) -> Vec<Value> {
        let rows: Vec<(Value,)> =
            sqlx::query_as("select envelope from voyage.outbox where topic = $1 order by position")
                .bind(topic.name())
                .fetch_all(&self.pool)
                .await
                .unwrap();
        rows.into_iter()
            .map(|(envelope,)| envelope["payload"].clone())
            .collect()
    }

    /// The state of a booking, as stored.
    pub async fn status(&self, reference: &str) -> String {
        let row: (String,) = sqlx::query_as("select status from voyage.bookings where reference = $1")
            .bind(reference)
            .fetch_one(&self.pool)
            .await
            .unwrap();
        row.0
    }

    /// How many rows a query counts.
    pub async fn count(&self, query: &'static str) -> i64 {
        let row: (i64,) = sqlx::query_as(query).fetch_one(&self.pool).await.unwrap();
        row.0
    }
}

/// A caller: signed in, or a browser with at most a cookie.
pub struct Traveller<'a> {
    world: &'a World,
    /// The account.
    pub user: UserId,
    token: Option<String>,
    cookie: Option<String>,
}

impl Traveller<'_> {
    /// Holds this cookie from now on.
    pub fn keep(&mut self, answer: &Answer) {
        if let Some(cookie) = answer.guest_cookie() {
            self.cookie = Some(cookie);
        }
    }

    /// The same browser, signed in.
    pub fn take_cookie_of(&mut self, other: &Traveller<'_>) {
        self.cookie.clone_from(&other.cookie);
    }

    /// Calls with a body of bytes.
    pub async fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>, key: Option<&str>) -> Answer {
        let mut request = self.world.http.request(method, format!("{}{path}", self.world.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        Answer {
            status,
            headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None, None).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None, None).await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(body.to_string().into_bytes()), None)
            .await
    }

    /// `PUT` of JSON.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, Some(body.to_string().into_bytes()), None)
            .await
    }

    /// Puts an offer into the cart, as the web client does: total price, number of travellers.
    pub async fn add_flight(&self, offer: &FlightOffer) -> Value {
        let travellers = offer.passengers().total();
        let body = json!({
            "type": "FLIGHT", "itemId": offer.id, "itemData": offer, "price": offer.price.total, "quantity": travellers,
            "currency": offer.price.currency,
        });
        self.post("/api/v1/cart/items", &body).await.expect(201)
    }

    /// Puts something that nobody quoted into the cart.
    pub async fn add_stay(&self, price: f64) -> Value {
        let body = json!({
            "type": "hotel", "itemId": "hotel-1", "itemData": { "name": "Inn", "checkInDate": "2027-01-02" }, "price": price,
        });
        self.post("/api/v1/cart/items", &body).await.expect(201)
    }

    /// Checks out and gives reference and payment intent.
    pub async fn checkout(&self) -> (String, String) {
        let body = self.post("/api/v1/cart/checkout", &json!({})).await.expect(200);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (
            text(&body["data"]["bookingReference"]),
            text(&body["data"]["payment"]["paymentIntentId"]),
        )
    }

    /// A booking of one flight, unpaid.
    pub async fn has_booking(&self) -> (String, String) {
        let offer = self.world.offer(1).await;
        self.add_flight(&offer).await;
        self.checkout().await
    }
}
