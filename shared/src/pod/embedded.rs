//! Embedded back ends of development: what a pod lacks is started beside it and filled into its settings.
//!
//! Only in builds with the feature `embedded`, and never with `APP_ENV=production`. The back ends are those of `devkit`, held
//! by one keeper per checkout (`docs/decisions/0002-one-keeper-of-embedded-back-ends.md`).

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use devkit::embedded::{Need, Request, default_data_dir, keeper_main};
use futures_util::future::{BoxFuture, FutureExt as _};

use super::Kept;
use crate::{config::Reader, events::Topic};

/// Becomes the keeper if the process was started as one: first thing in each `main`.
pub fn keeper() -> Option<ExitCode> {
    keeper_main()
}

/// An [`EmbedFn`](super::EmbedFn): starts what `reader` has no address for and fills the addresses in.
pub fn start<'a>(reader: &'a mut Reader, pod: &'static str) -> BoxFuture<'a, anyhow::Result<Kept>> {
    embed(reader, pod).boxed()
}

async fn embed(reader: &mut Reader, pod: &'static str) -> anyhow::Result<Kept> {
    let data_dir = reader
        .text_now("DREAMSCAPE_DATA")
        .map_or_else(default_data_dir, PathBuf::from);
    let mut request = Request::new(pod, data_dir);
    request.need = missing(reader);
    request.topics = Topic::ALL
        .into_iter()
        .flat_map(|topic| {
            [
                (topic.name().to_owned(), topic.development_partitions()),
                (topic.dead_letters(), 1),
            ]
        })
        .collect();
    let payment_port = reader.text_now("PAYMENT_PORT").unwrap_or_else(|| "3004".to_owned());
    let takes_webhooks = pod == "business-pod" && request.need.contains(&Need::Stripe);
    request.payment_webhook_url =
        takes_webhooks.then(|| format!("http://127.0.0.1:{payment_port}/api/v1/payment/webhook"));
    let embedded = devkit::embedded::start(request).await?;
    for (name, value) in &embedded.variables {
        reader.fill(name, value.clone());
    }
    // a pod that was killed leaves its groups soon, so that the next one need not wait for its partitions
    reader.fill("KAFKA_SESSION_TIMEOUT", "6000");
    reader.fill("KAFKA_HEARTBEAT_INTERVAL", "1000");
    Ok(Box::new(embedded))
}

fn missing(reader: &Reader) -> BTreeSet<Need> {
    let database = reader.is_set("DATABASE_URL") || reader.is_set("DB_HOST");
    let needs = [
        (Need::Postgres, database),
        (Need::Kafka, reader.is_set("KAFKA_BROKERS")),
        (Need::S3, reader.is_set("S3_ENDPOINT")),
        (Need::Stripe, reader.is_set("STRIPE_SECRET_KEY")),
    ];
    needs
        .into_iter()
        .filter(|(_, is_set)| !is_set)
        .map(|(need, _)| need)
        .collect()
}
