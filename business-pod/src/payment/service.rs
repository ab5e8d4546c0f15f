//! The payment service itself: what all of its operations need, and the small steps they share.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use secrecy::SecretString;
use shared::{ApiError, Sources, db::Db, id::PaymentId, lifecycle::Tasks, money::Currency};
use tokio::sync::Notify;

use super::{
    Payment,
    client::{PaymentError, PaymentView},
    config::PaymentConfig,
    model::Transaction,
    store,
    stripe::{Stripe, wire::PaymentIntent},
};

/// The payment service. Cheap to clone; handlers, workers and other services hold one.
#[derive(Debug, Clone)]
pub struct Payments(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db<Payment>,
    stripe: Option<Stripe>,
    sources: Sources,
    tasks: Tasks,
    publishable_key: Option<String>,
    webhook_secrets: Vec<SecretString>,
    currencies: Vec<Currency>,
    livemode: bool,
    wake: Notify,
}

/// Stripe forgets idempotency keys after 24 hours; we stop relying on them an hour earlier.
pub(super) const KEY_LIFE: TimeDelta = TimeDelta::hours(23);

impl Payments {
    /// The service over its database. Fails only if the TLS library cannot start.
    pub fn new(config: &PaymentConfig, db: Db<Payment>, sources: Sources, tasks: Tasks) -> anyhow::Result<Self> {
        let stripe = config
            .stripe
            .clone()
            .map(|settings| Stripe::new(settings, sources.clone()))
            .transpose()?;
        if stripe.is_none() {
            tracing::warn!("payments are off: no usable Stripe key");
        }
        Ok(Self(Arc::new(Inner {
            db,
            stripe,
            sources,
            tasks,
            publishable_key: config.publishable_key.clone(),
            webhook_secrets: config.webhook_secrets.clone(),
            currencies: config.currencies.clone(),
            livemode: config.livemode,
            wake: Notify::new(),
        })))
    }

    /// The database.
    pub fn db(&self) -> &Db<Payment> {
        &self.0.db
    }

    /// The clock and the random source.
    pub fn sources(&self) -> &Sources {
        &self.0.sources
    }

    /// The publishable key, if configured.
    pub fn publishable_key(&self) -> Option<&str> {
        self.0.publishable_key.as_deref()
    }

    /// The secrets webhooks may be signed with.
    pub(super) fn webhook_secrets(&self) -> &[SecretString] {
        &self.0.webhook_secrets
    }

    /// The currencies that may be charged.
    pub(super) fn currencies(&self) -> &[Currency] {
        &self.0.currencies
    }

    /// Whether real money moves.
    pub fn livemode(&self) -> bool {
        self.0.livemode
    }

    /// The client of Stripe, if there is a key.
    pub fn stripe_if_configured(&self) -> Option<&Stripe> {
        self.0.stripe.as_ref()
    }

    /// The client of Stripe.
    pub(super) fn stripe(&self) -> Result<&Stripe, PaymentError> {
        self.0.stripe.as_ref().ok_or_else(|| PaymentError::Unavailable {
            retry_after: Duration::from_secs(60),
            cause: anyhow::anyhow!("no usable Stripe key is configured"),
        })
    }

    /// Where work runs that a hung-up client must not cut off.
    pub(super) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// Makes the worker look for work now.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Waits until somebody calls [`Payments::wake`].
    pub(super) async fn woken(&self) {
        self.0.wake.notified().await;
    }

    /// Runs an operation to its end even if whoever waits for it goes away: money is about to move.
    pub(super) async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, PaymentError>> + Send + 'static,
    ) -> Result<T, PaymentError> {
        let done: Result<_, ApiError> = self.0.tasks.detached(work).await;
        done.unwrap_or_else(|error| Err(PaymentError::unavailable(error)))
    }

    /// The payment with this id; it was there a moment ago.
    pub(super) async fn get(&self, id: PaymentId) -> Result<Transaction, PaymentError> {
        let mut db = self.db().acquire().await?;
        store::find(&mut db, id).await?.ok_or(PaymentError::NotFound)
    }
}

/// The payment as other services see it; `None` while Stripe has not answered its creation.
pub(super) fn view(payment: Transaction) -> Option<PaymentView> {
    let stripe_status = payment.display_status().to_owned();
    Some(PaymentView {
        payment_intent_id: payment.intent?,
        status: payment.status,
        stripe_status,
        amount: payment.amount,
        refunded: payment.refunded,
        booking: payment.booking,
        booking_reference: payment.reference,
        user: payment.user,
        review: payment.review,
        failure: payment.failure_code.zip(payment.failure_message),
        created_at: payment.created_at,
        confirmed_at: payment.confirmed_at,
    })
}

/// The client secret of a PaymentIntent, which only its owner may see.
pub(super) fn client_secret(intent: &PaymentIntent) -> Result<SecretString, PaymentError> {
    intent
        .client_secret
        .clone()
        .ok_or_else(|| PaymentError::internal(anyhow::anyhow!("stripe sent no client secret")))
}
