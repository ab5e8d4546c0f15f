//! Who may use the admin routes.
//!
//! contract: core §2.7. The role is that of the account as the session check gives it, never the token's claim.

use axum::extract::FromRequestParts;
use http::request::Parts;
use shared::{
    ApiError,
    auth::{AuthUser, Role},
};

use crate::user::UserState;

/// An administrator. Nobody: 401 `Authentication required`; anybody else: 403 `Admin access required`.
#[derive(Debug, Clone)]
pub struct Admin(pub AuthUser);

impl FromRequestParts<UserState> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &UserState) -> Result<Self, ApiError> {
        let caller = <AuthUser as FromRequestParts<UserState>>::from_request_parts(parts, state)
            .await
            .map_err(|refusal| match refusal.code() {
                "TOKEN_MISSING" => ApiError::unauthenticated("TOKEN_MISSING", "Authentication required"),
                _ => refusal,
            })?;
        if caller.role != Role::Admin {
            return Err(ApiError::forbidden("Admin access required"));
        }
        state.accounts.step_up().require_admin_factor(&caller).await?;
        Ok(Self(caller))
    }
}
