//! What other services of the pod may ask voyage for (contract: payment §4.1, events §7).

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared::{
    ApiError, Sources,
    db::Db,
    id::{BookingId, UserId},
    money::Money,
};

use super::{Voyage, booking::store};

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

impl BookingStatus {
    /// The name on the wire and in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Draft => "DRAFT",
            Self::PendingPayment => "PENDING_PAYMENT",
            Self::Pending => "PENDING",
            Self::Confirmed => "CONFIRMED",
            Self::Cancelled => "CANCELLED",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
        }
    }

    /// Every status, in order of life.
    pub const ALL: [Self; 7] = [
        Self::Draft,
        Self::PendingPayment,
        Self::Pending,
        Self::Confirmed,
        Self::Cancelled,
        Self::Completed,
        Self::Failed,
    ];
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

/// The bookings of this process's database.
#[derive(Debug, Clone)]
pub struct LocalBookings {
    db: Db<Voyage>,
    sources: Sources,
}

impl LocalBookings {
    /// Over voyage's own pool.
    pub const fn new(db: Db<Voyage>, sources: Sources) -> Self {
        Self { db, sources }
    }
}

#[async_trait]
impl BookingClient for LocalBookings {
    async fn payable(&self, reference_or_id: &str, user: UserId) -> Result<Option<PayableBooking>, ApiError> {
        if reference_or_id.contains('\0') {
            return Ok(None);
        }
        let found = store::find(self.db.pool(), reference_or_id).await?;
        let owned = found.filter(|booking| booking.user == user);
        Ok(owned.map(|booking| PayableBooking {
            payable: booking.is_payable(self.sources.now()),
            id: booking.id,
            reference: booking.reference,
            user: booking.user,
            amount: booking.total,
            status: booking.status,
            expires_at: booking.expires_at,
        }))
    }
}
