//! Who runs PostgreSQL when we are root, which it refuses to be run by.

use std::{
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, bail};
use nix::unistd::{Gid, Uid, User};

/// The account of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    uid: Uid,
    gid: Gid,
}

impl Account {
    /// `None` if we are not root and run it ourselves; else the owner of the data, `postgres` or `nobody`.
    pub(super) fn choose(data: Option<&Path>) -> anyhow::Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        if let Some(metadata) = data
            .and_then(|data| data.metadata().ok())
            .filter(|metadata| metadata.uid() != 0)
        {
            return Ok(Some(Self {
                uid: Uid::from_raw(metadata.uid()),
                gid: Gid::from_raw(metadata.gid()),
            }));
        }
        for name in ["postgres", "nobody"] {
            let user = User::from_name(name).with_context(|| format!("failed to look up the account {name}"))?;
            if let Some(user) = user {
                return Ok(Some(Self {
                    uid: user.uid,
                    gid: user.gid,
                }));
            }
        }
        bail!("PostgreSQL does not run as root and there is neither an account `postgres` nor `nobody`")
    }

    /// Lets a program run as this account.
    pub(super) fn run(self, command: &mut Command) {
        command.uid(self.uid.as_raw()).gid(self.gid.as_raw());
    }

    /// Gives a file or folder to this account.
    pub(super) fn own(self, path: &Path) -> anyhow::Result<()> {
        nix::unistd::chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("failed to give {} to the account of postgresql", path.display()))
    }

    /// Whether this account may pass through the folder and all above it.
    pub(super) fn reaches(self, folder: &Path) -> bool {
        folder.ancestors().all(|step| {
            let Ok(metadata) = step.metadata() else { return false };
            let bit = if metadata.uid() == self.uid.as_raw() {
                0o100
            } else if metadata.gid() == self.gid.as_raw() {
                0o010
            } else {
                0o001
            };
            metadata.mode() & bit != 0
        })
    }
}
