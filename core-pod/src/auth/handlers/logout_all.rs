//! `POST /api/v1/auth/logout-all`: ends every session of the caller, this one included (core §4.9, §2.5).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::HeaderMap;
use serde_json::json;
use shared::{ApiError, auth::AuthUser, http::client_address::ClientAddress};

use super::{Done, cookies, origin_of};
use crate::auth::{
    AuthState,
    events::Reason,
    security::{self, SecurityEvent, kind},
    sessions::{self, Origin},
};

/// Signs out everywhere.
#[utoipa::path(
    post, path = "/api/v1/auth/logout-all", tag = "auth",
    responses(
        (status = 200, description = "Signed out everywhere; clears both cookies", body = Done),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn logout_all(
    caller: AuthUser,
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (ip_address, user_agent) = origin_of(address, &headers);
    let origin = Origin {
        ip_address: &ip_address,
        user_agent: user_agent.as_deref(),
    };
    let mut tx = state.db.begin().await?;
    let ended = sessions::end_all(
        &mut tx,
        &state,
        caller.user,
        None,
        "user_initiated",
        Reason::UserInitiated,
    )
    .await?;
    let event = SecurityEvent::new(caller.user, kind::SESSIONS_REVOKED)
        .session(caller.session)
        .from(&origin)
        .data(json!({ "sessions": ended.len() }));
    security::note(&mut tx, &state.sources, &event).await?;
    tx.commit().await?;
    state.sessions.announce_revoked(&ended).await;

    let mut response = Json(Done {
        success: true,
        message: "Logged out from all devices successfully",
    })
    .into_response();
    cookies(&state).clear(response.headers_mut());
    Ok(response)
}
