//! The 401s of the user service, in its own words where they differ from auth's.
//!
//! contract: core §2.3 (table of 401 bodies). The codes are the same.

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, Method};
use shared::{
    ApiError,
    auth::{AuthUser, Authenticate, Authenticator, ServiceCaller},
};

/// An authenticator that speaks like the user service.
#[derive(Debug, Clone)]
struct InOurWords(Authenticator);

/// The same authenticator with the words of this service.
pub fn in_our_words(authenticator: Authenticator) -> Authenticator {
    Authenticator(Arc::new(InOurWords(authenticator)))
}

#[async_trait]
impl Authenticate for InOurWords {
    async fn user(&self, method: &Method, headers: &HeaderMap) -> Result<Option<AuthUser>, ApiError> {
        self.0
            .0
            .user(method, headers)
            .await
            .map_err(|error| match error.code() {
                code @ "TOKEN_EXPIRED" => ApiError::unauthenticated(code, "Invalid token"),
                code @ "USER_INACTIVE" => ApiError::unauthenticated(code, "User not found"),
                _ => error,
            })
    }

    async fn service(&self, headers: &HeaderMap) -> Result<ServiceCaller, ApiError> {
        self.0.0.service(headers).await
    }
}
