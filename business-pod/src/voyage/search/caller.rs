//! Who searches, as far as it matters: nobody is refused for a credential.

use axum::extract::{FromRef, FromRequestParts};
use http::request::Parts;
use shared::{ApiError, auth::Authenticator, http::ClientAddress, id::UserId};

/// The caller of a search.
#[derive(Debug, Clone)]
pub struct Searcher {
    /// The account, if one is known.
    pub user: Option<UserId>,
    /// Whether another service of the platform asks, whose searches are not travellers' searches (voyage §8.2).
    pub is_service: bool,
    /// Whose bucket a search is counted in.
    pub subject: String,
}

impl<S> FromRequestParts<S> for Searcher
where
    S: Send + Sync,
    Authenticator: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let authenticator = Authenticator::from_ref(state);
        let (user, is_service) = match authenticator.0.user(&parts.method, &parts.headers).await {
            Ok(caller) => (caller.map(|caller| caller.user), false),
            Err(_) => (None, authenticator.0.service(&parts.headers).await.is_ok()),
        };
        let address = parts.extensions.get::<ClientAddress>();
        let subject = match (user, address) {
            (Some(user), _) => format!("user:{user}"),
            (None, Some(address)) => format!("ip:{}", address.limit_subject()),
            (None, None) => "unknown".to_owned(),
        };
        Ok(Self {
            user,
            is_service,
            subject,
        })
    }
}
