//! The keeper: the process that runs the back ends as long as a pod holds its lock.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use axum::{Json, Router, extract::State as Shared, routing::post};
use http::{HeaderMap, StatusCode, header};
use nix::fcntl::FlockArg;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Mutex,
};

use super::{
    backends::{Backends, Wanted},
    files::{self, FORMAT, Lock, State},
};
use crate::{
    chance,
    server::{self, Server},
};

/// The hidden first argument that makes a program the keeper; the second is the data folder.
pub const KEEPER_ARGUMENT: &str = "__embedded-keeper";

/// How often the keeper looks whether anybody still needs it, and whether PostgreSQL lives.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// What the keeper answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// The settings of what was wanted.
    Settings(BTreeMap<String, String>),
    /// Why not.
    Error(String),
}

/// Becomes the keeper if the arguments of the process say so; then the code to exit with. First thing in each `main`.
pub fn keeper_main() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != KEEPER_ARGUMENT {
        return None;
    }
    let folder = PathBuf::from(arguments.next()?);
    // Away from the terminal of the pod: its Ctrl-C is not ours.
    let _ = nix::unistd::setsid();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(keep(&folder)));
    let Err(error) = outcome else {
        return Some(ExitCode::SUCCESS);
    };
    tracing::error!(error = format!("{error:#}"), "the keeper has failed");
    Some(ExitCode::FAILURE)
}

struct Keeper {
    folder: PathBuf,
    token: String,
    control: String,
    backends: Mutex<Backends>,
}

async fn keep(folder: &Path) -> anyhow::Result<()> {
    // Held until the process ends. A pod that looks whether we live may hold it for an instant.
    let within = Duration::from_secs(10);
    let alive = files::lock(folder, "keeper.lock", FlockArg::LockExclusiveNonblock, within).await?;
    let listener = server::bind(0).await?;
    let control = listener
        .local_addr()
        .context("failed to read the address of the keeper")?
        .to_string();
    let keeper = Arc::new(Keeper {
        folder: folder.to_owned(),
        token: chance::secret(),
        control,
        backends: Mutex::new(Backends::new(folder.to_owned())?),
    });
    let router = Router::new().route("/need", post(need)).with_state(keeper.clone());
    let server = Server::start(listener, router)?;
    keeper.publish(&BTreeMap::new())?;
    tracing::info!(
        pid = std::process::id(),
        "the keeper of the embedded back ends is ready"
    );
    let ending = keeper.until_nobody_is_left().await?;
    drop(server);
    keeper.backends.lock().await.stop().await;
    files::remove_state(folder);
    tracing::info!("the keeper has stopped the embedded back ends");
    // In this order: who gets the start lock next must not find us alive.
    drop(alive);
    drop(ending);
    Ok(())
}

async fn need(
    Shared(keeper): Shared<Arc<Keeper>>,
    headers: HeaderMap,
    Json(wanted): Json<Wanted>,
) -> Result<Json<Answer>, StatusCode> {
    let expected = format!("Bearer {}", keeper.token);
    if headers
        .get(header::AUTHORIZATION)
        .is_none_or(|given| given.as_bytes() != expected.as_bytes())
    {
        return Err(StatusCode::UNAUTHORIZED);
    }
    // On its own task: a pod that is killed meanwhile leaves no half-started back end behind.
    let work = tokio::spawn(async move {
        let mut backends = keeper.backends.lock().await;
        let settings = backends.provide(&wanted).await;
        keeper.publish(&backends.addresses())?;
        settings
    });
    let answer = match work.await {
        Ok(Ok(settings)) => Answer::Settings(settings),
        Ok(Err(error)) => Answer::Error(format!("{error:#}")),
        Err(error) => Answer::Error(error.to_string()),
    };
    Ok(Json(answer))
}

impl Keeper {
    fn publish(&self, addresses: &BTreeMap<String, String>) -> anyhow::Result<()> {
        let (control, token) = (self.control.clone(), self.token.clone());
        let state = State {
            format: FORMAT,
            pid: std::process::id(),
            control,
            token,
            addresses: addresses.clone(),
        };
        files::write_state(&self.folder, &state)
    }

    /// Runs until no pod holds its lock, or until the process is told to end. Returns the locks that keep pods out until
    /// everything has stopped.
    async fn until_nobody_is_left(&self) -> anyhow::Result<Option<(Lock, Lock)>> {
        let mut terminate = signal(SignalKind::terminate()).context("failed to listen for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for signals")?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(None),
                _ = interrupt.recv() => return Ok(None),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if !self.folder.exists() {
                bail!("the data folder was removed");
            }
            if let Some(locks) = self.nobody_is_left()? {
                return Ok(Some(locks));
            }
            self.backends.lock().await.supervise().await;
        }
    }

    fn nobody_is_left(&self) -> anyhow::Result<Option<(Lock, Lock)>> {
        let exclusive = FlockArg::LockExclusiveNonblock;
        // Somebody who is just joining holds the start lock.
        let Some(starting) = files::try_lock(&self.folder, "start.lock", exclusive)? else {
            return Ok(None);
        };
        let Some(holders) = files::try_lock(&self.folder, "holders.lock", exclusive)? else {
            return Ok(None);
        };
        Ok(Some((holders, starting)))
    }
}
