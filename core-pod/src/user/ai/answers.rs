//! What the AI integration answers. The preferences are put together in [`super::model`] from what is stored, and only
//! described here.
//!
//! contract: core §5.13

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use shared::{id::UserId, sources::iso};
use utoipa::ToSchema;

/// A traveller as the AI service may see them. Without the consent to personalisation the last three are left out.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AiPreferences)]
#[expect(dead_code, reason = "describes the answer; it is put together in the model")]
pub struct TravellerView {
    user_id: UserId,
    is_onboarding_completed: bool,
    #[schema(required = true)]
    onboarding_completed_at: Option<DateTime<Utc>>,
    #[schema(required = false)]
    last_updated: DateTime<Utc>,
    #[schema(required = false)]
    preferences: PreferencesBlocks,
    #[schema(required = false)]
    metadata: Metadata,
}

/// What the traveller answered; enumerations in lower case.
#[derive(ToSchema)]
#[schema(as = AiPreferenceBlocks)]
#[expect(dead_code, reason = "describes the answer; it is put together in the model")]
pub struct PreferencesBlocks {
    destinations: DestinationsBlock,
    budget: BudgetBlock,
    travel: TravelBlock,
    timing: TimingBlock,
    accommodation: AccommodationBlock,
    transport: TransportBlock,
    activities: ActivitiesBlock,
    constraints: ConstraintsBlock,
    experience: ExperienceBlock,
    climate: ClimateBlock,
    loyalty: LoyaltyBlock,
}

#[derive(ToSchema)]
#[schema(as = AiDestinations)]
#[expect(dead_code, reason = "describes the answer; it is put together in the model")]
struct DestinationsBlock {
    regions: Vec<String>,
    countries: Vec<String>,
    climates: Vec<String>,
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AiBudget)]
#[expect(dead_code, reason = "describes the answer; it is put together in the model")]
struct BudgetBlock {
    #[schema(required = true)]
    flexibility: Option<String>,
    #[schema(required = false)]
    global_range: BudgetRange,
    /// As the client kept it.
    by_category: Option<Value>,
}

#[derive(ToSchema)]
#[schema(as = AiBudgetRange)]
#[expect(dead_code, reason = "describes the answer; it is put together in the model")]
struct BudgetRange {
    min: f64,
    max: f64,
    /// Three letters.
    currency: String,
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AiTravel)]
#[expect(dead_code, reason = "describes the answer; it is put together in the model")]
struct TravelBlock {
    types: Vec<String>,
    purposes: Vec<String>,
    #[schema(required = true)]
    style: Option<String>,
    group_types: Vec<String>,
    travel_with_children: bool,
    children_ages: Vec<i64>,
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AiTiming)]
#[expect(dead_code, reason = "describes the answer; it is put together in the model")]
struct TimingBlock {
    preferred_seasons: Vec<String>,
    #[schema(required = true)]
    date_flexibility: Option<String>,
    /// As the client kept it.
    typical_duration: Option<Value>,
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AiAccommodation)]
#[expect(dead_code, reason = "describes the answer; it is put together in the model")]
struct AccommodationBlock {
    types: Vec<String>,
    #[schema(required = true)]
    comfort_level: Option<String>,
    #[schema(required = false)]
    service_level: String,
    #[schema(required = false)]
    privacy_preference: String,
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AiTransport)]
#[expect(dead_code, reason = "describes the answer; it is put together in the model")]
struct TransportBlock {
    preferred_airlines: Vec<String>,
    modes: Vec<String>,
    #[schema(required = false)]
    cabin_class: String,
    /// In per cent.
    #[schema(required = false)]
    budget_share: f64,
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AiActivities)]
#[expect(dead_code, reason = "describes the answer; it is put together in the model")]
struct ActivitiesBlock {
    types: Vec<String>,
    interests: Vec<String>,
    #[schema(required = true)]
    activity_level: Option<String>,
}

/// Diet, accessibility and health are empty for a service unless the consent was given in so many words.
#[derive(ToSchema)]
#[schema(as = AiConstraints)]
#[expect(dead_code, reason = "describes the answer; it is put together in the model")]
struct ConstraintsBlock {
    dietary: Vec<String>,
    accessibility: Vec<String>,
    health: Vec<String>,
    cultural: Vec<String>,
    languages: Vec<String>,
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AiExperience)]
#[expect(dead_code, reason = "describes the answer; it is put together in the model")]
struct ExperienceBlock {
    #[schema(required = true)]
    risk_tolerance: Option<String>,
    #[schema(required = false)]
    level: String,
    #[schema(required = false)]
    cultural_immersion: String,
}

#[derive(ToSchema)]
#[schema(as = AiClimate)]
#[expect(dead_code, reason = "describes the answer; it is put together in the model")]
struct ClimateBlock {
    preferences: Vec<String>,
    /// As the client kept them.
    tolerances: Option<Value>,
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AiLoyalty)]
#[expect(dead_code, reason = "describes the answer; it is put together in the model")]
struct LoyaltyBlock {
    payment_preferences: Vec<String>,
    #[schema(required = false)]
    programs: Vec<LoyaltyProgram>,
}

/// A programme; whatever a client kept of it.
#[derive(ToSchema)]
#[schema(as = AiLoyaltyProgram)]
#[expect(dead_code, reason = "describes the answer; it is put together in the model")]
struct LoyaltyProgram {
    program: Value,
    level: Value,
    priority: Option<Value>,
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AiMetadata)]
#[expect(dead_code, reason = "describes the answer; it is put together in the model")]
pub struct Metadata {
    completed_steps: Vec<String>,
    profile_version: i32,
    data_quality: DataQuality,
}

/// How much the answers are worth, in per cent.
#[derive(ToSchema)]
#[schema(as = AiDataQuality)]
#[expect(dead_code, reason = "describes the answer; it is put together in the model")]
struct DataQuality {
    #[schema(minimum = 0, maximum = 100)]
    completeness: i64,
    #[schema(minimum = 0, maximum = 100)]
    confidence: i64,
}

/// How much there is for the AI service to work with.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AiHealth)]
pub struct Report {
    pub total_users: i64,
    pub onboarding_stats: OnboardingStats,
    pub ai_integration: Integration,
    pub health_status: Verdict,
}

/// How far travellers have come.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AiOnboardingStats)]
pub struct OnboardingStats {
    pub users_with_completed_onboarding: i64,
    pub users_with_onboarding_profile: i64,
    pub profiles_completed: i64,
    /// In per cent of the profiles.
    pub completion_rate: f64,
}

/// How the AI service asks.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AiIntegration)]
pub struct Integration {
    pub requests_last24h: i64,
    /// Profiles in per cent of the accounts.
    pub data_availability_rate: f64,
    #[serde(with = "iso")]
    pub last_updated: DateTime<Utc>,
}

/// What to make of the figures.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AiHealthStatus)]
pub struct Verdict {
    /// `healthy` or `warning`.
    pub overall: &'static str,
    /// `good` or `needs_improvement`.
    pub data_quality: &'static str,
    /// Always `operational`.
    pub api_availability: &'static str,
}
