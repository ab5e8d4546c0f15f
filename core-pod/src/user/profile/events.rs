//! What is published about profiles and settings. Appended in the transaction of the change.
//!
//! contract: core §5.1, §7, events §5 (user). `user.updated` is appended by the auth service, in the transaction that
//! changes the account.

use serde::Serialize;
use serde_json::{Map, Value, json};
use shared::{
    events::{NewEvent, Topic},
    id::UserId,
    sources::{Sources, iso_millis},
};

use super::model::{Notifications, Settings};
use crate::user::User;

/// `user.profile.updated`, with the fields that changed; one that was emptied is null.
pub fn profile_updated(sources: &Sources, user: UserId, profile: &Map<String, Value>) -> NewEvent {
    let payload = json!({ "userId": user, "profile": profile, "updatedAt": iso_millis(sources.now()) });
    NewEvent::new::<User>(sources, Topic::UserProfileUpdated, user, &payload)
}

/// `user.profile.updated` for a picture.
pub fn picture_changed(sources: &Sources, user: UserId, avatar: Option<&str>) -> NewEvent {
    let profile = Map::from_iter([("avatar".to_owned(), json!(avatar))]);
    profile_updated(sources, user, &profile)
}

/// The preferences of the event: blocks in which something changed, each whole.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the names of the contract")]
struct Preferences<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    currency: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    travel_style: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notifications: Option<Notifications>,
    #[serde(skip_serializing_if = "Option::is_none")]
    privacy: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    travel_preferences: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    travel: Option<Value>,
}

/// `user.preferences.updated`: what changed, and the settings as they are now.
pub fn preferences_updated(sources: &Sources, user: UserId, changed: &Settings, now: &Settings) -> NewEvent {
    let preferences = Preferences {
        language: changed.language.as_deref(),
        currency: changed.currency.as_deref(),
        timezone: changed.timezone.as_deref(),
        travel_style: changed.travel_style.as_deref(),
        notifications: changed.touches_notifications().then(|| now.into()),
        privacy: changed.touches_privacy().then(|| json!(now.privacy())),
        travel_preferences: changed.touches_travel().then(|| travel_preferences(now)),
        travel: changed.touches_travel().then(|| json!(now.travel())),
    };
    let payload = json!({ "userId": user, "preferences": preferences, "updatedAt": iso_millis(sources.now()) });
    NewEvent::new::<User>(sources, Topic::UserPreferencesUpdated, user, &payload)
}

/// The lists, and the three keys that consumers of the original know: each is the first entry of a list.
fn travel_preferences(settings: &Settings) -> Value {
    let travel = settings.travel();
    let legacy = [
        ("seatPreference", travel.preferred_destinations.first()),
        ("mealPreference", travel.dietary.first()),
        ("classPreference", travel.accommodation_type.first()),
    ];
    let legacy = legacy.map(|(key, first)| first.map(|first| (key.to_owned(), json!(first))));
    let mut all: Map<String, Value> = legacy.into_iter().flatten().collect();
    if let Value::Object(lists) = json!(travel) {
        all.extend(lists);
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use shared::sources::FixedClock;

    use super::*;

    fn told(changed: &Settings, now: &Settings) -> Value {
        let clock = FixedClock::at(chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let sources = Sources::fixed(clock, 1);
        let event = preferences_updated(&sources, UserId(uuid::Uuid::from_u128(1)), changed, now);
        assert_eq!(event.envelope.payload["updatedAt"], "2027-01-15T08:00:00.000Z");
        event.envelope.payload["preferences"].clone()
    }

    #[test]
    fn only_blocks_that_changed_are_told_and_they_are_told_whole() {
        let changed = Settings {
            currency: Some("EUR".to_owned()),
            ..Settings::default()
        };
        assert_eq!(told(&changed, &changed), json!({ "currency": "EUR" }));
        let changed = Settings {
            deal_alerts: Some(false),
            ..Settings::default()
        };
        let alerts = json!({
            "dealAlerts": false, "tripReminders": true, "priceAlerts": true, "newsletter": false,
            "email": true, "push": true, "sms": false,
        });
        assert_eq!(told(&changed, &changed), json!({ "notifications": alerts }));
    }

    #[test]
    fn the_keys_of_the_original_are_the_first_entries_of_the_lists() {
        let changed = Settings {
            dietary: Some(vec!["vegan".to_owned(), "halal".to_owned()]),
            ..Settings::default()
        };
        let lists = json!({ "preferredDestinations": [], "accommodationType": [], "activities": [], "dietary": ["vegan", "halal"] });
        let mut with_legacy = lists.clone();
        with_legacy["mealPreference"] = json!("vegan");
        assert_eq!(
            told(&changed, &changed),
            json!({ "travelPreferences": with_legacy, "travel": lists })
        );
    }
}
