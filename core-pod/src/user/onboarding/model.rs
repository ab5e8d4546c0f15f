//! A traveller's onboarding as it is stored and as it is shown.
//!
//! contract: core §5.5

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use shared::{
    id::UserId,
    sources::{iso, iso_option},
};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    answers,
    steps::{Progress, STEPS},
};

/// A row. `answers` holds all columns by their names; those that travellers write are read from there.
#[derive(Debug, Clone)]
pub struct Stored {
    pub id: Uuid,
    pub user_id: UserId,
    pub is_completed: bool,
    pub completed_steps: Vec<String>,
    pub completed_at: Option<DateTime<Utc>>,
    pub version: i32,
    pub step_data: Value,
    pub answers: Value,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl Stored {
    /// How far the traveller has come.
    pub fn progress(&self) -> Progress {
        Progress::of(&self.completed_steps, self.is_completed)
    }

    /// The answers under their names on the wire.
    pub fn named_answers(&self) -> Map<String, Value> {
        self.answers.as_object().map(answers::on_the_wire).unwrap_or_default()
    }
}

/// What the account itself says.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Flags {
    onboarding_completed: bool,
    #[serde(with = "iso_option")]
    onboarding_completed_at: Option<DateTime<Utc>>,
}

/// The whole row, with what the client reads beside it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OnboardingProfile)]
pub struct Profile {
    #[schema(value_type = String, format = "uuid")]
    id: Uuid,
    user_id: UserId,
    is_completed: bool,
    completed_steps: Vec<String>,
    #[serde(with = "iso_option")]
    completed_at: Option<DateTime<Utc>>,
    version: i32,
    /// The first step that is missing.
    current_step: Option<&'static str>,
    /// What was saved with each step.
    #[schema(value_type = Object)]
    step_data: Value,
    user: Flags,
    /// The answers: columns of core §11, lists always, single values possibly null, JSON only where there is some.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    answers: Map<String, Value>,
    #[serde(with = "iso")]
    started_at: DateTime<Utc>,
    #[serde(with = "iso")]
    last_updated_at: DateTime<Utc>,
    #[serde(with = "iso")]
    created_at: DateTime<Utc>,
    #[serde(with = "iso")]
    updated_at: DateTime<Utc>,
}

impl From<Stored> for Profile {
    fn from(stored: Stored) -> Self {
        let user = Flags {
            onboarding_completed: stored.is_completed,
            onboarding_completed_at: stored.completed_at,
        };
        Self {
            current_step: stored.progress().next,
            answers: stored.named_answers(),
            id: stored.id,
            user_id: stored.user_id,
            is_completed: stored.is_completed,
            completed_steps: stored.completed_steps,
            completed_at: stored.completed_at,
            version: stored.version,
            step_data: stored.step_data,
            user,
            started_at: stored.created_at,
            last_updated_at: stored.updated_at,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}

/// How far a traveller has come.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProgressReport {
    user_id: UserId,
    completed_steps: Vec<String>,
    total_steps: usize,
    progress_percentage: i64,
    is_completed: bool,
    current_step: Option<&'static str>,
    #[serde(with = "iso_option", skip_serializing_if = "Option::is_none")]
    completed_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_recommended_step: Option<&'static str>,
}

impl From<Stored> for ProgressReport {
    fn from(stored: Stored) -> Self {
        let progress = stored.progress();
        Self {
            user_id: stored.user_id,
            completed_steps: stored.completed_steps,
            total_steps: STEPS.len(),
            progress_percentage: progress.percentage,
            is_completed: stored.is_completed,
            current_step: progress.next,
            completed_at: stored.completed_at,
            next_recommended_step: progress.next,
        }
    }
}
