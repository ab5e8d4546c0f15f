//! A circuit breaker: after several failures in a row no call goes out for a while, then one may try.
//!
//! contract: payment §13 (breaker open: 503 in under 100 ms, with `Retry-After`)

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// Failures in a row that open the breaker.
const THRESHOLD: u32 = 5;
/// How long it stays open before one call may try.
const PAUSE: Duration = Duration::from_secs(10);

/// Shared by all calls to one remote service.
#[derive(Debug, Default)]
pub struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    failures: u32,
    /// While in the future: no calls. Set again by each trial, so that only one call tries per pause.
    closed_until: Option<Instant>,
}

impl Breaker {
    /// Whether a call may go out; otherwise how long to wait.
    pub fn admit(&self, now: Instant) -> Result<(), Duration> {
        let mut state = self.lock();
        match state.closed_until {
            Some(until) if now < until => Err(until - now),
            Some(_) => {
                state.closed_until = Some(now + PAUSE);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The remote service answered sensibly.
    pub fn succeeded(&self) {
        *self.lock() = State::default();
    }

    /// The remote service did not answer, or not sensibly.
    pub fn failed(&self, now: Instant) {
        let mut state = self.lock();
        state.failures = state.failures.saturating_add(1);
        if state.failures >= THRESHOLD {
            state.closed_until = Some(now + PAUSE);
        }
    }

    /// Whether calls are held back at the moment.
    pub fn is_open(&self, now: Instant) -> bool {
        self.lock().closed_until.is_some_and(|until| now < until)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_lets_one_call_try_and_closes_on_success() {
        let breaker = Breaker::default();
        let start = Instant::now();
        for _ in 0..THRESHOLD {
            assert!(breaker.admit(start).is_ok());
            breaker.failed(start);
        }
        assert!(breaker.admit(start).unwrap_err() <= PAUSE);

        let later = start + PAUSE;
        assert!(breaker.admit(later).is_ok(), "one call may try");
        assert!(breaker.admit(later).is_err(), "only one");
        breaker.succeeded();
        assert!(breaker.admit(later).is_ok());
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let breaker = Breaker::default();
        for _ in 0..3 * THRESHOLD {
            breaker.failed(Instant::now());
            breaker.succeeded();
        }
        assert!(!breaker.is_open(Instant::now()));
    }
}
