//! Who may call the internal routes of the pod: the core pod, on behalf of an administrator.
//!
//! contract: core §2.8 (missing or invalid token 401, wrong service 403), §5.12

use axum::extract::{FromRef, FromRequestParts};
use http::request::Parts;
use shared::{
    ApiError,
    auth::{Authenticator, ServiceCaller},
};

/// The name in the core pod's service tokens.
pub const CORE_POD: &str = "core-pod";

/// Proof that the core pod calls. It has checked who its own caller is; we are told whose word it is only for the books.
#[derive(Debug, Clone, Copy)]
pub struct FromCore;

impl<S> FromRequestParts<S> for FromCore
where
    S: Send + Sync,
    Authenticator: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = ServiceCaller::from_request_parts(parts, state).await?;
        if caller.service != CORE_POD {
            tracing::warn!(service = caller.service, "a service called a route that is not for it");
            return Err(ApiError::forbidden("This route is not for your service"));
        }
        Ok(Self)
    }
}
