//! The HTTP side: keys, versions, idempotency, faults, and the answers with Stripe's headers.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Extension, Request, State as Shared},
    response::{IntoResponse as _, Response},
    routing::get,
};
use base64::Engine as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde_json::{Value, json};

use super::{
    API_VERSION, Inner, Recorded,
    calls::{self, Call},
    challenge,
    error::Failure,
    faults::Fault,
    form::Params,
    state::{Cause, KEEP_KEYS, Kept},
};
use crate::{chance, server::Connection};

const MAX_BODY: usize = 1024 * 1024;

/// The routes of the double.
pub(super) fn router(inner: Arc<Inner>) -> Router {
    Router::new()
        .route("/3d_secure/{intent}", get(challenge::page).post(challenge::finish))
        .fallback(entry)
        .with_state(inner)
}

/// What becomes of a call.
enum Reaction {
    Answer(Response),
    Silence,
    Reset,
}

async fn entry(
    Shared(inner): Shared<Arc<Inner>>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method == Method::OPTIONS {
        return preflight();
    }
    let Ok(body) = axum::body::to_bytes(body, MAX_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    // On its own task: a caller that hangs up does not undo what it has asked for.
    let work = tokio::spawn(react(inner, parts.method, parts.uri, parts.headers, body));
    match work.await {
        Ok(Reaction::Answer(response)) => response,
        Ok(Reaction::Silence) => std::future::pending().await,
        Ok(Reaction::Reset) => {
            connection.reset();
            std::future::pending().await
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn react(inner: Arc<Inner>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Reaction {
    let mut exchange = Exchange {
        request: format!("req_{}", chance::alphanumeric(14)),
        version: API_VERSION.to_owned(),
        key: None,
        original: None,
    };
    let fault = inner.faults.take(&method, uri.path());
    if let Some(fault) = fault.filter(|fault| fault.is_before()) {
        inner.record(&method, uri.path(), &headers, Value::Null, None);
        return match fault {
            Fault::Timeout => Reaction::Silence,
            Fault::ConnectionReset => Reaction::Reset,
            Fault::RateLimited => Reaction::Answer(exchange.refuse(&Failure::rate_limited())),
            _ => Reaction::Answer(exchange.refuse(&Failure::server(true))),
        };
    }
    let call = read(&inner, &method, &uri, &headers, &body, &mut exchange);
    let params = call.as_ref().map_or(Value::Null, |call| call.params.as_value());
    let response = match call {
        Err(failure) => exchange.refuse(&failure),
        Ok(call) => perform(&inner, call, uri.path(), fault, &mut exchange).await,
    };
    inner.record(&method, uri.path(), &headers, params, Some(response.status().as_u16()));
    match fault {
        Some(Fault::TimeoutAfterCommit) => Reaction::Silence,
        Some(Fault::ConnectionResetAfterCommit) => Reaction::Reset,
        _ => Reaction::Answer(response),
    }
}

/// Reads a call: version, key, parameters.
fn read(
    inner: &Inner,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
    exchange: &mut Exchange,
) -> Result<Call, Failure> {
    if let Some(version) = text(headers, "stripe-version") {
        let date = version.split('.').next().unwrap_or_default();
        if chrono::NaiveDate::parse_from_str(date, "%Y-%m-%d").is_err() {
            return Err(Failure::request(&format!("Invalid Stripe API version: {version}")));
        }
        exchange.version = version;
    }
    let form = text(headers, "content-type").is_none_or(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    if *method == Method::POST && !body.is_empty() && !form {
        let message = "Invalid request (check that your POST content type is application/x-www-form-urlencoded). If you \
                       have questions, we can help at https://support.stripe.com/.";
        return Err(Failure::request(message));
    }
    let params = Params::parse(uri.query().unwrap_or_default(), body)?;
    let browser = authenticate(inner, headers, &params)?;
    let Some(path) = uri.path().strip_prefix("/v1/") else {
        return Err(Failure::unknown_route(method.as_str(), uri.path()));
    };
    if *method == Method::POST {
        exchange.key = text(headers, "idempotency-key").filter(|key| !key.is_empty());
    }
    if exchange.key.as_ref().is_some_and(|key| key.len() > 255) {
        return Err(Failure::request("Idempotency keys can be at most 255 characters long."));
    }
    Ok(Call {
        method: method.clone(),
        segments: path.trim_end_matches('/').split('/').map(str::to_owned).collect(),
        params,
        browser,
        cause: Cause {
            request: Some(exchange.request.clone()),
            idempotency_key: exchange.key.clone(),
        },
        base: inner.base.clone(),
    })
}

/// Whether the key is the publishable one (`true`) or the secret one. Only test keys, only ours.
fn authenticate(inner: &Inner, headers: &HeaderMap, params: &Params) -> Result<bool, Failure> {
    let given = text(headers, "authorization").and_then(|value| credentials(&value));
    let given = match given {
        Some(given) => given,
        None => params.clone().text("key")?.unwrap_or_default(),
    };
    if given.is_empty() {
        let message = "You did not provide an API key. You need to provide your API key in the Authorization header, using \
                       Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See \
                       https://stripe.com/docs/api#authentication for details.";
        return Err(Failure::unauthorized(message.to_owned()));
    }
    if given == inner.secret_key {
        return Ok(false);
    }
    if given == inner.publishable_key {
        return Ok(true);
    }
    if given.contains("_live_") {
        let message = "Live keys are refused: this is a double of Stripe for development and tests.".to_owned();
        return Err(Failure::unauthorized(message));
    }
    let start: String = given.chars().take(8).collect();
    Err(Failure::unauthorized(format!("Invalid API Key provided: {start}****")))
}

fn credentials(value: &str) -> Option<String> {
    if let Some(token) = value.strip_prefix("Bearer ") {
        return Some(token.trim().to_owned());
    }
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(value.strip_prefix("Basic ")?.trim())
        .ok()?;
    let pair = String::from_utf8(decoded).ok()?;
    pair.split(':').next().map(str::to_owned)
}

/// Does the work once per idempotency key.
async fn perform(inner: &Inner, mut call: Call, path: &str, fault: Option<Fault>, exchange: &mut Exchange) -> Response {
    let signature = json!({"method": call.method.as_str(), "path": path, "params": call.params.as_value()});
    let claim = match exchange
        .key
        .clone()
        .map(|key| inner.claim(&key, &signature))
        .transpose()
    {
        Err(failure) => return exchange.refuse(&failure),
        Ok(Some(Claimed::Before(kept))) => return exchange.replay(&kept),
        Ok(Some(Claimed::Now(claim))) => Some(claim),
        Ok(None) => None,
    };
    if let Some(Fault::Slow(wait)) = fault {
        tokio::time::sleep(wait).await;
    }
    let (response, events) = {
        let mut state = inner.state();
        let mut outcome = calls::execute(&mut state, &mut call);
        let mut executed = outcome.as_ref().map_or_else(Failure::executed, |_| true);
        if fault == Some(Fault::ServerErrorAfterCommit) {
            (outcome, executed) = (Err(Failure::server(false)), true);
        }
        let (status, body) = match &outcome {
            Ok(object) => (StatusCode::OK, object.clone()),
            Err(failure) => (failure.status(), json!({"error": exchange.error(failure)})),
        };
        if let Some(key) = exchange.key.clone().filter(|_| executed) {
            let created = state.now();
            let (request, status, body) = (exchange.request.clone(), status.as_u16(), body.clone());
            state.save_answer(Kept {
                key,
                created,
                call: signature,
                request,
                status,
                body,
            });
        }
        state.flush();
        let retry = outcome.err().and_then(|failure| failure.retry());
        (
            exchange.answer(status, &body, retry),
            std::mem::take(&mut state.outgoing),
        )
    };
    drop(claim);
    inner.announce(events);
    response
}

/// What is known of an idempotency key.
pub(super) enum Claimed {
    /// It has an answer.
    Before(Box<Kept>),
    /// It is ours until the guard is dropped.
    Now(Claim),
}

/// An idempotency key in use.
pub(super) struct Claim {
    key: String,
    inner: Arc<std::sync::Mutex<std::collections::HashSet<String>>>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.inner
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .remove(&self.key);
    }
}

impl Inner {
    fn claim(&self, key: &str, signature: &Value) -> Result<Claimed, Failure> {
        let mut in_use = self
            .keys_in_use
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if in_use.contains(key) {
            return Err(Failure::key_in_use(key));
        }
        let state = self.state();
        let kept = state
            .kept
            .get(key)
            .filter(|kept| kept.created + KEEP_KEYS > state.now());
        if let Some(kept) = kept {
            if kept.call != *signature {
                return Err(Failure::key_reused(key));
            }
            return Ok(Claimed::Before(Box::new(kept.clone())));
        }
        in_use.insert(key.to_owned());
        Ok(Claimed::Now(Claim {
            key: key.to_owned(),
            inner: self.keys_in_use.clone(),
        }))
    }

    fn record(&self, method: &Method, path: &str, headers: &HeaderMap, params: Value, status: Option<u16>) {
        let idempotency_key = text(headers, "idempotency-key");
        let (method, path) = (method.to_string(), path.to_owned());
        self.remember(Recorded {
            method,
            path,
            idempotency_key,
            params,
            status,
        });
    }
}

/// One call and its answer, as far as headers go.
struct Exchange {
    request: String,
    version: String,
    key: Option<String>,
    original: Option<String>,
}

impl Exchange {
    fn error(&self, failure: &Failure) -> Value {
        let mut error = failure.object();
        if let Some(fields) = error.as_object_mut() {
            let log = format!("https://dashboard.stripe.com/test/logs/{}", self.request);
            fields.insert("request_log_url".to_owned(), json!(log));
        }
        error
    }

    fn refuse(&self, failure: &Failure) -> Response {
        self.answer(
            failure.status(),
            &json!({"error": self.error(failure)}),
            failure.retry(),
        )
    }

    fn replay(&mut self, kept: &Kept) -> Response {
        self.original = Some(kept.request.clone());
        let status = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
        self.answer(status, &kept.body, status.is_server_error().then_some(false))
    }

    fn answer(&self, status: StatusCode, body: &Value, retry: Option<bool>) -> Response {
        let text = serde_json::to_string_pretty(body).unwrap_or_default();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set("content-type", "application/json");
        set("request-id", &self.request);
        set("stripe-version", &self.version);
        if let Some(key) = &self.key {
            set("idempotency-key", key);
        }
        if let Some(original) = &self.original {
            set("idempotent-replayed", "true");
            set("original-request", original);
        }
        if let Some(retry) = retry {
            set("stripe-should-retry", if retry { "true" } else { "false" });
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            set("retry-after", "1");
        }
        allow_browsers(response.headers_mut());
        response
    }
}

/// The answer to a browser that asks whether it may call.
fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    allow_browsers(headers);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, OPTIONS"),
    );
    let allowed = "Authorization, Content-Type, Accept, Stripe-Version, Idempotency-Key";
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("300"));
    response
}

fn allow_browsers(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Request-Id, Stripe-Version"),
    );
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned)
}
