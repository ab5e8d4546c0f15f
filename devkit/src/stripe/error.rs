//! Stripe's error objects and the HTTP status each of them has.

use http::StatusCode;
use serde_json::{Map, Value, json};

/// A refused call.
#[derive(Debug, Clone)]
pub(super) struct Failure(Box<Details>);

#[derive(Debug, Clone)]
struct Details {
    status: StatusCode,
    kind: &'static str,
    code: Option<String>,
    decline_code: Option<String>,
    message: String,
    param: Option<String>,
    extra: Map<String, Value>,
    executed: bool,
    retry: Option<bool>,
}

impl Failure {
    fn new(status: StatusCode, kind: &'static str, message: String) -> Self {
        let (code, decline_code, param) = (None, None, None);
        Self(Box::new(Details {
            status,
            kind,
            code,
            decline_code,
            message,
            param,
            extra: Map::new(),
            executed: false,
            retry: None,
        }))
    }

    fn executing(mut self) -> Self {
        self.0.executed = true;
        self
    }

    fn of_param(mut self, param: &str) -> Self {
        self.0.param = Some(param.to_owned());
        self
    }

    fn retrying(mut self, retry: bool) -> Self {
        self.0.retry = Some(retry);
        self
    }

    /// A parameter that cannot be accepted (400). Found before anything was done, so no idempotency key keeps it.
    pub(super) fn invalid(param: &str, message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message).of_param(param)
    }

    /// An object in the wrong state for the call (400).
    pub(super) fn state(code: &str, message: String) -> Self {
        let failure = Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message);
        failure.executing().with_code(code)
    }

    /// The object named in the path does not exist (404).
    pub(super) fn no_such(what: &str, id: &str) -> Self {
        let failure = Self::new(
            StatusCode::NOT_FOUND,
            "invalid_request_error",
            format!("No such {what}: '{id}'"),
        );
        let param = if what == "payment_intent" { "intent" } else { "id" };
        failure.of_param(param).executing().with_code("resource_missing")
    }

    /// An object named in a parameter does not exist (400).
    pub(super) fn no_such_param(param: &str, what: &str, id: &str) -> Self {
        Self::invalid(param, format!("No such {what}: '{id}'")).with_code("resource_missing")
    }

    /// The path or method is not part of the API (404).
    pub(super) fn unknown_route(method: &str, path: &str) -> Self {
        let message = format!("Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs.");
        Self::new(StatusCode::NOT_FOUND, "invalid_request_error", message)
    }

    /// No key, a wrong key, or a key that is not a test key (401).
    pub(super) fn unauthorized(message: String) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_request_error", message)
    }

    /// A publishable key on a route that needs the secret one (403).
    pub(super) fn secret_key_required() -> Self {
        let message = "This API call cannot be made with a publishable API key. Please use a secret API key. You can \
                       find a list of your API keys at https://dashboard.stripe.com/account/apikeys.";
        let failure = Self::new(StatusCode::FORBIDDEN, "invalid_request_error", message.to_owned());
        failure.with_code("secret_key_required")
    }

    /// A malformed request as a whole (400).
    pub(super) fn request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message.to_owned())
    }

    /// The card was refused (402). The attempt has happened and is kept.
    pub(super) fn card(code: &str, decline_code: Option<&str>, message: &str) -> Self {
        let mut failure = Self::new(StatusCode::PAYMENT_REQUIRED, "card_error", message.to_owned());
        failure.0.decline_code = decline_code.map(str::to_owned);
        failure.executing().with_code(code)
    }

    /// The same key with other parameters (400).
    pub(super) fn key_reused(key: &str) -> Self {
        let message = format!(
            "Keys for idempotent requests can only be used with the same parameters they were first used with. Try \
             using a key other than '{key}' if you meant to execute a different request."
        );
        Self::new(StatusCode::BAD_REQUEST, "idempotency_error", message)
    }

    /// The same key while its first call is still running (409).
    pub(super) fn key_in_use(key: &str) -> Self {
        let message = format!(
            "There is currently another in-progress request using this Idempotent Key (that probably means you \
             submitted twice, and the other request is still going through): {key}. Please try again later."
        );
        let failure = Self::new(StatusCode::CONFLICT, "idempotency_error", message);
        failure.retrying(true).with_code("idempotency_key_in_use")
    }

    /// Too many requests (429).
    pub(super) fn rate_limited() -> Self {
        let message =
            "Too many requests hit the API too quickly. We recommend an exponential backoff of your requests.";
        let failure = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "invalid_request_error",
            message.to_owned(),
        );
        failure.retrying(true).with_code("rate_limit")
    }

    /// Stripe's own failure (500). `retry` says whether another try may help.
    pub(super) fn server(retry: bool) -> Self {
        let message = "An unknown error occurred on our side.".to_owned();
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "api_error", message).retrying(retry)
    }

    /// Names the error.
    pub(super) fn with_code(mut self, code: &str) -> Self {
        self.0.code = Some(code.to_owned());
        self
    }

    /// Adds an object or a field to the error (`payment_intent`, `charge`).
    pub(super) fn with(mut self, name: &str, value: Value) -> Self {
        self.0.extra.insert(name.to_owned(), value);
        self
    }

    /// The text for a person.
    #[cfg(test)]
    pub(super) fn message(&self) -> &str {
        &self.0.message
    }

    /// The HTTP status.
    pub(super) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Whether the endpoint had begun its work, so that an idempotency key keeps this answer.
    pub(super) fn executed(&self) -> bool {
        self.0.executed
    }

    /// What `Stripe-Should-Retry` says.
    pub(super) fn retry(&self) -> Option<bool> {
        self.0.retry
    }

    /// The error object, as it also stands in `last_payment_error`.
    pub(super) fn object(&self) -> Value {
        let mut error = self.0.extra.clone();
        if let Some(code) = &self.0.code {
            error.insert("code".to_owned(), json!(code));
            let anchor = code.replace('_', "-");
            error.insert(
                "doc_url".to_owned(),
                json!(format!("https://stripe.com/docs/error-codes/{anchor}")),
            );
        }
        if let Some(code) = &self.0.decline_code {
            error.insert("decline_code".to_owned(), json!(code));
        }
        error.insert("message".to_owned(), json!(self.0.message));
        if let Some(param) = &self.0.param {
            error.insert("param".to_owned(), json!(param));
        }
        error.insert("type".to_owned(), json!(self.0.kind));
        Value::Object(error)
    }
}
