//! `make bench`: what the platform carries on this machine, next to its limits measured in the same run.
//!
//! The three pods run as separate release processes against a real PostgreSQL, a real Redis and the Kafka mock cluster;
//! reads are driven by `wrk`, state-changing requests by a client of ours. Every figure is printed with the limit it is
//! held against: a bare axum route that returns the same bytes, a select by primary key through a pool of the same size,
//! or Argon2id hashes per second on all cores. The table goes to the terminal, the same figures to `bench.json`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::pedantic,
    missing_docs,
    reason = "a test stops where something is not as it should be"
)]

mod identity;
mod limits;
mod load;
mod platform;
mod report;
mod scenario;
mod sockets;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;

/// How long and how hard each case is driven.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Measured time per case.
    pub time: Duration,
    /// Connections of the load generator.
    pub connections: usize,
    /// Where the pods' release binaries are.
    pub binaries: PathBuf,
    /// Where the figures go.
    pub output: PathBuf,
    /// The parts that are measured; empty: all. `reads`, `login`, `identity`, `checkouts`, `sockets`.
    pub only: Vec<String>,
}

impl Plan {
    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == part)
    }
}

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--limit-server") {
        return limits::serve();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(measure()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the benchmark stopped: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure() -> anyhow::Result<()> {
    let seconds = setting("BENCH_SECONDS").and_then(|text| text.parse().ok()).unwrap_or(5);
    let connections = setting("BENCH_CONNECTIONS")
        .and_then(|text| text.parse().ok())
        .unwrap_or(128);
    let binaries = setting("BENCH_BINARIES")
        .map(PathBuf::from)
        .context("BENCH_BINARIES names the folder of the release binaries")?;
    let output = PathBuf::from(setting("BENCH_OUTPUT").unwrap_or_else(|| "bench.json".to_owned()));
    let plan = Plan {
        time: Duration::from_secs(seconds),
        connections,
        binaries,
        output,
        only: setting("BENCH_ONLY")
            .map(|parts| parts.split(',').map(|part| part.trim().to_owned()).collect())
            .unwrap_or_default(),
    };

    let platform = platform::Platform::start(&plan).await?;
    let mut report = report::Report::default();
    platform.note_idle(&mut report);
    let traveller = scenario::Travellers::prepare(&platform).await?;
    if plan.wants("reads") {
        let limits = limits::LimitServer::start(&platform, &traveller).await?;
        scenario::reads(&platform, &traveller, &limits, &plan, &mut report).await?;
        limits.stop().await?;
    }
    if plan.wants("login") {
        let sign_ins = scenario::SignIns::prepare(&platform).await?;
        let (figures, cpu) = sign_ins.beside_hashes(&plan).await?;
        figures.into_iter().for_each(|figure| report.add(figure));
        report.fact(report::SIGN_IN_CPU, cpu.as_secs_f64() * 1_000.0, "ms", None);
    }
    if plan.wants("identity") {
        identity::measure(&platform, &traveller, &plan, &mut report).await?;
    }
    if plan.wants("checkouts") {
        scenario::checkouts(&platform, &plan, &mut report).await?;
    }
    platform.note_after_load(&mut report);
    let sockets = if plan.wants("sockets") {
        sockets::idle(&platform, &mut report).await
    } else {
        Ok(())
    };
    report.judge();
    report.print();
    report.write(&plan.output)?;
    platform.stop().await;
    sockets
}

#[expect(
    clippy::disallowed_methods,
    reason = "the bench is a tool of its own and has no configuration file"
)]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
