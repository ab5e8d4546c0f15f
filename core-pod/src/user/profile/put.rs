//! `PUT /api/v1/users/profile` (core §5.1).
//!
//! What can be refused comes first, in the order of what is easily taken back: the body, the picture, the account (of the
//! auth service, in a transaction of its own). Settings, the reference to the picture and their events are one transaction
//! after that; what a crash leaves out, sending the same body again completes.

use axum::{Json, extract::State};
use serde::Serialize;
use shared::{ApiError, auth::AuthUser, events::outbox};
use utoipa::ToSchema;

use super::{
    avatar,
    bodies::ChangeBody,
    events,
    handlers::user_not_found,
    model::{Profile, Settings},
    pictures::Uploaded,
    store,
    update::{Photo, Plan},
};
use crate::{
    auth::client::{Changes, Email},
    user::{User, UserState, fields::JsonBody},
};

/// The changed profile.
#[derive(Serialize, ToSchema)]
pub struct Updated {
    /// `Profile updated successfully`.
    message: &'static str,
    #[serde(flatten)]
    profile: Profile,
}

/// Changes what the body says and differs. Any part of the object that `GET` gives may be sent; unknown keys are ignored.
/// `profile.photo` may be a URL, a `data:` URL, or the answer to an upload.
#[utoipa::path(
    put, path = "/api/v1/users/profile", tag = "users", request_body = ChangeBody,
    responses(
        (status = 200, description = "The profile as it is now", body = Updated),
        (status = 400, description = "Something in the body is not valid; nothing was changed"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "REAUTH_REQUIRED: another address needs a recent proof, of accounts with a second factor"),
        (status = 404, description = "The account is gone"),
        (status = 409, description = "EMAIL_TAKEN or USERNAME_TAKEN; nothing was changed"),
        (status = 503, description = "A picture came along and object storage is away"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn update(
    caller: AuthUser,
    State(state): State<UserState>,
    body: JsonBody,
) -> Result<Json<Updated>, ApiError> {
    let stored = store::find_profile(state.db.pool(), caller.user).await?;
    let stored = stored.ok_or_else(user_not_found)?;
    let is_same_email = |text: &str| match Email::parse(text) {
        Some(email) => Ok(email.as_str() == stored.email),
        None => Err("must be a valid email address"),
    };
    let plan = Plan::read(&body, &stored, is_same_email)?;
    if plan.email.is_some() {
        state.accounts.step_up().require_recent(&caller).await?;
    }

    // what can be refused comes first: the picture, then the account; the rest is one transaction that repeating repairs
    let picture = match plan.photo {
        Photo::Enclosed(url) => Some(avatar::accept(url.as_bytes().to_vec()).await?),
        Photo::Keep | Photo::Elsewhere(_) => None,
    };
    let uploaded = match picture {
        Some(picture) => Some(state.pictures.upload(picture).await?),
        None => None,
    };
    if let Err(refusal) = change_account(&state, &caller, &plan).await {
        if let Some(uploaded) = uploaded {
            state.pictures.discard(uploaded).await;
        }
        return Err(refusal);
    }
    let avatar = match plan.photo {
        Photo::Elsewhere(url) => Some(url.to_owned()),
        Photo::Keep | Photo::Enclosed(_) => uploaded.as_ref().map(Uploaded::url),
    };
    let profile = save(&state, &caller, plan.settings, avatar.as_deref()).await?;
    Ok(Json(Updated {
        message: "Profile updated successfully",
        profile,
    }))
}

/// Name and address belong to the auth service, which tells others of the change.
async fn change_account(state: &UserState, caller: &AuthUser, plan: &Plan<'_>) -> Result<(), ApiError> {
    if plan.name.is_none() && plan.email.is_none() {
        return Ok(());
    }
    let changes = Changes {
        username: plan.name.clone().map(Some),
        email: plan.email.and_then(Email::parse),
        ..Changes::default()
    };
    state.accounts.change(caller.user, &changes).await?;
    Ok(())
}

/// Settings, picture and their events in one transaction; gives the profile as it is then.
async fn save(
    state: &UserState,
    caller: &AuthUser,
    settings: Settings,
    avatar: Option<&str>,
) -> Result<Profile, ApiError> {
    let mut tx = state.db.begin().await?;
    let mut told = Vec::new();
    if !settings.is_empty() {
        let now = store::save_settings(&mut tx, caller.user, &settings, state.sources.now()).await?;
        told.push(events::preferences_updated(
            &state.sources,
            caller.user,
            &settings,
            &now,
        ));
    }
    let mut replaced = None;
    if avatar.is_some() {
        replaced = state.pictures.put_in_place(&mut tx, caller.user, avatar).await?;
        told.push(events::picture_changed(&state.sources, caller.user, avatar));
    }
    outbox::append::<User>(&mut tx, &told).await?;
    let stored = store::find_profile(&mut *tx, caller.user).await?;
    tx.commit().await?;
    state.pictures.remove(replaced).await;
    Ok(stored.ok_or_else(user_not_found)?.answered())
}
