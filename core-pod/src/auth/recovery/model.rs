//! What a single-use token is for and how long it lives.
//!
//! contract: core §11 (one_time_tokens), §14 (lives)

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use shared::id::{SessionId, UserId};
use uuid::Uuid;

/// What a token does when it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Purpose {
    /// Confirms the present address.
    VerifyEmail,
    /// Sets a new password.
    ResetPassword,
    /// Makes a confirmed address the present one.
    ChangeEmail,
    /// Brings the old address back.
    RevertEmail,
    /// Ends a session.
    RevokeSession,
}

impl Purpose {
    /// How long a token of this purpose works.
    pub const fn life(self) -> TimeDelta {
        match self {
            Self::ResetPassword => TimeDelta::minutes(30),
            Self::VerifyEmail | Self::ChangeEmail => TimeDelta::hours(24),
            Self::RevertEmail => TimeDelta::hours(72),
            Self::RevokeSession => TimeDelta::days(7),
        }
    }

    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
            Self::ChangeEmail => "change_email",
            Self::RevertEmail => "revert_email",
            Self::RevokeSession => "revoke_session",
        }
    }
}

/// What a token is about, beside its account.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The address to confirm, to reset from, to change to, or to bring back; as typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whether the address to bring back was confirmed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub verified: bool,
    /// The session to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
}

impl std::fmt::Debug for About {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("About(***)")
    }
}

impl About {
    /// An address.
    pub fn address(email: &str) -> Self {
        Self {
            email: Some(email.to_owned()),
            ..Self::default()
        }
    }
}

/// A token that was found or used.
#[derive(Debug, Clone)]
pub struct Found {
    /// Whose it is.
    pub user: UserId,
    /// What it does.
    pub purpose: Purpose,
    /// What it is about.
    pub about: About,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// A link somebody asked for.
#[derive(Clone)]
pub struct Request {
    /// Its id.
    pub id: Uuid,
    /// A reset or a verification.
    pub purpose: Purpose,
    /// The normalised address that was given.
    pub email: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_live_as_long_as_the_contract_says() {
        assert_eq!(Purpose::ResetPassword.life(), TimeDelta::minutes(30));
        assert_eq!(Purpose::RevertEmail.life(), TimeDelta::hours(72));
    }

    #[test]
    fn what_a_token_is_about_is_kept_without_empty_fields_and_never_printed() {
        let about = About::address("ada@example.com");
        assert_eq!(serde_json::to_string(&about).unwrap(), r#"{"email":"ada@example.com"}"#);
        assert_eq!(format!("{about:?}"), "About(***)");
        let session: About = serde_json::from_str(r#"{"session":"00000000-0000-0000-0000-000000000007"}"#).unwrap();
        assert!(session.session.is_some() && session.email.is_none());
    }
}
