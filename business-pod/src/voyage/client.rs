//! What other services of the pod may ask voyage for (contract: payment §4.1, events §7).

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared::{
    ApiError,
    id::{BookingId, UserId},
    money::Money,
};

/// How far a booking has come (voyage §7.2). `expired` and `paid` are questions to ask of a [`PayableBooking`].
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, sqlx::Type, utoipa::ToSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[sqlx(type_name = "text", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BookingStatus {
    /// Made by a checkout, not paid.
    Draft,
    /// The payment is under way at the provider.
    PendingPayment,
    /// Paid; the suppliers' orders are under way.
    Pending,
    /// Paid and ordered.
    Confirmed,
    /// Ended by its owner, by an operator, by a newer checkout or by a refund.
    Cancelled,
    /// The journey is over.
    Completed,
    /// Not paid in time, or the payment was declined.
    Failed,
}

/// What payment must know of a booking before it makes an intent for it.
#[derive(Debug, Clone)]
pub struct PayableBooking {
    /// The booking.
    pub id: BookingId,
    /// Its reference, `BOOK-YYYYMMDD-XXXXX`.
    pub reference: String,
    /// Its owner.
    pub user: UserId,
    /// What is to be paid, exactly.
    pub amount: Money,
    /// Where it stands.
    pub status: BookingStatus,
    /// Until when it may be paid.
    pub expires_at: DateTime<Utc>,
    /// Whether a payment would be honoured now: open (or declined and still revivable) and not expired.
    pub payable: bool,
}

/// Reads bookings for other services. Object-safe.
#[async_trait]
pub trait BookingClient: Send + Sync + 'static {
    /// The booking of this reference (or row id) if it belongs to `user`; `None` for an unknown or foreign one. Look at
    /// [`PayableBooking::payable`] before taking money for it.
    async fn payable(&self, reference_or_id: &str, user: UserId) -> Result<Option<PayableBooking>, ApiError>;
}
