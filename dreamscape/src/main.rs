//! The launcher as a process: `run` (the default), `demo`, `config`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dreamscape::{configuration, demo, platform};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The whole DreamScape platform in one process, and tools around it
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Settings come from environment variables; `dreamscape config` lists them. Nothing has to be set: \
                  what is missing is embedded, with its data in .dreamscape/."
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all three pods until Ctrl-C (the default)
    Run,
    /// Walk one traveller through a running platform, each step with its time
    Demo(demo::Options),
    /// Print the effective configuration of all pods, secrets masked
    Config {
        /// Print the reference of all settings as Markdown instead
        #[arg(long)]
        markdown: bool,
    },
}

fn main() -> ExitCode {
    #[cfg(feature = "embedded")]
    if let Some(code) = shared::pod::embedded::keeper() {
        return code;
    }
    let arguments = Arguments::parse();
    match arguments.command.unwrap_or(Command::Run) {
        Command::Run => platform::run(),
        Command::Demo(options) => platform::blocking(demo::run(options)),
        Command::Config { markdown } => {
            print!(
                "{}",
                if markdown {
                    configuration::reference()
                } else {
                    configuration::effective()
                }
            );
            ExitCode::SUCCESS
        }
    }
}
