//! How a pod gets to the keeper: under the start lock, so that two pods at the same moment do not start two.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use nix::fcntl::FlockArg;
use tokio::time::{Instant, sleep};

use super::{
    Request,
    backends::Wanted,
    files::{self, FORMAT, Lock, State},
    keeper::{Answer, KEEPER_ARGUMENT},
};

/// Another pod may be starting, or the last one ending, with all that PostgreSQL has to write.
const LOCK_WITHIN: Duration = Duration::from_mins(2);
/// How long the keeper may take to listen.
const KEEPER_WITHIN: Duration = Duration::from_secs(30);
/// How long the back ends may take to start; the first time a database is made.
const ANSWER_WITHIN: Duration = Duration::from_mins(4);
/// Beyond this size the log of the keeper begins anew.
const LOG_SIZE: u64 = 5 * 1024 * 1024;

/// A pod's hold on the keeper.
pub(super) struct Joined {
    /// Keeps the back ends alive.
    pub(super) holder: Lock,
    /// How to reach them.
    pub(super) settings: BTreeMap<String, String>,
    /// The keeper, if we have started it.
    pub(super) keeper: Option<Child>,
}

/// Joins or starts the keeper, and gets from it what is needed.
pub(super) async fn join(folder: &Path, request: &Request) -> anyhow::Result<Joined> {
    let mut failure = anyhow!("the keeper of the embedded back ends could not be reached");
    for _ in 0..3 {
        let (holder, state, keeper) = reach(folder, request).await?;
        match ask(&state, request).await {
            Ok(Answer::Settings(settings)) => {
                return Ok(Joined {
                    holder,
                    settings,
                    keeper,
                });
            }
            Ok(Answer::Error(error)) => bail!(error),
            // It died in between: once more from the beginning.
            Err(error) => failure = error,
        }
        sleep(Duration::from_millis(200)).await;
    }
    let log = folder.join("keeper.log");
    Err(failure).with_context(|| format!("the embedded back ends do not answer; see {}", log.display()))
}

async fn reach(folder: &Path, request: &Request) -> anyhow::Result<(Lock, State, Option<Child>)> {
    let starting = files::lock(folder, "start.lock", FlockArg::LockExclusiveNonblock, LOCK_WITHIN).await?;
    let holder = files::lock(folder, "holders.lock", FlockArg::LockSharedNonblock, LOCK_WITHIN).await?;
    if files::keeper_is_alive(folder) {
        let state = wait_for_state(folder, None).await?;
        if state.format != FORMAT {
            bail!("pods of another version run in this checkout: stop them first");
        }
        return Ok((holder, state, None));
    }
    files::remove_state(folder);
    let mut keeper = spawn(folder, request)?;
    let state = wait_for_state(folder, Some(&mut keeper)).await?;
    drop(starting);
    Ok((holder, state, Some(keeper)))
}

async fn wait_for_state(folder: &Path, mut keeper: Option<&mut Child>) -> anyhow::Result<State> {
    let deadline = Instant::now() + KEEPER_WITHIN;
    loop {
        if let Some(state) = files::read_state(folder) {
            return Ok(state);
        }
        let log = folder.join("keeper.log");
        if let Some(child) = &mut keeper
            && let Some(status) = child.try_wait().context("failed to watch the keeper")?
        {
            bail!(
                "the keeper of the embedded back ends ended at once ({status}); see {}",
                log.display()
            );
        }
        if Instant::now() > deadline {
            bail!(
                "the keeper of the embedded back ends did not start; see {}",
                log.display()
            );
        }
        sleep(Duration::from_millis(10)).await;
    }
}

fn spawn(folder: &Path, request: &Request) -> anyhow::Result<Child> {
    let program = request.keeper_program.clone().map_or_else(running_program, Ok)?;
    let log = folder.join("keeper.log");
    if log.metadata().is_ok_and(|metadata| metadata.len() > LOG_SIZE) {
        let _ = std::fs::rename(&log, folder.join("keeper.log.1"));
    }
    let file = File::options().append(true).create(true).mode(0o600).open(&log);
    let file = file.with_context(|| format!("failed to open {}", log.display()))?;
    let errors = file.try_clone().context("failed to open the log of the keeper twice")?;
    let mut command = Command::new(&program);
    command.arg(KEEPER_ARGUMENT).arg(folder).current_dir(folder);
    // None of the pod's secrets.
    command.env_clear();
    for name in [
        "PATH",
        "HOME",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "RUST_BACKTRACE",
    ] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.stdin(Stdio::null()).stdout(file).stderr(errors);
    command
        .spawn()
        .with_context(|| format!("failed to start the keeper from {}", program.display()))
}

/// The running program, also when a build has replaced its file meanwhile.
fn running_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("failed to find the running program")?;
    let text = program.to_string_lossy();
    Ok(text
        .strip_suffix(" (deleted)")
        .map_or_else(|| program.clone(), PathBuf::from))
}

async fn ask(state: &State, request: &Request) -> anyhow::Result<Answer> {
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).build();
    let client = client.context("failed to make a client for the keeper")?;
    let url = format!("http://{}/need", state.control);
    let sent = client
        .post(url)
        .bearer_auth(&state.token)
        .json(&Wanted::from(request))
        .send()
        .await;
    let answer = sent
        .and_then(reqwest::Response::error_for_status)
        .context("failed to ask the keeper")?;
    answer.json().await.context("failed to read the answer of the keeper")
}
