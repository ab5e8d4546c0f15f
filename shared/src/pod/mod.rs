//! What makes a library a process: the command line, the start, the end.
//!
//! contract: operations §6.5, core §12. A pod says what it is by implementing [`Pod`]; [`main`] does the rest. The launcher
//! and tests call [`Pod::serve`] themselves, so nothing here may depend on being the only pod of the process.

mod command;
#[cfg(feature = "embedded")]
pub mod embedded;
mod listeners;
mod server;

use std::future::Future;

use futures_util::future::BoxFuture;

pub use self::{
    command::{ProcessConfig, main, migrate_at_start, reference, run, until_the_end},
    listeners::{Address, Addresses, Listeners, Port},
    server::Server,
};
use crate::{config::Reader, db::migrate::Migrations, lifecycle::Tasks};

/// A pod: its services, its settings, its listeners.
pub trait Pod: 'static {
    /// `core-pod`.
    const NAME: &'static str;
    /// One line for `--help`.
    const ABOUT: &'static str;
    /// The settings of all its services.
    type Config: Send + 'static;

    /// Reads all settings. Problems are the reader's to report; what comes back is used only if there are none.
    fn read(reader: &mut Reader) -> Self::Config;

    /// Reads where to listen.
    fn listeners(reader: &mut Reader) -> Addresses;

    /// The migrations of all its services, in the order in which they must run.
    fn migrations() -> Vec<Migrations>;

    /// The document of its public API.
    fn openapi() -> utoipa::openapi::OpenApi;

    /// Commands for operators beside those that every pod has.
    fn operator_commands() -> Vec<clap::Command> {
        Vec::new()
    }

    /// Runs one of them; gives what is to be printed.
    fn operate(
        _config: Self::Config,
        _matches: clap::ArgMatches,
    ) -> impl Future<Output = anyhow::Result<String>> + Send + 'static {
        async { anyhow::bail!("this pod has no such command") }
    }

    /// Runs until the drain is over. Background work goes on `tasks`; the caller waits for it afterwards.
    fn serve(
        config: Self::Config,
        listeners: Listeners,
        tasks: Tasks,
    ) -> impl Future<Output = anyhow::Result<()>> + Send + 'static;
}

/// What keeps embedded back ends alive.
pub type Kept = Box<dyn Send>;

/// A hook that starts what development lacks and fills in the settings; the pod's name tells it for whom.
pub type EmbedFn = for<'a> fn(&'a mut Reader, &'static str) -> BoxFuture<'a, anyhow::Result<Kept>>;

#[cfg(test)]
mod tests;
