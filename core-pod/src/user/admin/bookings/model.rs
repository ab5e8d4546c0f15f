//! Bookings as administrators see them. No HTTP, no SQL.
//!
//! contract: core §5.12, §11

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use shared::{
    ApiError,
    http::QueryMap,
    id::{BookingId, UserId},
    sources::{iso, iso_option},
};
use utoipa::ToSchema;

use crate::user::admin::{
    answers::{Pagination, Person, PersonColumns},
    list::{Amounts, Order, Page, Range, part, word},
    payments::{Payment, money},
};

/// The states of a booking.
pub const STATUSES: [&str; 7] = [
    "DRAFT",
    "PENDING_PAYMENT",
    "PENDING",
    "CONFIRMED",
    "CANCELLED",
    "COMPLETED",
    "FAILED",
];
/// What a booking is as a whole.
pub const KINDS: [&str; 5] = ["FLIGHT", "HOTEL", "TRANSFER", "ACTIVITY", "PACKAGE"];

/// A booking.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AdminBooking)]
pub struct Booking {
    pub id: BookingId,
    pub user_id: UserId,
    #[serde(rename = "type")]
    pub kind: String,
    pub reference: String,
    pub status: String,
    pub payment_intent_id: Option<String>,
    #[serde(with = "iso_option")]
    pub confirmed_at: Option<DateTime<Utc>>,
    /// Major units.
    pub total_amount: f64,
    pub currency: String,
    /// What was bought, how it ended, what administrators added.
    #[schema(value_type = Object)]
    pub data: Box<RawValue>,
    /// `pending`, `succeeded` or `failed` once a cancellation asked for a refund.
    pub refund_status: Option<String>,
    #[serde(with = "iso")]
    pub created_at: DateTime<Utc>,
    #[serde(with = "iso")]
    pub updated_at: DateTime<Utc>,
    pub destination: Option<String>,
    /// Nobody, once the account is gone.
    pub user: Option<Person>,
}

/// A page of bookings.
#[derive(Serialize, ToSchema)]
#[schema(as = AdminBookingPage)]
pub struct BookingPage {
    pub bookings: Vec<Booking>,
    pub pagination: Pagination,
}

/// A booking with its payment.
#[derive(Serialize, ToSchema)]
#[schema(as = AdminBookingDetail)]
pub struct BookingDetail {
    #[serde(flatten)]
    pub booking: Booking,
    pub payment: Option<Payment>,
}

/// The columns of the view, with the person.
#[derive(sqlx::FromRow)]
pub struct BookingColumns {
    pub id: BookingId,
    pub user_id: UserId,
    #[sqlx(rename = "type")]
    pub kind: String,
    pub reference: String,
    pub status: String,
    pub payment_intent_id: Option<String>,
    pub confirmed_at: Option<DateTime<Utc>>,
    pub total_minor: i64,
    pub currency: String,
    pub data: sqlx::types::Json<Box<RawValue>>,
    pub refund_status: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub destination: Option<String>,
    pub person_id: Option<UserId>,
    pub person_email: Option<String>,
    pub person_first_name: Option<String>,
    pub person_last_name: Option<String>,
    pub person_username: Option<String>,
}

impl BookingColumns {
    /// The booking; with `full`, its person has a user name.
    pub fn booking(self, full: bool) -> sqlx::Result<Booking> {
        let total = money("voyage.booking_data", self.total_minor, &self.currency)?;
        let person = PersonColumns {
            id: self.person_id,
            email: self.person_email,
            first_name: self.person_first_name,
            last_name: self.person_last_name,
            username: self.person_username,
        };
        Ok(Booking {
            id: self.id,
            user_id: self.user_id,
            kind: self.kind,
            reference: self.reference,
            status: self.status,
            payment_intent_id: self.payment_intent_id,
            confirmed_at: self.confirmed_at,
            total_amount: total.major(),
            currency: self.currency,
            data: self.data.0,
            refund_status: self.refund_status,
            created_at: self.created_at,
            updated_at: self.updated_at,
            destination: self.destination,
            user: if full { person.full() } else { person.brief() },
        })
    }
}

/// The cells of a booking in the file.
#[derive(sqlx::FromRow)]
pub struct ExportRow {
    pub id: BookingId,
    pub reference: String,
    #[sqlx(rename = "type")]
    pub kind: String,
    pub status: String,
    pub destination: Option<String>,
    pub user_id: UserId,
    pub user_email: Option<String>,
    /// With the digits of its currency.
    pub total_amount: String,
    pub currency: String,
    pub confirmed_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
}

/// By what a list of bookings may be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    CreatedAt,
    UpdatedAt,
    ConfirmedAt,
    TotalAmount,
    Status,
    Kind,
    Reference,
    Currency,
    Destination,
    User,
}

impl Column {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "createdAt" => Self::CreatedAt,
            "updatedAt" => Self::UpdatedAt,
            "confirmedAt" => Self::ConfirmedAt,
            "totalAmount" | "amount" => Self::TotalAmount,
            "status" => Self::Status,
            "type" => Self::Kind,
            "reference" => Self::Reference,
            "currency" => Self::Currency,
            "destination" => Self::Destination,
            "user" => Self::User,
            _ => return None,
        })
    }

    /// As SQL.
    pub const fn sql(self) -> &'static str {
        match self {
            Self::CreatedAt => "booking.created_at",
            Self::UpdatedAt => "booking.updated_at",
            Self::ConfirmedAt => "booking.confirmed_at",
            Self::TotalAmount => "booking.total_amount",
            Self::Status => "booking.status",
            Self::Kind => "booking.type",
            Self::Reference => "booking.reference",
            Self::Currency => "booking.currency",
            Self::Destination => "booking.destination",
            Self::User => "account.email",
        }
    }
}

/// What a list or a file of bookings is asked by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub page: Page,
    pub order: Order<Column>,
    pub search: Option<String>,
    pub status: Option<&'static str>,
    pub kind: Option<&'static str>,
    pub range: Range,
    pub amounts: Amounts,
    pub destination: Option<String>,
}

impl Filter {
    /// Reads a query.
    pub fn read(query: &QueryMap) -> Result<Self, ApiError> {
        Ok(Self {
            page: Page::read(query, 50),
            order: Order::read(query, Column::named, Column::CreatedAt),
            search: part(query, "search")?,
            status: word(query, "status", &STATUSES)?,
            kind: word(query, "type", &KINDS)?,
            range: Range::read(query)?,
            amounts: Amounts::read(query)?,
            destination: part(query, "destination")?,
        })
    }
}
