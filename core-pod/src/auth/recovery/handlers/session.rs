//! `POST /api/v1/auth/revoke-session`: "this was not me" in the mail about a new device (core §14).

use axum::{Json, extract::State};
use http::HeaderMap;
use shared::{ApiError, events::outbox, http::client_address::ClientAddress, id::SessionId};

use super::{Caller, Purpose, TokenBody, Told, claim, limited, void};
use crate::auth::{
    Auth, AuthState,
    events::{self, Reason},
    fields::Fields,
    security::{self, SecurityEvent, kind},
    store,
};

/// Ends the session that the mail was about.
#[utoipa::path(
    post, path = "/api/v1/auth/revoke-session", tag = "auth", request_body = TokenBody,
    responses(
        (status = 200, description = "The session has ended, or had already", body = Told),
        (status = 400, description = "Validation failed, or INVALID_OR_EXPIRED_TOKEN"),
        (status = 429, description = "Too many tries from this address"),
    ),
)]
pub async fn revoke_session(
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
    Fields(body): Fields<TokenBody>,
) -> Result<Json<Told>, ApiError> {
    limited(&state, address).await?;
    let (token, caller, now) = (body.parse()?, Caller::new(address, &headers), state.sources.now());
    let mut tx = state.db.begin().await?;
    let found = claim(&mut tx, &state, token, &[Purpose::RevokeSession]).await?;
    let session = found.about.session.ok_or_else(void)?;
    let ended = store::end_sessions(&mut tx, &[session], &[], &[], "not_me", now).await?;
    let (event, origin) = (SecurityEvent::new(found.user, kind::SESSION_REVOKED), caller.origin());
    security::note(&mut tx, &state.sources, &event.session(session).from(&origin)).await?;
    let told = ended
        .iter()
        .map(|ended| events::logout(&state.sources, ended.session, ended.user, Reason::UserInitiated));
    outbox::append::<Auth>(&mut tx, &told.collect::<Vec<_>>()).await?;
    tx.commit().await?;
    let ended: Vec<SessionId> = ended.into_iter().map(|ended| ended.session).collect();
    state.sessions.announce_revoked(&ended).await;
    Ok(Json(Told::new("The session was ended")))
}
