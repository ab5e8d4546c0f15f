//! All SQL of the AI integration.
//!
//! contract: core §5.13

use chrono::{DateTime, Utc};
use serde_json::Value;
use shared::id::UserId;
use sqlx::PgExecutor;
use uuid::Uuid;

use super::model::Traveller;
use crate::user::onboarding::answers;

struct Row {
    user: UserId,
    is_completed: bool,
    completed_at: Option<DateTime<Utc>>,
    completed_steps: Vec<String>,
    version: i32,
    answers: Option<Value>,
    updated_at: DateTime<Utc>,
    allows_preferences: bool,
    allows_in_so_many_words: bool,
}

impl From<Row> for Traveller {
    fn from(row: Row) -> Self {
        let answers = row
            .answers
            .as_ref()
            .and_then(Value::as_object)
            .map(answers::on_the_wire);
        Self {
            user: row.user,
            answers: answers.unwrap_or_default(),
            is_completed: row.is_completed,
            completed_at: row.completed_at,
            completed_steps: row.completed_steps,
            version: row.version,
            updated_at: row.updated_at,
            allows_preferences: row.allows_preferences,
            allows_in_so_many_words: row.allows_in_so_many_words,
        }
    }
}

/// These accounts with their onboarding and consent, in one round trip. Those that do not exist are missing.
pub async fn find(db: impl PgExecutor<'_>, users: &[UserId]) -> sqlx::Result<Vec<Traveller>> {
    let users: Vec<Uuid> = users.iter().map(|user| user.0).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"select account.id as "user!: UserId", coalesce(profile.is_completed, false) as "is_completed!",
                  profile.completed_at as "completed_at?", coalesce(profile.completed_steps, '{}') as "completed_steps!",
                  coalesce(profile.version, 1) as "version!", to_jsonb(profile) as "answers?",
                  coalesce(profile.updated_at, account.updated_at) as "updated_at!",
                  coalesce(consent.preferences, true) as "allows_preferences!",
                  exists (
                      select from users.consent_history as said
                      where said.consent_id = consent.id and said.preferences
                  ) as "allows_in_so_many_words!"
           from auth.accounts as account
           left join users.onboarding_profiles as profile on profile.user_id = account.id
           left join users.consents as consent on consent.user_id = account.id
           where account.id = any($1)"#,
        &users,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Traveller::from).collect())
}

/// Figures of the integration.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Accounts.
    pub accounts: i64,
    /// Accounts that say they completed onboarding.
    pub completed_accounts: i64,
    /// Onboardings begun.
    pub profiles: i64,
    /// Onboardings completed.
    pub completed_profiles: i64,
    /// Requests since yesterday at this time.
    pub requests: i64,
}

/// All figures in one round trip.
pub async fn figures(db: impl PgExecutor<'_>, since: DateTime<Utc>) -> sqlx::Result<Figures> {
    sqlx::query_as!(
        Figures,
        r#"select
               (select count(*) from auth.accounts) as "accounts!",
               (select count(*) from auth.accounts where onboarding_completed_at is not null) as "completed_accounts!",
               (select count(*) from users.onboarding_profiles) as "profiles!",
               (select count(*) from users.onboarding_profiles where is_completed) as "completed_profiles!",
               (
                   select count(*) from users.analytics
                   where event in ('ai_preferences_requested', 'ai_batch_preferences_requested') and occurred_at >= $1
               ) as "requests!""#,
        since,
    )
    .fetch_one(db)
    .await
}
