//! What surrounds every router, in one middleware: request ids, limits, security headers, CORS, metrics, time-outs.
//!
//! contract: core §1.2 to §1.9, experience D2 and D3. One hand-written service instead of a stack of layers keeps the
//! cost of a request small and the order of things in one place (`request.rs`).

mod body;
mod headers;
mod paths;
mod red;
mod request;

#[cfg(test)]
mod tests;

use std::{convert::Infallible, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    Router,
    extract::{OriginalUri, Request},
    handler::HandlerWithoutStateExt as _,
    response::Response,
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde_json::json;
use tower::{Layer, Service};

use self::{
    headers::AllowedOrigins,
    request::{Inner, RequestService},
};
pub use self::{paths::canonical as canonical_path, request::RouteLabel};
use super::{
    client_address::{ClientAddress, TrustedProxies},
    limit::Told,
};
use crate::{config::Reader, error::ApiError};

/// The settings of the kit, the same for all services of a process.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    /// Origins whose pages may call us with credentials.
    pub cors_origins: Vec<String>,
    /// Proxies whose forwarding headers are believed.
    pub trusted_proxies: TrustedProxies,
    /// Whether cookies carry `Secure`.
    pub secure_cookies: bool,
    /// The largest body, in bytes, where a route asks for nothing else.
    pub body_limit: usize,
    /// How long a handler may take to answer.
    pub timeout: Duration,
    /// How many requests a service works on at once; more are refused.
    pub max_in_flight: usize,
    /// The value of `X-Pod-Instance`.
    pub instance: Option<HeaderValue>,
}

impl HttpConfig {
    /// Reads the settings (core §1.3, §1.7, §1.8).
    pub fn read(reader: &mut Reader) -> Self {
        let production = reader.production();
        let client = reader.text(
            "CLIENT_URL",
            "address of the web client; its origin when CORS_ORIGIN is not set",
        );
        let default: &[&str] = match &client {
            Some(url) => &[url.as_str()],
            None if production => &[],
            None => &[
                "http://localhost:5173",
                "http://127.0.0.1:5173",
                "http://localhost:3000",
            ],
        };
        let cors_origins = reader.list(
            "CORS_ORIGIN",
            default,
            "comma list of origins whose pages may call the API with credentials; required in production",
        );
        if production && cors_origins.is_empty() {
            reader.problem("CORS_ORIGIN is missing: production needs an explicit list of origins");
        }
        for origin in &cors_origins {
            let valid = origin
                .parse::<Uri>()
                .is_ok_and(|uri| uri.scheme().is_some() && uri.authority().is_some());
            if !valid {
                reader.problem(format!(
                    "CORS_ORIGIN: `{origin}` is not an origin such as https://example.org"
                ));
            }
        }
        let own_machine = if production {
            TrustedProxies::default()
        } else {
            loopback()
        };
        let trusted_proxies = reader.or(
            "TRUSTED_PROXIES",
            own_machine,
            "comma list of networks (CIDR) of proxies whose X-Forwarded-* headers are believed",
        );
        let secure_cookies = reader.or("COOKIE_SECURE", production, "whether cookies are sent over TLS only");
        let body_limit = reader.or(
            "HTTP_BODY_LIMIT_BYTES",
            1_048_576,
            "largest request body where a route sets no other",
        );
        let seconds = reader.or(
            "HTTP_TIMEOUT_SECONDS",
            30_u64,
            "how long a request may take to be answered",
        );
        let max_in_flight = reader.or(
            "HTTP_MAX_IN_FLIGHT",
            1024,
            "requests each service works on at once; more are answered 503 without being looked at",
        );
        let instance = reader.text("POD_INSTANCE", "number of this replica, sent as X-Pod-Instance");
        let instance = instance.and_then(|text| HeaderValue::try_from(text).ok());
        let timeout = Duration::from_secs(seconds.max(1));
        Self {
            cors_origins,
            trusted_proxies,
            secure_cookies,
            body_limit,
            timeout,
            max_in_flight,
            instance,
        }
    }
}

fn loopback() -> TrustedProxies {
    "127.0.0.0/8,::1/128".parse().unwrap_or_default()
}

impl Default for HttpConfig {
    /// The defaults of development.
    fn default() -> Self {
        Self::read(&mut Reader::from_pairs([]))
    }
}

/// Decides whether a request is worked on at all: the rate limit of a whole listener. Health is never asked about.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Whether requests for this path are counted. Stripe's deliveries come from few addresses and are never held up
    /// (payment §1).
    fn counts(&self, path: &str) -> bool {
        path != "/api/v1/payment/webhook"
    }

    /// What the response shall say of the limit, or the refusal.
    async fn admit(&self, client: ClientAddress, headers: &HeaderMap) -> Result<Told, ApiError>;
}

/// The kit of one service. Cheap to clone; variants made by the `with_*` methods share the limit of requests in flight.
#[derive(Clone)]
pub struct Kit {
    inner: Inner,
}

impl std::fmt::Debug for Kit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kit")
            .field("service", &self.inner.service)
            .finish_non_exhaustive()
    }
}

impl Kit {
    /// The kit of `service`, whose name labels metrics and logs. The limiter holds for all routes but health;
    /// [`ListenerLimit`](super::limit::ListenerLimit) is one.
    pub fn new(service: &'static str, config: &HttpConfig, limiter: Option<Arc<dyn Admission>>) -> Self {
        Self {
            inner: Inner::new(service, config, AllowedOrigins::new(&config.cors_origins), limiter),
        }
    }

    /// Another time-out for a group of routes.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.inner.timeout = timeout;
        self
    }

    /// Another body limit for a group of routes. A single route may also use axum's `DefaultBodyLimit`.
    #[must_use]
    pub fn with_body_limit(mut self, bytes: usize) -> Self {
        self.inner.body_limit = bytes;
        self
    }

    /// Responses carry `Cache-Control: no-store` unless the handler says otherwise (auth and user).
    #[must_use]
    pub fn no_store(mut self) -> Self {
        self.inner.no_store = true;
        self
    }

    /// Never compresses: bodies hold secrets beside what the client sent (auth).
    #[must_use]
    pub fn uncompressed(mut self) -> Self {
        self.inner.compress = false;
        self
    }

    /// Another rule on what is worked on at all: the same service may stand on several listeners.
    #[must_use]
    pub fn with_admission(mut self, limiter: Arc<dyn Admission>) -> Self {
        self.inner.limiter = Some(limiter);
        self
    }

    /// For routes that forward to another service: bodies are streamed whole and upstream's answers are left as they are.
    /// The proxy keeps its own time-outs.
    #[must_use]
    pub fn proxying(mut self) -> Self {
        self.inner.proxying = true;
        self
    }

    /// Wraps the routes of a service that has its listener to itself: everything in core §1.2 to §1.9.
    pub fn wrap(&self, router: Router) -> Router {
        let inner = self.routes(router.fallback(not_found));
        Router::new().fallback_service(Rewriting { router: inner })
    }

    /// Like [`Kit::wrap`], but what matches no route goes to the router's own fallback.
    pub fn wrap_with_fallback(&self, router: Router) -> Router {
        Router::new().fallback_service(Rewriting {
            router: self.routes(router),
        })
    }

    /// Wraps routes so that they can be merged with those of other services; [`Kit::front`] completes the listener.
    pub fn routes(&self, router: Router) -> Router {
        router.method_not_allowed_fallback(not_found).layer(KitLayer {
            inner: Arc::new(self.inner.clone()),
        })
    }

    /// Completes a listener whose routes were each wrapped by [`Kit::routes`]: other spellings of paths, and the 404 for
    /// what nobody answers, on behalf of this kit's service.
    pub fn front(&self, merged: Router) -> Router {
        let layer = KitLayer {
            inner: Arc::new(self.inner.clone()),
        };
        let nobody = layer.layer(not_found.into_service());
        Router::new().fallback_service(Rewriting {
            router: merged.fallback_service(nobody),
        })
    }

    /// Completes a listener like [`Kit::front`], but what no local route answers goes to `remote`: the gateway's routes,
    /// wrapped by the [`Kit::routes`] of a [`Kit::proxying`] kit.
    pub fn front_of_gateway(&self, merged: Router, remote: Router) -> Router {
        Router::new().fallback_service(Rewriting {
            router: merged.fallback_service(remote),
        })
    }
}

/// 404 for unknown paths and for wrong methods on known ones (core §1.2, experience D2).
async fn not_found(OriginalUri(uri): OriginalUri) -> ApiError {
    let path = uri.path();
    ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", "Not Found")
        .with_detail(format!("Route {path} not found"))
        .with_extra("path", json!(path))
}

/// Puts one [`RequestService`] round each route.
#[derive(Clone)]
struct KitLayer {
    inner: Arc<Inner>,
}

impl<S> Layer<S> for KitLayer {
    type Service = RequestService<S>;

    fn layer(&self, service: S) -> RequestService<S> {
        RequestService {
            kit: self.inner.clone(),
            service,
        }
    }
}

/// Makes one spelling of the path before the router looks at it.
#[derive(Clone)]
struct Rewriting {
    router: Router,
}

impl Service<Request> for Rewriting {
    type Response = Response;
    type Error = Infallible;
    type Future = <Router as Service<Request>>::Future;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        if let Some(uri) = paths::rewritten(request.uri()) {
            *request.uri_mut() = uri;
        }
        self.router.call(request)
    }
}
