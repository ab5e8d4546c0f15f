//! The routes of voyage, and what stands before all of them.
//!
//! contract: voyage §1 (mounting, limits), §4

use axum::{
    Router,
    extract::{FromRequestParts as _, Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing,
};
use shared::{ApiError, auth::AuthUser, http::ClientAddress};
use utoipa_axum::router::OpenApiRouter;

use super::{VoyageState, booking, cart, checkout, search};

/// Where the core pod finds what nobody else may call.
const INTERNAL: &str = "/api/v1/internal";

/// Everything under `/api/v1`. The kit maps `/api/X` to it.
pub fn router(state: &VoyageState) -> OpenApiRouter {
    OpenApiRouter::new()
        .nest("/api/v1", api(state))
        .layer(middleware::from_fn_with_state(state.clone(), limit))
        .with_state(state.clone())
}

/// The same again under `/api/v1/voyage`, where every route wants a signed-in caller (voyage §1). Not in the document.
pub fn token_only_router(state: &VoyageState) -> Router {
    let (api, _) = api(state).split_for_parts();
    Router::new()
        .nest("/api/v1/voyage", api)
        .layer(middleware::from_fn_with_state(state.clone(), require_user))
        .layer(middleware::from_fn_with_state(state.clone(), limit))
        .with_state(state.clone())
}

/// What only the core pod may call (core §2.8). Apart from the others because no limit of a client's address may stand
/// before it, and because the gateways let nothing with this prefix through.
pub fn internal_router(state: &VoyageState) -> Router {
    let (internal, _) = OpenApiRouter::new().nest(INTERNAL, internal()).split_for_parts();
    internal.with_state(state.clone())
}

fn internal() -> OpenApiRouter<VoyageState> {
    use booking::admin::handlers;

    OpenApiRouter::new()
        .routes(shared::routes!(handlers::put_statuses))
        .routes(shared::routes!(handlers::put_status))
        .routes(shared::routes!(handlers::post_cancel))
        .routes(shared::routes!(handlers::put_modify))
}

/// The document of all of them.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let searches = OpenApiRouter::new()
        .nest("/api/v1", search::documented())
        .into_openapi();
    let mut document = OpenApiRouter::new().nest("/api/v1", documented()).into_openapi();
    document.merge(searches);
    document.merge(OpenApiRouter::new().nest(INTERNAL, internal()).into_openapi());
    document
}

fn api(state: &VoyageState) -> OpenApiRouter<VoyageState> {
    documented().merge(search::router(state.search.clone()))
}

fn documented() -> OpenApiRouter<VoyageState> {
    use cart::handlers::{self as carts, alias};

    OpenApiRouter::new()
        .routes(shared::routes!(carts::get, carts::clear))
        .routes(shared::routes!(carts::add))
        .routes(shared::routes!(carts::update, carts::remove))
        .routes(shared::routes!(carts::extend))
        .routes(shared::routes!(checkout::handlers::post))
        .routes(shared::routes!(booking::handlers::list))
        .routes(shared::routes!(booking::handlers::detail))
        .routes(shared::routes!(booking::handlers::post_confirm))
        // other methods for the same, as older clients use them
        .route("/cart/items/{itemId}", routing::patch(carts::update))
        .route("/cart/extend", routing::post(carts::extend))
        // the same by path
        .route("/cart/{userId}", routing::get(alias::get).delete(alias::clear))
        .route("/cart/{userId}/items", routing::post(alias::add))
        .route(
            "/cart/{userId}/items/{itemId}",
            routing::put(alias::update).patch(alias::update).delete(alias::remove),
        )
        .route("/cart/{userId}/extend", routing::put(alias::extend).post(alias::extend))
        .route("/cart/{userId}/checkout", routing::post(checkout::handlers::alias))
}

/// Counts the request: by account where there is one, else by address. Who only claims to be somebody is counted by address.
async fn limit(State(state): State<VoyageState>, address: ClientAddress, request: Request, next: Next) -> Response {
    let caller = state
        .auth
        .0
        .user(request.method(), request.headers())
        .await
        .ok()
        .flatten();
    let decision = match caller {
        Some(caller) => {
            state
                .limiter
                .check(&state.config.user_rule, &format!("user:{}", caller.user))
                .await
        }
        None => {
            state
                .limiter
                .check(&state.config.anonymous_rule, &address.limit_subject())
                .await
        }
    };
    let decision = match decision.into_result() {
        Ok(decision) => decision,
        Err(refusal) => return refusal.into_response(),
    };
    let mut response = next.run(request).await;
    decision.apply(response.headers_mut());
    response
}

async fn require_user(State(state): State<VoyageState>, request: Request, next: Next) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    AuthUser::from_request_parts(&mut parts, &state).await?;
    Ok(next.run(Request::from_parts(parts, body)).await)
}
