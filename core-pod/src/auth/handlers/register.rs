//! `POST /api/v1/auth/register`: a new account, signed in at once (core §4.1).

use axum::{extract::State, response::Response};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use shared::{ApiError, auth::Role, db::violated_constraint, http::client_address::ClientAddress};
use utoipa::ToSchema;

use super::{Answer, SignedIn, User, origin_of, signed_in};
use crate::auth::{
    AuthState,
    breached::PasswordFilter,
    fields::{Fields, Problems, Text},
    model::{Account, Email, Owner, Password, PersonName, Username},
    recovery,
    sessions::{self, Occasion, Origin},
    store::{self, NewAccount},
};

/// What a sign-up sends.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegisterBody {
    #[serde(default)]
    #[schema(value_type = String, format = Email)]
    email: Text,
    /// At least 8 characters with a lower-case and an upper-case letter, a digit and one of `@$!%*?&`.
    #[serde(default)]
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 128)]
    password: Text,
    #[serde(default)]
    #[schema(value_type = String, min_length = 1, max_length = 50)]
    first_name: Text,
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 50)]
    last_name: Text,
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 3, max_length = 30)]
    username: Text,
}

/// A sign-up whose fields are all good.
struct SignUp {
    email: Email,
    password: Password,
    first_name: Option<PersonName>,
    last_name: Option<PersonName>,
    username: Option<Username>,
}

impl RegisterBody {
    fn parse(&self, require_first_name: bool, filter: &PasswordFilter) -> Result<SignUp, ApiError> {
        let mut problems = Problems::default();
        let email = problems.take(self.email.required("email", "Email is required"));
        let email = email.and_then(|raw| {
            let email = Email::parse(raw);
            if email.is_none() {
                problems.add("email", "Please provide a valid email address");
            }
            email
        });
        let password = problems.take(self.password.required("password", "Password is required"));
        let owner = Owner {
            email: email.as_ref().map_or("", Email::as_str),
            username: self.username.given(),
            first_name: self.first_name.given(),
            last_name: self.last_name.given(),
        };
        let password = password.and_then(|raw| problems.password("password", raw, &owner, filter));
        let first_name = optional(&mut problems, &self.first_name, "firstName", PersonName::parse);
        if require_first_name && matches!(self.first_name, Text::Absent) {
            problems.add("firstName", "First name is required");
        }
        let last_name = optional(&mut problems, &self.last_name, "lastName", PersonName::parse);
        let username = optional(&mut problems, &self.username, "username", Username::parse);
        match (email, password) {
            (Some(email), Some(password)) => {
                problems.refuse()?;
                Ok(SignUp {
                    email,
                    password,
                    first_name,
                    last_name,
                    username,
                })
            }
            _ => Err(problems.into_error()),
        }
    }
}

/// A field that may be absent; an empty one counts as given.
pub(super) fn optional<T>(
    problems: &mut Problems,
    field: &Text,
    path: &str,
    parse: impl FnOnce(&str) -> Result<T, &'static str>,
) -> Option<T> {
    match parse(problems.take(field.optional(path))??) {
        Ok(value) => Some(value),
        Err(message) => {
            problems.add(path, message);
            None
        }
    }
}

/// Makes an account and signs it in.
#[utoipa::path(
    post, path = "/api/v1/auth/register", tag = "auth", request_body = RegisterBody,
    responses(
        (status = 201, description = "Account created; sets the cookies refreshToken and ds_session", body = Answer<SignedIn>),
        (status = 400, description = "Validation failed"),
        (status = 409, description = "EMAIL_TAKEN or USERNAME_TAKEN"),
        (status = 429, description = "Too many sign-ups from this address"),
    ),
)]
pub async fn register(
    State(state): State<AuthState>,
    address: ClientAddress,
    headers: HeaderMap,
    Fields(body): Fields<RegisterBody>,
) -> Result<Response, ApiError> {
    let sign_up = body.parse(state.config.require_first_name, &state.filter)?;
    let password_hash = state.hasher.hash(sign_up.password.expose(), &state.sources).await?;
    let account = sign_up.account(&state);
    let (ip_address, user_agent) = origin_of(address, &headers);
    let origin = Origin {
        ip_address: &ip_address,
        user_agent: user_agent.as_deref(),
    };

    let mut tx = state.db.begin().await?;
    let new = NewAccount {
        id: account.id,
        email: &account.email,
        email_display: sign_up.email.as_typed(),
        username: account.username.as_deref(),
        password_hash: &password_hash,
        first_name: account.first_name.as_deref(),
        last_name: account.last_name.as_deref(),
        role: account.role,
        now: account.created_at,
    };
    store::insert_account(&mut tx, &new).await.map_err(taken)?;
    recovery::ask_to_verify(&mut tx, &state, &account, sign_up.email.as_typed()).await?;
    let opened = sessions::open(&mut tx, &state, &account, Occasion::SignUp, &origin).await?;
    tx.commit().await?;

    metrics::counter!("auth_registrations_total").increment(1);
    Ok(signed_in(
        &state,
        StatusCode::CREATED,
        "Account created successfully",
        User::from(account),
        opened,
    ))
}

impl SignUp {
    fn account(&self, state: &AuthState) -> Account {
        let now = state.sources.now();
        let text = |name: &Option<PersonName>| name.as_ref().map(|name| name.as_str().to_owned());
        Account {
            id: state.sources.id(),
            email: self.email.as_str().to_owned(),
            username: self.username.as_ref().map(|name| name.as_str().to_owned()),
            first_name: text(&self.first_name),
            last_name: text(&self.last_name),
            role: Role::User,
            is_verified: false,
            onboarding_completed_at: None,
            suspended_at: None,
            created_at: now,
            updated_at: now,
        }
    }
}

/// The unique constraints decide who was first.
fn taken(error: sqlx::Error) -> ApiError {
    match violated_constraint(&error) {
        Some("users_email_key") => ApiError::conflict("EMAIL_TAKEN", "Email already exists"),
        Some("users_username_key") => ApiError::conflict("USERNAME_TAKEN", "Username already exists"),
        _ => error.into(),
    }
}
