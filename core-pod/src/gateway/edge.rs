//! What the public listener asks of every request before a service sees it.
//!
//! contract: core §1.10 (gateway, pod edge), §2.8, §3.1 (blocked paths). Other pods prove themselves with their service token
//! and are not counted: they ask for many travellers from few addresses.

use async_trait::async_trait;
use axum::{
    Router,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::HeaderMap;
use serde_json::json;
use shared::{
    ApiError,
    auth::{Authenticator, authenticator::bearer, service::claims_to_be_a_service},
    gateway::is_for_services,
    http::{
        client_address::ClientAddress,
        kit::Admission,
        limit::{RateLimiter, Rule, Told},
    },
};
use tower::ServiceExt as _;

/// The limits of the public listener for one group of routes: the listener's own, and the token bucket of the edge.
#[derive(Debug, Clone)]
pub struct EdgeLimit {
    limiter: RateLimiter,
    listener: Rule,
    bucket: Rule,
    authenticator: Authenticator,
}

impl EdgeLimit {
    /// Counts by both rules.
    pub fn new(limiter: RateLimiter, listener: Rule, bucket: Rule, authenticator: Authenticator) -> Self {
        Self {
            limiter,
            listener,
            bucket,
            authenticator,
        }
    }

    async fn is_service(&self, headers: &HeaderMap) -> bool {
        bearer(headers).is_some_and(claims_to_be_a_service) && self.authenticator.0.service(headers).await.is_ok()
    }
}

#[async_trait]
impl Admission for EdgeLimit {
    async fn admit(&self, client: ClientAddress, headers: &HeaderMap) -> Result<Told, ApiError> {
        if self.is_service(headers).await {
            return Ok(Told::NOTHING);
        }
        let subject = client.limit_subject();
        let (listener, bucket) = tokio::join!(
            self.limiter.check(&self.listener, &subject),
            self.limiter.check(&self.bucket, &subject),
        );
        // the bucket is told of only when it refuses: the listener's limit is the one clients plan with
        Told::of(if bucket.allowed { listener } else { bucket }, true)
    }
}

/// What the public listener does not show of the user service, and where it sends instead.
#[derive(Clone)]
pub struct Hidden {
    authenticator: Authenticator,
    elsewhere: Router,
}

impl Hidden {
    /// `elsewhere` is the way to the other pods.
    pub fn new(authenticator: Authenticator, elsewhere: Router) -> Self {
        Self {
            authenticator,
            elsewhere,
        }
    }
}

/// Lets only services see that routes for services exist: to everybody else they are not there (core §3.1). The health of the
/// AI integration is asked on the user service's own listener; here its path is the AI service's (core §1.1).
pub async fn only_services(State(hidden): State<Hidden>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path == "/api/v1/ai/health" {
        return match hidden.elsewhere.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
    }
    let is_hidden = path.strip_prefix("/api/v1/").is_some_and(is_for_services);
    if is_hidden && hidden.authenticator.0.service(request.headers()).await.is_err() {
        return ApiError::not_found("Not Found")
            .with_detail(format!("Route {path} not found"))
            .with_extra("path", json!(path))
            .into_response();
    }
    next.run(request).await
}
