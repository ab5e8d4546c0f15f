//! Refunds in the database.

use chrono::{DateTime, Utc};
use shared::{
    id::{PaymentId, RefundId},
    money::Money,
};
use sqlx::PgConnection;

use super::{currency, one_row};
use crate::payment::{
    model::RefundRow,
    words::{RefundReason, RefundStatus},
};

/// A row of `payment_refunds`.
struct Row {
    id: RefundId,
    transaction_id: PaymentId,
    stripe_refund_id: Option<String>,
    amount_minor: i64,
    currency: String,
    status: RefundStatus,
    reason: String,
    note: Option<String>,
    correlation_id: Option<String>,
    created_at: DateTime<Utc>,
}

impl TryFrom<Row> for RefundRow {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.id,
            transaction: row.transaction_id,
            stripe_id: row.stripe_refund_id,
            amount: Money::new(row.amount_minor, currency(&row.currency)?),
            status: row.status,
            reason: RefundReason::from_stripe(&row.reason),
            note: row.note,
            correlation: row.correlation_id,
            created_at: row.created_at,
        })
    }
}

/// Refunds chosen by the rest of the statement.
macro_rules! refunds {
    ($rest:literal $(, $bind:expr)* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"select id as "id: RefundId", transaction_id as "transaction_id: PaymentId", stripe_refund_id, amount_minor,
                      currency, status as "status: RefundStatus", reason, note, correlation_id, created_at
               from payment.payment_refunds "#
                + $rest
            $(, $bind)*
        )
    };
}

/// Inserts a refund. `next_attempt` is when the worker asks Stripe, should the caller not come to it.
pub async fn insert(
    db: &mut PgConnection,
    refund: &RefundRow,
    idempotency_key: &str,
    next_attempt: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"insert into payment.payment_refunds
               (id, transaction_id, stripe_refund_id, idempotency_key, amount_minor, currency, status, reason, note,
                correlation_id, next_attempt_at, created_at, updated_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)"#,
        refund.id as RefundId,
        refund.transaction as PaymentId,
        refund.stripe_id,
        idempotency_key,
        refund.amount.minor,
        refund.amount.currency.code(),
        refund.status as RefundStatus,
        refund.reason.as_stripe(),
        refund.note,
        refund.correlation,
        next_attempt,
        refund.created_at,
    )
    .execute(db)
    .await
    .map(drop)
}

/// The refund with this id.
pub async fn find(db: &mut PgConnection, id: RefundId) -> sqlx::Result<Option<RefundRow>> {
    refunds!("where id = $1", id as RefundId)
        .fetch_optional(db)
        .await?
        .map(RefundRow::try_from)
        .transpose()
}

/// The refund that a caller's key stands for.
pub async fn find_by_key(db: &mut PgConnection, key: &str) -> sqlx::Result<Option<RefundRow>> {
    refunds!("where idempotency_key = $1", key)
        .fetch_optional(db)
        .await?
        .map(RefundRow::try_from)
        .transpose()
}

/// Locks the refund that Stripe's refund is: by Stripe's id, else by ours from its metadata.
pub async fn lock_by_stripe(
    db: &mut PgConnection,
    stripe_id: &str,
    ours: Option<RefundId>,
) -> sqlx::Result<Option<RefundRow>> {
    refunds!(
        "where stripe_refund_id = $1 or (id = $2 and stripe_refund_id is null) for update",
        stripe_id,
        ours as Option<RefundId>
    )
    .fetch_optional(db)
    .await?
    .map(RefundRow::try_from)
    .transpose()
}

/// Locks a refund.
pub async fn lock(db: &mut PgConnection, id: RefundId) -> sqlx::Result<Option<RefundRow>> {
    refunds!("where id = $1 for update", id as RefundId)
        .fetch_optional(db)
        .await?
        .map(RefundRow::try_from)
        .transpose()
}

/// Writes what may change. The row must be locked by the caller.
pub async fn save(
    db: &mut PgConnection,
    refund: &RefundRow,
    failure: Option<&str>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let done = sqlx::query!(
        r#"update payment.payment_refunds
           set stripe_refund_id = $2, status = $3::payment.refund_status, failure_reason = coalesce($4, failure_reason), updated_at = $5,
               succeeded_at = case when $3::payment.refund_status = 'SUCCEEDED' then coalesce(succeeded_at, $5) else succeeded_at end
           where id = $1"#,
        refund.id as RefundId,
        refund.stripe_id,
        refund.status as RefundStatus,
        failure,
        now,
    )
    .execute(db)
    .await?;
    one_row(done.rows_affected())
}

/// Claims pending refunds whose turn it is: the next turn is later the more often Stripe was asked in vain (1, 2, 4 …
/// up to 60 minutes), so that several replicas share the work.
pub async fn claim_due(db: &mut PgConnection, now: DateTime<Utc>, limit: i64) -> sqlx::Result<Vec<RefundId>> {
    sqlx::query_scalar!(
        r#"update payment.payment_refunds
           set attempts = attempts + 1,
               next_attempt_at = $1::timestamptz + least(60, power(2, least(attempts, 10))) * interval '1 minute'
           where id in (
               select id from payment.payment_refunds
               where status = 'PENDING' and next_attempt_at <= $1
               order by next_attempt_at limit $2 for update skip locked
           )
           returning id as "id: RefundId""#,
        now,
        limit,
    )
    .fetch_all(db)
    .await
}
