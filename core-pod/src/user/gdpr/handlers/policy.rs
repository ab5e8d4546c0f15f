//! Reading and accepting the privacy policy.
//!
//! contract: core §5.11

use axum::{Json, extract::State};
use serde_json::{Map, Value};
use shared::{ApiError, auth::AuthUser, http::Body};
use utoipa::ToSchema;

use super::PrivacyAnswer;
use crate::user::{
    UserState,
    gdpr::{
        model::{Acceptance, Policy, PolicyId},
        store,
    },
    origin::Origin,
};

/// Which version is accepted; described here, read by hand.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the shape of the body, for the document")]
pub struct PolicyChoice {
    /// The version's id.
    policy_id: String,
}

/// The privacy policy in force.
#[utoipa::path(
    get, path = "/api/v1/users/gdpr/privacy-policy", tag = "gdpr",
    responses(
        (status = 200, description = "The policy", body = PrivacyAnswer<Policy>),
        (status = 404, description = "None is in force"),
    ),
    security(()),
)]
pub async fn in_force(State(state): State<UserState>) -> Result<Json<PrivacyAnswer<Policy>>, ApiError> {
    let policy = store::policy::in_force(state.db.pool(), state.sources.now()).await?;
    let policy = policy.ok_or_else(|| ApiError::not_found("No active privacy policy found"))?;
    Ok(PrivacyAnswer::data(policy))
}

/// All versions of the privacy policy, newest first.
#[utoipa::path(
    get, path = "/api/v1/users/gdpr/privacy-policy/versions", tag = "gdpr",
    responses((status = 200, description = "The versions", body = PrivacyAnswer<Vec<Policy>>)),
    security(()),
)]
pub async fn versions(State(state): State<UserState>) -> Result<Json<PrivacyAnswer<Vec<Policy>>>, ApiError> {
    Ok(PrivacyAnswer::data(store::policy::versions(state.db.pool()).await?))
}

/// Accepts a version. Repeating it renews the acceptance.
#[utoipa::path(
    post, path = "/api/v1/users/gdpr/privacy-policy/accept", tag = "gdpr", request_body = PolicyChoice,
    responses(
        (status = 200, description = "The acceptance", body = PrivacyAnswer<Acceptance>),
        (status = 400, description = "No version is named"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "There is no such version"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn accept(
    caller: AuthUser,
    State(state): State<UserState>,
    origin: Origin,
    Body(body): Body<Map<String, Value>>,
) -> Result<Json<PrivacyAnswer<Acceptance>>, ApiError> {
    note(&state, &caller, &origin, &body).await
}

/// The same under the name of the documentation.
#[utoipa::path(
    post, path = "/api/v1/users/gdpr/accept-privacy-policy", tag = "gdpr", request_body = PolicyChoice,
    responses(
        (status = 200, description = "The acceptance", body = PrivacyAnswer<Acceptance>),
        (status = 400, description = "No version is named"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "There is no such version"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn accept_alias(
    caller: AuthUser,
    State(state): State<UserState>,
    origin: Origin,
    Body(body): Body<Map<String, Value>>,
) -> Result<Json<PrivacyAnswer<Acceptance>>, ApiError> {
    note(&state, &caller, &origin, &body).await
}

async fn note(
    state: &UserState,
    caller: &AuthUser,
    origin: &Origin,
    body: &Map<String, Value>,
) -> Result<Json<PrivacyAnswer<Acceptance>>, ApiError> {
    let named = match body.get("policyId") {
        Some(Value::String(text)) if !text.trim().is_empty() => text.trim(),
        Some(Value::String(_) | Value::Null) | None => return Err(ApiError::bad_request("Policy ID is required")),
        Some(_) => return Err(ApiError::bad_request("Policy ID must be a string")),
    };
    let not_found = || ApiError::not_found("Policy not found");
    let policy: PolicyId = named.parse().map_err(|_| not_found())?;
    let sources = &state.sources;
    let accepted = store::policy::accept(
        state.db.pool(),
        sources.id(),
        caller.user,
        policy,
        origin,
        sources.now(),
    )
    .await?;
    let acceptance = accepted.ok_or_else(not_found)?;
    Ok(PrivacyAnswer::done("Policy accepted successfully", acceptance))
}
