//! Reading and deciding consent.
//!
//! contract: core §5.11

use axum::{Json, extract::State};
use serde_json::{Map, Value};
use shared::{ApiError, auth::AuthUser, http::Body};

use super::PrivacyAnswer;
use crate::user::{
    UserState,
    gdpr::{
        consent,
        model::{Consent, ConsentChange, ConsentRecord},
        store,
    },
    origin::Origin,
};

type Decided = Result<Json<PrivacyAnswer<Consent>>, ApiError>;

/// What the caller allows. The first read makes the defaults theirs.
#[utoipa::path(
    get, path = "/api/v1/users/gdpr/consent", tag = "gdpr",
    responses(
        (status = 200, description = "The consent", body = PrivacyAnswer<Consent>),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn read(caller: AuthUser, State(state): State<UserState>) -> Decided {
    Ok(PrivacyAnswer::data(consent::read(&state, caller.user).await?))
}

/// Changes what the caller allows; `functional` stays true.
#[utoipa::path(
    put, path = "/api/v1/users/gdpr/consent", tag = "gdpr", request_body = ConsentChange,
    responses(
        (status = 200, description = "The consent as it is now", body = PrivacyAnswer<Consent>),
        (status = 400, description = "A field is not a boolean, or none is given"),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn put_consent(
    caller: AuthUser,
    State(state): State<UserState>,
    origin: Origin,
    Body(body): Body<Map<String, Value>>,
) -> Decided {
    decide(&state, &caller, &origin, &body).await
}

/// The same as PUT.
#[utoipa::path(
    patch, path = "/api/v1/users/gdpr/consent", tag = "gdpr", request_body = ConsentChange,
    responses(
        (status = 200, description = "The consent as it is now", body = PrivacyAnswer<Consent>),
        (status = 400, description = "A field is not a boolean, or none is given"),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn patch_consent(
    caller: AuthUser,
    State(state): State<UserState>,
    origin: Origin,
    Body(body): Body<Map<String, Value>>,
) -> Decided {
    decide(&state, &caller, &origin, &body).await
}

/// The same as PUT.
#[utoipa::path(
    post, path = "/api/v1/users/gdpr/consent", tag = "gdpr", request_body = ConsentChange,
    responses(
        (status = 200, description = "The consent as it is now", body = PrivacyAnswer<Consent>),
        (status = 400, description = "A field is not a boolean, or none is given"),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn post_consent(
    caller: AuthUser,
    State(state): State<UserState>,
    origin: Origin,
    Body(body): Body<Map<String, Value>>,
) -> Decided {
    decide(&state, &caller, &origin, &body).await
}

async fn decide(state: &UserState, caller: &AuthUser, origin: &Origin, body: &Map<String, Value>) -> Decided {
    let change = ConsentChange::read(body)?;
    let consent = consent::decide(state, caller.user, change, origin).await?;
    Ok(PrivacyAnswer::done("Consent updated successfully", consent))
}

/// Every decision of the caller, newest first.
#[utoipa::path(
    get, path = "/api/v1/users/gdpr/consent/history", tag = "gdpr",
    responses(
        (status = 200, description = "The decisions", body = PrivacyAnswer<Vec<ConsentRecord>>),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn history(
    caller: AuthUser,
    State(state): State<UserState>,
) -> Result<Json<PrivacyAnswer<Vec<ConsentRecord>>>, ApiError> {
    let decisions = store::consent::history(state.db.pool(), caller.user).await?;
    Ok(PrivacyAnswer::data(decisions))
}
