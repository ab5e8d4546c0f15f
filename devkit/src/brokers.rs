//! Real Kafka brokers (KRaft), for what the mock cluster cannot show: admin calls, group coordination, replication, the
//! loss of a broker.
//!
//! contract: README "Facts about test machines". The jars come from `scripts/ci/kafka/jars.sh`; each node is a broker and a
//! controller in one process of Java, on free ports of loopback, with its data in a folder that goes with the value.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use rdkafka::{
    config::ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

/// How long the brokers may take to find each other. Three of them share the cores with whatever else is tested.
const PATIENCE: Duration = Duration::from_secs(120);
/// 128 bits in base 64, as Kafka names clusters.
const CLUSTER: &str = "ZHJlYW1zY2FwZS10ZXN0cw";

/// A running cluster. Dropping it kills the brokers.
#[derive(Debug)]
pub struct Brokers {
    nodes: Vec<Node>,
    jars: PathBuf,
    folder: TempDir,
}

#[derive(Debug)]
struct Node {
    id: usize,
    port: u16,
    controller: u16,
    process: Option<Child>,
}

impl Brokers {
    /// So many nodes, ready to serve.
    pub async fn start(jars: &Path, count: usize) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("dreamscape-kafka").tempdir()?;
        let mut nodes = Vec::with_capacity(count);
        for id in 1..=count {
            let [port, controller] = free_ports()?;
            nodes.push(Node {
                id,
                port,
                controller,
                process: None,
            });
        }
        let mut brokers = Self {
            nodes,
            jars: jars.to_owned(),
            folder,
        };
        brokers.format().await?;
        for index in 0..count {
            brokers.launch(index)?;
        }
        brokers.wait_for(count).await?;
        Ok(brokers)
    }

    /// The brokers, for `KAFKA_BROKERS`.
    pub fn bootstrap_servers(&self) -> String {
        let addresses = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        addresses.collect::<Vec<_>>().join(",")
    }

    /// `kill -9` of a node (1 to the count).
    pub async fn kill(&mut self, node: usize) -> anyhow::Result<()> {
        let node = self.nodes.iter_mut().find(|other| other.id == node);
        let node = node.context("there is no such broker")?;
        if let Some(mut process) = node.process.take() {
            process.kill().await.context("failed to kill a broker")?;
        }
        Ok(())
    }

    /// Starts a killed node again, with its data, and waits until the cluster is whole.
    pub async fn restart(&mut self, node: usize) -> anyhow::Result<()> {
        let index = self.nodes.iter().position(|other| other.id == node);
        self.launch(index.context("there is no such broker")?)?;
        self.wait_for(self.nodes.len()).await
    }

    /// Writes each node's settings and prepares its storage.
    async fn format(&self) -> anyhow::Result<()> {
        for node in &self.nodes {
            let file = self.settings_file(node);
            std::fs::write(&file, self.settings(node)).context("failed to write a broker's settings")?;
            let output = self
                .java("kafka.tools.StorageTool", "64m")
                .args(["format", "--cluster-id", CLUSTER, "--config"])
                .arg(&file)
                .output()
                .await
                .context("failed to run java")?;
            ensure!(
                output.status.success(),
                "a broker's storage could not be prepared: {}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    fn launch(&mut self, index: usize) -> anyhow::Result<()> {
        let node = self.nodes.get(index).context("there is no such broker")?;
        let log = std::fs::File::create(self.folder.path().join(format!("broker-{}.log", node.id)))?;
        let process = self
            .java("kafka.Kafka", "256m")
            .arg(self.settings_file(node))
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("failed to start a broker")?;
        if let Some(node) = self.nodes.get_mut(index) {
            node.process = Some(process);
        }
        Ok(())
    }

    /// Waits until so many brokers are registered and every group can find its coordinator.
    async fn wait_for(&mut self, count: usize) -> anyhow::Result<()> {
        let bootstrap = self.bootstrap_servers();
        let deadline = Instant::now() + PATIENCE;
        loop {
            for node in &mut self.nodes {
                if let Some(process) = &mut node.process
                    && let Some(status) = process.try_wait()?
                {
                    let log = std::fs::read_to_string(self.folder.path().join(format!("broker-{}.log", node.id)));
                    anyhow::bail!("broker {} ended: {status}\n{}", node.id, log.unwrap_or_default());
                }
            }
            let servers = bootstrap.clone();
            let seen = tokio::task::spawn_blocking(move || registered(&servers)).await?;
            if seen.is_some_and(|seen| seen == count) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the brokers did not find each other in time");
            sleep(Duration::from_millis(300)).await;
        }
    }

    fn java(&self, class: &str, heap: &str) -> Command {
        let mut command = Command::new("java");
        command
            .args([
                &format!("-Xmx{heap}"),
                "-Xshare:auto",
                "-XX:TieredStopAtLevel=1",
                "-XX:+UseSerialGC",
            ])
            .arg(format!("-Dkafka.logs.dir={}", self.folder.path().display()))
            .arg("-cp")
            .arg(self.jars.join("*"))
            .arg(class)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    fn settings_file(&self, node: &Node) -> PathBuf {
        self.folder.path().join(format!("broker-{}.properties", node.id))
    }

    fn settings(&self, node: &Node) -> String {
        let voters = self
            .nodes
            .iter()
            .map(|node| format!("{}@127.0.0.1:{}", node.id, node.controller));
        let voters = voters.collect::<Vec<_>>().join(",");
        let (id, port, controller) = (node.id, node.port, node.controller);
        let replicas = self.nodes.len().min(3);
        let in_sync = replicas.saturating_sub(1).max(1);
        let data = self.folder.path().join(format!("data-{id}"));
        format!(
            "node.id={id}\n\
             process.roles=broker,controller\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             controller.quorum.voters={voters}\n\
             log.dirs={}\n\
             auto.create.topics.enable=false\n\
             default.replication.factor={replicas}\n\
             min.insync.replicas={in_sync}\n\
             offsets.topic.num.partitions=3\n\
             offsets.topic.replication.factor={replicas}\n\
             transaction.state.log.replication.factor={replicas}\n\
             transaction.state.log.min.isr={in_sync}\n\
             group.initial.rebalance.delay.ms=0\n\
             controlled.shutdown.enable=false\n",
            data.display()
        )
    }
}

/// How many brokers the cluster knows, if anybody answers.
fn registered(bootstrap: &str) -> Option<usize> {
    let client: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("log_level", "0")
        .create()
        .ok()?;
    let metadata = client.fetch_metadata(None, Duration::from_secs(2)).ok()?;
    Some(metadata.brokers().len())
}

fn free_ports() -> anyhow::Result<[u16; 2]> {
    // both are held until both are known, so that they differ
    let (first, second) = (TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?);
    Ok([first.local_addr()?.port(), second.local_addr()?.port()])
}
