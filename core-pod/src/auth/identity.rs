//! Changing who an account says it is, in the caller's transaction.
//!
//! contract: core §4.4, §5.12, §7 (`user.updated`)

use serde_json::json;
use shared::events::outbox;
use sqlx::PgConnection;

use super::{
    Auth, AuthState,
    client::{AccountError, taken},
    events,
    model::{AccountDetails, Changes, told_differences},
    recovery,
    security::{self, SecurityEvent, kind},
    store,
};

/// Who is written to when the address changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Letters {
    /// The new mailbox is asked to confirm (unless it has), the old one may take the change back.
    Both,
    /// Nobody: the change is itself the taking back of one.
    Neither,
}

/// Applies changes to an account that is locked, and tells of them in the name of `source`. A new address must be unique,
/// is not confirmed, and is an occasion to write to both mailboxes. With `EMAIL_CHANGE=confirmed` it waits until its
/// mailbox confirms it; everything else is changed at once.
pub async fn change(
    tx: &mut PgConnection,
    state: &AuthState,
    before: &AccountDetails,
    changes: &Changes,
    source: &'static str,
) -> Result<AccountDetails, AccountError> {
    let moves = changes.email.as_ref().filter(|email| email.as_str() != before.email);
    let Some(email) = moves.filter(|_| state.config.recovery.email_change.waits()) else {
        return apply(tx, state, before, changes, (source, Letters::Both)).await;
    };
    recovery::ask_to_confirm(tx, state, before, email).await?;
    let rest = Changes {
        email: None,
        ..changes.clone()
    };
    apply(tx, state, before, &rest, (source, Letters::Both)).await
}

/// Applies changes whose address, if there is one, its mailbox has confirmed.
pub async fn change_proven(
    tx: &mut PgConnection,
    state: &AuthState,
    before: &AccountDetails,
    changes: &Changes,
    source: &'static str,
) -> Result<AccountDetails, AccountError> {
    apply(tx, state, before, changes, (source, Letters::Both)).await
}

/// Brings an old address back.
pub async fn restore(
    tx: &mut PgConnection,
    state: &AuthState,
    before: &AccountDetails,
    changes: &Changes,
) -> Result<AccountDetails, AccountError> {
    apply(tx, state, before, changes, (events::AUTH_SERVICE, Letters::Neither)).await
}

async fn apply(
    tx: &mut PgConnection,
    state: &AuthState,
    before: &AccountDetails,
    changes: &Changes,
    (source, letters): (&'static str, Letters),
) -> Result<AccountDetails, AccountError> {
    let AuthState { sources, .. } = state;
    let after = changes.applied_to(before, sources.now());
    if after == *before {
        return Ok(after);
    }
    store::save_details(tx, &after).await.map_err(taken)?;
    if after.email != before.email {
        email_changed(tx, state, before, &after).await?;
        if letters == Letters::Both {
            recovery::address_changed(tx, state, before, &after).await?;
        }
    }
    let differences = told_differences(before, &after);
    if !differences.is_empty() {
        let told = events::user_updated(sources, before.id, differences, source);
        outbox::append::<Auth>(tx, &[told]).await?;
    }
    Ok(after)
}

/// What the owner's log says of a change of address.
async fn email_changed(
    tx: &mut PgConnection,
    state: &AuthState,
    before: &AccountDetails,
    after: &AccountDetails,
) -> Result<(), AccountError> {
    let data = json!({ "old": masked(&before.email), "new": masked(&after.email) });
    let event = SecurityEvent::new(before.id, kind::EMAIL_CHANGED).data(data);
    security::note(tx, &state.sources, &event).await?;
    Ok(())
}

/// `a***@example.com`: enough for the owner to know it, for the log outlives the address.
fn masked(email: &str) -> String {
    let (local, domain) = email.split_once('@').unwrap_or((email, ""));
    let first: String = local.chars().take(1).collect();
    format!("{first}***@{domain}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_address_in_the_log_shows_its_first_letter_and_its_domain() {
        assert_eq!(super::masked("ada@example.com"), "a***@example.com");
        assert_eq!(super::masked("é@example.com"), "é***@example.com");
    }
}
