//! A circuit breaker per service: it opens when at least half of at least twenty requests within ten seconds failed, and
//! lets one request try again after five seconds (experience c.3).

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const WINDOW: Duration = Duration::from_secs(10);
const MINIMUM: u32 = 20;
const REST: Duration = Duration::from_secs(5);

/// The state machine; instants are handed in, so that tests need not wait.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    window_start: Option<Instant>,
    requests: u32,
    failures: u32,
    open_since: Option<Instant>,
    trying: bool,
}

impl Breaker {
    /// Whether a request may go out now.
    pub(super) fn admits(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(since) = state.open_since else { return true };
        if now.duration_since(since) < REST || state.trying {
            return false;
        }
        state.trying = true;
        true
    }

    /// Notes how an admitted request ended. Only a service that could not be reached or did not answer counts as failed.
    pub(super) fn record(&self, now: Instant, failed: bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.trying {
            *state = State {
                open_since: failed.then_some(now),
                ..State::default()
            };
            return;
        }
        if state
            .window_start
            .is_none_or(|start| now.duration_since(start) > WINDOW)
        {
            state.window_start = Some(now);
            state.requests = 0;
            state.failures = 0;
        }
        state.requests += 1;
        state.failures += u32::from(failed);
        if state.requests >= MINIMUM && state.failures * 2 >= state.requests {
            state.open_since = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_on_half_failures_rests_and_tries_once() {
        let breaker = Breaker::default();
        let start = Instant::now();
        for request in 0..MINIMUM {
            assert!(breaker.admits(start));
            breaker.record(start, request % 2 == 0);
        }
        assert!(!breaker.admits(start + Duration::from_secs(4)));
        assert!(breaker.admits(start + REST), "one request may try");
        assert!(!breaker.admits(start + REST), "and only one");
        breaker.record(start + REST, false);
        assert!(breaker.admits(start + REST));
    }

    #[test]
    fn a_failed_try_keeps_it_open() {
        let breaker = Breaker::default();
        let start = Instant::now();
        (0..MINIMUM).for_each(|_| breaker.record(start, true));
        assert!(breaker.admits(start + REST));
        breaker.record(start + REST, true);
        assert!(!breaker.admits(start + REST + Duration::from_secs(1)));
    }

    #[test]
    fn few_failures_among_many_requests_do_not_open_it() {
        let breaker = Breaker::default();
        let start = Instant::now();
        for request in 0..200 {
            breaker.record(start, request % 3 == 0);
        }
        assert!(breaker.admits(start));
    }
}
