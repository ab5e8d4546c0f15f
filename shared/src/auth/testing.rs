//! Real tokens and sessions for tests of pods other than the core pod.
//!
//! An [`Issuer`] has a key set of its own and keeps its sessions in memory; the authenticator it hands out is the one of
//! production, so what a test proves about callers holds outside of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{
    Authenticator, PlatformAuthenticator, Role,
    session::{CookieSecret, SessionSource, SessionState, SessionView, Sessions, Unchecked},
    tokens::{AccessClaims, Grant, KeySet, KeySetError, SignError, Signer, TokenPolicy, Verifier},
};
use crate::{
    id::{SessionId, UserId},
    sources::Sources,
};

#[derive(Default)]
struct Memory {
    sessions: HashMap<SessionId, SessionState>,
    cookies: HashMap<[u8; 32], SessionId>,
    away: bool,
}

#[derive(Clone, Default)]
struct MemorySessions(Arc<Mutex<Memory>>);

impl MemorySessions {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SessionSource for MemorySessions {
    async fn by_id(&self, session: SessionId) -> Result<SessionState, Unchecked> {
        let memory = self.lock();
        if memory.away {
            return Err(Unchecked::because(anyhow::anyhow!("the owner of sessions is away")));
        }
        Ok(memory.sessions.get(&session).copied().unwrap_or(SessionState::Revoked))
    }

    async fn by_cookie(&self, cookie: &CookieSecret) -> Result<SessionState, Unchecked> {
        let session = self.lock().cookies.get(&cookie.digest()).copied();
        match session {
            Some(session) => self.by_id(session).await,
            None => Ok(SessionState::Revoked),
        }
    }
}

/// Signs travellers in without the auth service.
#[derive(Clone)]
pub struct Issuer {
    signer: Signer,
    verifier: Verifier,
    sessions: MemorySessions,
    checked: Sessions,
    sources: Sources,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Issuer")
    }
}

/// What a browser holds after a sign-in.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// The account.
    pub user: UserId,
    /// The session.
    pub session: SessionId,
    /// The access token, without `Bearer `.
    pub token: String,
    /// The value of the `ds_session` cookie.
    pub cookie: String,
}

impl Issuer {
    /// An issuer with a fresh key on the system's clock.
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "tests only: a test without keys can only stop"
    )]
    pub fn new() -> Self {
        Self::with_sources(Sources::system()).expect("a fresh key signs")
    }

    /// An issuer on the clock of the test.
    pub fn with_sources(sources: Sources) -> Result<Self, KeySetError> {
        let keys = KeySet::generate(&sources)?;
        let signer = Signer::new(keys.clone(), TokenPolicy::default(), sources.clone());
        let verifier = Verifier::own(keys, TokenPolicy::default(), sources.clone());
        let sessions = MemorySessions::default();
        let checked = Sessions::new(Arc::new(sessions.clone()));
        Ok(Self {
            signer,
            verifier,
            sessions,
            checked,
            sources,
        })
    }

    /// The authenticator for the state under test; pages of `http://localhost:5173` are its own.
    pub fn authenticator(&self) -> Authenticator {
        let origins = ["http://localhost:5173".to_owned()];
        PlatformAuthenticator::new(self.verifier.clone(), self.checked.clone(), &origins).into_state()
    }

    /// Signs a traveller in: the value for `Authorization: Bearer`.
    pub fn sign_in(&self, user: UserId) -> String {
        self.sign_in_as(user, Role::User).token
    }

    /// Signs in with a role, and gives all that the browser would hold.
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "tests only: a test without tokens can only stop"
    )]
    pub fn sign_in_as(&self, user: UserId, role: Role) -> SignedIn {
        let session: SessionId = self.sources.id();
        let grant = Grant {
            user,
            email: format!("{user}@example.com"),
            role,
            session,
            amr: Vec::new(),
            auth_time: None,
        };
        let token = self.signer.access(&grant).expect("the key signs");
        let cookie = self.sources.secret();
        let digest = CookieSecret::parse(&cookie)
            .map(|secret| secret.digest())
            .unwrap_or_default();
        let mut memory = self.sessions.lock();
        memory
            .sessions
            .insert(session, SessionState::Live(SessionView { session, user, role }));
        memory.cookies.insert(digest, session);
        SignedIn {
            user,
            session,
            token,
            cookie,
        }
    }

    /// Sets what the owner of sessions will say (revoked, suspended, gone), at once.
    pub async fn set(&self, session: SessionId, state: SessionState) {
        self.sessions.lock().sessions.insert(session, state);
        self.checked.forget(session).await;
    }

    /// Takes the owner of sessions away, or brings it back.
    pub fn set_away(&self, away: bool) {
        self.sessions.lock().away = away;
    }

    /// A token of these claims, signed with the real key.
    pub fn sign(&self, claims: &AccessClaims) -> Result<String, SignError> {
        self.signer.sign(claims)
    }

    /// The token of another service.
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "tests only: a test without tokens can only stop"
    )]
    pub fn service(&self, service: &str) -> String {
        self.signer.service(service).expect("the key signs")
    }
}

impl Default for Issuer {
    fn default() -> Self {
        Self::new()
    }
}
