//! What an entry of the log holds, and which request is an access to what.
//!
//! contract: core §10

use chrono::{DateTime, Utc};
use http::Method;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use shared::{id::UserId, sources::iso};
use utoipa::ToSchema;
use uuid::Uuid;

/// Ids of resources are kept up to this length.
const MAX_ID: usize = 255;

/// What was done with the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[sqlx(type_name = "text", rename_all = "UPPERCASE")]
pub enum Action {
    /// Looked at.
    Read,
    /// Made.
    Create,
    /// Changed.
    Update,
    /// Removed.
    Delete,
    /// Taken away as a file.
    Export,
}

impl Action {
    fn of(method: &Method) -> Self {
        match *method {
            Method::POST => Self::Create,
            Method::PUT | Method::PATCH => Self::Update,
            Method::DELETE => Self::Delete,
            _ => Self::Read,
        }
    }
}

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum AccessorType {
    /// The traveller themselves.
    User,
    /// An administrator.
    Admin,
    /// Another service.
    Service,
}

/// An entry as it is stored.
#[derive(Clone, Serialize)]
pub struct Entry {
    /// Its id, which also salts the digests.
    pub id: Uuid,
    /// Whom the data is about; `None` where it is about many.
    pub user_id: Option<UserId>,
    /// The account or the service.
    pub accessor_id: Option<String>,
    /// What that is.
    pub accessor_type: AccessorType,
    /// What was done.
    pub action: Action,
    /// With what.
    pub resource: &'static str,
    /// With which one.
    pub resource_id: Option<String>,
    /// From where.
    pub ip_address: Option<String>,
    /// By which program.
    pub user_agent: Option<String>,
    /// The path, without its query.
    pub endpoint: Option<String>,
    /// The method.
    pub method: Option<String>,
    /// Why, where the caller had to say.
    pub reason: Option<String>,
    /// What a change found.
    pub before_digest: Option<String>,
    /// What it left.
    pub after_digest: Option<String>,
    /// When.
    pub accessed_at: DateTime<Utc>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("id", &self.id)
            .field("action", &self.action)
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

/// A digest of a state: proves later what it was to whoever can show it, and tells nothing to anybody else. Salted with
/// the entry, so that equal states of different people cannot be matched.
pub fn digest(entry: Uuid, state: &serde_json::Value) -> String {
    let digest = Sha256::new()
        .chain_update(entry.as_bytes())
        // keys are sorted, so equal states have equal texts
        .chain_update(state.to_string().as_bytes())
        .finalize();
    hex::encode(digest)
}

/// An entry as the person it is about reads it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    pub id: Uuid,
    pub user_id: Option<UserId>,
    pub accessor_id: Option<String>,
    pub accessor_type: AccessorType,
    pub action: Action,
    pub resource: String,
    pub resource_id: Option<String>,
    /// Of one's own accesses only.
    pub ip_address: Option<String>,
    /// Of one's own accesses only.
    pub user_agent: Option<String>,
    pub endpoint: Option<String>,
    pub method: Option<String>,
    #[serde(with = "iso")]
    pub accessed_at: DateTime<Utc>,
}

/// What a route gives access to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The name of the contract.
    pub resource: &'static str,
    /// What is done with it.
    pub action: Action,
    /// Whether the route is for administrators.
    pub admin: bool,
}

/// The areas of the log. Longer prefixes first.
const AREAS: [(&str, &str); 13] = [
    ("/api/v1/users/profile", "UserProfile"),
    ("/api/v1/users/avatar", "UserProfile"),
    ("/api/v1/users/settings", "UserSettings"),
    ("/api/v1/users/preferences", "UserSettings"),
    ("/api/v1/users/favorites", "Favorite"),
    ("/api/v1/users/history", "UserHistory"),
    ("/api/v1/users/onboarding", "TravelOnboardingProfile"),
    ("/api/v1/users/gdpr", "GdprData"),
    ("/api/v1/ai/users", "AiPreferences"),
    ("/api/v1/admin/users", "User"),
    ("/api/v1/admin/bookings", "Booking"),
    ("/api/v1/admin/payments", "Payment"),
    ("/api/v1/admin", "Dashboard"),
];

impl Target {
    /// What a request to the route of this template is an access to, if it is one.
    pub fn of(template: &str, method: &Method) -> Option<Self> {
        if *method == Method::OPTIONS {
            return None;
        }
        let resource = match template {
            "/api/v1/users/notifications/internal" => "Notification",
            "/api/v1/users/{userId}/ai-preferences" => "AiPreferences",
            _ => AREAS.iter().find(|(area, _)| is_within(template, area))?.1,
        };
        let action = match template {
            // questions that are asked by POST
            "/api/v1/users/favorites/check-batch" | "/api/v1/ai/users/preferences/batch" => Action::Read,
            "/api/v1/users/gdpr/consent" if *method == Method::POST => Action::Update,
            _ if *method == Method::GET && (template.ends_with("/export") || template.ends_with("/download")) => {
                Action::Export
            }
            _ => Action::of(method),
        };
        Some(Self {
            resource,
            action,
            admin: is_within(template, "/api/v1/admin"),
        })
    }
}

fn is_within(template: &str, area: &str) -> bool {
    template
        .strip_prefix(area)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A text from a path, fit to be stored.
pub fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_ID).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn routes_have_the_resource_names_of_the_contract() {
        for (template, method, resource, action) in [
            ("/api/v1/users/profile", Method::GET, "UserProfile", Action::Read),
            (
                "/api/v1/users/profile/{userId}",
                Method::PUT,
                "UserProfile",
                Action::Update,
            ),
            ("/api/v1/users/favorites", Method::POST, "Favorite", Action::Create),
            (
                "/api/v1/users/favorites/check-batch",
                Method::POST,
                "Favorite",
                Action::Read,
            ),
            (
                "/api/v1/users/history/{id}",
                Method::DELETE,
                "UserHistory",
                Action::Delete,
            ),
            (
                "/api/v1/users/onboarding/step",
                Method::PUT,
                "TravelOnboardingProfile",
                Action::Update,
            ),
            ("/api/v1/users/gdpr/consent", Method::POST, "GdprData", Action::Update),
            (
                "/api/v1/users/gdpr/data-export/{id}/download",
                Method::GET,
                "GdprData",
                Action::Export,
            ),
            ("/api/v1/admin/users/export", Method::GET, "User", Action::Export),
            ("/api/v1/admin/dashboard/stats", Method::GET, "Dashboard", Action::Read),
        ] {
            let target = Target::of(template, &method).unwrap();
            assert_eq!((target.resource, target.action), (resource, action), "{template}");
            assert_eq!(target.admin, template.contains("/admin/"), "{template}");
        }
    }

    #[test]
    fn what_is_nobodys_data_is_not_logged() {
        for template in [
            "/api/v1/users/notifications",
            "/api/v1/users/profiles",
            "/health",
            "/uploads/avatars/{file}",
        ] {
            assert_eq!(Target::of(template, &Method::GET), None, "{template}");
        }
        assert_eq!(Target::of("/api/v1/users/profile", &Method::OPTIONS), None);
    }

    #[test]
    fn a_digest_depends_on_the_state_and_on_the_entry_and_not_on_the_order_of_keys() {
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let state = json!({ "role": "USER", "email": "a@example.com" });
        let same = serde_json::from_str(r#"{"email":"a@example.com","role":"USER"}"#).unwrap();
        assert_eq!(digest(first, &state), digest(first, &same));
        assert_ne!(digest(first, &state), digest(second, &state));
        assert_ne!(digest(first, &state), digest(first, &json!({ "role": "ADMIN" })));
        assert_eq!(digest(first, &state).len(), 64);
    }

    #[test]
    fn a_text_from_a_path_is_bounded_and_has_no_control_characters() {
        assert_eq!(plain("a\0b\nc"), "abc");
        assert_eq!(plain(&"é".repeat(300)).chars().count(), 255);
    }
}
