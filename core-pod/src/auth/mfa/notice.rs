//! What the owner is told about the protection of the account: in its log and by mail, in the transaction of the change.
//!
//! contract: core §14 (security event log; use of a recovery code sends a mail)

use serde_json::{Value, json};
use shared::id::{SessionId, UserId};
use sqlx::PgConnection;

use super::store;
use crate::{
    auth::{
        AuthState,
        recovery::tell_owner,
        security::{self, SecurityEvent},
        sessions::Origin,
    },
    mail::{Letter, Protection},
};

/// A change of what protects an account.
pub struct Change<'a> {
    /// Whose.
    pub user: UserId,
    /// In which session, if its owner made it.
    pub session: Option<SessionId>,
    /// From where.
    pub origin: Option<&'a Origin<'a>>,
    /// What.
    pub protection: Protection,
    /// Shown to the owner.
    pub data: Value,
}

const fn kind(protection: Protection) -> &'static str {
    match protection {
        Protection::SecondFactorOn => "mfa_enabled",
        Protection::SecondFactorOff => "mfa_disabled",
        Protection::RecoveryCodesReplaced => "recovery_codes_replaced",
        Protection::PasskeyAdded => "passkey_added",
        Protection::PasskeyRemoved => "passkey_deleted",
        Protection::AccountLinked => "identity_linked",
        Protection::AccountUnlinked => "identity_unlinked",
        Protection::Reset => "second_factors_reset",
    }
}

/// Tells the owner of a change.
pub async fn tell(tx: &mut PgConnection, state: &AuthState, change: Change<'_>) -> sqlx::Result<()> {
    let Change {
        user,
        session,
        origin,
        protection,
        data,
    } = change;
    let event = SecurityEvent::new(user, kind(protection)).data(data);
    let event = session.into_iter().fold(event, SecurityEvent::session);
    let event = origin.into_iter().fold(event, SecurityEvent::from);
    security::note(tx, &state.sources, &event).await?;
    let letter = Letter::ProtectionChanged {
        at: state.sources.now(),
        change: protection,
    };
    tell_owner(tx, state, user, letter).await
}

/// Tells the owner that a recovery code was used, and how many are left.
pub async fn tell_recovery_code(
    tx: &mut PgConnection,
    state: &AuthState,
    user: UserId,
    session: SessionId,
    origin: &Origin<'_>,
) -> sqlx::Result<()> {
    let left = store::find_status(&mut *tx, user).await?;
    let left = left.map_or(0, |status| status.recovery_codes);
    let event = SecurityEvent::new(user, "recovery_code_used")
        .session(session)
        .from(origin)
        .data(json!({ "left": left }));
    security::note(tx, &state.sources, &event).await?;
    let letter = Letter::RecoveryCodeUsed {
        at: state.sources.now(),
        remaining: u32::try_from(left).unwrap_or_default(),
    };
    tell_owner(tx, state, user, letter).await
}
