//! The server's process and its data folder: making the folder, starting, adopting, signalling, and why a start failed.

use std::{
    fs::{DirBuilder, File},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::{
        fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sha2::Digest as _;

use super::{account::Account, binaries::Binaries};

/// Where root keeps data that the account of the server cannot reach inside the checkout (`/root/…`).
const ELSEWHERE: &str = "/var/lib/dreamscape";

/// Why a process has ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Somebody else took the port in between.
    PortTaken,
    /// Sessions of a killed server are still there.
    StillInUse,
    /// The end of its log.
    Other(String),
}

/// A running server: our child, or one that was running before us.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    child: Option<Child>,
    log: Option<(PathBuf, u64)>,
}

impl Process {
    /// Starts the server in a process group of its own, so that Ctrl-C does not reach it.
    pub(super) fn spawn(
        binaries: &Binaries,
        account: Option<&Account>,
        data: &Path,
        port: u16,
        settings: &[(String, String)],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let file = File::options().append(true).create(true).mode(0o600).open(log);
        let file = file.with_context(|| format!("failed to open {}", log.display()))?;
        let begin = file.metadata().map_or(0, |metadata| metadata.len());
        let mut command = clean(&binaries.postgres, account);
        command.arg("-D").arg(data).args(["-p", &port.to_string()]);
        let ours = [
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
            ("max_connections", "200"),
            ("log_timezone", "UTC"),
            ("timezone", "UTC"),
        ];
        for (name, value) in ours {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let errors = file.try_clone().context("failed to open the log of postgresql twice")?;
        command.stdout(file).stderr(errors).process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("failed to run {}", binaries.postgres.display()))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).context("failed to read a process id")?);
        Ok(Self {
            pid,
            child: Some(child),
            log: Some((log.to_owned(), begin)),
        })
    }

    /// A server that somebody else started.
    pub(super) fn adopted(pid: Pid) -> Self {
        Self {
            pid,
            child: None,
            log: None,
        }
    }

    /// Its process id.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Sends a signal; a process that is gone does not mind.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = kill(self.pid, signal);
    }

    /// Whether the process is still there.
    pub(super) fn is_running(&mut self, data: &Path) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => is_server_of(self.pid, data),
        }
    }

    /// Why the process has ended, from what it wrote since its start.
    pub(super) fn verdict(&self) -> Ended {
        let text = self
            .log
            .as_ref()
            .map_or_else(String::new, |(log, begin)| tail(log, *begin).unwrap_or_default());
        if text.contains("could not bind") || text.contains("Address already in use") {
            return Ended::PortTaken;
        }
        if text.contains("shared memory block") && text.contains("still in use") {
            return Ended::StillInUse;
        }
        Ended::Other(text)
    }
}

fn tail(log: &Path, begin: u64) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(begin))?;
    let mut text = Vec::new();
    file.take(8192).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A command that sees nothing of our environment but the path.
fn clean(program: &Path, account: Option<&Account>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .current_dir("/")
        .stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    if let Some(account) = account {
        account.run(&mut command);
    }
    command
}

/// The running server of a data folder, with its port. A pid file whose process is another program is removed.
pub(super) fn holder(data: &Path) -> anyhow::Result<Option<(Pid, u16)>> {
    let file = data.join("postmaster.pid");
    let Ok(text) = std::fs::read_to_string(&file) else {
        return Ok(None);
    };
    let mut lines = text.lines();
    let pid = lines
        .next()
        .and_then(|line| line.trim().parse().ok())
        .map(Pid::from_raw);
    let port = lines.nth(2).and_then(|line| line.trim().parse().ok());
    let Some(pid) = pid else { return Ok(None) };
    if is_server_of(pid, data) {
        let port = port.with_context(|| format!("{} names no port: try again", file.display()))?;
        return Ok(Some((pid, port)));
    }
    // The server itself clears up after a process that is gone, and knows then whether its sessions still run. It does
    // not when another program has got the same number since.
    let taken = !matches!(kill(pid, None), Err(nix::errno::Errno::ESRCH));
    if taken {
        tracing::info!(pid = pid.as_raw(), "stale pid file of postgresql removed");
        std::fs::remove_file(&file).with_context(|| format!("failed to remove {}", file.display()))?;
    }
    Ok(None)
}

/// Whether the process is a PostgreSQL server over this folder.
fn is_server_of(pid: Pid, data: &Path) -> bool {
    let line = command_line(pid).unwrap_or_default();
    line.contains("postgres") && line.contains(&*data.to_string_lossy())
}

fn command_line(pid: Pid) -> Option<String> {
    if Path::new("/proc/self/cmdline").exists() {
        let text = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        return Some(String::from_utf8_lossy(&text).replace('\0', " "));
    }
    let output = Command::new("ps")
        .args(["-ww", "-o", "command=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes the data folder, in one step: a start that is killed half-way leaves none. Returns where it really is.
pub(super) async fn initialize(
    folder: &Path,
    binaries: &Binaries,
    account: Option<&Account>,
    (owner, password): (&str, &str),
) -> anyhow::Result<PathBuf> {
    let (folder, binaries, account) = (folder.to_owned(), binaries.clone(), account.copied());
    let (owner, password) = (owner.to_owned(), password.to_owned());
    let work = move || initialize_blocking(&folder, &binaries, account.as_ref(), (&owner, &password));
    tokio::task::spawn_blocking(work)
        .await
        .context("the making of the database was interrupted")?
}

fn initialize_blocking(
    folder: &Path,
    binaries: &Binaries,
    account: Option<&Account>,
    owner: (&str, &str),
) -> anyhow::Result<PathBuf> {
    let link = folder.join("data");
    let _ = std::fs::remove_file(&link);
    let place = place(folder, account)?;
    let data = place.join("data");
    let fresh = place.join("data.new");
    for leftover in [&data, &fresh] {
        if leftover.exists() {
            if let Some((pid, _)) = holder(leftover)? {
                let _ = kill(pid, Signal::SIGQUIT);
            }
            std::fs::remove_dir_all(leftover).with_context(|| format!("failed to remove {}", leftover.display()))?;
        }
    }
    DirBuilder::new()
        .mode(0o700)
        .create(&fresh)
        .with_context(|| format!("failed to make {}", fresh.display()))?;
    let secret = place.join("password.new");
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&secret)?;
    writeln!(file, "{}", owner.1)?;
    if let Some(account) = account {
        account.own(&fresh)?;
        account.own(&secret)?;
    }
    let outcome = initdb(binaries, account, &fresh, &secret, owner.0);
    let _ = std::fs::remove_file(&secret);
    outcome?;
    std::fs::rename(&fresh, &data).with_context(|| format!("failed to name {}", data.display()))?;
    if data != link {
        symlink(&data, &link).with_context(|| format!("failed to link {}", link.display()))?;
    }
    data.canonicalize()
        .context("failed to resolve the data folder of postgresql")
}

/// The folder that holds the data: the one asked for, if the account can get there.
fn place(folder: &Path, account: Option<&Account>) -> anyhow::Result<PathBuf> {
    let Some(account) = account.filter(|account| !account.reaches(folder)) else {
        return Ok(folder.to_owned());
    };
    let name = hex::encode(sha2::Sha256::digest(folder.to_string_lossy().as_bytes()));
    let place = Path::new(ELSEWHERE).join(name.get(..16).unwrap_or_default());
    std::fs::create_dir_all(&place).with_context(|| format!("failed to make {}", place.display()))?;
    if !account.reaches(&place) {
        bail!(
            "the account of postgresql reaches neither {} nor {}",
            folder.display(),
            place.display()
        );
    }
    tracing::info!(folder = %place.display(), "the account of postgresql cannot reach the checkout; its data lies elsewhere");
    Ok(place)
}

fn initdb(
    binaries: &Binaries,
    account: Option<&Account>,
    data: &Path,
    secret: &Path,
    owner: &str,
) -> anyhow::Result<()> {
    let mut complaint = String::new();
    // The first locale that the machine has. All of them know more letters than ASCII, but for the last.
    for locale in ["C.UTF-8", "en_US.UTF-8", "C"] {
        let mut command = clean(&binaries.initdb, account);
        command
            .arg("-D")
            .arg(data)
            .args(["-U", owner, "-E", "UTF8", "--no-instructions"]);
        command.args([
            "--auth-host=scram-sha-256",
            "--auth-local=scram-sha-256",
            &format!("--locale={locale}"),
        ]);
        let mut argument = std::ffi::OsString::from("--pwfile=");
        argument.push(secret);
        let output = command.arg(argument).output();
        let output = output.with_context(|| format!("failed to run {}", binaries.initdb.display()))?;
        if output.status.success() {
            return Ok(());
        }
        complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        if !complaint.contains("locale") {
            break;
        }
    }
    bail!("failed to make a database in {}: {}", data.display(), complaint.trim())
}
