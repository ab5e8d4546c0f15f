//! The figures the autoscaler offers, in Prometheus' text format. Their names are those of
//! `monitoring/metrics/operations.txt`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

/// What is offered: name, kind, help.
const FAMILIES: [(&str, &str, &str); 9] = [
    (DECISIONS, "counter", "Decisions by what was done, counted each round"),
    (DRY_RUN, "gauge", "1 while it only says what it would do"),
    (ERRORS, "counter", "Queries and calls that failed"),
    (LAST_RUN, "gauge", "End of the last complete round"),
    (MAX, "gauge", "The cap"),
    (RULE, "gauge", "What each rule wants"),
    (WANTED, "gauge", "The largest of the rules, before caps and cool-down"),
    (SECRET, "gauge", "Creation of each secret's newest version"),
    (REPLICAS, "gauge", "Replicas that should be and that run"),
];

/// Decisions, by service and action.
pub const DECISIONS: &str = "dreamscape_autoscaler_decisions_total";
/// Whether it only says what it would do.
pub const DRY_RUN: &str = "dreamscape_autoscaler_dry_run";
/// Failures, by reason.
pub const ERRORS: &str = "dreamscape_autoscaler_errors_total";
/// End of the last complete round.
pub const LAST_RUN: &str = "dreamscape_autoscaler_last_run_timestamp_seconds";
/// The cap of each service.
pub const MAX: &str = "dreamscape_autoscaler_max_replicas";
/// What each rule wants.
pub const RULE: &str = "dreamscape_autoscaler_rule_replicas";
/// The largest of the rules.
pub const WANTED: &str = "dreamscape_autoscaler_wanted_replicas";
/// Age of secrets.
pub const SECRET: &str = "dreamscape_secret_created_timestamp_seconds";
/// Replicas, by service and state.
pub const REPLICAS: &str = "dreamscape_swarm_replicas";

type Labels = Vec<(&'static str, String)>;

/// The figures, shared between the rounds and the listener.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<BTreeMap<&'static str, BTreeMap<Labels, f64>>>>);

/// Labels of a series.
pub fn labels<const N: usize>(pairs: [(&'static str, &str); N]) -> Labels {
    pairs.map(|(name, value)| (name, value.to_owned())).into()
}

impl Metrics {
    /// Adds to a counter; adding nothing makes it appear.
    pub fn add(&self, name: &'static str, labels: Labels, amount: f64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry(name).or_default().entry(labels).or_default() += amount;
    }

    /// Replaces all series of a gauge, so that what is gone does not linger.
    pub fn replace(&self, name: &'static str, series: impl IntoIterator<Item = (Labels, f64)>) {
        let series = series.into_iter().collect();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name, series);
    }

    /// The value of a series.
    pub fn get(&self, name: &'static str, labels: &Labels) -> Option<f64> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(name)?.get(labels).copied()
    }

    /// All of it as text.
    pub fn render(&self) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        for (name, kind, help) in FAMILIES {
            let Some(series) = all.get(name).filter(|series| !series.is_empty()) else {
                continue;
            };
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in series {
                let labels = labels
                    .iter()
                    .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
                    .collect::<Vec<_>>()
                    .join(",");
                let _ = if labels.is_empty() {
                    writeln!(text, "{name} {value}")
                } else {
                    writeln!(text, "{name}{{{labels}}} {value}")
                };
            }
        }
        text
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_prometheus_text() {
        let metrics = Metrics::default();
        metrics.add(ERRORS, labels([("reason", "a\"b")]), 1.0);
        metrics.add(ERRORS, labels([("reason", "a\"b")]), 1.0);
        metrics.replace(DRY_RUN, [(labels([]), 1.0)]);
        metrics.replace(MAX, [(labels([("service", "gone")]), 1.0)]);
        metrics.replace(MAX, []);
        assert_eq!(
            metrics.render(),
            "# HELP dreamscape_autoscaler_dry_run 1 while it only says what it would do\n\
             # TYPE dreamscape_autoscaler_dry_run gauge\ndreamscape_autoscaler_dry_run 1\n\
             # HELP dreamscape_autoscaler_errors_total Queries and calls that failed\n\
             # TYPE dreamscape_autoscaler_errors_total counter\n\
             dreamscape_autoscaler_errors_total{reason=\"a\\\"b\"} 2\n"
        );
    }

    #[test]
    fn every_name_is_in_the_list_of_the_monitoring() {
        let list = include_str!("../../monitoring/metrics/operations.txt");
        for (name, kind, _) in FAMILIES {
            assert!(
                list.lines().any(|line| line.starts_with(&format!("{name}\t{kind}\t"))),
                "{name} {kind}"
            );
        }
    }
}
