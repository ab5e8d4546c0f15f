//! librdkafka's mock cluster: three brokers inside this process that other processes can reach over TCP.
//!
//! contract: README "Facts about test machines". Topics live in memory and are gone with the cluster. A topic that nobody
//! created is made on first use, with four partitions. The admin calls of Kafka are not served: create topics here.

use std::{sync::mpsc, thread};

use anyhow::{Context as _, anyhow};
use rdkafka::{mocking, types::RDKafkaErrorCode};

/// How many brokers there are.
const BROKERS: i32 = 3;

type Reply = mpsc::SyncSender<anyhow::Result<()>>;

enum Command {
    CreateTopic(String, i32, Reply),
    Down(i32, Reply),
    Up(i32, Reply),
}

/// A running mock cluster. Dropping it stops it.
#[derive(Debug)]
pub struct MockCluster {
    bootstrap: String,
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl MockCluster {
    /// Starts three brokers on free ports of loopback.
    pub fn start() -> anyhow::Result<Self> {
        let (commands, inbox) = mpsc::channel();
        let (ready, started) = mpsc::sync_channel(1);
        // The handle of the C library stays on one thread.
        let thread = thread::Builder::new()
            .name("mock-kafka".to_owned())
            .spawn(move || run(&ready, &inbox))
            .context("failed to start the thread of the mock cluster")?;
        let bootstrap = started.recv().context("the mock cluster did not start")??;
        Ok(Self {
            bootstrap,
            commands: Some(commands),
            thread: Some(thread),
        })
    }

    /// The brokers, for `KAFKA_BROKERS`.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap
    }

    /// Creates a topic, if it is not there, with a replica on each broker.
    pub fn create_topic(&self, name: &str, partitions: i32) -> anyhow::Result<()> {
        self.ask(|reply| Command::CreateTopic(name.to_owned(), partitions, reply))
    }

    /// Takes a broker away (1 to 3); its connections break and new ones are refused.
    pub fn broker_down(&self, broker: i32) -> anyhow::Result<()> {
        self.ask(|reply| Command::Down(broker, reply))
    }

    /// Brings a broker back.
    pub fn broker_up(&self, broker: i32) -> anyhow::Result<()> {
        self.ask(|reply| Command::Up(broker, reply))
    }

    /// Takes the whole cluster away.
    pub fn all_down(&self) -> anyhow::Result<()> {
        (1..=BROKERS).try_for_each(|broker| self.broker_down(broker))
    }

    /// Brings the whole cluster back, with its topics as they were.
    pub fn all_up(&self) -> anyhow::Result<()> {
        (1..=BROKERS).try_for_each(|broker| self.broker_up(broker))
    }

    fn ask(&self, command: impl FnOnce(Reply) -> Command) -> anyhow::Result<()> {
        let (reply, answer) = mpsc::sync_channel(1);
        let commands = self.commands.as_ref().context("the mock cluster is stopped")?;
        commands
            .send(command(reply))
            .map_err(|_| anyhow!("the mock cluster is stopped"))?;
        answer.recv().context("the mock cluster did not answer")?
    }
}

impl Drop for MockCluster {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(ready: &mpsc::SyncSender<anyhow::Result<String>>, inbox: &mpsc::Receiver<Command>) {
    let cluster = match mocking::MockCluster::new(BROKERS) {
        Ok(cluster) => cluster,
        Err(error) => {
            let _ = ready.send(Err(error).context("failed to start the mock cluster"));
            return;
        }
    };
    let _ = ready.send(Ok(cluster.bootstrap_servers()));
    for command in inbox {
        let (reply, outcome) = match command {
            Command::CreateTopic(name, partitions, reply) => (
                reply,
                cluster
                    .create_topic(&name, partitions, BROKERS)
                    .or_else(accept_existing),
            ),
            Command::Down(broker, reply) => (reply, cluster.broker_down(broker)),
            Command::Up(broker, reply) => (reply, cluster.broker_up(broker)),
        };
        let _ = reply.send(outcome.context("the mock cluster refused a command"));
    }
}

fn accept_existing(error: rdkafka::error::KafkaError) -> rdkafka::error::KafkaResult<()> {
    match error {
        rdkafka::error::KafkaError::MockCluster(RDKafkaErrorCode::TopicAlreadyExists) => Ok(()),
        other => Err(other),
    }
}
