//! Profiles and notifications, as the rules see them. No HTTP, no SQL.
//!
//! contract: core §5.1, §5.8, §11

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::{
    id::{NotificationId, UserId},
    sources::{iso, iso_option},
};
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

/// What a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[sqlx(type_name = "text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// A booking is confirmed.
    BookingConfirmed,
    /// A booking is cancelled.
    BookingCancelled,
    /// A payment succeeded.
    PaymentReceived,
    /// A payment failed.
    PaymentFailed,
    /// Money went back.
    RefundProcessed,
    /// An offer.
    PromoOffer,
    /// News of the platform.
    PlatformUpdate,
    /// Something about the safety of the account.
    AccountSecurity,
    /// A price changed.
    PriceAlert,
    /// A trip is near.
    TripReminder,
    /// Anything else.
    System,
}

impl Kind {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BookingConfirmed => "BOOKING_CONFIRMED",
            Self::BookingCancelled => "BOOKING_CANCELLED",
            Self::PaymentReceived => "PAYMENT_RECEIVED",
            Self::PaymentFailed => "PAYMENT_FAILED",
            Self::RefundProcessed => "REFUND_PROCESSED",
            Self::PromoOffer => "PROMO_OFFER",
            Self::PlatformUpdate => "PLATFORM_UPDATE",
            Self::AccountSecurity => "ACCOUNT_SECURITY",
            Self::PriceAlert => "PRICE_ALERT",
            Self::TripReminder => "TRIP_REMINDER",
            Self::System => "SYSTEM",
        }
    }
}

/// A notification as its owner reads it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    pub id: NotificationId,
    pub user_id: UserId,
    #[serde(rename = "type")]
    pub kind: Kind,
    pub title: String,
    pub message: String,
    pub read: bool,
    #[serde(with = "iso_option")]
    pub read_at: Option<DateTime<Utc>>,
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<serde_json::Value>,
    #[serde(with = "iso")]
    pub created_at: DateTime<Utc>,
    #[serde(with = "iso")]
    pub updated_at: DateTime<Utc>,
}

/// Which notifications are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// All of them.
    All,
    /// Those not read yet.
    Unread,
    /// Those read.
    Read,
}

impl Filter {
    /// The filter of this name; an unknown one means all.
    pub fn from_name(name: Option<&str>) -> Self {
        match name {
            Some("unread") => Self::Unread,
            Some("read") => Self::Read,
            _ => Self::All,
        }
    }

    /// Whether read ones are wanted, `None` for both.
    pub const fn read(self) -> Option<bool> {
        match self {
            Self::All => None,
            Self::Unread => Some(false),
            Self::Read => Some(true),
        }
    }
}

/// One page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Counted from one.
    pub number: i64,
    /// Rows on it.
    pub limit: i64,
}

impl Page {
    /// Reads `page` and `limit`: what is no number is the default, what is out of range the nearest end.
    pub fn read(page: Option<&str>, limit: Option<&str>) -> Self {
        let number = page
            .and_then(|text| text.trim().parse::<i64>().ok())
            .unwrap_or(1)
            .clamp(1, 1_000_000);
        let limit = limit
            .and_then(|text| text.trim().parse::<i64>().ok())
            .unwrap_or(20)
            .clamp(1, 50);
        Self { number, limit }
    }

    /// Rows before it.
    pub const fn offset(self) -> i64 {
        (self.number - 1) * self.limit
    }

    /// Whether rows follow it.
    pub const fn has_more(self, total: i64) -> bool {
        self.offset() + self.limit < total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_clamped_and_garbage_is_the_default() {
        assert_eq!(Page::read(Some("-3"), Some("1000")), Page { number: 1, limit: 50 });
        assert_eq!(Page::read(Some("x"), Some("")), Page { number: 1, limit: 20 });
        let far = Page::read(Some("9223372036854775807"), Some("0"));
        assert_eq!((far.number, far.limit), (1_000_000, 1));
        assert!(!far.has_more(5));
    }

    #[test]
    fn a_kind_is_stored_sent_and_published_under_one_name() {
        for kind in [
            Kind::BookingConfirmed,
            Kind::RefundProcessed,
            Kind::AccountSecurity,
            Kind::System,
        ] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
