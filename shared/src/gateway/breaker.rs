//! A circuit breaker per service: it opens when at least half of at least twenty requests within ten seconds failed, and
//! lets one request try again after five seconds (experience c.3).

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
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

/// Leave to ask the service once. How it ended must be recorded; if the client hangs up before, another may try.
#[derive(Debug)]
pub(super) struct Permit<'b>(Option<&'b Breaker>);

impl Breaker {
    /// Leave for a request that may go out now.
    pub(super) fn admit(&self, now: Instant) -> Option<Permit<'_>> {
        let mut state = self.state();
        if let Some(since) = state.open_since {
            if now.duration_since(since) < REST || state.trying {
                return None;
            }
            state.trying = true;
        }
        Some(Permit(Some(self)))
    }

    fn record(&self, now: Instant, failed: bool) {
        let mut state = self.state();
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// Notes how the request ended. Only a service that could not be reached or did not answer counts as failed; what the
    /// client did wrong says nothing about the service.
    pub(super) fn record(mut self, now: Instant, outcome: Outcome) {
        let Some(breaker) = self.0.take() else { return };
        match outcome {
            Outcome::Answered => breaker.record(now, false),
            Outcome::Failed => breaker.record(now, true),
            Outcome::ClientsFault => breaker.state().trying = false,
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(breaker) = self.0 {
            breaker.state().trying = false;
        }
    }
}

/// What an admitted request says about the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    Failed,
    ClientsFault,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(breaker: &Breaker, now: Instant, failed: bool) -> bool {
        let outcome = if failed { Outcome::Failed } else { Outcome::Answered };
        breaker.admit(now).map(|permit| permit.record(now, outcome)).is_some()
    }

    #[test]
    fn it_opens_on_half_failures_rests_and_tries_once() {
        let breaker = Breaker::default();
        let start = Instant::now();
        for request in 0..MINIMUM {
            assert!(ask(&breaker, start, request % 2 == 0));
        }
        assert!(breaker.admit(start + Duration::from_secs(4)).is_none());
        let trying = breaker.admit(start + REST).expect("one request may try");
        assert!(breaker.admit(start + REST).is_none(), "and only one");
        trying.record(start + REST, Outcome::Answered);
        assert!(breaker.admit(start + REST).is_some());
    }

    #[test]
    fn a_failed_try_keeps_it_open() {
        let breaker = Breaker::default();
        let start = Instant::now();
        (0..MINIMUM).for_each(|_| assert!(ask(&breaker, start, true)));
        assert!(ask(&breaker, start + REST, true));
        assert!(breaker.admit(start + REST + Duration::from_secs(1)).is_none());
    }

    #[test]
    fn a_client_that_hangs_up_during_the_try_lets_another_try() {
        let breaker = Breaker::default();
        let start = Instant::now();
        (0..MINIMUM).for_each(|_| assert!(ask(&breaker, start, true)));
        drop(breaker.admit(start + REST).expect("one request may try"));
        let again = breaker.admit(start + REST).expect("another may try");
        again.record(start + REST, Outcome::ClientsFault);
        assert!(
            breaker.admit(start + REST).is_some(),
            "a client's mistake decides nothing"
        );
    }

    #[test]
    fn slow_clients_do_not_open_it() {
        let breaker = Breaker::default();
        let start = Instant::now();
        for _ in 0..200 {
            let permit = breaker.admit(start).expect("never open");
            permit.record(start, Outcome::ClientsFault);
        }
    }

    #[test]
    fn few_failures_among_many_requests_do_not_open_it() {
        let breaker = Breaker::default();
        let start = Instant::now();
        for request in 0..200 {
            assert!(ask(&breaker, start, request % 3 == 0));
        }
        assert!(breaker.admit(start).is_some());
    }
}
