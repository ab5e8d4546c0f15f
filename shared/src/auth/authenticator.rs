//! The caller of one request, from its headers: token, cookie, session, origin.
//!
//! contract: core §2.3 (401 bodies), §2.4 (cookie identity, expired bearers, unsafe methods), §2.8 (service tokens)

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, Method, header};

use super::{
    AuthUser, Authenticate, Authenticator, ServiceCaller, Via,
    session::{CookieSecret, SessionState, SessionView, Sessions, Unchecked},
    tokens::{AccessClaims, TokenError, Verifier},
};
use crate::error::ApiError;

/// The name of the browser's identity cookie.
pub const SESSION_COOKIE: &str = "ds_session";

/// Identifies callers in every pod; pods differ in where keys and sessions come from.
#[derive(Debug, Clone)]
pub struct PlatformAuthenticator {
    verifier: Verifier,
    sessions: Sessions,
    origins: Origins,
}

impl PlatformAuthenticator {
    /// An authenticator; `origins` is the allow-list of the CORS policy.
    pub fn new(verifier: Verifier, sessions: Sessions, origins: &[String]) -> Self {
        Self {
            verifier,
            sessions,
            origins: Origins::new(origins),
        }
    }

    /// Ready for a service's state.
    pub fn into_state(self) -> Authenticator {
        Authenticator(Arc::new(self))
    }

    async fn by_bearer(&self, token: &str, headers: &HeaderMap) -> Result<AuthUser, ApiError> {
        match self.verifier.access(token).await {
            Ok(claims) => {
                let state = self.sessions.by_id(claims.sid).await.map_err(unchecked)?;
                let view = live(state)?;
                if view.user != claims.sub {
                    return Err(ApiError::unauthenticated("INVALID_TOKEN", "Invalid token"));
                }
                Ok(caller(view, Some(&claims), Via::Bearer))
            }
            Err(TokenError::Expired(claims)) => self.by_expired_bearer(&claims, headers).await,
            Err(TokenError::Invalid) => Err(ApiError::unauthenticated("INVALID_TOKEN", "Invalid token")),
            Err(TokenError::WrongType) => Err(ApiError::unauthenticated("INVALID_TOKEN_TYPE", "Invalid token type")),
            Err(error @ TokenError::KeysUnavailable) => Err(ApiError::unavailable(error)),
        }
    }

    /// An expired bearer counts while a live cookie of the same subject comes with it. A page of another site cannot
    /// send the bearer, so the rule about origins does not apply.
    async fn by_expired_bearer(&self, claims: &AccessClaims, headers: &HeaderMap) -> Result<AuthUser, ApiError> {
        let expired = || ApiError::unauthenticated("TOKEN_EXPIRED", "Token expired");
        let cookie = session_cookie(headers).ok_or_else(expired)?;
        match self.sessions.by_cookie(&cookie).await.map_err(unchecked)? {
            SessionState::Live(view) if view.user == claims.sub => Ok(caller(view, Some(claims), Via::Bearer)),
            SessionState::Suspended => live(SessionState::Suspended).and(Err(expired())),
            _ => Err(expired()),
        }
    }

    /// A cookie of a session that is over leaves its browser anonymous: it may still search and fill a cart.
    async fn by_cookie(
        &self,
        cookie: &CookieSecret,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Option<AuthUser>, ApiError> {
        let state = self.sessions.by_cookie(cookie).await.map_err(unchecked)?;
        if matches!(state, SessionState::Revoked | SessionState::Gone) {
            return Ok(None);
        }
        let view = live(state)?;
        if !method.is_safe() && !self.origins.is_own_page(headers) {
            return Err(ApiError::forbidden("Cross-site requests need an access token"));
        }
        Ok(Some(caller(view, None, Via::Cookie)))
    }
}

/// The pages that may act for a traveller whom a cookie identifies: our own and those of the CORS allow-list.
#[derive(Debug, Clone)]
pub struct Origins(Arc<[String]>);

impl Origins {
    /// The allow-list of the CORS policy.
    pub fn new(allowed: &[String]) -> Self {
        Self(allowed.into())
    }

    /// Whether the browser says that one of our own pages sent the request (core §2.4).
    pub fn is_own_page(&self, headers: &HeaderMap) -> bool {
        match headers.get("sec-fetch-site") {
            Some(site) => site.as_bytes() == b"same-origin",
            None => self.names_allowed(headers),
        }
    }

    /// The milder rule of routes that a program may call as well (core §1.3, §4.6): an `Origin`, if there is one, is our
    /// own or on the list.
    pub fn may_call(&self, headers: &HeaderMap) -> bool {
        let same_origin = headers
            .get("sec-fetch-site")
            .is_some_and(|site| site.as_bytes() == b"same-origin");
        same_origin || !headers.contains_key(header::ORIGIN) || self.names_allowed(headers)
    }

    fn names_allowed(&self, headers: &HeaderMap) -> bool {
        let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
        origin.is_some_and(|origin| self.0.iter().any(|allowed| allowed == origin))
    }
}

#[async_trait]
impl Authenticate for PlatformAuthenticator {
    async fn user(&self, method: &Method, headers: &HeaderMap) -> Result<Option<AuthUser>, ApiError> {
        if let Some(token) = bearer(headers) {
            return self.by_bearer(token, headers).await.map(Some);
        }
        match session_cookie(headers) {
            Some(cookie) => self.by_cookie(&cookie, method, headers).await,
            None => Ok(None),
        }
    }

    async fn service(&self, headers: &HeaderMap) -> Result<ServiceCaller, ApiError> {
        let token =
            bearer(headers).ok_or_else(|| ApiError::unauthenticated("TOKEN_MISSING", "Service token required"))?;
        match self.verifier.service(token).await {
            Ok(claims) => Ok(ServiceCaller { service: claims.sub }),
            Err(error @ TokenError::KeysUnavailable) => Err(ApiError::unavailable(error)),
            Err(_) => Err(ApiError::unauthenticated("INVALID_TOKEN", "Invalid token")),
        }
    }
}

/// The bearer token; `None` for another scheme, an empty token and the literals `null` and `undefined`.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    let present = scheme.eq_ignore_ascii_case("bearer") && !matches!(token, "" | "null" | "undefined");
    present.then_some(token)
}

/// The value of a cookie, wherever in the `Cookie` headers it stands.
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|line| line.to_str().ok());
    let mut pairs = lines
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs
        .find(|(key, value)| *key == name && !value.is_empty())
        .map(|(_, value)| value)
}

/// The `ds_session` cookie, if it can be one of ours.
pub fn session_cookie(headers: &HeaderMap) -> Option<CookieSecret> {
    cookie(headers, SESSION_COOKIE).and_then(CookieSecret::parse)
}

/// The live session, or the 401 of the contract.
pub fn live(state: SessionState) -> Result<SessionView, ApiError> {
    match state {
        SessionState::Live(view) => Ok(view),
        SessionState::Revoked => Err(ApiError::unauthenticated("TOKEN_REVOKED", "Token has been revoked")),
        SessionState::Gone => Err(ApiError::unauthenticated("USER_INACTIVE", "User not found or inactive")),
        SessionState::Suspended => Err(ApiError::unauthenticated(
            "ACCOUNT_SUSPENDED",
            "Your account has been suspended. Please contact support.",
        )),
    }
}

/// 503: the session could not be checked.
pub fn unchecked(error: Unchecked) -> ApiError {
    ApiError::unavailable(error)
}

fn caller(view: SessionView, claims: Option<&AccessClaims>, via: Via) -> AuthUser {
    let SessionView { session, user, role } = view;
    let email = claims.map(|claims| claims.email.clone());
    AuthUser {
        user,
        session,
        role,
        email,
        via,
    }
}
