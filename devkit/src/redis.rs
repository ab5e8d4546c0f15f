//! Real `redis-server` processes for tests: one server, or a Cluster of several masters on free ports.
//!
//! The processes end with the value that started them. Set-up is done with Redis's own commands over a bare socket, so that
//! no client library stands between a test and the server.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::{Instant, sleep},
};

/// How long a server may take to answer, or a Cluster to agree.
const PATIENCE: Duration = Duration::from_secs(30);
const SLOTS: usize = 16_384;

/// Whether `redis-server` is installed.
pub async fn is_installed() -> bool {
    let found = Command::new("redis-server")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    found.is_ok_and(|status| status.success())
}

/// One `redis-server` process. Its data is in memory only and gone after a restart.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    options: Vec<String>,
    data: TempDir,
    process: Option<Child>,
}

impl RedisServer {
    /// A server on a free port of the loopback address.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// The same with further options: `["--requirepass", "secret"]`.
    pub async fn start_with(options: &[&str]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir().context("failed to make a folder for redis")?;
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Self {
            port: free_port().await?,
            options,
            data,
            process: None,
        };
        server.restart().await?;
        Ok(server)
    }

    /// The port it listens on; a restart keeps it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it (again) on its port and waits until it answers.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill().await?;
        self.process = Some(spawn(self.port, &self.options, self.data.path())?);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let process = self.process.as_mut().context("redis was not started")?;
            if let Some(status) = process.try_wait()? {
                bail!("redis-server ended at once: {status}");
            }
            // a password makes it answer NOAUTH, which is an answer too
            let answer = command(self.port, "PING").await;
            if answer.is_ok_and(|answer| answer.starts_with("+PONG") || answer.starts_with("-NOAUTH")) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "redis-server did not answer in time");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills it as a crash would.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().await.context("failed to kill redis-server")?;
        }
        Ok(())
    }

    /// Freezes it: connections stay open and nothing answers.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Ends [`freeze`](Self::freeze).
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Sends a command by hand (no blanks inside arguments) and gives the raw answer.
    pub async fn command(&self, line: &str) -> anyhow::Result<String> {
        command(self.port, line).await
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = self
            .process
            .as_ref()
            .and_then(Child::id)
            .context("redis-server is not running")?;
        kill(Pid::from_raw(i32::try_from(id)?), signal).context("failed to signal redis-server")
    }
}

/// A Cluster of masters without replicas, as in production.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Three masters that have agreed on their slots.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_nodes(3).await
    }

    /// A Cluster of `count` masters.
    pub async fn start_nodes(count: usize) -> anyhow::Result<Self> {
        ensure!(count > 0, "a cluster needs a node");
        let mut nodes = Vec::with_capacity(count);
        let mut bus_ports = Vec::with_capacity(count);
        for _ in 0..count {
            // the usual bus port, port + 10000, may not exist or not be free
            let bus_port = free_port().await?;
            let options = [
                "--cluster-enabled",
                "yes",
                "--cluster-config-file",
                "nodes.conf",
                "--cluster-node-timeout",
                "2000",
                "--cluster-require-full-coverage",
                "no",
                "--cluster-port",
                &bus_port.to_string(),
            ];
            nodes.push(RedisServer::start_with(&options).await?);
            bus_ports.push(bus_port);
        }
        let cluster = Self { nodes };
        cluster.join(&bus_ports).await?;
        Ok(cluster)
    }

    /// Addresses of all nodes.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// The nodes, to kill, freeze or restart one.
    pub fn nodes_mut(&mut self) -> &mut [RedisServer] {
        &mut self.nodes
    }

    /// Waits until all running nodes say that all slots are served.
    pub async fn settled(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.is_settled().await {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the cluster did not settle in time");
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn is_settled(&self) -> bool {
        let size = format!("cluster_size:{}", self.nodes.len());
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        for node in &self.nodes {
            let Ok(info) = node.command("CLUSTER INFO").await else {
                return false;
            };
            let wanted = ["cluster_state:ok", "cluster_slots_ok:16384", &size, &known];
            if !wanted.iter().all(|line| info.contains(line)) {
                return false;
            }
        }
        true
    }

    async fn join(&self, bus_ports: &[u16]) -> anyhow::Result<()> {
        let count = self.nodes.len();
        for (index, node) in self.nodes.iter().enumerate() {
            let (first, last) = (index * SLOTS / count, (index + 1) * SLOTS / count - 1);
            accepted(&node.command(&format!("CLUSTER ADDSLOTSRANGE {first} {last}")).await?)?;
            accepted(&node.command(&format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1)).await?)?;
        }
        let Some((first, others)) = self.nodes.split_first() else {
            bail!("a cluster needs a node")
        };
        for (node, bus_port) in others.iter().zip(bus_ports.iter().skip(1)) {
            accepted(
                &first
                    .command(&format!("CLUSTER MEET 127.0.0.1 {} {bus_port}", node.port()))
                    .await?,
            )?;
        }
        self.settled().await
    }
}

fn accepted(answer: &str) -> anyhow::Result<()> {
    ensure!(
        answer.starts_with("+OK"),
        "redis refused a command of the set-up: {}",
        answer.trim()
    );
    Ok(())
}

fn spawn(port: u16, options: &[String], data: &Path) -> anyhow::Result<Child> {
    Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--daemonize",
            "no",
            "--save",
            "",
            "--appendonly",
            "no",
        ])
        .arg("--dir")
        .arg(data)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("failed to start redis-server: install the package redis-server")
}

async fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// One inline command on a connection of its own; the answer is one line, or the text of a bulk answer.
async fn command(port: u16, line: &str) -> anyhow::Result<String> {
    let exchange = async {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
        stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_line(&mut answer).await?;
        if let Some(length) = answer
            .strip_prefix('$')
            .and_then(|length| length.trim().parse::<usize>().ok())
        {
            let mut text = vec![0; length];
            stream.read_exact(&mut text).await?;
            answer = String::from_utf8_lossy(&text).into_owned();
        }
        anyhow::Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(2), exchange)
        .await
        .context("redis did not answer")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cluster_settles_and_survives_the_restart_of_a_node() {
        if !is_installed().await {
            println!("SKIP: redis-server is not installed");
            return;
        }
        let mut cluster = RedisCluster::start().await.unwrap();
        assert_eq!(cluster.urls().len(), 3);
        cluster.nodes_mut()[1].restart().await.unwrap();
        cluster.settled().await.unwrap();
    }
}
