//! Requests taken ahead: a subject that asks often need not ask Redis each time.
//!
//! A process takes a few requests of a bucket at once and hands them out itself. How many follows demand: one at first, twice
//! as many each time a lease is used up within its life, never more than a sixteenth of what remains, so that small limits and
//! the end of large ones stay exact. What a lease has left when it runs out is lost to its subject, which is at most as much as
//! the subject has just used; nothing is ever let through twice.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use tokio::time::Instant;

use super::Decision;

/// How long a lease may be used.
const LIFE: Duration = Duration::from_secs(1);
/// The most that is taken at once.
const LARGEST: u32 = 64;
/// What remains is never used up by one lease: this share of it at most.
const SHARE: u32 = 16;
const SUBJECTS: u64 = 20_000;

/// The leases of this process.
#[derive(Debug, Clone)]
pub(super) struct Leases(Cache<String, Arc<Mutex<Lease>>>);

#[derive(Debug)]
struct Lease {
    left: u32,
    size: u32,
    until: Instant,
    last: Decision,
}

/// What a subject's lease says.
pub(super) enum Held {
    /// The request may pass.
    Passes(Decision),
    /// The bucket must be asked for this many.
    Ask(u32),
}

impl Leases {
    pub(super) fn new() -> Self {
        Self(Cache::builder().max_capacity(SUBJECTS).time_to_live(LIFE * 4).build())
    }

    /// Hands out one request, or says how many to take next.
    pub(super) fn hand_out(&self, key: &str, now: Instant) -> Held {
        let Some(lease) = self.0.get(key) else {
            return Held::Ask(1);
        };
        let mut lease = lease.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= lease.until {
            return Held::Ask(1);
        }
        if lease.left == 0 {
            let most = (lease.last.remaining / SHARE).clamp(1, LARGEST);
            return Held::Ask((lease.size * 2).clamp(1, most));
        }
        lease.left -= 1;
        Held::Passes(Decision {
            remaining: lease.last.remaining + lease.left,
            ..lease.last
        })
    }

    /// Keeps what was taken beyond the request at hand.
    pub(super) fn keep(&self, key: String, taken: u32, decision: Decision, now: Instant) {
        let lease = Lease {
            left: taken.saturating_sub(1),
            size: taken.max(1),
            until: now + LIFE,
            last: decision,
        };
        self.0.insert(key, Arc::new(Mutex::new(lease)));
    }

    pub(super) fn forget(&self, key: &str) {
        self.0.invalidate(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(remaining: u32) -> Decision {
        Decision {
            allowed: true,
            limit: 1_000,
            remaining,
            reset: Duration::from_secs(1),
            retry_after: Duration::ZERO,
            window: Duration::from_secs(60),
        }
    }

    fn asked(held: Held) -> Option<u32> {
        match held {
            Held::Ask(count) => Some(count),
            Held::Passes(_) => None,
        }
    }

    #[test]
    fn a_busy_subject_takes_more_each_time_and_a_quiet_one_a_single_request() {
        let (leases, start) = (Leases::new(), Instant::now());
        assert_eq!(asked(leases.hand_out("a", start)), Some(1));
        leases.keep("a".into(), 1, decision(999), start);
        assert_eq!(asked(leases.hand_out("a", start)), Some(2));
        leases.keep("a".into(), 2, decision(997), start);
        assert!(asked(leases.hand_out("a", start)).is_none(), "one of the two is left");
        assert_eq!(asked(leases.hand_out("a", start)), Some(4));
        assert_eq!(
            asked(leases.hand_out("a", start + LIFE)),
            Some(1),
            "what was left is not used later"
        );
    }

    #[test]
    fn little_is_taken_one_by_one() {
        let (leases, start) = (Leases::new(), Instant::now());
        leases.keep("a".into(), 1, decision(31), start);
        assert_eq!(asked(leases.hand_out("a", start)), Some(1));
    }
}
