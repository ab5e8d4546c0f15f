//! The content of an export.
//!
//! contract: core §5.11 (keys)

use anyhow::Context as _;
use serde_json::{Map, Value, json};
use shared::{id::UserId, sources::iso_millis};
use sqlx::PgConnection;

use super::business;
use crate::{
    auth::client::{AccountDetails, Accounts},
    user::{
        UserState,
        gdpr::{
            data::{self, Export, TABLES},
            store::exports::Claimed,
        },
    },
};

/// Counts changes of the layout that a reader would notice.
const SCHEMA_VERSION: &str = "1.0";
/// Security events that are read at once.
const PIECE: i64 = 500;

/// Everything, or an error; never a part.
pub async fn everything(state: &UserState, job: &Claimed, account: &AccountDetails) -> anyhow::Result<Value> {
    let user = job.user;
    let mut content = Map::new();
    content.insert("user".to_owned(), identity(account));
    content.insert("sessions".to_owned(), sessions(&state.accounts, user).await?);
    content.insert(
        "securityEvents".to_owned(),
        security_events(&state.accounts, user).await?,
    );
    content.insert("passkeys".to_owned(), passkeys(&state.accounts, user).await?);
    content.insert(
        "linkedAccounts".to_owned(),
        linked_accounts(&state.accounts, user).await?,
    );

    // one snapshot for all tables, so that the parts agree
    let mut tx = state.db.begin().await?;
    sqlx::query("set transaction isolation level repeatable read, read only")
        .execute(&mut *tx)
        .await?;
    own_tables(&mut tx, user, &mut content).await?;
    for view in &business::VIEWS {
        let rows = business::rows(&mut tx, view, user).await;
        let rows = rows.with_context(|| format!("{} cannot be read", view.key))?;
        content.insert(view.key.to_owned(), Value::Array(rows));
    }
    tx.commit().await?;

    arrange(&mut content);
    content.insert("exportedAt".to_owned(), json!(iso_millis(state.sources.now())));
    content.insert("schemaVersion".to_owned(), json!(SCHEMA_VERSION));
    Ok(Value::Object(content))
}

async fn own_tables(conn: &mut PgConnection, user: UserId, content: &mut Map<String, Value>) -> anyhow::Result<()> {
    for table in TABLES {
        let (key, value) = match table.export {
            Export::Nothing(_) => continue,
            Export::One(key) => {
                let mut rows = data::rows(conn, table, "user_id", user).await?;
                (key, rows.pop().unwrap_or(Value::Null))
            }
            Export::Rows(key, order) => (key, Value::Array(data::rows(conn, table, order, user).await?)),
        };
        content.insert(key.to_owned(), value);
    }
    Ok(())
}

/// Where the contract has another place for something than our tables.
fn arrange(content: &mut Map<String, Value>) {
    let history = content.remove("consentHistory").unwrap_or_else(|| json!([]));
    if let Some(Value::Object(decided)) = content.get_mut("consent") {
        decided.insert("history".to_owned(), history);
    } else {
        // nobody has asked or decided yet: what holds are the defaults
        let defaults = json!({
            "analytics": false, "marketing": false, "functional": true, "preferences": true, "history": history,
        });
        content.insert("consent".to_owned(), defaults);
    }
    let settings = content.get("settings").cloned().unwrap_or_default();
    let chosen = |name: &str, default: Value| match settings.get(name) {
        Some(value) if !value.is_null() => value.clone(),
        _ => default,
    };
    let preferences = json!({
        "language": chosen("language", json!("English")),
        "currency": chosen("currency", json!("USD")),
        "timezone": chosen("timezone", json!("UTC")),
        "travelStyle": chosen("travelStyle", Value::Null),
        "notifications": chosen("notificationPreferences", Value::Null),
    });
    content.insert("preferences".to_owned(), preferences);
}

fn identity(account: &AccountDetails) -> Value {
    let optional = |instant: Option<chrono::DateTime<chrono::Utc>>| instant.map(iso_millis);
    json!({
        "id": account.id,
        "email": account.email,
        "emailDisplay": account.email_display,
        "username": account.username,
        "firstName": account.first_name,
        "lastName": account.last_name,
        "phoneNumber": account.phone_number,
        "dateOfBirth": account.date_of_birth,
        "nationality": account.nationality,
        "userCategory": account.user_category,
        "isVerified": account.is_verified,
        "role": account.role,
        "locale": account.locale,
        "mfaEnabled": account.mfa_enabled,
        "onboardingCompletedAt": optional(account.onboarding_completed_at),
        "suspendedAt": optional(account.suspended_at),
        "suspendedReason": account.suspended_reason,
        "lastLoginAt": optional(account.last_login_at),
        "passwordChangedAt": optional(account.password_changed_at),
        "createdAt": iso_millis(account.created_at),
        "updatedAt": iso_millis(account.updated_at),
    })
}

async fn passkeys(accounts: &Accounts, user: UserId) -> anyhow::Result<Value> {
    let passkeys = accounts.passkeys(user).await?;
    let items = passkeys.into_iter().map(|passkey| {
        json!({
            "name": passkey.name,
            "createdAt": iso_millis(passkey.created_at),
            "lastUsedAt": passkey.last_used_at.map(iso_millis),
        })
    });
    Ok(items.collect())
}

async fn linked_accounts(accounts: &Accounts, user: UserId) -> anyhow::Result<Value> {
    let identities = accounts.identities(user).await?;
    let items = identities.into_iter().map(|identity| {
        json!({
            "provider": identity.provider,
            "email": identity.email,
            "createdAt": iso_millis(identity.created_at),
            "lastUsedAt": iso_millis(identity.last_used_at),
        })
    });
    Ok(items.collect())
}

async fn sessions(accounts: &Accounts, user: UserId) -> anyhow::Result<Value> {
    let sessions = accounts.sessions(user).await?;
    let shown = sessions.into_iter().map(|session| {
        json!({
            "id": session.id,
            "method": session.method,
            "ipAddress": session.ip_address,
            "userAgent": session.user_agent,
            "createdAt": iso_millis(session.created_at),
            "lastSeenAt": iso_millis(session.last_seen_at),
            "expiresAt": iso_millis(session.expires_at),
        })
    });
    Ok(shown.collect())
}

async fn security_events(accounts: &Accounts, user: UserId) -> anyhow::Result<Value> {
    let mut all = Vec::new();
    loop {
        let offset = i64::try_from(all.len())?;
        let (piece, total) = accounts.security_events(user, PIECE, offset).await?;
        let is_last = piece.is_empty();
        all.extend(piece.into_iter().map(|event| {
            json!({
                "id": event.id,
                "kind": event.kind,
                "sessionId": event.session,
                "ipAddress": event.ip_address,
                "userAgent": event.user_agent,
                "data": event.data,
                "createdAt": iso_millis(event.created_at),
            })
        }));
        if is_last || i64::try_from(all.len())? >= total {
            return Ok(Value::Array(all));
        }
    }
}
