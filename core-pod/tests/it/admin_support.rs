//! The core pod beside a Business Pod: its schemas are real, from its own migrations; its internal API is played.

use std::path::Path;

use base64::Engine as _;
use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;
use wiremock::{Mock, MockServer, Request, ResponseTemplate, matchers};

use crate::support::{Call, Reply, TestApp, Traveller};

/// The core pod, an administrator, and what the Business Pod was asked.
pub struct AdminApp {
    pub app: TestApp,
    pub business: MockServer,
    pub grace: Traveller,
}

impl AdminApp {
    pub async fn start(pool: PgPool) -> Self {
        Self::with(pool, &[]).await
    }

    /// With these settings.
    pub async fn with(pool: PgPool, settings: &[(&str, &str)]) -> Self {
        // not one of the pool that all tests share: those belong to the runtime of another test
        let business = MockServer::builder().start().await;
        let address = business.uri();
        let mut all = vec![
            ("RATE_LIMIT_MULTIPLIER", "1000"),
            ("VOYAGE_SERVICE_URL", address.as_str()),
            ("PAYMENT_SERVICE_URL", address.as_str()),
        ];
        all.extend(settings);
        let app = TestApp::with(pool, &all).await;
        migrate(&app.pool, "voyage").await;
        migrate(&app.pool, "payment").await;
        let grace = promoted(&app, "grace@example.com", "ADMIN").await;
        Self { app, business, grace }
    }

    /// A call of the administrator.
    pub fn call(&self, method: Method, path: &str) -> Call {
        self.app
            .call(method, &format!("/api/v1/admin{path}"))
            .bearer(&self.grace.token)
    }

    /// What the administrator reads.
    #[track_caller]
    pub fn read(&self, path: &str) -> impl Future<Output = Value> {
        let (call, path) = (self.call(Method::GET, path), path.to_owned());
        async move {
            let reply = call.send().await;
            assert_eq!(reply.status, 200, "{path}: {}", reply.body);
            assert_eq!(reply.body["success"], true);
            reply.body["data"].clone()
        }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path).send().await
    }

    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.call(Method::PUT, path).json(&body).send().await
    }

    /// The text of a file that the administrator fetches.
    pub async fn file(&self, path: &str) -> (http::HeaderMap, String) {
        let reply = self.call(Method::GET, path).send_raw().await;
        // a long body uses up the task's turn, and the mock server's `drop` waits without giving it back
        tokio::task::yield_now().await;
        assert_eq!(reply.0, 200, "{path}");
        (reply.1, String::from_utf8(reply.2).unwrap())
    }

    /// Lets the Business Pod answer calls of a path with this.
    pub async fn business_answers(&self, method: &str, path: &str, status: u16, body: Value) {
        Mock::given(matchers::method(method))
            .and(matchers::path(format!("/api/v1/internal/{path}")))
            .respond_with(ResponseTemplate::new(status).set_body_json(body))
            .mount(&self.business)
            .await;
    }

    /// What the Business Pod was asked: method, path, body.
    pub async fn asked(&self) -> Vec<(String, String, Value)> {
        let requests = self.business.received_requests().await.unwrap();
        requests
            .iter()
            .map(|request| {
                assert_eq!(service_of(request), ("core-pod".to_owned(), "internal".to_owned()));
                let path = request.url.path().trim_start_matches("/api/v1/internal/").to_owned();
                (
                    request.method.to_string(),
                    path,
                    serde_json::from_slice(&request.body).unwrap(),
                )
            })
            .collect()
    }

    /// A booking, straight into its owner's table.
    pub async fn booking(&self, booking: Booking<'_>) -> String {
        let id = Uuid::from_u128(0xb00c_0000 + u128::from(booking.number));
        let items = json!([{
            "type": "FLIGHT", "itemId": "off_1", "itemData": booking.item, "quantity": 1,
            "lineTotalMinor": booking.minor, "cartItem": Uuid::nil(), "destination": booking.destination,
        }]);
        sqlx::query(
            "insert into voyage.bookings (id, reference, user_id, kind, status, payment_intent_id, total_minor, currency, items,
                                          expires_at, confirmed_at, created_at, updated_at)
             values ($1, $2, $3::uuid, $4, $5, $6, $7, $8, $9, now(),
                     case when $5 in ('CONFIRMED', 'COMPLETED') then $10::timestamptz end, $10::timestamptz, $10::timestamptz)",
        )
        .bind(id)
        .bind(format!("BOOK-20270115-{:05}", booking.number))
        .bind(booking.user)
        .bind(booking.kind)
        .bind(booking.status)
        .bind(booking.intent)
        .bind(booking.minor)
        .bind(booking.currency)
        .bind(items)
        .bind(booking.at)
        .execute(&self.app.pool)
        .await
        .unwrap();
        id.to_string()
    }

    /// A payment of a booking, straight into its owner's table; with `refunded`, so much was given back.
    pub async fn payment(&self, payment: Payment<'_>) -> String {
        let id = Uuid::from_u128(0x9a1d_0000 + u128::from(payment.number));
        let booking = Uuid::from_u128(0xb00c_0000 + u128::from(payment.number));
        let exponent: i16 = if payment.currency == "JPY" { 0 } else { 2 };
        sqlx::query(
            "insert into payment.payment_transactions (id, payment_intent_id, booking_id, booking_reference, user_id,
                                                       amount_minor, currency, currency_exponent, livemode, created_at, updated_at)
             values ($1, $2, $3, $4, $5::uuid, $6, $7, $8, false, $9::timestamptz, $9::timestamptz)",
        )
        .bind(id)
        .bind(format!("pi_{}", payment.number))
        .bind(booking)
        .bind(format!("BOOK-20270115-{:05}", payment.number))
        .bind(payment.user)
        .bind(payment.minor)
        .bind(payment.currency)
        .bind(exponent)
        .bind(payment.at)
        .execute(&self.app.pool)
        .await
        .unwrap();
        if payment.status == "PENDING" {
            return id.to_string();
        }
        let taken = matches!(payment.status, "SUCCEEDED" | "REFUNDED");
        let settled = "update payment.payment_transactions
                       set status = (case when $2 = 'REFUNDED' then 'SUCCEEDED' else $2 end)::payment.transaction_status,
                           captured_minor = $3, reserved_minor = $4, refunded_minor = $4 where id = $1";
        sqlx::query(settled)
            .bind(id)
            .bind(payment.status)
            .bind(if taken { payment.minor } else { 0 })
            .bind(payment.refunded)
            .execute(&self.app.pool)
            .await
            .unwrap();
        if payment.status == "REFUNDED" {
            sqlx::query("update payment.payment_transactions set status = 'REFUNDED' where id = $1")
                .bind(id)
                .execute(&self.app.pool)
                .await
                .unwrap();
        }
        id.to_string()
    }

    /// Searches of an account at a time.
    pub async fn searches(&self, user: &str, number: i32, at: &str) {
        sqlx::query(
            "insert into voyage.search_history (id, user_id, search_type, query, origin, destination, departure_date, adults,
                                                children, infants, cabin_class, results_count, searched_at)
             select gen_random_uuid(), $1::uuid, 'flight', 'x', 'CDG', 'JFK', '2027-03-01', 1, 0, 0, 'economy', 3, $3::timestamptz
             from generate_series(1, $2)",
        )
        .bind(user)
        .bind(number)
        .bind(at)
        .execute(&self.app.pool)
        .await
        .unwrap();
    }
}

/// A booking to be made.
pub struct Booking<'a> {
    pub number: u32,
    pub user: &'a str,
    pub kind: &'a str,
    pub status: &'a str,
    pub minor: i64,
    pub currency: &'a str,
    pub item: Value,
    pub destination: Option<&'a str>,
    pub intent: Option<&'a str>,
    pub at: &'a str,
}

impl Default for Booking<'_> {
    fn default() -> Self {
        Self {
            number: 1,
            user: "00000000-0000-0000-0000-00000000dead",
            kind: "FLIGHT",
            status: "CONFIRMED",
            minor: 10_000,
            currency: "EUR",
            item: json!({}),
            destination: None,
            intent: None,
            at: "2027-01-15T07:00:00Z",
        }
    }
}

/// A payment to be made.
pub struct Payment<'a> {
    pub number: u32,
    pub user: &'a str,
    pub status: &'a str,
    pub minor: i64,
    pub refunded: i64,
    pub currency: &'a str,
    pub at: &'a str,
}

impl Default for Payment<'_> {
    fn default() -> Self {
        Self {
            number: 1,
            user: "00000000-0000-0000-0000-00000000dead",
            status: "SUCCEEDED",
            minor: 10_000,
            refunded: 0,
            currency: "EUR",
            at: "2027-01-15T07:00:00Z",
        }
    }
}

/// Applies the migrations of a service of the Business Pod, whose crate this one does not know.
async fn migrate(pool: &PgPool, service: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../migrations")
        .join(service);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut conn = pool.acquire().await.unwrap();
    let schema = format!("create schema if not exists {service}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(schema))
        .execute(&mut *conn)
        .await
        .unwrap();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(text))
            .execute(&mut *conn)
            .await
            .unwrap();
    }
}

/// An account with a role.
pub async fn promoted(app: &TestApp, email: &str, role: &str) -> Traveller {
    app.register(email).await;
    sqlx::query("update auth.users set role = $1 where email = $2")
        .bind(role)
        .bind(email)
        .execute(&app.pool)
        .await
        .unwrap();
    app.login(email).await
}

/// Subject and audience of the token that a request came with.
fn service_of(request: &Request) -> (String, String) {
    let token = request.headers["authorization"]
        .to_str()
        .unwrap()
        .trim_start_matches("Bearer ");
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
    (text("sub"), text("aud"))
}
