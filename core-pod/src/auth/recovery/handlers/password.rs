//! `POST /api/v1/auth/reset-password`: a new password for the holder of a link (core §14).
//!
//! Every session ends, a lockout ends, and every other link for a new password is void. A password that is refused does
//! not use the link up.

use axum::{Json, extract::State};
use http::HeaderMap;
use serde::Deserialize;
use shared::{ApiError, events::outbox, http::client_address::ClientAddress};
use utoipa::ToSchema;

use super::{Caller, Purpose, Told, claim, limited, store, void};
use crate::auth::{
    Auth, AuthState,
    events::{self, Reason},
    fields::{Fields, Problems, Text},
    model::{Email, Owner},
    security::{self, SecurityEvent},
    sessions::{self, digest},
    store::find_account,
};

/// The link's token and the password it is for.
#[derive(Deserialize, ToSchema)]
pub struct ResetPasswordBody {
    #[serde(default)]
    #[schema(value_type = String)]
    token: Text,
    /// At least 8 characters with a lower-case and an upper-case letter, a digit and one of `@$!%*?&`.
    #[serde(default)]
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128)]
    password: Text,
}

/// Sets a new password.
#[utoipa::path(
    post, path = "/api/v1/auth/reset-password", tag = "auth", request_body = ResetPasswordBody,
    responses(
        (status = 200, description = "Set; every session has ended", body = Told),
        (status = 400, description = "Validation failed, PASSWORD_BREACHED, or INVALID_OR_EXPIRED_TOKEN"),
        (status = 429, description = "Too many tries from this address"),
        (status = 503, description = "Too many passwords are waiting to be hashed"),
    ),
)]
pub async fn reset_password(
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
    Fields(body): Fields<ResetPasswordBody>,
) -> Result<Json<Told>, ApiError> {
    let mut problems = Problems::default();
    let token = problems.take(body.token.required("token", "Token is required"));
    let raw = problems.take(body.password.required("password", "Password is required"));
    let (Some(token), Some(raw)) = (token, raw) else {
        return Err(problems.into_error());
    };
    limited(&state, address).await?;
    let token = digest(token).ok_or_else(void)?;

    // looked at before anything is hashed: a stranger cannot have us work
    let found = store::find_token(state.db.pool(), token, &[Purpose::ResetPassword], state.sources.now()).await?;
    let found = found.ok_or_else(void)?;
    let account = find_account(state.db.pool(), found.user).await?.ok_or_else(void)?;
    let Some(password) = problems.password("password", raw, &Owner::of(&account), &state.filter) else {
        return Err(problems.into_error());
    };
    let hash = state.hasher.hash(password.expose(), &state.sources).await?;

    let (user, now, caller) = (found.user, state.sources.now(), Caller::new(address, &headers));
    let mut tx = state.db.begin().await?;
    let redeemed = claim(&mut tx, &state, token, &[Purpose::ResetPassword]).await?;
    let proven = redeemed.about.email.as_deref().and_then(Email::parse);
    let proven = proven.as_ref().map(Email::as_str);
    if !store::reset_password(&mut tx, user, &hash, proven, now).await? {
        return Err(void());
    }
    store::retire_tokens(&mut tx, user, &[Purpose::ResetPassword], None, now).await?;
    let (event, origin) = (SecurityEvent::new(user, "password_reset"), caller.origin());
    security::note(&mut tx, &state.sources, &event.from(&origin)).await?;
    let told = events::password_changed(&state.sources, user, "forgot_password");
    outbox::append::<Auth>(&mut tx, &[told]).await?;
    let ended = sessions::end_all(&mut tx, &state, user, None, "password_reset", Reason::UserInitiated).await?;
    tx.commit().await?;
    state.sessions.announce_revoked(&ended).await;

    metrics::counter!("auth_password_changes_total", "method" => "forgot_password").increment(1);
    Ok(Json(Told::new("Password reset successfully")))
}
