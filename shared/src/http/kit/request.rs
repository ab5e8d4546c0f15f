//! One request, from its arrival in the kit to its log line.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, HttpBody as _},
    extract::{DefaultBodyLimit, MatchedPath, Request},
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tower::Service;
use tracing::Instrument as _;

use super::{
    Admission, HttpConfig, body,
    headers::{self, AllowedOrigins},
    red::{self, Red},
};
use crate::{
    error::ApiError,
    http::{
        REQUEST_ID,
        client_address::{PeerAddress, TrustedProxies},
        progress::{self, Progress},
    },
    telemetry::trace::{self, SCOPE, Scope, TraceContext, X_REQUEST_ID},
};

const X_POD_INSTANCE: HeaderName = HeaderName::from_static("x-pod-instance");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// What travellers uploaded: never active content, and shown by pages of other origins (core §1.9).
const UPLOADS: &str = "/uploads/";
/// The service whose failures have a text of their own (core §3.2).
const GATEWAY: &str = "gateway";
/// What a shed client is told to wait.
const SHED_PAUSE: Duration = Duration::from_secs(1);

/// What the kit knows about the service and its routes.
#[derive(Clone)]
pub(super) struct Inner {
    pub(super) service: &'static str,
    pub(super) timeout: Duration,
    pub(super) body_limit: usize,
    pub(super) no_store: bool,
    pub(super) compress: bool,
    pub(super) proxying: bool,
    pub(super) limiter: Option<Arc<dyn Admission>>,
    instance: Option<HeaderValue>,
    shared: Arc<Shared>,
}

/// What all variants of a kit have in common.
struct Shared {
    origins: AllowedOrigins,
    proxies: TrustedProxies,
    red: Red,
    in_flight: AtomicUsize,
    max_in_flight: usize,
}

impl Inner {
    pub(super) fn new(
        service: &'static str,
        config: &HttpConfig,
        origins: AllowedOrigins,
        limiter: Option<Arc<dyn Admission>>,
    ) -> Self {
        let shared = Shared {
            origins,
            proxies: config.trusted_proxies.clone(),
            red: Red::new(service),
            in_flight: AtomicUsize::new(0),
            max_in_flight: config.max_in_flight,
        };
        Self {
            service,
            timeout: config.timeout,
            body_limit: config.body_limit,
            no_store: false,
            compress: true,
            proxying: false,
            limiter,
            instance: config.instance.clone(),
            shared: Arc::new(shared),
        }
    }
}

/// A route inside the kit.
#[derive(Clone)]
pub(super) struct RequestService<S> {
    pub(super) kit: Arc<Inner>,
    pub(super) service: S,
}

impl<S> Service<Request> for RequestService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // routes are always ready, and `answer` calls each clone once
        let (kit, service) = (self.kit.clone(), self.service.clone());
        let head = Head::read(&kit, &request);
        let (id, service_name) = (head.id.clone(), kit.service);
        let exported = trace::request_span(kit.service, head.method, head.route(), head.trace);
        let context = exported.as_ref().map_or(head.trace, |(_, context)| *context);
        let scope = Scope {
            context,
            service: service_name,
        };
        let answered = SCOPE.scope(scope, answer(kit, service, head, request));
        match exported {
            Some((span, _)) => Box::pin(REQUEST_ID.scope(id, answered.instrument(span))),
            None => Box::pin(REQUEST_ID.scope(id, answered)),
        }
    }
}

/// The route of an answer that no local route gave, in metrics and logs. In the extensions of the response.
#[derive(Debug, Clone, Copy)]
pub struct RouteLabel(pub &'static str);

/// What is remembered of a request while the handler has it.
struct Head {
    started: Instant,
    method: &'static str,
    is_preflight: bool,
    path: PathKind,
    route: Option<MatchedPath>,
    id: String,
    trace: TraceContext,
    peer: IpAddr,
    uses_tls: bool,
    origin: Option<HeaderValue>,
    encoding: Option<HeaderValue>,
}

impl Head {
    fn read(kit: &Inner, request: &Request) -> Self {
        let headers = request.headers();
        let route = request.extensions().get::<MatchedPath>().cloned();
        let peer = request.extensions().get::<PeerAddress>();
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.0);
        Self {
            started: Instant::now(),
            method: red::method_label(request.method()),
            is_preflight: request.method() == Method::OPTIONS,
            path: PathKind::of(route.as_ref(), request.uri().path()),
            route,
            id: request_id(headers),
            trace: TraceContext::continued(headers),
            peer,
            uses_tls: kit.shared.proxies.client_uses_tls(peer, headers),
            origin: kit.shared.origins.allowed(headers).cloned(),
            encoding: if kit.compress && !kit.proxying {
                body::accepted_encoding(headers)
            } else {
                None
            },
        }
    }

    fn route(&self) -> &str {
        self.route.as_ref().map_or(red::UNMATCHED, MatchedPath::as_str)
    }
}

/// Paths that are treated in a way of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PathKind {
    Health,
    Upload,
    Other,
}

impl PathKind {
    fn of(route: Option<&MatchedPath>, path: &str) -> Self {
        if route.is_some_and(|route| is_health(route.as_str())) {
            Self::Health
        } else if path.starts_with(UPLOADS) {
            Self::Upload
        } else {
            Self::Other
        }
    }
}

/// Accepted when short and plain, else our own (core §1.9).
fn request_id(headers: &HeaderMap) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let given = headers.get(X_REQUEST_ID).map(HeaderValue::as_bytes);
    match given.filter(|id| (1..=64).contains(&id.len()) && id.iter().all(plain)) {
        Some(id) => String::from_utf8_lossy(id).into_owned(),
        None => trace::new_request_id(),
    }
}

/// Whether a route is one of the health paths (core §6), which are never limited and not worth a line in the log.
fn is_health(route: &str) -> bool {
    let starts = ["/health", "/api/health", "/ready", "/live"]
        .iter()
        .any(|prefix| route.starts_with(prefix));
    starts || route.ends_with("/health")
}

/// One request being worked on. Whatever happens, it is counted once, also when the client hangs up.
struct Exchange {
    kit: Arc<Inner>,
    head: Head,
    open: bool,
}

impl Exchange {
    fn begin(kit: Arc<Inner>, head: Head) -> Self {
        kit.shared.in_flight.fetch_add(1, Ordering::Relaxed);
        kit.shared.red.move_in_flight(1.0);
        Self { kit, head, open: true }
    }

    /// Whether there are more requests than the service may work on.
    fn is_one_too_many(&self) -> bool {
        self.head.path != PathKind::Health
            && self.kit.shared.in_flight.load(Ordering::Relaxed) > self.kit.shared.max_in_flight
    }

    fn end(&mut self, status: u16, answered_by: Option<&'static str>) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        self.kit.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.kit.shared.red.move_in_flight(-1.0);
        let (
            Head {
                method, path, started, ..
            },
            route,
        ) = (&self.head, answered_by.unwrap_or_else(|| self.head.route()));
        let duration = started.elapsed();
        self.kit.shared.red.record(method, route, status, duration);
        let (service, duration_ms) = (self.kit.service, (duration.as_secs_f64() * 1e6).round() / 1e3);
        if *path == PathKind::Health {
            tracing::debug!(target: "http", service, method, route, status, duration_ms, "request");
        } else {
            tracing::info!(target: "http", service, method, route, status, duration_ms, "request");
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.end(red::CLIENT_CLOSED, None);
    }
}

/// The whole of it, in the scope of the request's id.
async fn answer<S>(kit: Arc<Inner>, service: S, head: Head, request: Request) -> Result<Response, Infallible>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let mut exchange = Exchange::begin(kit, head);
    let response = if exchange.head.is_preflight {
        preflight(exchange.head.origin.is_some())
    } else if exchange.is_one_too_many() {
        refusal_under_load()
    } else {
        admitted(&exchange, service, request).await
    };
    let response = finished(&exchange, response).await;
    let answered_by = response.extensions().get::<RouteLabel>().map(|label| label.0);
    if let Some(route) = answered_by {
        trace::answered_by(exchange.head.method, route);
    }
    exchange.end(response.status().as_u16(), answered_by);
    Ok(response)
}

/// 204 for every OPTIONS, whatever the path (core §1.2); an unknown origin learns nothing.
fn preflight(is_allowed: bool) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if is_allowed {
        headers::allow_methods(response.headers_mut());
    }
    response
}

fn refusal_under_load() -> Response {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "OVERLOADED",
        "Service temporarily unavailable",
    )
    .with_detail("The service is busy, please try again shortly.")
    .with_retry_after(SHED_PAUSE)
    .into_response()
}

/// Asks the limiter, then the handler.
async fn admitted<S>(exchange: &Exchange, service: S, mut request: Request) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let Exchange { kit, head, .. } = exchange;
    let client = kit.shared.proxies.client(head.peer, request.headers());
    request.extensions_mut().insert(client);
    let counted = |limiter: &&Arc<dyn Admission>| head.path != PathKind::Health && limiter.counts(request.uri().path());
    let Some(limiter) = kit.limiter.as_ref().filter(counted) else {
        return handled(kit, service, request).await;
    };
    match limiter.admit(client, request.headers()).await {
        Err(refusal) => refusal.into_response(),
        Ok(told) => {
            let mut response = handled(kit, service, request).await;
            told.apply(response.headers_mut());
            response
        }
    }
}

/// Calls the handler within its time and without letting a panic out.
async fn handled<S>(kit: &Inner, mut service: S, mut request: Request) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    if kit.proxying {
        let work = AssertUnwindSafe(async move { service.call(request).await }).catch_unwind();
        return work.await.map_or_else(|_| panicked(kit), flatten);
    }
    if body::is_hopeless(request.headers()) {
        return too_large();
    }
    let progress = Progress::default();
    if !request.body().is_end_stream() {
        let (parts, sent) = request.into_parts();
        let drained = body::Drained::new(sent, &parts, progress.clone());
        request = Request::from_parts(parts, Body::new(drained));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        DefaultBodyLimit::max(kit.body_limit).apply(&mut request);
    }
    let work = AssertUnwindSafe(async move { service.call(request).await }).catch_unwind();
    match tokio::time::timeout(kit.timeout, work).await {
        Ok(Ok(answer)) => in_our_words(flatten(answer)),
        Ok(Err(_panic)) => panicked(kit),
        Err(_elapsed) if progress.waits_for_client() => progress::too_slow().into_response(),
        Err(_elapsed) => timed_out(kit.timeout),
    }
}

fn flatten(answer: Result<Response, Infallible>) -> Response {
    match answer {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The panic itself was logged by the hook that telemetry installs.
fn panicked(kit: &Inner) -> Response {
    let error = ApiError::internal(anyhow::anyhow!("the handler panicked"));
    if kit.service == GATEWAY {
        let error = error.with_title("Internal Server Error");
        return error.with_detail("Something went wrong").into_response();
    }
    error.into_response()
}

fn timed_out(limit: Duration) -> Response {
    ApiError::unavailable(anyhow::anyhow!("the handler took longer than {} ms", limit.as_millis()))
        .with_code("REQUEST_TIMEOUT")
        .into_response()
}

fn too_large() -> Response {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "PAYLOAD_TOO_LARGE",
        "Request body too large",
    )
    .into_response()
}

/// Rejections of axum's own extractors are plain text; the contract has one shape and knows neither 415 nor 422.
fn in_our_words(response: Response) -> Response {
    let status = response.status();
    let foreign = matches!(status.as_u16(), 400 | 405 | 413 | 415 | 422)
        && response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !foreign {
        return response;
    }
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return too_large();
    }
    ApiError::bad_request("Invalid request").into_response()
}

/// Headers and compression, the same for answers and refusals.
async fn finished(exchange: &Exchange, mut response: Response) -> Response {
    let Exchange { kit, head, .. } = exchange;
    let headers = response.headers_mut();
    if head.path == PathKind::Upload {
        headers::sandbox(headers);
    }
    headers::secure(headers, head.uses_tls);
    headers::allow_origin(headers, head.origin.clone());
    if let Ok(id) = HeaderValue::from_str(&head.id) {
        headers.insert(X_REQUEST_ID, id);
    }
    if let Some(instance) = &kit.instance {
        headers.insert(X_POD_INSTANCE, instance.clone());
    }
    if kit.no_store && !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, NO_STORE);
    }
    match &head.encoding {
        Some(accepted) => body::compressed(response, accepted.clone()).await,
        None => response,
    }
}
