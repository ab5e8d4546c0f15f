//! What administrators did to payments: a list that only grows (payment §9).

use chrono::{DateTime, Utc};
use shared::id::{PaymentId, UserId};
use sqlx::PgConnection;

use crate::payment::words::Status;

/// A status that an administrator set.
#[derive(Debug)]
pub struct NewAction<'a> {
    /// Of which payment.
    pub payment: PaymentId,
    /// Who.
    pub actor: UserId,
    /// The status before.
    pub from: Status,
    /// The status after.
    pub to: Status,
    /// Why.
    pub reason: &'a str,
    /// From where.
    pub address: Option<&'a str>,
    /// Whether Stripe was asked and agreed.
    pub verified: bool,
}

/// Adds an action.
pub async fn insert(
    db: &mut PgConnection,
    id: uuid::Uuid,
    action: &NewAction<'_>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"insert into payment.admin_actions
               (id, transaction_id, actor_id, from_status, to_status, reason, ip_address, verified, at)
           values ($1, $2, $3, $4::payment.transaction_status, $5::payment.transaction_status, $6, $7, $8, $9)"#,
        id,
        action.payment as PaymentId,
        action.actor as UserId,
        action.from as Status,
        action.to as Status,
        action.reason,
        action.address,
        action.verified,
        now,
    )
    .execute(db)
    .await
    .map(drop)
}
