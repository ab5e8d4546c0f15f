//! `GET` and `PUT /api/v1/auth/profile`: the caller's account (core §4.3, §4.4).
//!
//! Only what a traveller may say of themselves can be written here: a role, a confirmation or a password in the body is
//! ignored like any other field nobody asked for.

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::{
    ApiError,
    auth::{AuthUser, Role},
    id::UserId,
    sources::iso,
};
use utoipa::ToSchema;

use super::{Answer, UserData, register::optional, user_not_found};
use crate::auth::{
    AuthState,
    client::{AccountError, Accounts},
    events,
    fields::{Fields, Problems, Text},
    model::{AccountDetails, BirthDate, Category, Changes, Email, Nationality, PersonName, PhoneNumber, Username},
    store,
};

/// The caller's account.
#[utoipa::path(
    get, path = "/api/v1/auth/profile", tag = "auth",
    responses(
        (status = 200, description = "The account", body = Answer<UserData>),
        (status = 401, description = "Not signed in"),
        (status = 404, description = "The account is gone"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn profile(caller: AuthUser, State(state): State<AuthState>) -> Result<Json<Answer<UserData>>, ApiError> {
    let account = store::find_account(state.db.pool(), caller.user)
        .await?
        .ok_or_else(user_not_found)?;
    Ok(Json(Answer::new(
        "Profile retrieved successfully",
        UserData { user: account.into() },
    )))
}

/// What to change; everything may be left out.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileBody {
    /// A new address is not confirmed.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Email)]
    email: Text,
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 50)]
    first_name: Text,
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 50)]
    last_name: Text,
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 3, max_length = 30)]
    username: Text,
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 5, max_length = 20)]
    phone_number: Text,
    /// `YYYY-MM-DD` or an ISO instant.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    date_of_birth: Text,
    /// ISO 3166 alpha-2 or a name.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 60)]
    nationality: Text,
    #[serde(default)]
    #[schema(value_type = Option<Category>)]
    user_category: Text,
}

impl ProfileBody {
    fn parse(&self, now: DateTime<Utc>) -> Result<Changes, ApiError> {
        let mut problems = Problems::default();
        let email = optional(&mut problems, &self.email, "email", |raw| {
            Email::parse(raw).ok_or("Please provide a valid email address")
        });
        let changes = Changes {
            email,
            first_name: optional(&mut problems, &self.first_name, "firstName", PersonName::parse).map(Some),
            last_name: optional(&mut problems, &self.last_name, "lastName", PersonName::parse).map(Some),
            username: optional(&mut problems, &self.username, "username", Username::parse).map(Some),
            phone_number: optional(&mut problems, &self.phone_number, "phoneNumber", PhoneNumber::parse).map(Some),
            date_of_birth: optional(&mut problems, &self.date_of_birth, "dateOfBirth", |raw| {
                BirthDate::parse(raw, now)
            })
            .map(Some),
            nationality: optional(&mut problems, &self.nationality, "nationality", Nationality::parse).map(Some),
            user_category: optional(&mut problems, &self.user_category, "userCategory", str::parse),
            ..Changes::default()
        };
        problems.refuse()?;
        Ok(changes)
    }
}

/// The account with what only its owner sees.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnUser {
    id: UserId,
    email: String,
    username: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    phone_number: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    date_of_birth: Option<BirthDate>,
    nationality: Option<String>,
    user_category: Category,
    is_verified: bool,
    role: Role,
    #[serde(with = "iso")]
    created_at: DateTime<Utc>,
    #[serde(with = "iso")]
    updated_at: DateTime<Utc>,
}

impl From<AccountDetails> for OwnUser {
    fn from(account: AccountDetails) -> Self {
        Self {
            id: account.id,
            date_of_birth: account.birth_date(),
            email: account.email,
            username: account.username,
            first_name: account.first_name,
            last_name: account.last_name,
            phone_number: account.phone_number,
            nationality: account.nationality,
            user_category: account.user_category,
            is_verified: account.is_verified,
            role: account.role,
            created_at: account.created_at,
            updated_at: account.updated_at,
        }
    }
}

/// The account alone.
#[derive(Serialize, ToSchema)]
pub struct OwnUserData {
    user: OwnUser,
}

/// Changes the caller's account.
#[utoipa::path(
    put, path = "/api/v1/auth/profile", tag = "auth", request_body = ProfileBody,
    responses(
        (status = 200, description = "The account as it is now", body = Answer<OwnUserData>),
        (status = 400, description = "Validation failed, or CONFLICT: the address or user name is taken"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "REAUTH_REQUIRED: another address needs a recent proof, of accounts with a second factor"),
        (status = 404, description = "The account is gone"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn change_profile(
    caller: AuthUser,
    State(state): State<AuthState>,
    Fields(body): Fields<ProfileBody>,
) -> Result<Json<Answer<OwnUserData>>, ApiError> {
    let changes = body.parse(state.sources.now())?;
    let accounts = Accounts::new(state);
    accounts.require_recent_for(&caller, &changes).await?;
    let outcome = accounts
        .change_as(caller.user, &changes, events::AUTH_SERVICE)
        .await
        .map_err(|error| match error {
            AccountError::EmailTaken | AccountError::UsernameTaken => {
                ApiError::bad_request("Email or username already exists").with_code("CONFLICT")
            }
            other => other.into(),
        })?;
    Ok(Json(Answer::new(
        "Profile updated successfully",
        OwnUserData {
            user: outcome.after.into(),
        },
    )))
}
