//! `POST /api/v1/auth/forgot-password` and `/resend-verification`: links by mail (core §14).
//!
//! The handlers note the request and answer. They do not look whether there is such an account, so there is nothing in
//! the answer or in its time that could tell.

use axum::{Json, extract::State};
use http::StatusCode;
use serde::Deserialize;
use shared::{ApiError, auth::AuthUser, http::client_address::ClientAddress};
use utoipa::ToSchema;

use super::{Purpose, Told, store};
use crate::auth::{
    AuthState,
    fields::{Fields, Problems, Text},
    handlers::user_not_found,
    model::Email,
    recovery::model::Request,
    store::find_account,
};

/// Whose password was forgotten.
#[derive(Deserialize, ToSchema)]
pub struct ForgotPasswordBody {
    #[serde(default)]
    #[schema(value_type = String, format = Email)]
    email: Text,
}

/// Which address is to be confirmed; not needed by somebody who is signed in.
#[derive(Deserialize, ToSchema)]
pub struct ResendBody {
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Email)]
    email: Text,
}

fn address_of(field: &Text) -> Result<Email, ApiError> {
    let mut problems = Problems::default();
    let raw = problems.take(field.required("email", "Email is required"));
    let Some(email) = raw.map(Email::parse) else {
        return Err(problems.into_error());
    };
    email.ok_or_else(|| {
        problems.add("email", "Please provide a valid email address");
        problems.into_error()
    })
}

/// Sends a link for a new password, if there is such an account.
#[utoipa::path(
    post, path = "/api/v1/auth/forgot-password", tag = "auth", request_body = ForgotPasswordBody,
    responses(
        (status = 202, description = "Accepted; the answer is the same whether or not there is such an account", body = Told),
        (status = 400, description = "Validation failed"),
        (status = 429, description = "Too many requests from this address"),
    ),
)]
pub async fn forgot_password(
    State(state): State<AuthState>,
    address: ClientAddress,
    Fields(body): Fields<ForgotPasswordBody>,
) -> Result<(StatusCode, Json<Told>), ApiError> {
    let email = address_of(&body.email)?;
    let subject = format!("ip:{}", address.limit_subject());
    let decision = state.limiter.check(&state.config.recovery.requests, &subject).await;
    decision.into_result()?;
    note(&state, Purpose::ResetPassword, email.as_str()).await?;
    let told = Told::new("If there is an account with this address, we have sent it a link to choose a new password");
    Ok((StatusCode::ACCEPTED, Json(told)))
}

/// Sends the link that confirms an address once more: to the caller, or to the account of an address.
#[utoipa::path(
    post, path = "/api/v1/auth/resend-verification", tag = "auth", request_body = ResendBody,
    responses(
        (status = 202, description = "Accepted; the answer is the same whether or not there is anything to confirm", body = Told),
        (status = 400, description = "Validation failed"),
        (status = 401, description = "A bearer that is not valid"),
        (status = 429, description = "More than three within an hour"),
    ),
    security(("bearer" = []), ("session_cookie" = []), ()),
)]
pub async fn resend_verification(
    caller: Option<AuthUser>,
    State(state): State<AuthState>,
    address: ClientAddress,
    Fields(body): Fields<ResendBody>,
) -> Result<(StatusCode, Json<Told>), ApiError> {
    let email = match (&body.email, caller) {
        (Text::Absent, Some(caller)) => {
            let account = find_account(state.db.pool(), caller.user).await?;
            account.ok_or_else(user_not_found)?.email
        }
        (field, _) => {
            let email = address_of(field)?;
            let subject = format!("ip:{}", address.limit_subject());
            let decision = state.limiter.check(&state.config.recovery.requests, &subject).await;
            decision.into_result()?;
            email.as_str().to_owned()
        }
    };
    let decision = state.limiter.check(&state.config.recovery.resend, &email).await;
    decision.into_result()?;
    note(&state, Purpose::VerifyEmail, &email).await?;
    let told = Told::new("If there is an address to confirm, we have sent a link to it");
    Ok((StatusCode::ACCEPTED, Json(told)))
}

/// Leaves the request to the worker.
async fn note(state: &AuthState, purpose: Purpose, email: &str) -> Result<(), ApiError> {
    let request = Request {
        id: state.sources.uuid_v7(),
        purpose,
        email: email.to_owned(),
    };
    store::insert_request(state.db.pool(), &request, state.sources.now()).await?;
    state.bell.ring();
    Ok(())
}
