//! Where PostgreSQL's server binaries may be, and which of them fit the data.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

/// No server binaries anywhere.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error(
    "PostgreSQL's server is not installed: no `postgres` and `initdb` in PATH, /usr/lib/postgresql/*/bin or Homebrew. \
     Install the Debian package `postgresql` (apt-get install postgresql; on macOS: brew install postgresql), or set \
     DATABASE_URL to the address of a server that is already running"
)]
pub struct NotInstalled;

/// The folders that are searched, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    folders: Vec<PathBuf>,
    families: Vec<Family>,
}

/// Folders with a version in their name: `<parent>/<start>*/<inside>`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Family {
    parent: PathBuf,
    start: &'static str,
    inside: &'static str,
}

const FAMILIES: [(&str, &str, &str); 6] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ("/usr", "pgsql-", "bin"),
];

impl Search {
    /// `PATH`, then where Debian, Homebrew, Postgres.app and the PostgreSQL packages of Red Hat put their binaries.
    pub fn of_this_machine() -> Self {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let family = |(parent, start, inside): (&str, _, _)| Family {
            parent: PathBuf::from(parent),
            start,
            inside,
        };
        Self {
            folders: std::env::split_paths(&path).collect(),
            families: FAMILIES.map(family).to_vec(),
        }
    }

    /// These folders and no others.
    pub fn only(folders: Vec<PathBuf>) -> Self {
        Self {
            folders,
            families: Vec::new(),
        }
    }

    /// Every complete set of binaries, in the order of the search; of a family the newest first.
    pub(super) fn all(&self) -> Vec<Binaries> {
        let mut folders = self.folders.clone();
        folders.extend(self.families.iter().flat_map(Family::folders));
        let mut found: Vec<Binaries> = Vec::new();
        for binaries in folders.iter().filter_map(|folder| Binaries::in_folder(folder)) {
            if !found.contains(&binaries) {
                found.push(binaries);
            }
        }
        found
    }
}

impl Family {
    fn folders(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.parent).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| name.starts_with(self.start)).collect();
        names.sort_by_key(|name| std::cmp::Reverse(digits(name)));
        names
            .iter()
            .map(|name| self.parent.join(name).join(self.inside))
            .collect()
    }
}

fn digits(name: &str) -> u32 {
    let digits: String = name
        .chars()
        .skip_while(|letter| !letter.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap_or(0)
}

/// The two programs that are needed, of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    /// The server.
    pub(super) postgres: PathBuf,
    /// What makes a data folder.
    pub(super) initdb: PathBuf,
}

impl Binaries {
    fn in_folder(folder: &Path) -> Option<Self> {
        // Links are followed: the server looks for its files beside the real binary.
        let postgres = folder.join("postgres").canonicalize().ok()?;
        let initdb = folder.join("initdb").canonicalize().ok()?;
        (postgres.is_file() && initdb.is_file()).then_some(Self { postgres, initdb })
    }

    /// The major version: `postgres (PostgreSQL) 15.10 (Debian …)` is 15.
    fn major(&self) -> anyhow::Result<u32> {
        let output = Command::new(&self.postgres).arg("--version").output();
        let output = output.with_context(|| format!("failed to run {}", self.postgres.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text
            .split_whitespace()
            .find(|word| word.starts_with(|letter: char| letter.is_ascii_digit()));
        Ok(digits(version.unwrap_or_default()))
    }
}

/// The first set of binaries that can run the data; any, if there is none yet.
pub(super) fn matching(found: Vec<Binaries>, data: Option<&Path>) -> anyhow::Result<Binaries> {
    let wanted = data.and_then(|data| std::fs::read_to_string(data.join("PG_VERSION")).ok());
    let wanted = wanted.map(|text| digits(&text));
    let mut seen = Vec::new();
    for binaries in found {
        let Some(wanted) = wanted else { return Ok(binaries) };
        let major = binaries.major()?;
        if major == wanted {
            return Ok(binaries);
        }
        seen.push(major.to_string());
    }
    let data = data.unwrap_or(Path::new("")).display();
    let wanted = wanted.unwrap_or(0);
    bail!(
        "the database in {data} was made by PostgreSQL {wanted}, but this machine has {}: install postgresql-{wanted}, or \
         remove the folder to begin anew",
        seen.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_names_and_texts() {
        assert_eq!(digits("postgresql@17"), 17);
        assert_eq!(digits("15\n"), 15);
        assert_eq!(digits("postgresql"), 0);
    }

    #[test]
    fn an_empty_search_finds_nothing_and_the_error_says_what_to_do() {
        assert!(Search::only(vec![PathBuf::from("/nonexistent")]).all().is_empty());
        let text = NotInstalled.to_string();
        assert!(text.contains("package `postgresql`") && text.contains("DATABASE_URL"));
    }
}
