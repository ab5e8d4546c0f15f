//! SQL of supplier orders and of the payment tasks that transitions leave behind (voyage §7.2, events §7.6).

use chrono::{DateTime, Utc};
use shared::id::BookingId;
use sqlx::PgConnection;
use uuid::Uuid;

use super::model::Booking;

/// One order at a supplier.
#[derive(Debug, Clone)]
pub struct Order {
    /// The line, counted from 0.
    pub line: i32,
    /// The supplier.
    pub provider: String,
    /// What is ordered.
    pub offer_id: String,
    /// The supplier's record locator, once it has confirmed.
    pub provider_ref: Option<String>,
    /// `pending`, `confirmed`, `failed`.
    pub status: String,
}

/// Writes down what is about to be ordered: one row per line that has a supplier. Repeating it changes nothing.
pub async fn plan(conn: &mut PgConnection, booking: &Booking, now: DateTime<Utc>) -> sqlx::Result<()> {
    let mut lines = Vec::new();
    let mut providers = Vec::new();
    let mut offers = Vec::new();
    for (number, line) in (0_i32..).zip(&booking.lines) {
        let Some(provider) = &line.provider else { continue };
        lines.push(number);
        providers.push(provider.clone());
        offers.push(line.item_id.clone());
    }
    sqlx::query!(
        r#"insert into voyage.provider_orders (booking_id, line_no, provider, offer_id, status, created_at, updated_at)
           select $1, line_no, provider, offer_id, 'pending', $5, $5
           from unnest($2::int[], $3::text[], $4::text[]) as planned (line_no, provider, offer_id)
           on conflict (booking_id, line_no) do nothing"#,
        booking.id as BookingId,
        &lines,
        &providers,
        &offers,
        now,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// The orders of a booking.
pub async fn of_booking(conn: &mut PgConnection, booking: BookingId) -> sqlx::Result<Vec<Order>> {
    sqlx::query_as!(
        Order,
        r#"select line_no as line, provider, offer_id, provider_ref, status
           from voyage.provider_orders where booking_id = $1 order by line_no"#,
        booking as BookingId,
    )
    .fetch_all(conn)
    .await
}

/// Records a supplier's confirmation.
pub async fn confirm(
    conn: &mut PgConnection,
    booking: BookingId,
    line: i32,
    provider_ref: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"update voyage.provider_orders set status = 'confirmed', provider_ref = $3, updated_at = $4
           where booking_id = $1 and line_no = $2 and status = 'pending'"#,
        booking as BookingId,
        line,
        provider_ref,
        now,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Paid bookings that wait for their suppliers, oldest first.
pub async fn waiting(conn: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<BookingId>> {
    sqlx::query_scalar!(
        r#"select id as "id: BookingId" from voyage.bookings
           where status = 'PENDING' and exists (select 1 from voyage.provider_orders where booking_id = bookings.id)
           order by updated_at limit $1"#,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// What payment is to be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum TaskKind {
    /// Cancel the payment of a booking that is over.
    Cancel,
    /// Give all the money of a payment back.
    Refund,
}

/// A task for payment.
#[derive(Debug, Clone)]
pub struct Task {
    /// The row.
    pub id: Uuid,
    /// For which booking.
    pub booking: BookingId,
    /// What is to be done.
    pub kind: TaskKind,
    /// To which payment; none: whatever the booking has.
    pub payment_intent: Option<String>,
    /// Why.
    pub reason: String,
    /// Makes it one effect.
    pub key: String,
    /// How often it was tried, this time included.
    pub attempts: i32,
}

/// Writes down a task. One key is one task for ever: a repetition changes nothing and says `false`.
pub async fn add_task(conn: &mut PgConnection, task: &Task, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"insert into voyage.payment_tasks
               (id, booking_id, kind, payment_intent_id, reason, idempotency_key, next_attempt_at, created_at)
           values ($1, $2, $3, $4, $5, $6, $7, $7)
           on conflict (idempotency_key) do nothing"#,
        task.id,
        task.booking as BookingId,
        task.kind as TaskKind,
        task.payment_intent,
        task.reason,
        task.key,
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes the next task that is due and leases it until `lease`, so that a crash gives it back.
pub async fn claim_task(
    conn: &mut PgConnection,
    now: DateTime<Utc>,
    lease: DateTime<Utc>,
) -> sqlx::Result<Option<Task>> {
    sqlx::query_as!(
        Task,
        r#"update voyage.payment_tasks set attempts = attempts + 1, next_attempt_at = $2
           where id = (
               select id from voyage.payment_tasks where done_at is null and next_attempt_at <= $1
               order by next_attempt_at limit 1 for update skip locked
           )
           returning id, booking_id as "booking: BookingId", kind as "kind: TaskKind",
                     payment_intent_id as payment_intent, reason, idempotency_key as key, attempts"#,
        now,
        lease,
    )
    .fetch_optional(conn)
    .await
}

/// Takes the task with this key for whoever asks for it by name, leased or not: every task may be carried out twice.
pub async fn claim_by_key(conn: &mut PgConnection, key: &str, lease: DateTime<Utc>) -> sqlx::Result<Option<Task>> {
    sqlx::query_as!(
        Task,
        r#"update voyage.payment_tasks set attempts = attempts + 1, next_attempt_at = $2
           where idempotency_key = $1 and done_at is null
           returning id, booking_id as "booking: BookingId", kind as "kind: TaskKind",
                     payment_intent_id as payment_intent, reason, idempotency_key as key, attempts"#,
        key,
        lease,
    )
    .fetch_optional(conn)
    .await
}

/// Notes how far the refund of a cancelled booking has come: how much it was, or that it will never be.
pub async fn note_refund(
    conn: &mut PgConnection,
    booking: BookingId,
    outcome: RefundOutcome,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let (status, minor) = match outcome {
        RefundOutcome::Pending(minor) => ("pending", Some(minor)),
        RefundOutcome::Arrived(minor) => ("succeeded", minor),
        RefundOutcome::Failed => ("failed", None),
    };
    sqlx::query!(
        r#"update voyage.bookings
           set refund_status = $2, refund_minor = coalesce($3, refund_minor),
               refunded_minor = case when $2 = 'failed' then 0 else coalesce($3, refunded_minor) end, updated_at = $4
           where id = $1 and refund_status = 'pending' and (refund_status, refund_minor) is distinct from ($2, $3)"#,
        booking as BookingId,
        status,
        minor,
        now,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// What is known of a refund.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefundOutcome {
    /// So much is on its way.
    Pending(i64),
    /// It arrived: so much, if that was told.
    Arrived(Option<i64>),
    /// It will never arrive.
    Failed,
}

/// Marks a task as done, with what came of it.
pub async fn finish_task(conn: &mut PgConnection, task: Uuid, outcome: &str, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        r#"update voyage.payment_tasks set done_at = $2, outcome = $3 where id = $1 and done_at is null"#,
        task,
        now,
        outcome,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Puts a task off.
pub async fn postpone_task(conn: &mut PgConnection, task: Uuid, until: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        r#"update voyage.payment_tasks set next_attempt_at = $2 where id = $1 and done_at is null"#,
        task,
        until,
    )
    .execute(conn)
    .await
    .map(drop)
}
