//! The gateway's own pages: who answers here, what there is, and how to use it.
//!
//! contract: core §3.4, §14 (API documentation). No address of a service and no figure of the process leaves here.

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value, json};
use shared::{gateway::Gateway, health::Status, sources::iso_millis};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use super::{GatewayState, documents};

const NAME: &str = "DreamScape API Gateway";
const VERSION: &str = "1.0.0";
const ABOUT: &str =
    "Travel, from the first idea to the booking: accounts, search, cart, bookings, payments, recommendations";

/// The table as the public sees it (core §3.1): prefixes and what is behind them.
const TABLE: &[(&str, &str)] = &[
    ("/api/v1/auth", "Auth Service"),
    ("/api/v1/users", "User Service"),
    ("/api/v1/admin", "User Service (administration)"),
    ("/api/v1/ai", "AI Service"),
    ("/api/v1/recommendations", "AI Service"),
    ("/api/v1/context", "AI Service"),
    ("/api/v1/predictions", "AI Service"),
    ("/api/v1/voyage", "Voyage Service (every route with a token)"),
    ("/api/v1/voyages", "Voyage Service (as /api/v1/voyage)"),
    ("/api/v1/flights", "Voyage Service"),
    ("/api/v1/hotels", "Voyage Service"),
    ("/api/v1/accommodations", "Voyage Service"),
    ("/api/v1/activities", "Voyage Service"),
    ("/api/v1/locations", "Voyage Service"),
    ("/api/v1/airports", "Voyage Service"),
    ("/api/v1/airlines", "Voyage Service"),
    ("/api/v1/transfers", "Voyage Service"),
    ("/api/v1/cart", "Voyage Service"),
    ("/api/v1/bookings", "Voyage Service"),
    ("/api/v1/itineraries", "Voyage Service"),
    ("/api/v1/search-history", "Voyage Service"),
    ("/api/v1/price-alerts", "Voyage Service"),
    ("/api/v1/health/voyage", "Voyage Service"),
    ("/api/v1/payment", "Payment Service"),
    ("/api/v1/payments", "Payment Service (as /api/v1/payment)"),
    ("/api/v1/vr/sessions", "VR PIN sessions"),
    ("/api/v1/vr/links", "VR links"),
    ("/api/v1/vr/qr", "VR QR codes"),
    ("/api/v1/vr", "Panorama Service"),
    ("/api/v1/panorama", "Panorama Service"),
    ("/socket.io", "User Service (realtime)"),
    ("/ws", "User Service (as /socket.io)"),
    ("/uploads", "User Service (files)"),
    ("/health", "Health"),
    ("/docs", "This list; a page in a browser"),
    ("/api/v1/openapi.json", "OpenAPI document of all services"),
];

fn documented() -> OpenApiRouter<GatewayState> {
    OpenApiRouter::new()
        .routes(shared::routes!(banner))
        .routes(shared::routes!(docs))
        .routes(shared::routes!(reference))
        .routes(shared::routes!(openapi_document))
        .routes(shared::routes!(openapi_in_docs))
        .routes(shared::routes!(api))
        .routes(shared::routes!(services))
}

/// All routes.
pub fn routes(state: &GatewayState) -> Router {
    Router::from(documented().with_state(state.clone()))
}

/// Their description.
pub fn openapi() -> utoipa::openapi::OpenApi {
    documented().into_openapi()
}

/// The banner: exactly these keys.
#[derive(Serialize, ToSchema)]
struct Banner {
    /// `DreamScape API Gateway`.
    message: &'static str,
    /// The version of the API.
    version: &'static str,
    /// `running`.
    status: &'static str,
}

/// Says who answers here.
#[utoipa::path(
    get, path = "/", tag = "gateway", operation_id = "banner",
    responses((status = 200, description = "The banner", body = Banner)),
    security(()),
)]
async fn banner() -> Json<Banner> {
    Json(Banner {
        message: NAME,
        version: VERSION,
        status: "running",
    })
}

#[derive(Serialize, ToSchema)]
struct Docs {
    title: &'static str,
    version: &'static str,
    description: &'static str,
    /// What is behind which prefix.
    #[schema(value_type = std::collections::HashMap<String, String>)]
    endpoints: Map<String, Value>,
}

fn endpoints() -> Map<String, Value> {
    TABLE
        .iter()
        .map(|(prefix, label)| ((*prefix).to_owned(), json!(label)))
        .collect()
}

/// What there is: a list, or for a browser the reference as a page.
#[utoipa::path(
    get, path = "/docs", tag = "gateway", operation_id = "docs",
    responses((status = 200, description = "The list; a page where `text/html` is asked for first", body = Docs)),
    security(()),
)]
async fn docs(headers: HeaderMap) -> Response {
    let mut response = if prefers_a_page(&headers) {
        page()
    } else {
        let body = Docs {
            title: NAME,
            version: VERSION,
            description: ABOUT,
            endpoints: endpoints(),
        };
        Json(body).into_response()
    };
    response
        .headers_mut()
        .append(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// The reference of all services as a page, without a script.
#[utoipa::path(
    get, path = "/docs/reference", tag = "gateway", operation_id = "reference",
    responses((status = 200, description = "The page", content_type = "text/html", body = String)),
    security(()),
)]
async fn reference() -> Response {
    page()
}

fn page() -> Response {
    let documents = documents::published();
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        ),
        (header::CONTENT_SECURITY_POLICY, documents.policy.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    (headers, documents.page.clone()).into_response()
}

/// Whether `text/html` is named before JSON, as browsers do and programs do not.
fn prefers_a_page(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let accept = accept.unwrap_or_default().to_ascii_lowercase();
    let place = |kind| accept.find(kind).unwrap_or(usize::MAX);
    place("text/html") < place("application/json")
}

/// The OpenAPI document of all services together.
#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "gateway", operation_id = "openapi",
    responses(
        (status = 200, description = "OpenAPI 3.1", body = Object),
        (status = 304, description = "Unchanged since the `ETag` that was sent"),
    ),
    security(()),
)]
async fn openapi_document(headers: HeaderMap) -> Response {
    document(&headers)
}

/// The same beside the page.
#[utoipa::path(
    get, path = "/docs/openapi.json", tag = "gateway", operation_id = "openapiInDocs",
    responses(
        (status = 200, description = "OpenAPI 3.1", body = Object),
        (status = 304, description = "Unchanged since the `ETag` that was sent"),
    ),
    security(()),
)]
async fn openapi_in_docs(headers: HeaderMap) -> Response {
    document(&headers)
}

fn document(headers: &HeaderMap) -> Response {
    let documents = documents::published();
    let known = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut tags = known.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let caching = [
        (header::ETAG, documents.etag.clone()),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    // a compressing hop marks the tag as weak
    let same = |tag: &[u8]| {
        let tag = tag.trim_ascii();
        tag.strip_prefix(b"W/").unwrap_or(tag) == documents.etag.as_bytes() || tag == b"*"
    };
    if tags.any(same) {
        return (StatusCode::NOT_MODIFIED, caching).into_response();
    }
    let kind: (HeaderName, HeaderValue) = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (caching, [kind], documents.json.clone()).into_response()
}

/// What there is below `/api`.
#[utoipa::path(
    get, path = "/api", tag = "gateway", operation_id = "api",
    responses((status = 200, description = "Name, version and paths", body = Object)),
    security(()),
)]
async fn api(State(state): State<GatewayState>) -> Json<Value> {
    Json(json!({
        "service": NAME,
        "version": VERSION,
        "description": ABOUT,
        "endpoints": {
            "health": "/health",
            // both on the listener that only the inside of the stack reaches
            "status": "/status",
            "metrics": "/metrics",
            "api": endpoints(),
        },
        "timestamp": iso_millis(state.sources.now()),
    }))
}

#[derive(Serialize, ToSchema)]
struct Services {
    services: Vec<ServiceState>,
}

#[derive(Serialize, ToSchema)]
struct ServiceState {
    /// `auth-service`.
    name: &'static str,
    /// `healthy`, `degraded`, `unhealthy` or `unknown`.
    #[schema(value_type = String)]
    status: Status,
}

/// The services by name, and how they are.
#[utoipa::path(
    get, path = "/api/services", tag = "gateway", operation_id = "services",
    responses((status = 200, description = "No addresses", body = Services)),
    security(()),
)]
async fn services(State(state): State<GatewayState>) -> Json<Services> {
    let mut services = Vec::new();
    for health in &state.neighbours.local {
        services.push(ServiceState {
            name: health.service(),
            status: health.report().await.status,
        });
    }
    let remote = state.neighbours.proxy.iter().flat_map(Gateway::dependencies);
    services.extend(remote.map(|dependency| ServiceState {
        name: dependency.target.name(),
        status: match dependency.state.healthy {
            Some(true) => Status::Healthy,
            Some(false) => Status::Unhealthy,
            None => Status::Unknown,
        },
    }));
    Json(Services { services })
}
