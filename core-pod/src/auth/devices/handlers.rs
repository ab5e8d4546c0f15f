//! `GET` and `DELETE /api/v1/auth/sessions`, `DELETE /api/v1/auth/sessions/:id`, `GET /api/v1/auth/security-events`.
//!
//! contract: core §14, §2.5. Another traveller's session is not found, like one that never was.

use axum::{
    Json,
    extract::{Path, State},
};
use chrono::{DateTime, Utc};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::{
    ApiError,
    auth::AuthUser,
    http::{Query, client_address::ClientAddress},
    id::SessionId,
    sources::iso,
};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::auth::{
    AuthState,
    client::{Accounts, SecurityEntry, SessionInfo},
    devices::Device,
    events::Reason,
    handlers::{Answer, origin_of},
    security::{self, SecurityEvent, kind},
    sessions::{self, Origin},
    store,
};

/// One sign-in.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionItem {
    /// The session id.
    id: SessionId,
    device: Device,
    ip_address: Option<String>,
    user_agent: Option<String>,
    /// `password`, `oauth` or `token`.
    method: String,
    #[serde(with = "iso")]
    created_at: DateTime<Utc>,
    #[serde(with = "iso")]
    last_seen_at: DateTime<Utc>,
    #[serde(with = "iso")]
    expires_at: DateTime<Utc>,
    /// Whether the request was made in this session.
    current: bool,
}

/// The sign-ins of an account.
#[derive(Serialize, ToSchema)]
pub struct SessionList {
    sessions: Vec<SessionItem>,
}

/// The caller's live sessions, newest first.
#[utoipa::path(
    get, path = "/api/v1/auth/sessions", tag = "auth",
    responses(
        (status = 200, description = "The live sessions", body = Answer<SessionList>),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn list(caller: AuthUser, State(state): State<AuthState>) -> Result<Json<Answer<SessionList>>, ApiError> {
    let sessions = Accounts::new(state).sessions(caller.user).await?;
    let sessions = sessions.into_iter().map(|session| SessionItem::new(session, &caller));
    let data = SessionList {
        sessions: sessions.collect(),
    };
    Ok(Json(Answer::new("Sessions retrieved successfully", data)))
}

impl SessionItem {
    fn new(session: SessionInfo, caller: &AuthUser) -> Self {
        Self {
            current: session.id == caller.session,
            id: session.id,
            device: session.device,
            ip_address: session.ip_address,
            user_agent: session.user_agent,
            method: session.method,
            created_at: session.created_at,
            last_seen_at: session.last_seen_at,
            expires_at: session.expires_at,
        }
    }
}

/// How many sessions were ended.
#[derive(Serialize, ToSchema)]
pub struct EndedCount {
    revoked: usize,
}

/// Ends one of the caller's sessions, the calling one included.
#[utoipa::path(
    delete, path = "/api/v1/auth/sessions/{id}", tag = "auth",
    params(("id" = String, Path, description = "The session id")),
    responses(
        (status = 200, description = "Ended, in every pod within one second", body = Answer<EndedCount>),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "The caller has no such live session"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn end_one(
    caller: AuthUser,
    State(state): State<AuthState>,
    Path(id): Path<String>,
    address: ClientAddress,
    headers: HeaderMap,
) -> Result<Json<Answer<EndedCount>>, ApiError> {
    let not_found = || ApiError::not_found("Session not found").with_code("SESSION_NOT_FOUND");
    let id: SessionId = id.parse().map_err(|_| not_found())?;
    let (ip_address, user_agent) = origin_of(address, &headers);
    let origin = Origin {
        ip_address: &ip_address,
        user_agent: user_agent.as_deref(),
    };
    let mut tx = state.db.begin().await?;
    let ended = sessions::end_own(&mut tx, &state, caller.user, id).await?;
    if !ended {
        return Err(not_found());
    }
    let event = SecurityEvent::new(caller.user, kind::SESSION_REVOKED)
        .session(id)
        .from(&origin);
    security::note(&mut tx, &state.sources, &event).await?;
    tx.commit().await?;
    state.sessions.announce_revoked(&[id]).await;
    Ok(Json(Answer::new(
        "Session revoked successfully",
        EndedCount { revoked: 1 },
    )))
}

/// Ends all of the caller's sessions but the calling one.
#[utoipa::path(
    delete, path = "/api/v1/auth/sessions", tag = "auth",
    responses(
        (status = 200, description = "Ended, in every pod within one second", body = Answer<EndedCount>),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn end_others(
    caller: AuthUser,
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
) -> Result<Json<Answer<EndedCount>>, ApiError> {
    let (ip_address, user_agent) = origin_of(address, &headers);
    let origin = Origin {
        ip_address: &ip_address,
        user_agent: user_agent.as_deref(),
    };
    let mut tx = state.db.begin().await?;
    let calling = Some(caller.session);
    let reason = Reason::UserInitiated;
    let ended = sessions::end_all(&mut tx, &state, caller.user, calling, "user_initiated", reason).await?;
    if !ended.is_empty() {
        let event = SecurityEvent::new(caller.user, kind::SESSIONS_REVOKED)
            .session(caller.session)
            .from(&origin)
            .data(json!({ "sessions": ended.len() }));
        security::note(&mut tx, &state.sources, &event).await?;
    }
    tx.commit().await?;
    state.sessions.announce_revoked(&ended).await;
    let data = EndedCount { revoked: ended.len() };
    Ok(Json(Answer::new("Other sessions revoked successfully", data)))
}

/// Which part of the events. Everything is read as text: what is not understood is the default.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// 1 to 100, 20 if absent.
    #[param(value_type = Option<i64>)]
    limit: Option<String>,
    /// How many to skip.
    #[param(value_type = Option<i64>)]
    offset: Option<String>,
}

/// Something that happened to the account.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecurityItem {
    id: Uuid,
    /// `login`, `new_device`, `login_failures`, `account_locked`, `password_changed`, `session_revoked`, …
    kind: String,
    session_id: Option<SessionId>,
    ip_address: Option<String>,
    device: Device,
    #[schema(value_type = Object)]
    data: Value,
    #[serde(with = "iso")]
    created_at: DateTime<Utc>,
}

/// Where the part stands.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventsPage {
    total: i64,
    limit: i64,
    offset: i64,
    has_more: bool,
}

/// A part of what happened to the account.
#[derive(Serialize, ToSchema)]
pub struct SecurityList {
    events: Vec<SecurityItem>,
    pagination: EventsPage,
}

/// What happened to the caller's account, newest first.
#[utoipa::path(
    get, path = "/api/v1/auth/security-events", tag = "auth", params(EventsQuery),
    responses(
        (status = 200, description = "A part of the events", body = Answer<SecurityList>),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn security_events(
    caller: AuthUser,
    State(state): State<AuthState>,
    Query(query): Query<EventsQuery>,
) -> Result<Json<Answer<SecurityList>>, ApiError> {
    let number = |text: Option<&str>, default: i64| text.and_then(|text| text.trim().parse().ok()).unwrap_or(default);
    let limit = number(query.limit.as_deref(), 20).clamp(1, 100);
    let offset = number(query.offset.as_deref(), 0).max(0);
    let mut conn = state.db.acquire().await?;
    let (rows, total) = store::list_security_events(&mut conn, caller.user, limit, offset).await?;
    let events: Vec<_> = rows
        .into_iter()
        .map(|row| SecurityItem::from(SecurityEntry::from(row)))
        .collect();
    let shown = i64::try_from(events.len()).unwrap_or_default();
    let pagination = EventsPage {
        total,
        limit,
        offset,
        has_more: offset.saturating_add(shown) < total,
    };
    let data = SecurityList { events, pagination };
    Ok(Json(Answer::new("Security events retrieved successfully", data)))
}

impl From<SecurityEntry> for SecurityItem {
    fn from(entry: SecurityEntry) -> Self {
        Self {
            id: entry.id,
            kind: entry.kind,
            session_id: entry.session,
            ip_address: entry.ip_address,
            device: Device::of(entry.user_agent.as_deref()),
            data: entry.data,
            created_at: entry.created_at,
        }
    }
}
