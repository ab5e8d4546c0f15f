//! The settings of second factors and passkeys.
//!
//! contract: core §12, §14

use std::time::Duration;

use shared::{config::Reader, http::limit::Rule, rate_limit_rule};

/// What is asked of whom, and who we are to an authenticator.
#[derive(Debug, Clone)]
pub struct MfaConfig {
    /// Sensitive actions ask every account for a recent proof, and not only those that use a second factor.
    pub step_up_always: bool,
    /// Administrators' routes ask for a second factor.
    pub admin_second_factor: bool,
    /// The name that authenticator apps and passkeys show.
    pub name: String,
    /// The domain passkeys are bound to; unset: the host of the first origin of the web client.
    pub rp_id: Option<String>,
    /// Pages that may use passkeys; empty: the web client's origins under that domain.
    pub rp_origins: Vec<String>,
    /// Wrong second factors of one account.
    pub guesses: Rule,
}

impl MfaConfig {
    /// Reads the settings.
    pub fn read(reader: &mut Reader) -> Self {
        let guesses = Rule::new("auth.second_factor", 10, Duration::from_mins(15));
        let config = Self {
            step_up_always: reader.or(
                "STEP_UP_ALWAYS",
                false,
                "whether sensitive actions ask every account for a proof of the last ten minutes, and not only accounts with a second factor",
            ),
            admin_second_factor: reader.or(
                "REQUIRE_ADMIN_MFA",
                false,
                "whether administrators' routes ask for a second factor of the last twelve hours",
            ),
            name: reader.or(
                "MFA_ISSUER",
                "DreamScape".to_owned(),
                "the name that authenticator apps and passkeys show",
            ),
            rp_id: reader.text(
                "WEBAUTHN_RP_ID",
                "the domain passkeys are bound to, for ever; unset: the host of the first origin in CORS_ORIGIN",
            ),
            rp_origins: reader.list(
                "WEBAUTHN_ORIGINS",
                &[],
                "comma list of origins whose pages may use passkeys; unset: those of CORS_ORIGIN under WEBAUTHN_RP_ID",
            ),
            guesses: rate_limit_rule!(reader, "AUTH_SECOND_FACTOR", guesses),
        };
        if config.name.is_empty() || config.name.contains(':') {
            reader.problem("MFA_ISSUER must have a text without a colon");
        }
        config
    }
}
