//! `dreamscape demo`: one traveller walks through the platform over real HTTP, each step printed with its time.
//!
//! It knows the platform only from outside: addresses, JSON and the card form of the payment provider.

mod journey;
mod traveller;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use serde_json::Value;

pub use traveller::{Addresses, Traveller};

/// What the demo is told on the command line.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The origin of the platform, as a browser sees it
    #[arg(long, default_value = "http://127.0.0.1:8080", env = "DEMO_BASE_URL")]
    base: String,
    /// Ask each service on its own development port instead of through one origin
    #[arg(long)]
    direct: bool,
    /// The payment provider's API; found by itself when the platform runs in this checkout
    #[arg(long, env = "DEMO_STRIPE_API")]
    stripe_api: Option<String>,
    /// Where the embedded back ends keep their data
    #[arg(long, default_value = ".dreamscape", env = "DREAMSCAPE_DATA")]
    data: PathBuf,
    /// Print the steps as JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Longest wait for what happens by event, in seconds
    #[arg(long, default_value_t = 15)]
    patience: u64,
}

/// One step of the journey, as printed.
#[derive(Debug, serde::Serialize)]
pub struct Step {
    /// What the traveller did.
    pub what: String,
    /// What came back, in a few words.
    pub seen: String,
    /// How long it took, in milliseconds.
    pub millis: f64,
}

/// Walks the journey and prints it. An error names the step that did not end as it should.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let addresses = if options.direct {
        Addresses::direct(&options.base)?
    } else {
        Addresses::one_origin(&options.base)
    };
    let stripe = match options.stripe_api.clone() {
        Some(address) => address,
        None => stripe_of_this_checkout(&options.data).unwrap_or_else(|| "https://api.stripe.com".to_owned()),
    };
    let mut traveller = Traveller::new(addresses, &stripe, Duration::from_secs(options.patience), !options.json)?;
    let outcome = journey::walk(&mut traveller).await;
    if options.json {
        println!("{}", serde_json::to_string_pretty(traveller.steps())?);
    }
    outcome.with_context(|| format!("the journey stopped after {} steps", traveller.steps().len()))?;
    if !options.json {
        let total: f64 = traveller.steps().iter().map(|step| step.millis).sum();
        println!(
            "\n{} steps, {:.0} ms in all. The traveller has a confirmed booking.",
            traveller.steps().len(),
            total
        );
    }
    Ok(())
}

/// The address our double of the payment provider answers on, from the state of the embedded back ends.
fn stripe_of_this_checkout(data: &std::path::Path) -> Option<String> {
    let text = std::fs::read_to_string(data.join("state.json")).ok()?;
    let state: Value = serde_json::from_str(&text).ok()?;
    state
        .pointer("/addresses/stripe")
        .and_then(Value::as_str)
        .map(str::to_owned)
}
