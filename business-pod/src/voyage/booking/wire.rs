//! Bookings as clients see them (voyage §4.8). Amounts are numbers (experience D5).

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use shared::{id::BookingId, money::Money};
use utoipa::ToSchema;

use super::{
    model::{Booking, BookingKind, ItemKind, Status, unit_price},
    orders::Order,
    store::HistoryRow,
};

/// One bought thing.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BookedItem {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: ItemKind,
    /// The id of whoever sells it.
    pub item_id: String,
    /// What the client put in.
    #[schema(value_type = Object)]
    pub item_data: Box<RawValue>,
    /// How many.
    pub quantity: i32,
    /// Per unit.
    pub price: f64,
    /// What the line costs, exactly.
    pub line_total: f64,
    /// ISO 4217.
    pub currency: &'static str,
}

impl BookedItem {
    /// All lines of a booking.
    pub fn all(booking: &Booking) -> Vec<Self> {
        let currency = booking.total.currency;
        let one = |line: &super::model::Line| {
            let total = Money::new(line.line_total_minor, currency);
            Self {
                kind: line.kind,
                item_id: line.item_id.clone(),
                item_data: line.item_data.clone(),
                quantity: line.quantity,
                price: unit_price(total, line.quantity),
                line_total: total.major(),
                currency: currency.code(),
            }
        };
        booking.lines.iter().map(one).collect()
    }
}

/// A booking in a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BookingRow {
    /// The row.
    pub id: BookingId,
    /// `BOOK-YYYYMMDD-XXXXX`.
    pub reference: String,
    /// What it is as a whole.
    #[serde(rename = "type")]
    pub kind: BookingKind,
    /// Where it stands.
    pub status: Status,
    /// Major units.
    pub total_amount: f64,
    /// ISO 4217.
    pub currency: &'static str,
    /// What was bought.
    pub items: Vec<BookedItem>,
    /// How many lines.
    pub item_count: usize,
    /// When it was made.
    #[serde(with = "shared::sources::iso")]
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    #[serde(with = "shared::sources::iso")]
    pub updated_at: DateTime<Utc>,
    /// When it was confirmed.
    #[serde(with = "shared::sources::iso_option")]
    pub confirmed_at: Option<DateTime<Utc>>,
}

impl From<Booking> for BookingRow {
    fn from(booking: Booking) -> Self {
        let items = BookedItem::all(&booking);
        Self {
            id: booking.id,
            reference: booking.reference,
            kind: booking.kind,
            status: booking.status,
            total_amount: booking.total.major(),
            currency: booking.total.currency.code(),
            item_count: items.len(),
            items,
            created_at: booking.created_at,
            updated_at: booking.updated_at,
            confirmed_at: booking.confirmed_at,
        }
    }
}

/// A page of bookings.
#[derive(Debug, Serialize, ToSchema)]
pub struct BookingList {
    /// The page.
    pub data: Vec<BookingRow>,
    /// Where it is in the whole.
    pub meta: ListMeta,
}

/// What a page was cut from.
#[derive(Debug, Serialize, ToSchema)]
pub struct ListMeta {
    /// Where the page is.
    pub pagination: Pagination,
    /// What was asked for.
    pub filters: Filters,
    /// How it is ordered.
    pub sorting: Sorting,
}

/// Where a page is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pagination {
    /// From 1.
    pub page: i64,
    /// Rows of a page.
    pub limit: i64,
    /// All rows.
    pub total_count: i64,
    /// All pages.
    pub total_pages: i64,
    /// Whether another follows.
    pub has_next_page: bool,
    /// Whether there is one before.
    pub has_prev_page: bool,
}

/// What was asked for; unknown words are dropped.
#[derive(Debug, Serialize, ToSchema)]
pub struct Filters {
    /// States.
    pub status: Vec<String>,
    /// Kinds.
    pub r#type: Vec<String>,
    /// Part of the reference.
    pub search: Option<String>,
}

/// How a list is ordered.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sorting {
    /// By which field.
    pub sort_by: &'static str,
    /// `asc` or `desc`.
    pub sort_order: &'static str,
}

/// One booking.
#[derive(Debug, Serialize, ToSchema)]
pub struct BookingReply {
    /// The booking.
    pub data: BookingDetail,
}

/// A booking with everything that is known of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BookingDetail {
    /// The row.
    pub id: BookingId,
    /// `BOOK-YYYYMMDD-XXXXX`.
    pub reference: String,
    /// What it is as a whole.
    #[serde(rename = "type")]
    pub kind: BookingKind,
    /// Where it stands.
    pub status: Status,
    /// Major units.
    pub total_amount: f64,
    /// ISO 4217.
    pub currency: &'static str,
    /// What was bought.
    pub items: Vec<BookedItem>,
    /// What the client kept with it.
    #[schema(value_type = Object)]
    pub metadata: Box<RawValue>,
    /// Stripe's id of its payment.
    pub payment_intent_id: Option<String>,
    /// Until when it may be paid, while it may.
    #[serde(with = "shared::sources::iso_option", skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was made.
    #[serde(with = "shared::sources::iso")]
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    #[serde(with = "shared::sources::iso")]
    pub updated_at: DateTime<Utc>,
    /// When it was confirmed.
    #[serde(with = "shared::sources::iso_option")]
    pub confirmed_at: Option<DateTime<Utc>>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
    /// Why, when and with what refund it was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancellation: Option<Cancellation>,
    /// What was ordered from suppliers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub provider_orders: Vec<ProviderOrder>,
    /// What happened, oldest first.
    pub timeline: Vec<TimelineEntry>,
}

/// How a booking ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct Cancellation {
    /// Why.
    pub reason: Option<String>,
    /// When.
    #[serde(with = "shared::sources::iso_option")]
    pub at: Option<DateTime<Utc>>,
    /// What was given back, in major units.
    pub refund: Option<f64>,
}

/// An order at a supplier.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProviderOrder {
    /// The line, from 0.
    pub line: i32,
    /// The supplier.
    pub provider: String,
    /// Its record locator.
    pub r#ref: Option<String>,
    /// `pending`, `confirmed`, `failed`.
    pub status: String,
}

/// One step of a booking's life.
#[derive(Debug, Serialize, ToSchema)]
pub struct TimelineEntry {
    /// When.
    #[serde(with = "shared::sources::iso")]
    pub at: DateTime<Utc>,
    /// From which status; none for the first.
    pub from: Option<Status>,
    /// To which.
    pub to: Status,
    /// Why.
    pub reason: Option<String>,
}

impl BookingDetail {
    /// A booking with its orders and its history.
    pub fn new(booking: Booking, orders: Vec<Order>, history: Vec<HistoryRow>, now: DateTime<Utc>) -> Self {
        let currency = booking.total.currency;
        let cancelled = booking.status == Status::Cancelled;
        let cancellation = cancelled.then(|| Cancellation {
            reason: booking.reason.clone(),
            at: booking.ended_at,
            refund: booking.refunded_minor.map(|minor| Money::new(minor, currency).major()),
        });
        Self {
            id: booking.id,
            kind: booking.kind,
            status: booking.status,
            total_amount: booking.total.major(),
            currency: currency.code(),
            items: BookedItem::all(&booking),
            expires_at: booking.is_payable(now).then_some(booking.expires_at),
            reference: booking.reference,
            metadata: booking.metadata,
            payment_intent_id: booking.payment_intent,
            created_at: booking.created_at,
            updated_at: booking.updated_at,
            confirmed_at: booking.confirmed_at,
            failure_reason: if cancelled { None } else { booking.reason },
            cancellation,
            provider_orders: orders
                .into_iter()
                .map(|order| ProviderOrder {
                    line: order.line,
                    provider: order.provider,
                    r#ref: order.provider_ref,
                    status: order.status,
                })
                .collect(),
            timeline: history
                .into_iter()
                .map(|row| TimelineEntry {
                    at: row.at,
                    from: row.from,
                    to: row.to,
                    reason: row.reason,
                })
                .collect(),
        }
    }
}

/// The outcome of a confirmation.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConfirmReply {
    /// The booking.
    pub data: Confirmed,
}

/// A booking after a confirmation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BookingConfirmed)]
pub struct Confirmed {
    /// The row.
    pub id: BookingId,
    /// `BOOK-YYYYMMDD-XXXXX`.
    pub reference: String,
    /// `CONFIRMED`, or `PENDING` while suppliers are being asked.
    pub status: Status,
    /// When it was confirmed.
    #[serde(with = "shared::sources::iso_option", skip_serializing_if = "Option::is_none")]
    pub confirmed_at: Option<DateTime<Utc>>,
    /// In one sentence.
    pub message: &'static str,
}

impl From<Booking> for ConfirmReply {
    fn from(booking: Booking) -> Self {
        let message = match booking.status {
            Status::Confirmed => "Booking confirmed successfully",
            _ => "Payment received, the booking is being confirmed",
        };
        let data = Confirmed {
            id: booking.id,
            reference: booking.reference,
            status: booking.status,
            confirmed_at: booking.confirmed_at,
            message,
        };
        Self { data }
    }
}
