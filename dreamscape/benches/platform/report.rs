//! The figures: collected, held against their limits, printed, written.

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

/// The fact that says what a sign-in costs the pod.
pub const SIGN_IN_CPU: &str = "core-pod, CPU of a sign-in";

/// One measured case.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What was driven.
    pub name: &'static str,
    /// Requests per second.
    pub rate: f64,
    /// Median latency, milliseconds.
    pub p50: f64,
    /// 99th percentile, milliseconds.
    pub p99: f64,
    /// Answers that were not 2xx or did not arrive.
    pub errors: u64,
}

impl Figure {
    /// Turns of the same length as one figure: the mean of their rates and medians, the worst of their 99th percentiles.
    pub fn of_turns(turns: &[Self]) -> anyhow::Result<Self> {
        let first = turns.first().context("no turns")?;
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let mean = |value: fn(&Self) -> f64| turns.iter().map(value).sum::<f64>() / turns.len() as f64;
        Ok(Self {
            name: first.name,
            rate: mean(|turn| turn.rate),
            p50: mean(|turn| turn.p50),
            p99: turns.iter().map(|turn| turn.p99).fold(0.0, f64::max),
            errors: turns.iter().map(|turn| turn.errors).sum(),
        })
    }
}

#[derive(Debug, Default)]
pub struct Report {
    figures: Vec<Figure>,
    facts: Vec<(String, f64, &'static str, Option<f64>)>,
    verdicts: Vec<(String, f64, f64, bool)>,
}

impl Report {
    pub fn add(&mut self, figure: Figure) {
        eprintln!("  {:<34} {:>10.0} /s", figure.name, figure.rate);
        self.figures.push(figure);
    }

    /// A single number with its unit and, where there is one, the most it may be.
    pub fn fact(&mut self, name: impl Into<String>, value: f64, unit: &'static str, at_most: Option<f64>) {
        self.facts.push((name.into(), value, unit, at_most));
    }

    /// Holds each case against its limit.
    pub fn judge(&mut self) {
        for (name, limit, share) in [
            ("profile with token", "limit: select by primary key", 0.6),
            ("cart read", "limit: select, beside the cart", 0.6),
            ("flight search, cached", "limit: bare route, search bytes", 0.7),
            ("login", "limit: Argon2id hashes", 0.9),
        ] {
            let rate = |wanted: &str| {
                self.figures
                    .iter()
                    .find(|figure| figure.name == wanted)
                    .map(|figure| figure.rate)
            };
            if let (Some(reached), Some(possible)) = (rate(name), rate(limit)) {
                let part = reached / possible;
                self.verdicts.push((
                    format!("{name} / {}", limit.trim_start_matches("limit: ")),
                    part,
                    share,
                    part >= share,
                ));
            }
        }
        self.judge_sign_in();
    }

    /// The same for the pod alone: a hash against all that the pod does for a sign-in. PostgreSQL, Redis and the clients have
    /// machines of their own where the pods are deployed, but not here.
    fn judge_sign_in(&mut self) {
        let hash = self
            .figures
            .iter()
            .find(|figure| figure.name == "limit: Argon2id hashes");
        let sign_in = self.facts.iter().find(|fact| fact.0 == SIGN_IN_CPU);
        if let (Some(hash), Some(sign_in)) = (hash, sign_in) {
            let part = hash.p50 / sign_in.1;
            self.verdicts.push((
                "login / Argon2id hashes, CPU of the pod alone".to_owned(),
                part,
                0.9,
                part >= 0.9,
            ));
        }
    }

    pub fn print(&self) {
        println!(
            "\n{:<36} {:>12} {:>10} {:>10} {:>8}",
            "case", "requests/s", "p50 ms", "p99 ms", "errors"
        );
        for figure in &self.figures {
            let Figure {
                name,
                rate,
                p50,
                p99,
                errors,
            } = figure;
            println!("{name:<36} {rate:>12.0} {p50:>10.2} {p99:>10.2} {errors:>8}");
        }
        println!();
        for (name, value, unit, at_most) in &self.facts {
            let aim = at_most.map_or_else(String::new, |most| {
                format!("   aim <= {most:.0}   {}", word(*value <= most))
            });
            println!("{name:<36} {value:>12.1} {unit:<4}{aim}");
        }
        println!();
        for (name, part, share, reached) in &self.verdicts {
            println!(
                "{name:<52} {:>5.0} %   aim >= {:.0} %   {}",
                part * 100.0,
                share * 100.0,
                word(*reached)
            );
        }
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|figure| {
                json!({ "case": figure.name, "requestsPerSecond": figure.rate, "p50Ms": figure.p50, "p99Ms": figure.p99, "errors": figure.errors })
            })
            .collect();
        let facts: Vec<Value> = self
            .facts
            .iter()
            .map(
                |(name, value, unit, at_most)| json!({ "name": name, "value": value, "unit": unit, "atMost": at_most }),
            )
            .collect();
        let verdicts: Vec<Value> = self
            .verdicts
            .iter()
            .map(
                |(name, part, share, reached)| json!({ "name": name, "share": part, "aim": share, "reached": reached }),
            )
            .collect();
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let all = json!({ "cores": cores, "cases": figures, "facts": facts, "aims": verdicts });
        std::fs::write(path, format!("{}\n", serde_json::to_string_pretty(&all)?))?;
        println!("\nwritten to {}", path.display());
        Ok(())
    }
}

fn word(reached: bool) -> &'static str {
    if reached { "reached" } else { "MISSED" }
}
