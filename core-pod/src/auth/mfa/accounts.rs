//! What the other services of the pod may ask about second factors.
//!
//! contract: core §14 (step-up, forced MFA reset by an administrator), §5.11 (what an export holds)

use chrono::{DateTime, Utc};
use serde_json::json;
use shared::{ApiError, auth::AuthUser, id::UserId};

use super::{Change, StepUp, store};
use crate::auth::{
    client::{AccountError, Accounts, Changes},
    events::Reason,
    federation, sessions,
    store::find_account,
};
use crate::mail::Protection;

/// A passkey, without what makes it one.
#[derive(Debug, Clone)]
pub struct PasskeyInfo {
    /// What its owner calls it.
    pub name: String,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// The last sign-in with it.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// An account at another provider.
#[derive(Debug, Clone)]
pub struct IdentityInfo {
    /// The provider's id.
    pub provider: String,
    /// The address there, if the provider verified it.
    pub email: Option<String>,
    /// Since when.
    pub created_at: DateTime<Utc>,
    /// The last sign-in with it.
    pub last_used_at: DateTime<Utc>,
}

impl Accounts {
    /// Whether a caller's proof is recent enough for what they want.
    pub fn step_up(&self) -> StepUp {
        self.0.step_up()
    }

    /// 403 `REAUTH_REQUIRED` if these changes hold another address and the caller's proof is not recent enough for that:
    /// whoever has the address has the account. Clients send the present address along with other fields.
    pub async fn require_recent_for(&self, caller: &AuthUser, changes: &Changes) -> Result<(), ApiError> {
        let Some(email) = &changes.email else {
            return Ok(());
        };
        let account = find_account(self.0.db.pool(), caller.user).await?;
        if account.is_some_and(|account| account.email == email.as_str()) {
            return Ok(());
        }
        self.step_up().require_recent(caller).await
    }

    /// The passkeys of an account, oldest first, for an export.
    pub async fn passkeys(&self, user: UserId) -> Result<Vec<PasskeyInfo>, AccountError> {
        let passkeys = store::list_passkeys(self.0.db.pool(), user).await?;
        let info = passkeys.into_iter().map(|passkey| PasskeyInfo {
            name: passkey.name,
            created_at: passkey.created_at,
            last_used_at: passkey.last_used_at,
        });
        Ok(info.collect())
    }

    /// The accounts at other providers, oldest first, for an export.
    pub async fn identities(&self, user: UserId) -> Result<Vec<IdentityInfo>, AccountError> {
        let identities = federation::list_identities(self.0.db.pool(), user).await?;
        let info = identities.into_iter().map(|identity| IdentityInfo {
            provider: identity.provider,
            email: identity.email,
            created_at: identity.created_at,
            last_used_at: identity.last_used_at,
        });
        Ok(info.collect())
    }

    /// Takes all second factors of an account away and ends its sessions: for an owner who lost them all and convinced an
    /// administrator. The password, or another provider, is the way in again. Repeating it does no harm.
    pub async fn reset_second_factors(&self, user: UserId) -> Result<(), AccountError> {
        let state = &self.0;
        let mut tx = state.db.begin().await?;
        store::lock_account(&mut tx, user)
            .await?
            .ok_or(AccountError::NotFound)?;
        store::delete_totp(&mut tx, user, state.sources.now()).await?;
        store::delete_passkeys(&mut *tx, user).await?;
        let ended = sessions::end_all(&mut tx, state, user, None, "second_factors_reset", Reason::Forced).await?;
        let change = Change {
            user,
            session: None,
            origin: None,
            protection: Protection::Reset,
            data: json!({}),
        };
        super::tell(&mut tx, state, change).await?;
        tx.commit().await?;
        state.sessions.announce_revoked(&ended).await;
        Ok(())
    }
}
