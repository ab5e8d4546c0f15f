//! The bodies of profiles and settings as the document describes them. They are read field by field in [`super::update`],
//! [`super::blocks`] and [`super::rows`].
//!
//! contract: core §5.1, §5.3, §5.4. What is absent or null stays as it is, unless a field says otherwise.

use serde_json::Value;
use utoipa::ToSchema;

/// Any part of the profile that `GET` gives; what is absent stays.
#[derive(ToSchema)]
#[schema(as = ProfileChangeBody)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct ChangeBody {
    profile: Option<IdentityBody>,
    preferences: Option<PreferencesBody>,
    #[serde(flatten)]
    blocks: BlocksBody,
}

/// Name, address and picture. What is so already is always accepted.
#[derive(ToSchema)]
#[schema(as = ProfileIdentityBody)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct IdentityBody {
    /// Another user name: 1 to 100 characters, without `<`, `>` and control characters.
    name: Option<String>,
    /// Another e-mail address.
    email: Option<String>,
    photo: Option<PhotoBody>,
}

/// Another picture.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = ProfilePhotoBody)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub enum PhotoBody {
    /// An https URL of at most 2048 characters, or a `data:` URL of a picture. An empty text leaves the picture.
    Address(String),
    /// The answer to an upload.
    Uploaded {
        /// The URL, as a text.
        avatar: Option<Value>,
        /// The URL, where `avatar` is no text.
        url: Option<Value>,
    },
}

/// Language, currency, time zone and style of travel.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct PreferencesBody {
    /// The English name of a language or its code: `French`, `fr`, `fr-FR`.
    #[schema(min_length = 1)]
    language: Option<String>,
    /// Three capitals.
    #[schema(pattern = "^[A-Z]{3}$", example = "EUR")]
    currency: Option<String>,
    /// A time zone of the IANA database: `Europe/Paris`.
    #[schema(min_length = 1)]
    timezone: Option<String>,
    /// A word or a few: at most 50 letters, digits, blanks, hyphens, underscores, commas, ampersands.
    #[schema(min_length = 1)]
    travel_style: Option<String>,
}

/// All settings; what is absent stays.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct SettingsBody {
    #[serde(flatten)]
    preferences: PreferencesBody,
    #[serde(flatten)]
    blocks: BlocksBody,
}

/// The blocks that profile and settings have in common.
#[derive(ToSchema)]
#[schema(as = SettingsBlocksBody)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct BlocksBody {
    notifications: Option<NotificationsBody>,
    privacy: Option<PrivacyBody>,
    travel: Option<TravelBody>,
}

/// What a traveller wants to hear of, and by which ways.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SettingsNotificationsBody)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct NotificationsBody {
    deal_alerts: Option<bool>,
    trip_reminders: Option<bool>,
    price_alerts: Option<bool>,
    newsletter: Option<bool>,
    email: Option<bool>,
    push: Option<bool>,
    sms: Option<bool>,
}

/// Who sees what.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SettingsPrivacyBody)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct PrivacyBody {
    profile_visibility: Option<Visibility>,
    data_sharing: Option<bool>,
    marketing: Option<bool>,
}

/// Who sees a profile.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ProfileVisibility)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub enum Visibility {
    /// Everybody.
    Public,
    /// Nobody else.
    Private,
}

/// What a traveller likes: lists of texts without control characters.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SettingsTravelBody)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct TravelBody {
    #[schema(max_items = 50, max_length = 100)]
    preferred_destinations: Option<Vec<String>>,
    #[schema(max_items = 50, max_length = 100)]
    accommodation_type: Option<Vec<String>>,
    #[schema(max_items = 50, max_length = 100)]
    activities: Option<Vec<String>>,
    #[schema(max_items = 50, max_length = 100)]
    dietary: Option<Vec<String>>,
}

/// A profile row that is made.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NewProfileRowBody)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct NewRowBody {
    /// 1 to 100 characters, without `<`, `>` and control characters.
    #[schema(min_length = 1, pattern = "^[^<>]*$")]
    first_name: String,
    /// 1 to 100 characters, without `<`, `>` and control characters.
    #[schema(min_length = 1, pattern = "^[^<>]*$")]
    last_name: String,
    #[serde(flatten)]
    details: RowDetailsBody,
}

/// A profile row that is changed; what is absent stays.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ProfileRowBody)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct RowBody {
    /// At most 100 characters, without `<`, `>` and control characters; a blank name is none.
    #[schema(pattern = "^[^<>]*$")]
    first_name: Option<String>,
    /// At most 100 characters, without `<`, `>` and control characters; a blank name is none.
    #[schema(pattern = "^[^<>]*$")]
    last_name: Option<String>,
    #[serde(flatten)]
    details: RowDetailsBody,
}

/// A profile row that is made or changed.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OwnProfileRowBody)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct OwnRowBody {
    /// The account of the caller, or `me`.
    #[schema(min_length = 1)]
    user_id: String,
    #[serde(flatten)]
    row: RowBody,
}

/// What a profile row says beside the name.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ProfileRowDetailsBody)]
#[expect(dead_code, reason = "describes the body; it is read field by field")]
pub struct RowDetailsBody {
    /// Digits, blanks, brackets, hyphens, perhaps a plus in front, at most 30. Null and a blank text empty it.
    phone: Option<String>,
    /// `YYYY-MM-DD` or an instant, in the past, since 1900. Null and a blank text empty it.
    date_of_birth: Option<String>,
    /// Free data of at most 16 KB.
    #[schema(value_type = Option<Object>)]
    preferences: Option<Value>,
    /// At most 1000 characters without markup. Null and a blank text empty it.
    bio: Option<String>,
    /// At most 100 characters without markup. Null and a blank text empty it.
    location: Option<String>,
    /// An http or https URL of at most 2048 characters. Null and a blank text empty it.
    website: Option<String>,
}
