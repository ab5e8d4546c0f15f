//! Giving money back: the row first, then Stripe under the row's id, then what Stripe made of it.
//!
//! contract: payment §4.3, §5; events §7.5. One key of a caller is one refund for ever; one refund publishes one event,
//! when it arrives. The sum of refunds can never exceed what was captured: the database checks it.

use shared::{events::outbox, id::RefundId, money::Money};
use sqlx::PgConnection;

use super::{
    Payment, Payments, charge,
    client::{PaymentError, Refund, Refunded},
    events,
    model::{RefundChange, RefundRefusal, RefundRow, Transaction},
    service::KEY_LIFE,
    store::{self, ledger, refunds},
    stripe::{NewRefund, Stripe, StripeError, wire},
    words::{RefundReason, RefundStatus},
};
use crate::fault;

impl Payments {
    /// Gives money back. The refund is accepted once its row is committed: if Stripe is away then, it stays pending and the
    /// worker carries it through.
    pub(super) async fn refund_now(&self, request: &Refund) -> Result<Refunded, PaymentError> {
        let refund = self.accept_refund(request).await?;
        fault::point("payment.refund_accepted");
        if refund.status == RefundStatus::Pending {
            match self.carry_out(refund.id).await {
                Ok(()) | Err(PaymentError::Unavailable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut db = self.db().acquire().await?;
        let now = refunds::find(&mut db, refund.id).await?.ok_or(PaymentError::NotFound)?;
        Ok(Refunded {
            refund: now.id,
            stripe_refund_id: now.stripe_id,
            amount: now.amount,
            status: now.status,
        })
    }

    /// Reserves the amount and writes the row, or finds the row of this key.
    async fn accept_refund(&self, request: &Refund) -> Result<RefundRow, PaymentError> {
        let sources = self.sources();
        let mut tx = self.db().begin().await?;
        let payment = store::lock_by_intent(&mut tx, &request.payment_intent_id).await?;
        let mut payment = payment.ok_or(PaymentError::NotFound)?;
        if let Some(known) = refunds::find_by_key(&mut tx, &request.idempotency_key).await? {
            if known.transaction != payment.id {
                return Err(PaymentError::WrongState(
                    "the key belongs to the refund of another payment",
                ));
            }
            return Ok(known);
        }
        let amount = payment.reserve(request.amount).map_err(|refusal| match refusal {
            RefundRefusal::NotRefundable => PaymentError::WrongState("nothing was captured or nothing is left"),
            RefundRefusal::Amount => PaymentError::InvalidRefundAmount,
        })?;
        let now = sources.now();
        let refund = RefundRow {
            id: sources.id(),
            transaction: payment.id,
            stripe_id: None,
            amount,
            status: RefundStatus::Pending,
            reason: request.reason,
            note: request.note.clone(),
            correlation: shared::http::current_request_id().or_else(|| payment.correlation.clone()),
            created_at: now,
        };
        store::save(&mut tx, &payment, now).await?;
        // the worker's first turn comes after ours has had its time
        let next_attempt = now + chrono::TimeDelta::seconds(30);
        refunds::insert(&mut tx, &refund, &request.idempotency_key, next_attempt).await?;
        tx.commit().await?;
        count(RefundStatus::Pending);
        tracing::info!(refund = %refund.id, payment = %payment.id, minor = amount.minor, "refund accepted");
        Ok(refund)
    }

    /// Asks Stripe for a pending refund, or how it is doing, and applies the answer.
    pub(super) async fn carry_out(&self, id: RefundId) -> Result<(), PaymentError> {
        let stripe = self.stripe()?;
        let (refund, payment) = {
            let mut db = self.db().acquire().await?;
            let refund = refunds::find(&mut db, id).await?.ok_or(PaymentError::NotFound)?;
            let payment = store::find(&mut db, refund.transaction)
                .await?
                .ok_or(PaymentError::NotFound)?;
            (refund, payment)
        };
        let Some(intent) = &payment.intent else {
            return Err(PaymentError::NotFound);
        };
        let answer = self.ask_stripe(stripe, &refund, intent).await;
        fault::point("payment.refunded_at_stripe");
        match answer {
            Ok(theirs) => {
                let mut tx = self.db().begin().await?;
                let mut payment = store::lock(&mut tx, payment.id).await?.ok_or(PaymentError::NotFound)?;
                apply(&mut tx, self, &mut payment, &theirs).await?;
                tx.commit().await?;
                Ok(())
            }
            Err(error @ (StripeError::State(_) | StripeError::Parameter { .. } | StripeError::Missing)) => {
                self.refused(id, &error).await?;
                Err(PaymentError::WrongState("Stripe refused the refund"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The refund at Stripe: looked up if Stripe has it, made under its own key if not.
    async fn ask_stripe(&self, stripe: &Stripe, refund: &RefundRow, intent: &str) -> Result<wire::Refund, StripeError> {
        if let Some(known) = &refund.stripe_id {
            return stripe.refund(known).await;
        }
        let ours = refund.id.to_string();
        // Stripe may have forgotten the key: look before asking again
        if self.sources().now() - refund.created_at > KEY_LIFE {
            let mut all = stripe.refunds_of(intent).await?.into_iter();
            if let Some(found) = all.find(|theirs| theirs.metadata.get("refundId") == Some(&ours)) {
                return Ok(found);
            }
        }
        let new = NewRefund {
            intent,
            amount: charge::to_stripe(refund.amount),
            reason: refund.reason.as_stripe(),
            refund: &ours,
        };
        stripe.create_refund(new).await
    }

    /// Stripe will never make this refund: the amount is free again and a person is told.
    async fn refused(&self, id: RefundId, error: &StripeError) -> Result<(), PaymentError> {
        let mut tx = self.db().begin().await?;
        let Some(found) = refunds::find(&mut tx, id).await? else {
            return Ok(());
        };
        let mut payment = store::lock(&mut tx, found.transaction)
            .await?
            .ok_or(PaymentError::NotFound)?;
        let Some(mut refund) = refunds::lock(&mut tx, id).await? else {
            return Ok(());
        };
        let now = self.sources().now();
        if refund.observe(RefundStatus::Failed) == RefundChange::Failed {
            payment.refund_failed(refund.amount.minor, false);
            refunds::save(&mut tx, &refund, Some(error.outcome()), now).await?;
            store::save(&mut tx, &payment, now).await?;
            count(RefundStatus::Failed);
            tracing::error!(alert = "refund_failed", refund = %id, payment = %payment.id, %error, "stripe refused a refund");
        }
        tx.commit().await?;
        Ok(())
    }
}

/// Applies what Stripe says about one refund of a locked payment. Refunds made at Stripe without us get a row as well.
pub(super) async fn apply(
    tx: &mut PgConnection,
    payments: &Payments,
    payment: &mut Transaction,
    theirs: &wire::Refund,
) -> sqlx::Result<bool> {
    let sources = payments.sources();
    let now = sources.now();
    let ours = theirs.metadata.get("refundId").and_then(|id| id.parse().ok());
    let known = refunds::lock_by_stripe(tx, &theirs.id, ours).await?;
    let mut refund = match known {
        Some(refund) if refund.transaction == payment.id => refund,
        Some(_) => return Ok(false),
        None if theirs.state() == RefundStatus::Failed => return Ok(false),
        None => {
            let amount = Money {
                minor: charge::from_stripe(theirs.amount, payment.amount.currency).minor,
                ..payment.amount
            };
            let external = RefundRow {
                id: sources.id(),
                transaction: payment.id,
                stripe_id: Some(theirs.id.clone()),
                amount,
                status: RefundStatus::Pending,
                reason: RefundReason::from_stripe(theirs.reason.as_deref().unwrap_or_default()),
                note: None,
                correlation: payment.correlation.clone(),
                created_at: now,
            };
            payment.reserve_external(amount.minor);
            store::save(tx, payment, now).await?;
            refunds::insert(tx, &external, &format!("stripe:{}", theirs.id), now).await?;
            external
        }
    };
    let new_id = refund.stripe_id.is_none();
    refund.stripe_id = Some(theirs.id.clone());
    let change = refund.observe(theirs.state());
    if !new_id && change == RefundChange::None {
        return Ok(false);
    }
    refunds::save(tx, &refund, theirs.failure_reason.as_deref(), now).await?;
    post(tx, payments, payment, &refund, change).await?;
    Ok(change != RefundChange::None)
}

/// What a refund's change means for the payment, the ledger and the rest of the world.
async fn post(
    tx: &mut PgConnection,
    payments: &Payments,
    payment: &mut Transaction,
    refund: &RefundRow,
    change: RefundChange,
) -> sqlx::Result<()> {
    let sources = payments.sources();
    let now = sources.now();
    let (posting, fact) = match change {
        RefundChange::None => return Ok(()),
        RefundChange::Arrived => {
            let complete = payment.refund_arrived(refund.amount.minor, now);
            store::save(tx, payment, now).await?;
            count(RefundStatus::Succeeded);
            tracing::info!(refund = %refund.id, payment = %payment.id, complete, "refund arrived");
            let event = events::refunded(sources, payment, refund, complete, now);
            outbox::append::<Payment>(tx, &[event]).await?;
            (ledger::Posting::Refund, refund.id.0)
        }
        RefundChange::Failed | RefundChange::Bounced => {
            payment.refund_failed(refund.amount.minor, change == RefundChange::Bounced);
            store::save(tx, payment, now).await?;
            count(RefundStatus::Failed);
            tracing::error!(alert = "refund_failed", refund = %refund.id, payment = %payment.id, "refund did not arrive");
            if change == RefundChange::Failed {
                return Ok(());
            }
            (ledger::Posting::RefundReversal, refund.id.0)
        }
    };
    ledger::post(tx, posting, fact, payment.id, &payment.reference, refund.amount, now).await
}

fn count(status: RefundStatus) {
    metrics::counter!("payment_refunds_total", "status" => status.as_str()).increment(1);
}
