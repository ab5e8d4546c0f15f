//! The second request of a sign-in: `/api/v1/auth/mfa/verify`.
//!
//! contract: core §14; completes exactly as `POST /auth/login` does (§4.2)

use axum::{Json, extract::State, response::Response};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::{ApiError, http::client_address::ClientAddress};
use utoipa::ToSchema;

use super::From;
use crate::auth::{
    AuthState,
    fields::{Fields, Problems, Text},
    handlers::{Answer, SignedIn, logged_in},
    mfa::{second_factor::OfferBody, sign_in},
};

/// The ticket of the sign-in and one second factor.
#[derive(Deserialize, ToSchema)]
#[schema(as = SecondFactorBody)]
pub struct VerifyBody {
    #[serde(default)]
    #[schema(value_type = String)]
    ticket: Text,
    #[serde(flatten)]
    offer: OfferBody,
}

/// Completes a sign-in with the second factor.
#[utoipa::path(
    post, path = "/api/v1/auth/mfa/verify", tag = "auth", request_body = VerifyBody,
    responses(
        (status = 200, description = "Signed in; sets the cookies refreshToken and ds_session", body = Answer<SignedIn>),
        (status = 400, description = "Validation failed"),
        (status = 401, description = "INVALID_SECOND_FACTOR, MFA_TICKET_INVALID or ACCOUNT_SUSPENDED"),
        (status = 429, description = "Too many wrong second factors for this account"),
    ),
)]
pub async fn verify(
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
    Fields(body): Fields<VerifyBody>,
) -> Result<Response, ApiError> {
    let mut problems = Problems::default();
    let ticket = problems.take(body.ticket.required("ticket", "Ticket is required"));
    let offer = body.offer.parse(&mut problems);
    if offer.is_none() {
        problems.add("code", "One of code, recoveryCode and passkey is required");
    }
    let (Some(ticket), Some(offer)) = (ticket, offer) else {
        return Err(problems.into_error());
    };
    let from = From::new(address, &headers);
    let verified = sign_in::verify(&state, ticket, offer, address, &from.origin()).await;
    let outcome = match &verified {
        Ok(verified) => verified.second.as_str(),
        Err(error) if error.status().is_server_error() => "error",
        Err(_) => "refused",
    };
    metrics::counter!("auth_second_factors_total", "outcome" => outcome).increment(1);
    let sign_in::Verified { account, opened, .. } = verified?;
    Ok(logged_in(&state, account, opened))
}

/// The ticket of the sign-in.
#[derive(Deserialize, ToSchema)]
pub struct ChallengeBody {
    #[serde(default)]
    #[schema(value_type = String)]
    ticket: Text,
}

/// What a browser hands to its authenticators.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasskeyChallenge {
    /// For `navigator.credentials.get`, binary values in base64url.
    #[schema(value_type = Object)]
    pub public_key: Value,
}

/// A challenge for a passkey as the second factor.
#[utoipa::path(
    post, path = "/api/v1/auth/mfa/challenge", tag = "auth", request_body = ChallengeBody,
    responses(
        (status = 200, description = "The challenge", body = Answer<PasskeyChallenge>),
        (status = 400, description = "Validation failed"),
        (status = 401, description = "MFA_TICKET_INVALID"),
        (status = 404, description = "NO_PASSKEY"),
    ),
)]
pub async fn challenge(
    State(state): State<AuthState>,
    address: ClientAddress,
    Fields(body): Fields<ChallengeBody>,
) -> Result<Json<Answer<PasskeyChallenge>>, ApiError> {
    let mut problems = Problems::default();
    let ticket = problems.take(body.ticket.required("ticket", "Ticket is required"));
    let ticket = ticket.ok_or_else(|| problems.into_error())?;
    let public_key = sign_in::challenge_passkeys(&state, ticket, address).await?;
    Ok(Json(Answer::new("Use your passkey", PasskeyChallenge { public_key })))
}
