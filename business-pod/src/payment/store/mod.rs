//! All SQL of the payment service, over a connection that the caller chose: in a transaction wherever something changes.
//!
//! contract: payment §8. Lock order: webhook inbox, then the payment, then its refunds.

pub mod actions;
pub mod inbox;
pub mod ledger;
pub mod refunds;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use shared::{
    id::{BookingId, PaymentId, UserId},
    money::{Currency, Money},
};
use sqlx::{PgConnection, types::Json};

use super::{
    model::{AttemptFailure, Success, Transaction},
    words::Status,
};

/// A row of `payment_transactions`.
struct Row {
    id: PaymentId,
    payment_intent_id: Option<String>,
    booking_id: BookingId,
    booking_reference: String,
    user_id: UserId,
    amount_minor: i64,
    currency: String,
    status: Status,
    provider_status: Option<String>,
    livemode: bool,
    attempt: i32,
    captured_minor: i64,
    reserved_minor: i64,
    refunded_minor: i64,
    payment_method: Option<String>,
    charge_id: Option<String>,
    failure_key: Option<String>,
    failure_code: Option<String>,
    failure_message: Option<String>,
    review_reason: Option<String>,
    cancel_reason: Option<String>,
    metadata: Json<BTreeMap<String, String>>,
    correlation_id: Option<String>,
    last_provider_event_at: Option<DateTime<Utc>>,
    checked_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    confirmed_at: Option<DateTime<Utc>>,
    failed_at: Option<DateTime<Utc>>,
    canceled_at: Option<DateTime<Utc>>,
    refunded_at: Option<DateTime<Utc>>,
}

/// A stored currency that is none: somebody wrote it by hand.
pub(super) fn currency(text: &str) -> sqlx::Result<Currency> {
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

impl TryFrom<Row> for Transaction {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.id,
            intent: row.payment_intent_id,
            booking: row.booking_id,
            reference: row.booking_reference,
            user: row.user_id,
            amount: Money::new(row.amount_minor, currency(&row.currency)?),
            status: row.status,
            provider_status: row.provider_status,
            livemode: row.livemode,
            attempt: row.attempt,
            captured: row.captured_minor,
            reserved: row.reserved_minor,
            refunded: row.refunded_minor,
            payment_method: row.payment_method,
            charge: row.charge_id,
            failure_key: row.failure_key,
            failure_code: row.failure_code,
            failure_message: row.failure_message,
            review: row.review_reason,
            cancel_reason: row.cancel_reason,
            metadata: row.metadata.0,
            correlation: row.correlation_id,
            last_event_at: row.last_provider_event_at,
            checked_at: row.checked_at,
            created_at: row.created_at,
            confirmed_at: row.confirmed_at,
            failed_at: row.failed_at,
            canceled_at: row.canceled_at,
            refunded_at: row.refunded_at,
        })
    }
}

/// Payments chosen by the rest of the statement.
macro_rules! payments {
    ($rest:literal $(, $bind:expr)* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"select id as "id: PaymentId", payment_intent_id, booking_id as "booking_id: BookingId", booking_reference,
                      user_id as "user_id: UserId", amount_minor, currency, status as "status: Status", provider_status,
                      livemode, attempt, captured_minor, reserved_minor, refunded_minor, payment_method, charge_id,
                      failure_key, failure_code, failure_message, review_reason, cancel_reason,
                      metadata as "metadata: Json<BTreeMap<String, String>>", correlation_id, last_provider_event_at,
                      checked_at, created_at, confirmed_at, failed_at, canceled_at, refunded_at
               from payment.payment_transactions "#
                + $rest
            $(, $bind)*
        )
    };
}

/// A payment about to start.
#[derive(Debug)]
pub struct NewTransaction<'a> {
    /// Its id, from which Stripe's idempotency key is made.
    pub id: PaymentId,
    /// The booking row.
    pub booking: BookingId,
    /// Its reference.
    pub reference: &'a str,
    /// Who pays.
    pub user: UserId,
    /// What for.
    pub amount: Money,
    /// Whether real money moves.
    pub livemode: bool,
    /// Free additions to Stripe's metadata.
    pub metadata: &'a BTreeMap<String, String>,
    /// The checkout this belongs to.
    pub correlation: Option<&'a str>,
}

/// Starts a payment, unless one is open for the booking: then nothing is inserted.
pub async fn insert(db: &mut PgConnection, new: &NewTransaction<'_>, now: DateTime<Utc>) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"insert into payment.payment_transactions
               (id, booking_id, booking_reference, user_id, amount_minor, currency, currency_exponent, livemode, metadata,
                correlation_id, created_at, updated_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
           on conflict (booking_id) where status in ('PENDING', 'PROCESSING', 'FAILED') do nothing"#,
        new.id as PaymentId,
        new.booking as BookingId,
        new.reference,
        new.user as UserId,
        new.amount.minor,
        new.amount.currency.code(),
        i16::try_from(new.amount.currency.exponent()).unwrap_or_default(),
        new.livemode,
        Json(new.metadata) as _,
        new.correlation,
        now,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The payment with this id.
pub async fn find(db: &mut PgConnection, id: PaymentId) -> sqlx::Result<Option<Transaction>> {
    payments!("where id = $1", id as PaymentId)
        .fetch_optional(db)
        .await?
        .map(Transaction::try_from)
        .transpose()
}

/// The payment with this PaymentIntent.
pub async fn find_by_intent(db: &mut PgConnection, intent: &str) -> sqlx::Result<Option<Transaction>> {
    payments!("where payment_intent_id = $1", intent)
        .fetch_optional(db)
        .await?
        .map(Transaction::try_from)
        .transpose()
}

/// The newest payment of a booking.
pub async fn find_latest(db: &mut PgConnection, booking: BookingId) -> sqlx::Result<Option<Transaction>> {
    payments!(
        "where booking_id = $1 order by created_at desc, id desc limit 1",
        booking as BookingId
    )
    .fetch_optional(db)
    .await?
    .map(Transaction::try_from)
    .transpose()
}

/// All payments of a booking, newest first.
pub async fn list_of_booking(db: &mut PgConnection, booking: BookingId) -> sqlx::Result<Vec<Transaction>> {
    let rows = payments!(
        "where booking_id = $1 order by created_at desc, id desc",
        booking as BookingId
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Transaction::try_from).collect()
}

/// Locks a payment until the end of the transaction.
pub async fn lock(db: &mut PgConnection, id: PaymentId) -> sqlx::Result<Option<Transaction>> {
    payments!("where id = $1 for update", id as PaymentId)
        .fetch_optional(db)
        .await?
        .map(Transaction::try_from)
        .transpose()
}

/// Locks the payment with this PaymentIntent.
pub async fn lock_by_intent(db: &mut PgConnection, intent: &str) -> sqlx::Result<Option<Transaction>> {
    payments!("where payment_intent_id = $1 for update", intent)
        .fetch_optional(db)
        .await?
        .map(Transaction::try_from)
        .transpose()
}

/// Writes every column that may change. The row must be locked by the caller.
pub async fn save(db: &mut PgConnection, payment: &Transaction, now: DateTime<Utc>) -> sqlx::Result<()> {
    let done = sqlx::query!(
        r#"update payment.payment_transactions
           set status = $2::payment.transaction_status, provider_status = $3, attempt = $4, captured_minor = $5, reserved_minor = $6,
               refunded_minor = $7, payment_method = $8, charge_id = $9, failure_key = $10, failure_code = $11,
               failure_message = $12, review_reason = $13, cancel_reason = $14, last_provider_event_at = $15,
               checked_at = $16, confirmed_at = $17, failed_at = $18, canceled_at = $19, refunded_at = $20,
               payment_intent_id = $21, updated_at = $22,
               cancel_requested_at = case when $2::payment.transaction_status in ('PENDING', 'PROCESSING', 'FAILED') then cancel_requested_at end
           where id = $1"#,
        payment.id as PaymentId,
        payment.status as Status,
        payment.provider_status,
        payment.attempt,
        payment.captured,
        payment.reserved,
        payment.refunded,
        payment.payment_method,
        payment.charge,
        payment.failure_key,
        payment.failure_code,
        payment.failure_message,
        payment.review,
        payment.cancel_reason,
        payment.last_event_at,
        payment.checked_at,
        payment.confirmed_at,
        payment.failed_at,
        payment.canceled_at,
        payment.refunded_at,
        payment.intent,
        now,
    )
    .execute(db)
    .await?;
    one_row(done.rows_affected())
}

/// Notes an attempt that ended badly.
pub async fn insert_failed_attempt(
    db: &mut PgConnection,
    id: uuid::Uuid,
    payment: &Transaction,
    failure: &AttemptFailure,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"insert into payment.payment_attempts
               (id, transaction_id, attempt, outcome, charge_id, payment_method, error_code, decline_code, error_message, at)
           values ($1, $2, $3, 'failed', $4, $5, $6, $7, $8, $9)"#,
        id,
        payment.id as PaymentId,
        payment.attempt,
        failure.charge,
        failure.payment_method,
        failure.code,
        failure.decline_code,
        failure.message,
        now,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Notes the attempt that succeeded.
pub async fn insert_successful_attempt(
    db: &mut PgConnection,
    id: uuid::Uuid,
    payment: &Transaction,
    success: &Success,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"insert into payment.payment_attempts (id, transaction_id, attempt, outcome, charge_id, payment_method, at)
           values ($1, $2, $3, 'succeeded', $4, $5, $6)"#,
        id,
        payment.id as PaymentId,
        payment.attempt,
        success.charge,
        success.payment_method,
        now,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Wants the open payments of a booking cancelled, by the worker, outside this transaction. Returns how many.
pub async fn request_cancellation(
    db: &mut PgConnection,
    booking: &str,
    user: UserId,
    reason: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"update payment.payment_transactions
           set cancel_requested_at = coalesce(cancel_requested_at, $4), cancel_reason = coalesce(cancel_reason, $3)
           where (booking_reference = $1 or booking_id::text = $1) and user_id = $2
             and status in ('PENDING', 'PROCESSING', 'FAILED')"#,
        booking,
        user as UserId,
        reason,
        now,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// Keeps the records of an erased account without the account: all its payments get one pseudonym, free additions go,
/// what is open is to be cancelled.
pub async fn pseudonymise(
    db: &mut PgConnection,
    user: UserId,
    pseudonym: UserId,
    now: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"update payment.payment_transactions
           set user_id = $2, metadata = '{}', updated_at = $3,
               cancel_requested_at = case
                   when status in ('PENDING', 'PROCESSING', 'FAILED') then coalesce(cancel_requested_at, $3)
               end,
               cancel_reason = case
                   when status in ('PENDING', 'PROCESSING', 'FAILED') then coalesce(cancel_reason, 'requested_by_customer')
                   else cancel_reason
               end
           where user_id = $1"#,
        user as UserId,
        pseudonym as UserId,
        now,
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// Open payments that somebody wants cancelled.
pub async fn list_to_cancel(db: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Transaction>> {
    let rows = payments!(
        "where cancel_requested_at is not null and status in ('PENDING', 'PROCESSING', 'FAILED')
         order by coalesce(checked_at, cancel_requested_at) limit $1",
        limit
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(Transaction::try_from).collect()
}

/// Claims payments that are open, or paid on an administrator's word alone, and were not compared with Stripe since
/// `before`: marks them as looked at now, so that several replicas share the work, and returns their ids.
pub async fn claim_unsettled(
    db: &mut PgConnection,
    before: DateTime<Utc>,
    now: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<Vec<PaymentId>> {
    sqlx::query_scalar!(
        r#"update payment.payment_transactions set checked_at = $2
           where id in (
               select id from payment.payment_transactions
               where (status in ('PENDING', 'PROCESSING', 'FAILED') or (status = 'SUCCEEDED' and captured_minor = 0))
                 and coalesce(checked_at, created_at) < $1
               order by coalesce(checked_at, created_at) limit $3 for update skip locked
           )
           returning id as "id: PaymentId""#,
        before,
        now,
        limit,
    )
    .fetch_all(db)
    .await
}

/// An update that must touch one row.
pub(super) fn one_row(rows: u64) -> sqlx::Result<()> {
    if rows == 1 {
        Ok(())
    } else {
        Err(sqlx::Error::RowNotFound)
    }
}
