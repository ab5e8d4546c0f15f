//! SQL of what administrators change of a booking, and of the refund that a cancellation asked for.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use shared::id::BookingId;
use sqlx::{PgConnection, types::Json};

use super::change::Corrected;
use crate::voyage::booking::model::Booking;

/// How far a refund has come (voyage §7.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, sqlx::Type, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schema(as = BookingRefundStatus)]
pub enum RefundStatus {
    /// Asked for.
    Pending,
    /// It arrived.
    Succeeded,
    /// It cannot be made; somebody has been told.
    Failed,
}

/// Writes down that so many minor units are to go back.
pub async fn ask_refund(conn: &mut PgConnection, booking: BookingId, minor: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "update voyage.bookings set refund_minor = $2, refund_status = 'pending' where id = $1",
        booking as BookingId,
        minor,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// How far the refund of a booking has come; none if none was asked for.
pub async fn refund_status(conn: &mut PgConnection, booking: BookingId) -> sqlx::Result<Option<RefundStatus>> {
    sqlx::query_scalar!(
        r#"select refund_status as "status: RefundStatus" from voyage.bookings where id = $1"#,
        booking as BookingId,
    )
    .fetch_optional(conn)
    .await
    .map(Option::flatten)
}

/// A booking's `data` as others read it.
pub async fn data(conn: &mut PgConnection, booking: BookingId) -> sqlx::Result<Map<String, Value>> {
    let found = sqlx::query_scalar!(
        r#"select data as "data!: Json<Map<String, Value>>" from voyage.booking_data where id = $1"#,
        booking as BookingId,
    )
    .fetch_one(conn)
    .await?;
    Ok(found.0)
}

/// Stores a correction. The row must be locked by the caller.
pub async fn correct(
    conn: &mut PgConnection,
    booking: &Booking,
    corrected: &Corrected,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let done = sqlx::query!(
        r#"update voyage.bookings
           set total_minor = $3, admin_data = (admin_data || $4) - $5::text[], version = version + 1, updated_at = $6
           where id = $1 and version = $2"#,
        booking.id as BookingId,
        booking.version,
        corrected.total.minor,
        Json(&corrected.data) as _,
        &corrected.removed,
        now,
    )
    .execute(conn)
    .await?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(sqlx::Error::RowNotFound)
    }
}
