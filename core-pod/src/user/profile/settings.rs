//! `/api/v1/users/settings` and `/api/v1/users/preferences` (core §5.4).

use axum::{Json, extract::State};
use serde::Serialize;
use shared::{ApiError, auth::AuthUser, events::outbox};
use utoipa::ToSchema;

use super::{
    blocks::{read_preferences, read_settings},
    bodies::{PreferencesBody, SettingsBody},
    events,
    handlers::user_not_found,
    model::{PreferencesView, Settings, SettingsView},
    store,
};
use crate::user::{User, UserState, envelope::Answer, fields::JsonBody};

/// All settings.
#[derive(Serialize, ToSchema)]
pub struct SettingsData {
    settings: SettingsView,
}

/// Language, currency, time zone and style.
#[derive(Serialize, ToSchema)]
pub struct PreferencesData {
    preferences: PreferencesView,
}

/// The caller's settings.
#[utoipa::path(
    get, path = "/api/v1/users/settings", tag = "users",
    responses(
        (status = 200, description = "The settings", body = Answer<SettingsData>),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "The account is gone"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn settings(
    caller: AuthUser,
    State(state): State<UserState>,
) -> Result<Json<Answer<SettingsData>>, ApiError> {
    Ok(shown(&present(&state, &caller).await?))
}

/// Changes the settings that the body names.
#[utoipa::path(
    put, path = "/api/v1/users/settings", tag = "users", request_body = SettingsBody,
    responses(
        (status = 200, description = "The settings as they are now", body = Answer<SettingsData>),
        (status = 400, description = "Something in the body is not valid; nothing was changed"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "The account is gone"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn put_settings(
    caller: AuthUser,
    State(state): State<UserState>,
    body: JsonBody,
) -> Result<Json<Answer<SettingsData>>, ApiError> {
    let wanted = read_settings(&body)?;
    Ok(shown(&change(&state, &caller, &wanted).await?))
}

/// The caller's language, currency, time zone and style of travel.
#[utoipa::path(
    get, path = "/api/v1/users/preferences", tag = "users",
    responses(
        (status = 200, description = "The preferences", body = Answer<PreferencesData>),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "The account is gone"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn preferences(
    caller: AuthUser,
    State(state): State<UserState>,
) -> Result<Json<Answer<PreferencesData>>, ApiError> {
    let preferences = present(&state, &caller).await?.into();
    Ok(Answer::new(PreferencesData { preferences }))
}

/// Changes the preferences that the body names; a language may be given by its code.
#[utoipa::path(
    put, path = "/api/v1/users/preferences", tag = "users", request_body = PreferencesBody,
    responses(
        (status = 200, description = "The preferences as they are now", body = Answer<PreferencesData>),
        (status = 400, description = "Something in the body is not valid; nothing was changed"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "The account is gone"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn put_preferences(
    caller: AuthUser,
    State(state): State<UserState>,
    body: JsonBody,
) -> Result<Json<Answer<PreferencesData>>, ApiError> {
    let wanted = read_preferences(&body)?;
    let preferences = change(&state, &caller, &wanted).await?.into();
    Ok(Answer::new(PreferencesData { preferences }))
}

fn shown(settings: &Settings) -> Json<Answer<SettingsData>> {
    Answer::new(SettingsData {
        settings: settings.into(),
    })
}

async fn present(state: &UserState, caller: &AuthUser) -> Result<Settings, ApiError> {
    let stored = store::find_profile(state.db.pool(), caller.user).await?;
    Ok(stored.ok_or_else(user_not_found)?.settings)
}

/// Stores what differs and tells of it.
async fn change(state: &UserState, caller: &AuthUser, wanted: &Settings) -> Result<Settings, ApiError> {
    let present = present(state, caller).await?;
    let change = wanted.beyond(&present);
    if change.is_empty() {
        return Ok(present);
    }
    let mut tx = state.db.begin().await?;
    let now = store::save_settings(&mut tx, caller.user, &change, state.sources.now()).await?;
    let event = events::preferences_updated(&state.sources, caller.user, &change, &now);
    outbox::append::<User>(&mut tx, &[event]).await?;
    tx.commit().await?;
    Ok(now)
}
