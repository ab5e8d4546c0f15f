//! Profiles and settings as the rules see them. No HTTP, no SQL.
//!
//! contract: core §5.1, §5.3, §5.4, §11

use std::fmt;

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use serde::Serialize;
use shared::{
    id::UserId,
    sources::{iso, iso_millis},
};
use utoipa::ToSchema;

use super::languages;

shared::typed_id! {
    /// The profile of one traveller.
    ProfileId;
}

/// Where a picture of ours is found, before its name.
pub const PICTURES: &str = "/uploads/avatars/";

/// What is stored of a traveller: account, settings, picture.
pub struct StoredProfile {
    pub username: Option<String>,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub email: String,
    pub avatar: Option<String>,
    pub settings: Settings,
}

/// Settings of a traveller; `None` is what was never decided. Also a change of them, whose `None` leaves things as they are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings {
    pub language: Option<String>,
    pub currency: Option<String>,
    pub timezone: Option<String>,
    pub travel_style: Option<String>,
    pub deal_alerts: Option<bool>,
    pub trip_reminders: Option<bool>,
    pub price_alerts: Option<bool>,
    pub newsletter: Option<bool>,
    pub channel_email: Option<bool>,
    pub channel_push: Option<bool>,
    pub channel_sms: Option<bool>,
    pub profile_visibility: Option<String>,
    pub data_sharing: Option<bool>,
    pub marketing: Option<bool>,
    pub preferred_destinations: Option<Vec<String>>,
    pub accommodation_type: Option<Vec<String>>,
    pub activities: Option<Vec<String>>,
    pub dietary: Option<Vec<String>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Settings(***)")
    }
}

impl Settings {
    /// What of this change is not so already. Whoever sends back a default that is shown decides nothing by that, except for
    /// the language: as long as none is chosen, messages are written in another than the one shown.
    #[must_use]
    pub fn beyond(&self, present: &Self) -> Self {
        let present = present.with_defaults();
        Self {
            language: beyond(&self.language, &present.language),
            currency: beyond(&self.currency, &present.currency),
            timezone: beyond(&self.timezone, &present.timezone),
            travel_style: beyond(&self.travel_style, &present.travel_style),
            deal_alerts: beyond(&self.deal_alerts, &present.deal_alerts),
            trip_reminders: beyond(&self.trip_reminders, &present.trip_reminders),
            price_alerts: beyond(&self.price_alerts, &present.price_alerts),
            newsletter: beyond(&self.newsletter, &present.newsletter),
            channel_email: beyond(&self.channel_email, &present.channel_email),
            channel_push: beyond(&self.channel_push, &present.channel_push),
            channel_sms: beyond(&self.channel_sms, &present.channel_sms),
            profile_visibility: beyond(&self.profile_visibility, &present.profile_visibility),
            data_sharing: beyond(&self.data_sharing, &present.data_sharing),
            marketing: beyond(&self.marketing, &present.marketing),
            preferred_destinations: beyond(&self.preferred_destinations, &present.preferred_destinations),
            accommodation_type: beyond(&self.accommodation_type, &present.accommodation_type),
            activities: beyond(&self.activities, &present.activities),
            dietary: beyond(&self.dietary, &present.dietary),
        }
    }

    fn with_defaults(&self) -> Self {
        let (preferences, alerts, channels) = (self.preferences(), self.alerts(), self.channels());
        let (privacy, travel) = (self.privacy(), self.travel());
        Self {
            language: self.language.clone(),
            currency: Some(preferences.currency),
            timezone: Some(preferences.timezone),
            travel_style: self.travel_style.clone(),
            deal_alerts: Some(alerts.deal_alerts),
            trip_reminders: Some(alerts.trip_reminders),
            price_alerts: Some(alerts.price_alerts),
            newsletter: Some(alerts.newsletter),
            channel_email: Some(channels.email),
            channel_push: Some(channels.push),
            channel_sms: Some(channels.sms),
            profile_visibility: Some(privacy.profile_visibility),
            data_sharing: Some(privacy.data_sharing),
            marketing: Some(privacy.marketing),
            preferred_destinations: Some(travel.preferred_destinations),
            accommodation_type: Some(travel.accommodation_type),
            activities: Some(travel.activities),
            dietary: Some(travel.dietary),
        }
    }

    /// Whether nothing is decided, or nothing is to change.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether something is said of alerts or channels.
    pub fn touches_notifications(&self) -> bool {
        let alerts = [
            self.deal_alerts,
            self.trip_reminders,
            self.price_alerts,
            self.newsletter,
        ];
        let channels = [self.channel_email, self.channel_push, self.channel_sms];
        alerts.into_iter().chain(channels).any(|flag| flag.is_some())
    }

    /// Whether something is said of privacy.
    pub fn touches_privacy(&self) -> bool {
        self.profile_visibility.is_some() || self.data_sharing.is_some() || self.marketing.is_some()
    }

    /// Whether something is said of travel.
    pub fn touches_travel(&self) -> bool {
        let lists = [
            &self.preferred_destinations,
            &self.accommodation_type,
            &self.activities,
            &self.dietary,
        ];
        lists.into_iter().any(Option::is_some)
    }
}

/// The profile as clients read it: a bare object of five blocks.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the names of the contract")]
pub struct Profile {
    profile: Identity,
    preferences: Preferences,
    notifications: Alerts,
    privacy: Privacy,
    travel: Travel,
}

#[derive(Serialize, ToSchema)]
struct Identity {
    name: String,
    email: String,
    photo: Option<String>,
}

/// Language, currency and time zone.
#[derive(Serialize, ToSchema)]
pub struct Preferences {
    /// An English name of a language.
    language: String,
    currency: String,
    timezone: String,
}

/// What a traveller wants to hear of.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    clippy::struct_field_names,
    reason = "the contract's block of switches"
)]
pub struct Alerts {
    deal_alerts: bool,
    trip_reminders: bool,
    price_alerts: bool,
    newsletter: bool,
}

/// Who sees what.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Privacy {
    profile_visibility: String,
    data_sharing: bool,
    marketing: bool,
}

/// What a traveller likes.
#[derive(Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Travel {
    pub preferred_destinations: Vec<String>,
    pub accommodation_type: Vec<String>,
    pub activities: Vec<String>,
    pub dietary: Vec<String>,
}

/// By which ways a traveller is reached.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct Channels {
    pub email: bool,
    pub push: bool,
    pub sms: bool,
}

/// Alerts and channels in one block, as `/settings` shows them.
#[derive(Serialize, ToSchema)]
pub struct Notifications {
    #[serde(flatten)]
    alerts: Alerts,
    #[serde(flatten)]
    channels: Channels,
}

/// All settings, as `/settings` shows them.
#[derive(Serialize, ToSchema)]
pub struct SettingsView {
    #[serde(flatten)]
    preferences: Preferences,
    notifications: Notifications,
    privacy: Privacy,
    travel: Travel,
}

/// What `/preferences` shows.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreferencesView {
    #[serde(flatten)]
    preferences: Preferences,
    #[serde(skip_serializing_if = "Option::is_none")]
    travel_style: Option<String>,
}

/// A new value, if it is one.
#[expect(clippy::ref_option, reason = "fields are compared where they are")]
fn beyond<T: Clone + PartialEq>(new: &Option<T>, present: &Option<T>) -> Option<T> {
    new.clone().filter(|new| present.as_ref() != Some(new))
}

/// The defaults of core §5.1 stand in for what was never decided.
impl Settings {
    fn preferences(&self) -> Preferences {
        let text = |chosen: &Option<String>, default: &str| chosen.clone().unwrap_or_else(|| default.to_owned());
        Preferences {
            language: text(&self.language, "English"),
            currency: text(&self.currency, "USD"),
            timezone: text(&self.timezone, "UTC"),
        }
    }

    fn alerts(&self) -> Alerts {
        Alerts {
            deal_alerts: self.deal_alerts.unwrap_or(true),
            trip_reminders: self.trip_reminders.unwrap_or(true),
            price_alerts: self.price_alerts.unwrap_or(true),
            newsletter: self.newsletter.unwrap_or(false),
        }
    }

    /// Mail and push unless switched off, text messages only if switched on.
    pub fn channels(&self) -> Channels {
        Channels {
            email: self.channel_email.unwrap_or(true),
            push: self.channel_push.unwrap_or(true),
            sms: self.channel_sms.unwrap_or(false),
        }
    }

    /// Who sees what.
    pub fn privacy(&self) -> Privacy {
        let visibility = self.profile_visibility.clone();
        Privacy {
            profile_visibility: visibility.unwrap_or_else(|| "public".to_owned()),
            data_sharing: self.data_sharing.unwrap_or(false),
            marketing: self.marketing.unwrap_or(true),
        }
    }

    /// What its owner likes.
    pub fn travel(&self) -> Travel {
        let list = |chosen: &Option<Vec<String>>| chosen.clone().unwrap_or_default();
        Travel {
            preferred_destinations: list(&self.preferred_destinations),
            accommodation_type: list(&self.accommodation_type),
            activities: list(&self.activities),
            dietary: list(&self.dietary),
        }
    }
}

/// Alerts and channels together, for the event.
impl From<&Settings> for Notifications {
    fn from(settings: &Settings) -> Self {
        Self {
            alerts: settings.alerts(),
            channels: settings.channels(),
        }
    }
}

impl From<&Settings> for SettingsView {
    fn from(settings: &Settings) -> Self {
        Self {
            preferences: settings.preferences(),
            notifications: settings.into(),
            privacy: settings.privacy(),
            travel: settings.travel(),
        }
    }
}

impl From<Settings> for PreferencesView {
    fn from(settings: Settings) -> Self {
        Self {
            preferences: settings.preferences(),
            travel_style: settings.travel_style,
        }
    }
}

impl StoredProfile {
    /// The user name, else first and last name, else nothing.
    pub fn display_name(&self) -> String {
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

    /// As `GET` shows it.
    pub fn shown(self) -> Profile {
        let name = self.display_name();
        self.named(name)
    }

    /// As the answer to `PUT` shows it: without a user name, without a name.
    pub fn answered(self) -> Profile {
        let name = self.username.clone().unwrap_or_default();
        self.named(name)
    }

    fn named(self, name: String) -> Profile {
        Profile {
            preferences: self.settings.preferences(),
            notifications: self.settings.alerts(),
            privacy: self.settings.privacy(),
            travel: self.settings.travel(),
            profile: Identity {
                name,
                email: self.email,
                photo: self.avatar,
            },
        }
    }
}

/// A profile row as its owner reads it (core §5.3).
#[derive(Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileRow {
    pub id: ProfileId,
    pub user_id: UserId,
    pub first_name: String,
    pub last_name: String,
    pub phone: Option<String>,
    /// Midnight of the day, UTC.
    #[serde(serialize_with = "day")]
    #[schema(value_type = Option<String>)]
    pub date_of_birth: Option<NaiveDate>,
    pub avatar: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub preferences: Option<serde_json::Value>,
    pub bio: Option<String>,
    pub location: Option<String>,
    pub website: Option<String>,
    #[serde(with = "iso")]
    pub created_at: DateTime<Utc>,
    #[serde(with = "iso")]
    pub updated_at: DateTime<Utc>,
}

/// The owner beside the row.
#[derive(Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    pub email: String,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
}

/// The row with its owner, as the original's routes answer.
#[derive(Clone, Serialize, ToSchema)]
pub struct OwnedRow {
    #[serde(flatten)]
    pub row: ProfileRow,
    pub user: Owner,
}

/// A day as the contract writes instants: its midnight, UTC.
pub fn midnight(day: NaiveDate) -> String {
    iso_millis(day.and_time(chrono::NaiveTime::MIN).and_utc())
}

#[expect(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
fn day<S: serde::Serializer>(day: &Option<NaiveDate>, serializer: S) -> Result<S::Ok, S::Error> {
    match day {
        Some(day) => serializer.serialize_str(&midnight(*day)),
        None => serializer.serialize_none(),
    }
}

/// Rules of single fields: what is stored, or what is wrong with it.
pub mod rules {
    use super::*;

    /// A name in a profile row.
    pub fn name(raw: &str) -> Result<String, &'static str> {
        let name = raw.trim();
        if name
            .chars()
            .any(|character| character.is_control() || matches!(character, '<' | '>'))
        {
            return Err("must not contain < > or control characters");
        }
        if !(1..=100).contains(&name.chars().count()) {
            return Err("must be between 1 and 100 characters");
        }
        Ok(name.to_owned())
    }

    /// A language, by its name or its code.
    pub fn language(raw: &str) -> Result<String, &'static str> {
        languages::english_name(raw)
            .map(str::to_owned)
            .ok_or("must be the name or the code of a language")
    }

    /// A currency: three capitals.
    pub fn currency(raw: &str) -> Result<String, &'static str> {
        if raw.len() == 3 && raw.bytes().all(|byte| byte.is_ascii_uppercase()) {
            Ok(raw.to_owned())
        } else {
            Err("must be a currency code of three capital letters")
        }
    }

    /// A time zone of the IANA database.
    pub fn timezone(raw: &str) -> Result<String, &'static str> {
        let zone: Result<chrono_tz::Tz, _> = raw.parse();
        zone.map(|zone| zone.name().to_owned())
            .map_err(|_| "must be a time zone such as Europe/Paris")
    }

    /// Who sees a profile.
    pub fn visibility(raw: &str) -> Result<String, &'static str> {
        if matches!(raw, "public" | "private") {
            Ok(raw.to_owned())
        } else {
            Err("must be public or private")
        }
    }

    /// How somebody likes to travel, in a word or a few.
    pub fn travel_style(raw: &str) -> Result<String, &'static str> {
        let style = raw.trim();
        let plain = |character: char| character.is_alphanumeric() || matches!(character, ' ' | '_' | '-' | '&' | ',');
        if (1..=50).contains(&style.chars().count()) && style.chars().all(plain) {
            Ok(style.to_owned())
        } else {
            Err("must be at most 50 letters, digits, blanks, hyphens")
        }
    }

    /// A telephone number: digits, blanks, brackets, hyphens, perhaps a plus in front.
    pub fn phone(raw: &str) -> Result<String, &'static str> {
        let number = raw.trim();
        let rest = number.strip_prefix('+').unwrap_or(number);
        let allowed = |byte: u8| byte.is_ascii_digit() || matches!(byte, b' ' | b'-' | b'(' | b')');
        let has_digit = rest.bytes().any(|byte| byte.is_ascii_digit());
        if has_digit && rest.len() <= 30 && rest.bytes().all(allowed) {
            Ok(number.to_owned())
        } else {
            Err("must be a valid phone number")
        }
    }

    /// A day of birth: `YYYY-MM-DD` or an instant, in the past, since 1900.
    pub fn birth_date(raw: &str, now: DateTime<Utc>) -> Result<NaiveDate, &'static str> {
        const WRONG: &str = "must be a date of birth as YYYY-MM-DD";
        let raw = raw.trim();
        let day = NaiveDate::parse_from_str(raw, "%Y-%m-%d")
            .ok()
            .filter(|_| raw.len() == 10);
        let day = day.or_else(|| {
            DateTime::parse_from_rfc3339(raw)
                .ok()
                .map(|at| at.to_utc().date_naive())
        });
        day.filter(|day| day.year() >= 1900 && *day < now.date_naive())
            .ok_or(WRONG)
    }

    /// A text about oneself.
    pub fn bio(raw: &str) -> Result<String, &'static str> {
        free_text(raw, 1_000).ok_or("must be at most 1000 characters without markup")
    }

    /// Where somebody lives.
    pub fn location(raw: &str) -> Result<String, &'static str> {
        free_text(raw, 100).ok_or("must be at most 100 characters without markup")
    }

    /// The address of a page.
    pub fn website(raw: &str) -> Result<String, &'static str> {
        const WRONG: &str = "must be an http or https URL";
        let address = raw.trim();
        let odd = |character: char| {
            character.is_whitespace() || character.is_control() || matches!(character, '"' | '\'' | '`' | '<' | '>')
        };
        if address.len() > 2048 || address.chars().any(odd) {
            return Err(WRONG);
        }
        let url = url::Url::parse(address).map_err(|_| WRONG)?;
        let absolute = address.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("http")) && url.has_host();
        if absolute && matches!(url.scheme(), "http" | "https") {
            Ok(address.to_owned())
        } else {
            Err(WRONG)
        }
    }

    /// Text in which no tag, end of a tag or comment begins.
    fn free_text(raw: &str, longest: usize) -> Option<String> {
        let text = raw.trim();
        let opens = |pair: (char, char)| pair.0 == '<' && (pair.1.is_alphabetic() || matches!(pair.1, '/' | '!'));
        let has_markup = text.chars().zip(text.chars().skip(1)).any(opens);
        let has_control = text
            .chars()
            .any(|character| character.is_control() && !matches!(character, '\n' | '\r' | '\t'));
        (!has_markup && !has_control && text.chars().count() <= longest).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::{rules, *};

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn somebody(username: Option<&str>, first: Option<&str>, last: Option<&str>) -> StoredProfile {
        let own = |text: Option<&str>| text.map(str::to_owned);
        StoredProfile {
            username: own(username),
            first_name: own(first),
            last_name: own(last),
            email: "ada@example.com".to_owned(),
            avatar: None,
            settings: Settings::default(),
        }
    }

    #[test]
    fn a_name_is_the_user_name_else_first_and_last_name() {
        assert_eq!(somebody(Some("ada"), Some("Ada"), None).display_name(), "ada");
        assert_eq!(
            somebody(None, Some("Ada"), Some("Lovelace")).display_name(),
            "Ada Lovelace"
        );
        assert_eq!(somebody(None, None, Some("Lovelace")).display_name(), "Lovelace");
        assert_eq!(somebody(None, None, None).display_name(), "");
    }

    #[test]
    fn what_was_never_decided_has_the_defaults_of_the_contract() {
        let shown = serde_json::to_value(somebody(None, None, None).shown()).unwrap();
        assert_eq!(
            shown,
            serde_json::json!({
                "profile": { "name": "", "email": "ada@example.com", "photo": null },
                "preferences": { "language": "English", "currency": "USD", "timezone": "UTC" },
                "notifications": { "dealAlerts": true, "tripReminders": true, "priceAlerts": true, "newsletter": false },
                "privacy": { "profileVisibility": "public", "dataSharing": false, "marketing": true },
                "travel": { "preferredDestinations": [], "accommodationType": [], "activities": [], "dietary": [] },
            })
        );
    }

    #[test]
    fn only_what_is_not_so_already_is_a_change() {
        let present = Settings {
            currency: Some("EUR".to_owned()),
            ..Settings::default()
        };
        let wanted = Settings {
            language: Some("English".to_owned()),
            currency: Some("EUR".to_owned()),
            timezone: Some("UTC".to_owned()),
            marketing: Some(false),
            newsletter: Some(false),
            dietary: Some(vec![]),
            ..Settings::default()
        };
        let change = Settings {
            language: Some("English".to_owned()),
            marketing: Some(false),
            ..Settings::default()
        };
        assert!(wanted.beyond(&present) == change);
        assert!(change.beyond(&change).is_empty());
    }

    #[test]
    fn codes_zones_and_visibility_are_strict() {
        assert_eq!(rules::currency("EUR").unwrap(), "EUR");
        for wrong in ["eur", "EURO", "E1R", "", "€"] {
            assert!(rules::currency(wrong).is_err(), "{wrong}");
        }
        assert_eq!(rules::timezone("Europe/Paris").unwrap(), "Europe/Paris");
        for wrong in ["Mars/Olympus", "", "+02:00", "Europe/Paris\n"] {
            assert!(rules::timezone(wrong).is_err(), "{wrong}");
        }
        assert!(rules::visibility("Public").is_err() && rules::visibility("private").is_ok());
    }

    #[test]
    fn free_text_has_no_markup_and_a_website_is_one() {
        for good in ["I <3 trains", "a < b > c", "2 <> 3", "lines\nand\ttabs"] {
            assert!(rules::bio(good).is_ok(), "{good}");
        }
        for bad in ["<b>", "</b>", "<!-- -->", "x<Script", "a\u{7}", &"x".repeat(1_001)] {
            assert!(rules::bio(bad).is_err(), "{bad}");
        }
        assert!(rules::location(&"x".repeat(101)).is_err());
        for good in [
            "https://ada.example",
            "http://example.com/a?b=c#d",
            "HTTPS://EXAMPLE.com",
        ] {
            assert!(rules::website(good).is_ok(), "{good}");
        }
        for bad in [
            "ada.example",
            "/me",
            "javascript:alert(1)",
            "ftp://x.y",
            "https://a b",
            "https://x/\"onload",
            "http:",
            "https://<x>",
        ] {
            assert!(rules::website(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_birthday_is_in_the_past_and_a_number_has_digits() {
        for good in [
            "1815-12-10T00:00:00Z",
            "3000-01-01",
            "1990-02-30",
            "90-01-01",
            "tomorrow",
            "",
        ] {
            assert!(rules::birth_date(good, now()).is_err(), "{good}");
        }
        let day = rules::birth_date("1990-02-28T23:00:00.000Z", now()).unwrap();
        assert_eq!(
            (day, midnight(day).as_str()),
            (
                rules::birth_date("1990-02-28", now()).unwrap(),
                "1990-02-28T00:00:00.000Z"
            )
        );
        assert!(
            rules::phone("+33 (6) 12-34").is_ok() && rules::phone("()- ").is_err() && rules::phone("call me").is_err()
        );
    }
}
