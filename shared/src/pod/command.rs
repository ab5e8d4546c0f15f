//! The command line of a pod: `serve`, `migrate`, `healthcheck`, `openapi`, `config`, and what it has for operators.

use std::{
    ffi::OsString,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use secrecy::ExposeSecret as _;

use super::{EmbedFn, Kept, Pod};
use crate::{
    config::{self, Reader},
    db::{
        DatabaseConfig,
        migrate::{self, Migrations, Roles},
    },
    http::server::ServerConfig,
    lifecycle::{Shutdown, Tasks},
    telemetry::{self, TelemetryConfig},
};

const DONE: u8 = 0;
const FAILED: u8 = 1;
/// `EX_CONFIG`: the settings are missing or wrong.
const BAD_CONFIGURATION: u8 = 78;
/// What the health check of an image may take.
const HEALTHCHECK_TIME: Duration = Duration::from_secs(2);

#[derive(Debug, Parser)]
#[command(
    version = telemetry::VERSION,
    after_help = "Settings come from environment variables; secrets also from files named by NAME_FILE. `config` lists \
                  them all. APP_ENV=production never falls back to embedded back ends. Exit codes: 0 done, 1 failed, \
                  2 bad arguments, 78 bad configuration."
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Default, Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT; the first drains, the second stops at once (the default)
    #[default]
    Serve,
    /// Bring the schemas of this pod's services up to date; safe to run from several places at once
    Migrate,
    /// Ask the running pod for its liveness over loopback; exits with 0 or 1
    Healthcheck,
    /// Print the OpenAPI document
    Openapi,
    /// Print the effective configuration, secrets masked
    Config {
        /// Print the reference of all settings as a Markdown table instead
        #[arg(long)]
        markdown: bool,
    },
}

/// The settings of the process around the pod.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// The bounds of listeners, and the end.
    pub server: ServerConfig,
}

impl ProcessConfig {
    /// Reads the settings.
    pub fn read(reader: &mut Reader) -> Self {
        Self {
            telemetry: TelemetryConfig::read(reader),
            server: ServerConfig::read(reader),
        }
    }
}

/// The whole of a pod's `main`. `embed` starts back ends in development; production builds have none.
pub fn main<P: Pod>(embed: Option<EmbedFn>) -> ExitCode {
    ExitCode::from(run::<P>(std::env::args_os(), embed))
}

/// The same with given arguments, the program's name first; gives the exit code.
pub fn run<P: Pod>(arguments: impl IntoIterator<Item = OsString>, embed: Option<EmbedFn>) -> u8 {
    // before anything can open a TLS connection; a second provider in the process would otherwise be a panic later
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    telemetry::process::mark_start();
    let command = Arguments::command().name(P::NAME).about(P::ABOUT);
    let own = P::operator_commands();
    let names: Vec<String> = own.iter().map(|command| command.get_name().to_owned()).collect();
    let matches = command.subcommands(own).get_matches_from(arguments);
    if let Some(name) = matches.subcommand_name()
        && names.iter().any(|own| own == name)
    {
        return finished::<P>(operate::<P>(matches, embed));
    }
    let arguments = match Arguments::from_arg_matches(&matches) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    let outcome = match arguments.command.unwrap_or_default() {
        Command::Serve => serve::<P>(embed),
        Command::Migrate => migrate::<P>(embed),
        Command::Healthcheck => healthcheck::<P>(),
        Command::Openapi => print_openapi::<P>(),
        Command::Config { markdown } => Ok(print_config::<P>(markdown, embed.is_some())),
    };
    finished::<P>(outcome)
}

fn finished<P: Pod>(outcome: anyhow::Result<u8>) -> u8 {
    outcome.unwrap_or_else(|error| {
        eprintln!("{}: {error:#}", P::NAME);
        FAILED
    })
}

/// Runs a command of the pod's own with all its settings.
fn operate<P: Pod>(matches: clap::ArgMatches, embed: Option<EmbedFn>) -> anyhow::Result<u8> {
    runtime()?.block_on(async {
        let mut reader = Reader::from_env();
        let process = ProcessConfig::read(&mut reader);
        let (_metrics, _guard) = telemetry::init(P::NAME, &process.telemetry);
        let _kept = embedded::<P>(&mut reader, embed).await?;
        let config = P::read(&mut reader);
        if let Some(code) = refused(&mut reader) {
            return Ok(code);
        }
        let printed = P::operate(config, matches).await?;
        println!("{printed}");
        Ok(DONE)
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")
}

/// Reports all problems at once.
fn refused(reader: &mut Reader) -> Option<u8> {
    let problems = reader.finish().err()?;
    eprint!("{problems}");
    Some(BAD_CONFIGURATION)
}

async fn embedded<P: Pod>(reader: &mut Reader, embed: Option<EmbedFn>) -> anyhow::Result<Option<Kept>> {
    match embed.filter(|_| !reader.production()) {
        Some(start) => start(reader, P::NAME)
            .await
            .context("failed to start the embedded back ends")
            .map(Some),
        None => Ok(None),
    }
}

fn serve<P: Pod>(embed: Option<EmbedFn>) -> anyhow::Result<u8> {
    runtime()?.block_on(async {
        let mut reader = Reader::from_env();
        // what goes wrong while back ends start should look like everything else
        let process = ProcessConfig::read(&mut reader);
        let (_metrics, guard) = telemetry::init(P::NAME, &process.telemetry);
        let kept = embedded::<P>(&mut reader, embed).await?;
        let config = P::read(&mut reader);
        let addresses = P::listeners(&mut reader);
        let migrations = if reader.production() {
            Vec::new()
        } else {
            P::migrations()
        };
        let admin_url = (!migrations.is_empty()).then(|| admin_url(&mut reader));
        if let Some(code) = refused(&mut reader) {
            return Ok(code);
        }
        let listeners = addresses.bind(process.server).await?;
        for (name, address) in listeners.bound() {
            tracing::info!(listener = name, %address, "listening");
        }
        let shutdown = Shutdown::new();
        shutdown.listen_for_signals();
        shutdown.halt_after_drain(process.server.drain.deadline);
        let tasks = Tasks::new(shutdown.clone());
        if let Some(url) = admin_url {
            migrate_at_start(url, migrations, &tasks).await;
        }
        let serving = Box::pin(P::serve(config, listeners, tasks.clone()));
        let code = until_the_end(serving, &tasks).await?;
        drop(kept);
        // the exporter of traces blocks while it sends the last ones
        tokio::task::spawn_blocking(|| drop(guard)).await.ok();
        Ok(code)
    })
}

/// Waits for the pod and its tasks; gives the exit code. A task that gave up, or a pod that returns unasked, ends the process as a failure.
pub async fn until_the_end(
    serving: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    tasks: &Tasks,
) -> anyhow::Result<u8> {
    let shutdown = tasks.shutdown();
    let mut serving = tokio::spawn(serving);
    let mut code = DONE;
    let outcome = tokio::select! {
        outcome = &mut serving => outcome,
        () = tasks.gave_up() => {
            tracing::error!("a task failed too often, stopping so that the process is replaced");
            code = FAILED;
            shutdown.drain();
            (&mut serving).await
        }
    };
    if !shutdown.is_draining() {
        tracing::error!("the pod stopped by itself");
        code = FAILED;
    }
    shutdown.set_served();
    shutdown.drain();
    if outcome.as_ref().is_ok_and(Result::is_ok) {
        tasks.finished().await;
    } else {
        shutdown.halt();
    }
    outcome.context("the pod panicked")??;
    tracing::info!("stopped");
    Ok(code)
}

/// The first attempt to migrate may hold up the start this long; then it goes on in the background, and readiness waits.
const FIRST_ATTEMPT: Duration = Duration::from_secs(10);

/// Migrates in development: normally before the pod serves; if PostgreSQL does not answer, again and again beside it.
pub async fn migrate_at_start(admin_url: String, migrations: Vec<Migrations>, tasks: &Tasks) {
    let migrations = std::sync::Arc::new(migrations);
    match tokio::time::timeout(
        FIRST_ATTEMPT,
        migrate::run(&admin_url, &migrations, Roles::GrantExisting),
    )
    .await
    {
        Ok(Ok(())) => return,
        Ok(Err(error)) => tracing::warn!(error = format!("{error:#}"), "not migrated yet, trying again"),
        Err(_elapsed) => tracing::warn!("not migrated yet, PostgreSQL does not answer"),
    }
    tasks.supervise("migrate", move |_| {
        let (admin_url, migrations) = (admin_url.clone(), migrations.clone());
        async move { migrate::run(&admin_url, &migrations, Roles::GrantExisting).await }
    });
}

const ADMIN_HELP: &str = "address of PostgreSQL for migrations, as a role that may create schemas; unset: DATABASE_URL";

/// The address of a role that may create schemas.
fn admin_url(reader: &mut Reader) -> String {
    match reader.secret("MIGRATION_DATABASE_URL", ADMIN_HELP) {
        Some(url) => url.expose_secret().to_owned(),
        None => DatabaseConfig::read(reader, "").url(),
    }
}

fn migrate<P: Pod>(embed: Option<EmbedFn>) -> anyhow::Result<u8> {
    runtime()?.block_on(async {
        let mut reader = Reader::from_env();
        let process = ProcessConfig::read(&mut reader);
        let (_metrics, _guard) = telemetry::init(P::NAME, &process.telemetry);
        let _kept = embedded::<P>(&mut reader, embed).await?;
        let migrations = P::migrations();
        let url = (!migrations.is_empty()).then(|| admin_url(&mut reader));
        if let Some(code) = refused(&mut reader) {
            return Ok(code);
        }
        if let Some(url) = url {
            migrate::run(&url, &migrations, Roles::GrantExisting)
                .await
                .context("failed to migrate")?;
        }
        Ok(DONE)
    })
}

/// Asks `/health/live` of the public listener, without a runtime and without any other setting.
fn healthcheck<P: Pod>() -> anyhow::Result<u8> {
    let address = P::listeners(&mut Reader::from_env()).public.address;
    let alive = is_alive(reachable(address)).with_context(|| format!("no answer from {address}"))?;
    Ok(if alive { DONE } else { FAILED })
}

/// Who listens everywhere is asked over loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback = match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        address.set_ip(loopback);
    }
    address
}

fn is_alive(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, HEALTHCHECK_TIME)?;
    stream.set_read_timeout(Some(HEALTHCHECK_TIME))?;
    stream.set_write_timeout(Some(HEALTHCHECK_TIME))?;
    stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = [0_u8; 12];
    stream.read_exact(&mut status)?;
    Ok(&status == b"HTTP/1.1 200")
}

fn print_openapi<P: Pod>() -> anyhow::Result<u8> {
    println!(
        "{}",
        P::openapi().to_pretty_json().context("failed to write the document")?
    );
    Ok(DONE)
}

/// Reads every setting that any subcommand reads.
fn read_all<P: Pod>(reader: &mut Reader) {
    ProcessConfig::read(reader);
    P::read(reader);
    P::listeners(reader);
    if !P::migrations().is_empty() {
        // the rest of the address is read with the services' own
        reader.secret("MIGRATION_DATABASE_URL", ADMIN_HELP);
    }
}

fn print_config<P: Pod>(markdown: bool, can_embed: bool) -> u8 {
    if markdown {
        print!("{}", reference::<P>());
        return DONE;
    }
    let mut reader = Reader::from_env();
    read_all::<P>(&mut reader);
    print!("{}", reader.effective());
    let embeds = can_embed && !reader.production();
    match reader.finish() {
        Err(problems) if embeds => {
            println!(
                "\n# {} settings are missing or wrong; `serve` embeds what is missing in development",
                problems.0.len()
            );
            DONE
        }
        Err(problems) => {
            eprint!("{problems}");
            BAD_CONFIGURATION
        }
        Ok(()) => DONE,
    }
}

/// The reference of a pod's settings, the same whatever the environment.
pub fn reference<P: Pod>() -> String {
    let read = |environment: &str| {
        let mut reader = Reader::from_pairs([("APP_ENV".to_owned(), environment.to_owned())]);
        read_all::<P>(&mut reader);
        reader
    };
    config::reference(&read("development"), &read("production"))
}
