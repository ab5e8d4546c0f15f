//! One request through the gateway.

use std::time::{Duration, Instant};

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method, StatusCode, Uri, header, uri::PathAndQuery};
use serde_json::json;
use url::Url;

use super::{
    Gateway, Target, Upstream,
    headers::{Forwarded, clean_request, clean_response},
    routes::{Route, route},
    upgrade,
};
use crate::{
    error::ApiError,
    http::client_address::{ClientAddress, PeerAddress},
};

/// Streams the request to the service that has its path, or answers in the contract's shape why not.
pub(super) async fn handle(State(gateway): State<Gateway>, request: Request) -> Response {
    let Route::To(target) = route(request.uri().path()) else {
        return not_found(request.uri());
    };
    let Some(upstream) = gateway.0.upstreams.get(&target) else {
        return not_found(request.uri());
    };
    if !upstream.breaker.admits(Instant::now()) {
        return unavailable(target).into_response();
    }
    match forward(&gateway, target, upstream, request).await {
        Ok(response) => {
            upstream.breaker.record(Instant::now(), false);
            response
        }
        Err(refusal) => {
            upstream.breaker.record(Instant::now(), true);
            refusal.into_response()
        }
    }
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
) -> Result<Response, ApiError> {
    let uri = upstream_uri(&upstream.base, request.uri()).ok_or_else(|| malformed(target))?;
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
    if let (true, Some(protocol)) = (wants_upgrade, upgrade_to) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol);
    }

    // A safe request without a body may be sent once more when nobody took the first connection.
    let spare = (matches!(parts.method, Method::GET | Method::HEAD) && !wants_upgrade)
        .then(|| outgoing(parts.method.clone(), uri.clone(), headers.clone(), Body::empty()));
    let body = if spare.is_some() { Body::empty() } else { body };
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
        Err(_elapsed) => return Err(timed_out(target)),
        Ok(Err(error)) if error.is_connect() => return Err(unavailable(target).with_cause(error)),
        Ok(Err(error)) => return Err(broken(target, error)),
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
