//! Rate limits: token buckets counted in Redis by one atomic script, in this process while Redis is away.
//!
//! contract: core §1.10, experience D11. No header ever switches a limit off: only configuration raises one.
//!
//! The script is the generic cell rate algorithm: a bucket is one number, the time at which it will be full again. A rule
//! of `max` per `window` with a `burst` lets `burst` requests through at once and `max` per window in the long run.

mod bucket;
mod decision;
mod layer;
mod lease;

use std::{net::IpAddr, time::Duration};

use tokio::time::Instant;

use sha2::{Digest as _, Sha256};

use self::{
    bucket::{BUCKET, Step},
    lease::{Ask, Held, Leases},
};
pub use self::{
    decision::{Decision, Told},
    layer::{LimitLayer, Limits, ListenerLimit, Subject, layer},
};
use crate::{config::Reader, redis::Redis};

/// How much one subject may do within one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The scope, part of the key: `auth.login`.
    pub scope: &'static str,
    /// Requests per window.
    pub max: u32,
    /// The window.
    pub window: Duration,
    /// Requests at once; `None`: as many as per window.
    pub burst: Option<u32>,
}

impl Rule {
    /// `max` per `window`, all of them at once if need be.
    pub const fn new(scope: &'static str, max: u32, window: Duration) -> Self {
        Self {
            scope,
            max,
            window,
            burst: None,
        }
    }

    /// The same with fewer at once.
    #[must_use]
    pub const fn with_burst(mut self, burst: u32) -> Self {
        self.burst = Some(burst);
        self
    }

    /// The same with the numbers of the configuration. Called through [`rate_limit_rule!`](crate::rate_limit_rule).
    #[must_use]
    pub fn read(self, reader: &mut Reader, max: &'static str, window: &'static str, burst: &'static str) -> Self {
        let configured_max = reader.or(max, self.max, "rate limit: requests per window");
        let seconds = reader.or(window, self.window.as_secs(), "rate limit: the window, seconds");
        let configured_burst = reader.optional(burst, "rate limit: requests at once; unset: scaled with the maximum");
        for (name, bad) in [
            (max, configured_max == 0),
            (window, seconds == 0),
            (burst, configured_burst == Some(0)),
        ] {
            if bad {
                reader.problem(format!("{name}: must be at least 1"));
            }
        }
        // a raised maximum with the old burst would still refuse: keep their proportion
        let scaled_burst = self
            .burst
            .map(|own| scale(own, f64::from(configured_max) / f64::from(self.max.max(1))));
        Self {
            scope: self.scope,
            max: configured_max.max(1),
            window: Duration::from_secs(seconds.max(1)),
            burst: configured_burst.or(scaled_burst),
        }
    }
}

/// Reads a rule by the name of its scope: `rate_limit_rule!(reader, "AUTH_LOGIN", Rule::new(…))` reads
/// `RATE_LIMIT_AUTH_LOGIN_MAX`, `RATE_LIMIT_AUTH_LOGIN_WINDOW` (seconds) and `RATE_LIMIT_AUTH_LOGIN_BURST`.
#[macro_export]
macro_rules! rate_limit_rule {
    ($reader:expr, $name:literal, $default:expr) => {
        $default.read(
            $reader,
            concat!("RATE_LIMIT_", $name, "_MAX"),
            concat!("RATE_LIMIT_", $name, "_WINDOW"),
            concat!("RATE_LIMIT_", $name, "_BURST"),
        )
    };
}

/// What holds for all rules.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LimitConfig {
    /// Every limit is raised by this factor.
    pub multiplier: f64,
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self { multiplier: 1.0 }
    }
}

impl LimitConfig {
    /// Reads `RATE_LIMIT_MULTIPLIER`.
    pub fn read(reader: &mut Reader) -> Self {
        let multiplier = reader.or(
            "RATE_LIMIT_MULTIPLIER",
            1.0_f64,
            "raises every rate limit, for load and conformance runs",
        );
        if !(multiplier.is_finite() && multiplier > 0.0) {
            reader.problem("RATE_LIMIT_MULTIPLIER: must be greater than 0");
            return Self::default();
        }
        Self { multiplier }
    }
}

/// Counts requests. Clones share the counters.
#[derive(Debug, Clone)]
pub struct RateLimiter {
    shared: Redis,
    local: Redis,
    leases: Leases,
    config: LimitConfig,
}

impl RateLimiter {
    /// A limiter that counts in `redis`, and in this process while that is away.
    pub fn new(redis: Redis, config: LimitConfig) -> Self {
        Self {
            shared: redis,
            local: Redis::memory(),
            leases: Leases::new(),
            config,
        }
    }

    /// What a number of the configuration means here, for rules that are counted elsewhere.
    pub fn scaled(&self, count: u32) -> u32 {
        scale(count, self.config.multiplier)
    }

    /// Takes one request from the bucket of `subject`, if there is one left.
    pub async fn check(&self, rule: &Rule, subject: &str) -> Decision {
        let lease = self.leases.key(rule, subject);
        match self.leases.hand_out(lease, Instant::now()) {
            Held::Passes(decision) => decision,
            // on the heap, so that the requests that need not ask do not carry its weight
            Held::Ask(ask) => Box::pin(self.take(rule, subject, lease, ask)).await,
        }
    }

    /// Takes so many requests of the bucket: one for the request at hand, the others for those to come.
    async fn take(&self, rule: &Rule, subject: &str, lease: u64, ask: Ask) -> Decision {
        let (bucket, asked) = (bucket_key(rule, subject), Instant::now());
        let (taken, decision) = self.step(rule, &bucket, Step::Take, ask).await;
        if !decision.allowed {
            return self.leases.last_of(lease, Instant::now()).unwrap_or(decision);
        }
        self.leases.keep(lease, ask, taken, decision, asked);
        decision
    }

    /// Says whether a request may pass, without counting it: for rules that count failures only.
    pub async fn peek(&self, rule: &Rule, subject: &str) -> Decision {
        self.step(rule, &bucket_key(rule, subject), Step::Peek, Ask::ONE)
            .await
            .1
    }

    /// Counts a failure after [`peek`](Self::peek).
    pub async fn count(&self, rule: &Rule, subject: &str) -> Decision {
        self.step(rule, &bucket_key(rule, subject), Step::Count, Ask::ONE)
            .await
            .1
    }

    /// Gives a request back: where failures alone count but attempts run in parallel, take first and give back on success.
    pub async fn refund(&self, rule: &Rule, subject: &str) -> Decision {
        let lease = self.leases.key(rule, subject);
        if let Some(decision) = self.leases.take_back(lease, Instant::now()) {
            return decision;
        }
        self.step(rule, &bucket_key(rule, subject), Step::Refund, Ask::ONE)
            .await
            .1
    }

    /// Forgets what was counted: after a success that clears earlier failures.
    pub async fn clear(&self, rule: &Rule, subject: &str) {
        let key = bucket_key(rule, subject);
        self.leases.forget(self.leases.key(rule, subject));
        let _ = self.local.del(&key).await;
        if let Err(error) = self.shared.del(&key).await {
            tracing::debug!(%error, "rate limit not cleared");
        }
    }

    /// One atomic step on a bucket: how many requests it gave, and the decision.
    async fn step(&self, rule: &Rule, key: &str, step: Step, ask: Ask) -> (u32, Decision) {
        let limit = scale(rule.max, self.config.multiplier);
        let capacity = rule.burst.map_or(limit, |burst| scale(burst, self.config.multiplier));
        let window_micros = u64::try_from(rule.window.as_micros()).unwrap_or(u64::MAX);
        let interval = (window_micros / u64::from(limit)).max(1);
        let held = u64::try_from(ask.held.as_micros()).unwrap_or(u64::MAX);
        let unused = interval.saturating_mul(ask.unused.into()).saturating_sub(held);
        let args = [
            interval.to_string(),
            capacity.to_string(),
            step.code().to_owned(),
            ask.wanted.to_string(),
            unused.to_string(),
        ];
        let args = args.each_ref().map(String::as_str);
        let counted = match self.shared.eval(&BUCKET, &[key], &args).await {
            Ok(reply) => Ok(reply),
            Err(error) => {
                if !error.is_unavailable() {
                    tracing::error!(%error, "rate limit script failed");
                }
                self.local.eval(&BUCKET, &[key], &args).await
            }
        };
        let counted = counted.and_then(|reply| reply.ints());
        let (taken, remaining, reset, retry_after) = match counted.as_deref() {
            Ok([taken, remaining, reset, retry]) => (*taken, *remaining, *reset, *retry),
            // the in-process script does not fail; if it did, refusing is the safe side
            _ => (0, 0, 1_000_000, 1_000_000),
        };
        let micros = |count: i64| Duration::from_micros(u64::try_from(count).unwrap_or_default());
        let decision = Decision {
            allowed: taken > 0,
            limit,
            remaining: u32::try_from(remaining).unwrap_or_default(),
            reset: micros(reset),
            retry_after: micros(retry_after),
            window: rule.window,
        };
        (u32::try_from(taken).unwrap_or_default(), decision)
    }
}

/// `rl:<scope>:<subject>`; the subject may hold an e-mail address, so its digest stands for it.
fn bucket_key(rule: &Rule, subject: &str) -> String {
    let digest = Sha256::digest(subject.as_bytes());
    let short = digest.get(..16).unwrap_or_default();
    format!("rl:{}:{}", rule.scope, hex::encode(short))
}

fn scale(count: u32, factor: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the range of u32"
    )]
    let scaled = (f64::from(count) * factor).round().clamp(1.0, f64::from(u32::MAX)) as u32;
    scaled
}

/// The subject of an address: IPv6 by its /64, since one household has all of it.
pub fn address_subject(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("ip:{address}"),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("ip:{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}
