//! One dependency of a service and what a look at it finds.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;

use super::LONGEST;
use crate::{
    db::{self, Db, migrate::Migrations},
    http::response_timestamp,
    redis::Redis,
};

/// How something does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should.
    Healthy,
    /// Works, with something missing.
    Degraded,
    /// Does not work.
    Unhealthy,
    /// Nobody knows.
    Unknown,
}

/// What a check looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// PostgreSQL.
    Database,
    /// Redis.
    Cache,
    /// Kafka.
    MessageQueue,
    /// Object storage.
    Filesystem,
    /// Another service of the platform.
    InternalService,
    /// Stripe, travel providers.
    ExternalApi,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// How it does.
    pub status: Status,
    /// A sentence fit for strangers.
    pub message: String,
    /// More, fit for strangers.
    pub details: Option<Value>,
}

impl Finding {
    /// A finding without details.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            details: None,
        }
    }
}

/// `Ok` is healthy; an error is logged and becomes unhealthy without its text.
impl From<anyhow::Result<()>> for Finding {
    fn from(result: anyhow::Result<()>) -> Self {
        match result {
            Ok(()) => Self::new(Status::Healthy, "reachable"),
            Err(error) => {
                tracing::debug!(error = format!("{error:#}"), "health check failed");
                Self::new(Status::Unhealthy, "not reachable")
            }
        }
    }
}

type Probe = Arc<dyn Fn() -> BoxFuture<'static, Finding> + Send + Sync>;

/// One dependency of a service.
#[derive(Clone)]
pub struct Check {
    /// As reports call it: `PostgreSQL`.
    pub name: &'static str,
    /// As readiness calls it: `postgresql`; `None` leaves it out there.
    pub key: Option<&'static str>,
    /// What it is.
    pub kind: Kind,
    /// Whether the service cannot work without.
    pub critical: bool,
    /// How long the probe may take.
    pub timeout: Duration,
    /// Looks.
    pub probe: Probe,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check")
            .field("name", &self.name)
            .field("critical", &self.critical)
            .finish_non_exhaustive()
    }
}

impl Check {
    /// A check; probes give a [`Finding`] or an `anyhow::Result<()>`.
    pub fn new<F, Fut, Out>(name: &'static str, kind: Kind, critical: bool, probe: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Out> + Send + 'static,
        Out: Into<Finding>,
    {
        let probe = move || -> BoxFuture<'static, Finding> {
            let looking = probe();
            Box::pin(async move { looking.await.into() })
        };
        let timeout = Duration::from_secs(if critical { 3 } else { 2 });
        Self {
            name,
            key: None,
            kind,
            critical,
            timeout,
            probe: Arc::new(probe),
        }
    }

    /// Named among the dependencies of readiness.
    #[must_use]
    pub fn in_readiness(mut self, key: &'static str) -> Self {
        self.key = Some(key);
        self
    }

    /// Another time-out.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// `PostgreSQL`: reachable, and with the schema that this release needs (not ready before its migrations).
    pub fn postgres<S: db::Service>(db: &Db<S>, migrations: Migrations) -> Self {
        let (db, migrations) = (db.clone(), Arc::new(migrations));
        let migrated = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let probe = move || {
            let (db, migrations, migrated) = (db.clone(), migrations.clone(), migrated.clone());
            async move {
                use std::sync::atomic::Ordering::Relaxed;
                if migrated.load(Relaxed) {
                    return Finding::from(db.ping().await.map_err(anyhow::Error::from));
                }
                match migrations.pending(db.pool()).await {
                    Ok(0) => {
                        migrated.store(true, Relaxed);
                        Finding::new(Status::Healthy, "reachable")
                    }
                    Ok(_) => Finding::new(Status::Unhealthy, "the schema is not migrated yet"),
                    Err(error) => Err(anyhow::Error::from(error)).into(),
                }
            }
        };
        Self::new("PostgreSQL", Kind::Database, true, probe).in_readiness("postgresql")
    }

    /// `Redis Cache`; `None` for the in-process store, since what is not configured is left out.
    pub fn redis(redis: &Redis) -> Option<Self> {
        let redis = redis.is_shared().then(|| redis.clone())?;
        let probe = move || {
            let redis = redis.clone();
            async move { redis.ping().await.map_err(anyhow::Error::from) }
        };
        Some(Self::new("Redis Cache", Kind::Cache, false, probe).in_readiness("redis"))
    }

    pub(super) async fn run(&self) -> CheckReport {
        let begun = Instant::now();
        let finding = match tokio::time::timeout(self.timeout.min(LONGEST), (self.probe)()).await {
            Ok(finding) => finding,
            Err(_elapsed) => Finding::new(Status::Unhealthy, "timed out"),
        };
        let status = match finding.status {
            Status::Unhealthy if !self.critical => Status::Degraded,
            other => other,
        };
        CheckReport {
            name: self.name,
            key: self.key,
            critical: self.critical,
            status,
            kind: self.kind,
            response_time: (begun.elapsed().as_secs_f64() * 1e6).max(1.0).round() / 1e3,
            message: finding.message,
            details: finding.details,
            timestamp: response_timestamp(),
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// The dependency.
    pub name: &'static str,
    #[serde(skip)]
    pub(super) key: Option<&'static str>,
    /// Whether the service is of no use without it.
    pub critical: bool,
    /// Healthy, or what it means for the service.
    pub status: Status,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Milliseconds, never 0.
    pub response_time: f64,
    /// A sentence.
    pub message: String,
    /// More.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// When.
    pub timestamp: String,
}

impl CheckReport {
    /// Whether the dependency can be used; a degraded service can.
    pub(super) fn works(&self) -> bool {
        self.status == Status::Healthy || (self.kind == Kind::InternalService && self.status == Status::Degraded)
    }
}
