//! The token with which one pod proves itself to another.
//!
//! contract: core §2.8. Got from auth by client credentials, five minutes of life, renewed ahead of time; there is no
//! static shared token.

use std::{fmt, sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio::{sync::Mutex, time::Instant};

/// Where auth gives service tokens. The gateway must not let it through from outside.
pub const SERVICE_TOKEN_PATH: &str = "/api/v1/auth/service-token";

const TIMEOUT: Duration = Duration::from_secs(3);
/// A token with less life than this is renewed before it is used.
const RENEW_BEFORE: Duration = Duration::from_secs(90);
/// A token with less life than this is not used even if it cannot be renewed.
const UNUSABLE_BEFORE: Duration = Duration::from_secs(10);

/// Whether a token says of itself that it is one of a service; whether that is true is another question. Cheap, so that the
/// edge can tell tokens apart before anybody checks them.
pub fn claims_to_be_a_service(token: &str) -> bool {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type")]
        kind: String,
    }
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap_or_default();
    let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload);
    let claims = decoded
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Kind>(&bytes).ok());
    claims.is_some_and(|claims| claims.kind == "service")
}

/// What a pod sends for its token.
#[derive(Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// `SERVICE_CLIENT_ID`.
    #[serde(default)]
    pub client_id: String,
    /// `SERVICE_CLIENT_SECRET`.
    #[serde(default)]
    #[schema(format = Password)]
    pub client_secret: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// What a pod gets.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuedToken {
    /// The service token.
    pub access_token: String,
    /// `Bearer`.
    pub token_type: String,
    /// Its life in seconds.
    pub expires_in: u64,
}

/// The auth envelope around it.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct IssuedEnvelope {
    /// Always true.
    pub success: bool,
    /// For people.
    pub message: String,
    /// The token.
    pub data: IssuedToken,
}

/// No usable token could be got.
#[derive(Debug, thiserror::Error)]
pub enum ServiceTokenError {
    /// This pod has no client credentials.
    #[error("SERVICE_CLIENT_SECRET is not set")]
    NotConfigured,
    /// Auth did not answer, or refused.
    #[error("the service token could not be got")]
    Refused(#[from] reqwest::Error),
}

#[derive(Debug)]
struct Inner {
    http: reqwest::Client,
    url: String,
    client_id: String,
    client_secret: Option<SecretString>,
    held: Mutex<Option<Held>>,
}

struct Held {
    token: Arc<str>,
    until: Instant,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// The pod's own service token, always fresh. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ServiceTokens(Arc<Inner>);

impl ServiceTokens {
    /// Tokens from the auth service at `auth_url`.
    pub fn new(http: reqwest::Client, auth_url: &str, client_id: String, client_secret: Option<SecretString>) -> Self {
        let url = format!("{}{SERVICE_TOKEN_PATH}", auth_url.trim_end_matches('/'));
        Self(Arc::new(Inner {
            http,
            url,
            client_id,
            client_secret,
            held: Mutex::new(None),
        }))
    }

    /// A token with life left. One renewal at a time; while auth is away the old token serves as long as it lives.
    pub async fn token(&self) -> Result<Arc<str>, ServiceTokenError> {
        let mut held = self.0.held.lock().await;
        let left = held
            .as_ref()
            .map(|held| held.until.saturating_duration_since(Instant::now()));
        if let (Some(held), Some(left)) = (held.as_ref(), left)
            && left > RENEW_BEFORE
        {
            return Ok(Arc::clone(&held.token));
        }
        match self.fetch().await {
            Ok(fresh) => {
                let token = Arc::clone(&fresh.token);
                *held = Some(fresh);
                Ok(token)
            }
            Err(error) => match held.as_ref() {
                Some(held) if left.is_some_and(|left| left > UNUSABLE_BEFORE) => Ok(Arc::clone(&held.token)),
                _ => Err(error),
            },
        }
    }

    /// Drops the held token, after somebody refused it.
    pub async fn discard(&self) {
        *self.0.held.lock().await = None;
    }

    async fn fetch(&self) -> Result<Held, ServiceTokenError> {
        let secret = self.0.client_secret.as_ref().ok_or(ServiceTokenError::NotConfigured)?;
        let credentials = Credentials {
            client_id: self.0.client_id.clone(),
            client_secret: secret.expose_secret().to_owned(),
        };
        let asked = Instant::now();
        let response = self
            .0
            .http
            .post(&self.0.url)
            .timeout(TIMEOUT)
            .json(&credentials)
            .send()
            .await?;
        let issued: IssuedEnvelope = response.error_for_status()?.json().await?;
        let until = asked + Duration::from_secs(issued.data.expires_in);
        Ok(Held {
            token: issued.data.access_token.into(),
            until,
        })
    }
}
