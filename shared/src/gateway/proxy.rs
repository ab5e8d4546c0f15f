//! One request through the gateway.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, uri::PathAndQuery};
use hyper::body::{Frame, SizeHint};
use serde_json::json;
use url::Url;

use super::{
    Gateway, Target, Upstream,
    breaker::Outcome,
    headers::{Forwarded, clean_request, clean_response},
    routes::{Route, always_needs_identity, route},
    upgrade,
};
use crate::{
    auth::{
        authenticator::{bearer, session_cookie},
        tokens::{TokenError, Verifier},
    },
    error::ApiError,
    http::{
        RouteLabel,
        client_address::{ClientAddress, PeerAddress},
        progress::{self, Nudge, Progress},
    },
};

/// Streams the request to the service that has its path, or answers in the contract's shape why not.
pub(super) async fn handle(State(gateway): State<Gateway>, request: Request) -> Response {
    let path = request.uri().path();
    let Route::To(target) = route(path) else {
        return not_found(request.uri());
    };
    let Some(upstream) = gateway.0.upstreams.get(&target) else {
        return not_found(request.uri());
    };
    if always_needs_identity(path)
        && let Some(edge) = &gateway.0.verifier
        && let Err(refusal) = not_obviously_invalid(edge, request.headers()).await
    {
        return refusal.into_response();
    }
    let limit = body_limit(request.headers());
    if declared_length(request.headers()).is_some_and(|length| length > limit) {
        return too_large().into_response();
    }
    let Some(permit) = upstream.breaker.admit(Instant::now()) else {
        return unavailable(target).into_response();
    };
    let answer = forward(&gateway, target, upstream, request, limit).await;
    let (outcome, mut response) = match answer {
        Ok(response) => (Outcome::Answered, response),
        Err(Refusal::OfService(error)) => (Outcome::Failed, error.into_response()),
        Err(Refusal::OfClient(error)) => (Outcome::ClientsFault, error.into_response()),
    };
    permit.record(Instant::now(), outcome);
    response.extensions_mut().insert(RouteLabel(target.proxied()));
    response
}

/// Why a request got no answer of a service, by whose fault it is.
enum Refusal {
    OfService(ApiError),
    OfClient(ApiError),
}

/// The early look at a token (core §3.2): malformed, wrongly signed, or run out with no cookie that could stand in for it.
/// Whether its session lives is the service's to ask, and a token nobody can check now is passed on.
async fn not_obviously_invalid(verifier: &Verifier, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(token) = bearer(headers) else { return Ok(()) };
    match verifier.access(token).await {
        Ok(_) | Err(TokenError::KeysUnavailable) => Ok(()),
        Err(TokenError::Expired(_)) if session_cookie(headers).is_some() => Ok(()),
        Err(error) => Err(refused_token(&error)),
    }
}

fn refused_token(error: &TokenError) -> ApiError {
    match error {
        TokenError::Expired(_) => ApiError::unauthenticated("TOKEN_EXPIRED", "Token expired"),
        TokenError::WrongType => ApiError::unauthenticated("INVALID_TOKEN_TYPE", "Invalid token type"),
        TokenError::Invalid | TokenError::KeysUnavailable => {
            ApiError::unauthenticated("INVALID_TOKEN", "Invalid token")
        }
    }
}

/// The most that is passed on at all (experience c.3); services have lower limits of their own.
fn body_limit(headers: &HeaderMap) -> u64 {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_multipart = kind.is_some_and(|kind| {
        kind.get(..10)
            .is_some_and(|head| head.eq_ignore_ascii_case(b"multipart/"))
    });
    if is_multipart {
        12 * 1024 * 1024
    } else {
        10 * 1024 * 1024
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large() -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "PAYLOAD_TOO_LARGE",
        "Request body too large",
    )
}

/// 404 in the shape of experience D2.
fn not_found(uri: &Uri) -> Response {
    let path = uri.path();
    ApiError::not_found("Not Found")
        .with_detail(format!("Route {path} not found"))
        .with_extra("path", json!(path))
        .into_response()
}

fn unavailable(target: Target) -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "UPSTREAM_UNAVAILABLE",
        "Service unavailable",
    )
    .with_detail("The service cannot be reached right now, please try again.")
    .with_extra("service", json!(target.name()))
    .with_retry_after(Duration::from_secs(2))
}

fn timed_out(target: Target) -> ApiError {
    ApiError::new(StatusCode::GATEWAY_TIMEOUT, "UPSTREAM_TIMEOUT", "Service timed out")
        .with_detail("The service did not answer in time, please try again.")
        .with_extra("service", json!(target.name()))
}

fn malformed(target: Target) -> ApiError {
    ApiError::new(StatusCode::BAD_GATEWAY, "UPSTREAM_MALFORMED", "Bad gateway")
        .with_detail("The service answered with something that cannot be understood.")
        .with_extra("service", json!(target.name()))
}

async fn forward(
    gateway: &Gateway,
    target: Target,
    upstream: &Upstream,
    mut request: Request,
    body_limit: u64,
) -> Result<Response, Refusal> {
    let uri = upstream_uri(&upstream.base, request.uri()).ok_or_else(|| Refusal::OfService(malformed(target)))?;
    let limit = gateway
        .0
        .config
        .read_timeout
        .unwrap_or_else(|| target.read_timeout(request.uri().path()));
    let wants_upgrade = upgrade::wanted(request.headers());
    let client_side = wants_upgrade.then(|| hyper::upgrade::on(&mut request));

    let (parts, body) = request.into_parts();
    let client = parts.extensions.get::<ClientAddress>().map(|address| address.0);
    let peer = parts.extensions.get::<PeerAddress>();
    let secure = peer.is_some_and(|peer| gateway.0.proxies.client_uses_tls(peer.0, &parts.headers));
    let request_id = crate::http::current_request_id();
    let mut headers = parts.headers;
    let upgrade_to = headers.get(header::UPGRADE).cloned();
    clean_request(
        &mut headers,
        &Forwarded {
            client,
            secure,
            request_id: request_id.as_deref(),
        },
    );
    crate::telemetry::trace::pass_on(&mut headers);
    if let (true, Some(protocol)) = (wants_upgrade, upgrade_to) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }

    // A safe request without a body may be sent once more when nobody took the first connection.
    let spare = (matches!(parts.method, Method::GET | Method::HEAD) && !wants_upgrade)
        .then(|| outgoing(parts.method.clone(), uri.clone(), headers.clone(), Body::empty()));
    let (progress, taken) = (Progress::default(), Arc::new(AtomicU64::new(0)));
    let body = if spare.is_some() {
        Body::empty()
    } else {
        Body::new(Passing {
            body,
            progress: progress.clone(),
            taken: taken.clone(),
            limit: body_limit,
            nudge: parts.extensions.get::<Nudge>().cloned(),
        })
    };
    let first = outgoing(parts.method, uri, headers, body);

    let answer = tokio::time::timeout(limit, async {
        match gateway.0.client.request(first).await {
            Err(error) if error.is_connect() => match spare {
                Some(again) => gateway.0.client.request(again).await,
                None => Err(error),
            },
            other => other,
        }
    });
    let mut response = match answer.await {
        Err(_elapsed) if progress.waits_for_client() => return Err(Refusal::OfClient(progress::too_slow())),
        Err(_elapsed) => return Err(Refusal::OfService(timed_out(target))),
        Ok(Err(error)) if error.is_connect() => {
            return Err(Refusal::OfService(unavailable(target).with_cause(error)));
        }
        Ok(Err(_)) if taken.load(Ordering::Relaxed) > body_limit => return Err(Refusal::OfClient(too_large())),
        Ok(Err(_)) if progress.is_broken() => {
            let error = ApiError::bad_request("The request body could not be read").with_code("INVALID_BODY");
            return Err(Refusal::OfClient(error));
        }
        Ok(Err(error)) => return Err(Refusal::OfService(broken(target, error))),
        Ok(Ok(response)) => response,
    };
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(client_side)) = (response.status(), client_side) {
        let service_side = hyper::upgrade::on(&mut response);
        upgrade::join(
            &gateway.0.tasks,
            client_side,
            service_side,
            gateway.0.config.socket_idle,
        );
        return Ok(response.map(|_| Body::empty()));
    }
    clean_response(response.headers_mut());
    Ok(response.map(Body::new))
}

/// A request body on its way through: counted, and known to be late or broken by whose fault.
struct Passing {
    body: Body,
    progress: Progress,
    taken: Arc<AtomicU64>,
    limit: u64,
    nudge: Option<Nudge>,
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.body = Body::empty();
        self.nudge.iter().for_each(Nudge::nudge);
    }
}

impl HttpBody for Passing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.progress.note(&polled);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            let taken = self.taken.fetch_add(length, Ordering::Relaxed) + length;
            if taken > self.limit {
                return Poll::Ready(Some(Err(axum::Error::new(io::Error::from(
                    io::ErrorKind::FileTooLarge,
                )))));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that was taken and then lost: the service died (503) or does not speak HTTP (502).
fn broken(target: Target, error: hyper_util::client::legacy::Error) -> ApiError {
    let is_parse = std::error::Error::source(&error)
        .and_then(|source| source.downcast_ref::<hyper::Error>())
        .is_some_and(hyper::Error::is_parse);
    let refusal = if is_parse {
        malformed(target)
    } else {
        unavailable(target)
    };
    refusal.with_cause(error)
}

fn outgoing(method: Method, uri: Uri, headers: http::HeaderMap, body: Body) -> http::Request<Body> {
    let mut request = http::Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request
}

/// The service's address with the path and query of the request, untouched.
fn upstream_uri(base: &Url, original: &Uri) -> Option<Uri> {
    let authority = match base.port() {
        Some(port) => format!("{}:{port}", base.host_str()?),
        None => base.host_str()?.to_owned(),
    };
    let path = original
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::builder()
        .scheme(base.scheme())
        .authority(authority)
        .path_and_query(path)
        .build()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_are_kept_byte_for_byte() {
        let base = Url::parse("http://business-pod:8080/").unwrap();
        let original: Uri = "/api/v1/flights/search?origin=Par%20is&max=3".parse().unwrap();
        let uri = upstream_uri(&base, &original).unwrap();
        assert_eq!(
            uri.to_string(),
            "http://business-pod:8080/api/v1/flights/search?origin=Par%20is&max=3"
        );
    }
}
