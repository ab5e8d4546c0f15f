//! The platform under measurement: three release processes over real servers.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use devkit::{
    kafka::MockCluster,
    postgres::{Options, PostgresServer},
    redis::RedisServer,
    s3::S3Server,
    stripe::{self, StripeDouble},
};
use shared::telemetry::process::Usage;
use tokio::process::{Child, Command};

use super::{Plan, limits::free_port, report::Report};

/// A service, for its address.
#[derive(Debug, Clone, Copy)]
pub enum Service {
    Auth,
    User,
    Voyage,
    Ai,
}

/// Where the services answer.
#[derive(Debug, Clone)]
pub struct Addresses {
    auth: String,
    user: String,
    voyage: String,
    ai: String,
}

impl Addresses {
    /// The base address of a service.
    pub fn base(&self, service: Service) -> String {
        match service {
            Service::Auth => self.auth.clone(),
            Service::User => self.user.clone(),
            Service::Voyage => self.voyage.clone(),
            Service::Ai => self.ai.clone(),
        }
    }
}

struct Pod {
    name: &'static str,
    child: Child,
    ready_after: Duration,
    idle_kb: f64,
}

/// Everything that runs.
pub struct Platform {
    addresses: Addresses,
    database_url: String,
    pods: Vec<Pod>,
    postgres: PostgresServer,
    _redis: RedisServer,
    _kafka: MockCluster,
    _stripe: StripeDouble,
    _objects: S3Server,
    _folder: tempfile::TempDir,
}

impl Platform {
    /// Starts the servers, migrates, starts the pods and waits until each is ready.
    pub async fn start(plan: &Plan) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("dreamscape-bench").tempdir()?;
        make_passable(folder.path())?;
        let postgres = PostgresServer::start(Options::new(folder.path().join("postgres")).throwaway()).await?;
        let redis = RedisServer::start().await?;
        let kafka = MockCluster::start()?;
        let objects = S3Server::start(&folder.path().join("objects"), "bench", "bench-secret").await?;
        std::fs::create_dir_all(folder.path().join("objects/dreamscape"))?;
        let ports: Vec<u16> = (0..9).map(|_| free_port()).collect::<Result<_, _>>()?;
        let [gateway, auth, user, business, voyage, payment, ai, web, _] = ports[..] else {
            anyhow::bail!("ports")
        };
        let webhook_url = Some(format!("http://127.0.0.1:{payment}/api/v1/payment/webhook"));
        let stripe = StripeDouble::start(stripe::Options {
            webhook_url,
            ..stripe::Options::default()
        })
        .await?;

        let mut settings: Vec<(&str, String)> = vec![
            ("LOG_LEVEL", "warn".into()),
            ("LOG_FORMAT", "json".into()),
            ("DATABASE_URL", postgres.url()),
            ("REDIS_URL", redis.url()),
            ("KAFKA_BROKERS", kafka.bootstrap_servers().to_owned()),
            ("KAFKA_AUTO_OFFSET_RESET", "earliest".into()),
            ("S3_ENDPOINT", objects.endpoint()),
            ("S3_BUCKET", "dreamscape".into()),
            ("S3_ACCESS_KEY", "bench".into()),
            ("S3_SECRET_KEY", "bench-secret".into()),
            ("STRIPE_API_BASE", stripe.base_url().to_owned()),
            ("STRIPE_SECRET_KEY", stripe.secret_key().to_owned()),
            ("STRIPE_PUBLISHABLE_KEY", stripe.publishable_key().to_owned()),
            ("STRIPE_WEBHOOK_SECRET", stripe.webhook_secret().to_owned()),
            (
                "JWT_KEYSET",
                format!(r#"[{{"kid":"bench","seed":"{}","use":"sign"}}]"#, "A".repeat(43)),
            ),
            (
                "SERVICE_CLIENTS",
                format!("business-pod={0},experience-pod={0}", "b".repeat(43)),
            ),
            ("SERVICE_CLIENT_SECRET", "b".repeat(43)),
            ("RATE_LIMIT_MULTIPLIER", "1000000".into()),
            // ten thousand idle sockets of fifty accounts
            ("SOCKETS_PER_USER", "200".into()),
            ("HTTP_MAX_CONNECTIONS", "20000".into()),
            ("JWKS_URL", format!("http://127.0.0.1:{auth}/.well-known/jwks.json")),
            ("AUTH_SERVICE_URL", format!("http://127.0.0.1:{auth}")),
        ];
        for (name, port) in [
            ("GATEWAY_PORT", gateway),
            ("AUTH_PORT", auth),
            ("USER_PORT", user),
            ("BUSINESS_PORT", business),
            ("VOYAGE_PORT", voyage),
            ("PAYMENT_PORT", payment),
            ("AI_PORT", ai),
            ("WEB_PORT", web),
        ] {
            settings.push((name, port.to_string()));
        }
        for name in ["CORE_METRICS_PORT", "BUSINESS_METRICS_PORT", "EXPERIENCE_METRICS_PORT"] {
            settings.push((name, "0".into()));
        }
        for pod in ["core-pod", "business-pod"] {
            let migrated = pod_command(plan, pod, &settings).arg("migrate").status().await?;
            ensure!(migrated.success(), "{pod} migrate failed");
        }
        let address = |port: u16| format!("http://127.0.0.1:{port}");
        let addresses = Addresses {
            auth: address(auth),
            user: address(user),
            voyage: address(voyage),
            ai: address(ai),
        };
        let mut platform = Self {
            addresses,
            database_url: postgres.url(),
            pods: Vec::new(),
            postgres,
            _redis: redis,
            _kafka: kafka,
            _stripe: stripe,
            _objects: objects,
            _folder: folder,
        };
        for (name, port) in [
            ("core-pod", gateway),
            ("business-pod", business),
            ("experience-pod", web),
        ] {
            platform.pods.push(start_pod(plan, name, port, &settings).await?);
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        for pod in &mut platform.pods {
            pod.idle_kb = resident_kb(&pod.child)?;
        }
        Ok(platform)
    }

    /// The base address of a service.
    pub fn base(&self, service: Service) -> String {
        self.addresses.base(service)
    }

    /// All addresses, to take along.
    pub fn addresses(&self) -> Addresses {
        self.addresses.clone()
    }

    /// The database of the owner.
    pub fn database_url(&self) -> &str {
        &self.database_url
    }

    /// Notes how soon each pod was ready and what it held before any request.
    pub fn note_idle(&self, report: &mut Report) {
        for pod in &self.pods {
            report.fact(
                format!("{} ready after", pod.name),
                pod.ready_after.as_secs_f64() * 1_000.0,
                "ms",
                Some(300.0),
            );
            report.fact(
                format!("{} resident, idle", pod.name),
                pod.idle_kb / 1_024.0,
                "MB",
                Some(40.0),
            );
        }
    }

    /// Notes what each pod holds after everything.
    pub fn note_after_load(&self, report: &mut Report) {
        for pod in &self.pods {
            if let Ok(kb) = resident_kb(&pod.child) {
                report.fact(format!("{} resident, after load", pod.name), kb / 1_024.0, "MB", None);
            }
        }
    }

    /// What a pod holds now, in MB.
    pub fn resident_mb(&self, name: &str) -> anyhow::Result<f64> {
        Ok(resident_kb(&self.pod(name)?.child)? / 1_024.0)
    }

    /// The CPU time that a pod has used so far, seconds.
    pub fn cpu_seconds(&self, name: &str) -> anyhow::Result<f64> {
        Ok(usage(&self.pod(name)?.child)?.cpu_seconds)
    }

    fn pod(&self, name: &str) -> anyhow::Result<&Pod> {
        self.pods.iter().find(|pod| pod.name == name).context("no such pod")
    }

    /// Ends the pods, then the servers.
    pub async fn stop(mut self) {
        for pod in &mut self.pods {
            pod.child.kill().await.ok();
        }
        self.postgres.stop().await.ok();
    }
}

fn pod_command(plan: &Plan, name: &str, settings: &[(&str, String)]) -> Command {
    let mut command = Command::new(plan.binaries.join(name));
    if name == "core-pod" {
        // as it is deployed: no demo accounts, no mailbox for development
        command.envs([
            ("APP_ENV", "production"),
            ("BIND_ADDRESS", "127.0.0.1"),
            ("CORS_ORIGIN", "https://app.example.com"),
            ("CLIENT_URL", "https://app.example.com"),
            ("TRUSTED_PROXIES", "127.0.0.1"),
            ("DATA_ENCRYPTION_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        ]);
    }
    command
        .envs(settings.iter().map(|(name, value)| (*name, value)))
        .kill_on_drop(true)
        .stdout(Stdio::null());
    command
}

async fn start_pod(plan: &Plan, name: &'static str, port: u16, settings: &[(&str, String)]) -> anyhow::Result<Pod> {
    let http = reqwest::Client::new();
    let url = format!("http://127.0.0.1:{port}/health/ready");
    let started = Instant::now();
    let mut child = pod_command(plan, name, settings)
        .arg("serve")
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    loop {
        if http
            .get(&url)
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            break;
        }
        ensure!(child.try_wait()?.is_none(), "{name} ended");
        ensure!(
            started.elapsed() < Duration::from_secs(30),
            "{name} is not ready after 30 s"
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(Pod {
        name,
        child,
        ready_after: started.elapsed(),
        idle_kb: 0.0,
    })
}

fn usage(child: &Child) -> anyhow::Result<Usage> {
    Ok(Usage::of(child.id().context("the pod has ended")?))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn resident_kb(child: &Child) -> anyhow::Result<f64> {
    Ok(usage(child)?.resident as f64 / 1_024.0)
}

/// PostgreSQL runs as another user when we are root, and must be able to pass the folder.
fn make_passable(folder: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::set_permissions(
        folder,
        std::fs::Permissions::from_mode(0o755),
    )?)
}
