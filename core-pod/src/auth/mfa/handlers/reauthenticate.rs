//! Proving again who one is, in a live session: `/api/v1/auth/reauthenticate`.
//!
//! contract: core §14 (step-up), docs/decisions/0046
//!
//! An account with a second factor proves itself with that: somebody who found an open browser and knows the password must
//! not be able to switch the second factor off. A wrong proof is 400 and not 401, as for `change-password`: any 401 signs
//! the client out.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use shared::{
    ApiError,
    auth::{AuthUser, config::Span},
    http::client_address::ClientAddress,
    sources::iso,
};
use utoipa::ToSchema;
use webauthn_rs::prelude::PasskeyAuthentication;

use super::{
    From,
    passkeys::{BegunCeremony, expired},
    verify::PasskeyChallenge,
};
use crate::auth::{
    AuthState, credentials,
    fields::{Fields, Problems, Text},
    handlers::{Answer, user_not_found},
    mfa::{
        ceremony::{self, Kind},
        model::{Proof, Second},
        notice, passkey,
        second_factor::{self, Offer, OfferBody, Outcome},
        store,
    },
    sessions::{self, Origin},
};

/// A challenge for one of the caller's passkeys.
#[utoipa::path(
    post, path = "/api/v1/auth/reauthenticate/begin", tag = "auth",
    responses(
        (status = 200, description = "For `navigator.credentials.get`", body = Answer<BegunCeremony>),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "NO_PASSKEY or PASSKEYS_UNAVAILABLE"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn begin(caller: AuthUser, State(state): State<AuthState>) -> Result<Json<Answer<BegunCeremony>>, ApiError> {
    let passkeys = passkey::parse(store::passkeys_of(state.db.pool(), caller.user).await?)?;
    if passkeys.is_empty() {
        return Err(ApiError::not_found("This account has no passkey").with_code("NO_PASSKEY"));
    }
    let (public_key, kept) = state.passkeys.begin_authentication(&passkeys)?;
    let (kind, owner) = (Kind::Reauthentication, Some(caller.user));
    let ceremony = ceremony::begin(state.db.pool(), &state, kind, owner, None, &kept).await?;
    let challenge = PasskeyChallenge { public_key };
    Ok(Json(Answer::new(
        "Use your passkey",
        BegunCeremony { ceremony, challenge },
    )))
}

/// One proof.
#[derive(Deserialize, ToSchema)]
pub struct ReauthenticateBody {
    /// Enough for accounts without a second factor.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Password)]
    password: Text,
    /// The handle of the challenge that `passkey` answers.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    ceremony: Text,
    #[serde(flatten)]
    offer: OfferBody,
}

enum Given {
    Password(String),
    Factor(Offer, Option<String>),
}

impl ReauthenticateBody {
    fn parse(&self) -> Result<Given, ApiError> {
        let mut problems = Problems::default();
        let password = problems.take(self.password.optional("password")).flatten();
        let ceremony = problems.take(self.ceremony.optional("ceremony")).flatten();
        let offer = self.offer.parse(&mut problems);
        let given = match (password, offer) {
            (Some(password), None) => Some(Given::Password(password.to_owned())),
            (None, Some(offer)) => Some(Given::Factor(offer, ceremony.map(str::to_owned))),
            _ => None,
        };
        if given.is_none() {
            problems.add("password", "Send one of password, code, recoveryCode and passkey");
        }
        problems.refuse()?;
        given.ok_or_else(|| ApiError::bad_request("Validation failed"))
    }
}

/// The session after the proof.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Proven {
    /// The moment of the proof.
    #[serde(with = "iso")]
    authenticated_at: DateTime<Utc>,
    /// A token that says so; the old one is good as well.
    access_token: String,
    /// `15m`.
    access_token_expires_in: String,
}

/// Proves again who the caller is.
#[utoipa::path(
    post, path = "/api/v1/auth/reauthenticate", tag = "auth", request_body = ReauthenticateBody,
    responses(
        (status = 200, description = "Sensitive actions are open for ten minutes", body = Answer<Proven>),
        (status = 400, description = "Validation failed, INVALID_PROOF, SECOND_FACTOR_REQUIRED or CEREMONY_EXPIRED"),
        (status = 401, description = "Not signed in"),
        (status = 429, description = "Too many wrong proofs"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn reauthenticate(
    caller: AuthUser,
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
    Fields(body): Fields<ReauthenticateBody>,
) -> Result<Json<Answer<Proven>>, ApiError> {
    let given = body.parse()?;
    let subject = format!("user:{}", caller.user);
    let guesses = state.config.second_factor.guesses;
    state.limiter.check(&guesses, &subject).await.into_result()?;
    let from = From::new(address, &headers);
    let origin = from.origin();
    let proven = match given {
        Given::Password(password) => by_password(&state, &caller, &password, &origin).await,
        Given::Factor(offer, ceremony) => by_factor(&state, &caller, offer, ceremony, &origin).await,
    };
    let failed = matches!(&proven, Err(error) if error.code() == "INVALID_PROOF");
    if !failed {
        state.limiter.refund(&guesses, &subject).await;
    }
    Ok(Json(Answer::new("Thank you", proven?)))
}

async fn by_password(
    state: &AuthState,
    caller: &AuthUser,
    password: &str,
    origin: &Origin<'_>,
) -> Result<Proven, ApiError> {
    if store::has_second_factor(state.db.pool(), caller.user).await? {
        let text = "This account proves itself with its second factor";
        return Err(ApiError::bad_request(text).with_code("SECOND_FACTOR_REQUIRED"));
    }
    let checked = credentials::check_again(state, caller.user, password, origin).await?;
    let checked = checked.ok_or_else(wrong)?;
    let mut tx = state.db.begin().await?;
    let locked = store::lock_account(&mut tx, caller.user)
        .await?
        .ok_or_else(user_not_found)?;
    if locked.password_hash != checked.hash || locked.is_locked_out(state.sources.now()) {
        return Err(wrong());
    }
    let proven = renew(&mut tx, state, caller, Proof::Password).await?;
    tx.commit().await?;
    Ok(proven)
}

async fn by_factor(
    state: &AuthState,
    caller: &AuthUser,
    offer: Offer,
    handle: Option<String>,
    origin: &Origin<'_>,
) -> Result<Proven, ApiError> {
    let challenge = match (&offer, handle) {
        (Offer::Passkey(_), Some(handle)) => Some(challenge(state, caller, &handle).await?),
        (Offer::Passkey(_), None) => return Err(expired()),
        _ => None,
    };
    let mut tx = state.db.begin().await?;
    let locked = store::lock_account(&mut tx, caller.user)
        .await?
        .ok_or_else(user_not_found)?;
    if locked.is_locked_out(state.sources.now()) {
        return Err(wrong());
    }
    let second = match second_factor::check(&mut tx, state, caller.user, offer, challenge).await? {
        Outcome::Proven(second) => second,
        refused @ (Outcome::Refused | Outcome::Cloned) => {
            drop(tx);
            if matches!(refused, Outcome::Cloned) {
                second_factor::note_clone(state, caller.user, origin).await?;
            }
            credentials::count_failure(state, Some(caller.user), origin).await?;
            return Err(wrong());
        }
    };
    if second == Second::RecoveryCode {
        notice::tell_recovery_code(&mut tx, state, caller.user, caller.session, origin).await?;
    }
    let proven = renew(&mut tx, state, caller, Proof::Password.and(second)).await?;
    tx.commit().await?;
    Ok(proven)
}

/// Taken before anything is checked: a challenge is good for one answer, also for a wrong one.
async fn challenge(state: &AuthState, caller: &AuthUser, handle: &str) -> Result<PasskeyAuthentication, ApiError> {
    let kind = Kind::Reauthentication;
    let taken = ceremony::take::<PasskeyAuthentication>(state.db.pool(), state, kind, handle, None).await?;
    let kept = taken.filter(|(owner, _)| *owner == Some(caller.user));
    kept.map(|(_, kept)| kept).ok_or_else(expired)
}

async fn renew(
    tx: &mut sqlx::PgConnection,
    state: &AuthState,
    caller: &AuthUser,
    proof: Proof,
) -> Result<Proven, ApiError> {
    let now = state.sources.now();
    // how the session was opened stands there already; only what came now is added
    let shown: Vec<_> = proof
        .amr()
        .into_iter()
        .filter(|method| method != "pwd" || !proof.has_second_factor())
        .collect();
    let noted = store::note_proof(tx, caller.session, &shown, proof.has_second_factor(), now).await?;
    let noted = noted.ok_or_else(|| ApiError::unauthenticated("TOKEN_REVOKED", "Token has been revoked"))?;
    let evidence = sessions::Evidence {
        amr: noted.amr,
        authenticated_at: now,
    };
    let token = sessions::sign(state, caller.user, &noted.email, noted.role, caller.session, evidence)?;
    Ok(Proven {
        authenticated_at: now,
        access_token: token,
        access_token_expires_in: Span(state.signer.access_ttl()).to_string(),
    })
}

fn wrong() -> ApiError {
    ApiError::bad_request("That was not right").with_code("INVALID_PROOF")
}
