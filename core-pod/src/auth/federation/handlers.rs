//! The routes of sign-in with other providers: `/api/v1/auth/oidc`.
//!
//! contract: core §14

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, Utc};
use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::{
    ApiError,
    auth::AuthUser,
    http::{
        client_address::ClientAddress,
        extract::{Path, Query},
    },
    id::UserId,
    sources::iso,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

use super::{
    callback::{self, AnswerQuery, BeginError, Begun, Purpose},
    config::ProviderConfig,
    identity::{self, Visitor},
    store,
};
use crate::auth::{
    AuthState, credentials,
    fields::{Fields, Flag, Problems, Text},
    handlers::{Answer, Done, SignedIn, logged_in, origin_of, suspended, user_not_found},
    mfa::{
        self, Change, Proof, Reauthenticated,
        ceremony::{self, Kind, bound_to},
        store::{find_status, lock_account},
    },
    model::Account,
    sessions::{Opened, Origin},
};
use crate::mail::Protection;

/// The routes of this area.
pub fn routes() -> OpenApiRouter<AuthState> {
    OpenApiRouter::new()
        .routes(shared::routes!(providers))
        .routes(shared::routes!(start))
        .routes(shared::routes!(finish))
        .routes(shared::routes!(confirm))
        .routes(shared::routes!(link))
        .routes(shared::routes!(identities))
        .routes(shared::routes!(unlink))
}

/// A provider as its button needs it.
#[derive(Serialize, ToSchema)]
pub struct ProviderItem {
    /// Its name in addresses.
    id: String,
    /// Its name for people.
    name: String,
}

/// Lists the providers to sign in with.
#[utoipa::path(
    get, path = "/api/v1/auth/oidc/providers", tag = "auth",
    responses((status = 200, description = "The providers, in the order of the buttons", body = Answer<Vec<ProviderItem>>)),
)]
pub async fn providers(State(state): State<AuthState>) -> Json<Answer<Vec<ProviderItem>>> {
    let items = state.providers.list().iter().map(|provider| ProviderItem {
        id: provider.id.clone(),
        name: provider.name.clone(),
    });
    Json(Answer::new("Providers retrieved successfully", items.collect()))
}

/// Where to go after the sign-in.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct StartQuery {
    /// A path of the web client.
    return_to: Option<String>,
}

/// Sends the browser to a provider.
#[utoipa::path(
    get, path = "/api/v1/auth/oidc/{provider}/start", tag = "auth",
    params(("provider" = String, Path, description = "The provider's id"), StartQuery),
    responses(
        (status = 303, description = "To the provider; when it is away, to the web client with OIDC_PROVIDER_UNAVAILABLE"),
        (status = 404, description = "No such provider"),
    ),
)]
pub async fn start(
    Path(provider): Path<String>,
    Query(query): Query<StartQuery>,
    State(state): State<AuthState>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let provider = find(&state, &provider)?;
    match callback::begin(&state, provider, Purpose::SignIn, query.return_to.as_deref(), &headers).await {
        Ok(Begun { url, cookie }) => {
            let mut response = callback::redirect(&url);
            response.headers_mut().append(header::SET_COOKIE, cookie);
            Ok(response)
        }
        Err(BeginError::Provider(error)) => {
            let code = callback::explain(provider, &error);
            Ok(callback::failed(&state, provider, code))
        }
        Err(BeginError::Own(error)) => Err(error),
    }
}

/// Takes the browser back from a provider and sends it to the web client. What happened stands in the fragment:
/// `result` (`signed_in`, `mfa_required`, `link_required`, `linked`) or `error`.
#[utoipa::path(
    get, path = "/api/v1/auth/oidc/{provider}/callback", tag = "auth",
    params(("provider" = String, Path, description = "The provider's id")),
    responses(
        (status = 303, description = "To the web client; sets the cookies refreshToken and ds_session if signed in"),
        (status = 404, description = "No such provider"),
    ),
)]
pub async fn finish(
    Path(provider): Path<String>,
    Query(answer): Query<AnswerQuery>,
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let provider = find(&state, &provider)?;
    let (ip_address, user_agent) = origin_of(address, &headers);
    let origin = Origin {
        ip_address: &ip_address,
        user_agent: user_agent.as_deref(),
    };
    Ok(callback::end(&state, provider, &answer, &headers, address, &origin).await)
}

/// The proof that an account is one's own.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfirmLinkBody {
    /// The ticket of the provider's answer.
    #[serde(default)]
    #[schema(value_type = String)]
    ticket: Text,
    /// The password of the account.
    #[serde(default)]
    #[schema(value_type = String, format = Password)]
    password: Text,
    /// Thirty days instead of seven.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    remember_me: Flag,
}

/// Links an account that exists to the provider's, with its password, and signs in.
#[utoipa::path(
    post, path = "/api/v1/auth/oidc/confirm", tag = "auth", request_body = ConfirmLinkBody,
    responses(
        (status = 200, description = "Linked and signed in; sets the cookies refreshToken and ds_session", body = Answer<SignedIn>),
        (status = 400, description = "Validation failed"),
        (status = 401, description = "INVALID_CREDENTIALS, LINK_TICKET_INVALID or ACCOUNT_SUSPENDED"),
        (status = 403, description = "SECOND_FACTOR_REQUIRED: sign in with it and link from there"),
        (status = 409, description = "OIDC_LINKED_ELSEWHERE or OIDC_PROVIDER_LINKED"),
        (status = 429, description = "Too many wrong passwords"),
    ),
)]
pub async fn confirm(
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
    Fields(body): Fields<ConfirmLinkBody>,
) -> Result<Response, ApiError> {
    let mut problems = Problems::default();
    let ticket = problems.take(body.ticket.required("ticket", "Ticket is required"));
    let password = problems.take(body.password.required("password", "Password is required"));
    let remember_me = problems.take(body.remember_me.or_no("rememberMe"));
    let (Some(ticket), Some(password), Some(remember_me)) = (ticket, password, remember_me) else {
        return Err(problems.into_error());
    };
    let binding = bound_to(address);
    let found = ceremony::attempt::<Visitor>(&state, Kind::Link, ticket, binding).await?;
    let Some((Some(user), visitor)) = found else {
        return Err(ticket_invalid());
    };
    let subject = format!("user:{user}");
    let guesses = state.config.second_factor.guesses;
    state.limiter.check(&guesses, &subject).await.into_result()?;
    let (ip_address, user_agent) = origin_of(address, &headers);
    let origin = Origin {
        ip_address: &ip_address,
        user_agent: user_agent.as_deref(),
    };
    let linking = Linking {
        user,
        visitor,
        ticket,
        address,
        remember_me,
    };
    let linked = linking.complete(&state, password, &origin).await;
    let failed = matches!(&linked, Err(error) if error.code() == "INVALID_CREDENTIALS");
    if !failed {
        state.limiter.refund(&guesses, &subject).await;
    }
    let (account, opened) = linked?;
    Ok(logged_in(&state, account, opened).into_response())
}

struct Linking<'b> {
    user: UserId,
    visitor: Visitor,
    ticket: &'b str,
    address: ClientAddress,
    remember_me: bool,
}

impl Linking<'_> {
    async fn complete(
        &self,
        state: &AuthState,
        password: &str,
        origin: &Origin<'_>,
    ) -> Result<(Account, Opened), ApiError> {
        let wrong = || ApiError::unauthenticated("INVALID_CREDENTIALS", "The password is not right");
        let checked = credentials::check_again(state, self.user, password, origin).await?;
        let checked = checked.ok_or_else(wrong)?;
        let mut tx = state.db.begin().await?;
        let locked = lock_account(&mut tx, self.user).await?.ok_or_else(ticket_invalid)?;
        if locked.password_hash != checked.hash || locked.is_locked_out(state.sources.now()) {
            return Err(wrong());
        }
        let account = locked.account;
        if account.is_suspended() {
            return Err(suspended());
        }
        if mfa::is_on(&mut tx, self.user).await? {
            let text = "Sign in with your second factor and link the account in your settings";
            return Err(ApiError::forbidden(text).with_code("SECOND_FACTOR_REQUIRED"));
        }
        let (kind, binding) = (Kind::Link, Some(bound_to(self.address)));
        let taken = ceremony::take::<Visitor>(&mut *tx, state, kind, self.ticket, binding).await?;
        taken.ok_or_else(ticket_invalid)?;
        identity::link_noted(&mut tx, state, self.user, &self.visitor, origin)
            .await?
            .map_err(conflict)?;
        // the provider verified this very address
        store::mark_as_verified(&mut tx, self.user).await?;
        let opened = identity::open(&mut tx, state, &account, Proof::Password, self.remember_me, origin).await?;
        tx.commit().await?;
        state.sessions.announce_revoked(&opened.evicted).await;
        Ok((account, opened))
    }
}

/// Where to go.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkStarted {
    /// The provider's page.
    authorization_url: String,
}

/// Begins to link the caller's account to one at a provider: the browser goes to the address in the answer.
#[utoipa::path(
    post, path = "/api/v1/auth/oidc/{provider}/link", tag = "auth",
    params(("provider" = String, Path, description = "The provider's id"), StartQuery),
    responses(
        (status = 200, description = "Where to send the browser", body = Answer<LinkStarted>),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "REAUTH_REQUIRED"),
        (status = 404, description = "No such provider"),
        (status = 503, description = "OIDC_PROVIDER_UNAVAILABLE"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn link(
    Reauthenticated(caller): Reauthenticated,
    Path(provider): Path<String>,
    Query(query): Query<StartQuery>,
    State(state): State<AuthState>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let provider = find(&state, &provider)?;
    let purpose = Purpose::Link {
        user: caller.user,
        session: caller.session,
    };
    match callback::begin(&state, provider, purpose, query.return_to.as_deref(), &headers).await {
        Ok(Begun { url, cookie }) => {
            let started = LinkStarted {
                authorization_url: url.into(),
            };
            let mut response = Json(Answer::new("Continue at the provider", started)).into_response();
            response.headers_mut().append(header::SET_COOKIE, cookie);
            Ok(response)
        }
        Err(BeginError::Provider(error)) => Err(ApiError::unavailable(error).with_code("OIDC_PROVIDER_UNAVAILABLE")),
        Err(BeginError::Own(error)) => Err(error),
    }
}

/// A linked account.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityItem {
    id: Uuid,
    /// The provider's id.
    provider: String,
    /// The address there, if the provider verified it.
    email: Option<String>,
    #[serde(with = "iso")]
    created_at: DateTime<Utc>,
    #[serde(with = "iso")]
    last_used_at: DateTime<Utc>,
}

/// Lists the caller's accounts at providers.
#[utoipa::path(
    get, path = "/api/v1/auth/oidc/identities", tag = "auth",
    responses((status = 200, description = "The linked accounts, oldest first", body = Answer<Vec<IdentityItem>>), (status = 401, description = "Not signed in")),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn identities(
    caller: AuthUser,
    State(state): State<AuthState>,
) -> Result<Json<Answer<Vec<IdentityItem>>>, ApiError> {
    let identities = store::list_identities(state.db.pool(), caller.user).await?;
    let items = identities.into_iter().map(|identity| IdentityItem {
        id: identity.id,
        provider: identity.provider,
        email: identity.email,
        created_at: identity.created_at,
        last_used_at: identity.last_used_at,
    });
    Ok(Json(Answer::new(
        "Linked accounts retrieved successfully",
        items.collect(),
    )))
}

/// Takes a link away, unless nobody could sign in to the account any more.
#[utoipa::path(
    delete, path = "/api/v1/auth/oidc/identities/{id}", tag = "auth",
    params(("id" = Uuid, Path, description = "The link")),
    responses(
        (status = 200, description = "Unlinked", body = Done),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "REAUTH_REQUIRED"),
        (status = 404, description = "No such link of the caller"),
        (status = 409, description = "LAST_SIGN_IN_METHOD"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn unlink(
    Reauthenticated(caller): Reauthenticated,
    Path(id): Path<Uuid>,
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
) -> Result<Json<Done>, ApiError> {
    let (ip_address, user_agent) = origin_of(address, &headers);
    let origin = Origin {
        ip_address: &ip_address,
        user_agent: user_agent.as_deref(),
    };
    let mut tx = state.db.begin().await?;
    let locked = lock_account(&mut tx, caller.user).await?;
    locked.ok_or_else(user_not_found)?;
    let gone = store::delete_identity(&mut *tx, caller.user, id).await?;
    let provider = gone.ok_or_else(|| ApiError::not_found("Linked account not found"))?;
    let left = find_status(&mut *tx, caller.user).await?;
    if left.is_some_and(|left| !left.has_password && left.passkeys == 0 && left.identities == 0) {
        return Err(mfa::last_method());
    }
    let change = Change {
        user: caller.user,
        session: Some(caller.session),
        origin: Some(&origin),
        protection: Protection::AccountUnlinked,
        data: json!({ "provider": provider }),
    };
    mfa::tell(&mut tx, &state, change).await?;
    tx.commit().await?;
    Ok(Json(Done::new("Account unlinked")))
}

fn find<'s>(state: &'s AuthState, id: &str) -> Result<&'s ProviderConfig, ApiError> {
    let found = state.providers.find(id);
    found.ok_or_else(|| ApiError::not_found("No such provider").with_code("UNKNOWN_PROVIDER"))
}

fn ticket_invalid() -> ApiError {
    ApiError::unauthenticated("LINK_TICKET_INVALID", "Please begin again")
}

fn conflict(code: &'static str) -> ApiError {
    let text = match code {
        "OIDC_LINKED_ELSEWHERE" => "That account is linked to another one of ours",
        _ => "An account of this provider is linked already",
    };
    ApiError::conflict(code, text)
}
