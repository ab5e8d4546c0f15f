//! `POST /api/v1/auth/service-token`: client credentials of a pod for a service token (core §2.8).
//!
//! Internal: the gateway does not let this path through.

use axum::{Json, extract::State};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use shared::{
    ApiError,
    auth::{
        service::{Credentials, IssuedEnvelope, IssuedToken},
        tokens::SERVICE_TOKEN_TTL,
    },
};
use subtle::ConstantTimeEq as _;

use crate::auth::{AuthState, fields::Fields};

/// Gives a pod its service token.
#[utoipa::path(
    post, path = "/api/v1/auth/service-token", tag = "internal", request_body = Credentials,
    responses(
        (status = 200, description = "The token, good for five minutes", body = IssuedEnvelope),
        (status = 401, description = "INVALID_CLIENT"),
    ),
)]
pub async fn service_token(
    State(state): State<AuthState>,
    Fields(credentials): Fields<Credentials>,
) -> Result<Json<IssuedEnvelope>, ApiError> {
    let known = state.config.clients.get(&credentials.client_id);
    // an unknown client is compared as well, with what nothing equals
    let expected = known
        .map(|client| Sha256::digest(client.secret.expose_secret().as_bytes()))
        .unwrap_or_default();
    let presented = Sha256::digest(credentials.client_secret.as_bytes());
    let matches = bool::from(expected.as_slice().ct_eq(presented.as_slice()));
    if known.is_none() || !matches {
        tracing::warn!("a client asked for a service token with wrong credentials");
        return Err(ApiError::unauthenticated(
            "INVALID_CLIENT",
            "Invalid client credentials",
        ));
    }
    state.keys.ready().await?;
    let access_token = state
        .signer
        .service(&credentials.client_id)
        .map_err(ApiError::internal)?;
    let data = IssuedToken {
        access_token,
        token_type: "Bearer".to_owned(),
        expires_in: SERVICE_TOKEN_TTL.as_secs(),
    };
    Ok(Json(IssuedEnvelope {
        success: true,
        message: "Token issued".to_owned(),
        data,
    }))
}
