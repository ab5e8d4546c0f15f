//! What the auth service tells the others. Appended to the outbox in the transaction of the change.
//!
//! contract: core §7, events §5 (auth, user)

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::{
    events::{NewEvent, Topic},
    id::{SessionId, UserId},
    sources::{Sources, iso},
};

use super::{Auth, model::Account};

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

/// `auth.login`, from this address and program.
pub fn login(sources: &Sources, session: SessionId, account: &Account, from: (&str, &str)) -> NewEvent {
    let (ip_address, user_agent) = from;
    let payload = Login {
        user_id: account.id,
        email: &account.email,
        session_id: session,
        ip_address,
        user_agent,
        login_at: sources.now(),
        method: "password",
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
