//! When an account stops taking passwords, and for how long.
//!
//! contract: core §2.6

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// How many wrong passwords in a row, and what follows.
#[derive(Debug, Clone, Copy)]
pub struct LockoutPolicy {
    /// As many wrong passwords in a row lock the account.
    pub failures: u32,
    /// The first lockout.
    pub base: Duration,
    /// The longest: each is twice as long as the one before, up to this.
    pub longest: Duration,
}

impl Default for LockoutPolicy {
    fn default() -> Self {
        Self {
            failures: 10,
            base: Duration::from_mins(15),
            longest: Duration::from_hours(24),
        }
    }
}

/// Wrong passwords of an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures {
    /// In a row, since the last right one or the last lockout.
    pub in_a_row: u32,
    /// Lockouts in a row, since the last right one.
    pub lockouts: u32,
    /// Until when passwords are refused.
    pub locked_until: Option<DateTime<Utc>>,
}

/// What one more wrong password did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// The account was locked before: nothing is counted.
    AlreadyLocked,
    /// Counted.
    Counted(Failures),
    /// Counted, and that was one too many.
    Locked(Failures, DateTime<Utc>),
}

impl Failures {
    /// Whether passwords are refused at `now`, the right one included.
    pub fn is_locked(&self, now: DateTime<Utc>) -> bool {
        self.locked_until.is_some_and(|until| now < until)
    }

    /// One more wrong password.
    pub fn one_more(self, policy: LockoutPolicy, now: DateTime<Utc>) -> Consequence {
        if self.is_locked(now) {
            return Consequence::AlreadyLocked;
        }
        let in_a_row = self.in_a_row.saturating_add(1);
        if in_a_row < policy.failures {
            return Consequence::Counted(Self { in_a_row, ..self });
        }
        let until = now + policy.duration(self.lockouts);
        let failures = Self {
            in_a_row: 0,
            lockouts: self.lockouts.saturating_add(1),
            locked_until: Some(until),
        };
        Consequence::Locked(failures, until)
    }
}

impl LockoutPolicy {
    /// The length of a lockout that `before` others came before.
    fn duration(&self, before: u32) -> TimeDelta {
        let factor = 2_u32.saturating_pow(before.min(16));
        let length = self.base.saturating_mul(factor).min(self.longest);
        TimeDelta::from_std(length).unwrap_or(TimeDelta::days(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    #[test]
    fn the_tenth_wrong_password_locks_for_a_quarter_of_an_hour() {
        let mut failures = Failures::default();
        for _ in 0..9 {
            let Consequence::Counted(next) = failures.one_more(LockoutPolicy::default(), now()) else {
                panic!("locked too early");
            };
            failures = next;
        }
        let Consequence::Locked(failures, until) = failures.one_more(LockoutPolicy::default(), now()) else {
            panic!("not locked");
        };
        assert_eq!(until - now(), TimeDelta::minutes(15));
        assert!(failures.is_locked(until - TimeDelta::seconds(1)) && !failures.is_locked(until));
        assert_eq!(
            failures.one_more(LockoutPolicy::default(), now()),
            Consequence::AlreadyLocked
        );
    }

    #[test]
    fn each_lockout_is_twice_as_long_up_to_a_day() {
        let minutes: Vec<_> = (0..9)
            .map(|before| LockoutPolicy::default().duration(before).num_minutes())
            .collect();
        assert_eq!(minutes, [15, 30, 60, 120, 240, 480, 960, 1440, 1440]);
        assert_eq!(LockoutPolicy::default().duration(u32::MAX), TimeDelta::days(1));
    }

    proptest! {
        #[test]
        fn no_row_of_wrong_passwords_gets_more_than_ten_guesses_a_lockout(gaps in prop::collection::vec(0_i64..2_000, 1..200)) {
            let (mut at, mut failures, mut since_lock) = (now(), Failures::default(), 0);
            for gap in gaps {
                at += TimeDelta::seconds(gap);
                match failures.one_more(LockoutPolicy::default(), at) {
                    Consequence::AlreadyLocked => prop_assert!(failures.is_locked(at)),
                    Consequence::Counted(next) => { failures = next; since_lock += 1; }
                    Consequence::Locked(next, _) => { failures = next; since_lock = 0; }
                }
                prop_assert!(since_lock < 10);
            }
        }
    }
}
