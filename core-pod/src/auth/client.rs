//! The way for other services of this pod to ask about accounts and to change them.
//!
//! contract: core §4.4, §5.12 (admin), §5.11 (erasure), §2.5 (what ends sessions)
//!
//! Each change is one transaction of this service: the row is locked, the rule is checked, the events are appended, and
//! sessions that end are announced to every pod after the commit. Whether the caller may ask for it is the caller's to
//! know.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use shared::{
    ApiError,
    auth::{Role, session::SessionState},
    db::violated_constraint,
    events::outbox,
    id::{SessionId, UserId},
};
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use super::{
    Auth, AuthState,
    events::{self, Reason},
    identity,
    security::{self, SecurityEvent, kind},
    sessions, store,
};
pub use super::{
    devices::{Device, DeviceKind},
    model::{AccountDetails, BirthDate, Category, Changes, Email, Nationality, PersonName, PhoneNumber, Username},
};

/// Longer reasons of administrators are refused by their routes; this is the last line.
const MAX_REASON: usize = 500;

/// Why an account was not changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// There is no such account.
    #[error("there is no such account")]
    NotFound,
    /// Another account has this address.
    #[error("another account has this address")]
    EmailTaken,
    /// Another account has this user name.
    #[error("another account has this user name")]
    UsernameTaken,
    /// Nobody would be left to administer the platform.
    #[error("this is the last administrator")]
    LastAdmin,
    /// It is suspended already.
    #[error("the account is suspended already")]
    AlreadySuspended,
    /// It is not suspended.
    #[error("the account is not suspended")]
    NotSuspended,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<AccountError> for ApiError {
    /// The answers of most routes. Where the contract words one differently, match before converting.
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::NotFound => Self::not_found("User not found").with_code("USER_NOT_FOUND"),
            AccountError::EmailTaken => Self::conflict("EMAIL_TAKEN", "Email already in use"),
            AccountError::UsernameTaken => Self::conflict("USERNAME_TAKEN", "Username already exists"),
            AccountError::LastAdmin => Self::conflict("LAST_ADMIN", "The last administrator cannot be removed"),
            AccountError::AlreadySuspended => Self::conflict("ALREADY_SUSPENDED", "User already suspended"),
            AccountError::NotSuspended => Self::conflict("NOT_SUSPENDED", "User is not suspended"),
            AccountError::Database(error) => error.into(),
        }
    }
}

/// An account before and after a change.
#[derive(Debug, Clone)]
pub struct Changed {
    /// As it was.
    pub before: AccountDetails,
    /// As it is.
    pub after: AccountDetails,
}

/// A live session, without its secrets.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    /// Its id (`sid`).
    pub id: SessionId,
    /// `password`, `oauth`, …
    pub method: String,
    /// The address it was opened from.
    pub ip_address: Option<String>,
    /// What the program called itself.
    pub user_agent: Option<String>,
    /// The same in words.
    pub device: Device,
    /// When it was opened.
    pub created_at: DateTime<Utc>,
    /// When it was used last, to the minute.
    pub last_seen_at: DateTime<Utc>,
    /// When it ends unless it is refreshed.
    pub expires_at: DateTime<Utc>,
}

/// Something that happened to an account.
#[derive(Debug, Clone)]
pub struct SecurityEntry {
    /// Its id.
    pub id: Uuid,
    /// What happened: `login`, `password_changed`, …
    pub kind: String,
    /// The session it happened in or to.
    pub session: Option<SessionId>,
    /// Where the request came from.
    pub ip_address: Option<String>,
    /// What the program called itself.
    pub user_agent: Option<String>,
    /// More of it.
    pub data: serde_json::Value,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// Accounts for the other services of this pod. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Accounts(pub(in crate::auth) AuthState);

impl Accounts {
    /// Over the auth service.
    pub fn new(state: AuthState) -> Self {
        Self(state)
    }

    /// The queue of outgoing mail.
    pub fn mailer(&self) -> crate::mail::Mailer {
        self.0.mailer.clone()
    }

    /// The account of this id.
    pub async fn find(&self, user: UserId) -> Result<Option<AccountDetails>, AccountError> {
        Ok(self.find_many(&[user]).await?.pop())
    }

    /// The accounts of these ids, in no order; those that do not exist are left out.
    pub async fn find_many(&self, users: &[UserId]) -> Result<Vec<AccountDetails>, AccountError> {
        Ok(store::list_details(self.0.db.pool(), users).await?)
    }

    /// Changes the identity of an account. A new address is not confirmed and is written to; a new role ends the
    /// sessions. Nothing is told and nothing is written if nothing changes.
    pub async fn change(&self, user: UserId, changes: &Changes) -> Result<Changed, AccountError> {
        self.change_as(user, changes, events::USER_SERVICE).await
    }

    /// The same in the name of this service.
    pub(super) async fn change_as(
        &self,
        user: UserId,
        changes: &Changes,
        source: &'static str,
    ) -> Result<Changed, AccountError> {
        let mut tx = self.0.db.begin().await?;
        let before = locked(&mut tx, user).await?;
        let after = identity::change(&mut tx, &self.0, &before, changes, source).await?;
        let mut ended = Vec::new();
        if before.role != after.role {
            if before.role == Role::Admin {
                dispensable(&mut tx, &before).await?;
            }
            ended = sessions::end_all(&mut tx, &self.0, user, None, "role_changed", Reason::SessionExpired).await?;
            let data = json!({ "old": before.role, "new": after.role });
            let event = SecurityEvent::new(user, kind::ROLE_CHANGED).data(data);
            security::note(&mut tx, &self.0.sources, &event).await?;
        }
        tx.commit().await?;
        self.0.known.forget_email(user);
        self.0.sessions.announce_revoked(&ended).await;
        Ok(Changed { before, after })
    }

    /// Suspends an account: it cannot sign in, and every session dies at once.
    pub async fn suspend(&self, user: UserId, reason: Option<&str>) -> Result<AccountDetails, AccountError> {
        let AuthState { sources, .. } = &self.0;
        let now = sources.now();
        let mut tx = self.0.db.begin().await?;
        let mut account = locked(&mut tx, user).await?;
        if account.is_suspended() {
            return Err(AccountError::AlreadySuspended);
        }
        dispensable(&mut tx, &account).await?;
        account.suspended_at = Some(now);
        account.suspended_reason = reason.map(|reason| reason.chars().take(MAX_REASON).collect());
        account.updated_at = now;
        store::save_details(&mut tx, &account).await?;
        security::note(&mut tx, sources, &SecurityEvent::new(user, kind::SUSPENDED)).await?;
        let locked = events::account_locked(sources, user, events::LockReason::AdminAction, None);
        outbox::append::<Auth>(&mut tx, &[locked]).await?;
        let ended = sessions::end_all(&mut tx, &self.0, user, None, SUSPENDED, Reason::Forced).await?;
        tx.commit().await?;
        self.0.sessions.announce(&ended, SessionState::Suspended).await;
        Ok(account)
    }

    /// Takes a suspension back. The account signs in anew; what was ended stays ended.
    pub async fn reactivate(&self, user: UserId) -> Result<AccountDetails, AccountError> {
        let AuthState { sources, signer, .. } = &self.0;
        let now = sources.now();
        let mut tx = self.0.db.begin().await?;
        let mut account = locked(&mut tx, user).await?;
        if !account.is_suspended() {
            return Err(AccountError::NotSuspended);
        }
        account.suspended_at = None;
        account.suspended_reason = None;
        account.updated_at = now;
        store::save_details(&mut tx, &account).await?;
        security::note(&mut tx, sources, &SecurityEvent::new(user, kind::REACTIVATED)).await?;
        let since = now - TimeDelta::from_std(signer.access_ttl()).unwrap_or(TimeDelta::hours(1));
        let ended = store::list_ended(&mut *tx, user, SUSPENDED, since).await?;
        tx.commit().await?;
        // their tokens are of sessions that are over, and no longer of a suspended account
        self.0.sessions.announce_revoked(&ended).await;
        Ok(account)
    }

    /// Ends a lockout before its time.
    pub async fn unlock(&self, user: UserId) -> Result<(), AccountError> {
        let mut tx = self.0.db.begin().await?;
        locked(&mut tx, user).await?;
        store::clear_failures(&mut tx, user).await?;
        security::note(
            &mut tx,
            &self.0.sources,
            &SecurityEvent::new(user, kind::ACCOUNT_UNLOCKED),
        )
        .await?;
        Ok(tx.commit().await?)
    }

    /// Ends the sessions of an account, but perhaps one. Gives how many there were.
    pub async fn end_sessions(&self, user: UserId, except: Option<SessionId>) -> Result<usize, AccountError> {
        let mut tx = self.0.db.begin().await?;
        let ended = sessions::end_all(&mut tx, &self.0, user, except, "forced", Reason::Forced).await?;
        tx.commit().await?;
        self.0.sessions.announce_revoked(&ended).await;
        Ok(ended.len())
    }

    /// The live sessions of an account, newest first.
    pub async fn sessions(&self, user: UserId) -> Result<Vec<SessionInfo>, AccountError> {
        let rows = store::list_sessions(self.0.db.pool(), user, self.0.sources.now()).await?;
        Ok(rows.into_iter().map(SessionInfo::from).collect())
    }

    /// A part of what happened to an account, newest first, and how much there is in all.
    pub async fn security_events(
        &self,
        user: UserId,
        limit: i64,
        offset: i64,
    ) -> Result<(Vec<SecurityEntry>, i64), AccountError> {
        let mut conn = self.0.db.acquire().await?;
        let (rows, total) = store::list_security_events(&mut conn, user, limit, offset).await?;
        Ok((rows.into_iter().map(SecurityEntry::from).collect(), total))
    }

    /// Notes (or with `None` takes back) that the questions for new travellers are answered. Inside a transaction of
    /// another service, call `auth.set_onboarding_completed` there instead.
    pub async fn set_onboarding_completed(&self, user: UserId, at: Option<DateTime<Utc>>) -> Result<(), AccountError> {
        let found = store::set_onboarding_completed(self.0.db.pool(), user, at).await?;
        if found { Ok(()) } else { Err(AccountError::NotFound) }
    }

    /// Forgets where sessions were opened and things happened before `before`, a batch of each. Gives how many addresses
    /// that were.
    pub async fn forget_addresses(&self, before: DateTime<Utc>, batch: i64) -> Result<u64, AccountError> {
        let mut conn = self.0.db.acquire().await?;
        Ok(store::forget_addresses(&mut conn, before, batch).await?)
    }

    /// Deletes an account with its sessions, secrets and security events. False: it was deleted before. Refuses the last
    /// administrator.
    pub async fn erase(&self, user: UserId) -> Result<bool, AccountError> {
        let mut tx = self.0.db.begin().await?;
        let Some(account) = store::lock_details(&mut tx, user).await? else {
            return Ok(false);
        };
        dispensable(&mut tx, &account).await?;
        let ended = sessions::end_all(&mut tx, &self.0, user, None, "erased", Reason::SessionExpired).await?;
        store::delete_account(&mut tx, user).await?;
        tx.commit().await?;
        self.0.sessions.announce(&ended, SessionState::Gone).await;
        Ok(true)
    }
}

/// What sessions that a suspension ended say.
const SUSPENDED: &str = "suspended";

async fn locked(tx: &mut Transaction<'static, Postgres>, user: UserId) -> Result<AccountDetails, AccountError> {
    store::lock_details(tx, user).await?.ok_or(AccountError::NotFound)
}

/// Refuses what would leave nobody to administer the platform.
async fn dispensable(tx: &mut Transaction<'static, Postgres>, account: &AccountDetails) -> Result<(), AccountError> {
    if account.role != Role::Admin || store::is_dispensable_admin(tx, account.id).await? {
        Ok(())
    } else {
        Err(AccountError::LastAdmin)
    }
}

/// The unique constraints decide who was first.
pub(super) fn taken(error: sqlx::Error) -> AccountError {
    match violated_constraint(&error) {
        Some("users_email_key") => AccountError::EmailTaken,
        Some("users_username_key") => AccountError::UsernameTaken,
        _ => error.into(),
    }
}

impl From<store::SessionRow> for SessionInfo {
    fn from(row: store::SessionRow) -> Self {
        Self {
            id: row.id,
            method: row.auth_method,
            device: Device::of(row.user_agent.as_deref()),
            ip_address: row.ip_address,
            user_agent: row.user_agent,
            created_at: row.created_at,
            last_seen_at: row.last_seen_at,
            expires_at: row.expires_at,
        }
    }
}

impl From<store::SecurityEventRow> for SecurityEntry {
    fn from(row: store::SecurityEventRow) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            session: row.session_id,
            ip_address: row.ip_address,
            user_agent: row.user_agent,
            data: row.data,
            created_at: row.created_at,
        }
    }
}
