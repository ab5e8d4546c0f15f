//! The routes of onboarding.
//!
//! contract: core §5.5

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use shared::{
    ApiError,
    auth::AuthUser,
    events::{NewEvent, Topic, outbox},
    http::Body,
    id::UserId,
    sources::{Sources, iso, iso_option},
};
use utoipa::ToSchema;

use super::{
    answers::{Answers, Problem},
    model::{Profile, ProgressReport, Stored},
    steps::{self, MOST_STEPS},
    store::{self, Save},
};
use crate::user::{
    User, UserState,
    envelope::{Answer, Told},
    gdpr,
};

fn not_found() -> ApiError {
    ApiError::not_found("Onboarding profile not found")
}

/// The caller's onboarding.
#[utoipa::path(
    get, path = "/api/v1/users/onboarding", tag = "onboarding",
    responses(
        (status = 200, description = "Everything that was answered", body = Answer<Profile>),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "Not begun"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn read(caller: AuthUser, State(state): State<UserState>) -> Result<Json<Answer<Profile>>, ApiError> {
    let stored = store::find(state.db.pool(), caller.user).await?;
    Ok(Answer::new(stored.ok_or_else(not_found)?.into()))
}

/// Begins onboarding. A body is ignored, and the answer is 200, not 201.
#[utoipa::path(
    post, path = "/api/v1/users/onboarding", tag = "onboarding",
    responses(
        (status = 200, description = "Begun", body = Told<Profile>),
        (status = 401, description = "Not signed in"),
        (status = 409, description = "Begun before"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn begin(caller: AuthUser, State(state): State<UserState>) -> Result<Json<Told<Profile>>, ApiError> {
    create(&state, caller.user).await
}

/// The same under the name of the documents.
#[utoipa::path(
    post, path = "/api/v1/users/onboarding/init", tag = "onboarding",
    responses(
        (status = 200, description = "Begun", body = Told<Profile>),
        (status = 401, description = "Not signed in"),
        (status = 409, description = "Begun before"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn begin_by_init(caller: AuthUser, State(state): State<UserState>) -> Result<Json<Told<Profile>>, ApiError> {
    create(&state, caller.user).await
}

async fn create(state: &UserState, user: UserId) -> Result<Json<Told<Profile>>, ApiError> {
    let (id, now) = (state.sources.uuid_v7(), state.sources.now());
    let begun = store::insert(state.db.pool(), id, user, now).await?;
    let begun = begun.ok_or_else(|| ApiError::conflict("ONBOARDING_EXISTS", "Onboarding profile already exists"))?;
    Ok(Told::new("Onboarding profile created successfully", begun.into()))
}

/// One step. Read as loosely as it comes and checked by hand, because each thing that is missing has a text of its own.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepRequest {
    /// One of the thirteen, or a name of the client's own.
    #[serde(default)]
    #[schema(value_type = String)]
    step: Value,
    /// The answers: columns of core §11 or their aliases; other keys are ignored.
    #[serde(default)]
    #[schema(value_type = Object)]
    data: Value,
    /// Whether the step counts as completed.
    mark_completed: Option<bool>,
}

/// Saves a step.
#[utoipa::path(
    put, path = "/api/v1/users/onboarding/step", tag = "onboarding", request_body = StepRequest,
    responses(
        (status = 200, description = "Saved", body = Told<Profile>),
        (status = 400, description = "`validationErrors` says what is not valid"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "Not begun"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn save_step(
    caller: AuthUser,
    State(state): State<UserState>,
    Body(request): Body<StepRequest>,
) -> Result<Json<Told<Profile>>, ApiError> {
    let completed = request.mark_completed.unwrap_or(false);
    save(&state, caller.user, &request, completed).await
}

/// Saves a step, under the name of the documents.
#[utoipa::path(
    put, path = "/api/v1/users/onboarding", tag = "onboarding", request_body = StepRequest,
    responses(
        (status = 200, description = "Saved", body = Told<Profile>),
        (status = 400, description = "`validationErrors` says what is not valid"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "Not begun"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn update(
    caller: AuthUser,
    State(state): State<UserState>,
    Body(request): Body<StepRequest>,
) -> Result<Json<Told<Profile>>, ApiError> {
    let completed = request.mark_completed.unwrap_or(false);
    save(&state, caller.user, &request, completed).await
}

/// Saves a step and counts it as completed unless the request says otherwise.
#[utoipa::path(
    post, path = "/api/v1/users/onboarding/progress", tag = "onboarding", request_body = StepRequest,
    responses(
        (status = 200, description = "Saved", body = Told<Profile>),
        (status = 400, description = "`validationErrors` says what is not valid"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "Not begun"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn save_progress(
    caller: AuthUser,
    State(state): State<UserState>,
    Body(request): Body<StepRequest>,
) -> Result<Json<Told<Profile>>, ApiError> {
    let completed = request.mark_completed.unwrap_or(true);
    save(&state, caller.user, &request, completed).await
}

async fn save(
    state: &UserState,
    user: UserId,
    request: &StepRequest,
    completed: bool,
) -> Result<Json<Told<Profile>>, ApiError> {
    let (step, answers) = checked(request)?;
    let now = state.sources.now();
    let mut tx = state.db.begin().await?;
    let before = store::lock(&mut tx, user).await?;
    let before = before.ok_or_else(|| ApiError::not_found("Onboarding profile not found. Create profile first."))?;
    require_room(&before, step)?;
    let save = Save {
        step,
        completed,
        columns: &answers.columns,
        named: &answers.named,
    };
    let saved = store::save(&mut tx, user, &save, now).await?;
    let told = preferences_updated(&state.sources, &saved, Some(step), now);
    outbox::append::<User>(&mut tx, &[told]).await?;
    tx.commit().await?;
    Ok(Told::new(format!("Step '{step}' updated successfully"), saved.into()))
}

fn checked(request: &StepRequest) -> Result<(&str, Answers), ApiError> {
    let step = request.step.as_str().map(str::trim).filter(|step| !step.is_empty());
    let step = step.ok_or_else(|| ApiError::bad_request("Step is required"))?;
    let data = request.data.as_object();
    let data = data.ok_or_else(|| ApiError::bad_request("Step data is required"))?;
    steps::check_name(step).map_err(|problem| invalid(step, &[problem]))?;
    let answers = Answers::read(step, data).map_err(|problems| invalid(step, &problems))?;
    Ok((step, answers))
}

/// A step of a client's own is remembered as well, but not any number of them.
fn require_room(before: &Stored, step: &str) -> Result<(), ApiError> {
    let kept = before.step_data.as_object().map_or(0, Map::len);
    let is_new = before.step_data.get(step).is_none();
    if is_new && kept >= MOST_STEPS {
        return Err(invalid(step, &[Problem::new("step", "There are too many steps")]));
    }
    Ok(())
}

fn invalid(step: &str, problems: &[Problem]) -> ApiError {
    let items = problems.iter().map(|problem| {
        let Problem { field, error, value } = problem;
        json!({ "step": step, "field": field, "error": error, "value": value })
    });
    ApiError::bad_request("Validation failed").with_extra("validationErrors", items.collect())
}

/// How far the caller has come.
#[utoipa::path(
    get, path = "/api/v1/users/onboarding/progress", tag = "onboarding",
    responses(
        (status = 200, description = "Steps and percentage", body = Answer<ProgressReport>),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "Not begun"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn progress(
    caller: AuthUser,
    State(state): State<UserState>,
) -> Result<Json<Answer<ProgressReport>>, ApiError> {
    let stored = store::find(state.db.pool(), caller.user).await?;
    Ok(Answer::new(stored.ok_or_else(not_found)?.into()))
}

/// What completing gives.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Completion {
    message: &'static str,
    #[serde(with = "iso")]
    completed_at: DateTime<Utc>,
    user: CompletedAccount,
    profile: CompletedProfile,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CompletedAccount {
    id: UserId,
    onboarding_completed: bool,
    #[serde(with = "iso_option")]
    onboarding_completed_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CompletedProfile {
    is_completed: bool,
    #[serde(with = "iso")]
    completed_at: DateTime<Utc>,
}

const COMPLETED: &str = "Onboarding completed successfully";

/// Completes onboarding: the profile and the account's flag change together. Completing again keeps the first time.
#[utoipa::path(
    post, path = "/api/v1/users/onboarding/complete", tag = "onboarding",
    responses(
        (status = 200, description = "Completed", body = Told<Completion>),
        (status = 400, description = "Required steps are missing"),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "Not begun"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn complete(caller: AuthUser, State(state): State<UserState>) -> Result<Json<Told<Completion>>, ApiError> {
    let mut tx = state.db.begin().await?;
    let stored = store::lock(&mut tx, caller.user).await?.ok_or_else(not_found)?;
    let at = if let Some(before) = stored.completed_at {
        before
    } else {
        let now = finish(&mut tx, &state, stored).await?;
        tx.commit().await?;
        now
    };
    let completion = Completion {
        message: COMPLETED,
        completed_at: at,
        user: CompletedAccount {
            id: caller.user,
            onboarding_completed: true,
            onboarding_completed_at: Some(at),
        },
        profile: CompletedProfile {
            is_completed: true,
            completed_at: at,
        },
    };
    Ok(Told::new(COMPLETED, completion))
}

async fn finish(tx: &mut sqlx::PgConnection, state: &UserState, stored: Stored) -> Result<DateTime<Utc>, ApiError> {
    let missing = steps::missing(&stored.completed_steps);
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(ApiError::bad_request(format!(
            "Cannot complete onboarding. Missing required steps: {missing}"
        )));
    }
    let (user, now) = (stored.user_id, state.sources.now());
    store::complete(tx, user, now).await?;
    if !store::flag_account(tx, user, Some(now)).await? {
        return Err(ApiError::not_found("User not found").with_code("USER_NOT_FOUND"));
    }
    let counted = json!({ "completedSteps": stored.completed_steps.len() });
    gdpr::consent::track(tx, &state.sources, Some(user), "onboarding_completed", &counted).await?;
    let completed = Stored {
        is_completed: true,
        ..stored
    };
    let told = preferences_updated(&state.sources, &completed, None, now);
    outbox::append::<User>(tx, &[told]).await?;
    Ok(now)
}

/// Throws all answers away and takes the account's flag back.
#[utoipa::path(
    delete, path = "/api/v1/users/onboarding", tag = "onboarding",
    responses(
        (status = 200, description = "Deleted", body = Told<Option<bool>>),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "Not begun"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn discard(caller: AuthUser, State(state): State<UserState>) -> Result<Json<Told<Option<bool>>>, ApiError> {
    let now = state.sources.now();
    let mut tx = state.db.begin().await?;
    let stored = store::lock(&mut tx, caller.user).await?.ok_or_else(not_found)?;
    store::delete(&mut tx, caller.user).await?;
    store::flag_account(&mut tx, caller.user, None).await?;
    let emptied = Stored {
        is_completed: false,
        completed_steps: Vec::new(),
        ..stored
    };
    let told = preferences_updated(&state.sources, &emptied, None, now);
    outbox::append::<User>(&mut tx, &[told]).await?;
    tx.commit().await?;
    Ok(Told::new("Onboarding profile deleted successfully", None))
}

/// `user.preferences.updated`: tells the AI service to read the preferences again (ai §6.1). The answers themselves stay
/// out of the event; who may read them is decided where they are read.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PreferencesUpdated<'a> {
    user_id: UserId,
    preferences: OnboardingChanged<'a>,
    #[serde(with = "iso")]
    updated_at: DateTime<Utc>,
}

#[derive(Serialize)]
struct OnboardingChanged<'a> {
    onboarding: OnboardingState<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OnboardingState<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'a str>,
    is_completed: bool,
    completed_steps: &'a [String],
    progress_percentage: i64,
}

fn preferences_updated(sources: &Sources, saved: &Stored, step: Option<&str>, now: DateTime<Utc>) -> NewEvent {
    let payload = PreferencesUpdated {
        user_id: saved.user_id,
        preferences: OnboardingChanged {
            onboarding: OnboardingState {
                step,
                is_completed: saved.is_completed,
                completed_steps: &saved.completed_steps,
                progress_percentage: saved.progress().percentage,
            },
        },
        updated_at: now,
    };
    NewEvent::new::<User>(sources, Topic::UserPreferencesUpdated, saved.user_id, &payload)
}
