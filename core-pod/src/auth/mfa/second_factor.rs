//! What somebody offers as a proof beside the password, and whether it is one.
//!
//! contract: core §14 (TOTP replay, recovery codes, passkeys)

use serde::Deserialize;
use serde_json::Value;
use shared::{ApiError, id::UserId};
use sqlx::PgConnection;
use utoipa::ToSchema;
use webauthn_rs::prelude::{PasskeyAuthentication, PublicKeyCredential};

use super::{
    model::{RecoveryCode, Second},
    passkey::{self, Asked, Assertion},
    store,
    totp::Secret,
};
use crate::auth::{
    AuthState,
    fields::{Problems, Text},
    security::{self, SecurityEvent},
    sessions::Origin,
};

/// The fields of a body that hold a second factor: one of them.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfferBody {
    /// Six digits of the authenticator app.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub code: Text,
    /// One of the codes that were written down.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub recovery_code: Text,
    /// What `navigator.credentials.get` gave, in JSON.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub passkey: Option<Value>,
}

/// What is offered.
pub enum Offer {
    /// A code of an app.
    Code(String),
    /// A recovery code; `None` if it cannot be one.
    RecoveryCode(Option<RecoveryCode>),
    /// An assertion of a passkey; `None` if it cannot be one.
    Passkey(Option<Box<PublicKeyCredential>>),
}

impl OfferBody {
    /// The one thing that is offered; `None` if nothing is.
    pub fn parse(&self, problems: &mut Problems) -> Option<Offer> {
        let code = problems.take(self.code.optional("code"))?;
        let recovery_code = problems.take(self.recovery_code.optional("recoveryCode"))?;
        match (code, recovery_code, &self.passkey) {
            (Some(code), None, None) => Some(Offer::Code(code.to_owned())),
            (None, Some(code), None) => Some(Offer::RecoveryCode(RecoveryCode::parse(code))),
            (None, None, Some(answer)) => Some(Offer::Passkey(assertion(answer).map(Box::new))),
            (None, None, None) => None,
            _ => {
                problems.add("code", "Send one of code, recoveryCode and passkey");
                None
            }
        }
    }
}

/// A device's answer out of JSON.
pub fn assertion(answer: &Value) -> Option<PublicKeyCredential> {
    PublicKeyCredential::deserialize(answer).ok()
}

/// The challenge that an assertion must answer, kept with the ceremony.
pub type Challenge = Option<PasskeyAuthentication>;

/// What an offer comes to.
pub enum Outcome {
    /// It is a second factor.
    Proven(Second),
    /// It is not.
    Refused,
    /// It is a passkey of which there is a copy.
    Cloned,
}

/// Checks an offer and uses it up, in the caller's transaction.
pub async fn check(
    tx: &mut PgConnection,
    state: &AuthState,
    user: UserId,
    offer: Offer,
    challenge: Challenge,
) -> Result<Outcome, ApiError> {
    let (second, good) = match offer {
        Offer::Code(code) => (Second::Totp, check_code(tx, state, user, &code).await?),
        Offer::RecoveryCode(code) => {
            let good = match code {
                Some(code) => store::take_recovery_code(&mut *tx, user, code.digest(), state.sources.now()).await?,
                None => false,
            };
            (Second::RecoveryCode, good)
        }
        Offer::Passkey(answer) => {
            let (Some(answer), Some(challenge)) = (answer, challenge) else {
                return Ok(Outcome::Refused);
            };
            match passkey::check(tx, state, &answer, Asked::Of(user, Box::new(challenge))).await? {
                Assertion::Good(_) => (Second::Passkey, true),
                Assertion::Refused => (Second::Passkey, false),
                Assertion::Cloned(_) => return Ok(Outcome::Cloned),
            }
        }
    };
    Ok(if good {
        Outcome::Proven(second)
    } else {
        Outcome::Refused
    })
}

async fn check_code(tx: &mut PgConnection, state: &AuthState, user: UserId, code: &str) -> Result<bool, ApiError> {
    let stored = store::find_totp(&mut *tx, user).await?;
    let Some(stored) = stored.filter(|stored| stored.confirmed_at.is_some()) else {
        return Ok(false);
    };
    let secret = Secret::open(&state.cipher, user, &stored.secret).map_err(ApiError::internal)?;
    match secret.step_of(code, state.sources.now().timestamp()) {
        Some(step) => Ok(store::take_step(tx, user, step).await?),
        None => Ok(false),
    }
}

/// Notes, outside of a transaction that is about to be given up, that a passkey has a copy.
pub async fn note_clone(state: &AuthState, user: UserId, origin: &Origin<'_>) -> Result<(), ApiError> {
    tracing::warn!(%user, "the counter of a passkey went back: there is a copy of it");
    let event = SecurityEvent::new(user, "passkey_cloned").from(origin);
    let mut tx = state.db.begin().await?;
    security::note(&mut tx, &state.sources, &event).await?;
    tx.commit().await?;
    Ok(())
}
