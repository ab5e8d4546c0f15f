//! The decision about one service in one round: a pure function of what was seen, what is remembered and the time.
//!
//! Up when any rule asks for it, down only when all rules agree and have agreed for long, nothing when anything needed
//! is unknown. A pair of calls with the same arguments gives the same answer.

use std::fmt;

use crate::policy::{Limits, Policy, Rule};

/// The load a rule found.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The rule.
    pub rule: Rule,
    /// Its figure; `None` if there was no data or the query failed.
    pub load: Option<f64>,
}

/// What was seen of a service.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Replicas that the service should have.
    pub desired: u32,
    /// Replicas that run.
    pub running: u32,
    /// An update or rollback is under way or stuck.
    pub updating: bool,
    /// A label of the service turns the autoscaler off.
    pub opted_out: bool,
    /// One reading for each rule.
    pub readings: Vec<Reading>,
    /// Why nothing may be scaled up now, if so.
    pub held: Option<String>,
    /// How many more replicas the nodes have room for; `None` if the service reserves nothing.
    pub room: Option<u32>,
}

/// What is remembered of a service from round to round. Lost with the process, which errs on the side of waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Seconds of the last change of this autoscaler.
    pub changed: Option<u64>,
    /// Since when all rules have agreed that fewer are enough.
    pub low_since: Option<u64>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// More replicas.
    Up,
    /// Fewer replicas.
    Down,
    /// Leave it.
    None,
}

impl Action {
    /// As metrics and the log name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::None => "none",
        }
    }
}

/// Why it came out like that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The rules want more.
    Load,
    /// Fewer than the least.
    BelowMin,
    /// More than the most, and the rules do not object.
    AboveMax,
    /// All rules have agreed on fewer for long enough.
    Calm,
    /// It has what it needs.
    Enough,
    /// More is wanted than the cap allows.
    AtMax,
    /// Fewer are enough, but not for long enough yet.
    Settling {
        /// So long up to now.
        seconds: u64,
    },
    /// A change was made a short time ago.
    CoolingDown {
        /// So long still.
        seconds: u64,
    },
    /// A rule has no data.
    NoData {
        /// Which.
        rule: String,
    },
    /// Its replicas are not all up yet.
    Starting,
    /// An update or rollback is under way.
    Updating,
    /// Someone set it to no replicas; that is not undone.
    Stopped,
    /// A label turns the autoscaler off.
    OptedOut,
    /// A guard is above its limit.
    Held {
        /// Which.
        by: String,
    },
    /// No node has room for one more.
    NoRoom,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load => f.write_str("the load asks for more"),
            Self::BelowMin => f.write_str("fewer than the least"),
            Self::AboveMax => f.write_str("more than the most"),
            Self::Calm => f.write_str("all rules agree on fewer"),
            Self::Enough => f.write_str("enough"),
            Self::AtMax => f.write_str("more is wanted, but it is at its cap"),
            Self::Settling { seconds } => write!(f, "fewer would do for {seconds} s now"),
            Self::CoolingDown { seconds } => write!(f, "changed lately, waits {seconds} s more"),
            Self::NoData { rule } => write!(f, "rule {rule} has no data"),
            Self::Starting => f.write_str("not all of its replicas run"),
            Self::Updating => f.write_str("an update or rollback is under way"),
            Self::Stopped => f.write_str("it was set to no replicas"),
            Self::OptedOut => f.write_str("its label turns scaling off"),
            Self::Held { by } => write!(f, "guard {by} holds it"),
            Self::NoRoom => f.write_str("no node has room"),
        }
    }
}

/// What to do, and the figures it was made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What.
    pub action: Action,
    /// The number of replicas that should be.
    pub to: u32,
    /// Why.
    pub reason: Reason,
    /// The largest of the rules, before caps and cool-down; `None` if a rule has no data.
    pub wanted: Option<u32>,
    /// What each rule with data wants.
    pub rules: Vec<(String, u32)>,
    /// What to remember if nothing is changed.
    pub memory: Memory,
}

/// Decides about one service. `now` is in seconds and only compared with what is remembered.
pub fn decide(policy: &Policy, limits: Limits, seen: &Seen, memory: Memory, now: u64) -> Decision {
    let rules = seen
        .readings
        .iter()
        .filter_map(|reading| {
            Some((
                reading.rule.name.clone(),
                wants(
                    &reading.rule,
                    reading.load.filter(|load| load.is_finite())?,
                    seen.desired,
                ),
            ))
        })
        .collect::<Vec<_>>();
    let missing = seen
        .readings
        .iter()
        .find(|reading| reading.load.is_none_or(|load| !load.is_finite()));
    let wanted = match missing {
        None => rules.iter().map(|(_, wants)| *wants).max(),
        Some(_) => None,
    };
    let mut outcome = Decision {
        action: Action::None,
        to: seen.desired,
        reason: Reason::Enough,
        wanted,
        rules,
        memory: Memory {
            low_since: None,
            ..memory
        },
    };
    if let Some(reason) = hands_off(seen) {
        outcome.reason = reason;
        return outcome;
    }
    let Some(wanted) = wanted else {
        outcome.reason = Reason::NoData {
            rule: missing.map_or_else(String::new, |reading| reading.rule.name.clone()),
        };
        return outcome;
    };
    let target = wanted.clamp(limits.min, limits.max);
    if target > seen.desired {
        (outcome.action, outcome.to, outcome.reason) = up(policy, limits, seen, memory, now, target);
    } else if let Some(to) = fewer(policy, limits, seen, target) {
        let since = memory.low_since.unwrap_or(now).min(now);
        outcome.memory.low_since = Some(since);
        (outcome.action, outcome.to, outcome.reason) = down(policy, limits, seen.desired, memory, now, (to, since));
    } else if wanted > limits.max {
        outcome.reason = Reason::AtMax;
    }
    outcome
}

/// So many replicas carry this load.
fn wants(rule: &Rule, load: f64, desired: u32) -> u32 {
    let wants = (load / rule.per_replica).ceil().clamp(0.0, f64::from(u32::MAX));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to what fits just above"
    )]
    let wants = wants as u32;
    if rule.only_above && load <= f64::from(desired) * rule.per_replica {
        wants.min(desired)
    } else {
        wants
    }
}

fn hands_off(seen: &Seen) -> Option<Reason> {
    if seen.opted_out {
        Some(Reason::OptedOut)
    } else if seen.desired == 0 {
        Some(Reason::Stopped)
    } else if seen.updating {
        Some(Reason::Updating)
    } else if seen.running < seen.desired {
        Some(Reason::Starting)
    } else {
        None
    }
}

fn up(policy: &Policy, limits: Limits, seen: &Seen, memory: Memory, now: u64, target: u32) -> (Action, u32, Reason) {
    let stay = |reason| (Action::None, seen.desired, reason);
    if let Some(seconds) = cooling(memory, policy.scale_up.cooldown_seconds, now) {
        return stay(Reason::CoolingDown { seconds });
    }
    if let Some(by) = &seen.held {
        return stay(Reason::Held { by: by.clone() });
    }
    let share = (f64::from(seen.desired) * policy.scale_up.step_ratio).floor();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a u32, from 0 to 1"
    )]
    let step = policy.scale_up.step.max(share as u32);
    let step = step.min(seen.room.unwrap_or(u32::MAX));
    let to = target.min(seen.desired.saturating_add(step));
    if to <= seen.desired {
        return stay(Reason::NoRoom);
    }
    let reason = if seen.desired < limits.min {
        Reason::BelowMin
    } else {
        Reason::Load
    };
    (Action::Up, to, reason)
}

/// The smaller number, if all rules agree on it with some of its capacity to spare.
fn fewer(policy: &Policy, limits: Limits, seen: &Seen, target: u32) -> Option<u32> {
    let to = target.max(seen.desired.saturating_sub(policy.scale_down.step));
    if to >= seen.desired {
        return None;
    }
    let usable = f64::from(to) * (1.0 - policy.scale_down.keep_free);
    let agreed = seen.readings.iter().all(|reading| {
        reading
            .load
            .is_some_and(|load| load <= usable * reading.rule.per_replica)
    });
    // above its cap it goes down whatever the load
    (agreed || to >= limits.max).then_some(to)
}

fn down(
    policy: &Policy,
    limits: Limits,
    desired: u32,
    memory: Memory,
    now: u64,
    (to, since): (u32, u64),
) -> (Action, u32, Reason) {
    let seconds = now.saturating_sub(since);
    if seconds < policy.scale_down.stable_seconds {
        return (Action::None, desired, Reason::Settling { seconds });
    }
    if let Some(seconds) = cooling(memory, policy.scale_down.cooldown_seconds, now) {
        return (Action::None, desired, Reason::CoolingDown { seconds });
    }
    let reason = if desired > limits.max {
        Reason::AboveMax
    } else {
        Reason::Calm
    };
    (Action::Down, to, reason)
}

/// How long a change is still too fresh.
fn cooling(memory: Memory, cooldown: u64, now: u64) -> Option<u64> {
    let passed = now.saturating_sub(memory.changed?);
    (passed < cooldown).then(|| cooldown - passed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> Policy {
        Policy::parse(include_str!("../../docker/autoscaler/policy.yml")).unwrap()
    }

    fn seen(service: &str, desired: u32, loads: &[Option<f64>]) -> Seen {
        let rules = policy().services[service].rules.clone();
        assert_eq!(rules.len(), loads.len());
        Seen {
            desired,
            running: desired,
            updating: false,
            opted_out: false,
            readings: rules
                .into_iter()
                .zip(loads)
                .map(|(rule, load)| Reading { rule, load: *load })
                .collect(),
            held: None,
            room: None,
        }
    }

    fn decided(service: &str, seen: &Seen, memory: Memory, now: u64) -> (Action, u32, Reason) {
        let policy = policy();
        let decision = decide(&policy, policy.services[service].limits, seen, memory, now);
        (decision.action, decision.to, decision.reason)
    }

    fn fresh(service: &str, desired: u32, loads: &[Option<f64>]) -> (Action, u32, Reason) {
        decided(service, &seen(service, desired, loads), Memory::default(), 10_000)
    }

    const CALM: Memory = Memory {
        changed: None,
        low_since: Some(1_000),
    };

    #[test]
    fn each_rule_asks_for_what_it_is_required_to() {
        for (service, desired, loads, to) in [
            // one replica for a thousand concurrent users
            ("core-pod", 3, [Some(3_000.0), Some(0.0)].as_slice(), 3),
            ("core-pod", 3, &[Some(3_001.0), Some(0.0)], 4),
            ("core-pod", 3, &[Some(0.0), Some(3.0 * 1.4 + 0.01)], 4),
            // the AI queue, and CPU above 70 %
            ("business-pod", 5, &[Some(5.0 * 2.8), Some(125.0)], 5),
            ("business-pod", 5, &[Some(5.0 * 2.8 + 0.01), Some(0.0)], 6),
            ("business-pod", 5, &[Some(0.0), Some(126.0)], 6),
            // a thousand requests a second and replica
            ("experience-pod", 4, &[Some(4_000.0)], 4),
            ("experience-pod", 4, &[Some(4_000.5)], 5),
        ] {
            let (action, got, reason) = fresh(service, desired, loads);
            let expected = if to > desired { Action::Up } else { Action::None };
            assert_eq!((action, got), (expected, to), "{service} {loads:?}: {reason}");
        }
    }

    #[test]
    fn steps_and_caps_bound_it() {
        assert_eq!(
            fresh("core-pod", 3, &[Some(90_000.0), Some(0.0)]),
            (Action::Up, 5, Reason::Load)
        );
        assert_eq!(
            fresh("business-pod", 8, &[Some(0.0), Some(9e9)]),
            (Action::Up, 12, Reason::Load)
        );
        assert_eq!(
            fresh("core-pod", 7, &[Some(90_000.0), Some(0.0)]),
            (Action::Up, 8, Reason::Load)
        );
        assert_eq!(
            fresh("core-pod", 8, &[Some(90_000.0), Some(0.0)]),
            (Action::None, 8, Reason::AtMax)
        );
        assert_eq!(
            fresh("core-pod", 1, &[Some(0.0), Some(0.0)]),
            (Action::Up, 3, Reason::BelowMin)
        );
        let over = seen("core-pod", 10, &[Some(90_000.0), Some(0.0)]);
        assert_eq!(
            decided("core-pod", &over, CALM, 2_000),
            (Action::Down, 9, Reason::AboveMax)
        );
    }

    #[test]
    fn unknown_means_no_change() {
        for loads in [
            [None, Some(0.0)],
            [Some(9_000.0), None],
            [Some(f64::NAN), Some(0.0)],
            [None, None],
        ] {
            let (action, to, reason) = decided("core-pod", &seen("core-pod", 5, &loads), CALM, 9_000);
            assert_eq!((action, to), (Action::None, 5));
            assert!(matches!(reason, Reason::NoData { .. }), "{reason}");
        }
    }

    #[test]
    fn it_keeps_its_hands_off() {
        let busy = || seen("core-pod", 5, &[Some(90_000.0), Some(0.0)]);
        let now = |seen: Seen| decided("core-pod", &seen, Memory::default(), 9_000);
        let stay = |reason| (Action::None, 5, reason);
        assert_eq!(
            now(Seen {
                updating: true,
                ..busy()
            }),
            stay(Reason::Updating)
        );
        assert_eq!(now(Seen { running: 4, ..busy() }), stay(Reason::Starting));
        assert_eq!(
            now(Seen {
                opted_out: true,
                ..busy()
            }),
            stay(Reason::OptedOut)
        );
        assert_eq!(
            now(Seen {
                held: Some("db".into()),
                ..busy()
            }),
            stay(Reason::Held { by: "db".into() })
        );
        assert_eq!(
            now(Seen {
                room: Some(0),
                ..busy()
            }),
            stay(Reason::NoRoom)
        );
        assert_eq!(
            now(Seen {
                room: Some(1),
                ..busy()
            }),
            (Action::Up, 6, Reason::Load)
        );
        assert_eq!(
            now(Seen {
                desired: 0,
                running: 0,
                ..busy()
            }),
            (Action::None, 0, Reason::Stopped)
        );
    }

    #[test]
    fn down_only_when_all_rules_agree_with_room_to_spare() {
        for (loads, action) in [
            ([Some(2_000.0), Some(1.0)], Action::Down),
            // one rule wants what there is
            ([Some(2_000.0), Some(6.9)], Action::None),
            ([Some(4_500.0), Some(1.0)], Action::None),
            // four would do, but with less than a tenth free
            ([Some(3_700.0), Some(1.0)], Action::None),
            ([Some(3_600.0), Some(1.0)], Action::Down),
        ] {
            let (got, to, reason) = decided("core-pod", &seen("core-pod", 5, &loads), CALM, 2_000);
            assert_eq!(got, action, "{loads:?}: {reason}");
            assert_eq!(to, if action == Action::Down { 4 } else { 5 });
        }
        assert_eq!(
            decided("core-pod", &seen("core-pod", 3, &[Some(0.0), Some(0.0)]), CALM, 2_000),
            (Action::None, 3, Reason::Enough)
        );
    }

    #[test]
    fn the_lower_value_must_hold_and_a_peak_starts_the_wait_anew() {
        let policy = policy();
        let limits = policy.services["core-pod"].limits;
        let mut memory = Memory::default();
        let mut downs = Vec::new();
        for now in (0..1_500).step_by(30) {
            let load = if now == 300 { 4_900.0 } else { 1_000.0 };
            let seen = seen("core-pod", 5, &[Some(load), Some(0.0)]);
            let decision = decide(&policy, limits, &seen, memory, now);
            memory = decision.memory;
            if decision.action == Action::Down {
                downs.push(now);
            }
        }
        assert_eq!(downs.first(), Some(&930));
    }

    #[test]
    fn changes_keep_their_distance() {
        let changed = |at| Memory {
            changed: Some(at),
            low_since: Some(0),
        };
        let busy = seen("core-pod", 5, &[Some(90_000.0), Some(0.0)]);
        let calm = seen("core-pod", 5, &[Some(0.0), Some(0.0)]);
        for (seen, now, action) in [
            (&busy, 1_059, Action::None),
            (&busy, 1_060, Action::Up),
            (&calm, 1_299, Action::None),
            (&calm, 1_300, Action::Down),
        ] {
            assert_eq!(decided("core-pod", seen, changed(1_000), now).0, action, "at {now}");
        }
    }

    proptest! {
        #[test]
        fn it_never_leaves_its_bounds(
            desired in 0u32..20,
            users in prop::option::of(-1e3..1e9f64),
            cpu in prop::option::of(0.0..64f64),
            lacking in 0u32..2,
            updating: bool,
            room in prop::option::of(0u32..4),
            changed in prop::option::of(0u64..2_000),
            low_since in prop::option::of(0u64..2_000),
            now in 0u64..2_000,
        ) {
            let policy = policy();
            let limits = policy.services["core-pod"].limits;
            let seen = Seen {
                running: desired.saturating_sub(lacking),
                updating,
                room,
                ..seen("core-pod", desired, &[users, cpu])
            };
            let memory = Memory { changed, low_since };
            let decision = decide(&policy, limits, &seen, memory, now);
            prop_assert_eq!(&decision, &decide(&policy, limits, &seen, memory, now));
            match decision.action {
                Action::None => prop_assert_eq!(decision.to, desired),
                Action::Up => {
                    prop_assert!(decision.to > desired && decision.to <= limits.max);
                    prop_assert!(decision.to - desired <= 2.max(desired / 2));
                    prop_assert!(room.is_none_or(|room| decision.to - desired <= room));
                }
                Action::Down => {
                    prop_assert!(decision.to + 1 == desired && decision.to >= limits.min);
                    prop_assert!(low_since.is_some_and(|since| since + 600 <= now));
                }
            }
            if decision.action != Action::None {
                prop_assert!(users.is_some() && cpu.is_some() && !updating && lacking.min(desired) == 0 && desired > 0);
            }
        }

        #[test]
        fn more_load_never_asks_for_less(desired in 1u32..12, low in 0.0..20_000f64, more in 0.0..20_000f64) {
            let wanted = |users| {
                let policy = policy();
                let limits = policy.services["core-pod"].limits;
                decide(&policy, limits, &seen("core-pod", desired, &[Some(users), Some(0.0)]), Memory::default(), 0).wanted
            };
            prop_assert!(wanted(low + more) >= wanted(low));
        }
    }
}
