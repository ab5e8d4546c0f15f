//! What is begun in one request and finished in another: a row that is sealed, runs out, and is good for one use.
//!
//! contract: core §14; §8 puts these into Redis, docs/decisions/0045 says why they are in the database

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use shared::{ApiError, http::client_address::ClientAddress, id::UserId};
use sqlx::PgExecutor;

use super::store::{self, Found, NewCeremony};
use crate::auth::{
    AuthState,
    sessions::{digest, fingerprint},
    store::Digest,
};

/// Wrong guesses that end a ceremony.
pub const TRIES: i16 = 5;

const MINUTES_5: Duration = Duration::from_mins(5);
const MINUTES_10: Duration = Duration::from_mins(10);

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A sign-in that waits for its second factor.
    SecondFactor,
    /// A challenge for a new passkey.
    Registration,
    /// A challenge for signing in with a passkey.
    PasskeyLogin,
    /// A challenge for proving again who one is.
    Reauthentication,
    /// A visit to another provider.
    Provider,
    /// An account at a provider that waits for the password of ours.
    Link,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::SecondFactor => "second_factor",
            Self::Registration => "registration",
            Self::PasskeyLogin => "passkey_login",
            Self::Reauthentication => "reauthentication",
            Self::Provider => "provider",
            Self::Link => "link",
        }
    }

    /// How long it may take.
    pub const fn life(self) -> Duration {
        match self {
            Self::SecondFactor | Self::Registration | Self::PasskeyLogin | Self::Reauthentication => MINUTES_5,
            Self::Provider | Self::Link => MINUTES_10,
        }
    }

    fn context(self) -> String {
        format!("auth.ceremonies:{}", self.as_str())
    }
}

/// Begins a ceremony. Gives the handle that the client shows when it finishes.
pub async fn begin(
    db: impl PgExecutor<'_>,
    state: &AuthState,
    kind: Kind,
    user: Option<UserId>,
    binding: Option<Digest>,
    content: &impl Serialize,
) -> Result<String, ApiError> {
    let now = state.sources.now();
    let handle = state.sources.secret();
    let sealed = seal(state, kind, content)?;
    let new = NewCeremony {
        key: fingerprint(&handle),
        kind: kind.as_str(),
        user,
        binding,
        state: &sealed,
        expires_at: now + kind.life(),
        now,
    };
    store::insert_ceremony(db, &new).await?;
    Ok(handle)
}

/// Takes a ceremony, once. `None` if it is over, was never begun, or was begun by another client.
pub async fn take<T: DeserializeOwned>(
    db: impl PgExecutor<'_>,
    state: &AuthState,
    kind: Kind,
    handle: &str,
    binding: Option<Digest>,
) -> Result<Option<(Option<UserId>, T)>, ApiError> {
    let Some(key) = digest(handle) else { return Ok(None) };
    let found = store::take_ceremony(db, key, kind.as_str(), binding, state.sources.now()).await?;
    found.map(|found| open(state, kind, &found)).transpose()
}

/// Counts a try and gives what the ceremony holds. `None` also when no try is left.
pub async fn attempt<T: DeserializeOwned>(
    state: &AuthState,
    kind: Kind,
    handle: &str,
    binding: Digest,
) -> Result<Option<(Option<UserId>, T)>, ApiError> {
    let Some(key) = digest(handle) else { return Ok(None) };
    let now = state.sources.now();
    let found = store::try_ceremony(state.db.pool(), key, kind.as_str(), binding, TRIES, now).await?;
    found.map(|found| open(state, kind, &found)).transpose()
}

/// What a ceremony holds, without taking it.
pub async fn peek<T: DeserializeOwned>(
    state: &AuthState,
    kind: Kind,
    handle: &str,
    binding: Digest,
) -> Result<Option<(Option<UserId>, T)>, ApiError> {
    let Some(key) = digest(handle) else { return Ok(None) };
    let found = store::find_ceremony(state.db.pool(), key, kind.as_str(), binding, state.sources.now()).await?;
    found.map(|found| open(state, kind, &found)).transpose()
}

/// Replaces what a ceremony holds.
pub async fn update(state: &AuthState, kind: Kind, handle: &str, content: &impl Serialize) -> Result<(), ApiError> {
    let sealed = seal(state, kind, content)?;
    store::update_ceremony(state.db.pool(), fingerprint(handle), &sealed).await?;
    Ok(())
}

/// Binds a ceremony to where the client is: IPv6 by its network.
pub fn bound_to(address: ClientAddress) -> Digest {
    Sha256::digest(address.limit_subject().as_bytes()).into()
}

fn seal(state: &AuthState, kind: Kind, content: &impl Serialize) -> Result<Vec<u8>, ApiError> {
    let json = serde_json::to_vec(content).map_err(ApiError::internal)?;
    state.cipher.seal(&kind.context(), &json).map_err(ApiError::internal)
}

fn open<T: DeserializeOwned>(state: &AuthState, kind: Kind, found: &Found) -> Result<(Option<UserId>, T), ApiError> {
    let json = state
        .cipher
        .open(&kind.context(), &found.state)
        .map_err(ApiError::internal)?;
    let content = serde_json::from_slice(&json).map_err(ApiError::internal)?;
    Ok((found.user, content))
}
