//! The caller of a request.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use async_trait::async_trait;
use axum::extract::{FromRef, FromRequestParts, OptionalFromRequestParts};
use http::{HeaderMap, Method, request::Parts};

use crate::{
    error::ApiError,
    id::{SessionId, UserId},
};

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[sqlx(type_name = "text", rename_all = "UPPERCASE")]
pub enum Role {
    /// A traveller.
    User,
    /// An administrator.
    Admin,
    /// A moderator: no administrator's rights.
    Moderator,
}

/// How the caller proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// `Authorization: Bearer` with an access token.
    Bearer,
    /// The `ds_session` cookie.
    Cookie,
}

/// A signed-in traveller whose session is live and whose account is neither deleted nor suspended.
#[derive(Clone)]
pub struct AuthUser {
    /// The account.
    pub user: UserId,
    /// The session (`sid`).
    pub session: SessionId,
    /// The account's role, from the session check and not from the token.
    pub role: Role,
    /// The address in the token; absent for cookie identity outside the core pod.
    pub email: Option<String>,
    /// How the caller was identified.
    pub via: Via,
}

impl fmt::Debug for AuthUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthUser")
            .field("user", &self.user)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// Another service of the platform, proven by a service token (core §2.8).
#[derive(Debug, Clone)]
pub struct ServiceCaller {
    /// `voyage-service`.
    pub service: String,
}

/// Who made a request, as its handler's extractors found out.
#[derive(Debug, Clone)]
pub enum Caller {
    /// A traveller or an administrator.
    User(AuthUser),
    /// Another service.
    Service(ServiceCaller),
}

/// A place in a request's extensions where the extractors of this module leave the [`Caller`], for whoever stands around
/// the handler and wants to know without asking again: the audit log. A request without a slot is handled all the same.
#[derive(Debug, Clone, Default)]
pub struct CallerSlot(Arc<OnceLock<Caller>>);

impl CallerSlot {
    /// The caller, once a handler has asked for it and got one.
    pub fn caller(&self) -> Option<&Caller> {
        self.0.get()
    }

    fn fill(parts: &Parts, caller: impl FnOnce() -> Caller) {
        if let Some(slot) = parts.extensions.get::<Self>() {
            slot.0.get_or_init(caller);
        }
    }
}

/// Identifies the caller of a request (core §2.3, §2.4). Object-safe so that tests and pods can differ.
#[async_trait]
pub trait Authenticate: Send + Sync + 'static {
    /// The caller, `None` without any credential (no bearer, or `null`/`undefined`/empty, and no cookie);
    /// the 401, 403 or 503 of the contract otherwise.
    async fn user(&self, method: &Method, headers: &HeaderMap) -> Result<Option<AuthUser>, ApiError>;

    /// The calling service; 401 without a valid service token.
    async fn service(&self, headers: &HeaderMap) -> Result<ServiceCaller, ApiError>;
}

/// The authenticator in a service's state.
#[derive(Clone)]
pub struct Authenticator(pub Arc<dyn Authenticate>);

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authenticator")
    }
}

impl<S> FromRequestParts<S> for AuthUser
where
    S: Send + Sync,
    Authenticator: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Authenticator::from_ref(state)
            .0
            .user(&parts.method, &parts.headers)
            .await?;
        let caller = caller.ok_or_else(|| ApiError::unauthenticated("TOKEN_MISSING", "Access token required"))?;
        CallerSlot::fill(parts, || Caller::User(caller.clone()));
        Ok(caller)
    }
}

impl<S> OptionalFromRequestParts<S> for AuthUser
where
    S: Send + Sync,
    Authenticator: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, ApiError> {
        let caller = Authenticator::from_ref(state)
            .0
            .user(&parts.method, &parts.headers)
            .await?;
        if let Some(caller) = &caller {
            CallerSlot::fill(parts, || Caller::User(caller.clone()));
        }
        Ok(caller)
    }
}

impl<S> FromRequestParts<S> for ServiceCaller
where
    S: Send + Sync,
    Authenticator: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Authenticator::from_ref(state).0.service(&parts.headers).await?;
        CallerSlot::fill(parts, || Caller::Service(caller.clone()));
        Ok(caller)
    }
}
