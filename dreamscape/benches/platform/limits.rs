//! What the machine could do at best, measured in the same run: the same bytes from a bare route, one select by primary key,
//! Argon2id on every core.

use std::{
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use axum::{Router, extract::State, http::header, routing::get};
use sqlx::{PgPool, postgres::PgPoolOptions};

use super::{load::Case, platform::Platform, report::Figure, scenario::Travellers, setting};

/// The process with the bare routes.
pub struct LimitServer {
    base: String,
    process: tokio::process::Child,
    _bytes: tempfile::NamedTempFile,
}

impl LimitServer {
    /// Starts it with the bytes that the platform answers.
    pub async fn start(platform: &Platform, travellers: &Travellers) -> anyhow::Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .connect(platform.database_url())
            .await?;
        sqlx::raw_sql(
            "create schema if not exists bench; create table if not exists bench.rows (id int primary key, body text not null);",
        )
        .execute(&pool)
        .await?;
        sqlx::query(
            "insert into bench.rows (id, body) values (1, $1) on conflict (id) do update set body = excluded.body",
        )
        .bind(&travellers.profile_bytes)
        .execute(&pool)
        .await?;

        let bytes = tempfile::NamedTempFile::new()?;
        std::fs::write(bytes.path(), &travellers.search_bytes)?;
        let port = free_port()?;
        let process = tokio::process::Command::new(std::env::current_exe()?)
            .arg("--limit-server")
            .env("LIMIT_PORT", port.to_string())
            .env("LIMIT_BYTES", bytes.path())
            .env("LIMIT_DATABASE_URL", platform.database_url())
            .kill_on_drop(true)
            .spawn()?;
        wait_for(port).await?;
        Ok(Self {
            base: format!("http://127.0.0.1:{port}"),
            process,
            _bytes: bytes,
        })
    }

    /// A route of it.
    pub fn case(&self, name: &'static str, path: &str) -> Case<'static> {
        Case {
            name,
            url: format!("{}{path}", self.base),
            ..Case::default()
        }
    }

    /// Ends it.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        Ok(self.process.kill().await?)
    }
}

/// The child process with the bare routes.
pub fn serve() -> ExitCode {
    let served = tokio::runtime::Runtime::new()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(listen()));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("limit server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Clone)]
struct Limits {
    bytes: Arc<[u8]>,
    pool: PgPool,
}

async fn listen() -> anyhow::Result<()> {
    let port = setting("LIMIT_PORT").context("LIMIT_PORT")?;
    let bytes = std::fs::read(Path::new(&setting("LIMIT_BYTES").context("LIMIT_BYTES")?))?;
    let url = setting("LIMIT_DATABASE_URL").context("LIMIT_DATABASE_URL")?;
    let pool = PgPoolOptions::new().max_connections(10).connect(&url).await?;
    let app = Router::new()
        .route(
            "/small",
            get(|| async { ([(header::CONTENT_TYPE, "application/json")], r#"{"alive":true}"#) }),
        )
        .route("/bytes", get(all_bytes))
        .route("/row", get(row))
        .with_state(Limits {
            bytes: bytes.into(),
            pool,
        });
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    Ok(axum::serve(listener, app).await?)
}

async fn all_bytes(State(limits): State<Limits>) -> ([(header::HeaderName, &'static str); 1], axum::body::Bytes) {
    (
        [(header::CONTENT_TYPE, "application/json")],
        axum::body::Bytes::copy_from_slice(&limits.bytes),
    )
}

async fn row(
    State(limits): State<Limits>,
) -> Result<([(header::HeaderName, &'static str); 1], String), axum::http::StatusCode> {
    let body: (String,) = sqlx::query_as("select body from bench.rows where id = $1")
        .bind(1_i32)
        .fetch_one(&limits.pool)
        .await
        .map_err(|_| axum::http::StatusCode::SERVICE_UNAVAILABLE)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body.0))
}

/// Argon2id with the platform's cost, one thread per core.
pub async fn hashes(time: Duration) -> anyhow::Result<Figure> {
    tokio::task::spawn_blocking(move || hash_for(time)).await?
}

fn hash_for(time: Duration) -> anyhow::Result<Figure> {
    use argon2::{Algorithm, Argon2, Params, Version};
    let params = Params::new(19_456, 2, 1, None).map_err(|error| anyhow::anyhow!("{error}"))?;
    let cores = std::thread::available_parallelism()?.get();
    let count = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let threads: Vec<_> = (0..cores)
        .map(|_| {
            let (count, params) = (count.clone(), params.clone());
            std::thread::spawn(move || {
                let hasher = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                let mut output = [0_u8; 32];
                while started.elapsed() < time {
                    if hasher
                        .hash_password_into(b"Dream-scape-1!", b"0123456789abcdef", &mut output)
                        .is_ok()
                    {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("a hashing thread panicked"))?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of a few thousand")]
    let rate = count.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a handful of cores")]
    let each = cores as f64 * 1_000.0 / rate;
    Ok(Figure {
        name: "limit: Argon2id hashes",
        rate,
        p50: each,
        p99: each,
        errors: 0,
    })
}

/// A port nobody has at the moment.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until somebody listens.
pub async fn wait_for(port: u16) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        anyhow::ensure!(Instant::now() < deadline, "nothing listens on port {port}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
