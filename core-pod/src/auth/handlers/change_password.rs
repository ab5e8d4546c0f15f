//! `POST /api/v1/auth/change-password` (core §4.5, §2.5): the calling session lives on with a new cookie, all others end.
//!
//! Every refresh token is dead afterwards, the caller's included: the browser goes on with its access token and with
//! `ds_session`, whose value is replaced.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::HeaderMap;
use serde::Deserialize;
use shared::{ApiError, auth::AuthUser, events::outbox, http::client_address::ClientAddress, id::SessionId};
use utoipa::ToSchema;

use super::{Done, cookies, origin_of, user_not_found};
use crate::auth::{
    Auth, AuthState,
    credentials::{self, Proven},
    events::{self, Reason},
    fields::{Fields, Problems, Text},
    model::Owner,
    security::{self, SecurityEvent, kind},
    sessions::{Origin, fingerprint, remaining},
    store,
};

/// The present password and the next one.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangePasswordBody {
    #[serde(default)]
    #[schema(value_type = String, format = Password)]
    current_password: Text,
    /// At least 8 characters with a lower-case and an upper-case letter, a digit and one of `@$!%*?&`.
    #[serde(default)]
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128)]
    new_password: Text,
}

/// Changes the caller's password.
#[utoipa::path(
    post, path = "/api/v1/auth/change-password", tag = "auth", request_body = ChangePasswordBody,
    responses(
        (status = 200, description = "Changed; clears refreshToken, replaces ds_session, ends all other sessions", body = Done),
        (status = 400, description = "Validation failed, PASSWORD_BREACHED, or INCORRECT_PASSWORD"),
        (status = 401, description = "Not signed in"),
        (status = 503, description = "Too many passwords are waiting to be checked"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn change_password(
    caller: AuthUser,
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
    Fields(body): Fields<ChangePasswordBody>,
) -> Result<Response, ApiError> {
    let account = store::find_account(state.db.pool(), caller.user)
        .await?
        .ok_or_else(user_not_found)?;
    let mut problems = Problems::default();
    let current = problems.take(
        body.current_password
            .required("currentPassword", "Current password is required"),
    );
    let next = problems.take(body.new_password.required("newPassword", "New password is required"));
    let next = next.and_then(|raw| problems.password("newPassword", raw, &Owner::of(&account), &state.filter));
    let (Some(current), Some(next)) = (current, next) else {
        return Err(problems.into_error());
    };
    if current == next.expose() {
        problems.add("newPassword", "The new password must differ from the current one");
        return Err(problems.into_error());
    }

    let (ip_address, user_agent) = origin_of(address, &headers);
    let origin = Origin {
        ip_address: &ip_address,
        user_agent: user_agent.as_deref(),
    };
    let proven = credentials::check_again(&state, caller.user, current, &origin)
        .await?
        .ok_or_else(incorrect)?;
    let new_hash = state.hasher.hash(next.expose(), &state.sources).await?;
    let replaced = replace(&state, &proven, caller.session, &new_hash, &origin).await?;
    state.sessions.announce_revoked(&replaced.ended).await;
    state.known.forget_cookies(&replaced.dead_cookies);
    state.sessions.announce_dead_cookies(&replaced.dead_cookies).await;

    metrics::counter!("auth_password_changes_total", "method" => "user_initiated").increment(1);
    let mut response = Json(Done {
        success: true,
        message: "Password changed successfully",
    })
    .into_response();
    let cookies = cookies(&state);
    cookies.clear_refresh(response.headers_mut());
    cookies.set_session(response.headers_mut(), &replaced.cookie, replaced.life);
    Ok(response)
}

struct Replaced {
    cookie: String,
    life: std::time::Duration,
    ended: Vec<SessionId>,
    dead_cookies: Vec<Vec<u8>>,
}

/// One transaction: the hash, the other sessions, the secrets of this one, and everybody who is told.
async fn replace(
    state: &AuthState,
    proven: &Proven,
    calling: SessionId,
    new_hash: &str,
    origin: &Origin<'_>,
) -> Result<Replaced, ApiError> {
    let AuthState { sources, .. } = state;
    let (user, now) = (proven.user, sources.now());
    let cookie = sources.secret();
    let mut tx = state.db.begin().await?;
    if !store::change_password(&mut tx, user, &proven.hash, new_hash, now).await? {
        // another change was faster, or the account was locked in between
        return Err(incorrect());
    }
    let ended = store::end_all_sessions(&mut tx, user, Some(calling), "password_changed", now).await?;
    let dead_cookies = store::replace_secrets(&mut tx, calling, fingerprint(&cookie), now).await?;
    let expires_at = store::find_expiry(&mut *tx, calling).await?.unwrap_or(now);
    let event = SecurityEvent::new(user, kind::PASSWORD_CHANGED)
        .session(calling)
        .from(origin);
    security::note(&mut tx, sources, &event).await?;
    let mut told = vec![events::password_changed(sources, user, "user_initiated")];
    told.extend(
        ended
            .iter()
            .map(|session| events::logout(sources, *session, user, Reason::UserInitiated)),
    );
    outbox::append::<Auth>(&mut tx, &told).await?;
    tx.commit().await?;
    Ok(Replaced {
        cookie,
        life: remaining(expires_at, now),
        ended,
        dead_cookies,
    })
}

/// 400 and not 401, which would make the client forget its session.
fn incorrect() -> ApiError {
    ApiError::bad_request("Current password is incorrect").with_code("INCORRECT_PASSWORD")
}
