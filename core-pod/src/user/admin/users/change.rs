//! The routes that change accounts, each by asking their owner.
//!
//! contract: core §5.12 (Users), §2.5 (sessions that end), §2.6 (unlock), §13 line 21. Nobody locks themselves out: one's own
//! role, suspension and deletion are refused here, those of the last administrator by auth, under a lock.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::{
    ApiError,
    auth::Role,
    error::FieldError,
    http::{Body, Path},
    id::UserId,
};
use utoipa::ToSchema;

use super::{handlers::user_id, model::Changed};
use crate::{
    auth::client::{AccountDetails, Changes, Email, PersonName},
    user::{
        UserState,
        admin::{access::Admin, answers::Answer},
        audit::Trail,
    },
};

const MAX_REASON: usize = 500;

type Reply<T> = Result<Json<Answer<T>>, ApiError>;

/// What to change; what is absent stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = AdminEditUser)]
pub struct EditBody {
    /// Null empties it.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    first_name: Option<Value>,
    /// Null empties it.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    last_name: Option<Value>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    email: Option<Value>,
    /// `USER`, `ADMIN`, `MODERATOR`.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    role: Option<Value>,
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<bool>)]
    is_verified: Option<Value>,
    /// `LEISURE`, `BUSINESS`.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    user_category: Option<Value>,
}

/// Null is something that was given.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl EditBody {
    fn changes(&self) -> Result<Changes, ApiError> {
        let mut errors = Vec::new();
        let mut changes = Changes::default();
        for (path, value, change) in [
            ("firstName", &self.first_name, &mut changes.first_name),
            ("lastName", &self.last_name, &mut changes.last_name),
        ] {
            match value {
                None => {}
                Some(Value::Null) => *change = Some(None),
                Some(Value::String(text)) => match PersonName::parse(text) {
                    Ok(name) => *change = Some(Some(name)),
                    Err(problem) => errors.push(FieldError::new(path, problem)),
                },
                Some(_) => errors.push(FieldError::new(path, "must be a string")),
            }
        }
        match &self.email {
            None => {}
            Some(value) => match value.as_str().and_then(Email::parse) {
                Some(email) => changes.email = Some(email),
                None => errors.push(FieldError::new("email", "Please provide a valid email")),
            },
        }
        let mut word = |path: &'static str, value: &Option<Value>| {
            let text = value.as_ref()?;
            if text.is_string() {
                return Some(text.clone());
            }
            errors.push(FieldError::new(path, "must be a string"));
            None
        };
        let (role, category) = (word("role", &self.role), word("userCategory", &self.user_category));
        if let Some(role) = role {
            match serde_json::from_value(role) {
                Ok(role) => changes.role = Some(role),
                Err(_) => errors.push(FieldError::new("role", "must be USER, ADMIN or MODERATOR")),
            }
        }
        if let Some(category) = category {
            match serde_json::from_value(category) {
                Ok(category) => changes.user_category = Some(category),
                Err(_) => errors.push(FieldError::new("userCategory", "must be LEISURE or BUSINESS")),
            }
        }
        match &self.is_verified {
            None => {}
            Some(Value::Bool(verified)) => changes.is_verified = Some(*verified),
            Some(_) => errors.push(FieldError::new("isVerified", "must be true or false")),
        }
        if errors.is_empty() {
            Ok(changes)
        } else {
            Err(ApiError::invalid(errors))
        }
    }
}

/// What the log of accesses keeps a digest of.
fn state_of(account: &AccountDetails) -> Value {
    json!({
        "email": account.email, "firstName": account.first_name, "lastName": account.last_name, "role": account.role,
        "isVerified": account.is_verified, "userCategory": account.user_category, "isSuspended": account.is_suspended(),
        "suspendedReason": account.suspended_reason,
    })
}

/// Changes an account. A new role ends its sessions.
#[utoipa::path(
    put, path = "/api/v1/admin/users/{id}", tag = "admin", request_body = EditBody,
    params(("id" = String, Path, description = "the account")),
    responses(
        (status = 200, description = "The account", body = Answer<Changed>),
        (status = 400, description = "A bad value, or one's own role"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
        (status = 404, description = "There is no such account"),
        (status = 409, description = "`Email already in use`; `LAST_ADMIN`"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn put(
    Admin(admin): Admin,
    State(state): State<UserState>,
    Path(id): Path<String>,
    trail: Trail,
    Body(body): Body<EditBody>,
) -> Reply<Changed> {
    let (user, changes) = (user_id(&id)?, body.changes()?);
    if user == admin.user && changes.role.is_some_and(|role| role != Role::Admin) {
        return Err(ApiError::bad_request("Cannot change your own role"));
    }
    let outcome = state.accounts.change(user, &changes).await?;
    trail.changed(&state_of(&outcome.before), &state_of(&outcome.after));
    Ok(Answer::of(outcome.after.into()))
}

/// Why an account is suspended or deleted.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = AdminReason)]
pub struct Reason {
    /// At most 500 characters.
    #[schema(value_type = Option<String>)]
    reason: Value,
}

impl Reason {
    fn text(&self) -> Result<Option<&str>, ApiError> {
        match &self.reason {
            Value::Null => Ok(None),
            Value::String(text) if text.trim().is_empty() => Ok(None),
            Value::String(text) if text.chars().count() <= MAX_REASON && !text.contains('\0') => Ok(Some(text.trim())),
            _ => {
                let problem = format!("must be a text of at most {MAX_REASON} characters");
                Err(ApiError::invalid(vec![FieldError::new("reason", problem)]))
            }
        }
    }
}

async fn suspend(admin: UserId, state: &UserState, id: &str, trail: &Trail, body: &Reason) -> Reply<Changed> {
    let (user, reason) = (user_id(id)?, body.text()?);
    if user == admin {
        return Err(ApiError::bad_request("Cannot suspend your own account"));
    }
    let after = state.accounts.suspend(user, reason).await?;
    trail.because(reason.unwrap_or_default());
    trail.changed(&json!({ "isSuspended": false }), &state_of(&after));
    Ok(Answer::of(after.into()))
}

async fn reactivate(state: &UserState, id: &str, trail: &Trail) -> Reply<Changed> {
    let after = state.accounts.reactivate(user_id(id)?).await?;
    trail.changed(&json!({ "isSuspended": true }), &state_of(&after));
    Ok(Answer::of(after.into()))
}

/// Suspends an account: it cannot sign in, and its sessions end at once.
#[utoipa::path(
    put, path = "/api/v1/admin/users/{id}/suspend", tag = "admin", request_body = Reason,
    params(("id" = String, Path, description = "the account")),
    responses(
        (status = 200, description = "The account", body = Answer<Changed>),
        (status = 400, description = "`Cannot suspend your own account`"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
        (status = 404, description = "There is no such account"),
        (status = 409, description = "`User already suspended`; `LAST_ADMIN`"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn put_suspend(
    Admin(admin): Admin,
    State(state): State<UserState>,
    Path(id): Path<String>,
    trail: Trail,
    Body(body): Body<Reason>,
) -> Reply<Changed> {
    suspend(admin.user, &state, &id, &trail, &body).await
}

/// The same by POST.
#[utoipa::path(
    post, path = "/api/v1/admin/users/{id}/suspend", tag = "admin", request_body = Reason,
    params(("id" = String, Path, description = "the account")),
    responses(
        (status = 200, description = "The account", body = Answer<Changed>),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
        (status = 404, description = "There is no such account"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn post_suspend(
    Admin(admin): Admin,
    State(state): State<UserState>,
    Path(id): Path<String>,
    trail: Trail,
    Body(body): Body<Reason>,
) -> Reply<Changed> {
    suspend(admin.user, &state, &id, &trail, &body).await
}

macro_rules! reactivation {
    ($($(#[$doc:meta])* $name:ident: $method:ident $path:literal;)+) => {$(
        $(#[$doc])*
        #[utoipa::path(
            $method, path = $path, tag = "admin",
            params(("id" = String, Path, description = "the account")),
            responses(
                (status = 200, description = "The account", body = Answer<Changed>),
                (status = 401, description = "Not signed in"),
                (status = 403, description = "Not an administrator"),
                (status = 404, description = "There is no such account"),
                (status = 409, description = "`User is not suspended`"),
            ),
            security(("bearer" = []), ("session_cookie" = [])),
        )]
        pub async fn $name(
            _: Admin,
            State(state): State<UserState>,
            Path(id): Path<String>,
            trail: Trail,
        ) -> Reply<Changed> {
            reactivate(&state, &id, &trail).await
        }
    )+};
}

reactivation! {
    /// Takes a suspension back.
    put_reactivate: put "/api/v1/admin/users/{id}/reactivate";
    /// The same by POST.
    post_reactivate: post "/api/v1/admin/users/{id}/reactivate";
    /// The same under the name of the documentation.
    put_unsuspend: put "/api/v1/admin/users/{id}/unsuspend";
    /// The same under the name of the documentation, by POST.
    post_unsuspend: post "/api/v1/admin/users/{id}/unsuspend";
}

/// An account that was changed or is gone.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AdminUserId)]
pub struct Id {
    id: UserId,
}

/// Ends a lockout after too many wrong passwords before its time.
#[utoipa::path(
    put, path = "/api/v1/admin/users/{id}/unlock", tag = "admin",
    params(("id" = String, Path, description = "the account")),
    responses(
        (status = 200, description = "It may sign in again", body = Answer<Id>),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator"),
        (status = 404, description = "There is no such account"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn put_unlock(_: Admin, State(state): State<UserState>, Path(id): Path<String>) -> Reply<Id> {
    let user = user_id(&id)?;
    state.accounts.unlock(user).await?;
    Ok(Answer::of(Id { id: user }))
}

/// Takes all second factors of an account away, for an owner who lost them, and ends its sessions.
#[utoipa::path(
    delete, path = "/api/v1/admin/users/{id}/mfa", tag = "admin",
    params(("id" = String, Path, description = "the account")),
    responses(
        (status = 200, description = "The password is enough again", body = Answer<Id>),
        (status = 400, description = "`Cannot reset your own second factors`"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator, or `REAUTH_REQUIRED`"),
        (status = 404, description = "There is no such account"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn delete_mfa(
    Admin(admin): Admin,
    State(state): State<UserState>,
    Path(id): Path<String>,
    trail: Trail,
) -> Reply<Id> {
    let user = user_id(&id)?;
    if user == admin.user {
        return Err(ApiError::bad_request("Cannot reset your own second factors"));
    }
    state.accounts.step_up().require_recent(&admin).await?;
    state.accounts.reset_second_factors(user).await?;
    trail.changed(&json!({}), &json!({ "secondFactors": "reset" }));
    Ok(Answer::of(Id { id: user }))
}

/// Erases an account at once: bookings and payments stay under a pseudonym.
#[utoipa::path(
    delete, path = "/api/v1/admin/users/{id}", tag = "admin", request_body = Reason,
    params(("id" = String, Path, description = "the account")),
    responses(
        (status = 200, description = "It is gone, or will be within moments", body = Answer<Id>),
        (status = 400, description = "`Cannot delete your own account`"),
        (status = 401, description = "Not signed in"),
        (status = 403, description = "Not an administrator, or `REAUTH_REQUIRED`"),
        (status = 404, description = "There is no such account"),
        (status = 409, description = "`LAST_ADMIN`"),
    ),
    security(("bearer" = []), ("session_cookie" = [])),
)]
pub async fn delete(
    Admin(admin): Admin,
    State(state): State<UserState>,
    Path(id): Path<String>,
    trail: Trail,
    Body(body): Body<Reason>,
) -> Reply<Id> {
    let (user, reason) = (user_id(&id)?, body.text()?);
    if user == admin.user {
        return Err(ApiError::bad_request("Cannot delete your own account"));
    }
    state.accounts.step_up().require_recent(&admin).await?;
    crate::user::gdpr::erasure::start_now(&state, user, admin.user, reason).await?;
    trail.because(reason.unwrap_or_default());
    Ok(Answer::of(Id { id: user }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(body: Value) -> Result<Changes, ApiError> {
        serde_json::from_value::<EditBody>(body).unwrap().changes()
    }

    #[test]
    fn must_not_copy_21_no_word_reaches_the_database_that_is_not_known() {
        for body in [
            json!({ "role": "SUPERUSER" }),
            json!({ "role": "admin" }),
            json!({ "role": 1 }),
            json!({ "role": null }),
            json!({ "userCategory": "SPACE" }),
            json!({ "isVerified": "true" }),
            json!({ "isVerified": null }),
            json!({ "email": "nobody" }),
            json!({ "email": null }),
            json!({ "firstName": "<script>" }),
            json!({ "lastName": ["x"] }),
        ] {
            assert_eq!(changes(body.clone()).unwrap_err().status(), 400, "{body}");
        }
    }

    #[test]
    fn what_is_absent_stays_and_null_empties_a_name() {
        let none = changes(json!({ "unknown": 1 })).unwrap();
        assert!(none.first_name.is_none() && none.role.is_none() && none.email.is_none());
        assert_eq!(changes(json!({ "firstName": null })).unwrap().first_name, Some(None));
        assert_eq!(
            changes(json!({ "role": "MODERATOR" })).unwrap().role,
            Some(Role::Moderator)
        );
    }
}
