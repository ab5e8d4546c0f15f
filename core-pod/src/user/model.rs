//! Profiles, as the rules see them. No HTTP, no SQL.
//!
//! contract: core §5.1, §11

use serde::Serialize;
use utoipa::ToSchema;

/// What is stored of a traveller's profile; `None` where there is no settings row yet.
pub struct StoredProfile {
    pub username: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub email: String,
    pub avatar: Option<String>,
    pub language: Option<String>,
    pub currency: Option<String>,
    pub timezone: Option<String>,
    pub deal_alerts: Option<bool>,
    pub trip_reminders: Option<bool>,
    pub price_alerts: Option<bool>,
    pub newsletter: Option<bool>,
    pub profile_visibility: Option<String>,
    pub data_sharing: Option<bool>,
    pub marketing: Option<bool>,
    pub preferred_destinations: Option<Vec<String>>,
    pub accommodation_type: Option<Vec<String>>,
    pub activities: Option<Vec<String>>,
    pub dietary: Option<Vec<String>>,
}

/// The profile as clients read it: a bare object of five blocks.
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the contract")]
pub struct Profile {
    profile: Identity,
    preferences: Preferences,
    notifications: Alerts,
    privacy: Privacy,
    travel: Travel,
}

#[derive(Debug, Serialize, ToSchema)]
struct Identity {
    name: String,
    email: String,
    photo: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Preferences {
    /// An English name of a language.
    language: String,
    currency: String,
    timezone: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    clippy::struct_field_names,
    reason = "the contract's block of switches"
)]
struct Alerts {
    deal_alerts: bool,
    trip_reminders: bool,
    price_alerts: bool,
    newsletter: bool,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Privacy {
    profile_visibility: String,
    data_sharing: bool,
    marketing: bool,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Travel {
    preferred_destinations: Vec<String>,
    accommodation_type: Vec<String>,
    activities: Vec<String>,
    dietary: Vec<String>,
}

impl From<StoredProfile> for Profile {
    /// The defaults of core §5.1 stand in for what was never set.
    fn from(stored: StoredProfile) -> Self {
        let name = stored.display_name();
        Self {
            profile: Identity {
                name,
                email: stored.email,
                photo: stored.avatar,
            },
            preferences: Preferences {
                language: stored.language.unwrap_or_else(|| "English".to_owned()),
                currency: stored.currency.unwrap_or_else(|| "USD".to_owned()),
                timezone: stored.timezone.unwrap_or_else(|| "UTC".to_owned()),
            },
            notifications: Alerts {
                deal_alerts: stored.deal_alerts.unwrap_or(true),
                trip_reminders: stored.trip_reminders.unwrap_or(true),
                price_alerts: stored.price_alerts.unwrap_or(true),
                newsletter: stored.newsletter.unwrap_or(false),
            },
            privacy: Privacy {
                profile_visibility: stored.profile_visibility.unwrap_or_else(|| "public".to_owned()),
                data_sharing: stored.data_sharing.unwrap_or(false),
                marketing: stored.marketing.unwrap_or(true),
            },
            travel: Travel {
                preferred_destinations: stored.preferred_destinations.unwrap_or_default(),
                accommodation_type: stored.accommodation_type.unwrap_or_default(),
                activities: stored.activities.unwrap_or_default(),
                dietary: stored.dietary.unwrap_or_default(),
            },
        }
    }
}

impl StoredProfile {
    /// The user name, else first and last name, else nothing.
    fn display_name(&self) -> String {
        if let Some(username) = &self.username {
            return username.clone();
        }
        let parts = [self.first_name.as_deref(), self.last_name.as_deref()];
        parts
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" ")
            .trim()
            .to_owned()
    }
}
