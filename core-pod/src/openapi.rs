//! The OpenAPI document of the pod: the routes of its services and how callers prove themselves.

use utoipa::openapi::{
    InfoBuilder, OpenApi, OpenApiBuilder,
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
};

/// The document.
pub fn document() -> OpenApi {
    shared::openapi::recorded(written)
}

fn written() -> OpenApi {
    let info = InfoBuilder::new()
        .title("DreamScape core pod")
        .version("1.0.0")
        .description(Some("Accounts, sessions, profiles and notifications."));
    let mut document = OpenApiBuilder::new().info(info).build();
    document.merge(crate::auth::openapi());
    document.merge(crate::user::openapi());
    document.merge(crate::gateway::openapi());
    let bearer = |description: &str| {
        let http = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT");
        SecurityScheme::Http(http.description(Some(description)).build())
    };
    let cookie = |name: &str| SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new(name)));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("bearer", bearer("An access token from login, register or refresh."));
    components.add_security_scheme("service", bearer("A service token of another pod."));
    components.add_security_scheme("session_cookie", cookie("ds_session"));
    components.add_security_scheme("refresh_cookie", cookie("refreshToken"));
    document
}
