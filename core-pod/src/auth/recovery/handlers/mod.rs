//! The routes of recovery. Nothing here tells whether an account exists, and no refusal is a 401: that would make a client
//! forget a session that has nothing to do with the link.

mod email;
mod links;
mod password;
mod session;

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use shared::{ApiError, http::client_address::ClientAddress};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{
    model::{Found, Purpose},
    store,
};
use crate::auth::{
    AuthState,
    fields::{Problems, Text},
    sessions::{Origin, digest},
    store::Digest,
};

/// The routes of this area.
pub fn routes() -> OpenApiRouter<AuthState> {
    OpenApiRouter::new()
        .routes(shared::routes!(links::forgot_password))
        .routes(shared::routes!(links::resend_verification))
        .routes(shared::routes!(password::reset_password))
        .routes(shared::routes!(email::verify_email))
        .routes(shared::routes!(email::revert_email))
        .routes(shared::routes!(session::revoke_session))
}

/// The envelope of recovery.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecoveryTold)]
pub struct Told {
    /// Always true.
    success: bool,
    /// For people.
    message: &'static str,
}

impl Told {
    const fn new(message: &'static str) -> Self {
        Self { success: true, message }
    }
}

/// A token out of a mail.
#[derive(Deserialize, ToSchema)]
pub struct TokenBody {
    #[serde(default)]
    #[schema(value_type = String)]
    token: Text,
}

impl TokenBody {
    fn parse(&self) -> Result<Digest, ApiError> {
        let mut problems = Problems::default();
        let Some(token) = problems.take(self.token.required("token", "Token is required")) else {
            return Err(problems.into_error());
        };
        digest(token).ok_or_else(void)
    }
}

/// 400 for a link that does not work: never made, used, or too old. Which of these is nobody's business.
fn void() -> ApiError {
    ApiError::bad_request("This link is invalid or has expired").with_code("INVALID_OR_EXPIRED_TOKEN")
}

/// Counts a try against the address it comes from.
async fn limited(state: &AuthState, address: ClientAddress) -> Result<(), ApiError> {
    let subject = format!("ip:{}", address.limit_subject());
    let decision = state.limiter.check(&state.config.recovery.redeem, &subject).await;
    decision.into_result().map(drop)
}

/// Uses a token, or says that there is none to use.
async fn claim(
    tx: &mut sqlx::PgConnection,
    state: &AuthState,
    token: Digest,
    purposes: &[Purpose],
) -> Result<Found, ApiError> {
    let found = store::claim_token(tx, token, purposes, state.sources.now()).await?;
    found.ok_or_else(void)
}

/// Where the request comes from, kept while it is worked on.
struct Caller {
    ip_address: String,
    user_agent: Option<String>,
}

impl Caller {
    fn new(address: ClientAddress, headers: &HeaderMap) -> Self {
        let (ip_address, user_agent) = crate::auth::handlers::origin_of(address, headers);
        Self { ip_address, user_agent }
    }

    fn origin(&self) -> Origin<'_> {
        Origin {
            ip_address: &self.ip_address,
            user_agent: self.user_agent.as_deref(),
        }
    }
}
