//! Answers kept as the bytes that were sent (voyage §5).
//!
//! Two requests for the same thing at the same time are one search: the second waits for the first. An answer is served
//! for five minutes, and never after one of its offers has expired, by the clock of the service.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use moka::future::Cache;

/// How long an answer is served.
const LIFE: TimeDelta = TimeDelta::seconds(300);

/// One answer.
#[derive(Debug)]
pub struct Answer {
    /// The body.
    pub body: Bytes,
    /// How many offers it holds.
    pub count: usize,
    /// Until when it may be served.
    pub fresh_until: DateTime<Utc>,
}

impl Answer {
    /// An answer given at `now` whose offers hold until `expires_at`.
    pub fn new(body: Vec<u8>, count: usize, now: DateTime<Utc>, expires_at: Option<DateTime<Utc>>) -> Self {
        let fresh_until = expires_at.map_or(now + LIFE, |expires_at| expires_at.min(now + LIFE));
        Self {
            body: Bytes::from(body),
            count,
            fresh_until,
        }
    }
}

/// Answers by the digest of what was asked. Clones share the content.
#[derive(Debug, Clone)]
pub struct Answers(Cache<[u8; 16], Arc<Answer>>);

impl Answers {
    /// An empty cache of at most so many bytes of bodies.
    pub fn new(bytes: u64) -> Self {
        let weight = |_: &[u8; 16], answer: &Arc<Answer>| u32::try_from(answer.body.len() + 256).unwrap_or(u32::MAX);
        let life = Duration::from_mins(5);
        Self(
            Cache::builder()
                .max_capacity(bytes)
                .weigher(weight)
                .time_to_live(life)
                .build(),
        )
    }

    /// The answer, if it may still be served.
    pub async fn find(&self, key: &[u8; 16], now: DateTime<Utc>) -> Option<Arc<Answer>> {
        let answer = self.0.get(key).await?;
        if now < answer.fresh_until {
            return Some(answer);
        }
        self.0.invalidate(key).await;
        None
    }

    /// The answer that another request has found meanwhile, or the one that `work` finds; whether it was `work`.
    pub async fn find_or<E: Send + Sync + 'static>(
        &self,
        key: [u8; 16],
        work: impl Future<Output = Result<Arc<Answer>, E>>,
    ) -> Result<(Arc<Answer>, bool), Arc<E>> {
        let entry = self.0.entry(key).or_try_insert_with(work).await?;
        let fresh = entry.is_fresh();
        Ok((entry.into_value(), fresh))
    }
}
