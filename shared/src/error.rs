//! The one error type that becomes an HTTP response, in the one error shape of the platform (core §1.4).
//!
//! Services have small enums in their own words and turn them into [`ApiError`] at the edge. Causes are logged here and
//! never leave the server.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

/// One field that was not valid; `path` is the place in the body: `items[2].date`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Where, in the request's own names.
    pub path: String,
    /// What is wrong, fit to be shown.
    pub message: String,
}

impl FieldError {
    /// An error at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

/// A refusal or failure on its way to the client.
///
/// Built by named constructors, refined by the `with_*` methods. `title` becomes `error`, `detail` becomes `message`;
/// where the contract has one text, both carry it.
#[derive(Debug)]
pub struct ApiError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    code: &'static str,
    title: String,
    detail: Option<String>,
    fields: Vec<FieldError>,
    extra: Map<String, Value>,
    retry_after: Option<Duration>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<anyhow::Error>,
}

impl ApiError {
    /// An error with a status, a stable `UPPER_SNAKE` code and a public text.
    pub fn new(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            status,
            code,
            title: text.into(),
            detail: None,
            fields: Vec::new(),
            extra: Map::new(),
            retry_after: None,
            headers: Vec::new(),
            cause: None,
        }))
    }

    /// 400 `VALIDATION` with a text of its own.
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "VALIDATION", text)
    }

    /// 400 `Validation failed`, one item per bad field; the offending values are never echoed.
    pub fn invalid(fields: Vec<FieldError>) -> Self {
        let mut error = Self::new(StatusCode::BAD_REQUEST, "VALIDATION", "Validation failed");
        error.0.fields = fields;
        error
    }

    /// 401 with one of the codes of core §2.3.
    pub fn unauthenticated(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, text)
    }

    /// 403.
    pub fn forbidden(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", text)
    }

    /// 404.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", text)
    }

    /// 409 with its own code.
    pub fn conflict(code: &'static str, text: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, text)
    }

    /// 429 with `Retry-After`; the body says the time in words (core §1.10).
    pub fn rate_limited(retry_after: Duration) -> Self {
        let words = in_words(retry_after);
        let mut error = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "RATE_LIMIT_EXCEEDED",
            "Too many requests",
        )
        .with_extra("retryAfter", json!(words));
        error.0.detail = Some("Too many requests, please try again later.".to_owned());
        error.0.retry_after = Some(retry_after);
        error
    }

    /// 503: something we need is away; trying again is right.
    pub fn unavailable(cause: impl Into<anyhow::Error>) -> Self {
        let mut error = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "SERVICE_UNAVAILABLE",
            "Service temporarily unavailable",
        );
        error.0.retry_after = Some(Duration::from_secs(2));
        error.0.cause = Some(cause.into());
        error
    }

    /// 500: our failure. The cause is logged, the client gets a generic text.
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        let mut error = Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "Internal server error");
        error.0.cause = Some(cause.into());
        error
    }

    /// Replaces the `error` text and keeps the present one as `message`, or sets `message` beside the title.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Replaces `error`, the title; the detail stays.
    #[must_use]
    pub fn with_title(mut self, title: impl Into<String>) -> Self {
        let old = std::mem::replace(&mut self.0.title, title.into());
        self.0.detail.get_or_insert(old);
        self
    }

    /// Replaces the code.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.0.code = code;
        self
    }

    /// Adds a key that a contract page asks for beside the common ones (`data`, `details`, `required`, …).
    #[must_use]
    pub fn with_extra(mut self, key: &str, value: Value) -> Self {
        self.0.extra.insert(key.to_owned(), value);
        self
    }

    /// Adds a response header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Sets `Retry-After`.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// Keeps a cause for the log.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<anyhow::Error>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The body as the client will see it.
    pub fn body(&self) -> Value {
        let Inner {
            code,
            title,
            detail,
            fields,
            extra,
            ..
        } = &*self.0;
        let mut body = extra.clone();
        body.insert("success".into(), json!(false));
        body.insert("error".into(), json!(title));
        body.insert("message".into(), json!(detail.as_ref().unwrap_or(title)));
        body.insert("code".into(), json!(code));
        body.insert("requestId".into(), json!(crate::http::current_request_id()));
        body.insert("timestamp".into(), json!(crate::http::response_timestamp()));
        if !fields.is_empty() {
            let items = fields.iter().map(|field| {
                json!({
                    "type": "field", "location": "body",
                    "path": field.path, "field": field.path,
                    "msg": field.message, "message": field.message,
                })
            });
            body.insert("errors".into(), items.collect());
        }
        Value::Object(body)
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.0.status.as_u16(), self.0.code)
    }
}

impl std::error::Error for ApiError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_ref().map(AsRef::as_ref)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Some(cause) = &self.0.cause {
            if self.0.status == StatusCode::INTERNAL_SERVER_ERROR {
                tracing::error!(code = self.0.code, error = format!("{cause:#}"), "request failed");
            } else {
                tracing::warn!(
                    code = self.0.code,
                    status = self.0.status.as_u16(),
                    error = format!("{cause:#}"),
                    "request refused"
                );
            }
        }
        let mut response = (self.0.status, axum::Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(after) = self.0.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        for (name, value) in self.0.headers {
            headers.append(name, value);
        }
        response
    }
}

/// A database failure at the edge: pool exhausted, connection lost, shutting down → 503; anything else is ours.
impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        if crate::db::is_transient(&error) {
            Self::unavailable(error)
        } else {
            Self::internal(error)
        }
    }
}

/// `15 minutes`, `1 minute`, `1 hour`, `30 seconds`.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs().max(1);
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds.div_ceil(60), "minute"),
        _ => (seconds.div_ceil(3600), "hour"),
    };
    if count == 1 {
        format!("1 {unit}")
    } else {
        format!("{count} {unit}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_every_key_of_the_contract_and_no_values() {
        let body = ApiError::invalid(vec![FieldError::new("password", "too short")]).body();
        for key in [
            "success",
            "error",
            "message",
            "code",
            "requestId",
            "timestamp",
            "errors",
        ] {
            assert!(body.get(key).is_some(), "missing {key}");
        }
        assert_eq!(body["errors"][0]["msg"], "too short");
        assert!(body["errors"][0].get("value").is_none());
    }

    #[test]
    fn a_cause_never_reaches_the_client() {
        let body = ApiError::internal(anyhow::anyhow!("postgres://secret")).body();
        assert!(!body.to_string().contains("secret"));
    }

    #[test]
    fn the_time_to_wait_is_said_in_words() {
        let body = ApiError::rate_limited(Duration::from_secs(900)).body();
        assert_eq!(body["retryAfter"], "15 minutes");
    }
}
