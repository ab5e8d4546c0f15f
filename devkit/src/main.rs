//! Holds the embedded back ends of a checkout without any pod: `cargo run -p devkit -- [options]`.
//!
//! Prints their settings as lines for a shell and keeps them running until it is told to end.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, bail};
use devkit::embedded::{self, Need, Request};
use tokio::signal::unix::{SignalKind, signal};

const HELP: &str = "\
Holds the embedded back ends of this checkout until it is interrupted, and prints their settings.

Usage: devkit [--data FOLDER] [--need postgres,kafka,s3,stripe] [--pod NAME] [--webhook URL] [--postgres FOLDER]

  --data FOLDER      where the data lies (default: .dreamscape at the root of the checkout)
  --need LIST        what to start (default: everything)
  --pod NAME         the pod whose client secret is printed
  --webhook URL      where the double of Stripe sends its events
  --postgres FOLDER  the only folder in which PostgreSQL's binaries are looked for
";

fn main() -> ExitCode {
    if let Some(code) = embedded::keeper_main() {
        return code;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run() -> anyhow::Result<()> {
    let Some(request) = read(std::env::args().skip(1))? else {
        print!("{HELP}");
        return Ok(());
    };
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for signals")?;
    let embedded = tokio::select! {
        embedded = embedded::start(request) => embedded?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    for (name, value) in &embedded.variables {
        println!("export {name}='{value}'");
    }
    println!("# ready; data in {}", embedded.data_dir().display());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Reads the arguments; `None` asks for help.
fn read(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<Request>> {
    let mut request = Request::new("devkit", embedded::default_data_dir());
    while let Some(name) = arguments.next() {
        if name == "--help" || name == "-h" {
            return Ok(None);
        }
        let value = arguments
            .next()
            .with_context(|| format!("{name} needs a value; see --help"))?;
        match name.as_str() {
            "--data" => request.data_dir = PathBuf::from(value),
            "--need" => request.need = value.split(',').map(need).collect::<anyhow::Result<BTreeSet<Need>>>()?,
            "--pod" => request.pod_name = value,
            "--webhook" => request.payment_webhook_url = Some(value),
            "--postgres" => request.postgres_folders = Some(vec![PathBuf::from(value)]),
            _ => bail!("unknown option {name}; see --help"),
        }
    }
    Ok(Some(request))
}

fn need(word: &str) -> anyhow::Result<Need> {
    match word {
        "postgres" => Ok(Need::Postgres),
        "kafka" => Ok(Need::Kafka),
        "s3" => Ok(Need::S3),
        "stripe" => Ok(Need::Stripe),
        _ => bail!("{word} is none of postgres, kafka, s3, stripe"),
    }
}
