//! The double-entry ledger: append-only postings that balance, which the database checks at commit.
//!
//! contract: payment §13 (ledger)

use chrono::{DateTime, Utc};
use shared::{id::PaymentId, money::Money};
use sqlx::PgConnection;
use uuid::Uuid;

/// What is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posting {
    /// Money came in: clearing is debited, the booking's liability credited.
    Charge,
    /// Money went back: the other way round.
    Refund,
    /// A refund bounced: as a charge.
    RefundReversal,
}

impl Posting {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Charge => "charge",
            Self::Refund => "refund",
            Self::RefundReversal => "refund_reversal",
        }
    }
}

/// Posts an amount once: a second posting of the same fact violates `ledger_entries_once_key`.
pub async fn post(
    db: &mut PgConnection,
    posting: Posting,
    fact: Uuid,
    payment: PaymentId,
    reference: &str,
    amount: Money,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let liability = format!("booking:{reference}:liability");
    sqlx::query!(
        "insert into payment.ledger_accounts (name, kind) values ($1, 'liability') on conflict (name) do nothing",
        liability,
    )
    .execute(&mut *db)
    .await?;
    let money_comes_in = posting != Posting::Refund;
    let done = sqlx::query!(
        r#"insert into payment.ledger_entries (tx_id, posting, transaction_id, account_id, side, minor, currency, at)
           select $1, $2, $3, account.id,
                  case when (account.kind = 'asset') = $4 then 'debit' else 'credit' end, $5, $6, $7
           from payment.ledger_accounts account
           where account.name in ('psp:stripe:clearing', $8)"#,
        fact,
        posting.as_str(),
        payment as PaymentId,
        money_comes_in,
        amount.minor,
        amount.currency.code(),
        now,
        liability,
    )
    .execute(db)
    .await?;
    if done.rows_affected() == 2 {
        Ok(())
    } else {
        Err(sqlx::Error::RowNotFound)
    }
}
