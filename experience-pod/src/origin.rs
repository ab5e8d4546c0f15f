//! What the origin answers itself.

use axum::{Json, Router};
use serde::Serialize;
use utoipa::{OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;

/// The banner of the gateway (core §3.4): exactly these keys.
#[derive(Debug, Serialize, ToSchema)]
struct Banner {
    /// `DreamScape API Gateway`.
    message: &'static str,
    /// The version of the API.
    version: &'static str,
    /// `running`.
    status: &'static str,
}

#[derive(OpenApi)]
#[openapi(info(
    title = "DreamScape experience pod",
    description = "The one origin a browser talks to. Everything under /api is streamed to the pods that own it; see their documents."
))]
struct Document;

/// Says who answers here.
#[utoipa::path(get, path = "/", tag = "gateway", responses((status = 200, description = "the banner", body = Banner)))]
async fn banner() -> Json<Banner> {
    Json(Banner {
        message: "DreamScape API Gateway",
        version: "1.0.0",
        status: "running",
    })
}

fn documented() -> OpenApiRouter {
    OpenApiRouter::with_openapi(Document::openapi()).routes(shared::routes!(banner))
}

pub(crate) fn router() -> Router {
    documented().into()
}

pub(crate) fn openapi() -> utoipa::openapi::OpenApi {
    shared::openapi::recorded(|| documented().into_openapi())
}
