//! The routes of the privacy area, and the envelope they share.
//!
//! contract: core §5.11, §1.4

mod consent;
mod download;
mod policy;
mod requests;

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use crate::user::UserState;

/// The routes of this area.
pub fn routes() -> OpenApiRouter<UserState> {
    OpenApiRouter::new()
        .routes(shared::routes!(policy::in_force))
        .routes(shared::routes!(policy::versions))
        .routes(shared::routes!(policy::accept))
        .routes(shared::routes!(policy::accept_alias))
        .routes(shared::routes!(
            consent::read,
            consent::put_consent,
            consent::patch_consent,
            consent::post_consent
        ))
        .routes(shared::routes!(consent::history))
        .routes(shared::routes!(requests::export))
        .routes(shared::routes!(requests::export_alias))
        .routes(shared::routes!(download::download))
        .routes(shared::routes!(requests::delete))
        .routes(shared::routes!(requests::delete_alias))
        .routes(shared::routes!(requests::delete_account))
        .routes(shared::routes!(requests::delete_profile))
        .routes(shared::routes!(requests::create))
        .routes(shared::routes!(requests::list))
        .routes(shared::routes!(requests::find, requests::cancel))
}

/// The envelope of this area.
#[derive(Debug, Serialize, ToSchema)]
pub struct PrivacyAnswer<T> {
    /// Always true.
    success: bool,
    /// For people; with changes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'static str>,
    /// What was asked for.
    data: T,
}

impl<T> PrivacyAnswer<T> {
    fn data(data: T) -> Json<Self> {
        Json(Self {
            success: true,
            message: None,
            data,
        })
    }

    fn done(message: &'static str, data: T) -> Json<Self> {
        Json(Self {
            success: true,
            message: Some(message),
            data,
        })
    }
}
