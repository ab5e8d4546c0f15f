//! The routes of the auth service, and the shapes they share.
//!
//! contract: core §4

mod change_password;
mod jwks;
mod login;
mod logout;
mod logout_all;
mod profile;
mod refresh;
mod register;
mod service_token;
mod verify_token;

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use shared::{
    ApiError,
    auth::{Role, config::Span},
    http::{
        client_address::ClientAddress,
        limit::{self, Subject},
    },
    id::UserId,
    sources::{iso, iso_option},
};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

pub use self::login::{require_verified, suspended};
use super::{AuthState, cookies::Cookies, model::Account, sessions::Opened};

/// Bodies of auth routes are small (core §1.3).
const BODY_LIMIT: usize = 64 * 1024;
/// What a program calls itself is kept up to this length.
const MAX_USER_AGENT: usize = 512;

/// Routes by who limits them.
struct Groups {
    /// They count by themselves: failures only, and travellers but not services.
    own: OpenApiRouter<AuthState>,
    register: OpenApiRouter<AuthState>,
    refresh: OpenApiRouter<AuthState>,
    others: OpenApiRouter<AuthState>,
    /// Fetched by every pod; never refused.
    keys: OpenApiRouter<AuthState>,
}

impl Groups {
    fn new() -> Self {
        Self {
            own: OpenApiRouter::new()
                .routes(shared::routes!(login::login))
                .routes(shared::routes!(verify_token::verify_token)),
            register: OpenApiRouter::new().routes(shared::routes!(register::register)),
            refresh: OpenApiRouter::new().routes(shared::routes!(refresh::refresh)),
            others: OpenApiRouter::new()
                .routes(shared::routes!(profile::profile, profile::change_profile))
                .routes(shared::routes!(change_password::change_password))
                .routes(shared::routes!(logout::logout))
                .routes(shared::routes!(logout_all::logout_all))
                .routes(shared::routes!(service_token::service_token))
                .merge(super::devices::routes())
                .merge(super::federation::routes())
                .merge(super::mfa::routes())
                .merge(super::recovery::routes()),
            keys: OpenApiRouter::new().routes(shared::routes!(jwks::jwks)),
        }
    }
}

/// All routes of the service.
pub fn routes(state: &AuthState) -> Router {
    let Groups {
        own,
        register,
        refresh,
        others,
        keys,
    } = Groups::new();
    let limits = state.config.limits;
    let limited = |rule, subject| limit::layer(state.limiter.clone(), rule, subject);
    let routes = own
        .merge(register.route_layer(limited(limits.register, Subject::Address)))
        .merge(refresh.route_layer(limited(limits.refresh, Subject::Address)))
        .merge(others.route_layer(limited(limits.other, Subject::Caller(state.authenticator.clone()))))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn_with_state(state.clone(), with_keys))
        .merge(keys);
    Router::from(routes.with_state(state.clone()))
}

/// Sees to it that the signing keys are there before a handler opens a transaction. The first requests of a pod would
/// otherwise each hold a connection and want a second one, and as many as the pool has would wait for each other.
async fn with_keys(State(state): State<AuthState>, request: Request, next: Next) -> Response {
    if let Err(error) = state.keys.ready().await {
        // whether that matters is the handler's to say
        tracing::debug!(error = error.to_string(), "the signing keys are not there yet");
    }
    next.run(request).await
}

/// The description of all routes.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let Groups {
        own,
        register,
        refresh,
        others,
        keys,
    } = Groups::new();
    own.merge(register)
        .merge(refresh)
        .merge(others)
        .merge(keys)
        .into_openapi()
}

/// The envelope of auth.
#[derive(Serialize, ToSchema)]
#[schema(as = AuthAnswer)]
pub struct Answer<T> {
    /// Always true.
    success: bool,
    /// For people.
    message: &'static str,
    /// What was asked for.
    data: T,
}

impl<T> Answer<T> {
    pub(in crate::auth) fn new(message: &'static str, data: T) -> Self {
        Self {
            success: true,
            message,
            data,
        }
    }
}

/// The envelope without data.
#[derive(Serialize, ToSchema)]
pub struct Done {
    /// Always true.
    success: bool,
    /// For people.
    message: &'static str,
}

impl Done {
    /// A success with nothing to say.
    pub fn new(message: &'static str) -> Self {
        Self { success: true, message }
    }
}

/// An account as its owner sees it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    id: UserId,
    email: String,
    username: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    is_verified: bool,
    role: Role,
    onboarding_completed: bool,
    #[serde(with = "iso_option")]
    onboarding_completed_at: Option<DateTime<Utc>>,
    #[serde(with = "iso")]
    created_at: DateTime<Utc>,
    #[serde(with = "iso")]
    updated_at: DateTime<Utc>,
    /// In the answer to a sign-in only.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_suspended: Option<bool>,
}

impl From<Account> for User {
    fn from(account: Account) -> Self {
        Self {
            id: account.id,
            email: account.email,
            username: account.username,
            first_name: account.first_name,
            last_name: account.last_name,
            is_verified: account.is_verified,
            role: account.role,
            onboarding_completed: account.onboarding_completed_at.is_some(),
            onboarding_completed_at: account.onboarding_completed_at,
            created_at: account.created_at,
            updated_at: account.updated_at,
            is_suspended: None,
        }
    }
}

/// The access token and how long things live. The refresh token is in its cookie only.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    access_token: String,
    /// `15m`.
    access_token_expires_in: String,
    /// `7d` or `30d`.
    refresh_token_expires_in: String,
}

impl Tokens {
    fn new(state: &AuthState, access_token: String, refresh_life: Duration) -> Self {
        Self {
            access_token,
            access_token_expires_in: Span(state.signer.access_ttl()).to_string(),
            refresh_token_expires_in: Span(refresh_life).to_string(),
        }
    }
}

/// An account with the tokens of its new session.
#[derive(Serialize, ToSchema)]
pub struct SignedIn {
    user: User,
    tokens: Tokens,
}

/// The account alone.
#[derive(Serialize, ToSchema)]
pub struct UserData {
    user: User,
}

/// The answer to a sign-up or sign-in, with both cookies.
fn signed_in(state: &AuthState, status: StatusCode, message: &'static str, user: User, opened: Opened) -> Response {
    let Opened {
        access_token,
        refresh,
        cookie,
        life,
        ..
    } = opened;
    let tokens = Tokens::new(state, access_token, life);
    let mut response = (status, Json(Answer::new(message, SignedIn { user, tokens }))).into_response();
    let cookies = cookies(state);
    cookies.set_refresh(response.headers_mut(), &refresh, life);
    cookies.set_session(response.headers_mut(), &cookie, life);
    response
}

/// The answer to a sign-in, however its owner proved who they are.
pub fn logged_in(state: &AuthState, account: Account, opened: Opened) -> Response {
    let user = User {
        is_suspended: Some(false),
        ..User::from(account)
    };
    signed_in(state, StatusCode::OK, "Login successful", user, opened)
}

/// Writes cookies of this moment.
pub fn cookies(state: &AuthState) -> Cookies {
    Cookies::new(state.config.secure_cookies, state.sources.now())
}

/// The client's address and program, as sessions keep them.
pub(in crate::auth) fn origin_of(address: ClientAddress, headers: &HeaderMap) -> (String, Option<String>) {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    (
        address.0.to_string(),
        agent.map(|agent| agent.chars().take(MAX_USER_AGENT).collect()),
    )
}

/// 404: the account is gone.
pub fn user_not_found() -> ApiError {
    ApiError::not_found("User not found").with_code("USER_NOT_FOUND")
}
