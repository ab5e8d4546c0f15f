//! Sessions at their owner: opening, checking, ending, and clearing away the old ones.
//!
//! contract: core §2.3 (check), §2.4 (secrets), §2.5 (limit, revocation)

use std::{fmt, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use shared::{
    ApiError,
    auth::{
        session::{CookieSecret, SessionSource, SessionState, SessionView, Unchecked},
        tokens::Grant,
    },
    db::Db,
    events::outbox,
    id::{SessionId, UserId},
    sources::Sources,
};
use sqlx::PgConnection;

use super::{
    Auth, AuthState,
    devices::{Device, LastSeen},
    events::{self, Reason, SignInStory},
    known::Known,
    mfa::Proof,
    model::Account,
    security::{self, kind},
    store::{self, Checked, NewSession, NewSessionEvent, OpenedSession},
};

/// Ended sessions are kept this long, for the owner's list and for questions.
const KEEP_ENDED: TimeDelta = TimeDelta::days(30);
/// What happened to an account is kept this long.
const KEEP_EVENTS: TimeDelta = TimeDelta::days(365);
const PURGE_BATCH: i64 = 1_000;
const PURGE_EVERY: Duration = Duration::from_hours(1);

/// The session check against the database.
#[derive(Debug, Clone)]
pub struct LocalSessions {
    db: Db<Auth>,
    sources: Sources,
    seen: LastSeen,
    known: Known,
}

impl LocalSessions {
    /// Over the database of auth.
    pub fn new(db: Db<Auth>, sources: Sources, seen: LastSeen, known: Known) -> Self {
        Self {
            db,
            sources,
            seen,
            known,
        }
    }

    fn noted(&self, checked: Option<Checked>) -> SessionState {
        let state = state(checked.as_ref());
        if let (SessionState::Live(view), Some(checked)) = (state, checked) {
            self.seen.note(view.session, self.sources.now());
            self.known.note_email(view.user, checked.email);
            self.known.note_cookies(checked.cookies, state);
        }
        state
    }
}

#[async_trait]
impl SessionSource for LocalSessions {
    async fn by_id(&self, session: SessionId) -> Result<SessionState, Unchecked> {
        let checked = store::check_session(self.db.pool(), session, self.sources.now()).await;
        checked.map(|checked| self.noted(checked)).map_err(Unchecked::because)
    }

    async fn by_cookie(&self, cookie: &CookieSecret) -> Result<SessionState, Unchecked> {
        if let Some(state) = self.known.cookie(&cookie.digest()) {
            return Ok(state);
        }
        let checked = store::check_cookie(self.db.pool(), cookie.digest(), self.sources.now()).await;
        checked.map(|checked| self.noted(checked)).map_err(Unchecked::because)
    }
}

fn state(checked: Option<&Checked>) -> SessionState {
    match checked {
        Some(Checked { gone: true, .. }) => SessionState::Gone,
        Some(Checked { suspended: true, .. }) => SessionState::Suspended,
        None | Some(Checked { live: false, .. }) => SessionState::Revoked,
        Some(Checked {
            session, user, role, ..
        }) => SessionState::Live(SessionView {
            session: *session,
            user: *user,
            role: *role,
        }),
    }
}

/// Where a sign-in comes from.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The client's address.
    pub ip_address: &'a str,
    /// What its program calls itself.
    pub user_agent: Option<&'a str>,
}

/// The secrets of a session, on their way to the browser.
pub struct Opened {
    /// The session.
    pub session: SessionId,
    /// The access token.
    pub access_token: String,
    /// The value of the refresh cookie.
    pub refresh: String,
    /// The value of the session cookie.
    pub cookie: String,
    /// The life of both cookies.
    pub life: Duration,
    /// Sessions that had to make room; to be announced after the commit.
    pub evicted: Vec<SessionId>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// What is stored of a secret we have just made.
pub fn fingerprint(secret: &str) -> store::Digest {
    Sha256::digest(secret.as_bytes()).into()
}

/// What would be stored of a secret that somebody presents; `None` if it cannot be one of ours.
pub fn digest(secret: &str) -> Option<store::Digest> {
    CookieSecret::parse(secret).map(|secret| secret.digest())
}

/// What opens a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// A new account.
    SignUp,
    /// A sign-in to an account.
    SignIn {
        /// For thirty days instead of seven.
        remember_me: bool,
        /// How its owner proved who they are.
        proof: Proof,
    },
}

impl Occasion {
    fn proof(self) -> Proof {
        match self {
            Self::SignUp => Proof::Password,
            Self::SignIn { proof, .. } => proof,
        }
    }
}

/// How and when the owner of a session proved who they are, as its access tokens say it.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// RFC 8176 authentication method references.
    pub amr: Vec<String>,
    /// The last proof.
    pub authenticated_at: DateTime<Utc>,
}

/// Opens a session in the caller's transaction, with the events of the occasion and of evictions.
pub async fn open(
    tx: &mut PgConnection,
    state: &AuthState,
    account: &Account,
    occasion: Occasion,
    origin: &Origin<'_>,
) -> Result<Opened, ApiError> {
    let AuthState { sources, config, .. } = state;
    let now = sources.now();
    let remember_me = matches!(occasion, Occasion::SignIn { remember_me: true, .. });
    let proof = occasion.proof();
    let (method, amr) = (proof.method(), proof.amr());
    let life = config.sessions.life(remember_me);
    let session: SessionId = sources.id();
    let (refresh, cookie) = (sources.secret(), sources.secret());
    let device = Device::of(origin.user_agent);
    let data = json!({ "method": method, "device": device.name });
    let new = NewSession {
        id: session,
        user: account.id,
        remember_me,
        method,
        amr: &amr,
        second_factor: proof.has_second_factor(),
        ip_address: origin.ip_address,
        user_agent: origin.user_agent,
        refresh: fingerprint(&refresh),
        cookie: fingerprint(&cookie),
        device: device.fingerprint(),
        event: NewSessionEvent {
            id: sources.uuid_v7(),
            kind: kind::LOGIN,
            new_device_kind: kind::NEW_DEVICE,
            data: &data,
        },
        expires_at: now + life,
        absolute_expires_at: now + config.sessions.absolute,
        now,
    };
    let OpenedSession { new_device, evicted } =
        store::insert_session(tx, &new, i64::from(config.sessions.max_per_user)).await?;
    security::count(if new_device { kind::NEW_DEVICE } else { kind::LOGIN });
    let mut told = vec![match occasion {
        Occasion::SignUp => events::user_created(sources, account),
        Occasion::SignIn { .. } => {
            let story = SignInStory {
                session,
                method: proof.event_method(),
                origin,
                new_device: new_device.then_some(device.name.as_str()),
            };
            events::login(sources, account, &story)
        }
    }];
    told.extend(
        evicted
            .iter()
            .map(|old| events::logout(sources, *old, account.id, Reason::SessionExpired)),
    );
    outbox::append::<Auth>(tx, &told).await?;
    state.keys.ready().await?;
    let evidence = Evidence {
        amr,
        authenticated_at: now,
    };
    let access_token = sign(state, account.id, &account.email, account.role, session, evidence)?;
    Ok(Opened {
        session,
        access_token,
        refresh,
        cookie,
        life,
        evicted,
    })
}

/// Ends all live sessions of an account, but perhaps one, and tells of each. To be announced after the commit.
pub async fn end_all(
    tx: &mut PgConnection,
    state: &AuthState,
    user: UserId,
    except: Option<SessionId>,
    label: &str,
    reason: Reason,
) -> sqlx::Result<Vec<SessionId>> {
    let AuthState { sources, .. } = state;
    let ended = store::end_all_sessions(tx, user, except, label, sources.now()).await?;
    let told: Vec<_> = ended
        .iter()
        .map(|session| events::logout(sources, *session, user, reason))
        .collect();
    outbox::append::<Auth>(tx, &told).await?;
    Ok(ended)
}

/// Ends one live session of an account and tells of it. False: the account has no such session.
pub async fn end_own(tx: &mut PgConnection, state: &AuthState, user: UserId, session: SessionId) -> sqlx::Result<bool> {
    let AuthState { sources, .. } = state;
    let ended = store::end_session_of(tx, user, session, "user_initiated", sources.now()).await?;
    if ended {
        let told = events::logout(sources, session, user, Reason::UserInitiated);
        outbox::append::<Auth>(tx, &[told]).await?;
    }
    Ok(ended)
}

/// An access token of a session.
pub fn sign(
    state: &AuthState,
    user: UserId,
    email: &str,
    role: shared::auth::Role,
    session: SessionId,
    evidence: Evidence,
) -> Result<String, ApiError> {
    let grant = Grant {
        user,
        email: email.to_owned(),
        role,
        session,
        amr: evidence.amr,
        auth_time: Some(evidence.authenticated_at.timestamp()),
    };
    state.signer.access(&grant).map_err(ApiError::internal)
}

/// How long the cookies of a session that ends at `end` live.
pub fn remaining(end: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (end - now).to_std().unwrap_or_default()
}

/// Deletes what nobody can use any more, batch by batch. Gives the number of rows; several replicas do not meet.
pub async fn purge_sessions(db: &Db<Auth>, sources: &Sources) -> sqlx::Result<u64> {
    let now = sources.now();
    let mut total = 0;
    loop {
        let mut conn = db.acquire().await?;
        let purged = store::purge(&mut conn, now - KEEP_ENDED, PURGE_BATCH).await?
            + store::purge_security_events(&mut *conn, now - KEEP_EVENTS, PURGE_BATCH).await?;
        total += purged;
        if purged < PURGE_BATCH.unsigned_abs() {
            return Ok(total);
        }
    }
}

/// The job around [`purge_sessions`]: once an hour until the process drains.
pub async fn keep_purging(db: Db<Auth>, sources: Sources, shutdown: shared::lifecycle::Shutdown) -> anyhow::Result<()> {
    loop {
        let purged = purge_sessions(&db, &sources).await?;
        if purged > 0 {
            tracing::info!(purged, "old sessions deleted");
        }
        tokio::select! {
            () = shutdown.draining() => return Ok(()),
            () = tokio::time::sleep(PURGE_EVERY) => {}
        }
    }
}
