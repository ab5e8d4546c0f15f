//! Payments as administrators see them. No HTTP, no SQL.
//!
//! contract: core §5.12, §11; payment §9

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;
use shared::{
    ApiError,
    http::QueryMap,
    id::{BookingId, PaymentId, UserId},
    money::{Currency, Money},
    sources::{iso, iso_option},
};
use utoipa::ToSchema;

use crate::user::admin::{
    answers::{Pagination, Person, PersonColumns},
    list::{Amounts, Order, Page, Range, part, word},
};

/// An amount out of a view: exact minor units and the code of their currency.
pub fn money(view: &str, minor: i64, code: &str) -> sqlx::Result<Money> {
    let currency: Currency = code.parse().map_err(|_| sqlx::Error::ColumnDecode {
        index: "currency".to_owned(),
        source: format!("{view} has an unknown currency").into(),
    })?;
    Ok(Money::new(minor, currency))
}

/// A payment, as the contract lists its columns.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AdminPayment)]
#[expect(clippy::struct_field_names, reason = "the names of the contract")]
pub struct Payment {
    pub id: PaymentId,
    pub payment_intent_id: String,
    pub booking_id: BookingId,
    pub booking_reference: String,
    pub user_id: UserId,
    /// Major units.
    pub amount: f64,
    pub currency: String,
    pub status: String,
    pub payment_method: Option<String>,
    pub stripe_customer_id: Option<String>,
    #[serde(with = "iso")]
    pub created_at: DateTime<Utc>,
    #[serde(with = "iso")]
    pub updated_at: DateTime<Utc>,
    #[serde(with = "iso_option")]
    pub confirmed_at: Option<DateTime<Utc>>,
    #[serde(with = "iso_option")]
    pub failed_at: Option<DateTime<Utc>>,
    #[serde(with = "iso_option")]
    pub refunded_at: Option<DateTime<Utc>>,
    pub failure_reason: Option<String>,
    /// What was given back so far, in major units.
    pub refunded_amount: f64,
    #[schema(value_type = Object)]
    pub metadata: Box<RawValue>,
}

/// A payment with its traveller.
#[derive(Serialize, ToSchema)]
#[schema(as = AdminPaymentRow)]
pub struct PaymentRow {
    #[serde(flatten)]
    pub payment: Payment,
    /// Nobody, once the account is gone.
    pub user: Option<Person>,
}

/// A page of payments.
#[derive(Serialize, ToSchema)]
#[schema(as = AdminPaymentPage)]
pub struct PaymentPage {
    pub payments: Vec<PaymentRow>,
    pub pagination: Pagination,
}

/// The booking that a payment is for.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AdminPaidBooking)]
pub struct PaidBooking {
    pub id: BookingId,
    pub reference: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    /// Major units.
    pub total_amount: f64,
    pub currency: String,
    #[serde(with = "iso")]
    pub created_at: DateTime<Utc>,
}

/// A payment with all that belongs to it.
#[derive(Serialize, ToSchema)]
#[schema(as = AdminPaymentDetail)]
pub struct PaymentDetail {
    #[serde(flatten)]
    pub payment: Payment,
    pub user: Option<Person>,
    pub booking: Option<PaidBooking>,
}

/// The columns of the view, with the person.
#[derive(sqlx::FromRow)]
pub struct PaymentColumns {
    pub id: PaymentId,
    pub payment_intent_id: String,
    pub booking_id: BookingId,
    pub booking_reference: String,
    pub user_id: UserId,
    pub amount_minor: i64,
    pub refunded_minor: i64,
    pub currency: String,
    pub status: String,
    pub payment_method: Option<String>,
    pub stripe_customer_id: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub confirmed_at: Option<DateTime<Utc>>,
    pub failed_at: Option<DateTime<Utc>>,
    pub refunded_at: Option<DateTime<Utc>>,
    pub failure_reason: Option<String>,
    pub metadata: sqlx::types::Json<Box<RawValue>>,
    pub person_id: Option<UserId>,
    pub person_email: Option<String>,
    pub person_first_name: Option<String>,
    pub person_last_name: Option<String>,
    pub person_username: Option<String>,
}

impl PaymentColumns {
    /// The payment and whose it is.
    pub fn split(self) -> sqlx::Result<(Payment, PersonColumns)> {
        let amount = money("payment.transaction_data", self.amount_minor, &self.currency)?;
        let refunded = Money::new(self.refunded_minor, amount.currency);
        let person = PersonColumns {
            id: self.person_id,
            email: self.person_email,
            first_name: self.person_first_name,
            last_name: self.person_last_name,
            username: self.person_username,
        };
        let payment = Payment {
            id: self.id,
            payment_intent_id: self.payment_intent_id,
            booking_id: self.booking_id,
            booking_reference: self.booking_reference,
            user_id: self.user_id,
            amount: amount.major(),
            currency: self.currency,
            status: self.status,
            payment_method: self.payment_method,
            stripe_customer_id: self.stripe_customer_id,
            created_at: self.created_at,
            updated_at: self.updated_at,
            confirmed_at: self.confirmed_at,
            failed_at: self.failed_at,
            refunded_at: self.refunded_at,
            failure_reason: self.failure_reason,
            refunded_amount: refunded.major(),
            metadata: self.metadata.0,
        };
        Ok((payment, person))
    }
}

/// The states of a payment.
pub const STATUSES: [&str; 6] = ["PENDING", "PROCESSING", "SUCCEEDED", "FAILED", "CANCELED", "REFUNDED"];
/// Those that an administrator may set.
pub const SETTABLE: [&str; 4] = ["PENDING", "SUCCEEDED", "FAILED", "REFUNDED"];

/// By what a list of payments may be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    CreatedAt,
    UpdatedAt,
    ConfirmedAt,
    Amount,
    Status,
    BookingReference,
    Currency,
    User,
}

impl Column {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "createdAt" => Self::CreatedAt,
            "updatedAt" => Self::UpdatedAt,
            "confirmedAt" => Self::ConfirmedAt,
            "amount" => Self::Amount,
            "status" => Self::Status,
            "bookingReference" => Self::BookingReference,
            "currency" => Self::Currency,
            "user" => Self::User,
            _ => return None,
        })
    }

    /// As SQL.
    pub const fn sql(self) -> &'static str {
        match self {
            Self::CreatedAt => "payment.created_at",
            Self::UpdatedAt => "payment.updated_at",
            Self::ConfirmedAt => "payment.confirmed_at",
            Self::Amount => "payment.amount",
            Self::Status => "payment.status",
            Self::BookingReference => "payment.booking_reference",
            Self::Currency => "payment.currency",
            Self::User => "account.email",
        }
    }
}

/// What a list of payments is asked by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    pub page: Page,
    pub order: Order<Column>,
    pub search: Option<String>,
    pub status: Option<&'static str>,
    pub range: Range,
    pub amounts: Amounts,
}

impl Filter {
    /// Reads a query.
    pub fn read(query: &QueryMap) -> Result<Self, ApiError> {
        Ok(Self {
            page: Page::read(query, 20),
            order: Order::read(query, Column::named, Column::CreatedAt),
            search: part(query, "search")?,
            status: word(query, "status", &STATUSES)?,
            range: Range::read(query)?,
            amounts: Amounts::read(query)?,
        })
    }
}
