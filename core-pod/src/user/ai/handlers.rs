//! The routes of the AI integration.
//!
//! contract: core §5.13

use std::collections::HashMap;

use axum::{
    Json,
    extract::{FromRef, FromRequestParts, State},
};
use chrono::{DateTime, TimeDelta, Utc};
use http::request::Parts;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::{
    ApiError,
    auth::{AuthUser, Authenticator, ServiceCaller},
    db::observed,
    http::{Body, Path},
    id::UserId,
    sources::iso,
};
use utoipa::ToSchema;

use super::{
    answers::{Integration, OnboardingStats, Report, TravellerView, Verdict},
    model::{Reader, Traveller},
    store,
};
use crate::user::{UserState, callers, gdpr};

/// The most accounts of one request.
const MAX_BATCH: usize = 100;

/// `{success, data, timestamp}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Stamped<T> {
    success: bool,
    data: T,
    #[serde(with = "iso")]
    timestamp: DateTime<Utc>,
}

impl<T> Stamped<T> {
    fn new(data: T, timestamp: DateTime<Utc>) -> Json<Self> {
        Json(Self {
            success: true,
            data,
            timestamp,
        })
    }
}

/// Another service, or a traveller who asks about themselves.
pub enum Caller {
    Service,
    Traveller(AuthUser),
}

impl<S> FromRequestParts<S> for Caller
where
    S: Send + Sync,
    Authenticator: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let authenticator = Authenticator::from_ref(state);
        match authenticator.0.service(&parts.headers).await {
            Ok(service) => {
                callers::require_partner(&service)?;
                Ok(Self::Service)
            }
            Err(error) if error.status().is_server_error() => Err(error),
            Err(_) => {
                let traveller = authenticator.0.user(&parts.method, &parts.headers).await?;
                traveller
                    .map(Self::Traveller)
                    .ok_or_else(|| ApiError::unauthenticated("TOKEN_MISSING", "Access token required"))
            }
        }
    }
}

fn unknown_user() -> ApiError {
    ApiError::not_found("User not found").with_code("USER_NOT_FOUND")
}

/// The travel preferences of one account.
#[utoipa::path(
    get, path = "/api/v1/ai/users/{id}/preferences", tag = "internal",
    params(("id" = String, Path, description = "The account")),
    responses(
        (status = 200, description = "Preferences, as far as consent goes", body = Stamped<TravellerView>),
        (status = 401, description = "Neither a service token nor signed in"),
        (status = 403, description = "Another account, or not a service that may do this"),
        (status = 404, description = "There is no such account"),
    ),
    security(("service" = []), ("bearer" = [])),
)]
pub async fn preferences(
    caller: Caller,
    State(state): State<UserState>,
    Path(id): Path<String>,
) -> Result<Json<Stamped<Value>>, ApiError> {
    one(&state, &caller, &id).await
}

/// The same under the path that the original AI service asks for.
#[utoipa::path(
    get, path = "/api/v1/users/{id}/ai-preferences", tag = "internal",
    params(("id" = String, Path, description = "The account")),
    responses(
        (status = 200, description = "Preferences, as far as consent goes", body = Stamped<TravellerView>),
        (status = 401, description = "Neither a service token nor signed in"),
        (status = 403, description = "Another account, or not a service that may do this"),
        (status = 404, description = "There is no such account"),
    ),
    security(("service" = []), ("bearer" = [])),
)]
pub async fn preferences_by_alias(
    caller: Caller,
    State(state): State<UserState>,
    Path(id): Path<String>,
) -> Result<Json<Stamped<Value>>, ApiError> {
    one(&state, &caller, &id).await
}

async fn one(state: &UserState, caller: &Caller, id: &str) -> Result<Json<Stamped<Value>>, ApiError> {
    let user = id.parse::<UserId>();
    let reader = match caller {
        Caller::Service => Reader::Service,
        Caller::Traveller(own) if user.as_ref().is_ok_and(|user| *user == own.user) => Reader::Owner,
        Caller::Traveller(_) => return Err(ApiError::forbidden("Access denied")),
    };
    let user = user.map_err(|_| unknown_user())?;
    let found = observed("user.ai.preferences", store::find(state.db.pool(), &[user])).await?;
    let traveller = found.into_iter().next().ok_or_else(unknown_user)?;
    if reader == Reader::Service {
        let counted = json!({ "completed": traveller.is_completed, "completeness": traveller.completeness() });
        note(state, "ai_preferences_requested", &counted).await;
    }
    Ok(Stamped::new(traveller.shown_to(reader), state.sources.now()))
}

/// Which accounts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchRequest {
    /// 1 to 100 ids.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    user_ids: Value,
}

/// Several accounts.
#[derive(Debug, Serialize, ToSchema)]
pub struct Batch {
    #[schema(value_type = Vec<TravellerView>)]
    users: Vec<Value>,
    meta: BatchMeta,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct BatchMeta {
    requested: usize,
    found: usize,
    not_found: Vec<String>,
}

/// The travel preferences of up to a hundred accounts, in the order of the request.
#[utoipa::path(
    post, path = "/api/v1/ai/users/preferences/batch", tag = "internal", request_body = BatchRequest,
    responses(
        (status = 200, description = "Those that exist", body = Stamped<Batch>),
        (status = 400, description = "No list, an empty one, or more than a hundred"),
        (status = 401, description = "No service token"),
        (status = 403, description = "Not a service that may do this"),
    ),
    security(("service" = [])),
)]
pub async fn batch(
    caller: ServiceCaller,
    State(state): State<UserState>,
    Body(request): Body<BatchRequest>,
) -> Result<Json<Stamped<Batch>>, ApiError> {
    callers::require_partner(&caller)?;
    let named = named(&request.user_ids)?;
    let users: Vec<UserId> = named.iter().filter_map(|id| id.parse().ok()).collect();
    let found = observed("user.ai.batch", store::find(state.db.pool(), &users)).await?;
    let mut by_id: HashMap<UserId, Traveller> = found.into_iter().map(|found| (found.user, found)).collect();
    let (mut shown, mut not_found, mut completeness) = (Vec::new(), Vec::new(), 0);
    for id in &named {
        match id.parse().ok().and_then(|user| by_id.remove(&user)) {
            Some(traveller) => {
                completeness += traveller.completeness();
                shown.push(traveller.shown_to(Reader::Service));
            }
            None => not_found.push(id.clone()),
        }
    }
    let average = i64::try_from(shown.len())
        .ok()
        .and_then(|count| completeness.checked_div(count));
    let counted = json!({ "requested": named.len(), "found": shown.len(), "averageCompleteness": average });
    note(&state, "ai_batch_preferences_requested", &counted).await;
    let meta = BatchMeta {
        requested: named.len(),
        found: shown.len(),
        not_found,
    };
    Ok(Stamped::new(Batch { users: shown, meta }, state.sources.now()))
}

/// The ids of a request, each once.
fn named(given: &Value) -> Result<Vec<String>, ApiError> {
    let required = || ApiError::bad_request("User IDs array is required");
    let items = given
        .as_array()
        .filter(|items| !items.is_empty())
        .ok_or_else(required)?;
    if items.len() > MAX_BATCH {
        return Err(ApiError::bad_request(format!(
            "At most {MAX_BATCH} user IDs may be requested"
        )));
    }
    let mut named: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        let id = item.as_str().ok_or_else(required)?;
        if !named.iter().any(|other| other == id) {
            named.push(id.to_owned());
        }
    }
    Ok(named)
}

/// Counts a request of the AI service; it is about the service, so no account is named. Counting never fails a request.
async fn note(state: &UserState, event: &str, data: &Value) {
    let noted = async {
        let mut conn = state.db.acquire().await?;
        gdpr::consent::track(&mut conn, &state.sources, None, event, data).await
    };
    if let Err(error) = noted.await {
        tracing::debug!(error = error.to_string(), "a request of the AI service was not counted");
    }
}

/// How much there is for the AI service to work with.
#[utoipa::path(
    get, path = "/api/v1/ai/health", tag = "internal",
    responses(
        (status = 200, description = "Figures of onboarding and of this integration", body = Stamped<Report>),
        (status = 401, description = "No service token"),
        (status = 403, description = "Not a service that may do this"),
    ),
    security(("service" = [])),
)]
pub async fn health(caller: ServiceCaller, State(state): State<UserState>) -> Result<Json<Stamped<Report>>, ApiError> {
    callers::require_partner(&caller)?;
    let now = state.sources.now();
    let figures = store::figures(state.db.pool(), now - TimeDelta::days(1)).await?;
    let completion = per_cent(figures.completed_profiles, figures.profiles);
    let is_good = completion >= 50.0;
    let report = Report {
        total_users: figures.accounts,
        onboarding_stats: OnboardingStats {
            users_with_completed_onboarding: figures.completed_accounts,
            users_with_onboarding_profile: figures.profiles,
            profiles_completed: figures.completed_profiles,
            completion_rate: completion,
        },
        ai_integration: Integration {
            requests_last24h: figures.requests,
            data_availability_rate: per_cent(figures.profiles, figures.accounts),
            last_updated: now,
        },
        health_status: Verdict {
            overall: if is_good || figures.profiles == 0 {
                "healthy"
            } else {
                "warning"
            },
            data_quality: if is_good { "good" } else { "needs_improvement" },
            api_availability: "operational",
        },
    };
    Ok(Stamped::new(report, now))
}

/// With two decimals; nothing of nothing is nothing.
#[expect(clippy::cast_precision_loss, reason = "counts of rows stay far below 2^52")]
fn per_cent(part: i64, whole: i64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    (part as f64 / whole as f64 * 10_000.0).round() / 100.0
}
