//! What other services ask of payment, in process: start, look up, cancel and refund a payment.
//!
//! contract: payment §1 (caller kind `service`), events §7 (saga), §7.6 (compensation)
//!
//! Every call may be repeated: a second `create_intent` for one booking returns the same PaymentIntent, a second
//! `refund` with one key returns the same refund, a cancelled payment stays cancelled.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use shared::{
    id::{BookingId, RefundId, UserId},
    money::Money,
};

use super::Payments;
pub use super::words::{CancelReason, RefundReason, RefundStatus, Status};
use super::{model::Transaction, service::view, store};

/// The payment service as other services see it.
#[async_trait]
pub trait PaymentClient: Send + Sync + 'static {
    /// Starts the payment of a booking, or returns the one that is already open for it with the same amount. Another
    /// amount supersedes the open one (cancelled at Stripe as `duplicate`).
    async fn create_intent(&self, request: CreateIntent) -> Result<Intent, PaymentError>;

    /// The payment with this PaymentIntent id. With `refresh`, a payment that is not final is first compared with
    /// Stripe, by the same code that handles webhooks; Stripe being away then answers `Unavailable`.
    async fn status(&self, payment_intent_id: &str, refresh: bool) -> Result<Option<PaymentView>, PaymentError>;

    /// The latest payment of a booking, by the same rules as [`PaymentClient::status`].
    async fn status_of_booking(&self, booking: BookingId, refresh: bool) -> Result<Option<PaymentView>, PaymentError>;

    /// Cancels an open payment. The answer says what Stripe made of it: a payment that has succeeded meanwhile is
    /// not an error but a fact to act on.
    async fn cancel(&self, payment_intent_id: &str, reason: CancelReason) -> Result<Cancelled, PaymentError>;

    /// Cancels whatever is open for a booking, also a PaymentIntent that was created while its answer got lost.
    /// `Ok(None)` if the booking never had a payment.
    async fn cancel_of_booking(
        &self,
        booking: BookingId,
        reason: CancelReason,
    ) -> Result<Option<Cancelled>, PaymentError>;

    /// Gives money back. Without an amount: all that is left.
    async fn refund(&self, request: Refund) -> Result<Refunded, PaymentError>;
}

/// The payment of one booking, about to start.
#[derive(Debug, Clone)]
pub struct CreateIntent {
    /// The booking row.
    pub booking: BookingId,
    /// Its reference: what Stripe's metadata and the events carry.
    pub reference: String,
    /// Who pays.
    pub user: UserId,
    /// What the booking costs.
    pub amount: Money,
    /// Free additions to Stripe's metadata; the reserved keys are set by payment.
    pub metadata: BTreeMap<String, String>,
}

/// A PaymentIntent that the browser can confirm.
#[derive(Debug, Clone)]
pub struct Intent {
    /// Stripe's id: `pi_…`.
    pub payment_intent_id: String,
    /// What Stripe.js needs. Only for the owner's response: never stored, logged or published.
    pub client_secret: SecretString,
    /// What will be charged.
    pub amount: Money,
    /// Stripe's word: `requires_payment_method`.
    pub status: String,
    /// The key Stripe.js starts with.
    pub publishable_key: String,
    /// Whether real money moves. An offline offer is never payable with a live key.
    pub livemode: bool,
}

/// A payment as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentView {
    /// Stripe's id.
    pub payment_intent_id: String,
    /// Our status.
    pub status: Status,
    /// Stripe's word for it, `refunded` when all was given back.
    pub stripe_status: String,
    /// What was asked for.
    pub amount: Money,
    /// Minor units given back so far.
    pub refunded: i64,
    /// The booking row.
    pub booking: BookingId,
    /// The booking's reference.
    pub booking_reference: String,
    /// Who pays.
    pub user: UserId,
    /// Why a person has to look at it (amount mismatch, dispute): such a payment confirms nothing.
    pub review: Option<String>,
    /// Why the last attempt failed: code and public text.
    pub failure: Option<(String, String)>,
    /// When it started.
    pub created_at: DateTime<Utc>,
    /// When it succeeded.
    pub confirmed_at: Option<DateTime<Utc>>,
}

impl PaymentView {
    /// Whether this payment pays exactly `amount` for `booking` of `user`, with nothing in doubt and nothing returned.
    pub fn pays(&self, booking: BookingId, user: UserId, amount: Money) -> bool {
        self.status == Status::Succeeded
            && self.review.is_none()
            && self.refunded == 0
            && (self.booking, self.user, self.amount) == (booking, user, amount)
    }
}

/// What became of a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It is cancelled, now or before: it can never be charged.
    Cancelled,
    /// Too late: the money was taken. Treat as paid.
    Succeeded,
    /// The bank is still working on it: ask again later.
    Processing,
}

/// Money to give back.
#[derive(Debug, Clone)]
pub struct Refund {
    /// Of which payment.
    pub payment_intent_id: String,
    /// Minor units; all that is left when absent.
    pub amount: Option<i64>,
    /// Stripe's reason.
    pub reason: RefundReason,
    /// Free text kept with the refund.
    pub note: Option<String>,
    /// The caller's key: `cancel:<reference>`, `late:<pi>`. One key is one refund for ever.
    pub idempotency_key: String,
}

/// A refund that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refunded {
    /// Our row.
    pub refund: RefundId,
    /// Stripe's id: `re_…`, once Stripe has answered.
    pub stripe_refund_id: Option<String>,
    /// How much.
    pub amount: Money,
    /// `pending` until Stripe says it arrived.
    pub status: RefundStatus,
}

/// Why payment refused or could not answer.
#[derive(Debug, thiserror::Error)]
pub enum PaymentError {
    /// There is no such payment.
    #[error("no such payment")]
    NotFound,
    /// No payment can be taken for this booking: it is already paid for, or its payment is being worked on by the bank.
    #[error("the booking already has a payment that was taken or is in progress")]
    AlreadyPaid,
    /// The amount or currency cannot be charged.
    #[error("the amount cannot be charged: {0}")]
    NotChargeable(&'static str),
    /// Not in a state from which it can be cancelled, refunded or confirmed.
    #[error("not possible in the payment's present state: {0}")]
    WrongState(&'static str),
    /// Stripe does not take what the caller gave (an unknown payment method).
    #[error("not accepted: {0}")]
    Refused(&'static str),
    /// More than is left, or not a positive amount.
    #[error("the refund's amount is not between 1 and what is left")]
    InvalidRefundAmount,
    /// The card was declined.
    #[error("the card was declined")]
    Declined {
        /// Stripe's code: `card_declined`.
        code: String,
        /// Stripe's decline code: `insufficient_funds`.
        decline_code: Option<String>,
        /// Stripe's public text.
        message: String,
    },
    /// No payments without configuration, with Stripe away, or with our database away. Trying again later is right.
    #[error("payments are unavailable")]
    Unavailable {
        /// When trying again makes sense.
        retry_after: Duration,
        /// For the log.
        #[source]
        cause: anyhow::Error,
    },
    /// Our failure.
    #[error("payment failed internally")]
    Internal(#[source] anyhow::Error),
}

#[async_trait]
impl PaymentClient for Payments {
    async fn create_intent(&self, request: CreateIntent) -> Result<Intent, PaymentError> {
        let payments = self.clone();
        self.to_the_end(async move { payments.start(&request).await }).await
    }

    async fn status(&self, payment_intent_id: &str, refresh: bool) -> Result<Option<PaymentView>, PaymentError> {
        let found = store::find_by_intent(&mut *self.db().acquire().await?, payment_intent_id).await?;
        self.view_of(found, refresh).await
    }

    async fn status_of_booking(&self, booking: BookingId, refresh: bool) -> Result<Option<PaymentView>, PaymentError> {
        let found = store::find_latest(&mut *self.db().acquire().await?, booking).await?;
        self.view_of(found, refresh).await
    }

    async fn cancel(&self, payment_intent_id: &str, reason: CancelReason) -> Result<Cancelled, PaymentError> {
        let found = store::find_by_intent(&mut *self.db().acquire().await?, payment_intent_id).await?;
        let payment = found.ok_or(PaymentError::NotFound)?;
        let payments = self.clone();
        self.to_the_end(async move { payments.cancel_payment(payment.id, reason).await })
            .await
    }

    async fn cancel_of_booking(
        &self,
        booking: BookingId,
        reason: CancelReason,
    ) -> Result<Option<Cancelled>, PaymentError> {
        let payments = self.clone();
        self.to_the_end(async move { payments.cancel_payments_of(booking, reason).await })
            .await
    }

    async fn refund(&self, request: Refund) -> Result<Refunded, PaymentError> {
        let payments = self.clone();
        self.to_the_end(async move { payments.refund_now(&request).await })
            .await
    }
}

impl Payments {
    async fn view_of(&self, found: Option<Transaction>, refresh: bool) -> Result<Option<PaymentView>, PaymentError> {
        match found {
            Some(payment) if refresh && payment.status.is_open() => Ok(view(self.refresh(&payment).await?)),
            found => Ok(found.and_then(view)),
        }
    }
}

impl PaymentError {
    /// Something we need is away.
    pub fn unavailable(cause: impl Into<anyhow::Error>) -> Self {
        Self::Unavailable {
            retry_after: Duration::from_secs(2),
            cause: cause.into(),
        }
    }

    /// Our failure.
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        Self::Internal(cause.into())
    }
}

impl From<sqlx::Error> for PaymentError {
    fn from(error: sqlx::Error) -> Self {
        if shared::db::is_transient(&error) {
            Self::unavailable(error)
        } else {
            Self::internal(error)
        }
    }
}
