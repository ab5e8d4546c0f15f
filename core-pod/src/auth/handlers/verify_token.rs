//! `POST /api/v1/auth/verify-token`: is this caller still signed in (core §4.7).
//!
//! Browsers ask for themselves and get a session cookie if they have none. The other pods ask about a session they were
//! shown, with their service token and `{session}` (the cookie's value) or `{sid}` (from a token they verified); they get
//! no cookie.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, Method};
use serde::{Deserialize, Serialize};
use shared::{
    ApiError,
    auth::{
        AuthUser, Role,
        authenticator::{live, session_cookie, unchecked},
        session::{CookieSecret, SessionState},
    },
    http::client_address::ClientAddress,
    id::{SessionId, UserId},
};
use utoipa::ToSchema;

use super::{Answer, cookies, user_not_found};
use crate::auth::{
    AuthState,
    fields::{Fields, Text},
    sessions::{fingerprint, remaining},
    store,
};

/// What services send; travellers send nothing.
#[derive(Deserialize, ToSchema)]
pub struct VerifyBody {
    /// The value of a `ds_session` cookie.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    session: Text,
    /// A session id.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    sid: Text,
}

/// Who it is.
#[derive(Serialize, ToSchema)]
pub struct Verified {
    user: VerifiedUser,
    /// For services only.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<VerifiedSession>,
}

/// The account.
#[derive(Serialize, ToSchema)]
pub struct VerifiedUser {
    id: UserId,
    email: String,
    role: Role,
}

/// The session.
#[derive(Serialize, ToSchema)]
pub struct VerifiedSession {
    id: SessionId,
}

/// Checks a token, a cookie, or (for services) a session.
#[utoipa::path(
    post, path = "/api/v1/auth/verify-token", tag = "auth", request_body = VerifyBody,
    responses(
        (status = 200, description = "Live; sets ds_session for a browser that has none", body = Answer<Verified>),
        (status = 401, description = "One of the codes of an invalid token"),
    ),
    security(("bearer" = []), ("session_cookie" = []), ("service" = [])),
)]
pub async fn verify_token(
    State(state): State<AuthState>,
    method: Method,
    address: ClientAddress,
    headers: HeaderMap,
    Fields(body): Fields<VerifyBody>,
) -> Result<Response, ApiError> {
    if !matches!((&body.session, &body.sid), (Text::Absent, Text::Absent)) {
        state.authenticator.0.service(&headers).await?;
        return introspect(&state, &body).await;
    }
    let caller = state.authenticator.0.user(&method, &headers).await;
    let subject = match &caller {
        Ok(Some(caller)) => format!("user:{}", caller.user),
        Ok(None) | Err(_) => format!("ip:{}", address.limit_subject()),
    };
    let decision = state
        .limiter
        .check(&state.config.limits.other, &subject)
        .await
        .into_result()?;
    let caller = caller?.ok_or_else(|| ApiError::unauthenticated("TOKEN_MISSING", "Access token required"))?;
    let email = email(&state, caller.user).await?;
    let verified = Verified {
        user: VerifiedUser {
            id: caller.user,
            email,
            role: caller.role,
        },
        session: None,
    };
    let mut response = Json(Answer::new("Token is valid", verified)).into_response();
    decision.apply(response.headers_mut());
    give_cookie(&state, &caller, &headers, &mut response).await?;
    Ok(response)
}

async fn introspect(state: &AuthState, body: &VerifyBody) -> Result<Response, ApiError> {
    let found = match (
        body.session.given().and_then(CookieSecret::parse),
        body.sid.given().map(str::parse),
    ) {
        (Some(cookie), _) => state.sessions.by_cookie(&cookie).await.map_err(unchecked)?,
        (None, Some(Ok(session))) => state.sessions.by_id(session).await.map_err(unchecked)?,
        // a value that cannot be one of ours names no session
        _ => SessionState::Revoked,
    };
    let view = live(found)?;
    let user = VerifiedUser {
        id: view.user,
        email: email(state, view.user).await?,
        role: view.role,
    };
    let verified = Verified {
        user,
        session: Some(VerifiedSession { id: view.session }),
    };
    Ok(Json(Answer::new("Token is valid", verified)).into_response())
}

/// The account's address: as the session check read it, or else from the database. Not from the token, which may be older
/// than a change.
async fn email(state: &AuthState, user: UserId) -> Result<String, ApiError> {
    if let Some(email) = state.known.email(user) {
        return Ok(email);
    }
    let account = store::find_account(state.db.pool(), user).await?;
    let email = account.ok_or_else(user_not_found)?.email;
    state.known.note_email(user, email.clone());
    Ok(email)
}

/// Gives the browser a session cookie, unless it has a live one of this session.
async fn give_cookie(
    state: &AuthState,
    caller: &AuthUser,
    headers: &HeaderMap,
    response: &mut Response,
) -> Result<(), ApiError> {
    if let Some(held) = session_cookie(headers) {
        let found = state.sessions.by_cookie(&held).await.map_err(unchecked)?;
        if matches!(found, SessionState::Live(view) if view.session == caller.session) {
            return Ok(());
        }
    }
    let now = state.sources.now();
    let cookie = state.sources.secret();
    let given = store::give_cookie(state.db.pool(), caller.session, fingerprint(&cookie), now).await?;
    let Some(expires_at) = given else {
        return Ok(());
    };
    cookies(state).set_session(response.headers_mut(), &cookie, remaining(expires_at, now));
    Ok(())
}
