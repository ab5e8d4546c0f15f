//! Limits around routers and listeners.

use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use axum::{
    extract::Request,
    response::{IntoResponse as _, Response},
};
use http::{Extensions, HeaderMap, Method};
use tower::{Layer, Service};

use super::{Decision, RateLimiter, Rule, Told};
use crate::{
    auth::Authenticator,
    error::ApiError,
    http::{client_address::ClientAddress, kit::Admission},
};

/// Whom a request counts for.
#[derive(Clone)]
pub enum Subject {
    /// The client's address; IPv6 by its /64.
    Address,
    /// The signed-in user, else the address. A credential that is not valid counts for the address.
    Caller(Authenticator),
    /// A function of the request; `None` is not counted.
    Of(Arc<dyn Fn(&Extensions, &HeaderMap) -> Option<String> + Send + Sync>),
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "Address",
            Self::Caller(_) => "Caller",
            Self::Of(_) => "Of",
        })
    }
}

impl Subject {
    /// The subject of a request. Without the kit around the router there is no address; then all share one bucket.
    async fn of(
        &self,
        address: Option<ClientAddress>,
        method: &Method,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Option<String> {
        let by_address = || {
            format!(
                "ip:{}",
                address.map(|address| address.limit_subject()).unwrap_or_default()
            )
        };
        match self {
            Self::Address => Some(by_address()),
            Self::Caller(authenticator) => match authenticator.0.user(method, headers).await {
                Ok(Some(caller)) => Some(format!("user:{}", caller.user)),
                Ok(None) | Err(_) => Some(by_address()),
            },
            Self::Of(subject) => subject(extensions, headers),
        }
    }
}

/// Rules for reading and for changing requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// GET, HEAD, OPTIONS.
    pub reads: Rule,
    /// Everything else.
    pub writes: Rule,
}

impl Limits {
    fn rule(&self, method: &Method) -> &Rule {
        if method.is_safe() { &self.reads } else { &self.writes }
    }
}

impl From<Rule> for Limits {
    fn from(rule: Rule) -> Self {
        Self {
            reads: rule,
            writes: rule,
        }
    }
}

/// Limits the routes it is put around: `router.layer(limit::layer(limiter, limits, Subject::Caller(authenticator)))`.
pub fn layer(limiter: RateLimiter, limits: impl Into<Limits>, subject: Subject) -> LimitLayer {
    LimitLayer(Arc::new(Rules {
        limiter,
        limits: limits.into(),
        subject,
    }))
}

/// See [`layer`].
#[derive(Debug, Clone)]
pub struct LimitLayer(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    limiter: RateLimiter,
    limits: Limits,
    subject: Subject,
}

impl Rules {
    /// The decision on a request; `None` if it is not counted. Takes parts rather than the request: its body is not `Sync`.
    async fn decide(&self, method: Method, headers: &HeaderMap, extensions: &Extensions) -> Option<Decision> {
        let address = extensions.get::<ClientAddress>().copied();
        let subject = self.subject.of(address, &method, headers, extensions).await?;
        Some(self.limiter.check(self.limits.rule(&method), &subject).await)
    }
}

impl<S> Layer<S> for LimitLayer {
    type Service = LimitService<S>;

    fn layer(&self, inner: S) -> LimitService<S> {
        LimitService {
            rules: Arc::clone(&self.0),
            inner,
        }
    }
}

/// See [`layer`].
#[derive(Debug, Clone)]
pub struct LimitService<S> {
    rules: Arc<Rules>,
    inner: S,
}

impl<S> Service<Request> for LimitService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let rules = Arc::clone(&self.rules);
        // the service that was ready is the one to call; its clone waits for its own turn
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let decision = rules
                .decide(parts.method.clone(), &parts.headers, &parts.extensions)
                .await;
            let request = Request::from_parts(parts, body);
            let Some(decision) = decision else {
                return inner.call(request).await;
            };
            match decision.into_result() {
                Err(refusal) => Ok(refusal.into_response()),
                Ok(decision) => {
                    let mut response = inner.call(request).await?;
                    decision.apply(response.headers_mut());
                    Ok(response)
                }
            }
        })
    }
}

/// The limit of a whole listener, for the kit: one rule per caller.
#[derive(Debug, Clone)]
pub struct ListenerLimit {
    limiter: RateLimiter,
    rule: Rule,
    subject: Subject,
    legacy_headers: bool,
}

impl ListenerLimit {
    /// A limit for all routes but health.
    pub fn new(limiter: RateLimiter, rule: Rule, subject: Subject) -> Self {
        Self {
            limiter,
            rule,
            subject,
            legacy_headers: false,
        }
    }

    /// Also sends `X-RateLimit-*`, as the gateway always did (core §1.10).
    #[must_use]
    pub fn with_legacy_headers(mut self) -> Self {
        self.legacy_headers = true;
        self
    }
}

#[async_trait]
impl Admission for ListenerLimit {
    async fn admit(&self, client: ClientAddress, headers: &HeaderMap) -> Result<Told, ApiError> {
        // for counting it does not matter whether a cookie may be used with the request's own method
        let subject = self
            .subject
            .of(Some(client), &Method::GET, headers, &Extensions::new())
            .await;
        let Some(subject) = subject else {
            return Ok(Told::NOTHING);
        };
        let decision = self.limiter.check(&self.rule, &subject).await;
        Told::of(decision, self.legacy_headers)
    }
}
