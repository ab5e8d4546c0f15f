//! Consent, policies and requests: their types and rules.
//!
//! contract: core §5.11, §11

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};
use shared::{
    ApiError,
    id::UserId,
    sources::{iso, iso_option},
};
use utoipa::ToSchema;

/// A reason may be this long, in characters.
const MAX_REASON: usize = 1_000;

shared::typed_id! {
    /// The consent of one traveller.
    ConsentId;
    /// One decision about consent.
    ConsentChangeId;
    /// A version of the privacy policy.
    PolicyId;
    /// One traveller's acceptance of one version.
    AcceptanceId;
    /// A traveller's request about their data.
    RequestId;
}

/// What personal data may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Statistics, and training of models.
    Analytics,
    /// Offers by e-mail.
    Marketing,
    /// What the service cannot do without; always allowed.
    Functional,
    /// Personal suggestions.
    Preferences,
}

/// What a traveller allows.
#[expect(clippy::struct_excessive_bools, reason = "the names of the contract")]
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Consent {
    pub id: ConsentId,
    pub user_id: UserId,
    pub analytics: bool,
    pub marketing: bool,
    /// Always true.
    pub functional: bool,
    pub preferences: bool,
    #[serde(with = "iso")]
    pub last_updated_at: DateTime<Utc>,
    /// Where the last decision came from; forgotten after 90 days.
    pub ip_address: Option<String>,
}

/// One decision, in full.
#[expect(clippy::struct_excessive_bools, reason = "the names of the contract")]
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsentRecord {
    pub id: ConsentChangeId,
    pub consent_id: ConsentId,
    pub user_id: UserId,
    pub analytics: bool,
    pub marketing: bool,
    pub functional: bool,
    pub preferences: bool,
    #[serde(with = "iso")]
    pub changed_at: DateTime<Utc>,
    /// The same as `changedAt`.
    #[serde(with = "iso")]
    pub created_at: DateTime<Utc>,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
    pub change_reason: Option<String>,
}

/// What a traveller wants changed; what is absent stays. `functional` cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ToSchema)]
pub struct ConsentChange {
    pub analytics: Option<bool>,
    pub marketing: Option<bool>,
    pub preferences: Option<bool>,
}

impl ConsentChange {
    /// Reads a body; each field is checked for itself, so that the refusal names it.
    pub fn read(body: &Map<String, Value>) -> Result<Self, ApiError> {
        let read = |key: &str, label: &str| match body.get(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(ApiError::bad_request(format!("{label} must be a boolean"))),
        };
        let change = Self {
            analytics: read("analytics", "Analytics")?,
            marketing: read("marketing", "Marketing")?,
            preferences: read("preferences", "Preferences")?,
        };
        if change == Self::default() {
            return Err(ApiError::bad_request("At least one consent field must be provided"));
        }
        Ok(change)
    }
}

/// A version of the privacy policy.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    pub id: PolicyId,
    pub version: String,
    pub title: String,
    /// Markdown.
    pub content: String,
    #[serde(with = "iso")]
    pub effective_at: DateTime<Utc>,
    #[serde(with = "iso")]
    pub created_at: DateTime<Utc>,
}

/// That a traveller accepted a version.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Acceptance {
    pub id: AcceptanceId,
    pub user_id: UserId,
    pub policy_id: PolicyId,
    pub policy_version: String,
    #[serde(with = "iso")]
    pub accepted_at: DateTime<Utc>,
    pub ip_address: Option<String>,
    pub user_agent: Option<String>,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[sqlx(type_name = "text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RequestType {
    /// A copy of all data.
    DataExport,
    /// Erasure of all data.
    DataDeletion,
    /// Correction, by a person.
    DataRectification,
    /// Information about the use of data, by a person.
    AccessRequest,
}

impl RequestType {
    /// The type of this name, in the words of the contract or short, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.trim().to_ascii_uppercase().as_str() {
            "DATA_EXPORT" | "EXPORT" => Some(Self::DataExport),
            "DATA_DELETION" | "DELETION" => Some(Self::DataDeletion),
            "DATA_RECTIFICATION" | "RECTIFICATION" => Some(Self::DataRectification),
            "ACCESS_REQUEST" | "ACCESS" => Some(Self::AccessRequest),
            _ => None,
        }
    }
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[sqlx(type_name = "text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RequestStatus {
    /// Nothing has been done yet.
    Pending,
    /// Somebody works on it.
    InProgress,
    /// Done.
    Completed,
    /// It will not be done.
    Rejected,
    /// Taken back.
    Cancelled,
}

/// A request as its owner reads it. The exported data is never part of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GdprRequest {
    pub id: RequestId,
    pub user_id: UserId,
    pub request_type: RequestType,
    pub status: RequestStatus,
    #[serde(with = "iso")]
    pub requested_at: DateTime<Utc>,
    #[serde(with = "iso_option")]
    pub processed_at: Option<DateTime<Utc>>,
    #[serde(with = "iso_option")]
    pub completed_at: Option<DateTime<Utc>>,
    #[serde(with = "iso_option")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Of a deletion: the end of the grace, from which on it is carried out.
    #[serde(with = "iso_option")]
    pub execute_after: Option<DateTime<Utc>>,
    pub reason: Option<String>,
    pub notes: Option<String>,
}

/// The `reason` of a body: a text or nothing.
pub fn read_reason(body: &Map<String, Value>) -> Result<Option<String>, ApiError> {
    let text = match body.get("reason") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.trim(),
        Some(_) => return Err(ApiError::bad_request("Reason must be a string")),
    };
    if text.chars().count() > MAX_REASON || text.contains('\0') {
        return Err(ApiError::bad_request(format!(
            "Reason must be at most {MAX_REASON} characters"
        )));
    }
    Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn change(body: &Value) -> Result<ConsentChange, String> {
        ConsentChange::read(body.as_object().unwrap())
            .map_err(|error| error.body()["message"].as_str().unwrap().to_owned())
    }

    #[test]
    fn a_change_names_the_field_that_is_not_a_boolean() {
        let given = ConsentChange {
            analytics: Some(true),
            ..ConsentChange::default()
        };
        assert_eq!(change(&json!({ "analytics": true, "functional": false })), Ok(given));
        for wrong in [json!("true"), json!(1), json!(null), json!([])] {
            let message = change(&json!({ "analytics": true, "marketing": wrong })).unwrap_err();
            assert_eq!(message, "Marketing must be a boolean");
        }
        for nothing in [json!({}), json!({ "functional": false }), json!({ "other": 1 })] {
            assert_eq!(
                change(&nothing).unwrap_err(),
                "At least one consent field must be provided"
            );
        }
    }

    #[test]
    fn a_reason_is_a_text_of_bounded_length_or_nothing() {
        let read = |value: Value| read_reason(json!({ "reason": value }).as_object().unwrap());
        assert_eq!(read_reason(&Map::new()).unwrap(), None);
        assert_eq!(read(json!(null)).unwrap(), None);
        assert_eq!(read(json!("  ")).unwrap(), None);
        assert_eq!(read(json!(" moved ")).unwrap().as_deref(), Some("moved"));
        for wrong in [json!(1), json!({}), json!("x".repeat(1_001)), json!("a\0")] {
            assert_eq!(read(wrong).unwrap_err().status(), 400);
        }
    }

    #[test]
    fn a_type_is_read_in_both_vocabularies() {
        assert_eq!(RequestType::from_name("data_export"), Some(RequestType::DataExport));
        assert_eq!(RequestType::from_name(" Deletion "), Some(RequestType::DataDeletion));
        assert_eq!(RequestType::from_name("everything"), None);
        let name = serde_json::to_value(RequestType::DataRectification).unwrap();
        assert_eq!(
            RequestType::from_name(name.as_str().unwrap()),
            Some(RequestType::DataRectification)
        );
    }
}
