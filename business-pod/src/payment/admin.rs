//! `PUT /api/v1/internal/payments/:id/status`: an administrator corrects a payment's status.
//!
//! contract: payment §9, core §5.12. A technical correction only: it moves no money and publishes nothing. Stripe is asked first,
//! by the same code that handles webhooks. If it answers, what it says is what the row says, and an administrator who wants
//! something else gets 409. Only while Stripe cannot be asked does the administrator's word stand alone, marked as such, until the
//! worker has compared it.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::{
    ApiError,
    error::FieldError,
    http::{Body, Path},
    id::{PaymentId, UserId},
};
use utoipa::ToSchema;

use super::{
    PaymentState, Payments,
    client::PaymentError,
    model::Transaction,
    refunds, responses,
    store::{self, actions},
    words::Status,
};
use crate::{fault, internal::FromCore};

const MAX_REASON: usize = 500;
const TITLE: &str = "Failed to update payment status";

/// A status to be set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetPaymentStatus {
    /// `PENDING`, `SUCCEEDED`, `FAILED`, `REFUNDED`.
    #[schema(value_type = String)]
    status: Status,
    /// The status the administrator saw.
    #[schema(value_type = String)]
    expected: Status,
    /// Why.
    reason: String,
    /// The administrator.
    actor: UserId,
    /// Where the administrator is.
    #[serde(default)]
    ip_address: Option<String>,
}

/// A payment after the change.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangedPayment {
    id: PaymentId,
    #[schema(value_type = String)]
    status: Status,
    /// Whether Stripe was asked and agreed.
    verified: bool,
}

/// `{success, data}`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChangedPaymentAnswer)]
pub struct Answer {
    success: bool,
    data: ChangedPayment,
}

/// Sets a payment's status, if Stripe does not contradict.
#[utoipa::path(
    put, path = "/payments/{id}/status", tag = "internal", request_body = SetPaymentStatus, security(("service" = [])),
    params(("id" = String, Path, description = "the row")),
    responses(
        (status = 200, description = "the payment as it is now", body = Answer),
        (status = 400, description = "no such status, or no reason"),
        (status = 401, description = "no service token"),
        (status = 403, description = "the token of another service"),
        (status = 404, description = "there is no such payment"),
        (status = 409, description = "`STATUS_CHANGED`, `PROVIDER_CONTRADICTS`, `INVALID_TRANSITION`"),
    )
)]
pub async fn put_status(
    _: FromCore,
    State(state): State<PaymentState>,
    Path(id): Path<PaymentId>,
    Body(body): Body<SetPaymentStatus>,
) -> Result<Json<Answer>, ApiError> {
    let reason = body.reason.trim();
    if reason.is_empty() || reason.chars().count() > MAX_REASON || reason.chars().any(char::is_control) {
        let text = format!("must be one line of 1 to {MAX_REASON} characters");
        return Err(ApiError::invalid(vec![FieldError::new("reason", text)]));
    }
    if matches!(body.status, Status::Processing | Status::Canceled) {
        return Err(ApiError::bad_request("Invalid status"));
    }
    let payments = state.payments.clone();
    let work = async move { payments.set_status(id, &body).await };
    let data = state.payments.tasks().detached(work).await??;
    Ok(Json(Answer { success: true, data }))
}

/// What Stripe says to a wish.
enum Word {
    /// The row says it now, by Stripe's own word.
    Said(Transaction),
    /// Stripe has no objection: for Stripe the two statuses are one.
    Agrees,
    /// Something else.
    Contradicts(Transaction),
    /// It cannot be asked.
    Away,
}

impl Payments {
    async fn set_status(&self, id: PaymentId, wish: &SetPaymentStatus) -> Result<ChangedPayment, ApiError> {
        let refusal = |error| responses::refusal(TITLE, error);
        let found = store::find(&mut *self.db().acquire().await?, id).await?;
        let missing = || ApiError::not_found("Payment not found");
        let payment = found.filter(|payment| payment.intent.is_some()).ok_or_else(missing)?;
        if payment.status != wish.expected {
            return Err(changed_meanwhile(payment.status));
        }
        if payment.status == wish.status {
            return Ok(changed(&payment, true));
        }
        let verified = match self.ask(&payment, wish.status).await.map_err(refusal)? {
            Word::Said(now) => {
                self.note(&now, wish, true).await?;
                return Ok(changed(&now, true));
            }
            Word::Contradicts(now) => return Err(contradicted(&now)),
            Word::Agrees => true,
            Word::Away => false,
        };
        fault::point("payment.status_asked");
        self.force(id, wish, verified).await
    }

    /// Compares with Stripe, refunds included, and says what that means for the wish.
    async fn ask(&self, payment: &Transaction, wished: Status) -> Result<Word, PaymentError> {
        let now = match self.refresh(payment).await {
            Ok(now) if wished == Status::Refunded => match self.hear_of_refunds(&now).await {
                Ok(now) => now,
                Err(PaymentError::Unavailable { .. }) => return Ok(Word::Away),
                Err(error) => return Err(error),
            },
            Ok(now) => now,
            Err(PaymentError::Unavailable { .. }) => return Ok(Word::Away),
            Err(error) => return Err(error),
        };
        if now.status == wished {
            return Ok(Word::Said(now));
        }
        // a declined payment waits for a payment method again: Stripe has one word for both
        let waiting = now.status == Status::Pending && now.display_status().starts_with("requires_");
        if wished == Status::Failed && waiting {
            return Ok(Word::Agrees);
        }
        Ok(Word::Contradicts(now))
    }

    /// Applies all refunds that Stripe knows of this payment.
    async fn hear_of_refunds(&self, payment: &Transaction) -> Result<Transaction, PaymentError> {
        let (Some(intent), true) = (&payment.intent, payment.captured > 0) else {
            return Ok(payment.clone());
        };
        let theirs = self.stripe()?.refunds_of(intent).await?;
        let mut tx = self.db().begin().await?;
        let mut locked = store::lock(&mut tx, payment.id).await?.ok_or(PaymentError::NotFound)?;
        for refund in &theirs {
            refunds::apply(&mut tx, self, &mut locked, refund).await?;
        }
        tx.commit().await?;
        self.wake();
        Ok(locked)
    }

    /// Sets the status by hand, if nobody was faster, and enters who did it.
    async fn force(&self, id: PaymentId, wish: &SetPaymentStatus, verified: bool) -> Result<ChangedPayment, ApiError> {
        let now = self.sources().now();
        let mut tx = self.db().begin().await?;
        let locked = store::lock(&mut tx, id).await?;
        let mut payment = locked.ok_or_else(|| ApiError::not_found("Payment not found"))?;
        if payment.status != wish.expected {
            return Err(changed_meanwhile(payment.status));
        }
        let from = payment.status;
        payment
            .force(wish.status, now)
            .map_err(|_| not_forcible(from, wish.status))?;
        store::save(&mut tx, &payment, now).await?;
        let action = action(&payment, from, wish, verified);
        actions::insert(&mut tx, self.sources().uuid_v7(), &action, now).await?;
        tx.commit().await?;
        tracing::warn!(
            alert = "payment_forced", payment = %payment.id, %from, to = %payment.status, admin = %wish.actor, verified,
            "payment status set by an administrator"
        );
        Ok(changed(&payment, verified))
    }

    /// Enters an action whose effect came from Stripe.
    async fn note(&self, payment: &Transaction, wish: &SetPaymentStatus, verified: bool) -> Result<(), ApiError> {
        let action = action(payment, wish.expected, wish, verified);
        let mut db = self.db().acquire().await?;
        let sources = self.sources();
        actions::insert(&mut db, sources.uuid_v7(), &action, sources.now()).await?;
        Ok(())
    }
}

fn action<'a>(
    payment: &Transaction,
    from: Status,
    wish: &'a SetPaymentStatus,
    verified: bool,
) -> actions::NewAction<'a> {
    actions::NewAction {
        payment: payment.id,
        actor: wish.actor,
        from,
        to: payment.status,
        reason: wish.reason.trim(),
        address: wish.ip_address.as_deref(),
        verified,
    }
}

fn changed(payment: &Transaction, verified: bool) -> ChangedPayment {
    ChangedPayment {
        id: payment.id,
        status: payment.status,
        verified,
    }
}

fn changed_meanwhile(status: Status) -> ApiError {
    ApiError::conflict("STATUS_CHANGED", "The payment has changed meanwhile")
        .with_detail(format!("The payment is {status} by now"))
        .with_extra("data", json!({ "status": status }))
}

fn contradicted(payment: &Transaction) -> ApiError {
    ApiError::conflict("PROVIDER_CONTRADICTS", "The payment provider says otherwise")
        .with_detail(format!(
            "At the payment provider the payment is {}",
            payment.display_status()
        ))
        .with_extra("data", json!({ "status": payment.status }))
}

fn not_forcible(from: Status, to: Status) -> ApiError {
    ApiError::conflict(
        "INVALID_TRANSITION",
        format!("Cannot change payment status from {from} to {to}"),
    )
    .with_extra("data", json!({ "from": from, "to": to }))
}
