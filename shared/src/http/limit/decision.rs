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
            (
                HeaderName::from_static("x-ratelimit-limit"),
                HeaderValue::from(self.limit),
            ),
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

fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
