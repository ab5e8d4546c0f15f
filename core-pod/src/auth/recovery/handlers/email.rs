//! `POST /api/v1/auth/verify-email` and `/revert-email`: links that were sent to an address (core §14).

use axum::{Json, extract::State};
use http::HeaderMap;
use shared::{ApiError, http::client_address::ClientAddress};
use sqlx::PgConnection;

use super::{Caller, Found, Purpose, TokenBody, Told, claim, limited, store, void};
use crate::auth::{
    AuthState,
    client::AccountError,
    events::{AUTH_SERVICE, Reason},
    fields::Fields,
    identity,
    model::{Changes, Email},
    recovery::issue,
    security::{self, SecurityEvent},
    sessions,
    store::lock_details,
};

/// Confirms an address: the present one, or one that becomes the present one by this.
#[utoipa::path(
    post, path = "/api/v1/auth/verify-email", tag = "auth", request_body = TokenBody,
    responses(
        (status = 200, description = "Confirmed", body = Told),
        (status = 400, description = "Validation failed, or INVALID_OR_EXPIRED_TOKEN"),
        (status = 409, description = "EMAIL_TAKEN: another account has the address by now"),
        (status = 429, description = "Too many tries from this address"),
    ),
)]
pub async fn verify_email(
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
    Fields(body): Fields<TokenBody>,
) -> Result<Json<Told>, ApiError> {
    limited(&state, address).await?;
    let (token, caller) = (body.parse()?, Caller::new(address, &headers));
    let mut tx = state.db.begin().await?;
    let found = claim(&mut tx, &state, token, &[Purpose::VerifyEmail, Purpose::ChangeEmail]).await?;
    confirm(&mut tx, &state, &found).await?;
    let (event, origin) = (SecurityEvent::new(found.user, "email_verified"), caller.origin());
    security::note(&mut tx, &state.sources, &event.from(&origin)).await?;
    tx.commit().await?;
    metrics::counter!("auth_emails_verified_total").increment(1);
    Ok(Json(Told::new("Email verified successfully")))
}

async fn confirm(tx: &mut PgConnection, state: &AuthState, found: &Found) -> Result<(), ApiError> {
    let email = found.about.email.as_deref().and_then(Email::parse).ok_or_else(void)?;
    let account = lock_details(tx, found.user).await?.ok_or_else(void)?;
    if found.purpose == Purpose::VerifyEmail && account.email != email.as_str() {
        // the account has moved on since
        return Err(void());
    }
    let changes = Changes {
        email: (found.purpose == Purpose::ChangeEmail).then_some(email),
        is_verified: Some(true),
        ..Changes::default()
    };
    identity::change_proven(tx, state, &account, &changes, AUTH_SERVICE).await?;
    Ok(())
}

/// Brings the old address of an account back and ends every session.
#[utoipa::path(
    post, path = "/api/v1/auth/revert-email", tag = "auth", request_body = TokenBody,
    responses(
        (status = 200, description = "Restored; every session has ended and a link for a new password is on its way", body = Told),
        (status = 400, description = "Validation failed, or INVALID_OR_EXPIRED_TOKEN"),
        (status = 409, description = "EMAIL_TAKEN: another account has the address by now"),
        (status = 429, description = "Too many tries from this address"),
    ),
)]
pub async fn revert_email(
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
    Fields(body): Fields<TokenBody>,
) -> Result<Json<Told>, ApiError> {
    limited(&state, address).await?;
    let (token, caller, now) = (body.parse()?, Caller::new(address, &headers), state.sources.now());
    let mut tx = state.db.begin().await?;
    let found = claim(&mut tx, &state, token, &[Purpose::RevertEmail]).await?;
    let user = found.user;
    let account = lock_details(&mut tx, user).await?.ok_or_else(void)?;
    let email = found.about.email.as_deref().and_then(Email::parse).ok_or_else(void)?;
    let changes = Changes {
        email: Some(email.clone()),
        is_verified: Some(found.about.verified),
        ..Changes::default()
    };
    identity::restore(&mut tx, &state, &account, &changes)
        .await
        .map_err(taken)?;
    // whoever made the change has seen these; links to mailboxes from before the change still work
    let seen = [Purpose::VerifyEmail, Purpose::ChangeEmail, Purpose::ResetPassword];
    store::retire_tokens(&mut tx, user, &seen, None, now).await?;
    store::retire_tokens(&mut tx, user, &[Purpose::RevertEmail], Some(found.created_at), now).await?;
    // and may know the password
    issue::reset(&mut tx, &state, user, account.first_name.as_deref(), email.as_typed()).await?;
    let (event, origin) = (SecurityEvent::new(user, "email_reverted"), caller.origin());
    security::note(&mut tx, &state.sources, &event.from(&origin)).await?;
    let ended = sessions::end_all(&mut tx, &state, user, None, "email_reverted", Reason::UserInitiated).await?;
    tx.commit().await?;
    state.sessions.announce_revoked(&ended).await;
    metrics::counter!("auth_emails_reverted_total").increment(1);
    Ok(Json(Told::new("Your address was restored and all sessions were ended")))
}

fn taken(error: AccountError) -> ApiError {
    match error {
        AccountError::EmailTaken => ApiError::conflict("EMAIL_TAKEN", "Another account uses this address by now"),
        other => other.into(),
    }
}
