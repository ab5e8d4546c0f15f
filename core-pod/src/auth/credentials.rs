//! The check of a password: the work, the count of wrong ones, the lockout.
//!
//! contract: core §2.2 (hashes), §2.6 (lockout), §13 line 13 (no oracle)
//!
//! An unknown address costs a hash and a transaction like a known one. Wrong passwords are counted under the lock of the
//! account's row, and the right one is accepted under the same lock: of any number of guesses at once, those that come
//! after the tenth wrong one are refused, whatever they are. Signed-in sessions are not touched by a lockout: it would be a
//! way for strangers to sign people out.

use serde_json::json;
use shared::{ApiError, events::outbox, id::UserId};

use super::{
    Auth, AuthState,
    events::{self, LockReason},
    hashing::Verdict,
    model::{Consequence, Email, Failures},
    security::{self, SecurityEvent, kind},
    sessions::Origin,
    store::{self, FailureRow},
};

/// As many wrong passwords in a row are worth a line in the owner's log.
const BURST: u32 = 5;

/// The account whose password was right, with what the transaction that accepts it must still find.
#[derive(Clone)]
pub struct Proven {
    /// The account.
    pub user: UserId,
    /// The stored hash that was checked.
    pub hash: String,
    /// A hash with today's parameters, to be stored in place of an outdated one.
    pub upgraded: Option<String>,
}

impl std::fmt::Debug for Proven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proven")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Checks the password of the account with this address. `None`: wrong, unknown or locked, and nobody may know which.
pub async fn check(
    state: &AuthState,
    email: &Email,
    password: &str,
    origin: &Origin<'_>,
) -> Result<Option<Proven>, ApiError> {
    let stored = store::find_password(state.db.pool(), email.as_str()).await?;
    check_stored(state, stored, password, origin).await
}

/// Checks the password of a signed-in account again. Wrong ones count as at sign-in.
pub async fn check_again(
    state: &AuthState,
    user: UserId,
    password: &str,
    origin: &Origin<'_>,
) -> Result<Option<Proven>, ApiError> {
    let stored = store::find_password_of(state.db.pool(), user).await?;
    let stored = stored.map(|hash| (user, hash));
    check_stored(state, stored, password, origin).await
}

async fn check_stored(
    state: &AuthState,
    stored: Option<(UserId, String)>,
    password: &str,
    origin: &Origin<'_>,
) -> Result<Option<Proven>, ApiError> {
    let hash = stored.as_ref().map(|(_, hash)| hash.clone());
    let verdict = state.hasher.verify(password, hash).await?;
    match (stored, verdict) {
        (Some((user, hash)), Verdict::Right) => Ok(Some(Proven {
            user,
            hash,
            upgraded: None,
        })),
        (Some((user, hash)), Verdict::RightButOutdated) => {
            let upgraded = state.hasher.hash(password, &state.sources).await?;
            metrics::counter!("auth_password_upgrades_total").increment(1);
            Ok(Some(Proven {
                user,
                hash,
                upgraded: Some(upgraded),
            }))
        }
        (stored, _) => {
            count_failure(state, stored.map(|(user, _)| user), origin).await?;
            Ok(None)
        }
    }
}

/// Counts a wrong password or second factor. Does the same work for nobody.
pub async fn count_failure(state: &AuthState, user: Option<UserId>, origin: &Origin<'_>) -> Result<(), ApiError> {
    let AuthState { sources, config, .. } = state;
    let now = sources.now();
    let id = user.unwrap_or_else(|| sources.id());
    let mut tx = state.db.begin().await?;
    store::relax_durability(&mut tx).await?;
    let failures = store::lock_failures(&mut tx, id)
        .await?
        .map_or_else(Failures::default, Failures::from);
    match failures.one_more(config.lockout, now) {
        Consequence::AlreadyLocked => {}
        Consequence::Counted(failures) => {
            store::save_failures(&mut tx, id, failures.into()).await?;
            if failures.in_a_row == BURST && user.is_some() {
                let data = json!({ "failures": failures.in_a_row });
                let event = SecurityEvent::new(id, kind::LOGIN_FAILURES).from(origin).data(data);
                security::note(&mut tx, sources, &event).await?;
            }
        }
        Consequence::Locked(failures, until) => {
            store::insist_on_durability(&mut tx).await?;
            store::save_failures(&mut tx, id, failures.into()).await?;
            let data = json!({ "until": shared::sources::iso_millis(until) });
            let event = SecurityEvent::new(id, kind::ACCOUNT_LOCKED).from(origin).data(data);
            security::note(&mut tx, sources, &event).await?;
            let told = events::account_locked(sources, id, LockReason::TooManyAttempts, Some(until));
            outbox::append::<Auth>(&mut tx, &[told]).await?;
            metrics::counter!("auth_lockouts_total").increment(1);
            tracing::warn!(user = %id, %until, "too many wrong passwords in a row; the account is locked");
        }
    }
    tx.commit().await?;
    Ok(())
}

impl From<FailureRow> for Failures {
    fn from(row: FailureRow) -> Self {
        Self {
            in_a_row: row.failed_logins.unsigned_abs(),
            lockouts: row.lockouts.unsigned_abs(),
            locked_until: row.locked_until,
        }
    }
}

impl From<Failures> for FailureRow {
    fn from(failures: Failures) -> Self {
        let stored = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
        Self {
            failed_logins: stored(failures.in_a_row),
            lockouts: stored(failures.lockouts),
            locked_until: failures.locked_until,
        }
    }
}
