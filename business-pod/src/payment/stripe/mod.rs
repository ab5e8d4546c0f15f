//! Our client of Stripe's HTTP API: about ten calls, each safe to repeat.
//!
//! contract: payment §5. Requests are form-encoded with brackets, pinned to one API version, and every POST carries a
//! deterministic idempotency key. Keys, bodies and client secrets are never logged.

pub mod breaker;
pub mod error;
pub mod wire;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::DeserializeOwned;
use shared::Sources;
use tokio::time::Instant;
use url::Url;

use breaker::Breaker;
pub use error::StripeError;
use wire::{List, PaymentIntent, Refund};

/// Retries after the first try.
const RETRIES: u32 = 2;
/// No retry waits longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How to reach Stripe.
#[derive(Debug, Clone)]
pub struct StripeSettings {
    /// `https://api.stripe.com`
    pub base: Url,
    /// `2023-10-16`
    pub version: String,
    /// `sk_…` or `rk_…`
    pub key: SecretString,
    /// For the TCP and TLS handshakes.
    pub connect_timeout: Duration,
    /// For one call with all its retries.
    pub timeout: Duration,
}

/// The client. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stripe {
    http: reqwest::Client,
    settings: Arc<StripeSettings>,
    breaker: Arc<Breaker>,
    sources: Sources,
}

/// A PaymentIntent about to be created.
#[derive(Debug, Clone)]
pub struct NewIntent<'a> {
    /// In Stripe's minor units.
    pub amount: i64,
    /// Lower-case code.
    pub currency: &'a str,
    /// `Booking <reference>`
    pub description: String,
    /// Ours and the caller's additions.
    pub metadata: BTreeMap<&'a str, &'a str>,
}

/// A refund about to be created.
#[derive(Debug, Clone, Copy)]
pub struct NewRefund<'a> {
    /// Of which PaymentIntent.
    pub intent: &'a str,
    /// In Stripe's minor units.
    pub amount: i64,
    /// Stripe's reason.
    pub reason: &'a str,
    /// Our refund's id, to find it again.
    pub refund: &'a str,
}

type Form = Vec<(String, String)>;

impl Stripe {
    /// A client. Fails only if the TLS library cannot start.
    pub fn new(settings: StripeSettings, sources: Sources) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("dreamscape-payment/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(settings.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            http,
            settings: Arc::new(settings),
            breaker: Arc::default(),
            sources,
        })
    }

    /// Creates a PaymentIntent; the same key returns the same one.
    pub async fn create_intent(&self, new: &NewIntent<'_>, key: &str) -> Result<PaymentIntent, StripeError> {
        let mut form = vec![
            pair("amount", new.amount.to_string()),
            pair("currency", new.currency),
            pair("description", &*new.description),
            pair("automatic_payment_methods[enabled]", "true"),
        ];
        form.extend(
            new.metadata
                .iter()
                .map(|(name, value)| pair(&format!("metadata[{name}]"), *value)),
        );
        self.post("payment_intents.create", "v1/payment_intents", form, key)
            .await
    }

    /// The PaymentIntent as it is now.
    pub async fn intent(&self, id: &str) -> Result<PaymentIntent, StripeError> {
        self.get(
            "payment_intents.retrieve",
            &format!("v1/payment_intents/{id}"),
            Vec::new(),
        )
        .await
    }

    /// Cancels a PaymentIntent.
    pub async fn cancel_intent(&self, id: &str, reason: &str) -> Result<PaymentIntent, StripeError> {
        let path = format!("v1/payment_intents/{id}/cancel");
        self.post(
            "payment_intents.cancel",
            &path,
            vec![pair("cancellation_reason", reason)],
            &format!("pi:cancel:{id}"),
        )
        .await
    }

    /// Confirms a PaymentIntent with a payment method on the traveller's behalf.
    pub async fn confirm_intent(&self, id: &str, method: &str, return_url: &str) -> Result<PaymentIntent, StripeError> {
        let form = vec![pair("payment_method", method), pair("return_url", return_url)];
        let path = format!("v1/payment_intents/{id}/confirm");
        self.post(
            "payment_intents.confirm",
            &path,
            form,
            &format!("pi:confirm:{id}:{method}"),
        )
        .await
    }

    /// Gives money back; one refund of ours is one refund of Stripe's.
    pub async fn create_refund(&self, new: NewRefund<'_>) -> Result<Refund, StripeError> {
        let form = vec![
            pair("payment_intent", new.intent),
            pair("amount", new.amount.to_string()),
            pair("reason", new.reason),
            pair("metadata[refundId]", new.refund),
        ];
        self.post("refunds.create", "v1/refunds", form, &format!("refund:{}", new.refund))
            .await
    }

    /// The refund as it is now.
    pub async fn refund(&self, id: &str) -> Result<Refund, StripeError> {
        self.get("refunds.retrieve", &format!("v1/refunds/{id}"), Vec::new())
            .await
    }

    /// All refunds of a PaymentIntent.
    pub async fn refunds_of(&self, intent: &str) -> Result<Vec<Refund>, StripeError> {
        let mut refunds: Vec<Refund> = Vec::new();
        loop {
            let mut query = vec![pair("payment_intent", intent), pair("limit", "100")];
            query.extend(refunds.last().map(|last| pair("starting_after", &*last.id)));
            let page: List<Refund> = self.get("refunds.list", "v1/refunds", query).await?;
            let more = page.has_more && !page.data.is_empty();
            refunds.extend(page.data);
            if !more {
                return Ok(refunds);
            }
        }
    }

    /// Events of these types that Stripe could not deliver to us, newest first.
    pub async fn undelivered_events(
        &self,
        kinds: &[&str],
        after: Option<&str>,
    ) -> Result<List<serde_json::Value>, StripeError> {
        let mut query = vec![pair("delivery_success", "false"), pair("limit", "100")];
        query.extend(kinds.iter().map(|kind| pair("types[]", *kind)));
        query.extend(after.map(|id| pair("starting_after", id)));
        self.get("events.list", "v1/events", query).await
    }

    /// Whether Stripe answers us. The balance itself is nobody's business.
    pub async fn ping(&self) -> Result<(), StripeError> {
        #[derive(serde::Deserialize)]
        struct Anything {}
        self.get::<Anything>("balance.retrieve", "v1/balance", Vec::new())
            .await
            .map(drop)
    }

    /// Whether calls are held back because Stripe did not answer the last ones.
    pub fn is_held_back(&self) -> bool {
        self.breaker.is_open(std::time::Instant::now())
    }

    async fn get<T: DeserializeOwned>(&self, name: &'static str, path: &str, query: Form) -> Result<T, StripeError> {
        self.call(name, Method::GET, path, query, None).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        name: &'static str,
        path: &str,
        form: Form,
        key: &str,
    ) -> Result<T, StripeError> {
        self.call(name, Method::POST, path, form, Some(key)).await
    }

    /// One call: breaker, deadline over all tries, metrics.
    #[tracing::instrument(name = "stripe", skip_all, fields(call = name))]
    async fn call<T: DeserializeOwned>(
        &self,
        name: &'static str,
        method: Method,
        path: &str,
        form: Form,
        key: Option<&str>,
    ) -> Result<T, StripeError> {
        if let Err(wait) = self.breaker.admit(std::time::Instant::now()) {
            count("held_back");
            return Err(StripeError::Unavailable {
                retry_after: wait,
                cause: anyhow::anyhow!("stripe did not answer the last calls"),
            });
        }
        let started = Instant::now();
        let deadline = started + self.settings.timeout;
        let tries = self.tries(&method, path, &form, key);
        let result = match tokio::time::timeout_at(deadline, tries).await {
            Ok(result) => result,
            Err(_) => Err(StripeError::unavailable(anyhow::anyhow!(
                "stripe did not answer in time"
            ))),
        };
        let outcome = result.as_ref().err().map_or("ok", StripeError::outcome);
        count(outcome);
        metrics::histogram!("external_api_duration_seconds", "provider" => "stripe", "outcome" => outcome)
            .record(started.elapsed().as_secs_f64());
        match &result {
            Err(error) if error.is_outage() => self.breaker.failed(std::time::Instant::now()),
            _ => self.breaker.succeeded(),
        }
        if matches!(result, Err(StripeError::Key)) {
            tracing::error!(alert = "stripe_key", "stripe refused our key");
        }
        let body = result?;
        serde_json::from_slice(&body).map_err(|error| {
            // serde's text may quote what it read: only the place is kept
            StripeError::unavailable(anyhow::anyhow!(
                "stripe's answer could not be read (line {})",
                error.line()
            ))
        })
    }

    async fn tries(
        &self,
        method: &Method,
        path: &str,
        form: &Form,
        key: Option<&str>,
    ) -> Result<bytes::Bytes, StripeError> {
        let mut tries = 0;
        loop {
            let (error, pause) = match self.once(method, path, form, key).await {
                Ok(body) => return Ok(body),
                Err(Failed {
                    error,
                    again: Again::No,
                }) => return Err(error),
                Err(Failed {
                    error,
                    again: Again::Soon,
                }) => (error, None),
                Err(Failed {
                    error,
                    again: Again::After(pause),
                }) => (error, Some(pause)),
            };
            if tries == RETRIES {
                return Err(error);
            }
            tries += 1;
            tracing::debug!(tries, "stripe call is tried again");
            tokio::time::sleep(pause.unwrap_or_else(|| self.back_off(tries))).await;
        }
    }

    /// 0.2 s, 0.4 s, … with ±50 % of jitter.
    fn back_off(&self, tries: u32) -> Duration {
        let mut random = [0_u8; 1];
        self.sources.entropy.fill(&mut random);
        let [byte] = random;
        let base = Duration::from_millis(200) * 2_u32.pow(tries.saturating_sub(1));
        (base / 2 + base * u32::from(byte) / 255).min(LONGEST_PAUSE)
    }

    async fn once(&self, method: &Method, path: &str, form: &Form, key: Option<&str>) -> Result<bytes::Bytes, Failed> {
        let request = self.request(method, path, form, key).map_err(Failed::for_good)?;
        let response = self
            .http
            .execute(request)
            .await
            .map_err(|error| Failed::again(error.without_url()))?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = response
            .bytes()
            .await
            .map_err(|error| Failed::again(error.without_url()))?;
        if status.is_success() {
            return Ok(body);
        }
        let retry_after = retry_after(&headers);
        let again = match (should_retry(status, &headers), retry_after) {
            (false, _) => Again::No,
            (true, None) => Again::Soon,
            (true, Some(after)) => Again::After(after.min(LONGEST_PAUSE)),
        };
        let parsed = serde_json::from_slice::<wire::ErrorBody>(&body).ok();
        let error = match parsed {
            Some(body) => {
                tracing::debug!(
                    status = status.as_u16(),
                    kind = body.error.kind,
                    code = body.error.code,
                    stripe_request = headers.get("request-id").and_then(|id| id.to_str().ok()),
                    "stripe refused a call"
                );
                StripeError::from_answer(status, body.error, retry_after)
            }
            None => StripeError::unavailable(anyhow::anyhow!(
                "stripe answered {} without an error object",
                status.as_u16()
            )),
        };
        Err(Failed { error, again })
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        form: &Form,
        key: Option<&str>,
    ) -> Result<reqwest::Request, StripeError> {
        let mut url = self.settings.base.join(path).map_err(StripeError::unavailable)?;
        let encoded = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let posting = *method == Method::POST;
        if !posting && !encoded.is_empty() {
            url.set_query(Some(&encoded));
        }
        let mut request = self
            .http
            .request(method.clone(), url)
            .bearer_auth(self.settings.key.expose_secret())
            .header("stripe-version", &self.settings.version)
            .header(header::ACCEPT, "application/json");
        if posting {
            request = request
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(encoded);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request
            .build()
            .map_err(|error| StripeError::unavailable(error.without_url()))
    }
}

/// A try that failed, and whether another may help (after how long, if Stripe said so).
struct Failed {
    error: StripeError,
    again: Again,
}

/// Whether another try may help.
enum Again {
    /// The answer would be the same.
    No,
    /// Yes, after a pause of our choice.
    Soon,
    /// Yes, after the pause that Stripe asked for.
    After(Duration),
}

impl Failed {
    fn for_good(error: StripeError) -> Self {
        Self {
            error,
            again: Again::No,
        }
    }

    fn again(cause: reqwest::Error) -> Self {
        Self {
            error: StripeError::unavailable(cause),
            again: Again::Soon,
        }
    }
}

/// Stripe's own word, else: the lock of an idempotency key (409), too many requests, Stripe's failures.
fn should_retry(status: StatusCode, headers: &HeaderMap) -> bool {
    match headers.get("stripe-should-retry").map(HeaderValue::as_bytes) {
        Some(b"true") => true,
        Some(b"false") => false,
        _ => status == StatusCode::CONFLICT || status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error(),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn pair(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

fn count(outcome: &'static str) {
    metrics::counter!("external_api_requests_total", "provider" => "stripe", "outcome" => outcome).increment(1);
}
