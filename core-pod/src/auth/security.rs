//! What happened to an account, kept for its owner: sign-ins, refusals, changes of what protects it.
//!
//! contract: core §14 (security event log)
//!
//! Written in the transaction of what it tells of. `data` is shown to the owner as it is: no secret goes in, and nothing
//! about anybody else.

use serde_json::Value;
use shared::{
    id::{SessionId, UserId},
    sources::Sources,
};
use sqlx::PgConnection;

use super::{
    sessions::Origin,
    store::{self, NewSecurityEvent},
};

/// What the events of this service are called. Other areas add their own in the same form.
pub mod kind {
    /// A sign-in.
    pub const LOGIN: &str = "login";
    /// A sign-in with a program that the account never used.
    pub const NEW_DEVICE: &str = "new_device";
    /// Several wrong passwords in a row.
    pub const LOGIN_FAILURES: &str = "login_failures";
    /// Too many of them: passwords are refused for a while.
    pub const ACCOUNT_LOCKED: &str = "account_locked";
    /// An administrator ended the lockout.
    pub const ACCOUNT_UNLOCKED: &str = "account_unlocked";
    /// The password was changed by its owner.
    pub const PASSWORD_CHANGED: &str = "password_changed";
    /// A session was ended from another one.
    pub const SESSION_REVOKED: &str = "session_revoked";
    /// All sessions (but perhaps the calling one) were ended.
    pub const SESSIONS_REVOKED: &str = "sessions_revoked";
    /// A used refresh token was presented again: somebody has a copy.
    pub const TOKEN_REUSED: &str = "refresh_token_reused";
    /// The address was changed.
    pub const EMAIL_CHANGED: &str = "email_changed";
    /// An administrator changed the role.
    pub const ROLE_CHANGED: &str = "role_changed";
    /// An administrator suspended the account.
    pub const SUSPENDED: &str = "account_suspended";
    /// An administrator took that back.
    pub const REACTIVATED: &str = "account_reactivated";
}

/// One event about to be noted.
#[derive(Debug, Clone)]
pub struct SecurityEvent<'a> {
    user: UserId,
    kind: &'a str,
    session: Option<SessionId>,
    origin: Option<&'a Origin<'a>>,
    data: Value,
}

impl<'a> SecurityEvent<'a> {
    /// An event of this kind (see [`kind`]) about this account.
    pub fn new(user: UserId, kind: &'a str) -> Self {
        Self {
            user,
            kind,
            session: None,
            origin: None,
            data: Value::Object(serde_json::Map::new()),
        }
    }

    /// In this session, or about it.
    #[must_use]
    pub fn session(mut self, session: SessionId) -> Self {
        self.session = Some(session);
        self
    }

    /// Caused by a request from here.
    #[must_use]
    pub fn from(mut self, origin: &'a Origin<'a>) -> Self {
        self.origin = Some(origin);
        self
    }

    /// With this to say. An object; shown to the owner.
    #[must_use]
    pub fn data(mut self, data: Value) -> Self {
        self.data = data;
        self
    }
}

/// Notes an event in the caller's transaction.
pub async fn note(tx: &mut PgConnection, sources: &Sources, event: &SecurityEvent<'_>) -> sqlx::Result<()> {
    count(event.kind);
    let new = NewSecurityEvent {
        id: sources.uuid_v7(),
        user: event.user,
        kind: event.kind,
        session: event.session,
        ip_address: event.origin.map(|origin| origin.ip_address),
        user_agent: event.origin.and_then(|origin| origin.user_agent),
        data: &event.data,
        now: sources.now(),
    };
    store::insert_security_event(tx, &new).await
}

/// Counts an event that was noted.
pub fn count(kind: &str) {
    metrics::counter!("auth_security_events_total", "kind" => kind.to_owned()).increment(1);
}
