//! The PostgreSQL binaries of this machine, run over a folder of this checkout.
//!
//! contract: README "Facts about test machines". PostgreSQL refuses to run as root, so root runs it as the account
//! `postgres` (or `nobody`). It listens on loopback only and asks for generated passwords. A server that is still running
//! over the folder is adopted; stale pid files, kill -9 and a taken port are survived.

mod account;
mod binaries;
mod process;
mod provision;

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use nix::{sys::signal::Signal, unistd::Pid};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

pub use self::binaries::{NotInstalled, Search};
use self::{
    account::Account,
    binaries::Binaries,
    process::{Ended, Process},
};
use crate::{chance, server::write_private};

/// How long a start may take, recovery after a kill included.
const START_WITHIN: Duration = Duration::from_secs(90);
/// How long open sessions may delay an orderly stop.
const STOP_WITHIN: Duration = Duration::from_secs(20);
const OWNER: &str = "dreamscape";

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder that holds `data/`, `server.json` (port and passwords) and `postgres.log`.
    pub folder: PathBuf,
    /// Where the binaries are looked for.
    pub search: Search,
    /// The database that is made.
    pub database: String,
    /// The roles that are made, each with a password of its own.
    pub roles: Vec<String>,
    /// Further settings of the server (`fsync`, `off`).
    pub settings: Vec<(String, String)>,
}

impl Options {
    /// The database `dreamscape` and a role for each service, over `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let roles = [
            "auth_service",
            "user_service",
            "mail_service",
            "voyage_service",
            "payment_service",
            "ai_service",
        ];
        Self {
            folder: folder.into(),
            search: Search::of_this_machine(),
            database: "dreamscape".to_owned(),
            roles: roles.map(str::to_owned).to_vec(),
            settings: Vec::new(),
        }
    }

    /// The same without waiting for the disk: for tests that throw their data away.
    #[must_use]
    pub fn throwaway(mut self) -> Self {
        // A commit still outlives a kill of the server: only the machine's own crash may lose it.
        for setting in ["fsync", "full_page_writes"] {
            self.settings.push((setting.to_owned(), "off".to_owned()));
        }
        self
    }
}

/// What is kept beside the data: without it the passwords are lost.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    port: u16,
    owner_password: String,
    role_passwords: BTreeMap<String, String>,
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct PostgresServer {
    options: Options,
    binaries: Binaries,
    account: Option<Account>,
    data: PathBuf,
    record: Record,
    process: Option<Process>,
}

impl PostgresServer {
    /// Starts a server over the folder, or adopts the one that runs there, and makes database and roles.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let found = options.search.all();
        ensure!(!found.is_empty(), NotInstalled);
        std::fs::create_dir_all(&options.folder)
            .with_context(|| format!("failed to make {}", options.folder.display()))?;
        let folder = options
            .folder
            .canonicalize()
            .context("failed to resolve the folder of postgresql")?;
        let link = folder.join("data");
        let existing = link.canonicalize().ok();
        let account = Account::choose(existing.as_deref())?;
        let binaries = binaries::matching(found, existing.as_deref())?;
        let record = record(&folder, existing.is_some(), &options.roles)?;
        let data = match existing {
            Some(data) => data,
            None => process::initialize(&folder, &binaries, account.as_ref(), (OWNER, &record.owner_password)).await?,
        };
        let mut server = Self {
            options,
            binaries,
            account,
            data,
            record,
            process: None,
        };
        server.run().await?;
        provision::provision(
            &server.address("postgres"),
            &server.options.database,
            &server.record.role_passwords,
        )
        .await?;
        Ok(server)
    }

    /// The address of the database for its owner, who may do everything.
    pub fn url(&self) -> String {
        self.address(&self.options.database)
    }

    /// The address of any database of the server for its owner.
    pub fn address(&self, database: &str) -> String {
        address(OWNER, &self.record.owner_password, self.record.port, database)
    }

    /// The address of the database for one of the roles.
    pub fn role_url(&self, role: &str) -> Option<String> {
        let password = self.record.role_passwords.get(role)?;
        Some(address(role, password, self.record.port, &self.options.database))
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.record.port
    }

    /// The process id of the server.
    pub fn pid(&self) -> Option<i32> {
        self.process.as_ref().map(|process| process.pid().as_raw())
    }

    /// Whether the server's process is there.
    pub fn is_running(&mut self) -> bool {
        let data = &self.data;
        self.process.as_mut().is_some_and(|process| process.is_running(data))
    }

    /// Starts the server again if it is gone; whether that was needed.
    pub async fn ensure_running(&mut self) -> anyhow::Result<bool> {
        if self.is_running() {
            return Ok(false);
        }
        self.run().await?;
        Ok(true)
    }

    /// Kills the server as a crash would (SIGKILL).
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.end(Signal::SIGKILL).await
    }

    /// Stops the server in good order: open sessions are ended, nothing is lost.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.end(Signal::SIGINT).await
    }

    async fn end(&mut self, signal: Signal) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        process.signal(signal);
        let deadline = Instant::now() + STOP_WITHIN;
        while process.is_running(&self.data) {
            if Instant::now() > deadline {
                process.signal(Signal::SIGQUIT);
                bail!("postgresql did not stop within {STOP_WITHIN:?}; it was told to stop at once");
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Brings the server up: adopts, or starts, until it answers.
    async fn run(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        if let Some((pid, port)) = process::holder(&self.data)? {
            return self.adopt(pid, port, deadline).await;
        }
        loop {
            self.choose_port()?;
            let settings = &self.options.settings;
            let log = self.options.folder.join("postgres.log");
            let mut process = Process::spawn(
                &self.binaries,
                self.account.as_ref(),
                &self.data,
                self.record.port,
                settings,
                &log,
            )?;
            match self.wait(&mut process, deadline).await? {
                None => {
                    self.process = Some(process);
                    return Ok(());
                }
                Some(Ended::PortTaken) => self.record.port = 0,
                // Sessions of a server that was killed are still going away.
                Some(Ended::StillInUse) => sleep(Duration::from_millis(200)).await,
                Some(Ended::Other(log)) => bail!("postgresql did not start; its log says:\n{log}"),
            }
            ensure!(
                Instant::now() < deadline,
                "postgresql did not start within {START_WITHIN:?}"
            );
        }
    }

    async fn adopt(&mut self, pid: Pid, port: u16, deadline: Instant) -> anyhow::Result<()> {
        self.record.port = port;
        let mut process = Process::adopted(pid);
        match self.wait(&mut process, deadline).await? {
            None => {
                tracing::info!(pid = pid.as_raw(), "running postgresql adopted");
                self.process = Some(process);
                self.save()
            }
            // It was on its way out; now it is gone.
            Some(_) => Box::pin(self.run()).await,
        }
    }

    /// Waits until the server answers; `Some` if its process has ended instead.
    async fn wait(&self, process: &mut Process, deadline: Instant) -> anyhow::Result<Option<Ended>> {
        let address = self.address("postgres");
        loop {
            if !process.is_running(&self.data) {
                return Ok(Some(process.verdict()));
            }
            let answer = provision::connect(&address).await;
            let Err(error) = answer else { return Ok(None) };
            ensure!(
                !provision::is_refused(&error),
                "postgresql refuses the password kept in server.json"
            );
            if Instant::now() > deadline {
                return Err(error).context("postgresql does not answer");
            }
            sleep(Duration::from_millis(30)).await;
        }
    }

    /// Keeps the port of last time if it is free.
    fn choose_port(&mut self) -> anyhow::Result<()> {
        let free =
            |port: u16| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|bound| bound.local_addr());
        let chosen = free(self.record.port)
            .or_else(|_| free(0))
            .context("failed to find a free port")?;
        self.record.port = chosen.port();
        self.save()
    }

    fn save(&self) -> anyhow::Result<()> {
        save(&self.options.folder, &self.record)
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        process.signal(Signal::SIGINT);
        for _ in 0..250 {
            if !process.is_running(&self.data) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        process.signal(Signal::SIGQUIT);
    }
}

fn address(user: &str, password: &str, port: u16, database: &str) -> String {
    format!("postgres://{user}:{password}@127.0.0.1:{port}/{database}?sslmode=disable")
}

fn save(folder: &Path, record: &Record) -> anyhow::Result<()> {
    let text = serde_json::to_vec_pretty(record).context("failed to write port and passwords of postgresql")?;
    let file = folder.join("server.json");
    write_private(&file, &text).with_context(|| format!("failed to write {}", file.display()))
}

/// Port and passwords: those of the folder, completed by what is new; fresh ones for a new folder.
fn record(folder: &Path, has_data: bool, roles: &[String]) -> anyhow::Result<Record> {
    let file = folder.join("server.json");
    let mut record = match std::fs::read(&file) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("failed to read {}", file.display()))?,
        Err(_) if has_data => bail!(
            "{} is missing, so nobody knows the passwords of the database: remove {} to begin anew",
            file.display(),
            folder.display()
        ),
        Err(_) => Record {
            port: 0,
            owner_password: chance::secret(),
            role_passwords: BTreeMap::new(),
        },
    };
    for role in roles {
        let plain = role
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        ensure!(plain, "{role} is not a plain role name");
        record.role_passwords.entry(role.clone()).or_insert_with(chance::secret);
    }
    save(folder, &record)?;
    Ok(record)
}
