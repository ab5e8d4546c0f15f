//! The back ends that the keeper runs, each started when somebody first needs it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{
    Need, Request,
    settings::{BUCKET, Checkout},
};
use crate::{
    kafka::MockCluster,
    postgres::{self, PostgresServer, Search},
    s3::S3Server,
    stripe::{self, StripeDouble},
};

/// What a pod says to the keeper.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Wanted {
    pod_name: String,
    need: BTreeSet<Need>,
    payment_webhook_url: Option<String>,
    topics: Vec<(String, i32)>,
    postgres_folders: Option<Vec<PathBuf>>,
}

impl From<&Request> for Wanted {
    fn from(request: &Request) -> Self {
        Self {
            pod_name: request.pod_name.clone(),
            need: request.need.clone(),
            payment_webhook_url: request.payment_webhook_url.clone(),
            topics: request.topics.clone(),
            postgres_folders: request.postgres_folders.clone(),
        }
    }
}

/// The running back ends.
pub(super) struct Backends {
    folder: PathBuf,
    checkout: Checkout,
    postgres: Option<PostgresServer>,
    kafka: Option<MockCluster>,
    s3: Option<S3Server>,
    stripe: Option<StripeDouble>,
}

impl Backends {
    /// None yet.
    pub(super) fn new(folder: PathBuf) -> anyhow::Result<Self> {
        let checkout = Checkout::open(&folder)?;
        Ok(Self {
            folder,
            checkout,
            postgres: None,
            kafka: None,
            s3: None,
            stripe: None,
        })
    }

    /// Starts what is wanted and not there, and says how to reach it.
    pub(super) async fn provide(&mut self, wanted: &Wanted) -> anyhow::Result<BTreeMap<String, String>> {
        let mut settings = self.checkout.common(&wanted.pod_name);
        for need in &wanted.need {
            let found = match need {
                Need::Postgres => self.postgres(wanted.postgres_folders.as_deref()).await?,
                Need::Kafka => self.kafka(&wanted.topics)?,
                Need::S3 => self.s3().await?,
                Need::Stripe => self.stripe(wanted.payment_webhook_url.as_deref()).await?,
            };
            settings.extend(found);
        }
        Ok(settings
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect())
    }

    async fn postgres(&mut self, folders: Option<&[PathBuf]>) -> anyhow::Result<Vec<(&'static str, String)>> {
        if self.postgres.is_none() {
            let mut options = postgres::Options::new(self.folder.join("postgres"));
            if let Some(folders) = folders {
                options.search = Search::only(folders.to_vec());
            }
            let server = Box::pin(PostgresServer::start(options)).await?;
            tracing::info!(port = server.port(), "postgresql is ready");
            self.postgres = Some(server);
        }
        let server = self.postgres.as_ref().context("postgresql is not there")?;
        let roles = [
            ("AUTH_DATABASE_URL", "auth_service"),
            ("USER_DATABASE_URL", "user_service"),
            ("MAIL_DATABASE_URL", "mail_service"),
            ("VOYAGE_DATABASE_URL", "voyage_service"),
            ("PAYMENT_DATABASE_URL", "payment_service"),
            ("AI_DATABASE_URL", "ai_service"),
        ];
        let mut settings = vec![("DATABASE_URL", server.url())];
        settings.extend(
            roles
                .into_iter()
                .filter_map(|(name, role)| Some((name, server.role_url(role)?))),
        );
        Ok(settings)
    }

    fn kafka(&mut self, topics: &[(String, i32)]) -> anyhow::Result<Vec<(&'static str, String)>> {
        if self.kafka.is_none() {
            self.kafka = Some(MockCluster::start()?);
            tracing::info!("kafka is ready");
        }
        let cluster = self.kafka.as_ref().context("kafka is not there")?;
        topics
            .iter()
            .try_for_each(|(name, partitions)| cluster.create_topic(name, *partitions))?;
        // A pod that joins the cluster late must not miss what others have already told.
        let brokers = cluster.bootstrap_servers().to_owned();
        Ok(vec![
            ("KAFKA_BROKERS", brokers),
            ("KAFKA_AUTO_OFFSET_RESET", "earliest".to_owned()),
        ])
    }

    async fn s3(&mut self) -> anyhow::Result<Vec<(&'static str, String)>> {
        if self.s3.is_none() {
            let keys = &self.checkout.s3;
            let folder = self.folder.join("s3");
            let server = S3Server::start_on(keys.port, &folder, &keys.access_key, &keys.secret_key).await?;
            server.create_bucket(BUCKET)?;
            self.checkout.s3.port = server.port();
            self.checkout.save(&self.folder)?;
            tracing::info!(port = server.port(), "s3 is ready");
            self.s3 = Some(server);
        }
        let server = self.s3.as_ref().context("s3 is not there")?;
        Ok(vec![
            ("S3_ENDPOINT", server.endpoint()),
            ("S3_BUCKET", BUCKET.to_owned()),
            ("S3_ACCESS_KEY", self.checkout.s3.access_key.clone()),
            ("S3_SECRET_KEY", self.checkout.s3.secret_key.clone()),
        ])
    }

    async fn stripe(&mut self, webhook_url: Option<&str>) -> anyhow::Result<Vec<(&'static str, String)>> {
        if self.stripe.is_none() {
            let keys = &self.checkout.stripe;
            let options = stripe::Options {
                port: keys.port,
                secret_key: keys.secret_key.clone(),
                publishable_key: keys.publishable_key.clone(),
                webhook_secret: keys.webhook_secret.clone(),
                webhook_url: webhook_url.map(str::to_owned),
                journal: Some(self.folder.join("stripe.jsonl")),
                ..stripe::Options::default()
            };
            let double = StripeDouble::start(options).await?;
            self.checkout.stripe.port = double.port();
            self.checkout.save(&self.folder)?;
            tracing::info!(port = double.port(), "the double of stripe is ready");
            self.stripe = Some(double);
        }
        let double = self.stripe.as_ref().context("the double of stripe is not there")?;
        if let Some(url) = webhook_url {
            double.webhooks().set_url(Some(url));
        }
        Ok(vec![
            ("STRIPE_API_BASE", double.base_url().to_owned()),
            ("STRIPE_SECRET_KEY", double.secret_key().to_owned()),
            ("STRIPE_PUBLISHABLE_KEY", double.publishable_key().to_owned()),
            ("STRIPE_WEBHOOK_SECRET", double.webhook_secret().to_owned()),
        ])
    }

    /// Where each back end listens, for `state.json`.
    pub(super) fn addresses(&self) -> BTreeMap<String, String> {
        let mut addresses = BTreeMap::new();
        if let Some(server) = &self.postgres {
            addresses.insert("postgres".to_owned(), format!("127.0.0.1:{}", server.port()));
        }
        if let Some(cluster) = &self.kafka {
            addresses.insert("kafka".to_owned(), cluster.bootstrap_servers().to_owned());
        }
        if let Some(server) = &self.s3 {
            addresses.insert("s3".to_owned(), server.endpoint());
        }
        if let Some(double) = &self.stripe {
            addresses.insert("stripe".to_owned(), double.base_url().to_owned());
        }
        addresses
    }

    /// Brings PostgreSQL back if it has died.
    pub(super) async fn supervise(&mut self) {
        let Some(server) = &mut self.postgres else { return };
        match server.ensure_running().await {
            Ok(false) => {}
            Ok(true) => tracing::warn!("postgresql had died and was started again"),
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "postgresql has died and cannot be started"
            ),
        }
    }

    /// Stops everything in good order.
    pub(super) async fn stop(&mut self) {
        (self.stripe, self.s3, self.kafka) = (None, None, None);
        if let Some(mut server) = self.postgres.take()
            && let Err(error) = server.stop().await
        {
            tracing::error!(error = format!("{error:#}"), "postgresql did not stop in good order");
        }
    }
}
