//! The routes of second factors, passkeys and step-up.
//!
//! contract: core §14

mod app;
mod passkey_login;
mod passkeys;
mod reauthenticate;
mod verify;

use http::HeaderMap;
use shared::http::client_address::ClientAddress;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::auth::{AuthState, handlers::origin_of, sessions::Origin};

/// The routes of this area.
pub fn routes() -> OpenApiRouter<AuthState> {
    OpenApiRouter::new()
        .routes(routes!(app::status))
        .routes(routes!(app::enrol, app::disable))
        .routes(routes!(app::confirm))
        .routes(routes!(app::regenerate))
        .routes(routes!(verify::verify))
        .routes(routes!(verify::challenge))
        .routes(routes!(passkeys::list))
        .routes(routes!(passkeys::rename, passkeys::delete))
        .routes(routes!(passkeys::begin_registration))
        .routes(routes!(passkeys::finish_registration))
        .routes(routes!(passkey_login::begin))
        .routes(routes!(passkey_login::finish))
        .routes(routes!(reauthenticate::begin))
        .routes(routes!(reauthenticate::reauthenticate))
}

/// Where a request comes from, in the form that sessions and the security log keep.
struct From {
    address: String,
    agent: Option<String>,
}

impl From {
    fn new(address: ClientAddress, headers: &HeaderMap) -> Self {
        let (address, agent) = origin_of(address, headers);
        Self { address, agent }
    }

    fn origin(&self) -> Origin<'_> {
        Origin {
            ip_address: &self.address,
            user_agent: self.agent.as_deref(),
        }
    }
}
