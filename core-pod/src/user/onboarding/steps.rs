//! The thirteen steps and how far a traveller has come.
//!
//! contract: core §5.5

use super::answers::Problem;

/// All steps, in the order in which they are asked.
pub const STEPS: [&str; 13] = [
    "destinations",
    "budget",
    "travel_types",
    "timing",
    "accommodation",
    "transport",
    "activities",
    "group_travel",
    "special_needs",
    "comfort_service",
    "climate",
    "experience",
    "loyalty_payment",
];

/// Those without which onboarding cannot be completed.
pub const REQUIRED: [&str; 5] = ["destinations", "budget", "travel_types", "accommodation", "transport"];

/// Clients name steps of their own as well; so many of them are kept.
pub const MOST_STEPS: usize = 40;

/// The name of a step: any of the thirteen, or one of a client's own.
pub fn check_name(step: &str) -> Result<(), Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if (1..=50).contains(&step.len()) && step.chars().all(plain) {
        return Ok(());
    }
    Err(Problem::new(
        "step",
        "Step must be a name of at most 50 letters, digits, - and _",
    ))
}

/// How far somebody has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Of the thirteen, rounded; 100 once completed, whatever was left out.
    pub percentage: i64,
    /// The first of the thirteen that is missing, `None` once completed.
    pub next: Option<&'static str>,
}

impl Progress {
    /// From the completed steps, known and unknown.
    pub fn of(completed: &[String], is_completed: bool) -> Self {
        if is_completed {
            return Self {
                percentage: 100,
                next: None,
            };
        }
        let is_done = |step: &str| completed.iter().any(|done| done == step);
        let done = STEPS.into_iter().filter(|step| is_done(step)).count();
        let percentage = (200 * done + STEPS.len()) / (2 * STEPS.len());
        Self {
            percentage: i64::try_from(percentage).unwrap_or(100),
            next: STEPS.into_iter().find(|step| !is_done(step)),
        }
    }
}

/// The required steps that are missing.
pub fn missing(completed: &[String]) -> Vec<&'static str> {
    let is_missing = |step: &&str| !completed.iter().any(|done| done == step);
    REQUIRED.into_iter().filter(is_missing).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steps(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn known_steps_count_and_others_do_not() {
        let progress = Progress::of(&steps(&["budget", "style_comfort", "duration"]), false);
        assert_eq!((progress.percentage, progress.next), (8, Some("destinations")));
        let all = Progress::of(&steps(&STEPS), false);
        assert_eq!((all.percentage, all.next), (100, None));
        assert_eq!(Progress::of(&[], true).percentage, 100);
        assert_eq!(
            missing(&steps(&["budget", "transport"])),
            ["destinations", "travel_types", "accommodation"]
        );
        assert!(missing(&steps(&REQUIRED)).is_empty());
    }

    #[test]
    fn a_step_is_a_plain_name() {
        for good in ["budget", "travel-groups", "style_comfort", "x1"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "x".repeat(51);
        for bad in ["", " ", "a b", "é", "{}", "a\0", &long] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_percentage_is_a_percentage(completed in prop::collection::vec(prop::sample::select(&STEPS[..]), 0..30)) {
            let progress = Progress::of(&steps(&completed), false);
            prop_assert!((0..=100).contains(&progress.percentage));
            prop_assert_eq!(progress.next.is_none(), progress.percentage == 100);
        }
    }
}
