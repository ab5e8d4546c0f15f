//! The Docker engine over its unix socket. It reads services, nodes, tasks and the names of secrets, and writes one
//! thing: the number of replicas of a replicated service, everything else of its description as it was read.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::net::UnixStream;

const PATIENCE: Duration = Duration::from_secs(15);
const LARGEST: usize = 16 << 20;
const ATTEMPTS: u32 = 4;
/// The label by which an engine knows the services of a stack.
pub const STACK_LABEL: &str = "com.docker.stack.namespace";
/// What the names of secrets start with in the stack file, whatever the stack is called.
const SECRET_PREFIX: &str = "dreamscape_";

/// Why the engine did not do it.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The socket is not there, may not be used, or the connection broke.
    #[error("the engine is not reached: {0}")]
    Unreachable(String),
    /// It did not answer in time.
    #[error("the engine did not answer in {} s", PATIENCE.as_secs())]
    Slow,
    /// It refused.
    #[error("the engine refused with {status}: {message}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// What it said.
        message: String,
    },
    /// Its answer is not what the API promises.
    #[error("the engine's answer is not understood: {0}")]
    Strange(String),
    /// Someone else changed the service meanwhile, so the decision has no ground any more.
    #[error("someone else changed the service meanwhile: {0}")]
    Overtaken(String),
}

impl EngineError {
    fn out_of_sequence(&self) -> bool {
        match self {
            Self::Refused { status, message } => {
                *status == StatusCode::CONFLICT || message.contains("update out of sequence")
            }
            _ => false,
        }
    }
}

/// A service of the stack.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// The engine's id.
    pub id: String,
    /// Name without the stack's.
    pub name: String,
    /// Replicas it should have, or tasks if it runs on every node.
    pub desired: u32,
    /// Replicas that run.
    pub running: u32,
    /// Whether it has a number of replicas at all.
    pub replicated: bool,
    /// An update or rollback is under way or stuck.
    pub updating: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What one replica reserves.
    pub reserves: Resources,
}

/// CPU and memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Resources {
    /// Billionths of a core.
    #[serde(rename = "NanoCPUs")]
    pub nano_cpus: i64,
    /// Bytes.
    pub memory_bytes: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawService {
    #[serde(rename = "ID")]
    id: String,
    spec: RawSpec,
    service_status: Option<RawServiceStatus>,
    update_status: Option<RawUpdateStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawSpec {
    name: String,
    labels: Option<BTreeMap<String, String>>,
    mode: Option<RawMode>,
    task_template: Option<RawTaskSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawMode {
    replicated: Option<RawReplicated>,
    global: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawReplicated {
    replicas: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawTaskSpec {
    resources: Option<RawRequirements>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawRequirements {
    reservations: Option<Resources>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawServiceStatus {
    running_tasks: u32,
    desired_tasks: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawUpdateStatus {
    #[serde(default)]
    state: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawNode {
    #[serde(rename = "ID")]
    id: String,
    spec: RawNodeSpec,
    description: RawNodeDescription,
    status: RawNodeStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawNodeSpec {
    availability: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawNodeDescription {
    resources: Resources,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawNodeStatus {
    state: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawTask {
    #[serde(rename = "NodeID", default)]
    node_id: String,
    spec: RawTaskSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawSecret {
    created_at: String,
    spec: RawSecretSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawSecretSpec {
    name: String,
}

#[derive(Deserialize)]
struct Message {
    message: String,
}

fn reserves(template: Option<&RawTaskSpec>) -> Resources {
    template
        .and_then(|template| template.resources.as_ref()?.reservations)
        .unwrap_or_default()
}

/// The engine behind a socket, as far as one stack goes.
#[derive(Clone, Debug)]
pub struct Engine {
    socket: PathBuf,
    stack: String,
}

impl Engine {
    /// The engine at this socket; nothing outside the stack is looked at.
    pub fn new(socket: impl Into<PathBuf>, stack: impl Into<String>) -> Self {
        Self {
            socket: socket.into(),
            stack: stack.into(),
        }
    }

    /// All services of the stack.
    pub async fn services(&self) -> Result<Vec<Service>, EngineError> {
        let path = filtered(
            "/services?status=true&",
            "label",
            &format!("{STACK_LABEL}={}", self.stack),
        );
        let raw: Vec<RawService> = self.get(&path).await?;
        Ok(raw.into_iter().filter_map(|raw| self.service(raw)).collect())
    }

    fn service(&self, raw: RawService) -> Option<Service> {
        let labels = raw.spec.labels.unwrap_or_default();
        // the filter asked for it already; what decides over changes is what the service itself says
        if labels.get(STACK_LABEL) != Some(&self.stack) {
            return None;
        }
        let mode = raw.spec.mode?;
        if mode.replicated.is_none() && mode.global.is_none() {
            // a job: it runs and ends, and is not short of replicas when it has ended
            return None;
        }
        let replicated = mode.replicated;
        let (running, tasks) = raw
            .service_status
            .map_or((0, 0), |s| (s.running_tasks, s.desired_tasks));
        Some(Service {
            id: raw.id,
            name: raw.spec.name.strip_prefix(&format!("{}_", self.stack))?.to_owned(),
            desired: replicated.as_ref().map_or(tasks, |r| r.replicas.unwrap_or(1)),
            running,
            replicated: replicated.is_some(),
            updating: raw.update_status.is_some_and(|status| {
                matches!(
                    status.state.as_str(),
                    "updating" | "paused" | "rollback_started" | "rollback_paused"
                )
            }),
            labels,
            reserves: reserves(raw.spec.task_template.as_ref()),
        })
    }

    /// How many more replicas with these reservations the nodes have room for. Placement is not looked at, so it may
    /// be fewer.
    pub async fn room(&self, need: Resources) -> Result<Option<u32>, EngineError> {
        if need.nano_cpus <= 0 && need.memory_bytes <= 0 {
            return Ok(None);
        }
        let nodes: Vec<RawNode> = self.get("/nodes").await?;
        let tasks: Vec<RawTask> = self.get(&filtered("/tasks?", "desired-state", "running")).await?;
        let mut free = nodes
            .into_iter()
            .filter(|node| node.spec.availability == "active" && node.status.state == "ready")
            .map(|node| (node.id, node.description.resources))
            .collect::<HashMap<_, _>>();
        for task in tasks {
            if let Some(free) = free.get_mut(&task.node_id) {
                let taken = reserves(Some(&task.spec));
                free.nano_cpus = free.nano_cpus.saturating_sub(taken.nano_cpus);
                free.memory_bytes = free.memory_bytes.saturating_sub(taken.memory_bytes);
            }
        }
        let times = |free: i64, need: i64| if need > 0 { (free / need).max(0) } else { i64::MAX };
        let room = free.values().fold(0_i64, |room, free| {
            let here = times(free.nano_cpus, need.nano_cpus).min(times(free.memory_bytes, need.memory_bytes));
            room.saturating_add(here)
        });
        Ok(Some(u32::try_from(room).unwrap_or(u32::MAX)))
    }

    /// The secrets of the stack file, names without prefix and version, each with the seconds of its newest version. The engine never gives their values away.
    pub async fn secrets(&self) -> Result<BTreeMap<String, i64>, EngineError> {
        let raw: Vec<RawSecret> = self.get("/secrets").await?;
        let mut newest = BTreeMap::new();
        for secret in raw {
            let Some(name) = secret.spec.name.strip_prefix(SECRET_PREFIX) else {
                continue;
            };
            let name = match name.rsplit_once("_v") {
                Some((name, version)) if version.bytes().all(|b| b.is_ascii_digit()) && !version.is_empty() => name,
                _ => name,
            };
            let Some(created) = seconds(&secret.created_at) else {
                continue;
            };
            let entry = newest.entry(name.to_owned()).or_insert(created);
            *entry = created.max(*entry);
        }
        Ok(newest)
    }

    /// Sets the replicas of a service from `from` to `to`. If the description changed between reading and writing it
    /// reads again; if the number itself was changed by someone else, or an update began, it gives up.
    pub async fn scale(&self, service: &Service, from: u32, to: u32) -> Result<(), EngineError> {
        let mut attempt = 1;
        loop {
            match self.scale_once(service, from, to).await {
                Err(error) if error.out_of_sequence() && attempt < ATTEMPTS => {
                    tracing::info!(
                        service = service.name,
                        attempt,
                        "the service changed meanwhile, reading it again"
                    );
                    tokio::time::sleep(Duration::from_millis(100) * attempt).await;
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    async fn scale_once(&self, service: &Service, from: u32, to: u32) -> Result<(), EngineError> {
        let full: Value = self.get(&format!("/services/{}", service.id)).await?;
        let now =
            serde_json::from_value::<RawService>(full.clone()).map_err(|e| EngineError::Strange(e.to_string()))?;
        let Some(now) = self
            .service(now)
            .filter(|now| now.name == service.name && now.replicated)
        else {
            return Err(EngineError::Overtaken("it is another service now".to_owned()));
        };
        if now.desired != from {
            return Err(EngineError::Overtaken(format!(
                "{} replicas instead of {from}",
                now.desired
            )));
        }
        if now.updating {
            return Err(EngineError::Overtaken("an update began".to_owned()));
        }
        let version = full
            .pointer("/Version/Index")
            .and_then(Value::as_u64)
            .ok_or_else(|| EngineError::Strange("no version".to_owned()))?;
        let mut spec = full.get("Spec").cloned().unwrap_or_default();
        match spec.pointer_mut("/Mode/Replicated").and_then(Value::as_object_mut) {
            Some(replicated) => replicated.insert("Replicas".to_owned(), json!(to)),
            None => return Err(EngineError::Strange("no replicas".to_owned())),
        };
        let path = format!(
            "/services/{}/update?version={version}&registryAuthFrom=spec",
            service.id
        );
        self.call(Method::POST, &path, Some(&spec)).await.map(drop)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, EngineError> {
        let body = self.call(Method::GET, path, None).await?;
        serde_json::from_slice(&body).map_err(|error| EngineError::Strange(format!("{path}: {error}")))
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Bytes, EngineError> {
        tokio::time::timeout(PATIENCE, self.exchange(method, path, body))
            .await
            .map_err(|_| EngineError::Slow)?
    }

    async fn exchange(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Bytes, EngineError> {
        let unreachable = |error: &dyn std::fmt::Display| EngineError::Unreachable(error.to_string());
        let stream = UnixStream::connect(&self.socket).await.map_err(|e| unreachable(&e))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| unreachable(&e))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "docker")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::<Bytes>::from(body.map(Value::to_string).unwrap_or_default()))
            .map_err(|e| unreachable(&e))?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(|e| unreachable(&e))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), LARGEST)
                .collect()
                .await
                .map_err(|e| unreachable(&e))?
                .to_bytes();
            if status.is_success() {
                return Ok(body);
            }
            let message = serde_json::from_slice::<Message>(&body).map_or_else(
                |_| String::from_utf8_lossy(&body).into_owned(),
                |message| message.message,
            );
            Err(EngineError::Refused { status, message })
        };
        let driven = async {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to the engine ended");
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = exchange => answer,
            () = driven => Err(EngineError::Unreachable("the connection ended".to_owned())),
        }
    }
}

fn filtered(path: &str, key: &str, value: &str) -> String {
    let filters = json!({ key: [value] }).to_string();
    let query = serde_urlencoded::to_string([("filters", filters)]).unwrap_or_default();
    format!("{path}{query}")
}

/// Seconds since 1970 of a time like `2026-11-25T21:00:00.123456789Z`.
fn seconds(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !text.ends_with('Z') || !(1..=12).contains(&month) {
        return None;
    }
    // days from civil: years begin in March so that the leap day comes last
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 719_469;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_times_are_read() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("2024-02-29T12:30:15.123456789Z"), Some(1_709_209_815));
        assert_eq!(seconds("2026-11-25T21:00:00.5Z"), Some(1_795_640_400));
        assert_eq!(seconds("yesterday"), None);
    }

    #[test]
    fn filters_are_encoded() {
        assert_eq!(
            filtered("/services?", "label", "a=b"),
            "/services?filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D"
        );
    }
}
