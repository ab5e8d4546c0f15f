//! Requests taken ahead: a subject that asks often need not ask Redis each time.
//!
//! A process takes a few requests of a bucket at once and hands them out itself. How many follows demand: one at first, twice
//! as many each time half of a lease is used within its life, never more than a sixteenth of what remains, so that small limits
//! and the end of large ones stay exact. One request asks for the next lease while the others use what is left of this one. What a
//! lease has left when it runs out goes back to the bucket with the subject's next request, but for what the bucket has filled by itself
//! meanwhile: nothing is ever let through twice.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use tokio::time::Instant;

use super::{Decision, Rule};

/// How long a lease may be used.
const LIFE: Duration = Duration::from_secs(1);
/// The most that is taken at once.
const LARGEST: u32 = 4_096;
/// What remains is never used up by one lease: this share of it at most.
const SHARE: u32 = 16;
/// Who has asked for so long without coming back was dropped on the way.
const ASKING: Duration = Duration::from_millis(500);
/// How long what a lease has left can still go back.
const KEPT: Duration = Duration::from_mins(5);
const SUBJECTS: u64 = 20_000;

/// The leases of this process.
#[derive(Debug, Clone)]
pub(super) struct Leases {
    held: Cache<u64, Arc<Mutex<Lease>>>,
    hashing: RandomState,
}

#[derive(Debug)]
struct Lease {
    left: u32,
    size: u32,
    /// When the bucket was asked for it.
    taken: Instant,
    /// When the oldest of what is left may have been taken: with this lease or with the one before.
    oldest: Instant,
    asked: Option<Instant>,
    last: Decision,
}

impl Lease {
    fn is_over(&self, now: Instant) -> bool {
        now >= self.taken + LIFE
    }

    /// The next lease is asked for when no more than this is left.
    fn early(&self) -> u32 {
        self.size.saturating_sub(1) / 2
    }

    fn hand_out(&mut self) -> Decision {
        self.left -= 1;
        self.decision()
    }

    /// The last decision, with what is left of the lease.
    fn decision(&self) -> Decision {
        Decision {
            remaining: self.last.remaining.saturating_add(self.left),
            ..self.last
        }
    }
}

/// What a subject's lease says.
pub(super) enum Held {
    /// The request may pass.
    Passes(Decision),
    /// The bucket must be asked.
    Ask(Ask),
}

/// What the bucket is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    /// How many requests are taken, if there are as many.
    pub(super) wanted: u32,
    /// How many that were taken before are given back first.
    pub(super) unused: u32,
    /// For how long those have been held: what the bucket has filled by itself meanwhile is not given back once more.
    pub(super) held: Duration,
    /// Whether this is the next lease, or one request beside it.
    leads: bool,
}

impl Ask {
    /// One request beside what else is asked for.
    pub(super) const ONE: Self = Self {
        wanted: 1,
        unused: 0,
        held: Duration::ZERO,
        leads: false,
    };
}

impl Leases {
    pub(super) fn new() -> Self {
        Self {
            held: Cache::builder().max_capacity(SUBJECTS).time_to_idle(KEPT).build(),
            hashing: RandomState::new(),
        }
    }

    /// What stands for a subject of a rule in this process. Nobody outside knows the seed, so nobody can make two subjects one.
    pub(super) fn key(&self, rule: &Rule, subject: &str) -> u64 {
        self.hashing.hash_one((rule.scope, subject))
    }

    /// Hands out one request, or says how many to take next.
    pub(super) fn hand_out(&self, key: u64, now: Instant) -> Held {
        let Some(lease) = self.held.get(&key) else {
            return Held::Ask(Ask::ONE);
        };
        let mut lease = lock(&lease);
        if lease.is_over(now) {
            return Held::Ask(Ask {
                unused: std::mem::take(&mut lease.left),
                held: now - lease.oldest,
                ..Ask::ONE
            });
        }
        if lease.left > lease.early() {
            return Held::Passes(lease.hand_out());
        }
        let is_asked_for = lease.asked.is_some_and(|at| now < at + ASKING);
        if !is_asked_for {
            lease.asked = Some(now);
            let most = (lease.last.remaining / SHARE).clamp(1, LARGEST);
            return Held::Ask(Ask {
                wanted: lease.size.saturating_mul(2).clamp(1, most),
                leads: true,
                ..Ask::ONE
            });
        }
        if lease.left == 0 {
            return Held::Ask(Ask::ONE);
        }
        Held::Passes(lease.hand_out())
    }

    /// Keeps what the bucket gave beyond the request at hand when it was asked at `asked`.
    pub(super) fn keep(&self, key: u64, ask: Ask, taken: u32, decision: Decision, asked: Instant) {
        let fresh = || {
            Arc::new(Mutex::new(Lease {
                left: 0,
                size: 1,
                taken: asked,
                oldest: asked,
                asked: None,
                last: decision,
            }))
        };
        let lease = self.held.get_with(key, fresh);
        let mut lease = lock(&lease);
        // who took a single request beside the next lease changes nothing of either
        if ask.leads || lease.is_over(asked) {
            lease.oldest = if lease.left == 0 { asked } else { lease.taken };
            lease.taken = asked;
            lease.size = taken.max(1);
            lease.asked = None;
        }
        lease.left = lease.left.saturating_add(taken.saturating_sub(1));
        lease.last = decision;
    }

    /// A request that shall not count goes back to the lease of a busy subject. `None`: it has to go back to the bucket.
    pub(super) fn take_back(&self, key: u64, now: Instant) -> Option<Decision> {
        let lease = self.held.get(&key)?;
        let mut lease = lock(&lease);
        if lease.is_over(now) || lease.size == 1 {
            return None;
        }
        lease.left = lease.left.saturating_add(1);
        Some(lease.decision())
    }

    /// What the bucket no longer gives may still be left of the lease.
    pub(super) fn last_of(&self, key: u64, now: Instant) -> Option<Decision> {
        let lease = self.held.get(&key)?;
        let mut lease = lock(&lease);
        lease.asked = None;
        (!lease.is_over(now) && lease.left > 0).then(|| lease.hand_out())
    }

    pub(super) fn forget(&self, key: u64) {
        self.held.invalidate(&key);
    }
}

fn lock(lease: &Mutex<Lease>) -> MutexGuard<'_, Lease> {
    lease.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// A lease of so many, asked for in its turn.
    fn lease(leases: &Leases, size: u32, decision: Decision, now: Instant) {
        let ask = Ask {
            wanted: size,
            leads: true,
            ..Ask::ONE
        };
        leases.keep(7, ask, size, decision, now);
    }

    fn asked(held: &Held) -> Option<u32> {
        match held {
            Held::Ask(ask) => Some(ask.wanted),
            Held::Passes(_) => None,
        }
    }

    #[test]
    fn a_busy_subject_takes_more_each_time_and_a_quiet_one_a_single_request() {
        let (leases, start) = (Leases::new(), Instant::now());
        assert_eq!(asked(&leases.hand_out(7, start)), Some(1));
        lease(&leases, 1, decision(999), start);
        assert_eq!(asked(&leases.hand_out(7, start)), Some(2));
        lease(&leases, 2, decision(997), start);
        assert!(asked(&leases.hand_out(7, start)).is_none(), "one of the two is left");
        assert_eq!(asked(&leases.hand_out(7, start)), Some(4));
    }

    #[test]
    fn what_was_left_goes_back_once_with_the_next_request() {
        let (leases, start) = (Leases::new(), Instant::now());
        lease(&leases, 4, decision(900), start);
        leases.hand_out(7, start);
        let later = start + LIFE;
        assert!(matches!(
            leases.hand_out(7, later),
            Held::Ask(Ask {
                wanted: 1,
                unused: 2,
                held: LIFE,
                ..
            })
        ));
        assert!(matches!(leases.hand_out(7, later), Held::Ask(Ask { unused: 0, .. })));
    }

    #[test]
    fn what_is_left_is_as_old_as_the_lease_before() {
        let (leases, start) = (Leases::new(), Instant::now());
        let moment = Duration::from_millis(100);
        lease(&leases, 4, decision(900), start);
        lease(&leases, 8, decision(892), start + moment);
        leases.keep(7, Ask::ONE, 1, decision(891), start + moment * 2);
        let asked = leases.hand_out(7, start + LIFE * 2);
        assert!(matches!(asked, Held::Ask(Ask { unused: 10, held, .. }) if held == LIFE * 2));
    }

    #[test]
    fn what_shall_not_count_goes_back_to_the_lease_of_a_busy_subject_only() {
        let (leases, start) = (Leases::new(), Instant::now());
        assert!(leases.take_back(7, start).is_none());
        lease(&leases, 1, decision(5), start);
        assert!(leases.take_back(7, start).is_none(), "a small limit is exact");
        lease(&leases, 4, decision(900), start);
        let before = leases.take_back(7, start).map(|decision| decision.remaining);
        assert_eq!(before, Some(900 + 4));
        assert!(leases.take_back(7, start + LIFE).is_none());
    }

    #[test]
    fn one_asks_early_and_the_others_use_what_is_left() {
        let (leases, start) = (Leases::new(), Instant::now());
        lease(&leases, 16, decision(900), start);
        for _ in 0..8 {
            assert!(asked(&leases.hand_out(7, start)).is_none());
        }
        assert_eq!(asked(&leases.hand_out(7, start)), Some(32), "half of it is left");
        for _ in 0..7 {
            assert!(asked(&leases.hand_out(7, start)).is_none());
        }
        assert_eq!(
            asked(&leases.hand_out(7, start)),
            Some(1),
            "nothing is left, and the rest is on its way"
        );
        leases.keep(7, Ask::ONE, 1, decision(899), start);
        assert_eq!(asked(&leases.hand_out(7, start)), Some(1), "it still is");
        lease(&leases, 32, decision(867), start);
        leases.keep(7, Ask::ONE, 1, decision(866), start);
        assert!(
            matches!(leases.hand_out(7, start), Held::Passes(decision) if decision.remaining == 866 + 30),
            "one that took a single request and came late changes nothing"
        );
    }

    #[test]
    fn who_asked_and_never_came_back_holds_nobody_up() {
        let (leases, start) = (Leases::new(), Instant::now());
        lease(&leases, 4, decision(900), start);
        leases.hand_out(7, start);
        leases.hand_out(7, start);
        assert_eq!(asked(&leases.hand_out(7, start)), Some(8));
        assert!(asked(&leases.hand_out(7, start)).is_none());
        assert_eq!(asked(&leases.hand_out(7, start + ASKING)), Some(8));
    }

    #[test]
    fn what_is_left_is_handed_out_when_the_bucket_is_empty() {
        let (leases, start) = (Leases::new(), Instant::now());
        lease(&leases, 3, decision(0), start);
        assert!(leases.last_of(7, start).is_some() && leases.last_of(7, start).is_some());
        assert!(leases.last_of(7, start).is_none());
        lease(&leases, 3, decision(0), start);
        assert!(leases.last_of(7, start + LIFE).is_none());
    }

    #[test]
    fn little_is_taken_one_by_one() {
        let (leases, start) = (Leases::new(), Instant::now());
        lease(&leases, 1, decision(31), start);
        assert_eq!(asked(&leases.hand_out(7, start)), Some(1));
    }

    #[test]
    fn rules_and_subjects_are_told_apart() {
        let leases = Leases::new();
        let rule = |scope| Rule::new(scope, 1, Duration::from_secs(1));
        let key = leases.key(&rule("a"), "b");
        assert_eq!(key, leases.key(&rule("a"), "b"));
        for other in [
            leases.key(&rule("a"), "c"),
            leases.key(&rule("ab"), ""),
            leases.key(&rule(""), "ab"),
        ] {
            assert_ne!(key, other);
        }
    }
}
