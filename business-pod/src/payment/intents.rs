//! Starting, looking up, confirming and cancelling payments.
//!
//! contract: payment §4.1, §4.5, §4.7, §4.9, §5 (deterministic keys), §13 (write-ahead intent). The row is written first,
//! then Stripe is asked under a key made from the row's id, then the row is completed: a crash anywhere in between is
//! repaired by the next call, by a webhook or by the worker, never doubled.

use std::collections::BTreeMap;

use secrecy::SecretString;
use shared::{
    events::outbox,
    id::{BookingId, PaymentId},
};
use sqlx::PgConnection;

use super::{
    Payment, Payments, charge,
    client::{CancelReason, Cancelled, CreateIntent, Intent, PaymentError, Status},
    events,
    model::{Observed, Source, Transaction},
    service::{KEY_LIFE, client_secret},
    settle,
    store::{self, NewTransaction},
    stripe::{NewIntent, Stripe, StripeError, wire::PaymentIntent},
};
use crate::fault;

/// Races for one booking that are resolved before giving up.
const ROUNDS: usize = 4;

/// Names in Stripe's metadata that only we set.
pub const RESERVED_METADATA: [&str; 4] = ["bookingId", "bookingReference", "userId", "transactionId"];

/// What a booking's payments allow a new one to do.
enum Opening {
    /// An open payment of the same amount: use it.
    Use(Box<Transaction>),
    /// An open payment of another amount, or one that is to be cancelled: out of the way with it.
    Supersede(PaymentId),
    /// None is open.
    Start,
}

impl Payments {
    /// Starts the payment of a booking or returns the one that is open for it.
    pub(super) async fn start(&self, request: &CreateIntent) -> Result<Intent, PaymentError> {
        let stripe = self.stripe()?;
        charge::check(request.amount, self.currencies()).map_err(PaymentError::NotChargeable)?;
        let publishable_key = self
            .publishable_key()
            .ok_or_else(|| PaymentError::unavailable(anyhow::anyhow!("STRIPE_PUBLISHABLE_KEY is not configured")))?;
        for _ in 0..ROUNDS {
            let payment = match self.opening(request).await? {
                Opening::Use(payment) => *payment,
                Opening::Supersede(id) => match self.cancel_payment(id, CancelReason::Duplicate).await? {
                    Cancelled::Cancelled => continue,
                    Cancelled::Succeeded | Cancelled::Processing => return Err(PaymentError::AlreadyPaid),
                },
                Opening::Start => match self.insert(request).await? {
                    Some(payment) => payment,
                    None => continue,
                },
            };
            let Some(intent) = self.at_stripe(stripe, &payment).await? else {
                continue;
            };
            return Ok(Intent {
                payment_intent_id: intent.id.clone(),
                client_secret: client_secret(&intent)?,
                amount: payment.amount,
                status: intent.status,
                publishable_key: publishable_key.to_owned(),
                livemode: self.livemode(),
            });
        }
        Err(PaymentError::unavailable(anyhow::anyhow!(
            "other calls for this booking were faster every time"
        )))
    }

    async fn opening(&self, request: &CreateIntent) -> Result<Opening, PaymentError> {
        let mut db = self.db().acquire().await?;
        let payments = store::list_of_booking(&mut db, request.booking).await?;
        // money that came too late is on its way back and stands in nobody's way
        let paid = |payment: &&Transaction| {
            payment.status == Status::Succeeded && payment.review.as_deref() != Some("late_success")
        };
        if payments.iter().find(paid).is_some() {
            return Err(PaymentError::AlreadyPaid);
        }
        let Some(open) = payments.into_iter().find(|payment| payment.status.is_open()) else {
            return Ok(Opening::Start);
        };
        let unwanted = open.cancel_reason.is_some();
        if unwanted || open.amount != request.amount || open.user != request.user {
            return Ok(Opening::Supersede(open.id));
        }
        Ok(Opening::Use(Box::new(open)))
    }

    /// The row of a new payment; `None` if another call was faster.
    async fn insert(&self, request: &CreateIntent) -> Result<Option<Transaction>, PaymentError> {
        let sources = self.sources();
        let id: PaymentId = sources.id();
        let correlation = shared::http::current_request_id();
        let new = NewTransaction {
            id,
            booking: request.booking,
            reference: &request.reference,
            user: request.user,
            amount: request.amount,
            livemode: self.livemode(),
            metadata: &request.metadata,
            correlation: correlation.as_deref(),
        };
        let mut db = self.db().acquire().await?;
        if !store::insert(&mut db, &new, sources.now()).await? {
            return Ok(None);
        }
        fault::point("payment.row_inserted");
        Ok(store::find(&mut db, id).await?)
    }

    /// The PaymentIntent of an open payment, made if it is not there yet. `None` if Stripe says that it is cancelled: the
    /// row has been told, and a new payment may start.
    async fn at_stripe(&self, stripe: &Stripe, payment: &Transaction) -> Result<Option<PaymentIntent>, PaymentError> {
        let Some(intent) = &payment.intent else {
            if self.key_has_lapsed(payment) {
                self.give_up(payment).await?;
                return Ok(None);
            }
            let intent = self.create(stripe, payment).await?;
            return Ok(Some(intent));
        };
        let truth = stripe.intent(intent).await?;
        let known = matches!(
            (payment.status, truth.observed_with_failure()),
            (Status::Pending | Status::Failed, Observed::Waiting) | (Status::Processing, Observed::Processing)
        );
        let status = if known {
            payment.status
        } else {
            self.settle_with_truth(payment.id, &truth).await?.status
        };
        match status {
            Status::Canceled => Ok(None),
            Status::Succeeded | Status::Refunded => Err(PaymentError::AlreadyPaid),
            Status::Pending | Status::Processing | Status::Failed => Ok(Some(truth)),
        }
    }

    /// Makes sure that a row has its PaymentIntent, or gives the row up if asking again could make a second one.
    pub(super) async fn ensure_created(&self, payment: &Transaction) -> Result<(), PaymentError> {
        if self.key_has_lapsed(payment) {
            return self.give_up(payment).await;
        }
        self.create(self.stripe()?, payment).await.map(drop)
    }

    /// Makes the PaymentIntent of a row, or finds the one an earlier attempt made, and completes the row. What Stripe
    /// answers may be an old answer: only the id and the secret are believed.
    async fn create(&self, stripe: &Stripe, payment: &Transaction) -> Result<PaymentIntent, PaymentError> {
        let (id, user) = (payment.id.to_string(), payment.user.to_string());
        let mut metadata: BTreeMap<&str, &str> = payment
            .metadata
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        metadata.extend([
            ("bookingId", payment.reference.as_str()),
            ("bookingReference", payment.reference.as_str()),
            ("userId", user.as_str()),
            ("transactionId", id.as_str()),
        ]);
        let new = NewIntent {
            amount: charge::to_stripe(payment.amount),
            currency: &payment.amount.currency.lower(),
            description: format!("Booking {}", payment.reference),
            metadata,
        };
        let intent = stripe.create_intent(&new, &format!("pi:create:{id}")).await?;
        fault::point("payment.intent_created");
        let mut tx = self.db().begin().await?;
        let mut row = store::lock(&mut tx, payment.id).await?.ok_or(PaymentError::NotFound)?;
        adopt(&mut tx, self, &mut row, &intent).await?;
        fault::point("payment.row_completed");
        tx.commit().await?;
        fault::point("payment.initiated");
        Ok(intent)
    }

    /// Whether a row never got its PaymentIntent and Stripe may have forgotten the key: asking again could make a second.
    fn key_has_lapsed(&self, payment: &Transaction) -> bool {
        payment.intent.is_none() && self.sources().now() - payment.created_at > KEY_LIFE
    }

    /// Cancels a row that never got its PaymentIntent. If Stripe has one, nobody ever received its client secret, so
    /// nobody can pay it; should that happen all the same, the webhook finds the row by its id.
    async fn give_up(&self, payment: &Transaction) -> Result<(), PaymentError> {
        let mut tx = self.db().begin().await?;
        let Some(mut row) = store::lock(&mut tx, payment.id).await? else {
            return Ok(());
        };
        if row.intent.is_none() {
            let observed = Observed::Canceled { reason: None };
            settle::apply(&mut tx, self.sources(), &mut row, &observed, "canceled", Source::Truth).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Cancels a payment of ours.
    pub(super) async fn cancel_payment(&self, id: PaymentId, reason: CancelReason) -> Result<Cancelled, PaymentError> {
        let mut payment = self.get(id).await?;
        if let Some(known) = outcome(payment.status) {
            return Ok(known);
        }
        let stripe = self.stripe()?;
        if self.key_has_lapsed(&payment) {
            self.give_up(&payment).await?;
            return Ok(Cancelled::Cancelled);
        }
        if payment.intent.is_none() {
            self.create(stripe, &payment).await?;
            payment = self.get(id).await?;
        }
        let Some(intent) = payment.intent.clone() else {
            return Err(PaymentError::internal(anyhow::anyhow!(
                "a payment was completed without its intent"
            )));
        };
        let truth = match stripe.cancel_intent(&intent, reason.as_stripe()).await {
            // the answer to a repeated cancellation is an old one, but a cancelled intent stays cancelled
            Ok(cancelled) => cancelled,
            Err(StripeError::State(_)) => stripe.intent(&intent).await?,
            Err(error) => return Err(error.into()),
        };
        fault::point("payment.canceled_at_stripe");
        let settled = self.settle_with_truth(id, &truth).await?;
        outcome(settled.status)
            .or((settled.status == Status::Processing).then_some(Cancelled::Processing))
            .ok_or(PaymentError::WrongState("Stripe does not cancel it at the moment"))
    }

    /// Cancels what is open for a booking; what became of its newest payment if nothing is.
    pub(super) async fn cancel_payments_of(
        &self,
        booking: BookingId,
        reason: CancelReason,
    ) -> Result<Option<Cancelled>, PaymentError> {
        let payments = store::list_of_booking(&mut *self.db().acquire().await?, booking).await?;
        let mut result = None;
        for payment in payments {
            if payment.review.as_deref() == Some("late_success") {
                continue;
            }
            let cancelled = self.cancel_payment(payment.id, reason).await?;
            // one success outweighs everything else
            if cancelled == Cancelled::Succeeded || result.is_none_or(|known| known == Cancelled::Cancelled) {
                result = Some(cancelled);
            }
        }
        Ok(result)
    }

    /// The client secret of a payment, read again from Stripe; it is never stored.
    pub(super) async fn client_secret_of(&self, intent: &str) -> Result<Option<SecretString>, PaymentError> {
        Ok(self.stripe()?.intent(intent).await?.client_secret)
    }

    /// Looks at a payment at Stripe; what the browser has to do next comes with it.
    pub(super) async fn look(
        &self,
        payment: &Transaction,
    ) -> Result<(Transaction, Option<serde_json::Value>), PaymentError> {
        let Some(intent) = payment.intent.as_ref().filter(|_| payment.status.is_open()) else {
            return Ok((payment.clone(), None));
        };
        let truth = self.stripe()?.intent(intent).await?;
        let settled = self.settle_with_truth(payment.id, &truth).await?;
        Ok((settled, truth.next_action.filter(|action| !action.is_null())))
    }

    /// Confirms a payment with a payment method, on the traveller's behalf. What Stripe answers may be an old answer, so
    /// the row is settled with a fresh look.
    pub(super) async fn confirm_with(
        &self,
        payment: &Transaction,
        method: &str,
        return_url: &str,
    ) -> Result<(Transaction, Option<serde_json::Value>), PaymentError> {
        let stripe = self.stripe()?;
        let Some(intent) = &payment.intent else {
            return Err(PaymentError::NotFound);
        };
        match stripe.confirm_intent(intent, method, return_url).await {
            Ok(confirmed) => {
                let settled = self.refresh(payment).await?;
                Ok((settled, confirmed.next_action.filter(|action| !action.is_null())))
            }
            Err(declined @ StripeError::Card(_)) => {
                self.refresh(payment).await?;
                Err(declined.into())
            }
            Err(StripeError::Parameter { .. } | StripeError::Missing) => {
                Err(PaymentError::Refused("This payment method cannot be used"))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Gives a locked row its PaymentIntent, with `payment.initiated`, if it has none yet.
pub(super) async fn adopt(
    tx: &mut PgConnection,
    payments: &Payments,
    row: &mut Transaction,
    intent: &PaymentIntent,
) -> Result<(), sqlx::Error> {
    if row.intent.is_some() {
        return Ok(());
    }
    let now = payments.sources().now();
    row.intent = Some(intent.id.clone());
    row.provider_status = Some(intent.status.clone());
    store::save(tx, row, now).await?;
    outbox::append::<Payment>(tx, &[events::initiated(payments.sources(), row, now)]).await?;
    metrics::counter!("payment_intents_total", "status" => "PENDING").increment(1);
    tracing::info!(payment = %row.id, intent = row.intent, booking = row.reference, "payment initiated");
    Ok(())
}

/// What a cancellation finds that has nothing left to do.
fn outcome(status: Status) -> Option<Cancelled> {
    match status {
        Status::Canceled => Some(Cancelled::Cancelled),
        Status::Succeeded | Status::Refunded => Some(Cancelled::Succeeded),
        Status::Pending | Status::Processing | Status::Failed => None,
    }
}
