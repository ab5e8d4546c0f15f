//! What stands beside voyage in its tests: a payment service that a test plays, and a supply that it can bend.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use business_pod::{
    payment::client::{
        CancelReason, Cancelled, CreateIntent, Intent, PaymentClient, PaymentError, PaymentView, Refund, RefundStatus,
        Refunded, Status,
    },
    voyage::supply::{
        Provider, ProviderError,
        flight::{FlightOffer, FlightQuery},
        offline::Offline,
        provider::Flights,
    },
};
use chrono::{DateTime, Utc};
use shared::{
    id::{BookingId, RefundId},
    money::Money,
};

/// A payment service that a test plays: it remembers what it was asked and says what it is told to say.
#[derive(Default)]
pub struct FakePayments {
    payments: Mutex<HashMap<BookingId, PaymentView>>,
    /// Every refund, by its key.
    pub refunds: Mutex<HashMap<String, Refund>>,
    /// How many payments were created.
    pub created: Mutex<u32>,
    away: AtomicBool,
    live: AtomicBool,
    refusing: AtomicBool,
}

impl FakePayments {
    fn lock(&self) -> MutexGuard<'_, HashMap<BookingId, PaymentView>> {
        self.payments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the service away, or brings it back.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// Refuses every refund from now on.
    pub fn refuse_refunds(&self) {
        self.refusing.store(true, Ordering::SeqCst);
    }

    /// Makes the key one that moves real money.
    pub fn set_live(&self) {
        self.live.store(true, Ordering::SeqCst);
    }

    /// What Stripe says of a payment from now on.
    pub fn set_status(&self, intent: &str, status: Status, word: &str) {
        let mut payments = self.lock();
        let payment = payments
            .values_mut()
            .find(|payment| payment.payment_intent_id == intent)
            .unwrap();
        payment.status = status;
        word.clone_into(&mut payment.stripe_status);
    }

    /// The card is charged.
    pub fn succeed(&self, intent: &str) {
        self.set_status(intent, Status::Succeeded, "succeeded");
    }

    /// Changes what a payment says it is worth.
    pub fn set_amount(&self, intent: &str, amount: Money) {
        let mut payments = self.lock();
        payments
            .values_mut()
            .find(|payment| payment.payment_intent_id == intent)
            .unwrap()
            .amount = amount;
    }

    /// The payment with this id.
    pub fn view(&self, intent: &str) -> PaymentView {
        let payments = self.lock();
        payments
            .values()
            .find(|payment| payment.payment_intent_id == intent)
            .unwrap()
            .clone()
    }

    fn check(&self) -> Result<(), PaymentError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(PaymentError::unavailable(anyhow::anyhow!("away")));
        }
        Ok(())
    }
}

#[async_trait]
impl PaymentClient for FakePayments {
    async fn create_intent(&self, request: CreateIntent) -> Result<Intent, PaymentError> {
        self.check()?;
        // let others in between, as the network would
        tokio::task::yield_now().await;
        let mut payments = self.lock();
        let fresh = PaymentView {
            payment_intent_id: format!("pi_{}", request.reference),
            status: Status::Pending,
            stripe_status: "requires_payment_method".to_owned(),
            amount: request.amount,
            refunded: 0,
            booking: request.booking,
            booking_reference: request.reference.clone(),
            user: request.user,
            review: None,
            failure: None,
            created_at: DateTime::default(),
            confirmed_at: None,
        };
        let payment = payments.entry(request.booking).or_insert_with(|| {
            *self.created.lock().unwrap() += 1;
            fresh
        });
        if matches!(payment.status, Status::Succeeded | Status::Processing) {
            return Err(PaymentError::AlreadyPaid);
        }
        Ok(Intent {
            payment_intent_id: payment.payment_intent_id.clone(),
            client_secret: format!("{}_secret_x", payment.payment_intent_id).into(),
            amount: payment.amount,
            status: payment.stripe_status.clone(),
            publishable_key: "pk_test_x".to_owned(),
            livemode: self.live.load(Ordering::SeqCst),
        })
    }

    async fn status(&self, payment_intent_id: &str, _refresh: bool) -> Result<Option<PaymentView>, PaymentError> {
        self.check()?;
        Ok(self
            .lock()
            .values()
            .find(|payment| payment.payment_intent_id == payment_intent_id)
            .cloned())
    }

    async fn status_of_booking(&self, booking: BookingId, _refresh: bool) -> Result<Option<PaymentView>, PaymentError> {
        self.check()?;
        Ok(self.lock().get(&booking).cloned())
    }

    async fn cancel(&self, payment_intent_id: &str, reason: CancelReason) -> Result<Cancelled, PaymentError> {
        let booking = self.view(payment_intent_id).booking;
        self.cancel_of_booking(booking, reason)
            .await?
            .ok_or(PaymentError::NotFound)
    }

    async fn cancel_of_booking(
        &self,
        booking: BookingId,
        _reason: CancelReason,
    ) -> Result<Option<Cancelled>, PaymentError> {
        self.check()?;
        let mut payments = self.lock();
        let Some(payment) = payments.get_mut(&booking) else {
            return Ok(None);
        };
        Ok(Some(match payment.status {
            Status::Succeeded | Status::Refunded => Cancelled::Succeeded,
            Status::Processing => Cancelled::Processing,
            _ => {
                payment.status = Status::Canceled;
                "canceled".clone_into(&mut payment.stripe_status);
                Cancelled::Cancelled
            }
        }))
    }

    async fn refund(&self, request: Refund) -> Result<Refunded, PaymentError> {
        self.check()?;
        if self.refusing.load(Ordering::SeqCst) {
            return Err(PaymentError::WrongState("disputed"));
        }
        let mut payments = self.lock();
        let payment = payments
            .values_mut()
            .find(|payment| payment.payment_intent_id == request.payment_intent_id);
        let payment = payment.ok_or(PaymentError::NotFound)?;
        payment.status = Status::Refunded;
        payment.refunded = payment.amount.minor;
        let amount = payment.amount;
        self.refunds
            .lock()
            .unwrap()
            .insert(request.idempotency_key.clone(), request);
        Ok(Refunded {
            refund: RefundId(uuid::Uuid::nil()),
            stripe_refund_id: None,
            amount,
            status: RefundStatus::Pending,
        })
    }
}

/// The offline supplier, whose prices a test can move and whose journeys it can take off the market.
pub struct BentSupply {
    inner: Offline,
    percent: Mutex<i64>,
    sold_out: AtomicBool,
}

impl Default for BentSupply {
    fn default() -> Self {
        Self {
            inner: Offline::new(false),
            percent: Mutex::new(100),
            sold_out: AtomicBool::new(false),
        }
    }
}

impl BentSupply {
    /// Moves all prices to so many percent of what they are.
    pub fn set_percent(&self, percent: i64) {
        *self.percent.lock().unwrap() = percent;
    }

    /// Sells nothing any more.
    pub fn sell_out(&self) {
        self.sold_out.store(true, Ordering::SeqCst);
    }
}

impl Provider for BentSupply {
    fn name(&self) -> &'static str {
        Offline::NAME
    }

    fn flights(&self) -> Option<&dyn Flights> {
        Some(self)
    }
}

#[async_trait]
impl Flights for BentSupply {
    async fn search(&self, query: &FlightQuery, now: DateTime<Utc>) -> Result<Vec<FlightOffer>, ProviderError> {
        self.inner.search(query, now).await
    }

    async fn recall(&self, offer_id: &str, now: DateTime<Utc>) -> Result<FlightOffer, ProviderError> {
        self.inner.recall(offer_id, now).await
    }

    async fn reprice(&self, offer_id: &str, now: DateTime<Utc>) -> Result<FlightOffer, ProviderError> {
        if self.sold_out.load(Ordering::SeqCst) {
            return Err(ProviderError::NoAvailability);
        }
        let mut offer = self.inner.reprice(offer_id, now).await?;
        let total = Money::from_major(offer.price.total, offer.price.currency).unwrap();
        offer.price.total = Money::new(total.minor * *self.percent.lock().unwrap() / 100, total.currency).major();
        Ok(offer)
    }
}
