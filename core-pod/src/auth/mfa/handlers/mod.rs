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
use utoipa_axum::router::OpenApiRouter;

use crate::auth::{AuthState, handlers::origin_of, sessions::Origin};

/// The routes of this area.
pub fn routes() -> OpenApiRouter<AuthState> {
    OpenApiRouter::new()
        .routes(shared::routes!(app::status))
        .routes(shared::routes!(app::enrol, app::disable))
        .routes(shared::routes!(app::confirm))
        .routes(shared::routes!(app::regenerate))
        .routes(shared::routes!(verify::verify))
        .routes(shared::routes!(verify::challenge))
        .routes(shared::routes!(passkeys::list))
        .routes(shared::routes!(passkeys::rename, passkeys::delete))
        .routes(shared::routes!(passkeys::begin_registration))
        .routes(shared::routes!(passkeys::finish_registration))
        .routes(shared::routes!(passkey_login::begin))
        .routes(shared::routes!(passkey_login::finish))
        .routes(shared::routes!(reauthenticate::begin))
        .routes(shared::routes!(reauthenticate::reauthenticate))
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
