//! What the auth service tells the others. Appended to the outbox in the transaction of the change.
//!
//! contract: core §7, events §5 (auth, user)

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use shared::{
    events::{NewEvent, Topic},
    id::{SessionId, UserId},
    sources::{Sources, iso, iso_option},
};

use super::{Auth, model::Account, sessions::Origin};

/// The source of what this service tells by itself.
pub const AUTH_SERVICE: &str = <Auth as shared::db::Service>::NAME;
/// The source of `user.updated` for changes that the user service asked for (core §7).
pub const USER_SERVICE: &str = "user-service";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UserCreated<'a> {
    user_id: UserId,
    email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_name: Option<&'a str>,
    #[serde(with = "iso")]
    created_at: DateTime<Utc>,
}

#[expect(clippy::struct_field_names, reason = "the names of the contract")]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Login<'a> {
    user_id: UserId,
    email: &'a str,
    session_id: SessionId,
    ip_address: &'a str,
    user_agent: &'a str,
    #[serde(with = "iso")]
    login_at: DateTime<Utc>,
    method: &'a str,
    /// The account never used this program before: its owner is told.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    new_device: bool,
    /// The program in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PasswordChanged {
    user_id: UserId,
    #[serde(with = "iso")]
    changed_at: DateTime<Utc>,
    method: &'static str,
}

#[expect(clippy::struct_field_names, reason = "the names of the contract")]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Logout {
    user_id: UserId,
    session_id: SessionId,
    #[serde(with = "iso")]
    logout_at: DateTime<Utc>,
    reason: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TokenRefreshed {
    user_id: UserId,
    session_id: SessionId,
    #[serde(with = "iso")]
    refreshed_at: DateTime<Utc>,
    #[serde(with = "iso")]
    expires_at: DateTime<Utc>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UserUpdated {
    user_id: UserId,
    changes: Map<String, Value>,
    #[serde(with = "iso")]
    updated_at: DateTime<Utc>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AccountLocked {
    user_id: UserId,
    #[serde(with = "iso")]
    locked_at: DateTime<Utc>,
    reason: &'static str,
    #[serde(with = "iso_option", skip_serializing_if = "Option::is_none")]
    unlock_at: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PasswordResetRequested<'a> {
    user_id: UserId,
    email: &'a str,
    #[serde(with = "iso")]
    requested_at: DateTime<Utc>,
    #[serde(with = "iso")]
    expires_at: DateTime<Utc>,
    reset_token: &'a str,
}

/// Why an account is locked, in the words of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockReason {
    /// Wrong passwords in a row.
    TooManyAttempts,
    /// An administrator suspended it.
    AdminAction,
}

impl LockReason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::TooManyAttempts => "too_many_attempts",
            Self::AdminAction => "admin_action",
        }
    }
}

/// Why a session ended, in the words of the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The traveller signed out.
    UserInitiated,
    /// It had to make room for a newer one.
    SessionExpired,
    /// We ended it, because somebody else has its secrets. The user service warns the owner.
    Forced,
}

impl Reason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::UserInitiated => "user_initiated",
            Self::SessionExpired => "session_expired",
            Self::Forced => "forced",
        }
    }
}

/// `user.created`.
pub fn user_created(sources: &Sources, account: &Account) -> NewEvent {
    let payload = UserCreated {
        user_id: account.id,
        email: &account.email,
        first_name: account.first_name.as_deref(),
        last_name: account.last_name.as_deref(),
        created_at: account.created_at,
    };
    NewEvent::new::<Auth>(sources, Topic::UserCreated, account.id, &payload)
}

/// `user.updated`; `changes` is `{field: {old, new}}`, `source` the service on whose behalf it was changed.
pub fn user_updated(sources: &Sources, user: UserId, changes: Map<String, Value>, source: &'static str) -> NewEvent {
    let payload = UserUpdated {
        user_id: user,
        changes,
        updated_at: sources.now(),
    };
    let mut event = NewEvent::new::<Auth>(sources, Topic::UserUpdated, user, &payload);
    source.clone_into(&mut event.envelope.source);
    event
}

/// `auth.account.locked`.
pub fn account_locked(
    sources: &Sources,
    user: UserId,
    reason: LockReason,
    unlock_at: Option<DateTime<Utc>>,
) -> NewEvent {
    let payload = AccountLocked {
        user_id: user,
        locked_at: sources.now(),
        reason: reason.as_str(),
        unlock_at,
    };
    NewEvent::new::<Auth>(sources, Topic::AuthAccountLocked, user, &payload)
}

/// `auth.password.changed`; `method` is `user_initiated`, `admin_reset` or `forgot_password`.
pub fn password_changed(sources: &Sources, user: UserId, method: &'static str) -> NewEvent {
    let payload = PasswordChanged {
        user_id: user,
        changed_at: sources.now(),
        method,
    };
    NewEvent::new::<Auth>(sources, Topic::AuthPasswordChanged, user, &payload)
}

/// `auth.password.reset.requested`; `token_hash` is the SHA-256 of the token, in hex. The token itself is in a mail only.
pub fn password_reset_requested(
    sources: &Sources,
    user: UserId,
    email: &str,
    token_hash: &str,
    expires_at: DateTime<Utc>,
) -> NewEvent {
    let payload = PasswordResetRequested {
        user_id: user,
        email,
        requested_at: sources.now(),
        expires_at,
        reset_token: token_hash,
    };
    NewEvent::new::<Auth>(sources, Topic::AuthPasswordResetRequested, user, &payload)
}

/// How and from where somebody signed in.
#[derive(Debug, Clone, Copy)]
pub struct SignInStory<'a> {
    /// The session that was opened.
    pub session: SessionId,
    /// `password`, `oauth` or `token`.
    pub method: &'a str,
    /// The address and the program.
    pub origin: &'a Origin<'a>,
    /// The program in words, if the account never used it before.
    pub new_device: Option<&'a str>,
}

/// `auth.login`.
pub fn login(sources: &Sources, account: &Account, story: &SignInStory<'_>) -> NewEvent {
    let payload = Login {
        user_id: account.id,
        email: &account.email,
        session_id: story.session,
        ip_address: story.origin.ip_address,
        user_agent: story.origin.user_agent.unwrap_or_default(),
        login_at: sources.now(),
        method: story.method,
        new_device: story.new_device.is_some(),
        device: story.new_device,
    };
    NewEvent::new::<Auth>(sources, Topic::AuthLogin, account.id, &payload)
}

/// `auth.logout`.
pub fn logout(sources: &Sources, session: SessionId, user: UserId, reason: Reason) -> NewEvent {
    let payload = Logout {
        user_id: user,
        session_id: session,
        logout_at: sources.now(),
        reason: reason.as_str(),
    };
    NewEvent::new::<Auth>(sources, Topic::AuthLogout, user, &payload)
}

/// `auth.token.refreshed`; `expires_at` is the end of the new access token.
pub fn token_refreshed(sources: &Sources, session: SessionId, user: UserId, expires_at: DateTime<Utc>) -> NewEvent {
    let payload = TokenRefreshed {
        user_id: user,
        session_id: session,
        refreshed_at: sources.now(),
        expires_at,
    };
    NewEvent::new::<Auth>(sources, Topic::AuthTokenRefreshed, user, &payload)
}
