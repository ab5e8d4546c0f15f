//! Passkeys: WebAuthn with user verification, so that one gesture is two factors.
//!
//! contract: core §14 (passkeys): sign-count check, user verification required, discoverable sign-in
//!
//! The library checks challenge, origin, relying party, signature, flags and counter. Ours is to keep its state on our
//! side, to hand it out once, and to look the key up by account and credential together.

use std::sync::Arc;

use anyhow::Context as _;
use serde_json::Value;
use shared::{ApiError, id::UserId};
use sqlx::PgConnection;
use url::Url;
use webauthn_rs::prelude::{
    DiscoverableAuthentication, DiscoverableKey, Passkey, PasskeyAuthentication, PasskeyRegistration,
    PublicKeyCredential, RegisterPublicKeyCredential, Webauthn, WebauthnBuilder, WebauthnError,
};

use super::{config::MfaConfig, store};
use crate::auth::AuthState;

/// The relying party. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Passkeys(Option<Arc<Webauthn>>);

impl Passkeys {
    /// The relying party of the configuration, else of the web client's pages. Without a page that has a domain name
    /// there are no passkeys: an address is no relying party.
    pub fn new(config: &MfaConfig, client_origins: &[String]) -> anyhow::Result<Self> {
        let named = !config.rp_origins.is_empty() || config.rp_id.is_some();
        let texts = if config.rp_origins.is_empty() {
            client_origins
        } else {
            &config.rp_origins
        };
        let origins = texts.iter().filter_map(|text| Url::parse(text).ok());
        let origins: Vec<_> = origins.filter(|origin| origin.domain().is_some()).collect();
        let rp_id = config
            .rp_id
            .clone()
            .or_else(|| origins.first()?.domain().map(str::to_owned));
        let Some(rp_id) = rp_id else {
            anyhow::ensure!(!named, "WEBAUTHN_ORIGINS: no origin with a domain name");
            return Ok(Self(None));
        };
        let mut builders = origins
            .iter()
            .filter(|origin| WebauthnBuilder::new(&rp_id, origin).is_ok());
        let first = builders
            .next()
            .with_context(|| format!("WEBAUTHN_RP_ID: no origin of the web client is under `{rp_id}`"))?;
        let builder = WebauthnBuilder::new(&rp_id, first)?.rp_name(&config.name);
        let webauthn = builders.fold(builder, WebauthnBuilder::append_allowed_origin).build()?;
        Ok(Self(Some(Arc::new(webauthn))))
    }

    fn party(&self) -> Result<&Webauthn, ApiError> {
        self.0
            .as_deref()
            .ok_or_else(|| ApiError::not_found("Passkeys are not available here").with_code("PASSKEYS_UNAVAILABLE"))
    }

    /// The options for a new passkey, as `navigator.credentials.create` takes them, and what must be kept.
    pub fn begin_registration(
        &self,
        user: UserId,
        email: &str,
        name: &str,
        existing: &[Passkey],
    ) -> Result<(Value, PasskeyRegistration), ApiError> {
        let known = existing.iter().map(|passkey| passkey.cred_id().clone()).collect();
        let started = self
            .party()?
            .start_passkey_registration(user.0, email, name, Some(known));
        let (challenge, state) = started.map_err(ApiError::internal)?;
        let mut options = serde_json::to_value(challenge.public_key).map_err(ApiError::internal)?;
        // signing in without a name needs a key that the device finds by itself
        if let Some(selection) = options.pointer_mut("/authenticatorSelection") {
            *selection = serde_json::json!({
                "residentKey": "required", "requireResidentKey": true, "userVerification": "required",
            });
        }
        Ok((options, state))
    }

    /// The new passkey, if the device's answer is good.
    pub fn finish_registration(
        &self,
        answer: &RegisterPublicKeyCredential,
        state: &PasskeyRegistration,
    ) -> Result<Passkey, ApiError> {
        let finished = self.party()?.finish_passkey_registration(answer, state);
        finished.map_err(|error| {
            tracing::debug!(%error, "a new passkey was refused");
            ApiError::bad_request("The passkey could not be registered").with_code("PASSKEY_REJECTED")
        })
    }

    /// A challenge to any passkey of ours that the device finds.
    pub fn begin_discovery(&self) -> Result<(Value, DiscoverableAuthentication), ApiError> {
        let started = self.party()?.start_discoverable_authentication();
        let (challenge, state) = started.map_err(ApiError::internal)?;
        let options = serde_json::to_value(challenge.public_key).map_err(ApiError::internal)?;
        Ok((options, state))
    }

    /// A challenge to the passkeys of one account.
    pub fn begin_authentication(&self, passkeys: &[Passkey]) -> Result<(Value, PasskeyAuthentication), ApiError> {
        let started = self.party()?.start_passkey_authentication(passkeys);
        let (challenge, state) = started.map_err(ApiError::internal)?;
        let options = serde_json::to_value(challenge.public_key).map_err(ApiError::internal)?;
        Ok((options, state))
    }
}

/// What was asked of the device.
pub enum Asked {
    /// Any passkey.
    Any(Box<DiscoverableAuthentication>),
    /// One of an account's.
    Of(UserId, Box<PasskeyAuthentication>),
}

/// What an assertion comes to.
pub enum Assertion {
    /// It is good, and whose passkey it is.
    Good(UserId),
    /// It is not.
    Refused,
    /// It would be, but its counter went back: there is a copy of the key.
    Cloned(UserId),
}

/// Checks an assertion in the caller's transaction and moves the counter of its passkey.
pub async fn check(
    tx: &mut PgConnection,
    state: &AuthState,
    answer: &PublicKeyCredential,
    asked: Asked,
) -> Result<Assertion, ApiError> {
    let party = state.passkeys.party()?;
    let owner = match &asked {
        Asked::Of(user, _) => *user,
        Asked::Any(_) => match party.identify_discoverable_authentication(answer) {
            Ok((user, _)) => UserId(user),
            Err(_) => return Ok(Assertion::Refused),
        },
    };
    let Some(stored) = store::lock_passkey(tx, owner, answer.get_credential_id()).await? else {
        return Ok(Assertion::Refused);
    };
    let mut passkey: Passkey = serde_json::from_value(stored.passkey).map_err(ApiError::internal)?;
    let result = match asked {
        // the stored key, and not the copy in the challenge, has the newest counter
        Asked::Of(_, state) => finish_with(party, answer, &state, &passkey),
        Asked::Any(state) => {
            party.finish_discoverable_authentication_v2(answer, *state, DiscoverableKey::from(&passkey))
        }
    };
    let result = match result {
        Ok(result) if result.user_verified() => result,
        Ok(_) => return Ok(Assertion::Refused),
        Err(WebauthnError::CredentialPossibleCompromise) => return Ok(Assertion::Cloned(stored.user)),
        Err(error) => {
            tracing::debug!(%error, "an assertion was refused");
            return Ok(Assertion::Refused);
        }
    };
    passkey.update_credential(&result);
    let passkey = serde_json::to_value(&passkey).map_err(ApiError::internal)?;
    store::note_passkey_use(tx, stored.id, &passkey, state.sources.now()).await?;
    Ok(Assertion::Good(stored.user))
}

fn finish_with(
    party: &Webauthn,
    answer: &PublicKeyCredential,
    state: &PasskeyAuthentication,
    stored: &Passkey,
) -> Result<webauthn_rs::prelude::AuthenticationResult, WebauthnError> {
    let result = party.finish_passkey_authentication(answer, state)?;
    let before = serde_json::to_value(stored)
        .ok()
        .and_then(|json| json.pointer("/cred/counter").and_then(Value::as_u64))
        .unwrap_or_default();
    let counts = result.counter() > 0 || before > 0;
    if counts && u64::from(result.counter()) <= before {
        return Err(WebauthnError::CredentialPossibleCompromise);
    }
    Ok(result)
}

/// Reads stored passkeys.
pub fn parse(stored: Vec<Value>) -> Result<Vec<Passkey>, ApiError> {
    let passkeys = stored.into_iter().map(serde_json::from_value);
    passkeys.collect::<Result<_, _>>().map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use shared::config::Reader;

    use super::*;

    fn passkeys(settings: &[(&str, &str)], origins: &[&str]) -> anyhow::Result<Vec<String>> {
        let settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let config = MfaConfig::read(&mut Reader::from_pairs(settings));
        let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        let party = Passkeys::new(&config, &origins)?.0;
        let allowed = party.map(|party| party.get_allowed_origins().iter().map(ToString::to_string).collect());
        Ok(allowed.unwrap_or_default())
    }

    #[test]
    fn the_relying_party_is_the_web_client_unless_configured() {
        let development = [
            "http://localhost:5173",
            "http://127.0.0.1:5173",
            "http://localhost:3000",
        ];
        assert_eq!(
            passkeys(&[], &development).unwrap(),
            ["http://localhost:5173/", "http://localhost:3000/"]
        );
        let configured = [
            ("WEBAUTHN_RP_ID", "example.com"),
            ("WEBAUTHN_ORIGINS", "https://app.example.com"),
        ];
        assert_eq!(
            passkeys(&configured, &development).unwrap(),
            ["https://app.example.com/"]
        );
        assert!(passkeys(&[], &["http://127.0.0.1:5173"]).unwrap().is_empty());
    }

    #[test]
    fn a_relying_party_that_no_page_belongs_to_stops_the_start() {
        assert!(passkeys(&[("WEBAUTHN_RP_ID", "example.com")], &["https://example.org"]).is_err());
        assert!(passkeys(&[("WEBAUTHN_ORIGINS", "https://192.0.2.1")], &[]).is_err());
    }
}
