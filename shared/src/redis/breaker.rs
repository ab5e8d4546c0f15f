//! A breaker: after a few failures in a row commands fail at once, and one of them per pause tries whether the server is back.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// Failures in a row before it opens.
const THRESHOLD: u32 = 3;
/// How long commands fail at once between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// Closed while `open_until` is 0. Held per server, or per range of slots in a Cluster.
#[derive(Debug)]
pub(super) struct Breaker {
    base: Instant,
    failures: AtomicU32,
    open_until: AtomicU64,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self {
            base: Instant::now(),
            failures: AtomicU32::new(0),
            open_until: AtomicU64::new(0),
        }
    }

    /// Whether a command may go to the server now. While open, one caller per pause may; should it never report back,
    /// the next pause lets another one try.
    pub(super) fn admits(&self) -> bool {
        let open_until = self.open_until.load(Ordering::Acquire);
        if open_until == 0 {
            return true;
        }
        let now = self.now();
        now >= open_until
            && self
                .open_until
                .compare_exchange(open_until, now + pause(), Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }

    pub(super) fn succeeded(&self) {
        self.failures.store(0, Ordering::Release);
        self.open_until.store(0, Ordering::Release);
    }

    /// Notes a failure; says whether the breaker is open now.
    pub(super) fn failed(&self) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        if failures < THRESHOLD {
            return false;
        }
        self.open_until.store(self.now() + pause(), Ordering::Release);
        true
    }

    /// Milliseconds since the breaker was made, never 0.
    fn now(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_millis())
            .unwrap_or(u64::MAX / 2)
            .saturating_add(1)
    }
}

fn pause() -> u64 {
    u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_three_failures_and_lets_one_command_try_per_pause() {
        let breaker = Breaker::new();
        assert!(!breaker.failed() && !breaker.failed());
        assert!(breaker.admits());
        assert!(breaker.failed());
        assert!(!breaker.admits());

        tokio::time::advance(PAUSE).await;
        assert!(breaker.admits(), "one tries");
        assert!(!breaker.admits(), "the others fail at once");
        assert!(breaker.failed(), "one failure suffices now");

        tokio::time::advance(PAUSE).await;
        assert!(breaker.admits());
        breaker.succeeded();
        assert!(breaker.admits() && breaker.admits());
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_never_reports_back_does_not_keep_it_open() {
        let breaker = Breaker::new();
        for _ in 0..3 {
            breaker.failed();
        }
        tokio::time::advance(PAUSE).await;
        assert!(breaker.admits());
        tokio::time::advance(PAUSE).await;
        assert!(breaker.admits());
    }
}
