//! The embedded back ends of one checkout: what a pod in development uses in place of servers that nobody configured.
//!
//! contract: README "Facts about test machines", payment §12; why it is built so:
//! `docs/decisions/0002-one-keeper-of-embedded-back-ends.md`.
//!
//! One background process per data folder, the keeper, runs PostgreSQL, Kafka, S3 and the double of Stripe. Every pod
//! holds a shared lock there as long as it lives; once nobody holds it, the keeper stops everything and goes. So a pod
//! that is killed leaves nothing behind, a second pod joins the first, and whoever stops last ends it all.
//!
//! The keeper is the program of the pod itself, started again with a hidden argument. Its `main` begins with:
//!
//! ```no_run
//! # fn main() -> std::process::ExitCode {
//! if let Some(code) = devkit::embedded::keeper_main() {
//!     return code;
//! }
//! # std::process::ExitCode::SUCCESS
//! # }
//! ```

mod backends;
mod files;
mod join;
mod keeper;
mod settings;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

pub use self::keeper::{KEEPER_ARGUMENT, keeper_main};
use self::{files::Lock, join::Joined, settings::NAMES};

/// How often a pod looks whether the keeper is still there.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// One back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// `DATABASE_URL` and those of the services.
    Postgres,
    /// `KAFKA_BROKERS`.
    Kafka,
    /// `S3_ENDPOINT`, its bucket and keys.
    S3,
    /// `STRIPE_API_BASE` and its keys.
    Stripe,
}

/// What a pod asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The pod's name; `SERVICE_CLIENT_SECRET` is its own.
    pub pod_name: String,
    /// The folder that is shared by all pods of a checkout (`DREAMSCAPE_DATA`, default `.dreamscape`).
    pub data_dir: PathBuf,
    /// What is not configured.
    pub need: BTreeSet<Need>,
    /// Where the double of Stripe sends its events. The last pod that says so is right.
    pub payment_webhook_url: Option<String>,
    /// Topics with their partitions; others are made on first use.
    pub topics: Vec<(String, i32)>,
    /// The only folders in which PostgreSQL's binaries are looked for; `None` for the usual places.
    pub postgres_folders: Option<Vec<PathBuf>>,
    /// The program that becomes the keeper; `None` for the running one.
    pub keeper_program: Option<PathBuf>,
}

impl Request {
    /// Everything, for this pod, under this folder.
    pub fn new(pod_name: impl Into<String>, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            pod_name: pod_name.into(),
            data_dir: data_dir.into(),
            need: BTreeSet::from([Need::Postgres, Need::Kafka, Need::S3, Need::Stripe]),
            payment_webhook_url: None,
            topics: Vec::new(),
            postgres_folders: None,
            keeper_program: None,
        }
    }
}

/// The back ends that were asked for. They stay as long as this value does.
#[derive(Debug)]
pub struct Embedded {
    /// Settings by the names of their environment variables.
    pub variables: Vec<(&'static str, String)>,
    data_dir: PathBuf,
    _holder: Lock,
    _stop_watching: mpsc::Sender<()>,
}

impl Embedded {
    /// One of the settings.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Where the data lies.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The secret with which a pod asks for service tokens, for a process that runs several pods.
    pub fn service_client_secret(&self, pod: &str) -> Option<&str> {
        let clients = self.variable("SERVICE_CLIENTS")?;
        clients
            .split(',')
            .filter_map(|entry| entry.split_once('='))
            .find(|(id, _)| *id == pod)
            .map(|(_, secret)| secret)
    }
}

/// The data folder when nobody names one: `.dreamscape` at the root of the checkout, which is the nearest folder above
/// that has a `Cargo.lock` or already such a folder; failing that, here.
pub fn default_data_dir() -> PathBuf {
    const NAME: &str = ".dreamscape";
    let here = std::env::current_dir().unwrap_or_default();
    let is_root = |folder: &&Path| folder.join("Cargo.lock").exists() || folder.join(NAME).exists();
    here.ancestors().find(is_root).unwrap_or(&here).join(NAME)
}

/// Joins the keeper of the data folder, or starts it, and waits until it has started what is needed.
pub async fn start(request: Request) -> anyhow::Result<Embedded> {
    let folder = files::prepare(&request.data_dir)?;
    let Joined {
        holder,
        settings,
        keeper,
    } = join::join(&folder, &request).await?;
    let (stop, stopped) = mpsc::channel();
    let watched = (folder.clone(), request);
    std::thread::Builder::new()
        .name("embedded-watch".to_owned())
        .spawn(move || watch(&watched.0, &watched.1, keeper, &stopped))
        .context("failed to watch the embedded back ends")?;
    let variables = NAMES
        .iter()
        .filter_map(|name| settings.get(*name).map(|value| (*name, value.clone())))
        .collect();
    Ok(Embedded {
        variables,
        data_dir: folder,
        _holder: holder,
        _stop_watching: stop,
    })
}

/// Replaces the keeper when it dies before the pods do, until the pod lets go.
fn watch(folder: &Path, request: &Request, mut keeper: Option<std::process::Child>, stopped: &mpsc::Receiver<()>) {
    while stopped.recv_timeout(WATCH_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
        if let Some(child) = &mut keeper {
            // Takes its exit status, so that it does not stay as a zombie.
            let _ = child.try_wait();
        }
        if files::keeper_is_alive(folder) {
            continue;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let again = runtime
            .map_err(anyhow::Error::from)
            .and_then(|runtime| runtime.block_on(join::join(folder, request)));
        match again {
            Ok(joined) => {
                tracing::warn!(
                    "the embedded back ends were started again; for Kafka this pod must be started again too"
                );
                keeper = joined.keeper.or(keeper);
            }
            Err(error) => tracing::warn!(error = format!("{error:#}"), "the embedded back ends are gone"),
        }
    }
}
