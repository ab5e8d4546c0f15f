//! The internal API of the Business Pod: what changes bookings and payments.
//!
//! contract: core §2.8 (service token), §5.12 (every change through the owner), §3.2 (what an absent service answers)
//!
//! A refusal of the owner is passed on in its own words. That the owner refuses *us* is our failure: it is never 401, which
//! would sign the administrator out.

use std::{fmt, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    ApiError,
    auth::tokens::Signer,
    error::FieldError,
    gateway::{GatewayConfig, Target},
    http::current_request_id,
    id::{BookingId, PaymentId, UserId},
};
use url::Url;

/// Our name in service tokens.
const NAME: &str = "core-pod";
const CONNECT: Duration = Duration::from_secs(2);
/// Shorter than what a request to us may take.
const TOTAL: Duration = Duration::from_secs(13);
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// What the owner may refuse with; anything else is called after its status.
const CODES: [&str; 12] = [
    "VALIDATION",
    "NOT_FOUND",
    "CONFLICT",
    "INVALID_TRANSITION",
    "BOOKING_CANCELLED",
    "BOOKING_COMPLETED",
    "BOOKING_UNPAID",
    "STATUS_CHANGED",
    "PROVIDER_CONTRADICTS",
    "PAYMENT_UNAVAILABLE",
    "INVALID_STATE",
    "INVALID_REFUND_AMOUNT",
];

/// The Business Pod as administrators change it. Cheap to clone.
#[derive(Clone)]
pub struct Business(Arc<Inner>);

struct Inner {
    http: reqwest::Client,
    voyage: Option<Url>,
    payment: Option<Url>,
    signer: Signer,
}

impl fmt::Debug for Business {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Business")
    }
}

/// What became of a cancellation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cancelled {
    /// `pending`, `succeeded`, `failed`; none where there was nothing to give back.
    pub refund_status: Option<String>,
}

/// What became of many changes.
#[derive(Debug, Deserialize)]
pub struct BulkChanged {
    /// Rows that changed.
    pub updated: usize,
    /// Rows that may not be changed so.
    #[serde(default)]
    pub refused: Vec<BookingId>,
}

/// A cancellation to be asked for.
#[derive(Debug)]
pub struct Cancel<'a> {
    /// The booking.
    pub id: BookingId,
    /// Its reference: one reference is one refund.
    pub reference: &'a str,
    /// Whether what was paid goes back.
    pub refund: bool,
    /// Why.
    pub reason: &'a str,
    /// The administrator.
    pub actor: UserId,
}

/// A payment's status to be set.
#[derive(Debug)]
pub struct SetPaymentStatus<'a> {
    /// The payment.
    pub id: PaymentId,
    /// The new status.
    pub status: &'a str,
    /// The status that was seen.
    pub expected: &'a str,
    /// Why.
    pub reason: &'a str,
    /// The administrator.
    pub actor: UserId,
    /// Where the administrator is.
    pub address: &'a str,
}

impl Business {
    /// Over the addresses that the gateway proxies to.
    pub fn new(gateway: &GatewayConfig, signer: Signer) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self(Arc::new(Inner {
            http,
            voyage: gateway.targets.get(&Target::Voyage).cloned(),
            payment: gateway.targets.get(&Target::Payment).cloned(),
            signer,
        })))
    }

    /// Brings a booking into a status.
    pub async fn set_booking_status(&self, id: BookingId, status: &str, actor: UserId) -> Result<(), ApiError> {
        let body = json!({ "status": status, "actor": actor });
        self.voyage(Method::PUT, &format!("bookings/{id}/status"), None, &body)
            .await
            .map(drop)
    }

    /// Brings many bookings into a status.
    pub async fn set_booking_statuses(
        &self,
        ids: &[BookingId],
        status: &str,
        actor: UserId,
    ) -> Result<BulkChanged, ApiError> {
        let body = json!({ "ids": ids, "status": status, "actor": actor });
        let data = self.voyage(Method::PUT, "bookings/status", None, &body).await?;
        serde_json::from_value(data).map_err(strange)
    }

    /// Cancels a booking.
    pub async fn cancel_booking(&self, cancel: &Cancel<'_>) -> Result<Cancelled, ApiError> {
        let body = json!({ "refund": cancel.refund, "reason": cancel.reason, "actor": cancel.actor });
        let key = format!("cancel:{}", cancel.reference);
        let path = format!("bookings/{}/cancel", cancel.id);
        let data = self.voyage(Method::POST, &path, Some(&key), &body).await?;
        serde_json::from_value(data).map_err(strange)
    }

    /// Corrects a booking; the owner checks what is in `change`.
    pub async fn modify_booking(
        &self,
        id: BookingId,
        mut change: serde_json::Map<String, Value>,
        actor: UserId,
    ) -> Result<(), ApiError> {
        change.insert("actor".to_owned(), json!(actor));
        self.voyage(
            Method::PUT,
            &format!("bookings/{id}/modify"),
            None,
            &Value::Object(change),
        )
        .await
        .map(drop)
    }

    /// Sets a payment's status.
    pub async fn set_payment_status(&self, set: &SetPaymentStatus<'_>) -> Result<(), ApiError> {
        let body = json!({
            "status": set.status, "expected": set.expected, "reason": set.reason, "actor": set.actor,
            "ipAddress": set.address,
        });
        let path = format!("payments/{}/status", set.id);
        self.call(self.0.payment.as_ref(), Method::PUT, &path, None, &body)
            .await
            .map(drop)
    }

    async fn voyage(&self, method: Method, path: &str, key: Option<&str>, body: &Value) -> Result<Value, ApiError> {
        self.call(self.0.voyage.as_ref(), method, path, key, body).await
    }

    async fn call(
        &self,
        base: Option<&Url>,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: &Value,
    ) -> Result<Value, ApiError> {
        let base = base.ok_or_else(|| away(anyhow::anyhow!("the address of the service is not known")))?;
        let url = format!("{}/api/v1/internal/{path}", base.as_str().trim_end_matches('/'));
        let token = self.0.signer.service(NAME).map_err(ApiError::internal)?;
        let mut request = self.0.http.request(method, url).bearer_auth(token).json(body);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(id) = current_request_id() {
            request = request.header("x-request-id", id);
        }
        let response = request.send().await.map_err(unanswered)?;
        let status = response.status();
        let answer: Value = response.json().await.unwrap_or_default();
        if status.is_success() {
            return Ok(answer.get("data").cloned().unwrap_or_default());
        }
        Err(refusal(status, &answer))
    }
}

/// A refusal of the owner, in the owner's words.
fn refusal(status: StatusCode, answer: &Value) -> ApiError {
    let text = |key: &str| answer.get(key).and_then(Value::as_str);
    let passes = matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY
    );
    let unavailable = status == StatusCode::SERVICE_UNAVAILABLE;
    if !passes && !unavailable {
        return strange(anyhow::anyhow!("the business pod answered {status}"));
    }
    let given = text("code").and_then(|given| CODES.into_iter().find(|code| *code == given));
    let code = given.unwrap_or(match status {
        StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => "VALIDATION",
        StatusCode::NOT_FOUND => "NOT_FOUND",
        StatusCode::CONFLICT => "CONFLICT",
        _ => "UPSTREAM_UNAVAILABLE",
    });
    let title = text("error").unwrap_or("The change was refused");
    let fields = fields(answer);
    let mut error = if fields.is_empty() {
        ApiError::new(status, code, title)
    } else {
        ApiError::invalid(fields)
    };
    if let Some(detail) = text("message") {
        error = error.with_detail(detail);
    }
    if let Some(data) = answer.get("data") {
        error = error.with_extra("data", data.clone());
    }
    if unavailable {
        error = error.with_retry_after(RETRY_AFTER);
    }
    error
}

fn fields(answer: &Value) -> Vec<FieldError> {
    let items = answer.get("errors").and_then(Value::as_array);
    let field = |item: &Value| {
        let text = |key: &str| item.get(key).and_then(Value::as_str);
        Some(FieldError::new(text("path")?, text("message")?))
    };
    items.into_iter().flatten().filter_map(field).collect()
}

fn unanswered(error: reqwest::Error) -> ApiError {
    if error.is_timeout() && !error.is_connect() {
        // it may have happened all the same: every one of these calls may be repeated
        return ApiError::new(
            StatusCode::GATEWAY_TIMEOUT,
            "UPSTREAM_TIMEOUT",
            "The booking service took too long to answer",
        )
        .with_cause(error.without_url());
    }
    away(error.without_url())
}

fn away(cause: impl Into<anyhow::Error>) -> ApiError {
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "UPSTREAM_UNAVAILABLE",
        "Service unavailable",
    )
    .with_detail("The booking service is temporarily unavailable")
    .with_retry_after(RETRY_AFTER)
    .with_cause(cause)
}

fn strange(cause: impl Into<anyhow::Error>) -> ApiError {
    ApiError::new(StatusCode::BAD_GATEWAY, "UPSTREAM_FAILED", "Bad gateway")
        .with_detail("The booking service gave no usable answer")
        .with_cause(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_passed_on_and_refusals_of_ourselves_are_not() {
        let answer = json!({ "error": "Booking already cancelled", "message": "Booking already cancelled",
                             "code": "BOOKING_CANCELLED", "data": { "refundStatus": "failed" } });
        let error = refusal(StatusCode::CONFLICT, &answer);
        assert_eq!((error.status().as_u16(), error.code()), (409, "BOOKING_CANCELLED"));
        assert_eq!(error.body()["data"]["refundStatus"], "failed");
        for status in [401, 403, 429, 500, 302] {
            let error = refusal(StatusCode::from_u16(status).unwrap(), &answer);
            assert_eq!(
                (error.status().as_u16(), error.code()),
                (502, "UPSTREAM_FAILED"),
                "{status}"
            );
        }
        assert_eq!(refusal(StatusCode::CONFLICT, &Value::Null).code(), "CONFLICT");
        let named = json!({ "errors": [{ "path": "notes", "message": "too long" }], "error": "Validation failed" });
        assert_eq!(
            refusal(StatusCode::BAD_REQUEST, &named).body()["errors"][0]["path"],
            "notes"
        );
    }
}
