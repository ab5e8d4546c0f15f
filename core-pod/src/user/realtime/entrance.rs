//! The HTTP side of sockets: which requests reach Socket.IO at all.
//!
//! contract: core §1.8 (origins), §5.10, experience c.6 (4 KB)

use std::time::Duration;

use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use http_body_util::Limited;
use hyper::upgrade::OnUpgrade;
use shared::{
    ApiError,
    auth::authenticator::{SESSION_COOKIE, cookie},
    http::client_address::ClientAddress,
};
use tower::ServiceExt as _;

use super::MAX_MESSAGE;
use crate::user::UserState;

/// A poll may carry several messages of the largest size.
const MAX_BODY: usize = 4 * MAX_MESSAGE;

/// Hands a request to Socket.IO.
pub async fn enter(State(state): State<UserState>, request: Request) -> Response {
    if let Err(refusal) = check(&state, &request) {
        return refusal.into_response();
    }
    if opens_connection(request.uri()) {
        let address = request.extensions().get::<ClientAddress>();
        let subject = format!("ip:{}", address.map(ClientAddress::limit_subject).unwrap_or_default());
        let decision = state.limiter.check(&state.config.realtime.limit, &subject).await;
        if let Err(refusal) = decision.into_result() {
            return refusal.into_response();
        }
    }
    match state.realtime.0.service.clone().oneshot(slim(request)).await {
        Ok(response) => in_our_words(response),
        Err(never) => match never {},
    }
}

/// Browsers let any page open a WebSocket anywhere, so the page's origin is checked here and not by the browser.
fn check(state: &UserState, request: &Request) -> Result<(), ApiError> {
    if state.realtime.0.closing.is_cancelled() {
        let text = "Service temporarily unavailable";
        let closing = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "SERVICE_UNAVAILABLE", text);
        return Err(closing.with_retry_after(Duration::from_secs(1)));
    }
    if !state.realtime.0.origins.may_call(request.headers()) {
        return Err(ApiError::forbidden("Origin not allowed"));
    }
    if declared_length(request.headers()) > MAX_BODY {
        let text = "Request body too large";
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", text));
    }
    Ok(())
}

/// What goes on with a connection names it.
fn opens_connection(uri: &Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    !query.split('&').any(|pair| pair.starts_with("sid="))
}

fn declared_length(headers: &HeaderMap) -> usize {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    length.and_then(|length| length.parse().ok()).unwrap_or_default()
}

/// The request with nothing but what Socket.IO and the identity need, in memory of its own: the head is kept as long as
/// the socket is open, and as it came it keeps the whole buffer of its connection alive, other cookies included.
fn slim(request: Request) -> Request {
    let (mut parts, body) = request.into_parts();
    let mut slim = Request::new(Body::new(Limited::new(body, MAX_BODY)));
    *slim.method_mut() = parts.method;
    *slim.uri_mut() = parts.uri.to_string().parse().unwrap_or(parts.uri);
    let kept = [
        header::CONNECTION,
        header::UPGRADE,
        header::SEC_WEBSOCKET_KEY,
        header::SEC_WEBSOCKET_VERSION,
        header::CONTENT_TYPE,
    ];
    for name in kept {
        let copy = parts
            .headers
            .get(&name)
            .and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
        if let Some(copy) = copy {
            slim.headers_mut().insert(name, copy);
        }
    }
    let session = cookie(&parts.headers, SESSION_COOKIE)
        .and_then(|session| HeaderValue::try_from(format!("{SESSION_COOKIE}={session}")).ok());
    if let Some(mut session) = session {
        session.set_sensitive(true);
        slim.headers_mut().insert(header::COOKIE, session);
    }
    if let Some(upgrade) = parts.extensions.remove::<OnUpgrade>() {
        slim.extensions_mut().insert(upgrade);
    }
    slim
}

/// Engine.IO's own refusals have a body that its clients read; where it has none, the contract's stands.
fn in_our_words(response: Response) -> Response {
    let status = response.status();
    let is_bare = !response.headers().contains_key(header::CONTENT_TYPE);
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::new(status, "PAYLOAD_TOO_LARGE", "Request body too large").into_response();
    }
    if status.is_client_error() && is_bare {
        return ApiError::bad_request("Bad request").into_response();
    }
    if status.is_server_error() && is_bare {
        return ApiError::internal(anyhow::anyhow!("engine.io failed with {status}")).into_response();
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_kept_without_what_nobody_needs() {
        let request = Request::get("/socket.io/?EIO=4&transport=websocket")
            .header("cookie", "ds_guest=1; ds_session=abc; refreshToken=secret")
            .header("authorization", "Bearer secret")
            .header("user-agent", "x".repeat(500))
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(Body::empty())
            .unwrap();
        let slim = slim(request);
        assert_eq!(slim.headers()["cookie"], "ds_session=abc");
        assert_eq!(slim.headers().len(), 2);
        assert_eq!(slim.uri(), "/socket.io/?EIO=4&transport=websocket");
    }

    #[test]
    fn only_a_request_without_a_name_opens_a_connection() {
        assert!(opens_connection(&Uri::from_static(
            "/socket.io/?EIO=4&transport=polling"
        )));
        assert!(!opens_connection(&Uri::from_static(
            "/socket.io/?EIO=4&transport=polling&sid=abc"
        )));
    }
}
