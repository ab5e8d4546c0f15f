//! `GET /.well-known/jwks.json`: the public keys (core §14).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderValue, header};
use shared::auth::tokens::Jwks;

use crate::auth::AuthState;

/// The public keys that access and service tokens verify with.
#[utoipa::path(
    get, path = "/.well-known/jwks.json", tag = "auth",
    responses((status = 200, description = "The key set (RFC 7517)", body = Jwks)),
)]
pub async fn jwks(State(state): State<AuthState>) -> Response {
    let mut response = Json(state.keys.ring().current().jwks()).into_response();
    let cache = HeaderValue::from_static("public, max-age=60, stale-if-error=86400");
    response.headers_mut().insert(header::CACHE_CONTROL, cache);
    response
}
