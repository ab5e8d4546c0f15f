//! The platform as processes on free ports, with data of its own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

const PORTS: [&str; 11] = [
    "GATEWAY_PORT",
    "AUTH_PORT",
    "USER_PORT",
    "VOYAGE_PORT",
    "PAYMENT_PORT",
    "AI_PORT",
    "WEB_PORT",
    "BUSINESS_PORT",
    "CORE_METRICS_PORT",
    "BUSINESS_METRICS_PORT",
    "EXPERIENCE_METRICS_PORT",
];

/// A folder for the data and a set of ports: what all processes of one platform share.
pub struct Site {
    folder: tempfile::TempDir,
    settings: BTreeMap<String, String>,
}

impl Site {
    pub fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::Builder::new().prefix("dreamscape-it").tempdir().unwrap();
        // PostgreSQL runs as another user when we are root
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut settings: BTreeMap<String, String> = PORTS
            .iter()
            .map(|name| ((*name).to_owned(), free_port().to_string()))
            .collect();
        settings.insert(
            "DREAMSCAPE_DATA".into(),
            folder.path().join("data").to_str().unwrap().into(),
        );
        settings.insert("RATE_LIMIT_MULTIPLIER".into(), "1000".into());
        settings.insert("LOG_LEVEL".into(), "warn".into());
        Self { folder, settings }
    }

    /// The same with one more setting for all its programs.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.settings.insert(name.to_owned(), value.into());
        self
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn address(&self, port: &str) -> String {
        format!("http://127.0.0.1:{}", self.settings[port])
    }

    /// Starts a program of the workspace.
    pub fn spawn(&self, program: &str, arguments: &[&str]) -> Running {
        let child = self.command(program).args(arguments).spawn().unwrap();
        Running {
            child,
            name: program.to_owned(),
        }
    }

    /// Runs a program to its end.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Output {
        self.command(program)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
            .unwrap()
    }

    /// Runs a program to its end with further settings.
    pub fn output_with(&self, program: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Output {
        let mut command = self.command(program);
        command.envs(settings.iter().copied()).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
    }

    /// Walks the traveller through; the steps as printed.
    pub fn demo(&self, more: &[&str]) -> Vec<Value> {
        let data = self.data();
        let base = self.address("WEB_PORT");
        let mut arguments = vec![
            "demo",
            "--json",
            "--patience",
            "60",
            "--base",
            &base,
            "--data",
            data.to_str().unwrap(),
        ];
        arguments.extend(more);
        let output = self.output("dreamscape", &arguments);
        let (stdout, stderr) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "the demo failed: {stderr}\n{stdout}");
        serde_json::from_str(&stdout).unwrap()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program_path(program));
        for name in ["DATABASE_URL", "REDIS_URL", "KAFKA_BROKERS", "APP_ENV", "NODE_ENV"] {
            command.env_remove(name);
        }
        command
            .envs(&self.settings)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }
}

/// A port nobody listens on, below the range from which the kernel takes ports for outgoing connections.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = 16_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 14_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// All programs of the workspace are built into one folder.
fn program_path(program: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_dreamscape")).parent().unwrap();
    let path = folder.join(program);
    assert!(
        path.exists(),
        "{} is not built; run the tests with --workspace",
        path.display()
    );
    path
}

/// A running program; killed when dropped.
pub struct Running {
    child: Child,
    name: String,
}

impl Running {
    /// Asks it to stop and waits for its end.
    pub fn stop(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        let deadline = Instant::now() + Duration::from_secs(40);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} does not stop", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Waits for a condition with a deadline; `what` is said when it does not come.
pub async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !done().await {
        assert!(Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a listener says that it is ready.
pub async fn ready(address: &str, running: &mut Running) {
    let url = format!("{address}/health/ready");
    let name = running.name.clone();
    eventually(&format!("{name} ready at {url}"), async || {
        assert!(running.ended().is_none(), "{name} ended instead of becoming ready");
        reqwest::get(&url)
            .await
            .is_ok_and(|answer| answer.status().is_success())
    })
    .await;
}
