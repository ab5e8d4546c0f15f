//! What operators do to the core pod from the command line: `core-pod keys list|rotate|retire`.
//!
//! contract: core §14 (rotation every 90 days, emergency rotate command). The command talks to the database only; running
//! pods notice within seconds.

use std::fmt::Write as _;

use anyhow::Context as _;
use clap::{Arg, ArgAction, ArgMatches, Command};
use shared::{
    db::Db,
    sources::{Sources, iso_millis},
};

use crate::{
    Config,
    auth::{self, Auth, SigningKeys},
};

/// The command `keys`.
pub fn command() -> Command {
    let list = Command::new("list").about("Print all signing keys with what they do now");
    let emergency = Arg::new("emergency")
        .long("emergency")
        .action(ArgAction::SetTrue)
        .help("The present keys are not to be trusted: sign with the new one and refuse theirs at once");
    let rotate = Command::new("rotate")
        .about("Make a new signing key: published at once, signing after 90 s, the old ones good for as long as their tokens")
        .arg(emergency);
    let kid = Arg::new("kid")
        .required(true)
        .help("The name of the key, as `list` prints it");
    let retire = Command::new("retire")
        .about("Refuse what a key signed from now on; the key that signs must be rotated instead")
        .arg(kid);
    Command::new("keys")
        .about("Look at and change the keys that tokens are signed with")
        .subcommand_required(true)
        .subcommands([list, rotate, retire])
}

/// Runs it; gives what is to be printed.
pub async fn run(config: &Config, matches: &ArgMatches) -> anyhow::Result<String> {
    let db = Db::<Auth>::connect_lazy(&config.auth_database);
    let keys = auth::signing_keys(&config.auth, db, config.cipher.clone(), &Sources::system())?;
    let matches = matches.subcommand_matches("keys").context("no such command")?;
    match matches.subcommand() {
        Some(("list", _)) => list(&keys).await,
        Some(("rotate", matches)) => {
            let emergency = matches.get_flag("emergency");
            let made = keys.rotate(emergency).await.context("the keys were not rotated")?;
            let from = made.activates_at.map(iso_millis).unwrap_or_default();
            Ok(format!("{} signs from {from}\n{}", made.kid, list(&keys).await?))
        }
        Some(("retire", matches)) => {
            let kid = matches.get_one::<String>("kid").context("which key?")?;
            keys.retire(kid).await.context("the key was not retired")?;
            list(&keys).await
        }
        _ => anyhow::bail!("no such command"),
    }
}

async fn list(keys: &SigningKeys) -> anyhow::Result<String> {
    let mut text = format!("{:<24} {:<10} {:<25} {}", "KEY", "STATUS", "SIGNS FROM", "RETIRES AT");
    for key in keys.list().await.context("the keys could not be read")? {
        let time = |at: Option<_>| at.map_or_else(|| "-".to_owned(), iso_millis);
        let status = key.status.to_string();
        let (from, until) = (time(key.activates_at), time(key.retires_at));
        write!(text, "\n{:<24} {status:<10} {from:<25} {until}", key.kid)?;
    }
    Ok(text)
}
