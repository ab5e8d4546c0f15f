//! The published public keys, as the pods that do not sign read them.
//!
//! contract: core §12 (`JWKS_URL`), §14. Fetched at start (and tried again until they come), refreshed every few seconds,
//! and once more when a token names an unknown key. Keys once fetched are kept while the core pod is away.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jsonwebtoken::DecodingKey;
use tokio::{sync::Mutex, time::Instant};

use super::{
    keys::{Jwks, PublicKeys},
    tokens::TokenError,
};

/// Between two refreshes in the background: a key that is withdrawn is refused everywhere within this time.
const REFRESH_EVERY: Duration = Duration::from_secs(20);
/// Between two fetches that unknown keys cause, so that forged tokens cannot make us flood the core pod.
const FETCH_AT_MOST_EVERY: Duration = Duration::from_secs(2);
/// While there are no keys at all nothing can be checked, so requests may try more often.
const RETRY_WITHOUT_KEYS: Duration = Duration::from_millis(250);
const TIMEOUT: Duration = Duration::from_secs(3);

/// The key set of the core pod, cached. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JwksCache(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: String,
    http: reqwest::Client,
    keys: RwLock<PublicKeys>,
    last_attempt: Mutex<Option<Instant>>,
}

impl JwksCache {
    /// A cache over this address (`JWKS_URL`). Fetches nothing yet.
    pub fn new(url: impl Into<String>, http: reqwest::Client) -> Self {
        Self(Arc::new(Inner {
            url: url.into(),
            http,
            keys: RwLock::default(),
            last_attempt: Mutex::new(None),
        }))
    }

    /// The key of this name, fetched anew if it is unknown and the last fetch is a while ago.
    pub async fn key(&self, kid: &str) -> Result<DecodingKey, TokenError> {
        if let Some(key) = self.known().get(kid) {
            return Ok(key.clone());
        }
        self.refetch(kid).await;
        let keys = self.known();
        match keys.get(kid) {
            Some(key) => Ok(key.clone()),
            None if keys.is_empty() => Err(TokenError::KeysUnavailable),
            None => Err(TokenError::Invalid),
        }
    }

    /// Fetches the keys until they come, then refreshes them for ever. Runs as a task of the pod.
    pub async fn keep_fresh(&self) {
        let mut pause = Duration::from_millis(200);
        loop {
            match self.fetch().await {
                Ok(()) => pause = REFRESH_EVERY,
                Err(error) if self.known().is_empty() => {
                    pause = (pause * 2).min(Duration::from_secs(5));
                    tracing::warn!(error = %error, "the public keys could not be fetched; trying again");
                }
                Err(error) => {
                    pause = Duration::from_secs(30);
                    tracing::warn!(error = %error, "the public keys could not be refreshed; the known ones are kept");
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Whether this key is known, without asking anybody.
    pub fn knows(&self, kid: &str) -> bool {
        self.known().get(kid).is_some()
    }

    /// Whether there are keys to check with.
    pub fn is_ready(&self) -> bool {
        !self.known().is_empty()
    }

    fn known(&self) -> PublicKeys {
        self.0.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One fetch at a time; whoever waited looks again before fetching.
    async fn refetch(&self, kid: &str) {
        let mut last_attempt = self.0.last_attempt.lock().await;
        let known = self.known();
        if known.get(kid).is_some() {
            return;
        }
        let spacing = if known.is_empty() {
            RETRY_WITHOUT_KEYS
        } else {
            FETCH_AT_MOST_EVERY
        };
        if last_attempt.is_some_and(|at| at.elapsed() < spacing) {
            return;
        }
        if let Err(error) = self.fetch().await {
            tracing::warn!(error = %error, "the public keys could not be fetched for an unknown key");
        }
        *last_attempt = Some(Instant::now());
    }

    async fn fetch(&self) -> Result<(), reqwest::Error> {
        let response = self
            .0
            .http
            .get(&self.0.url)
            .timeout(TIMEOUT)
            .send()
            .await?
            .error_for_status()?;
        let jwks: Jwks = response.json().await?;
        let fetched = PublicKeys::from_jwks(&jwks);
        // an empty answer is a mistake of the other side, not a reason to forget everything
        if !fetched.is_empty() {
            *self.0.keys.write().unwrap_or_else(PoisonError::into_inner) = fetched;
        }
        Ok(())
    }
}
