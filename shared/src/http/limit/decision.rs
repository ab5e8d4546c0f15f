//! The outcome of a check and the headers that tell of it (core §1.10).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::ApiError;

/// The outcome of a check, as the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Requests per window.
    pub limit: u32,
    /// Requests that are left at this moment.
    pub remaining: u32,
    /// Until the bucket is full again.
    pub reset: Duration,
    /// Until the next request may pass; zero if this one may.
    pub retry_after: Duration,
    /// The window of the rule.
    pub window: Duration,
}

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const LEGACY_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

impl Decision {
    /// The four headers of the contract.
    pub fn headers(&self) -> [(HeaderName, HeaderValue); 4] {
        let policy = format!("{};w={}", self.limit, self.window.as_secs());
        [
            (
                POLICY,
                HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from(self.limit)),
            ),
            (LIMIT, HeaderValue::from(self.limit)),
            (REMAINING, HeaderValue::from(self.remaining)),
            (RESET, HeaderValue::from(seconds(self.reset))),
        ]
    }

    /// The legacy headers that the gateway sends besides (core §1.10).
    pub fn legacy_headers(&self) -> [(HeaderName, HeaderValue); 3] {
        [
            (LEGACY_LIMIT, HeaderValue::from(self.limit)),
            (
                HeaderName::from_static("x-ratelimit-remaining"),
                HeaderValue::from(self.remaining),
            ),
            (
                HeaderName::from_static("x-ratelimit-reset"),
                HeaderValue::from(seconds(self.reset)),
            ),
        ]
    }

    /// Puts the headers on a response, unless a stricter rule further in has put its own.
    pub fn apply(&self, headers: &mut HeaderMap) {
        if headers.contains_key(LIMIT) {
            return;
        }
        headers.extend(self.headers());
    }

    /// 429 with the headers if the request may not go on.
    pub fn into_result(self) -> Result<Self, ApiError> {
        if self.allowed {
            return Ok(self);
        }
        // the body names the window, the header the exact time (core §1.10)
        let wait = Duration::from_secs(seconds(self.retry_after).max(1));
        let refusal = ApiError::rate_limited(self.window).with_retry_after(wait);
        Err(self
            .headers()
            .into_iter()
            .fold(refusal, |error, (name, value)| error.with_header(name, value)))
    }
}

/// What the answers of a listener say of its limit; a stricter limit further in speaks for itself.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    decision: Option<Decision>,
    legacy: bool,
}

impl Told {
    /// Of a request that is not counted nothing is said.
    pub const NOTHING: Self = Self {
        decision: None,
        legacy: false,
    };

    /// What is said of a decision, in the legacy headers too if wanted; 429 if the request may not go on.
    pub fn of(decision: Decision, legacy: bool) -> Result<Self, ApiError> {
        match decision.into_result() {
            Ok(decision) => Ok(Self {
                decision: Some(decision),
                legacy,
            }),
            Err(refusal) if legacy => Err(decision
                .legacy_headers()
                .into_iter()
                .fold(refusal, |error, (name, value)| error.with_header(name, value))),
            Err(refusal) => Err(refusal),
        }
    }

    /// Puts it on a response.
    pub fn apply(self, headers: &mut HeaderMap) {
        let Some(decision) = self.decision else { return };
        if self.legacy && !headers.contains_key(LEGACY_LIMIT) {
            headers.extend(decision.legacy_headers());
        }
        decision.apply(headers);
    }
}

fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
