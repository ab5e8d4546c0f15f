//! One round: look, ask, decide, carry out, tell.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use crate::{
    decide::{Action, Decision, Memory, Reading, Seen, decide},
    engine::{self, Engine, EngineError},
    metrics::{self, Metrics, labels},
    policy::{Limits, Policy},
    prometheus::{Prometheus, QueryError},
};

const LABEL_ENABLED: &str = "dreamscape.autoscale.enabled";
const LABEL_MIN: &str = "dreamscape.autoscale.min";
const LABEL_MAX: &str = "dreamscape.autoscale.max";

/// How far it may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only report replicas and secrets.
    Watch,
    /// Decide and say what it would do.
    DryRun,
    /// Decide and do it.
    Act,
}

/// Signs of life for the health check.
#[derive(Debug)]
pub struct Pulse {
    started: Instant,
    beat: AtomicU64,
    longest: u64,
}

impl Pulse {
    /// Alive from now on, as long as rounds end within five of their intervals and a minute.
    pub fn new(loop_seconds: u64) -> Self {
        Self {
            started: Instant::now(),
            beat: AtomicU64::new(0),
            longest: loop_seconds.saturating_mul(5).saturating_add(60),
        }
    }

    fn beat(&self) {
        self.beat.store(self.started.elapsed().as_secs(), Ordering::Relaxed);
    }

    /// Whether rounds still end, well or badly.
    pub fn is_alive(&self) -> bool {
        let since = self
            .started
            .elapsed()
            .as_secs()
            .saturating_sub(self.beat.load(Ordering::Relaxed));
        since <= self.longest
    }
}

/// Everything a round needs.
#[derive(Debug)]
pub struct Scaler {
    policy: Policy,
    engine: Engine,
    prometheus: Prometheus,
    metrics: Metrics,
    mode: Mode,
    started: Instant,
    memory: BTreeMap<String, Memory>,
}

impl Scaler {
    /// With nothing remembered.
    pub fn new(policy: Policy, engine: Engine, prometheus: Prometheus, metrics: Metrics, mode: Mode) -> Self {
        for reason in ["engine", "prometheus", "update", "label", "budget"] {
            metrics.add(metrics::ERRORS, labels([("reason", reason)]), 0.0);
        }
        for service in policy.services.keys() {
            for action in [Action::Up, Action::Down, Action::None] {
                let series = labels([("action", action.as_str()), ("service", service)]);
                metrics.add(metrics::DECISIONS, series, 0.0);
            }
        }
        let dry = if mode == Mode::Act { 0.0 } else { 1.0 };
        metrics.replace(metrics::DRY_RUN, [(labels([]), dry)]);
        Self {
            policy,
            engine,
            prometheus,
            metrics,
            mode,
            started: Instant::now(),
            memory: BTreeMap::new(),
        }
    }

    /// Rounds until told to stop. A round that began is finished service by service, not cut off.
    pub async fn run(mut self, pulse: &Pulse, mut stop: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(Duration::from_secs(self.policy.loop_seconds));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                _ = ticks.tick() => {}
            }
            self.round(&stop).await;
            pulse.beat();
        }
    }

    /// One round. Returns the decisions.
    pub async fn round(&mut self, stop: &watch::Receiver<bool>) -> Vec<(String, Decision)> {
        let services = match self.engine.services().await {
            Ok(services) => services,
            Err(error) => {
                self.failed("engine", None, &error);
                return Vec::new();
            }
        };
        self.report(&services);
        self.report_secrets().await;
        let mut decisions = Vec::new();
        if self.mode != Mode::Watch {
            let limits = self.limits(&services);
            let held = self.held().await;
            let (mut wanted, mut rules) = (Vec::new(), Vec::new());
            for service in &services {
                let Some(limits) = limits.get(&service.name).filter(|_| service.replicated) else {
                    continue;
                };
                if *stop.borrow() {
                    return decisions;
                }
                let decision = self.one(service, *limits, held.clone()).await;
                let name = service.name.as_str();
                wanted.extend(
                    decision
                        .wanted
                        .map(|wanted| (labels([("service", name)]), f64::from(wanted))),
                );
                rules.extend(
                    decision
                        .rules
                        .iter()
                        .map(|(rule, wants)| (labels([("rule", rule.as_str()), ("service", name)]), f64::from(*wants))),
                );
                decisions.push((service.name.clone(), decision));
            }
            self.metrics.replace(metrics::WANTED, wanted);
            self.metrics.replace(metrics::RULE, rules);
        }
        self.metrics.replace(metrics::LAST_RUN, [(labels([]), wall_clock())]);
        decisions
    }

    fn report(&self, services: &[engine::Service]) {
        let replicas = services.iter().flat_map(|service| {
            [("desired", service.desired), ("running", service.running)].map(|(state, replicas)| {
                let series = labels([("service", service.name.as_str()), ("state", state)]);
                (series, f64::from(replicas))
            })
        });
        self.metrics.replace(metrics::REPLICAS, replicas);
    }

    async fn report_secrets(&self) {
        match self.engine.secrets().await {
            Ok(secrets) => {
                #[expect(clippy::cast_precision_loss, reason = "seconds of this age are exact")]
                let series = secrets
                    .into_iter()
                    .map(|(name, at)| (labels([("secret", &name)]), at as f64));
                self.metrics.replace(metrics::SECRET, series);
            }
            Err(error) => self.failed("engine", None, &error),
        }
    }

    /// The caps of the policy, narrowed or widened by labels as long as the database bears it.
    fn limits(&self, services: &[engine::Service]) -> BTreeMap<String, Limits> {
        let own = || {
            self.policy
                .services
                .iter()
                .map(|(name, service)| (name.clone(), service.limits))
        };
        let mut limits = own().collect::<BTreeMap<_, _>>();
        for service in services {
            let Some(limits) = limits.get_mut(&service.name) else {
                continue;
            };
            let label = |name: &str, now: u32| match service.labels.get(name).map(|text| text.parse::<u32>()) {
                None => now,
                Some(Ok(number)) if number >= 1 => number,
                Some(_) => {
                    self.failed("label", Some(&service.name), &format!("{name} is not a number from 1"));
                    now
                }
            };
            let asked = Limits {
                min: label(LABEL_MIN, limits.min),
                max: label(LABEL_MAX, limits.max),
            };
            if asked.min <= asked.max {
                *limits = asked;
            } else {
                self.failed("label", Some(&service.name), &"its labels ask for a min above its max");
            }
        }
        if let Err(over) = self
            .policy
            .budget(limits.iter().map(|(name, limits)| (name.as_str(), *limits)))
        {
            self.failed(
                "budget",
                None,
                &format!("{over}; the labels of the services are not followed"),
            );
            limits = own().collect();
        }
        let caps = limits
            .iter()
            .map(|(name, limits)| (labels([("service", name)]), f64::from(limits.max)));
        self.metrics.replace(metrics::MAX, caps);
        limits
    }

    /// The guard that is above its limit, if any. A guard without data does not hold; one that cannot be asked does.
    async fn held(&self) -> Option<String> {
        for guard in &self.policy.guards {
            match self.prometheus.value(&guard.query).await {
                Ok(Some(value)) if value > guard.above => {
                    return Some(format!("{} ({value} above {})", guard.name, guard.above));
                }
                Ok(_) => {}
                Err(error) => {
                    self.failed("prometheus", None, &error);
                    return Some(format!("{} (not known)", guard.name));
                }
            }
        }
        None
    }

    async fn one(&mut self, service: &engine::Service, limits: Limits, held: Option<String>) -> Decision {
        let rules = self
            .policy
            .services
            .get(&service.name)
            .map_or(&[][..], |own| own.rules.as_slice());
        let mut readings = Vec::new();
        for rule in rules {
            let load = self
                .prometheus
                .value(&rule.query)
                .await
                .unwrap_or_else(|error: QueryError| {
                    self.failed(
                        "prometheus",
                        Some(&service.name),
                        &format!("rule {}: {error}", rule.name),
                    );
                    None
                });
            readings.push(Reading {
                rule: rule.clone(),
                load,
            });
        }
        let mut seen = Seen {
            desired: service.desired,
            running: service.running,
            updating: service.updating,
            opted_out: service.labels.get(LABEL_ENABLED).is_some_and(|text| text == "false"),
            readings,
            held,
            room: None,
        };
        let memory = self.memory.get(&service.name).copied().unwrap_or_default();
        let now = self.started.elapsed().as_secs();
        let mut decision = decide(&self.policy, limits, &seen, memory, now);
        if decision.action == Action::Up {
            // room is only asked for when it matters: it takes all nodes and tasks
            match self.engine.room(service.reserves).await {
                Ok(room) => seen.room = room,
                Err(error) => {
                    self.failed("engine", Some(&service.name), &error);
                    seen.room = Some(0);
                }
            }
            decision = decide(&self.policy, limits, &seen, memory, now);
        }
        let done = self.carry_out(service, &decision).await;
        let memory = if decision.action != Action::None && done != Outcome::Failed {
            Memory {
                changed: Some(now),
                low_since: None,
            }
        } else {
            decision.memory
        };
        self.memory.insert(service.name.clone(), memory);
        let action = if done == Outcome::Failed {
            Action::None
        } else {
            decision.action
        };
        let series = labels([("action", action.as_str()), ("service", &service.name)]);
        self.metrics.add(metrics::DECISIONS, series, 1.0);
        tell(service, limits, &seen, &decision, done);
        decision
    }

    async fn carry_out(&self, service: &engine::Service, decision: &Decision) -> Outcome {
        if decision.action == Action::None {
            return Outcome::Nothing;
        }
        if self.mode != Mode::Act {
            return Outcome::DryRun;
        }
        match self.engine.scale(service, service.desired, decision.to).await {
            Ok(()) => Outcome::Done,
            Err(error @ EngineError::Overtaken(_)) => {
                tracing::info!(service = service.name, %error, "left as it is");
                Outcome::Failed
            }
            Err(error) => {
                self.failed("update", Some(&service.name), &error);
                Outcome::Failed
            }
        }
    }

    fn failed(&self, reason: &'static str, service: Option<&str>, error: &dyn std::fmt::Display) {
        self.metrics.add(metrics::ERRORS, labels([("reason", reason)]), 1.0);
        tracing::warn!(reason, service, %error, "failed");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Nothing,
    DryRun,
    Done,
    Failed,
}

/// The one line of a decision, with the figures it was made from.
fn tell(service: &engine::Service, limits: Limits, seen: &Seen, decision: &Decision, done: Outcome) {
    let figures = seen
        .readings
        .iter()
        .map(|reading| {
            let load = reading
                .load
                .map_or_else(|| "no data".to_owned(), |load| format!("{load:.3}"));
            format!("{} {load} at {} each", reading.rule.name, reading.rule.per_replica)
        })
        .collect::<Vec<_>>()
        .join("; ");
    tracing::info!(
        service = service.name,
        action = decision.action.as_str(),
        from = seen.desired,
        to = decision.to,
        running = seen.running,
        wanted = decision.wanted,
        min = limits.min,
        max = limits.max,
        figures,
        held = seen.held,
        room = seen.room,
        reason = %decision.reason,
        outcome = match done {
            Outcome::Nothing => "nothing to do",
            Outcome::DryRun => "dry run",
            Outcome::Done => "done",
            Outcome::Failed => "failed",
        },
        "decision"
    );
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock, for a metric"
)]
fn wall_clock() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
