//! The autoscaler as a process: `serve` (the default), `healthcheck`, `check-policy`.

use std::{net::Ipv4Addr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use autoscaler::{
    engine::Engine,
    metrics::Metrics,
    policy::Policy,
    prometheus::Prometheus,
    round::{Mode, Pulse, Scaler},
    server,
};
use clap::{ArgAction, Parser, Subcommand};
use tokio::{net::TcpListener, signal::unix, sync::watch};

/// Scales the pods of a Swarm stack by what Prometheus reports
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run until SIGTERM (the default)
    Serve,
    /// Ask the one that runs on this machine whether it is alive
    Healthcheck,
    /// Read a policy and tell all of its problems
    CheckPolicy {
        /// The policy
        file: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Settings {
    /// Whether it decides at all; otherwise it only reports replicas and the age of secrets
    #[arg(long, env = "AUTOSCALER_ENABLED", default_value_t = false, action = ArgAction::Set)]
    enabled: bool,
    /// Whether it only says what it would do
    #[arg(long, env = "AUTOSCALER_DRY_RUN", default_value_t = true, action = ArgAction::Set)]
    dry_run: bool,
    /// What it may do
    #[arg(long, env = "AUTOSCALER_POLICY_FILE", default_value = "/etc/autoscaler/policy.yml")]
    policy_file: PathBuf,
    /// Name of the stack
    #[arg(long, env = "AUTOSCALER_STACK", default_value = "dreamscape")]
    stack: String,
    /// Where the figures come from
    #[arg(long, env = "PROMETHEUS_URL", default_value = "http://prometheus:9090")]
    prometheus_url: String,
    /// The engine of a Swarm manager
    #[arg(long, env = "DOCKER_SOCKET", default_value = "/var/run/docker.sock")]
    docker_socket: PathBuf,
    /// Port of metrics and health
    #[arg(long, env = "METRICS_PORT", default_value_t = 9090)]
    metrics_port: u16,
    /// error, warn, info, debug or trace
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    log_level: String,
    /// json or text
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    log_format: String,
}

fn main() -> ExitCode {
    let Arguments { command, settings } = Arguments::parse();
    let result = match command.unwrap_or(Command::Serve) {
        Command::Serve => serve(&settings),
        Command::Healthcheck => healthcheck(&settings),
        Command::CheckPolicy { file } => read_policy(&file).map(|policy| {
            println!("{}: usable, {} services", file.display(), policy.services.len());
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("autoscaler: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn read_policy(file: &std::path::Path) -> anyhow::Result<Policy> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Policy::parse(&text).with_context(|| file.display().to_string())
}

fn healthcheck(settings: &Settings) -> anyhow::Result<()> {
    anyhow::ensure!(server::is_healthy(settings.metrics_port)?, "it is not well");
    Ok(())
}

fn start_log(settings: &Settings) {
    let filter = tracing_subscriber::EnvFilter::try_new(&settings.log_level)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    if settings.log_format == "text" {
        log.init();
    } else {
        log.json().flatten_event(true).with_current_span(false).init();
    }
}

fn serve(settings: &Settings) -> anyhow::Result<()> {
    start_log(settings);
    let policy = read_policy(&settings.policy_file)?;
    // it waits most of its life: one thread is plenty
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(run(settings, policy))
}

async fn run(settings: &Settings, policy: Policy) -> anyhow::Result<()> {
    let mode = match (settings.enabled, settings.dry_run) {
        (false, _) => Mode::Watch,
        (true, true) => Mode::DryRun,
        (true, false) => Mode::Act,
    };
    let (mut terminate, mut interrupt) = (
        unix::signal(unix::SignalKind::terminate())?,
        unix::signal(unix::SignalKind::interrupt())?,
    );
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, settings.metrics_port))
        .await
        .with_context(|| format!("port {}", settings.metrics_port))?;
    let metrics = Metrics::default();
    let pulse = Arc::new(Pulse::new(policy.loop_seconds));
    let (stop, stopping) = watch::channel(false);
    let scaler = Scaler::new(
        policy,
        Engine::new(&settings.docker_socket, &settings.stack),
        Prometheus::new(&settings.prometheus_url),
        metrics.clone(),
        mode,
    );
    tracing::info!(?mode, stack = settings.stack, port = settings.metrics_port, "started");

    let mut rounds = tokio::spawn({
        let pulse = pulse.clone();
        async move { scaler.run(&pulse, stopping).await }
    });
    let serving = axum::serve(listener, server::router(metrics, pulse));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        served = serving => served?,
        ended = &mut rounds => return ended.context("the rounds ended"),
    }
    tracing::info!("stopping");
    stop.send_replace(true);
    if tokio::time::timeout(Duration::from_secs(8), &mut rounds).await.is_err() {
        rounds.abort();
        tracing::warn!("the last round did not end in time");
    }
    tracing::info!("stopped");
    Ok(())
}
