//! What the autoscaler may do: the file `docker/autoscaler/policy.yml`, read into types. All problems are told at once.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::yaml;

/// Every problem of a policy, each with its place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy is not usable:\n  {}", .0.join("\n  "))]
pub struct PolicyErrors(pub Vec<String>);

/// A whole policy that passed [`Policy::parse`].
#[derive(Clone, Debug)]
pub struct Policy {
    /// Time between two rounds.
    pub loop_seconds: u64,
    /// How fast up.
    pub scale_up: ScaleUp,
    /// How slowly down.
    pub scale_down: ScaleDown,
    /// What the database can bear.
    pub connections: Connections,
    /// While one of these is above its limit nothing is scaled up: more replicas would make it worse.
    pub guards: Vec<Guard>,
    /// The services that may be scaled, by name without the stack's.
    pub services: BTreeMap<String, Service>,
}

/// How fast up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleUp {
    /// At most so many more at once,
    pub step: u32,
    /// or this share of what there is, whichever is more.
    pub step_ratio: f64,
    /// Time after a change.
    pub cooldown_seconds: u64,
}

/// How slowly down.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleDown {
    /// At most so many fewer at once.
    pub step: u32,
    /// So long all rules must have agreed that fewer are enough.
    pub stable_seconds: u64,
    /// Time after a change.
    pub cooldown_seconds: u64,
    /// The share of the smaller number's capacity that must stay free, so that it does not go straight up again.
    pub keep_free: f64,
}

/// What the database can bear.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connections {
    /// What clients may open in all.
    pub limit: u32,
    /// Kept free for everybody who is no pod.
    pub reserve: u32,
}

/// A figure above which nothing is scaled up.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// For the log.
    pub name: String,
    /// PromQL with one value.
    pub query: String,
    /// The limit.
    pub above: f64,
}

/// One service that may be scaled.
#[derive(Clone, Debug)]
pub struct Service {
    /// The least and the most.
    pub limits: Limits,
    /// Cores of one replica.
    pub cpu_limit: f64,
    /// Database connections of one replica.
    pub connections: u32,
    /// What asks for replicas; the largest counts.
    pub rules: Vec<Rule>,
}

/// The least and the most replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The least.
    pub min: u32,
    /// The most.
    pub max: u32,
}

/// What asks for replicas.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// For metrics and the log.
    pub name: String,
    /// PromQL with one value, the load on all replicas together.
    pub query: String,
    /// What one replica carries.
    pub per_replica: f64,
    /// Never asks for more unless the load is above what the present replicas carry.
    pub only_above: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    min: u32,
    max: u32,
    cpu_limit: f64,
    #[serde(default)]
    connections: u32,
    rules: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    name: String,
    query: Option<String>,
    per_replica: Option<f64>,
    target_percent: Option<f64>,
    #[serde(default)]
    only_above: bool,
}

impl Policy {
    /// Reads and checks a policy.
    pub fn parse(text: &str) -> Result<Self, PolicyErrors> {
        let mut problems = Vec::new();
        let value = yaml::parse(text).map_err(|error| PolicyErrors(vec![error.to_string()]))?;
        let Value::Object(mut top) = value else {
            return Err(PolicyErrors(vec!["a policy is a map".to_owned()]));
        };
        let loop_seconds = section::<u64>(&mut top, "loop_seconds", &mut problems);
        let scale_up = section::<ScaleUp>(&mut top, "scale_up", &mut problems);
        let scale_down = section::<ScaleDown>(&mut top, "scale_down", &mut problems);
        let connections = section::<Connections>(&mut top, "connections", &mut problems);
        let guards = match top.remove("guards") {
            None => Vec::new(),
            Some(Value::Array(guards)) => guards
                .into_iter()
                .enumerate()
                .filter_map(|(at, guard)| read::<Guard>(guard, &format!("guards[{at}]"), &mut problems))
                .collect(),
            Some(_) => {
                problems.push("guards: expected a list".to_owned());
                Vec::new()
            }
        };
        let services = section::<BTreeMap<String, Value>>(&mut top, "services", &mut problems)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(name, raw)| Some((name.clone(), service(&name, raw, &mut problems)?)))
            .collect::<BTreeMap<_, _>>();
        problems.extend(top.keys().map(|key| format!("{key}: not known here")));

        let (Some(loop_seconds), Some(scale_up), Some(scale_down), Some(connections)) =
            (loop_seconds, scale_up, scale_down, connections)
        else {
            return Err(PolicyErrors(problems));
        };
        let policy = Self {
            loop_seconds,
            scale_up,
            scale_down,
            connections,
            guards,
            services,
        };
        policy.check(&mut problems);
        if problems.is_empty() {
            Ok(policy)
        } else {
            Err(PolicyErrors(problems))
        }
    }

    fn check(&self, problems: &mut Vec<String>) {
        let mut demand = |holds: bool, text: &str| {
            if !holds {
                problems.push(text.to_owned());
            }
        };
        demand((1..=3600).contains(&self.loop_seconds), "loop_seconds: from 1 to 3600");
        demand(self.scale_up.step >= 1, "scale_up.step: at least 1");
        demand(
            (0.0..=1.0).contains(&self.scale_up.step_ratio),
            "scale_up.step_ratio: from 0 to 1",
        );
        demand(self.scale_down.step >= 1, "scale_down.step: at least 1");
        demand(
            (0.0..0.5).contains(&self.scale_down.keep_free),
            "scale_down.keep_free: from 0 to below 0.5",
        );
        demand(!self.services.is_empty(), "services: none");
        let limits = self
            .services
            .iter()
            .map(|(name, service)| (name.as_str(), service.limits));
        if let Err(over) = self.budget(limits) {
            problems.push(over);
        }
    }

    /// Whether the database can bear these caps, one replica more of each for an update that starts first.
    pub fn budget<'a>(&self, limits: impl Iterator<Item = (&'a str, Limits)>) -> Result<u64, String> {
        let mut sum = u64::from(self.connections.reserve);
        for (name, limits) in limits {
            let each = self.services.get(name).map_or(0, |service| service.connections);
            sum = sum.saturating_add((u64::from(limits.max) + 1) * u64::from(each));
        }
        if sum <= u64::from(self.connections.limit) {
            Ok(sum)
        } else {
            Err(format!(
                "connections: the caps need {sum} of {} (each cap and one more, and {} in reserve)",
                self.connections.limit, self.connections.reserve
            ))
        }
    }
}

fn section<T: DeserializeOwned>(top: &mut Map<String, Value>, key: &str, problems: &mut Vec<String>) -> Option<T> {
    if let Some(value) = top.remove(key) {
        read(value, key, problems)
    } else {
        problems.push(format!("{key}: missing"));
        None
    }
}

fn read<T: DeserializeOwned>(value: Value, place: &str, problems: &mut Vec<String>) -> Option<T> {
    serde_json::from_value(value)
        .map_err(|error| problems.push(format!("{place}: {error}")))
        .ok()
}

fn service(name: &str, raw: Value, problems: &mut Vec<String>) -> Option<Service> {
    let place = format!("services.{name}");
    let plain = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if !plain {
        problems.push(format!("{place}: not a name of a service"));
    }
    let raw = read::<RawService>(raw, &place, problems)?;
    if raw.min == 0 || raw.min > raw.max {
        problems.push(format!("{place}: min is at least 1 and at most max"));
    }
    if raw.cpu_limit <= 0.0 {
        problems.push(format!("{place}.cpu_limit: above 0"));
    }
    if raw.rules.is_empty() {
        problems.push(format!("{place}.rules: none"));
    }
    let mut rules = Vec::<Rule>::new();
    for (at, value) in raw.rules.into_iter().enumerate() {
        let place = format!("{place}.rules[{at}]");
        let Some(rule) = read::<RawRule>(value, &place, problems) else {
            continue;
        };
        if rules.iter().any(|other| other.name == rule.name) {
            problems.push(format!("{place}: `{}` stands there twice", rule.name));
        }
        let (query, per_replica) = match (rule.query, rule.per_replica, rule.target_percent) {
            (Some(query), Some(per_replica), None) => (query, per_replica),
            // cores in use by all replicas against the share of its cores that one should have in use
            (query, None, Some(percent)) if percent <= 100.0 => (
                query.unwrap_or_else(|| format!("sum(rate(container_cpu_usage_seconds_total{{pod=\"{name}\"}}[2m]))")),
                raw.cpu_limit * percent / 100.0,
            ),
            _ => {
                problems.push(format!(
                    "{place}: either query and per_replica, or target_percent up to 100 (of the CPU limit)"
                ));
                continue;
            }
        };
        if per_replica <= 0.0 {
            problems.push(format!("{place}: what one replica carries is above 0"));
        }
        rules.push(Rule {
            name: rule.name,
            query,
            per_replica,
            only_above: rule.only_above,
        });
    }
    Some(Service {
        limits: Limits {
            min: raw.min,
            max: raw.max,
        },
        cpu_limit: raw.cpu_limit,
        connections: raw.connections,
        rules,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = include_str!("../../docker/autoscaler/policy.yml");

    #[test]
    fn the_shipped_policy_keeps_the_required_figures() {
        let policy = Policy::parse(SHIPPED).unwrap();
        let caps = |name: &str| (policy.services[name].limits.min, policy.services[name].limits.max);
        assert_eq!(caps("core-pod"), (3, 8));
        assert_eq!(caps("business-pod"), (5, 12));
        assert_eq!(caps("experience-pod"), (4, 10));
        let limits = policy.services.iter().map(|(name, s)| (name.as_str(), s.limits));
        assert_eq!(policy.budget(limits), Ok(476));
        let rule = |service: &str, name: &str| {
            let rule = policy.services[service]
                .rules
                .iter()
                .find(|rule| rule.name == name)
                .unwrap();
            (rule.per_replica, rule.only_above)
        };
        assert_eq!(rule("core-pod", "concurrent-users"), (1000.0, false));
        assert_eq!(rule("business-pod", "cpu"), (2.8, true));
        assert_eq!(rule("business-pod", "ai-queue"), (25.0, false));
        assert_eq!(rule("experience-pod", "requests"), (1000.0, false));
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let text = SHIPPED
            .replace("loop_seconds: 30", "loop_seconds: 0\nspeed: fast")
            .replace("step_ratio: 0.5", "step_ratio: 5")
            .replace("max: 12", "max: 13")
            .replace("per_replica: 25", "per_replica: 0")
            .replace("only_above: true", "only_below: true");
        let PolicyErrors(problems) = Policy::parse(&text).unwrap_err();
        for part in [
            "loop_seconds",
            "speed",
            "step_ratio",
            "the caps need 500 of 497",
            "above 0",
            "only_below",
        ] {
            assert!(problems.iter().any(|p| p.contains(part)), "{part} in {problems:#?}");
        }
    }

    #[test]
    fn single_mistakes_are_found() {
        for (from, to) in [
            ("min: 3", "min: 9"),
            ("min: 3", "min: 0"),
            ("cpu_limit: 2", "cpu_limit: 0"),
            ("target_percent: 70}", "target_percent: 170}"),
            ("target_percent: 70}", "target_percent: 70, per_replica: 3}"),
            ("name: ai-queue", "name: cpu"),
            ("keep_free: 0.1", "keep_free: 0.9"),
            ("  step: 1", "  step: 0"),
            ("loop_seconds: 30", ""),
            ("  core-pod:", "  'core pod':"),
        ] {
            assert!(SHIPPED.contains(from), "{from}");
            assert!(Policy::parse(&SHIPPED.replacen(from, to, 1)).is_err(), "{from} to {to}");
        }
    }
}
