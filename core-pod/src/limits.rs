//! Rate limits around groups of routes, by caller or by address.
//!
//! contract: core §1.10. Who is signed in is counted as themselves, whatever their address; who is not, or only claims
//! to be, by address: a made-up token must not open a fresh account of requests.

use axum::{
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use shared::{
    ApiError,
    auth::Authenticator,
    http::{
        client_address::ClientAddress,
        limit::{RateLimiter, Rule, address_subject},
    },
};
use utoipa_axum::router::OpenApiRouter;

/// A rule for signed-in callers.
#[derive(Debug, Clone)]
pub struct CallerLimit {
    limiter: RateLimiter,
    authenticator: Authenticator,
    rule: Rule,
}

impl CallerLimit {
    /// Counts by caller, else by address.
    pub fn new(limiter: RateLimiter, authenticator: Authenticator, rule: Rule) -> Self {
        Self { limiter, authenticator, rule }
    }

    /// Puts the rule around every route of a router.
    pub fn around<S: Clone + Send + Sync + 'static>(self, router: OpenApiRouter<S>) -> OpenApiRouter<S> {
        router.route_layer(middleware::from_fn_with_state(self, by_caller))
    }
}

async fn by_caller(
    State(limit): State<CallerLimit>,
    address: ClientAddress,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let caller = limit.authenticator.0.user(request.method(), request.headers()).await;
    let subject = match caller {
        Ok(Some(caller)) => format!("user:{}", caller.user),
        // a pod asks for many travellers
        _ if limit.authenticator.0.service(request.headers()).await.is_ok() => return Ok(next.run(request).await),
        _ => address_subject(address.0),
    };
    limited(&limit.limiter, &limit.rule, &subject, request, next).await
}

/// A rule for addresses.
#[derive(Debug, Clone)]
pub struct AddressLimit {
    limiter: RateLimiter,
    rule: Rule,
}

impl AddressLimit {
    /// Counts by address.
    pub fn new(limiter: RateLimiter, rule: Rule) -> Self {
        Self { limiter, rule }
    }

    /// Puts the rule around every route of a router.
    pub fn around<S: Clone + Send + Sync + 'static>(self, router: OpenApiRouter<S>) -> OpenApiRouter<S> {
        router.route_layer(middleware::from_fn_with_state(self, by_address))
    }
}

async fn by_address(
    State(limit): State<AddressLimit>,
    address: ClientAddress,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    limited(&limit.limiter, &limit.rule, &address_subject(address.0), request, next).await
}

async fn limited(
    limiter: &RateLimiter,
    rule: &Rule,
    subject: &str,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let decision = limiter.check(rule, subject).await.into_result()?;
    let mut response = next.run(request).await.into_response();
    decision.apply(response.headers_mut());
    Ok(response)
}
