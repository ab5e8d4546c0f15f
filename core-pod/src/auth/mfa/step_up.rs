//! Step-up: sensitive actions want somebody who proved who they are a moment ago.
//!
//! contract: core §14 (step-up authentication, enforced MFA for administrators), docs/decisions/0046
//!
//! Handlers name [`RecentlyAuthenticated`] in place of `AuthUser`. It asks accounts that have a second factor or a passkey,
//! and with `STEP_UP_ALWAYS` all of them: a client of the original knows nothing of it. What protects the second factors
//! themselves names [`Reauthenticated`], which asks everybody; no client of the original calls those routes.

use axum::extract::{FromRef, FromRequestParts};
use http::{StatusCode, request::Parts};
use shared::{
    ApiError,
    auth::{AuthUser, Authenticator},
    db::Db,
    sources::Sources,
};

use super::{config::MfaConfig, model::Evidence, store};
use crate::auth::Auth;

/// Answers whether a caller's proof is good enough. Cheap to clone; states of other services of the pod hold one.
#[derive(Debug, Clone)]
pub struct StepUp {
    db: Db<Auth>,
    sources: Sources,
    always: bool,
    admin: bool,
}

impl StepUp {
    /// By the rules of the configuration.
    pub(in crate::auth) fn new(db: Db<Auth>, sources: Sources, config: &MfaConfig) -> Self {
        Self {
            db,
            sources,
            always: config.step_up_always,
            admin: config.admin_second_factor,
        }
    }

    /// 403 `REAUTH_REQUIRED` unless the caller proved who they are within ten minutes, if anything is to be asked of this
    /// account at all.
    pub async fn require_recent(&self, caller: &AuthUser) -> Result<(), ApiError> {
        let evidence = self.evidence(caller).await?;
        if evidence.is_recent(self.sources.now()) || !(self.always || evidence.uses_second_factor) {
            return Ok(());
        }
        Err(reauthenticate())
    }

    /// The same for every account.
    pub async fn require_recent_of_all(&self, caller: &AuthUser) -> Result<(), ApiError> {
        if self.evidence(caller).await?.is_recent(self.sources.now()) {
            return Ok(());
        }
        Err(reauthenticate())
    }

    /// 403 `MFA_REQUIRED` unless the caller showed a second factor within twelve hours, where administrators must
    /// (`REQUIRE_ADMIN_MFA`). Called by the extractor of administrators, after the role.
    pub async fn require_admin_factor(&self, caller: &AuthUser) -> Result<(), ApiError> {
        if !self.admin || self.evidence(caller).await?.has_admin_factor(self.sources.now()) {
            return Ok(());
        }
        let text = "Administrators need a second factor of the last 12 hours";
        Err(ApiError::new(StatusCode::FORBIDDEN, "MFA_REQUIRED", text))
    }

    async fn evidence(&self, caller: &AuthUser) -> Result<Evidence, ApiError> {
        let found = store::find_evidence(self.db.pool(), caller.session).await?;
        found.ok_or_else(|| ApiError::unauthenticated("TOKEN_REVOKED", "Token has been revoked"))
    }
}

fn reauthenticate() -> ApiError {
    let text = "Please confirm that it is you";
    ApiError::new(StatusCode::FORBIDDEN, "REAUTH_REQUIRED", text)
}

/// A caller who may do something sensitive.
#[derive(Debug, Clone)]
pub struct RecentlyAuthenticated(pub AuthUser);

impl<S> FromRequestParts<S> for RecentlyAuthenticated
where
    S: Send + Sync,
    Authenticator: FromRef<S>,
    StepUp: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = <AuthUser as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        StepUp::from_ref(state).require_recent(&caller).await?;
        Ok(Self(caller))
    }
}

/// A caller who proved who they are within the last ten minutes, whatever the account uses.
#[derive(Debug, Clone)]
pub struct Reauthenticated(pub AuthUser);

impl<S> FromRequestParts<S> for Reauthenticated
where
    S: Send + Sync,
    Authenticator: FromRef<S>,
    StepUp: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = <AuthUser as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        StepUp::from_ref(state).require_recent_of_all(&caller).await?;
        Ok(Self(caller))
    }
}
