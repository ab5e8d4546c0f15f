//! The profile, settings, preferences and avatar of an account.
//!
//! contract: core §5.1-5.4
//!
//! Name and address belong to the auth service and are changed through its client; settings, the profile row and the
//! picture belong here. Pictures are in object storage; only these routes need it.

mod avatar;
mod blocks;
mod bodies;
mod events;
mod handlers;
mod image;
mod languages;
mod model;
mod pictures;
mod put;
mod rows;
mod settings;
mod store;
mod update;

#[cfg(feature = "fuzzing")]
pub(crate) use avatar::take as take_upload;

use axum::{extract::DefaultBodyLimit, routing::any};
use utoipa_axum::router::OpenApiRouter;

use super::UserState;

pub use pictures::Pictures;

/// A profile may carry its picture as a `data:` URL (core §1.3).
const PROFILE_LIMIT: usize = 4 * 1024 * 1024;
/// Forms beyond the size of a picture are read this far, so that they can be answered (core §1.3).
const FORM_LIMIT: usize = 12 * 1024 * 1024;

/// The routes of this area, but uploads.
pub(super) fn routes() -> OpenApiRouter<UserState> {
    let large = OpenApiRouter::new()
        .routes(shared::routes!(put::update))
        .layer(DefaultBodyLimit::max(PROFILE_LIMIT));
    OpenApiRouter::new()
        .routes(shared::routes!(handlers::own, rows::upsert))
        .merge(large)
        .routes(shared::routes!(rows::row, rows::create, rows::change, rows::delete))
        .routes(shared::routes!(settings::settings, settings::put_settings))
        .routes(shared::routes!(settings::preferences, settings::put_preferences))
        .routes(shared::routes!(avatar::picture))
        .route("/api/v1/users/profile/{userId}/{*rest}", any(rows::nothing))
}

/// Uploads, which may take longer than other requests.
pub(super) fn uploads() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .routes(shared::routes!(avatar::upload, avatar::remove))
        .routes(shared::routes!(avatar::upload_to_profile))
        .routes(shared::routes!(avatar::upload_to_account))
        .layer(DefaultBodyLimit::max(FORM_LIMIT))
}
