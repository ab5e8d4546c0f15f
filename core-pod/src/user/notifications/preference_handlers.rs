//! The routes of notification preferences.
//!
//! contract: core §5.9, §8 (`pref:notif:<userId>`)
//!
//! Reading is served from Redis for five minutes and survives its absence. Whatever decides about sending asks the
//! database (see [`super::create`]), so a change takes effect with its commit.

use std::time::Duration;

use axum::{Json, extract::State};
use serde_json::Value;
use shared::{ApiError, auth::AuthUser, http::Body, id::UserId};
use utoipa::ToSchema;

use super::{
    preferences::{Preferences, Unfit},
    store,
};
use crate::user::{UserState, envelope::Answer};

const CACHED: Duration = Duration::from_mins(5);

fn key(user: UserId) -> String {
    format!("pref:notif:{user}")
}

/// The caller's preferences.
#[utoipa::path(
    get, path = "/api/v1/users/notification-preferences", tag = "notifications",
    responses(
        (status = 200, description = "The seven keys", body = Answer<Preferences>),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn read(caller: AuthUser, State(state): State<UserState>) -> Result<Json<Answer<Preferences>>, ApiError> {
    let key = key(caller.user);
    if let Ok(Some(cached)) = state.redis.get(&key).await
        && let Ok(cached) = serde_json::from_slice::<Value>(&cached)
        && let Ok(preferences) = Preferences::complete(&cached)
    {
        return Ok(Answer::new(preferences));
    }
    let stored = store::find_preferences(state.db.pool(), caller.user).await?;
    let preferences = Preferences::stored(stored.as_ref());
    let text = serde_json::to_vec(&preferences).map_err(ApiError::internal)?;
    // only where nothing is: a later answer of ours must not replace an earlier one of somebody who knew more
    let _ = state.redis.set_nx(&key, text, Some(CACHED)).await;
    Ok(Answer::new(preferences))
}

/// Replaces the caller's preferences: all seven keys with both channels.
#[utoipa::path(
    put, path = "/api/v1/users/notification-preferences", tag = "notifications", request_body = Preferences,
    responses(
        (status = 200, description = "The seven keys", body = Answer<Preferences>),
        (status = 400, description = "A key or a channel is missing"),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn replace(
    caller: AuthUser,
    State(state): State<UserState>,
    Body(body): Body<Value>,
) -> Result<Json<Answer<Preferences>>, ApiError> {
    let preferences = Preferences::complete(&body).map_err(unfit)?;
    let stored = serde_json::to_value(preferences).map_err(ApiError::internal)?;
    store::save_preferences(state.db.pool(), caller.user, &stored, state.sources.now()).await?;
    forget(&state, caller.user).await;
    Ok(Answer::new(preferences))
}

/// The channels of one key; what is absent stays.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NotificationChannelsChange)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct ChannelsChangeBody {
    /// In the notification centre and on open sockets.
    #[schema(required = false)]
    in_app: bool,
    /// By e-mail.
    #[schema(required = false)]
    email: bool,
}

/// Any of the seven keys, at least one of them; what is absent stays.
#[derive(ToSchema)]
#[schema(as = NotificationPreferencesChange, min_properties = 1)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct PreferencesChangeBody {
    #[schema(required = false)]
    booking_confirmed: ChannelsChangeBody,
    #[schema(required = false)]
    booking_cancelled: ChannelsChangeBody,
    #[schema(required = false)]
    payment_succeeded: ChannelsChangeBody,
    #[schema(required = false)]
    payment_failed: ChannelsChangeBody,
    #[schema(required = false)]
    refund_processed: ChannelsChangeBody,
    #[schema(required = false)]
    promo_offer: ChannelsChangeBody,
    #[schema(required = false)]
    platform_update: ChannelsChangeBody,
}

/// Changes what is named and leaves the rest.
#[utoipa::path(
    patch, path = "/api/v1/users/notification-preferences", tag = "notifications",
    request_body(content = PreferencesChangeBody, description = "Any of the seven keys with any of the channels"),
    responses(
        (status = 200, description = "The seven keys", body = Answer<Preferences>),
        (status = 400, description = "Nothing to change, or not a boolean"),
        (status = 401, description = "Not signed in"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn change(
    caller: AuthUser,
    State(state): State<UserState>,
    Body(body): Body<Value>,
) -> Result<Json<Answer<Preferences>>, ApiError> {
    Preferences::default().changed(&body).map_err(unfit)?;
    let now = state.sources.now();
    let mut tx = state.db.begin().await?;
    let stored = store::lock_preferences(&mut tx, caller.user, now).await?;
    let preferences = Preferences::stored(stored.as_ref()).changed(&body).map_err(unfit)?;
    let changed = serde_json::to_value(preferences).map_err(ApiError::internal)?;
    store::save_preferences(&mut *tx, caller.user, &changed, now).await?;
    tx.commit().await?;
    forget(&state, caller.user).await;
    Ok(Answer::new(preferences))
}

#[expect(clippy::needless_pass_by_value, reason = "the end of a chain of `map_err`")]
fn unfit(problem: Unfit) -> ApiError {
    ApiError::bad_request(problem.to_string())
}

/// Without Redis the old answer may be read for up to five minutes once it is back; nothing is sent on its strength.
pub async fn forget(state: &UserState, user: UserId) {
    if let Err(error) = state.redis.del(&key(user)).await {
        tracing::debug!(%error, "cached preferences not forgotten");
    }
}
