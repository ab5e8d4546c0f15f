//! Talking to a provider: its description, its keys, the exchange of a code.
//!
//! contract: core §14. Every call has a time-out and a bound on the size of its answer, follows no redirect, and goes to an
//! address with TLS (or to this machine, in development). Nothing a provider says reaches the browser.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::StatusCode;
use jsonwebtoken::jwk::JwkSet;
use moka::future::Cache;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use shared::sources::Sources;
use url::Url;

use super::{
    config::{OidcConfig, ProviderConfig, is_acceptable},
    id_token::{self, Claims, Expected, Refused},
};

const CONNECT: Duration = Duration::from_secs(2);
const TOTAL: Duration = Duration::from_secs(5);
const MAX_ANSWER: usize = 256 * 1024;
const DESCRIPTIONS: Duration = Duration::from_hours(1);
const KEYS: Duration = Duration::from_mins(15);

/// Why a sign-in at a provider did not work out.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It is away, too slow, or says what nobody understands.
    #[error("the provider cannot be used: {0:#}")]
    Unavailable(anyhow::Error),
    /// It does not take the code.
    #[error("the provider refused the code")]
    CodeRefused,
    /// What it signed is not what it must be.
    #[error("the provider's token is refused: {0}")]
    Token(#[from] Refused),
}

#[derive(Debug, Deserialize)]
struct Description {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    userinfo_endpoint: Option<Url>,
    jwks_uri: Url,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

#[derive(Deserialize)]
struct Tokens {
    access_token: SecretString,
    id_token: SecretString,
}

#[derive(Deserialize)]
struct UserInfo {
    #[serde(flatten)]
    claims: Claims,
}

/// What the browser is sent to a provider with, and what must be kept meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// Finds the sign-in again.
    pub state: &'a str,
    /// Ties the provider's token to it.
    pub nonce: &'a str,
    /// Proves that we began it.
    pub verifier: &'a str,
}

/// The providers of the configuration. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Providers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: OidcConfig,
    http: reqwest::Client,
    descriptions: Cache<String, Arc<Description>>,
    keys: Cache<String, Arc<JwkSet>>,
    sources: Sources,
}

impl Providers {
    /// Connects to nobody yet.
    pub fn new(config: &OidcConfig, sources: Sources) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let cache = |life| Cache::builder().max_capacity(64).time_to_live(life);
        Ok(Self(Arc::new(Inner {
            config: config.clone(),
            http,
            descriptions: cache(DESCRIPTIONS).build(),
            keys: Cache::builder().max_capacity(64).time_to_live(KEYS).build(),
            sources,
        })))
    }

    /// All of them, in the order of the buttons.
    pub fn list(&self) -> &[ProviderConfig] {
        &self.0.config.providers
    }

    /// The provider of this id.
    pub fn find(&self, id: &str) -> Option<&ProviderConfig> {
        self.list().iter().find(|provider| provider.id == id)
    }

    /// The page of the web client that takes over.
    pub fn client_page(&self) -> Url {
        self.0.config.client_page.clone()
    }

    fn redirect_uri(&self, provider: &ProviderConfig) -> String {
        let base = self.0.config.public_url.as_str().trim_end_matches('/');
        format!("{base}/api/v1/auth/oidc/{}/callback", provider.id)
    }

    /// Where to send the browser.
    pub async fn authorization_url(&self, provider: &ProviderConfig, visit: Visit<'_>) -> Result<Url, ProviderError> {
        let description = self.describe(provider).await?;
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(visit.verifier.as_bytes()));
        let mut url = description.authorization_endpoint.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &provider.client_id)
            .append_pair("redirect_uri", &self.redirect_uri(provider))
            .append_pair("scope", &provider.scopes.join(" "))
            .append_pair("state", visit.state)
            .append_pair("nonce", visit.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(url)
    }

    /// Whether an answer that names its issuer (RFC 9207) came from this provider. One that must name it and does not is
    /// refused as well.
    pub async fn is_answer_of(&self, provider: &ProviderConfig, issuer: Option<&str>) -> Result<bool, ProviderError> {
        match issuer {
            Some(issuer) => Ok(issuer == provider.issuer),
            None => Ok(!self
                .describe(provider)
                .await?
                .authorization_response_iss_parameter_supported),
        }
    }

    /// What the provider says about whoever brought this code.
    pub async fn exchange(
        &self,
        provider: &ProviderConfig,
        code: &str,
        visit: Visit<'_>,
    ) -> Result<Claims, ProviderError> {
        let description = self.describe(provider).await?;
        let tokens = self.redeem(provider, &description, code, visit.verifier).await?;
        let expected = Expected {
            issuer: &provider.issuer,
            client_id: &provider.client_id,
            nonce: visit.nonce,
            now: self.0.sources.now().timestamp(),
        };
        let token = tokens.id_token.expose_secret();
        let keys = self.keys(&description).await?;
        let claims = match id_token::verify(token, &keys, expected) {
            // the provider has changed its keys since we asked
            Err(Refused::UnknownKey) => {
                self.0.keys.invalidate(description.jwks_uri.as_str()).await;
                id_token::verify(token, &*self.keys(&description).await?, expected)?
            }
            other => other?,
        };
        match &description.userinfo_endpoint {
            Some(endpoint) if claims.email.is_none() => self.complete(endpoint, &tokens.access_token, claims).await,
            _ => Ok(claims),
        }
    }

    async fn redeem(
        &self,
        provider: &ProviderConfig,
        description: &Description,
        code: &str,
        verifier: &str,
    ) -> Result<Tokens, ProviderError> {
        let redirect_uri = self.redirect_uri(provider);
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &redirect_uri),
            ("code_verifier", verifier),
        ];
        let methods = &description.token_endpoint_auth_methods_supported;
        let by_header = methods.is_empty() || methods.iter().any(|method| method == "client_secret_basic");
        let mut request = self.0.http.post(description.token_endpoint.clone());
        match &provider.client_secret {
            Some(secret) if by_header => {
                let [user, password] = [provider.client_id.as_str(), secret.expose_secret()].map(form_encoded);
                request = request.basic_auth(user, Some(password));
            }
            Some(secret) => form.extend([
                ("client_id", provider.client_id.as_str()),
                ("client_secret", secret.expose_secret()),
            ]),
            None => form.push(("client_id", provider.client_id.as_str())),
        }
        let (status, body) = send(request.form(&form)).await.map_err(ProviderError::Unavailable)?;
        match status {
            StatusCode::OK => serde_json::from_slice(&body)
                .context("an answer without tokens")
                .map_err(ProviderError::Unavailable),
            StatusCode::BAD_REQUEST => Err(ProviderError::CodeRefused),
            status => Err(ProviderError::Unavailable(anyhow!(
                "the exchange was answered {status}"
            ))),
        }
    }

    /// The claims that a provider keeps out of its token.
    async fn complete(
        &self,
        endpoint: &Url,
        access_token: &SecretString,
        claims: Claims,
    ) -> Result<Claims, ProviderError> {
        let request = self
            .0
            .http
            .get(endpoint.clone())
            .bearer_auth(access_token.expose_secret());
        let told: UserInfo = fetch(request).await.map_err(ProviderError::Unavailable)?;
        // otherwise an access token of somebody else would speak for this one (OpenID Connect Core §5.3.2)
        if told.claims.sub != claims.sub {
            return Err(Refused::Invalid.into());
        }
        Ok(told.claims)
    }

    async fn describe(&self, provider: &ProviderConfig) -> Result<Arc<Description>, ProviderError> {
        let allow_plain = self.0.config.allow_plain;
        let address = format!(
            "{}/.well-known/openid-configuration",
            provider.issuer.trim_end_matches('/')
        );
        let request = self.0.http.get(address);
        let load = async {
            let description: Description = fetch(request).await?;
            ensure!(description.issuer == provider.issuer, "it calls itself another issuer");
            let endpoints = [
                Some(&description.authorization_endpoint),
                Some(&description.token_endpoint),
                Some(&description.jwks_uri),
                description.userinfo_endpoint.as_ref(),
            ];
            let safe = endpoints
                .into_iter()
                .flatten()
                .all(|url| is_acceptable(url, allow_plain));
            ensure!(safe, "an address of it is not https");
            Ok(Arc::new(description))
        };
        let found = self.0.descriptions.try_get_with(provider.id.clone(), load).await;
        found.map_err(|error: Arc<anyhow::Error>| ProviderError::Unavailable(anyhow!("{error:#}")))
    }

    async fn keys(&self, description: &Description) -> Result<Arc<JwkSet>, ProviderError> {
        let request = self.0.http.get(description.jwks_uri.clone());
        let load = async { fetch::<JwkSet>(request).await.map(Arc::new) };
        let found = self.0.keys.try_get_with(description.jwks_uri.to_string(), load).await;
        found.map_err(|error: Arc<anyhow::Error>| ProviderError::Unavailable(anyhow!("{error:#}")))
    }
}

async fn fetch<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> anyhow::Result<T> {
    let (status, body) = send(request).await?;
    ensure!(status == StatusCode::OK, "answered {status}");
    serde_json::from_slice(&body).context("not what was expected")
}

async fn send(request: reqwest::RequestBuilder) -> anyhow::Result<(StatusCode, Vec<u8>)> {
    // the address may carry what is nobody's business
    let sent = request.header("accept", "application/json").send().await;
    let mut response = sent.map_err(reqwest::Error::without_url)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        ensure!(body.len() + chunk.len() <= MAX_ANSWER, "the answer is too large");
        body.extend_from_slice(&chunk);
    }
    Ok((status, body))
}

/// RFC 6749 §2.3.1: id and secret are form-encoded before they become a header.
fn form_encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
