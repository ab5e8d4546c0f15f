//! All three pods in one process, each with its own settings, listeners and tasks, under one pair of signals.

use std::{future::Future, net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context as _;
use business_pod::BusinessPod;
use core_pod::CorePod;
use experience_pod::ExperiencePod;
use futures_util::future::{BoxFuture, FutureExt as _};
use secrecy::ExposeSecret as _;
use shared::{
    config::Reader,
    db::DatabaseConfig,
    lifecycle::{Shutdown, Tasks},
    pod::{self, EmbedFn, Kept, Listeners, Pod, ProcessConfig},
    telemetry,
};

const BAD_CONFIGURATION: u8 = 78;
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Runs a future to its end on a runtime of its own; an error is printed and becomes the exit code.
pub fn blocking(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime");
    match runtime.and_then(|runtime| runtime.block_on(work)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dreamscape: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the platform until Ctrl-C.
pub fn run() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    telemetry::process::mark_start();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("dreamscape: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(serve()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("dreamscape: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A pod with everything it needs, not serving yet.
struct Prepared<P: Pod> {
    config: P::Config,
    listeners: Listeners,
    admin_url: Option<String>,
}

/// Reads the settings of one pod, embedded back ends filled in, and binds its ports. All problems go to `problems`.
async fn prepare<P: Pod>(
    process: &ProcessConfig,
    kept: &mut Vec<Kept>,
    problems: &mut Vec<String>,
) -> anyhow::Result<Option<Prepared<P>>> {
    let mut reader = Reader::from_env();
    if let Some(start) = EMBED.filter(|_| !reader.production()) {
        kept.push(
            start(&mut reader, P::NAME)
                .await
                .context("failed to start the embedded back ends")?,
        );
    }
    let config = P::read(&mut reader);
    let addresses = P::listeners(&mut reader);
    let admin_url = if P::migrations().is_empty() || reader.production() {
        None
    } else {
        let own = reader.secret("MIGRATION_DATABASE_URL", "address of PostgreSQL for migrations");
        Some(own.map_or_else(
            || DatabaseConfig::read(&mut reader, "").url(),
            |url| url.expose_secret().to_owned(),
        ))
    };
    if let Err(found) = reader.finish() {
        problems.extend(found.0.into_iter().map(|problem| format!("{}: {problem}", P::NAME)));
        return Ok(None);
    }
    let listeners = addresses.bind(process.server).await?;
    Ok(Some(Prepared {
        config,
        listeners,
        admin_url,
    }))
}

#[cfg(feature = "embedded")]
const EMBED: Option<EmbedFn> = Some(pod::embedded::start);

#[cfg(not(feature = "embedded"))]
const EMBED: Option<EmbedFn> = None;

async fn serve() -> anyhow::Result<u8> {
    let mut reader = Reader::from_env();
    let process = ProcessConfig::read(&mut reader);
    let data = reader
        .text_now("DREAMSCAPE_DATA")
        .unwrap_or_else(|| ".dreamscape".to_owned());
    let (_metrics, guard) = telemetry::init("dreamscape", &process.telemetry);
    let (mut kept, mut problems) = (Vec::new(), Vec::new());
    let core = prepare::<CorePod>(&process, &mut kept, &mut problems).await?;
    let business = prepare::<BusinessPod>(&process, &mut kept, &mut problems).await?;
    let experience = prepare::<ExperiencePod>(&process, &mut kept, &mut problems).await?;
    let (Some(core), Some(business), Some(experience)) = (core, business, experience) else {
        eprintln!("the configuration has {} problem(s):", problems.len());
        for problem in problems {
            eprintln!("  - {problem}");
        }
        return Ok(BAD_CONFIGURATION);
    };

    let shutdown = Shutdown::new();
    shutdown.listen_for_signals();
    shutdown.halt_after_drain(process.server.drain.deadline);
    let public = experience.listeners.public.local_addr()?;
    let addresses: Vec<(&'static str, SocketAddr)> = [
        core.listeners.bound(),
        business.listeners.bound(),
        experience.listeners.bound(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let health: Vec<SocketAddr> = [&core.listeners, &business.listeners, &experience.listeners]
        .into_iter()
        .filter_map(|listeners| listeners.public.local_addr().ok())
        .collect();

    let announced = announce(public, addresses, health, data, shutdown.clone());
    let pods: [BoxFuture<'static, anyhow::Result<u8>>; 3] = [
        run_pod(core, &shutdown).boxed(),
        run_pod(business, &shutdown).boxed(),
        run_pod(experience, &shutdown).boxed(),
    ];
    tokio::spawn(announced);
    let outcomes = futures_util::future::join_all(pods).await;
    drop(kept);
    tokio::task::spawn_blocking(|| drop(guard)).await.ok();
    let mut worst = 0;
    for outcome in outcomes {
        worst = worst.max(outcome?);
    }
    Ok(worst)
}

/// Migrates and serves one pod. If it ends unasked, the others drain as well.
fn run_pod<P: Pod>(
    prepared: Prepared<P>,
    shutdown: &Shutdown,
) -> impl Future<Output = anyhow::Result<u8>> + Send + 'static {
    let (all, tasks) = (shutdown.clone(), Tasks::new(shutdown.child()));
    async move {
        if let Some(url) = prepared.admin_url {
            pod::migrate_at_start(url, P::migrations(), &tasks).await;
        }
        let serving = P::serve(prepared.config, prepared.listeners, tasks.clone());
        let outcome = Box::pin(pod::until_the_end(Box::pin(serving), &tasks)).await;
        all.drain();
        outcome
    }
}

/// Waits until all pods are ready and says where they are.
async fn announce(
    public: SocketAddr,
    addresses: Vec<(&'static str, SocketAddr)>,
    health: Vec<SocketAddr>,
    data: String,
    shutdown: Shutdown,
) {
    let client = reqwest::Client::new();
    let ready = async {
        for address in health {
            let url = format!("http://{address}/health/ready");
            while !client
                .get(&url)
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    tokio::select! {
        waited = tokio::time::timeout(READY_WITHIN, ready) => if waited.is_err() {
            eprintln!("not everything is ready after {} s; see /health on the ports below", READY_WITHIN.as_secs());
        },
        () = shutdown.draining() => return,
    }
    println!("\nDreamScape runs. One origin for browsers and clients:\n\n  http://{public}\n");
    for (name, address) in addresses {
        let path = if name == "metrics" { "/metrics" } else { "" };
        println!("  {name:<10} http://{address}{path}");
        if name == "user" {
            println!(
                "  {:<10} http://{address}/dev/mail (unless SMTP_HOST or SENDGRID_API_KEY is set)",
                "mail"
            );
        }
    }
    println!("\nDemo accounts, in development only:\n");
    for account in core_pod::auth::DEMO_ACCOUNTS {
        println!("  {:<28} {}", account.email, account.password);
    }
    println!("\nData: {data}   Try it: make demo   Stop it: Ctrl-C\n");
}
