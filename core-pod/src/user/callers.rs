//! Which services may use the internal routes of the user service.
//!
//! contract: core §2.8 (401 without a service token, 403 for the wrong service), §3.1 (404 from outside)

use axum::{
    extract::{OriginalUri, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use serde_json::json;
use shared::{
    ApiError,
    auth::{Authenticator, ServiceCaller},
};

/// The services outside this pod that read preferences and make notifications: those of the business pod.
const PARTNERS: [&str; 1] = ["business-pod"];

/// 403 for a service that has no business here.
pub fn require_partner(caller: &ServiceCaller) -> Result<(), ApiError> {
    if PARTNERS.contains(&caller.service.as_str()) {
        return Ok(());
    }
    Err(ApiError::forbidden("This service may not use this route"))
}

/// Round the internal routes of a listener that the outside can reach: without a valid service token they do not exist.
pub async fn hide_from_outside(
    State(authenticator): State<Authenticator>,
    OriginalUri(uri): OriginalUri,
    request: Request,
    next: Next,
) -> Response {
    match authenticator.0.service(request.headers()).await {
        Ok(_) => next.run(request).await,
        Err(error) if error.status().is_server_error() => error.into_response(),
        Err(_) => ApiError::not_found("Not Found")
            .with_detail(format!("Route {} not found", uri.path()))
            .with_extra("path", json!(uri.path()))
            .into_response(),
    }
}
