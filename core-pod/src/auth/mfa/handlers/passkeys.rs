//! The caller's passkeys: `/api/v1/auth/passkeys`.
//!
//! contract: core §14 (register, list, rename, delete)

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::{
    ApiError,
    auth::AuthUser,
    db::OnConstraint as _,
    http::{client_address::ClientAddress, extract::Path},
    sources::{iso, iso_option},
};
use utoipa::ToSchema;
use uuid::Uuid;
use webauthn_rs::prelude::{PasskeyRegistration, RegisterPublicKeyCredential};

use super::{From, verify::PasskeyChallenge};
use crate::auth::{
    AuthState,
    fields::{Fields, Problems, Text},
    handlers::{Answer, Done, user_not_found},
    mfa::{
        self, Change, Reauthenticated,
        ceremony::{self, Kind},
        last_method,
        model::Label,
        passkey,
        store::{self, ListedPasskey, NewPasskey},
    },
    store::find_account,
};
use crate::mail::Protection;

/// Passkeys of one account.
const MOST: i64 = 20;

/// A passkey as its owner sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasskeyItem {
    id: Uuid,
    name: String,
    #[serde(with = "iso")]
    created_at: DateTime<Utc>,
    #[serde(with = "iso_option")]
    last_used_at: Option<DateTime<Utc>>,
}

impl std::convert::From<ListedPasskey> for PasskeyItem {
    fn from(passkey: ListedPasskey) -> Self {
        let ListedPasskey {
            id,
            name,
            created_at,
            last_used_at,
        } = passkey;
        Self {
            id,
            name,
            created_at,
            last_used_at,
        }
    }
}

/// Lists the caller's passkeys.
#[utoipa::path(
    get, path = "/api/v1/auth/passkeys", tag = "auth",
    responses((status = 200, description = "The passkeys, oldest first", body = Answer<Vec<PasskeyItem>>), (status = 401, description = "Not signed in")),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn list(
    caller: AuthUser,
    State(state): State<AuthState>,
) -> Result<Json<Answer<Vec<PasskeyItem>>>, ApiError> {
    let passkeys = store::list_passkeys(state.db.pool(), caller.user).await?;
    let items = passkeys.into_iter().map(PasskeyItem::from).collect();
    Ok(Json(Answer::new("Passkeys retrieved successfully", items)))
}

/// A challenge and the handle of what it belongs to.
#[derive(Serialize, ToSchema)]
pub struct BegunCeremony {
    /// To be sent back with the browser's answer, within five minutes.
    pub ceremony: String,
    /// What a browser hands to its authenticators.
    #[serde(flatten)]
    pub challenge: PasskeyChallenge,
}

/// Begins to register a passkey.
#[utoipa::path(
    post, path = "/api/v1/auth/passkeys/register/begin", tag = "auth",
    responses(
        (status = 200, description = "For `navigator.credentials.create`", body = Answer<BegunCeremony>),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "REAUTH_REQUIRED"),
        (status = 404, description = "PASSKEYS_UNAVAILABLE"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn begin_registration(
    Reauthenticated(caller): Reauthenticated,
    State(state): State<AuthState>,
) -> Result<Json<Answer<BegunCeremony>>, ApiError> {
    let account = find_account(state.db.pool(), caller.user).await?;
    let account = account.ok_or_else(user_not_found)?;
    let existing = passkey::parse(store::passkeys_of(state.db.pool(), caller.user).await?)?;
    let names = [account.first_name.as_deref(), account.last_name.as_deref()];
    let name = names.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let shown = if name.is_empty() { &account.email } else { &name };
    let (public_key, kept) = state
        .passkeys
        .begin_registration(caller.user, &account.email, shown, &existing)?;
    let (kind, owner) = (Kind::Registration, Some(caller.user));
    let ceremony = ceremony::begin(state.db.pool(), &state, kind, owner, None, &kept).await?;
    let challenge = PasskeyChallenge { public_key };
    Ok(Json(Answer::new(
        "Create your passkey",
        BegunCeremony { ceremony, challenge },
    )))
}

/// The device's answer.
#[derive(Deserialize, ToSchema)]
pub struct RegistrationBody {
    /// The handle of the challenge.
    #[serde(default)]
    #[schema(value_type = String)]
    ceremony: Text,
    /// What its owner calls it, 1 to 60 characters; `Passkey` if absent.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Text,
    /// What `navigator.credentials.create` gave, in JSON.
    #[serde(default)]
    #[schema(value_type = Object)]
    credential: Option<Value>,
}

/// Registers a passkey.
#[utoipa::path(
    post, path = "/api/v1/auth/passkeys/register/finish", tag = "auth", request_body = RegistrationBody,
    responses(
        (status = 201, description = "Registered", body = Answer<PasskeyItem>),
        (status = 400, description = "Validation failed, CEREMONY_EXPIRED or PASSKEY_REJECTED"),
        (status = 401, description = "Not signed in"),
        (status = 409, description = "PASSKEY_TAKEN or TOO_MANY_PASSKEYS"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn finish_registration(
    caller: AuthUser,
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
    Fields(body): Fields<RegistrationBody>,
) -> Result<(StatusCode, Json<Answer<PasskeyItem>>), ApiError> {
    let mut problems = Problems::default();
    let handle = problems.take(body.ceremony.required("ceremony", "Ceremony is required"));
    let name = label(&mut problems, &body.name);
    let credential = body.credential.as_ref().and_then(parse_credential);
    if credential.is_none() {
        problems.add("credential", "The answer of the device is required");
    }
    let (Some(handle), Some(name), Some(credential)) = (handle, name, credential) else {
        return Err(problems.into_error());
    };

    let now = state.sources.now();
    let mut tx = state.db.begin().await?;
    let taken = ceremony::take::<PasskeyRegistration>(&mut *tx, &state, Kind::Registration, handle, None).await?;
    let kept = taken
        .filter(|(owner, _)| *owner == Some(caller.user))
        .map(|(_, kept)| kept)
        .ok_or_else(expired)?;
    let passkey = match state.passkeys.finish_registration(&credential, &kept) {
        Ok(passkey) => passkey,
        Err(error) => {
            // a challenge is good for one answer, also for a wrong one
            tx.commit().await?;
            return Err(error);
        }
    };
    let stored = serde_json::to_value(&passkey).map_err(ApiError::internal)?;
    let new = NewPasskey {
        id: state.sources.uuid_v7(),
        credential: passkey.cred_id(),
        passkey: &stored,
        name: name.as_str(),
    };
    let inserted = store::insert_passkey(&mut tx, caller.user, &new, MOST, now).await;
    let inserted = inserted.on_constraint("webauthn_credentials_credential_id_key", || {
        ApiError::conflict("PASSKEY_TAKEN", "This passkey is registered already")
    })?;
    if !inserted {
        return Err(ApiError::conflict(
            "TOO_MANY_PASSKEYS",
            "Delete a passkey before adding another",
        ));
    }
    let from = From::new(address, &headers);
    note(&mut tx, &state, &caller, Protection::PasskeyAdded, name.as_str(), &from).await?;
    tx.commit().await?;
    let item = PasskeyItem {
        id: new.id,
        name: name.as_str().to_owned(),
        created_at: now,
        last_used_at: None,
    };
    Ok((StatusCode::CREATED, Json(Answer::new("Passkey added", item))))
}

/// A new name.
#[derive(Deserialize, ToSchema)]
pub struct RenameBody {
    #[serde(default)]
    #[schema(value_type = String, min_length = 1, max_length = 60)]
    name: Text,
}

/// Gives a passkey another name.
#[utoipa::path(
    patch, path = "/api/v1/auth/passkeys/{id}", tag = "auth", request_body = RenameBody,
    params(("id" = Uuid, Path, description = "The passkey")),
    responses(
        (status = 200, description = "Renamed", body = Answer<PasskeyItem>),
        (status = 400, description = "Validation failed"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "No such passkey of the caller"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn rename(
    caller: AuthUser,
    Path(id): Path<Uuid>,
    State(state): State<AuthState>,
    Fields(body): Fields<RenameBody>,
) -> Result<Json<Answer<PasskeyItem>>, ApiError> {
    let mut problems = Problems::default();
    if matches!(body.name, Text::Absent) {
        problems.add("name", "Name is required");
    }
    let name = label(&mut problems, &body.name);
    problems.refuse()?;
    let name = name.unwrap_or_default();
    let renamed = store::rename_passkey(state.db.pool(), caller.user, id, name.as_str()).await?;
    let renamed = renamed.ok_or_else(no_such_passkey)?;
    Ok(Json(Answer::new("Passkey renamed", renamed.into())))
}

/// Deletes a passkey.
#[utoipa::path(
    delete, path = "/api/v1/auth/passkeys/{id}", tag = "auth",
    params(("id" = Uuid, Path, description = "The passkey")),
    responses(
        (status = 200, description = "Deleted", body = Done),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "REAUTH_REQUIRED"),
        (status = 404, description = "No such passkey of the caller"),
        (status = 409, description = "LAST_SIGN_IN_METHOD"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn delete(
    Reauthenticated(caller): Reauthenticated,
    Path(id): Path<Uuid>,
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
) -> Result<Json<Done>, ApiError> {
    let from = From::new(address, &headers);
    let mut tx = state.db.begin().await?;
    let locked = store::lock_account(&mut tx, caller.user).await?;
    locked.ok_or_else(user_not_found)?;
    if !store::delete_passkey(&mut *tx, caller.user, id).await? {
        return Err(no_such_passkey());
    }
    let left = store::find_status(&mut *tx, caller.user).await?;
    if left.is_some_and(|left| !left.has_password && left.passkeys == 0 && left.identities == 0) {
        return Err(last_method());
    }
    note(&mut tx, &state, &caller, Protection::PasskeyRemoved, "", &from).await?;
    tx.commit().await?;
    Ok(Json(Done::new("Passkey deleted")))
}

async fn note(
    tx: &mut sqlx::PgConnection,
    state: &AuthState,
    caller: &AuthUser,
    protection: Protection,
    name: &str,
    from: &From,
) -> Result<(), ApiError> {
    let change = Change {
        user: caller.user,
        session: Some(caller.session),
        origin: Some(&from.origin()),
        protection,
        data: json!({ "name": name }),
    };
    mfa::tell(tx, state, change).await?;
    Ok(())
}

fn label(problems: &mut Problems, field: &Text) -> Option<Label> {
    let Some(raw) = problems.take(field.optional("name"))? else {
        return Some(Label::default());
    };
    match Label::parse(raw) {
        Ok(label) => Some(label),
        Err(message) => {
            problems.add("name", message);
            None
        }
    }
}

fn parse_credential(answer: &Value) -> Option<RegisterPublicKeyCredential> {
    RegisterPublicKeyCredential::deserialize(answer).ok()
}

/// 400: the challenge was answered already, ran out, or is somebody else's.
pub fn expired() -> ApiError {
    ApiError::bad_request("Please begin again").with_code("CEREMONY_EXPIRED")
}

fn no_such_passkey() -> ApiError {
    ApiError::not_found("Passkey not found")
}
