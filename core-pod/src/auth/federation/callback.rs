//! The browser's way to a provider and back.
//!
//! contract: core §14; RFC 6749 §10.12, RFC 7636, RFC 9207, RFC 9700. A visit is good for one answer, in the browser that
//! began it. Whatever goes wrong, the browser ends at the web client with a code that says which kind of thing it was; what
//! the provider said stays in the log. Results are in the fragment: no server sees it and no page hands it on.

use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use shared::{
    ApiError,
    auth::{authenticator::cookie, session::SessionState},
    http::client_address::ClientAddress,
    id::{SessionId, UserId},
};
use url::Url;

use super::{
    config::ProviderConfig,
    identity::{self, Arrival, Visitor},
    provider::{ProviderError, Visit},
};
use crate::auth::{
    AuthState,
    handlers::cookies,
    mfa::ceremony::{self, Kind},
    sessions::{Opened, Origin, digest},
    store::Digest,
};

/// Ties a visit to the browser that began it.
const BROWSER_COOKIE: &str = "ds_oidc";
/// Where its cookie is sent.
const COOKIE_PATH: &str = "/api/v1/auth/oidc";

/// What a visit is for.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Purpose {
    /// To sign in.
    SignIn,
    /// To link the provider's account to this one, asked for in this session.
    Link {
        /// The account.
        user: UserId,
        /// The session.
        session: SessionId,
    },
}

#[derive(Serialize, Deserialize)]
struct Kept {
    provider: String,
    nonce: String,
    verifier: String,
    return_to: String,
    purpose: Purpose,
}

/// A visit that has begun.
pub struct Begun {
    /// Where the browser goes.
    pub url: Url,
    /// The browser's cookie.
    pub cookie: HeaderValue,
}

/// Begins a visit.
pub async fn begin(
    state: &AuthState,
    provider: &ProviderConfig,
    purpose: Purpose,
    return_to: Option<&str>,
    headers: &HeaderMap,
) -> Result<Begun, BeginError> {
    // one browser may have begun several visits: they share its cookie
    let browser = cookie(headers, BROWSER_COOKIE).filter(|value| digest(value).is_some());
    let browser = browser.map_or_else(|| state.sources.secret(), str::to_owned);
    let kept = Kept {
        provider: provider.id.clone(),
        nonce: state.sources.secret(),
        verifier: state.sources.secret(),
        return_to: return_to.and_then(own_path).unwrap_or("/").to_owned(),
        purpose,
    };
    let owner = match purpose {
        Purpose::SignIn => None,
        Purpose::Link { user, .. } => Some(user),
    };
    let (kind, binding) = (Kind::Provider, Some(bound_to(&browser)));
    let handle = ceremony::begin(state.db.pool(), state, kind, owner, binding, &kept).await?;
    let url = state.providers.authorization_url(provider, kept.visit(&handle)).await?;
    let cookie = browser_cookie(state, &browser)?;
    Ok(Begun { url, cookie })
}

/// Why a visit cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Because of us.
    #[error(transparent)]
    Own(#[from] ApiError),
    /// Because of the provider.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

impl Kept {
    fn visit<'a>(&'a self, state: &'a str) -> Visit<'a> {
        Visit {
            state,
            nonce: &self.nonce,
            verifier: &self.verifier,
        }
    }
}

/// The provider's answer, as the browser brings it.
#[derive(Debug, Default, Deserialize)]
pub struct AnswerQuery {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

/// Ends a visit: always a way to the web client.
pub async fn end(
    state: &AuthState,
    provider: &ProviderConfig,
    answer: &AnswerQuery,
    headers: &HeaderMap,
    address: ClientAddress,
    origin: &Origin<'_>,
) -> Response {
    let ended = conclude(state, provider, answer, headers, address, origin).await;
    let (response, label) = match ended {
        Ok(End::SignedIn(opened, return_to)) => {
            let mut response = to_client(state, &[("result", "signed_in"), ("returnTo", &return_to)]);
            let cookies = cookies(state);
            cookies.set_refresh(response.headers_mut(), &opened.refresh, opened.life);
            cookies.set_session(response.headers_mut(), &opened.cookie, opened.life);
            (response, "signed_in")
        }
        Ok(End::Told(pairs)) => {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
            (to_client(state, &pairs), "asked")
        }
        Ok(End::Refused(code)) => (failed(state, provider, code), "refused"),
        Err(error) => {
            tracing::warn!(
                provider = provider.id,
                error = format!("{error:#}"),
                "a sign-in at a provider failed"
            );
            (failed(state, provider, "OIDC_FAILED"), "error")
        }
    };
    metrics::counter!("auth_oidc_logins_total", "provider" => provider.id.clone(), "outcome" => label).increment(1);
    response
}

enum End {
    SignedIn(Box<Opened>, String),
    /// What the client is to do now.
    Told(Vec<(&'static str, String)>),
    Refused(&'static str),
}

async fn conclude(
    state: &AuthState,
    provider: &ProviderConfig,
    answer: &AnswerQuery,
    headers: &HeaderMap,
    address: ClientAddress,
    origin: &Origin<'_>,
) -> Result<End, ApiError> {
    let browser = cookie(headers, BROWSER_COOKIE).map(bound_to);
    let (Some(handle), Some(browser)) = (answer.state.as_deref(), browser) else {
        return Ok(End::Refused("OIDC_STATE_INVALID"));
    };
    let taken = ceremony::take::<Kept>(state.db.pool(), state, Kind::Provider, handle, Some(browser)).await?;
    let Some((_, kept)) = taken.filter(|(_, kept)| kept.provider == provider.id) else {
        return Ok(End::Refused("OIDC_STATE_INVALID"));
    };
    let visitor = match meet(state, provider, answer, kept.visit(handle)).await {
        Ok(visitor) => visitor,
        Err(code) => return Ok(End::Refused(code)),
    };
    match kept.purpose {
        Purpose::SignIn => sign_in(state, &visitor, kept.return_to, address, origin).await,
        Purpose::Link { user, session } => link(state, &visitor, user, session, kept.return_to, origin).await,
    }
}

/// Whom the provider vouches for, or the code of what went wrong.
async fn meet(
    state: &AuthState,
    provider: &ProviderConfig,
    answer: &AnswerQuery,
    visit: Visit<'_>,
) -> Result<Visitor, &'static str> {
    let own = state.providers.is_answer_of(provider, answer.iss.as_deref()).await;
    if !own.map_err(|error| explain(provider, &error))? {
        tracing::warn!(provider = provider.id, "an answer names another issuer");
        return Err("OIDC_STATE_INVALID");
    }
    match (answer.error.as_deref(), answer.code.as_deref()) {
        (Some("access_denied"), _) => Err("OIDC_DENIED"),
        (Some(error), _) => {
            // a word of the specification, or nobody's business
            let word: String = error.chars().filter(char::is_ascii_graphic).take(40).collect();
            tracing::warn!(provider = provider.id, error = word, "the provider refused a sign-in");
            Err("OIDC_PROVIDER_ERROR")
        }
        (None, Some(code)) if code.len() <= 4096 => {
            let claims = state.providers.exchange(provider, code, visit).await;
            let claims = claims.map_err(|error| explain(provider, &error))?;
            Ok(Visitor::new(&provider.id, claims))
        }
        (None, _) => Err("OIDC_PROVIDER_ERROR"),
    }
}

/// The client's code for a failure of the provider; the log gets the cause.
pub fn explain(provider: &ProviderConfig, error: &ProviderError) -> &'static str {
    tracing::warn!(provider = provider.id, error = %error, "a provider could not be used");
    match error {
        ProviderError::Unavailable(_) => "OIDC_PROVIDER_UNAVAILABLE",
        ProviderError::CodeRefused => "OIDC_CODE_REFUSED",
        ProviderError::Token(_) => "OIDC_TOKEN_INVALID",
    }
}

async fn sign_in(
    state: &AuthState,
    visitor: &Visitor,
    return_to: String,
    address: ClientAddress,
    origin: &Origin<'_>,
) -> Result<End, ApiError> {
    Ok(match identity::arrive(state, visitor, address, origin).await? {
        Arrival::SignedIn(opened) => End::SignedIn(opened, return_to),
        Arrival::Challenged(challenge) => End::Told(vec![
            ("result", "mfa_required".to_owned()),
            ("ticket", challenge.ticket().to_owned()),
            ("methods", challenge.methods().join(",")),
            ("returnTo", return_to),
        ]),
        Arrival::LinkOffered(ticket) => End::Told(vec![
            ("result", "link_required".to_owned()),
            ("provider", visitor.provider.clone()),
            ("ticket", ticket),
            ("returnTo", return_to),
        ]),
        Arrival::Refused(code) => End::Refused(code),
    })
}

async fn link(
    state: &AuthState,
    visitor: &Visitor,
    user: UserId,
    session: SessionId,
    return_to: String,
    origin: &Origin<'_>,
) -> Result<End, ApiError> {
    // whoever asked for it may have been signed out meanwhile
    let found = state.sessions.by_id(session).await.map_err(ApiError::unavailable)?;
    if !matches!(found, SessionState::Live(view) if view.user == user) {
        return Ok(End::Refused("OIDC_SESSION_OVER"));
    }
    let mut tx = state.db.begin().await?;
    if let Err(code) = identity::link_noted(&mut tx, state, user, visitor, origin).await? {
        return Ok(End::Refused(code));
    }
    tx.commit().await?;
    let told = [
        ("result", "linked".to_owned()),
        ("provider", visitor.provider.clone()),
        ("returnTo", return_to),
    ];
    Ok(End::Told(told.to_vec()))
}

/// To the web client with what went wrong.
pub fn failed(state: &AuthState, provider: &ProviderConfig, code: &str) -> Response {
    to_client(state, &[("error", code), ("provider", &provider.id)])
}

fn to_client(state: &AuthState, pairs: &[(&str, &str)]) -> Response {
    let mut url = state.providers.client_page();
    let fragment = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish();
    url.set_fragment(Some(&fragment));
    redirect(&url)
}

/// `303`: the browser goes there with GET.
pub fn redirect(url: &Url) -> Response {
    match HeaderValue::try_from(url.as_str()) {
        Ok(location) => (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response(),
        Err(error) => ApiError::internal(error).into_response(),
    }
}

fn browser_cookie(state: &AuthState, value: &str) -> Result<HeaderValue, ApiError> {
    let life = Kind::Provider.life();
    let expires: DateTime<Utc> = state.sources.now() + life;
    let (seconds, expires) = (life.as_secs(), expires.format("%a, %d %b %Y %H:%M:%S GMT"));
    let secure = if state.config.secure_cookies { "; Secure" } else { "" };
    let text = format!(
        "{BROWSER_COOKIE}={value}; Max-Age={seconds}; Path={COOKIE_PATH}; Expires={expires}; HttpOnly{secure}; SameSite=Lax"
    );
    let mut cookie = HeaderValue::try_from(text).map_err(ApiError::internal)?;
    cookie.set_sensitive(true);
    Ok(cookie)
}

fn bound_to(browser: &str) -> Digest {
    Sha256::digest(browser.as_bytes()).into()
}

/// A path of the web client; anything that could leave it is none.
fn own_path(text: &str) -> Option<&str> {
    let plain = text.len() <= 512 && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    (plain && text.starts_with('/') && !text.starts_with("//")).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_sent_back_to_pages_of_ours_only() {
        for good in ["/", "/cart?step=2", "/vr/paris#here"] {
            assert_eq!(own_path(good), Some(good));
        }
        for bad in [
            "",
            "cart",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a\nb",
            "/a b",
            "javascript:1",
        ] {
            assert_eq!(own_path(bad), None, "{bad}");
        }
        assert_eq!(own_path(&format!("/{}", "a".repeat(512))), None);
    }
}
