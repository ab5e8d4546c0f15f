//! `POST /webhook`: Stripe tells us what happened.
//!
//! contract: payment §6. The order of the checks is part of the contract: header, content type, configuration, size,
//! signature. No rate limit, no caller: the signature is the proof.

pub mod apply;
pub mod signature;

use std::time::Duration;

use axum::{
    Json,
    extract::{Request, State},
};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use shared::ApiError;

use super::{Payments, stripe::wire::Event};
pub use apply::{HANDLED, Received};

/// The largest event we read.
const MAX_BODY: usize = 1024 * 1024;
/// Stripe gives up after a while and tries again; so do we.
const BUDGET: Duration = Duration::from_secs(5);

/// Receives an event from Stripe
#[utoipa::path(
    post, path = "/webhook", tag = "payment", operation_id = "receiveStripeWebhook", security(()),
    request_body(content = serde_json::Value, description = "The event, byte for byte as Stripe signed it"),
    params(("Stripe-Signature" = String, Header, description = "`t=<unix seconds>,v1=<hex>`")),
    responses(
        (status = 200, description = "Processed, a duplicate, parked, or of no interest"),
        (status = 400, description = "No signature, a wrong content type, or a bad signature"),
        (status = 413, description = "Larger than 1 MiB"),
        (status = 503, description = "No signing secret is configured"),
    ),
)]
pub async fn receive(State(payments): State<Payments>, request: Request) -> Result<Json<Value>, ApiError> {
    let (parts, body) = request.into_parts();
    let Some(signature) = parts.headers.get("stripe-signature") else {
        return Err(ApiError::bad_request("Missing stripe-signature header"));
    };
    if !is_json(&parts.headers) {
        return Err(ApiError::bad_request("Invalid request body").with_detail("Webhook endpoint expects raw body"));
    }
    let secrets = payments.webhook_secrets();
    if secrets.is_empty() {
        return Err(
            failed(StatusCode::SERVICE_UNAVAILABLE, "webhooks are not configured").with_code("PAYMENT_UNAVAILABLE")
        );
    }
    let body = axum::body::to_bytes(body, MAX_BODY).await.map_err(|_| {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "PAYLOAD_TOO_LARGE",
            "Request body too large",
        )
    })?;
    if signature::verify(signature.as_bytes(), &body, secrets, payments.sources().now()).is_err() {
        metrics::counter!("payment_webhook_total", "type" => "unknown", "result" => "forged").increment(1);
        return Err(failed(StatusCode::BAD_REQUEST, "signature verification failed"));
    }
    let Some((event, raw)) = read(&body) else {
        return Err(failed(StatusCode::BAD_REQUEST, "the event cannot be read"));
    };

    let kind = label(&event.kind);
    observe_lag(&payments, &event);
    let outcome = tokio::time::timeout(BUDGET, payments.receive(&event, &raw)).await;
    let result = match outcome {
        Ok(Ok(received)) => {
            metrics::counter!("payment_webhook_total", "type" => kind, "result" => received.as_str()).increment(1);
            tracing::info!(event = event.id, kind, result = received.as_str(), "webhook received");
            return Ok(Json(json!({ "received": true })));
        }
        Ok(Err(error)) => anyhow::Error::new(error),
        Err(_) => anyhow::anyhow!("the event was not handled in time"),
    };
    metrics::counter!("payment_webhook_total", "type" => kind, "result" => "failed").increment(1);
    // Stripe delivers it again
    Err(failed(StatusCode::INTERNAL_SERVER_ERROR, "temporary failure").with_cause(result))
}

fn failed(status: StatusCode, details: &'static str) -> ApiError {
    ApiError::new(status, "WEBHOOK_FAILED", "Webhook processing failed")
        .with_extra("details", json!(details))
        .with_detail(details)
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// The event and its JSON, without client secrets and without characters that PostgreSQL cannot store.
pub(super) fn read(body: &[u8]) -> Option<(Event, Value)> {
    let raw: Value = serde_json::from_slice(body).ok()?;
    let raw = scrub(raw);
    let event = serde::Deserialize::deserialize(&raw).ok()?;
    is_sound(&event).then_some((event, raw))
}

/// Ids and types are short words; anything else is not from Stripe, whoever signed it.
fn is_sound(event: &Event) -> bool {
    let word = |text: &str| {
        (1..=255).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b':'))
    };
    word(&event.id) && word(&event.kind) && event.created_at().is_some()
}

fn scrub(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains('\0') => Value::String(text.replace('\0', "\u{fffd}")),
        Value::Array(items) => Value::Array(items.into_iter().map(scrub).collect()),
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(name, _)| name != "client_secret")
                .map(|(name, field)| (name.replace('\0', "\u{fffd}"), scrub(field)))
                .collect(),
        ),
        other => other,
    }
}

/// The type as a metric label: only types we handle, so that nobody can make series at will.
fn label(kind: &str) -> &'static str {
    HANDLED.into_iter().find(|handled| *handled == kind).unwrap_or("other")
}

fn observe_lag(payments: &Payments, event: &Event) {
    if let Some(created_at) = event.created_at()
        && let Ok(lag) = (payments.sources().now() - created_at).to_std()
    {
        metrics::histogram!("payment_webhook_lag_seconds").record(lag.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_secrets_are_dropped_wherever_they_stand() {
        let body = br#"{"id":"evt_1","type":"x","created":1,"data":{"object":{"client_secret":"pi_1_secret_x","a":[{"client_secret":"y"}],"n":"a\u0000b"}}}"#;
        let (event, raw) = read(body).unwrap();
        assert_eq!(event.id, "evt_1");
        let text = raw.to_string();
        assert!(!text.contains("secret") && !text.contains("\\u0000"), "{text}");
    }

    #[test]
    fn a_content_type_with_parameters_is_still_json() {
        let mut headers = HeaderMap::new();
        assert!(!is_json(&headers));
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("Application/JSON; charset=utf-8"),
        );
        assert!(is_json(&headers));
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
        assert!(!is_json(&headers));
    }
}
