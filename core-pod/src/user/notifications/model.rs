//! Notifications as the rules see them. No HTTP, no SQL.
//!
//! contract: core §5.8, §11

use chrono::{DateTime, Utc};
use serde::Serialize;
use shared::{
    id::{NotificationId, UserId},
    sources::{iso, iso_option},
};
use utoipa::ToSchema;

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

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::BookingConfirmed,
        Self::BookingCancelled,
        Self::PaymentReceived,
        Self::PaymentFailed,
        Self::RefundProcessed,
        Self::PromoOffer,
        Self::PlatformUpdate,
        Self::AccountSecurity,
        Self::PriceAlert,
        Self::TripReminder,
        Self::System,
    ];

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// How soon its mail should leave.
    pub const fn priority(self) -> &'static str {
        match self {
            Self::AccountSecurity | Self::PaymentFailed => "high",
            Self::PromoOffer | Self::PlatformUpdate => "low",
            _ => "normal",
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
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert_eq!(Kind::from_name(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::from_name("system"), None);
    }
}
