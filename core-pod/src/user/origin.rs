//! Where a request comes from, as records about consent, requests and accesses keep it.
//!
//! contract: core §1.7 (the client's address), §10, §11

use std::fmt;

use axum::extract::FromRequestParts;
use http::{header, request::Parts};
use shared::{ApiError, http::ClientAddress};

/// What a program calls itself is kept up to this length.
const MAX_USER_AGENT: usize = 512;

/// The client's address and program. An extractor.
#[derive(Clone, PartialEq, Eq)]
pub struct Origin {
    /// The address.
    pub ip_address: String,
    /// The program, if it says so.
    pub user_agent: Option<String>,
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Origin")
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let address = ClientAddress::from_request_parts(parts, state).await?;
        let agent = parts.headers.get(header::USER_AGENT);
        let agent = agent.and_then(|agent| agent.to_str().ok());
        Ok(Self {
            ip_address: address.to_string(),
            user_agent: agent.map(|agent| agent.chars().take(MAX_USER_AGENT).collect()),
        })
    }
}
