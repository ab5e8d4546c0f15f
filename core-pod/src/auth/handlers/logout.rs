//! `POST /api/v1/auth/logout`: ends the session that the cookies or the bearer name (core §4.8, §2.5).
//!
//! Always 200, with or without a session; only what could not be done (the database is away) is not said to be done.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::HeaderMap;
use shared::{
    ApiError,
    auth::{
        authenticator::{SESSION_COOKIE, bearer, cookie},
        tokens::TokenError,
    },
    events::outbox,
    id::SessionId,
};

use super::{Done, cookies};
use crate::auth::{
    Auth, AuthState,
    cookies::REFRESH_COOKIE,
    events::{self, Reason},
    sessions::digest,
    store,
};

/// Signs out.
#[utoipa::path(
    post, path = "/api/v1/auth/logout", tag = "auth",
    responses((status = 200, description = "Signed out; clears both cookies", body = Done)),
    security(("bearer" = []), ("session_cookie" = []), ("refresh_cookie" = []), ()),
)]
pub async fn logout(State(state): State<AuthState>, headers: HeaderMap) -> Response {
    let mut response = match end(&state, &headers).await {
        Ok(()) => Json(Done {
            success: true,
            message: "Logged out successfully",
        })
        .into_response(),
        Err(error) => error.into_response(),
    };
    cookies(&state).clear(response.headers_mut());
    response
}

async fn end(state: &AuthState, headers: &HeaderMap) -> Result<(), ApiError> {
    let named: Vec<SessionId> = named_by_bearer(state, headers).await.into_iter().collect();
    // a page of another site must not sign anybody out
    let from_cookies = state.origins.may_call(headers);
    let hashes = |name| -> Vec<Vec<u8>> {
        let value = cookie(headers, name).filter(|_| from_cookies);
        value
            .and_then(digest)
            .map(|digest| digest.to_vec())
            .into_iter()
            .collect()
    };
    let (refresh, session) = (hashes(REFRESH_COOKIE), hashes(SESSION_COOKIE));
    if named.is_empty() && refresh.is_empty() && session.is_empty() {
        return Ok(());
    }
    let mut tx = state.db.begin().await?;
    let now = state.sources.now();
    let ended = store::end_sessions(&mut tx, &named, &refresh, &session, "user_initiated", now).await?;
    let told = ended
        .iter()
        .map(|end| events::logout(&state.sources, end.session, end.user, Reason::UserInitiated));
    outbox::append::<Auth>(&mut tx, &told.collect::<Vec<_>>()).await?;
    tx.commit().await?;
    let ended: Vec<SessionId> = ended.into_iter().map(|ended| ended.session).collect();
    state.sessions.announce_revoked(&ended).await;
    Ok(())
}

/// The session of a verified bearer. One that has expired still says whose session it was.
async fn named_by_bearer(state: &AuthState, headers: &HeaderMap) -> Option<SessionId> {
    match state.verifier.access(bearer(headers)?).await {
        Ok(claims) | Err(TokenError::Expired(claims)) => Some(claims.sid),
        Err(_) => None,
    }
}
