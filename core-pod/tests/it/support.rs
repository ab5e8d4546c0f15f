//! The pod under test: real PostgreSQL, the in-process Redis, a clock that stands still, requests without a socket.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use chrono::{DateTime, TimeDelta, Utc};
use core_pod::{Config, CorePod, Services};
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use shared::{
    config::Reader,
    db::{
        Db,
        migrate::{self, Roles},
    },
    http::client_address::PeerAddress,
    pod::Pod as _,
    redis::Redis,
    sources::{Clock as _, FixedClock, Sources},
};
use sqlx::PgPool;
use tower::ServiceExt as _;

pub const PASSWORD: &str = "Passw0rd!";
/// Replicas of one platform sign with one key.
pub const ONE_KEY: (&str, &str) = (
    "JWT_KEYSET",
    r#"[{"kid":"a","seed":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","use":"sign"}]"#,
);
pub const OWN_ORIGIN: &str = "http://localhost:5173";

/// The core pod over one test's database.
pub struct TestApp {
    pub pool: PgPool,
    pub clock: Arc<FixedClock>,
    pub services: Services,
    pub config: Config,
    pub router: Router,
}

impl TestApp {
    /// With limits nobody reaches by accident.
    pub async fn start(pool: PgPool) -> Self {
        Self::with(pool, &[("RATE_LIMIT_MULTIPLIER", "1000")]).await
    }

    /// With these settings.
    pub async fn with(pool: PgPool, settings: &[(&str, &str)]) -> Self {
        let mut conn = pool.acquire().await.unwrap();
        migrate::run_on(&mut conn, &CorePod::migrations(), Roles::Ignore)
            .await
            .unwrap();
        drop(conn);
        Self::again(pool, settings)
    }

    /// Another replica over the same database.
    pub fn again(pool: PgPool, settings: &[(&str, &str)]) -> Self {
        Self::over(pool, settings, Redis::memory())
    }

    /// The same with this Redis.
    pub fn over(pool: PgPool, settings: &[(&str, &str)], redis: Redis) -> Self {
        // no test reaches an object store unless it starts one and says where it is
        let defaults = [
            ("DATABASE_URL", "postgres://test@localhost/test"),
            ("S3_ENDPOINT", "http://127.0.0.1:9"),
            ("S3_ACCESS_KEY", "access"),
            ("S3_SECRET_KEY", "secret"),
        ];
        let given: Vec<_> = settings.iter().map(|(name, _)| *name).collect();
        let missing = defaults.iter().filter(|(name, _)| !given.contains(name));
        let settings = settings
            .iter()
            .chain(missing)
            .map(|(name, value)| ((*name).into(), (*value).into()));
        let mut reader = Reader::from_pairs(settings);
        let config = Config::read(&mut reader);
        reader.finish().unwrap();
        let clock = FixedClock::at(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let entropy = Sources::system().entropy;
        let sources = Sources {
            clock: clock.clone(),
            entropy,
        };
        let (auth, user) = (Db::new(pool.clone()), Db::new(pool.clone()));
        let services = Services::over(&config, auth, user, redis, sources).unwrap();
        let router = services.router(&config.http);
        Self {
            pool,
            clock,
            services,
            config,
            router,
        }
    }

    /// The same behind the public listener: limits, hidden paths, the gateway's own routes, the way to the other pods.
    pub fn at_the_edge(mut self) -> Self {
        let tasks = shared::lifecycle::Tasks::new(shared::lifecycle::Shutdown::new());
        self.router = self.services.public(&self.config, &tasks).router;
        self
    }

    pub fn advance(&self, seconds: i64) {
        self.clock.advance(TimeDelta::seconds(seconds));
    }

    /// What the clock shows.
    pub fn time(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The same in seconds.
    pub fn now(&self) -> i64 {
        self.time().timestamp()
    }

    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    pub fn post(&self, path: &str) -> Call {
        self.call(Method::POST, path)
    }

    pub fn put(&self, path: &str) -> Call {
        self.call(Method::PUT, path)
    }

    pub fn delete(&self, path: &str) -> Call {
        self.call(Method::DELETE, path)
    }

    pub fn patch(&self, path: &str) -> Call {
        self.call(Method::PATCH, path)
    }

    pub fn call(&self, method: Method, path: &str) -> Call {
        let peer = IpAddr::from([203, 0, 113, 7]);
        let request = Request::builder().method(method).uri(path).extension(PeerAddress(peer));
        Call {
            router: self.router.clone(),
            request: request.body(Body::empty()).unwrap(),
        }
    }

    /// A call on another listener than that of `router`.
    pub fn on(&self, listener: &Router, method: Method, path: &str) -> Call {
        let router = listener.clone();
        Call {
            router,
            ..self.call(method, path)
        }
    }

    /// The service token of a pod.
    pub async fn service_token(&self, pod: &str) -> String {
        let secret = shared::auth::config::DEVELOPMENT_CLIENT_SECRET;
        let credentials = json!({ "clientId": pod, "clientSecret": secret });
        let issued = self.post("/api/v1/auth/service-token").json(&credentials).send().await;
        issued.body["data"]["accessToken"].as_str().unwrap().to_owned()
    }

    /// Signs a traveller up.
    pub async fn register(&self, email: &str) -> Traveller {
        let body = json!({ "email": email, "password": PASSWORD, "firstName": "Ada", "lastName": "Lovelace" });
        let reply = self.post("/api/v1/auth/register").json(&body).send().await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        Traveller::from(&reply)
    }

    /// Signs in again.
    pub async fn login(&self, email: &str) -> Traveller {
        let reply = self.try_login(email, PASSWORD).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        Traveller::from(&reply)
    }

    /// Signs in, or up if there is no such account yet.
    pub async fn login_or_register(&self, email: &str) -> Traveller {
        let reply = self.try_login(email, PASSWORD).await;
        if reply.status == 200 {
            Traveller::from(&reply)
        } else {
            self.register(email).await
        }
    }

    pub async fn try_login(&self, email: &str, password: &str) -> Reply {
        self.post("/api/v1/auth/login")
            .json(&json!({ "email": email, "password": password }))
            .send()
            .await
    }

    pub async fn profile(&self, token: &str) -> Reply {
        self.get("/api/v1/auth/profile").bearer(token).send().await
    }

    /// Event types and keys in the outbox of a schema, oldest first.
    pub async fn events(&self, schema: &str) -> Vec<(String, Value)> {
        let sql = format!("select topic, envelope from {schema}.outbox order by position");
        let rows: Vec<(String, Value)> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_all(&self.pool)
            .await
            .unwrap();
        rows.into_iter()
            .map(|(topic, envelope)| (topic.trim_start_matches("dreamscape.").to_owned(), envelope))
            .collect()
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    pub async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.pool).await.unwrap();
    }
}

/// What a browser holds.
#[derive(Debug, Clone)]
pub struct Traveller {
    pub id: String,
    pub token: String,
    pub refresh: String,
    pub session: String,
}

impl From<&Reply> for Traveller {
    fn from(reply: &Reply) -> Self {
        Self {
            id: reply.body["data"]["user"]["id"].as_str().unwrap_or_default().to_owned(),
            token: reply.token(),
            refresh: reply.cookie("refreshToken").unwrap(),
            session: reply.cookie("ds_session").unwrap(),
        }
    }
}

/// A request being made.
pub struct Call {
    router: Router,
    request: Request,
}

impl Call {
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.request.headers_mut().append(name, value.parse().unwrap());
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub fn cookie(self, name: &str, value: &str) -> Self {
        self.header("cookie", &format!("{name}={value}"))
    }

    pub fn own_page(self) -> Self {
        self.header("sec-fetch-site", "same-origin")
    }

    pub fn at_address(mut self, address: [u8; 4]) -> Self {
        self.request.extensions_mut().insert(PeerAddress(IpAddr::from(address)));
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.raw("application/json", body.to_string())
    }

    pub fn raw(mut self, content_type: &str, body: impl Into<Body>) -> Self {
        self.request
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        *self.request.body_mut() = body.into();
        self
    }

    /// The answer as bytes, for what is no JSON.
    pub async fn send_raw(self) -> (StatusCode, HeaderMap, Vec<u8>) {
        let response = self.router.oneshot(self.request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, bytes.to_vec())
    }

    /// The body alone; an error where it breaks off.
    pub async fn try_bytes(self) -> Result<axum::body::Bytes, axum::Error> {
        let response = self.router.oneshot(self.request).await.unwrap();
        Ok(response.into_body().collect().await?.to_bytes())
    }

    pub async fn send(self) -> Reply {
        let (method, path) = (self.request.method().clone(), self.request.uri().path().to_owned());
        let response = self.router.oneshot(self.request).await.unwrap();
        crate::conformance::record(&method, &path, response.status());
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Reply {
            status: parts.status,
            headers: parts.headers,
            body,
            text: String::from_utf8_lossy(&bytes).into_owned(),
            bytes,
        }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// As JSON; null if it is none.
    pub body: Value,
    pub text: String,
    /// As it came.
    pub bytes: axum::body::Bytes,
}

impl Reply {
    pub fn token(&self) -> String {
        self.body["data"]["tokens"]["accessToken"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The value a cookie was set to; empty when it was cleared.
    pub fn cookie(&self, name: &str) -> Option<String> {
        let line = self.cookie_line(name)?;
        line.split(';')
            .next()?
            .split_once('=')
            .map(|(_, value)| value.to_owned())
    }

    pub fn cookie_line(&self, name: &str) -> Option<String> {
        let lines = self
            .headers
            .get_all(header::SET_COOKIE)
            .iter()
            .filter_map(|line| line.to_str().ok());
        lines
            .into_iter()
            .find(|line| line.starts_with(&format!("{name}=")))
            .map(str::to_owned)
    }

    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> &Self {
        assert_eq!(
            (self.status.as_u16(), self.body["code"].as_str()),
            (status, Some(code)),
            "{}",
            self.body
        );
        assert_eq!(self.body["success"], false);
        assert!(self.body["message"].is_string() && self.body["error"].is_string());
        self
    }
}

/// Waits until `probe` says yes.
pub async fn eventually<F: AsyncFnMut() -> bool>(what: &str, mut probe: F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !probe().await {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
