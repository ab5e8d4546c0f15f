//! Signing in with a passkey: `/api/v1/auth/passkeys/login`.
//!
//! contract: core §14 (discoverable login; counts as MFA). Nothing that is answered says whether an account exists: the
//! challenge is the same for everybody, and every refusal is the one of a wrong password.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;
use shared::{ApiError, http::client_address::ClientAddress};
use utoipa::ToSchema;
use webauthn_rs::prelude::{DiscoverableAuthentication, PublicKeyCredential};

use super::{From, passkeys::BegunCeremony, verify::PasskeyChallenge};
use crate::auth::{
    AuthState,
    fields::{Fields, Flag, Problems, Text},
    handlers::{Answer, SignedIn, logged_in, require_verified, suspended},
    mfa::{
        ceremony::{self, Kind, bound_to},
        model::Proof,
        passkey::{self, Asked, Assertion},
        second_factor::{assertion, note_clone},
        store,
    },
    model::Account,
    sessions::{self, Occasion, Opened, Origin},
};

/// A challenge for any passkey of ours.
#[utoipa::path(
    post, path = "/api/v1/auth/passkeys/login/begin", tag = "auth",
    responses(
        (status = 200, description = "For `navigator.credentials.get`", body = Answer<BegunCeremony>),
        (status = 404, description = "PASSKEYS_UNAVAILABLE"),
    ),
)]
pub async fn begin(
    State(state): State<AuthState>,
    address: ClientAddress,
) -> Result<Json<Answer<BegunCeremony>>, ApiError> {
    let (public_key, kept) = state.passkeys.begin_discovery()?;
    let (kind, binding) = (Kind::PasskeyLogin, Some(bound_to(address)));
    let ceremony = ceremony::begin(state.db.pool(), &state, kind, None, binding, &kept).await?;
    let challenge = PasskeyChallenge { public_key };
    Ok(Json(Answer::new(
        "Use your passkey",
        BegunCeremony { ceremony, challenge },
    )))
}

/// The device's answer.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasskeyLoginBody {
    /// The handle of the challenge.
    #[serde(default)]
    #[schema(value_type = String)]
    ceremony: Text,
    /// What `navigator.credentials.get` gave, in JSON.
    #[serde(default)]
    #[schema(value_type = Object)]
    credential: Option<Value>,
    /// Thirty days instead of seven.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    remember_me: Flag,
}

/// Signs in with a passkey.
#[utoipa::path(
    post, path = "/api/v1/auth/passkeys/login/finish", tag = "auth", request_body = PasskeyLoginBody,
    responses(
        (status = 200, description = "Signed in; sets the cookies refreshToken and ds_session", body = Answer<SignedIn>),
        (status = 400, description = "Validation failed"),
        (status = 401, description = "INVALID_CREDENTIALS or ACCOUNT_SUSPENDED"),
        (status = 403, description = "EMAIL_NOT_VERIFIED, where REQUIRE_EMAIL_VERIFICATION is set"),
    ),
)]
pub async fn finish(
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
    Fields(body): Fields<PasskeyLoginBody>,
) -> Result<Response, ApiError> {
    let mut problems = Problems::default();
    let handle = problems.take(body.ceremony.required("ceremony", "Ceremony is required"));
    let remember_me = problems.take(body.remember_me.or_no("rememberMe"));
    let credential = body.credential.as_ref().and_then(assertion);
    if credential.is_none() {
        problems.add("credential", "The answer of the device is required");
    }
    let (Some(handle), Some(remember_me), Some(credential)) = (handle, remember_me, credential) else {
        return Err(problems.into_error());
    };
    // taken before anything is checked: a challenge is good for one answer, also for a wrong one
    let (kind, binding) = (Kind::PasskeyLogin, Some(bound_to(address)));
    let taken = ceremony::take::<DiscoverableAuthentication>(state.db.pool(), &state, kind, handle, binding).await?;
    let (_, kept) = taken.ok_or_else(refused)?;
    let from = From::new(address, &headers);
    let outcome = sign_in(&state, &credential, kept, remember_me, &from.origin()).await;
    let label = if outcome.is_ok() { "success" } else { "refused" };
    metrics::counter!("auth_passkey_logins_total", "outcome" => label).increment(1);
    Ok(match outcome {
        Ok((account, opened)) => logged_in(&state, account, opened),
        Err(error) => error.into_response(),
    })
}

async fn sign_in(
    state: &AuthState,
    credential: &PublicKeyCredential,
    kept: DiscoverableAuthentication,
    remember_me: bool,
    origin: &Origin<'_>,
) -> Result<(Account, Opened), ApiError> {
    let mut tx = state.db.begin().await?;
    let user = match passkey::check(&mut tx, state, credential, Asked::Any(Box::new(kept))).await? {
        Assertion::Good(user) => user,
        Assertion::Refused => return Err(refused()),
        Assertion::Cloned(user) => {
            drop(tx);
            note_clone(state, user, origin).await?;
            return Err(refused());
        }
    };
    // a lockout is against guessing; a passkey cannot be guessed
    let account = store::lock_account(&mut tx, user).await?.ok_or_else(refused)?.account;
    if account.is_suspended() {
        return Err(suspended());
    }
    require_verified(state, &account)?;
    store::note_sign_in(&mut tx, user, state.sources.now()).await?;
    let occasion = Occasion::SignIn {
        remember_me,
        proof: Proof::Passkey,
    };
    let opened = sessions::open(&mut tx, state, &account, occasion, origin).await?;
    tx.commit().await?;
    state.sessions.announce_revoked(&opened.evicted).await;
    Ok((account, opened))
}

fn refused() -> ApiError {
    ApiError::unauthenticated("INVALID_CREDENTIALS", "The passkey was not accepted")
}
