//! The files of a data folder through which pods and keeper find each other: three locks and the state.
//!
//! | File | Held by | How |
//! |---|---|---|
//! | `start.lock` | whoever joins, starts or ends the keeper | exclusive, for that moment |
//! | `holders.lock` | every pod | shared, for life |
//! | `keeper.lock` | the keeper | exclusive, for life |
//!
//! The kernel lets go of a lock when its process ends, however it ends.

use std::{
    fs::{DirBuilder, File},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::server::write_private;

/// Changes with the conversation between pods and keeper.
pub(super) const FORMAT: u32 = 1;

/// A lock that is let go when dropped.
pub(super) type Lock = Flock<File>;

/// What the keeper says about itself in `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) format: u32,
    pub(super) pid: u32,
    /// Where pods ask for back ends.
    pub(super) control: String,
    pub(super) token: String,
    /// Where each back end listens.
    pub(super) addresses: BTreeMap<String, String>,
}

/// Makes the data folder and says where it really is. Others may pass through it (the account of PostgreSQL must), but
/// every file with a secret in it is for its owner alone.
pub(super) fn prepare(folder: &Path) -> anyhow::Result<PathBuf> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
    made.with_context(|| format!("failed to make the data folder {}", folder.display()))?;
    let folder = folder.canonicalize().context("failed to resolve the data folder")?;
    let ignore = folder.join(".gitignore");
    if !ignore.exists() {
        std::fs::write(&ignore, "*\n").with_context(|| format!("failed to write {}", ignore.display()))?;
    }
    Ok(folder)
}

fn open(folder: &Path, name: &str) -> anyhow::Result<File> {
    let file = folder.join(name);
    let opened = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&file);
    opened.with_context(|| format!("failed to open {}", file.display()))
}

/// Takes a lock if it is free.
pub(super) fn try_lock(folder: &Path, name: &str, how: FlockArg) -> anyhow::Result<Option<Lock>> {
    match Flock::lock(open(folder, name)?, how) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error).with_context(|| format!("failed to lock {name} in {}", folder.display())),
    }
}

/// Takes a lock, waiting for it.
pub(super) async fn lock(folder: &Path, name: &str, how: FlockArg, within: Duration) -> anyhow::Result<Lock> {
    let deadline = tokio::time::Instant::now() + within;
    loop {
        if let Some(lock) = try_lock(folder, name, how)? {
            return Ok(lock);
        }
        if tokio::time::Instant::now() > deadline {
            bail!("{} was locked for {within:?}", folder.join(name).display());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Whether a keeper lives in the folder.
pub(super) fn keeper_is_alive(folder: &Path) -> bool {
    matches!(try_lock(folder, "keeper.lock", FlockArg::LockSharedNonblock), Ok(None))
}

/// Writes `state.json`.
pub(super) fn write_state(folder: &Path, state: &State) -> anyhow::Result<()> {
    let text = serde_json::to_vec_pretty(state).context("failed to write the state of the keeper")?;
    write_private(&folder.join("state.json"), &text).context("failed to write the state of the keeper")
}

/// Reads `state.json`, if there is one.
pub(super) fn read_state(folder: &Path) -> Option<State> {
    serde_json::from_slice(&std::fs::read(folder.join("state.json")).ok()?).ok()
}

/// Removes `state.json`.
pub(super) fn remove_state(folder: &Path) {
    let _ = std::fs::remove_file(folder.join("state.json"));
}
