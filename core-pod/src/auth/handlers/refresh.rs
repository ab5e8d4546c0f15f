//! `POST /api/v1/auth/refresh`: the next refresh token and a new access token (core §4.6, §2.4).
//!
//! Of any number of requests with one token, one gets the next. A second use within ten seconds is refused and nothing
//! else; a later one means that somebody has a copy, and ends the whole session.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use shared::{
    ApiError,
    auth::{
        authenticator::{cookie, session_cookie},
        session::SessionState,
    },
    events::outbox,
};
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{Answer, Tokens, cookies, login::suspended};
use crate::auth::{
    Auth, AuthState,
    cookies::REFRESH_COOKIE,
    events::{self, Reason},
    fields::{Fields, Text},
    model::{Family, Refusal},
    security::{self, SecurityEvent, kind},
    sessions::{self, digest, fingerprint, remaining},
    store::{self, Claimed},
};

/// For clients without cookies.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefreshBody {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    refresh_token: Text,
}

/// The new tokens.
#[derive(Serialize, ToSchema)]
pub struct Refreshed {
    tokens: Tokens,
}

/// Exchanges a refresh token for new tokens.
#[utoipa::path(
    post, path = "/api/v1/auth/refresh", tag = "auth", request_body = RefreshBody,
    responses(
        (status = 200, description = "Sets the cookies refreshToken and ds_session", body = Answer<Refreshed>),
        (status = 401, description = "REFRESH_TOKEN_MISSING, INVALID_REFRESH_TOKEN, REFRESH_TOKEN_EXPIRED, REFRESH_TOKEN_REUSED or ACCOUNT_SUSPENDED"),
        (status = 403, description = "The request comes from a page of another site"),
        (status = 429, description = "Too many refreshes from this address"),
    ),
    security(("refresh_cookie" = []), ()),
)]
pub async fn refresh(
    State(state): State<AuthState>,
    headers: HeaderMap,
    Fields(body): Fields<RefreshBody>,
) -> Result<Response, ApiError> {
    let from_cookie = cookie(&headers, REFRESH_COOKIE);
    if from_cookie.is_some() && !state.origins.may_call(&headers) {
        return Err(ApiError::forbidden("Requests from this origin are not accepted"));
    }
    let token = from_cookie
        .or(body.refresh_token.given())
        .filter(|token| !token.is_empty());
    let token =
        token.ok_or_else(|| ApiError::unauthenticated("REFRESH_TOKEN_MISSING", "Refresh token not provided"))?;
    let presented =
        digest(token).ok_or_else(|| ApiError::unauthenticated("INVALID_REFRESH_TOKEN", "Failed to refresh token"))?;

    let now = state.sources.now();
    let mut tx = state.db.begin().await?;
    let Some(claimed) = store::claim_refresh(&mut tx, presented, now).await? else {
        let family = store::find_family(&mut tx, presented).await?;
        return Err(refuse(&state, tx, family, now).await);
    };
    state.keys.ready().await?;
    let rotated = rotate(&mut tx, &state, &claimed, &headers, now).await?;
    tx.commit().await?;

    metrics::counter!("auth_refreshes_total", "outcome" => "success").increment(1);
    let life = state.config.sessions.life(claimed.remember_me);
    let evidence = sessions::Evidence {
        amr: claimed.amr,
        authenticated_at: claimed.authenticated_at,
    };
    let access_token = sessions::sign(
        &state,
        claimed.user,
        &claimed.email,
        claimed.role,
        claimed.session,
        evidence,
    )?;
    let tokens = Tokens::new(&state, access_token, life);
    let answer = Answer::new("Tokens refreshed successfully", Refreshed { tokens });
    let mut response = Json(answer).into_response();
    let life = remaining(rotated.expires_at, now);
    cookies(&state).set_refresh(response.headers_mut(), &rotated.refresh, life);
    cookies(&state).set_session(response.headers_mut(), &rotated.cookie, life);
    Ok(response)
}

struct Rotated {
    refresh: String,
    cookie: String,
    expires_at: DateTime<Utc>,
}

async fn rotate(
    tx: &mut PgConnection,
    state: &AuthState,
    claimed: &Claimed,
    headers: &HeaderMap,
    now: DateTime<Utc>,
) -> Result<Rotated, ApiError> {
    let sliding = now + state.config.sessions.life(claimed.remember_me);
    let expires_at = sliding.min(claimed.absolute_expires_at);
    let refresh = state.sources.secret();
    let next = fingerprint(&refresh);
    store::insert_refresh(tx, claimed.session, next, expires_at, now).await?;
    let cookie = if let Some(kept) = own_cookie(state, claimed, headers).await {
        kept
    } else {
        let cookie = state.sources.secret();
        store::insert_cookie(tx, claimed.session, fingerprint(&cookie), now).await?;
        cookie
    };
    let access_until = now + state.signer.access_ttl();
    let told = events::token_refreshed(&state.sources, claimed.session, claimed.user, access_until);
    outbox::append::<Auth>(tx, &[told]).await?;
    Ok(Rotated {
        refresh,
        cookie,
        expires_at,
    })
}

/// The browser's session cookie, if it is one of this session: then it is kept and lives on.
async fn own_cookie(state: &AuthState, claimed: &Claimed, headers: &HeaderMap) -> Option<String> {
    let secret = session_cookie(headers)?;
    let found = state.sessions.by_cookie(&secret).await.ok()?;
    let is_own = matches!(found, SessionState::Live(view) if view.session == claimed.session);
    is_own.then(|| secret.expose().to_owned())
}

/// The 401 for a token that could not be claimed; a replayed one takes its session with it.
async fn refuse(
    state: &AuthState,
    tx: sqlx::Transaction<'static, sqlx::Postgres>,
    family: Option<Family>,
    now: DateTime<Utc>,
) -> ApiError {
    let refusal = family.map_or(Refusal::Unknown, |family| family.refusal(now));
    let label = match refusal {
        Refusal::Unknown => "invalid",
        Refusal::Expired => "expired",
        Refusal::JustUsed => "just_used",
        Refusal::Replayed => "replayed",
        Refusal::Suspended => "suspended",
    };
    metrics::counter!("auth_refreshes_total", "outcome" => label).increment(1);
    let reused = || ApiError::unauthenticated("REFRESH_TOKEN_REUSED", "Invalid or expired refresh token");
    match (refusal, family) {
        (Refusal::Replayed, Some(family)) => match end_family(state, tx, &family, now).await {
            Ok(()) => reused(),
            Err(error) => error,
        },
        (Refusal::JustUsed | Refusal::Replayed, _) => reused(),
        (Refusal::Expired, _) => ApiError::unauthenticated("REFRESH_TOKEN_EXPIRED", "Failed to refresh token"),
        (Refusal::Suspended, _) => suspended(),
        (Refusal::Unknown, _) => ApiError::unauthenticated("INVALID_REFRESH_TOKEN", "Invalid or expired refresh token"),
    }
}

async fn end_family(
    state: &AuthState,
    mut tx: sqlx::Transaction<'static, sqlx::Postgres>,
    family: &Family,
    now: DateTime<Utc>,
) -> Result<(), ApiError> {
    let ended = store::end_sessions(&mut tx, &[family.session], &[], &[], "replayed", now).await?;
    let event = SecurityEvent::new(family.user, kind::TOKEN_REUSED).session(family.session);
    security::note(&mut tx, &state.sources, &event).await?;
    let told: Vec<_> = ended
        .iter()
        .map(|ended| events::logout(&state.sources, ended.session, ended.user, Reason::Forced))
        .collect();
    outbox::append::<Auth>(&mut tx, &told).await?;
    tx.commit().await?;
    tracing::warn!(user = %family.user, session = %family.session, "a used refresh token was presented again; the session is ended");
    state.sessions.announce_revoked(&[family.session]).await;
    Ok(())
}
