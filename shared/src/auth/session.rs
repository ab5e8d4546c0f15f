//! Live sessions as every pod checks them: close by for half a second, in Redis for a minute, else at the owner.
//!
//! contract: core §2.3 (check per request), §2.4 (`ds_session`), §2.5 (revocation within one second), §8 (keys)
//!
//! The owner is the database in the core pod and `verify-token` of the core pod elsewhere ([`SessionSource`]). When
//! neither Redis nor the owner answers, the request is refused with 503: nothing is allowed because it could not be
//! checked.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use moka::future::Cache;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Role;
use crate::{
    id::{SessionId, UserId},
    redis::Redis,
};

/// How long an answer is kept in the process. With nothing else in between, a revocation takes effect within this time.
const NEAR: Duration = Duration::from_millis(500);
const NEAR_ENTRIES: u64 = 50_000;
/// How long an answer is kept in Redis.
const SHARED: Duration = Duration::from_mins(1);
/// How long a revocation is kept in Redis: longer than any answer that was asked for before it can arrive after it.
const ANNOUNCED: Duration = Duration::from_mins(15);

/// A live session and what is known about its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// The session.
    pub session: SessionId,
    /// Its account.
    pub user: UserId,
    /// The account's role now.
    pub role: Role,
}

/// What a session check finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// It lives.
    Live(SessionView),
    /// It was revoked, ran out, or never was.
    Revoked,
    /// It lives, but its account is suspended.
    Suspended,
    /// Its account is deleted.
    Gone,
}

/// The value of a `ds_session` cookie.
#[derive(Clone)]
pub struct CookieSecret(String);

impl CookieSecret {
    /// Wraps what the browser sent; `None` if it cannot be one of ours.
    pub fn parse(value: &str) -> Option<Self> {
        let plausible = (32..=128).contains(&value.len())
            && value
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        plausible.then(|| Self(value.to_owned()))
    }

    /// What is stored in its place.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// The value itself, to be set or to be sent to the owner.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieSecret(***)")
    }
}

/// The owner of sessions could not be asked.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the session could not be checked")]
pub struct Unchecked(#[source] Arc<anyhow::Error>);

impl Unchecked {
    /// Because of this.
    pub fn because(cause: impl Into<anyhow::Error>) -> Self {
        Self(Arc::new(cause.into()))
    }
}

/// Whoever knows for certain: the database (core pod) or the core pod (the others).
#[async_trait]
pub trait SessionSource: Send + Sync + 'static {
    /// The session of this id.
    async fn by_id(&self, session: SessionId) -> Result<SessionState, Unchecked>;

    /// The session of this cookie.
    async fn by_cookie(&self, cookie: &CookieSecret) -> Result<SessionState, Unchecked>;
}

#[derive(Debug, Clone, Copy)]
enum Named {
    Session(SessionId),
    Nothing(SessionState),
}

/// The session check of a pod. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    source: Arc<dyn SessionSource>,
    shared: Option<Redis>,
    near: Cache<SessionId, SessionState>,
    near_cookies: Cache<[u8; 32], Named>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("shared", &self.shared.is_some())
            .finish_non_exhaustive()
    }
}

impl Sessions {
    /// Checks at `source`, remembering answers for half a second.
    pub fn new(source: Arc<dyn SessionSource>) -> Self {
        let near = Cache::builder().max_capacity(NEAR_ENTRIES).time_to_live(NEAR).build();
        let near_cookies = Cache::builder().max_capacity(NEAR_ENTRIES).time_to_live(NEAR).build();
        Self {
            source,
            shared: None,
            near,
            near_cookies,
        }
    }

    /// Remembers answers for a minute in `redis`, where every pod hears of a revocation. A store that other pods do not
    /// share is left out: what it held could outlive a revocation elsewhere.
    #[must_use]
    pub fn sharing(mut self, redis: Redis) -> Self {
        self.shared = redis.is_shared().then_some(redis);
        self
    }

    /// The state of a session. Requests that ask at the same time share one look-up.
    pub async fn by_id(&self, session: SessionId) -> Result<SessionState, Unchecked> {
        let found = self.near.try_get_with(session, self.look_up(session)).await;
        found.map_err(|unchecked| Unchecked::clone(&unchecked))
    }

    /// The state of the session a cookie names.
    pub async fn by_cookie(&self, cookie: &CookieSecret) -> Result<SessionState, Unchecked> {
        let named = self
            .near_cookies
            .try_get_with(cookie.digest(), self.look_up_cookie(cookie))
            .await;
        match named.map_err(|unchecked| Unchecked::clone(&unchecked))? {
            Named::Session(session) => self.by_id(session).await,
            Named::Nothing(state) => Ok(state),
        }
    }

    /// Forgets what this process remembers of a session.
    pub async fn forget(&self, session: SessionId) {
        self.near.invalidate(&session).await;
    }

    /// Tells everybody that sessions are over: this process at once, the others through Redis. Called after the owner
    /// has committed the revocation. While Redis is away the others find out when what they remember runs out; the
    /// announcement is repeated until that is certain.
    pub async fn announce_revoked(&self, sessions: &[SessionId]) {
        self.announce(sessions, SessionState::Revoked).await;
    }

    /// The same for sessions that ended with their account: suspended or gone is what their tokens are told from now on.
    pub async fn announce(&self, sessions: &[SessionId], state: SessionState) {
        for session in sessions {
            self.near.insert(*session, state).await;
        }
        let Some(redis) = &self.shared else { return };
        for session in sessions {
            if announce(redis, *session, state).await.is_ok() {
                continue;
            }
            let (redis, session) = (redis.clone(), *session);
            tokio::spawn(async move {
                let until = tokio::time::Instant::now() + SHARED;
                while tokio::time::Instant::now() < until && announce(&redis, session, state).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
            });
        }
    }

    /// Tells everybody that cookies are dead whose session may live on. Called after the owner has committed it.
    pub async fn announce_dead_cookies(&self, digests: &[Vec<u8>]) {
        for digest in digests {
            if let Ok(digest) = <[u8; 32]>::try_from(digest.as_slice()) {
                let dead = Named::Nothing(SessionState::Revoked);
                self.near_cookies.insert(digest, dead).await;
            }
            let Some(redis) = &self.shared else { continue };
            // what an answer that is on its way would write (only where nothing is) must find this
            if let Err(error) = redis.set(&cookie_key(digest), DEAD, Some(ANNOUNCED)).await {
                tracing::warn!(%error, "a dead cookie could not be announced; it is forgotten within a minute");
            }
        }
    }

    async fn look_up(&self, session: SessionId) -> Result<SessionState, Unchecked> {
        let Some(redis) = &self.shared else {
            return self.source.by_id(session).await;
        };
        let key = session_key(session);
        if let Some(state) = shared_state(redis, &key).await {
            return Ok(state);
        }
        let state = self.source.by_id(session).await?;
        let text = serde_json::to_string(&state).map_err(Unchecked::because)?;
        // only where nothing is: a revocation announced since we asked must not be overwritten with what was true before
        match redis.set_nx(&key, text, Some(SHARED)).await {
            Ok(false) => Ok(shared_state(redis, &key).await.unwrap_or(state)),
            _ => Ok(state),
        }
    }

    async fn look_up_cookie(&self, cookie: &CookieSecret) -> Result<Named, Unchecked> {
        let key = cookie_key(&cookie.digest());
        if let Some(redis) = &self.shared
            && let Some(named) = shared_name(redis, &key).await
        {
            return Ok(named);
        }
        let state = self.source.by_cookie(cookie).await?;
        let SessionState::Live(view) = state else {
            return Ok(Named::Nothing(state));
        };
        if let Some(redis) = &self.shared {
            // a hint: whether the session lives is asked every time; only where nothing is, as above
            if let Ok(false) = redis.set_nx(&key, view.session.to_string(), Some(SHARED)).await
                && let Some(named) = shared_name(redis, &key).await
            {
                return Ok(named);
            }
        }
        Ok(Named::Session(view.session))
    }
}

/// Stands in Redis for a cookie that was replaced.
const DEAD: &str = "dead";

fn cookie_key(digest: &[u8]) -> String {
    format!("dsess:{}", hex::encode(digest))
}

/// The session a cookie names, or that it names none any more.
async fn shared_name(redis: &Redis, key: &str) -> Option<Named> {
    match redis.get_text(key).await.ok()??.as_str() {
        DEAD => Some(Named::Nothing(SessionState::Revoked)),
        text => text.parse().ok().map(Named::Session),
    }
}

fn session_key(session: SessionId) -> String {
    format!("sess:{session}")
}

async fn shared_state(redis: &Redis, key: &str) -> Option<SessionState> {
    let text = redis.get_text(key).await.ok()??;
    serde_json::from_str(&text).ok()
}

async fn announce(redis: &Redis, session: SessionId, state: SessionState) -> anyhow::Result<()> {
    let state = serde_json::to_string(&state)?;
    redis.set(&session_key(session), state, Some(ANNOUNCED)).await?;
    redis
        .set(&format!("revoked:sid:{session}"), "1", Some(ANNOUNCED))
        .await?;
    Ok(())
}
