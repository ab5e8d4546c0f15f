//! The authenticator app and the recovery codes: `/api/v1/auth/mfa`.
//!
//! contract: core §14 (MFA TOTP, recovery codes). A wrong code is 400 here and not 401: any 401 signs the client out.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::{ApiError, auth::AuthUser, http::client_address::ClientAddress, id::UserId, sources::iso_option};
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::From;
use crate::auth::{
    AuthState,
    fields::{Fields, Problems, Text},
    handlers::{Answer, Done, user_not_found},
    mfa::{self, Change, Reauthenticated, model::RecoveryCode, store, totp::Secret},
    store::find_account,
};
use crate::mail::Protection;

/// What protects an account beside its password.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MfaStatus {
    /// Whether a sign-in with the password asks for a second factor.
    enabled: bool,
    /// Since when.
    #[serde(with = "iso_option")]
    enabled_at: Option<DateTime<Utc>>,
    /// Recovery codes that were not used yet.
    recovery_codes_left: i64,
    /// Passkeys.
    passkeys: i64,
    /// Accounts at other providers.
    linked_identities: i64,
    /// Whether the account has a password of its owner's choice.
    has_password: bool,
}

/// Says what protects the caller's account.
#[utoipa::path(
    get, path = "/api/v1/auth/mfa", tag = "auth",
    responses((status = 200, description = "The second factors", body = Answer<MfaStatus>), (status = 401, description = "Not signed in")),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn status(caller: AuthUser, State(state): State<AuthState>) -> Result<Json<Answer<MfaStatus>>, ApiError> {
    let found = store::find_status(state.db.pool(), caller.user).await?;
    let found = found.ok_or_else(user_not_found)?;
    let status = MfaStatus {
        enabled: found.totp_confirmed_at.is_some(),
        enabled_at: found.totp_confirmed_at,
        recovery_codes_left: found.recovery_codes,
        passkeys: found.passkeys,
        linked_identities: found.identities,
        has_password: found.has_password,
    };
    Ok(Json(Answer::new("Second factors retrieved successfully", status)))
}

/// The secret of a new authenticator app, shown once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Enrolment {
    /// Base32, for typing.
    secret: String,
    /// `otpauth://totp/…`.
    otpauth_uri: String,
    /// The URI as a picture: a `data:` URL of an SVG.
    qr_code: String,
}

/// Begins to set up an authenticator app. Nothing changes until a code confirms it.
#[utoipa::path(
    post, path = "/api/v1/auth/mfa/totp", tag = "auth",
    responses(
        (status = 200, description = "The secret; shown once", body = Answer<Enrolment>),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "REAUTH_REQUIRED"),
        (status = 409, description = "MFA_ALREADY_ENABLED"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn enrol(
    Reauthenticated(caller): Reauthenticated,
    State(state): State<AuthState>,
) -> Result<Json<Answer<Enrolment>>, ApiError> {
    let account = find_account(state.db.pool(), caller.user).await?;
    let account = account.ok_or_else(user_not_found)?;
    let name = &state.config.second_factor.name;
    let secret = Secret::generate(&state.sources, name, &account.email).map_err(ApiError::internal)?;
    let enrolment = Enrolment {
        secret: secret.base32(),
        otpauth_uri: secret.uri().map_err(ApiError::internal)?,
        qr_code: secret.picture().map_err(ApiError::internal)?,
    };
    let sealed = secret.seal(&state.cipher, caller.user).map_err(ApiError::internal)?;
    if !store::begin_totp(state.db.pool(), caller.user, &sealed, state.sources.now()).await? {
        let text = "An authenticator app is set up already";
        return Err(ApiError::conflict("MFA_ALREADY_ENABLED", text));
    }
    Ok(Json(Answer::new("Scan the code and confirm it", enrolment)))
}

/// The first code of the app.
#[derive(Deserialize, ToSchema)]
pub struct ConfirmBody {
    #[serde(default)]
    #[schema(value_type = String)]
    code: Text,
}

/// Ten codes, shown once.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryCodes {
    recovery_codes: Vec<String>,
}

/// Confirms the app with a code of it: from now on signing in asks for one. Answers with the recovery codes.
#[utoipa::path(
    post, path = "/api/v1/auth/mfa/totp/confirm", tag = "auth", request_body = ConfirmBody,
    responses(
        (status = 200, description = "The second factor is on; the recovery codes are shown once", body = Answer<RecoveryCodes>),
        (status = 400, description = "Validation failed, INVALID_CODE, or MFA_NOT_STARTED"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "REAUTH_REQUIRED"),
        (status = 429, description = "Too many wrong codes"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn confirm(
    Reauthenticated(caller): Reauthenticated,
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
    Fields(body): Fields<ConfirmBody>,
) -> Result<Json<Answer<RecoveryCodes>>, ApiError> {
    let mut problems = Problems::default();
    let code = problems.take(body.code.required("code", "Code is required"));
    let code = code.ok_or_else(|| problems.into_error())?;
    let subject = format!("user:{}", caller.user);
    let guesses = state.config.second_factor.guesses;
    state.limiter.check(&guesses, &subject).await.into_result()?;

    let now = state.sources.now();
    let stored = store::find_totp(state.db.pool(), caller.user).await?;
    let stored = stored
        .filter(|stored| stored.confirmed_at.is_none())
        .ok_or_else(|| ApiError::bad_request("No authenticator app is being set up").with_code("MFA_NOT_STARTED"))?;
    let secret = Secret::open(&state.cipher, caller.user, &stored.secret).map_err(ApiError::internal)?;
    let step = secret.step_of(code, now.timestamp()).ok_or_else(invalid_code)?;
    state.limiter.refund(&guesses, &subject).await;

    let from = From::new(address, &headers);
    let mut tx = state.db.begin().await?;
    if !store::confirm_totp(&mut tx, caller.user, &stored.secret, step, now).await? {
        // confirmed, or begun anew, by another request at the same time
        return Err(invalid_code());
    }
    let codes = new_codes(&mut tx, &state, caller.user).await?;
    note(&mut tx, &state, &caller, Protection::SecondFactorOn, &from).await?;
    tx.commit().await?;
    metrics::counter!("auth_mfa_enrolments_total").increment(1);
    Ok(Json(Answer::new("Two-factor authentication is on", codes)))
}

/// Takes the app and the recovery codes away: the password is enough again.
#[utoipa::path(
    delete, path = "/api/v1/auth/mfa/totp", tag = "auth",
    responses(
        (status = 200, description = "The second factor is off", body = Done),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "REAUTH_REQUIRED"),
        (status = 404, description = "MFA_NOT_ENABLED"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn disable(
    Reauthenticated(caller): Reauthenticated,
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
) -> Result<Json<Done>, ApiError> {
    let from = From::new(address, &headers);
    let mut tx = state.db.begin().await?;
    if !store::delete_totp(&mut tx, caller.user, state.sources.now()).await? {
        return Err(not_enabled());
    }
    note(&mut tx, &state, &caller, Protection::SecondFactorOff, &from).await?;
    tx.commit().await?;
    Ok(Json(Done::new("Two-factor authentication is off")))
}

/// Ten new recovery codes; the old ones count no more.
#[utoipa::path(
    post, path = "/api/v1/auth/mfa/recovery-codes", tag = "auth",
    responses(
        (status = 200, description = "The new codes, shown once", body = Answer<RecoveryCodes>),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "REAUTH_REQUIRED"),
        (status = 404, description = "MFA_NOT_ENABLED"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn regenerate(
    Reauthenticated(caller): Reauthenticated,
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
) -> Result<Json<Answer<RecoveryCodes>>, ApiError> {
    let from = From::new(address, &headers);
    let mut tx = state.db.begin().await?;
    let locked = store::lock_account(&mut tx, caller.user).await?;
    locked.ok_or_else(user_not_found)?;
    if !store::has_second_factor(&mut *tx, caller.user).await? {
        return Err(not_enabled());
    }
    let codes = new_codes(&mut tx, &state, caller.user).await?;
    note(&mut tx, &state, &caller, Protection::RecoveryCodesReplaced, &from).await?;
    tx.commit().await?;
    Ok(Json(Answer::new("Keep these codes in a safe place", codes)))
}

async fn new_codes(tx: &mut PgConnection, state: &AuthState, user: UserId) -> Result<RecoveryCodes, ApiError> {
    let codes = RecoveryCode::generate(&state.sources);
    let digests: Vec<_> = codes.iter().map(|code| code.digest().to_vec()).collect();
    store::replace_recovery_codes(tx, user, &digests, state.sources.now()).await?;
    Ok(RecoveryCodes {
        recovery_codes: codes.iter().map(RecoveryCode::shown).collect(),
    })
}

async fn note(
    tx: &mut PgConnection,
    state: &AuthState,
    caller: &AuthUser,
    protection: Protection,
    from: &From,
) -> Result<(), ApiError> {
    let change = Change {
        user: caller.user,
        session: Some(caller.session),
        origin: Some(&from.origin()),
        protection,
        data: json!({ "method": "totp" }),
    };
    mfa::tell(tx, state, change).await?;
    Ok(())
}

fn invalid_code() -> ApiError {
    ApiError::bad_request("The code is not right").with_code("INVALID_CODE")
}

fn not_enabled() -> ApiError {
    ApiError::not_found("Two-factor authentication is not on").with_code("MFA_NOT_ENABLED")
}
