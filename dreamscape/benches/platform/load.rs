//! The load generators: `wrk` for reads, a client of ours for requests that change something.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use super::{Plan, report::Figure};

/// One case for `wrk`.
#[derive(Debug, Default)]
pub struct Case<'a> {
    pub name: &'static str,
    pub url: String,
    pub headers: Vec<(&'a str, String)>,
    /// A Lua body of `request`, for requests that differ.
    pub script: Option<String>,
}

/// Drives one case for the planned time after a short warm-up.
pub async fn drive(plan: &Plan, case: &Case<'_>) -> anyhow::Result<Figure> {
    run(plan, case, Duration::from_secs(1)).await?;
    run(plan, case, plan.time).await
}

/// How often a case and its limit take turns.
pub const TURNS: u32 = 4;

/// Drives a case and its limit in turns: the machine's speed changes while the bench runs, and a share of two figures that were
/// taken minutes apart says more about that than about the case. The limit first.
pub async fn drive_beside(plan: &Plan, limit: &Case<'_>, case: &Case<'_>) -> anyhow::Result<[Figure; 2]> {
    let turn = (plan.time / 2).max(Duration::from_secs(1));
    let (mut limits, mut cases) = (Vec::new(), Vec::new());
    run(plan, limit, Duration::from_secs(1)).await?;
    run(plan, case, Duration::from_secs(1)).await?;
    for _ in 0..TURNS {
        limits.push(run(plan, limit, turn).await?);
        cases.push(run(plan, case, turn).await?);
    }
    Ok([Figure::of_turns(&limits)?, Figure::of_turns(&cases)?])
}

async fn run(plan: &Plan, case: &Case<'_>, time: Duration) -> anyhow::Result<Figure> {
    let mut script = case.script.clone().unwrap_or_default();
    script.push_str(DONE);
    let file = tempfile::Builder::new().suffix(".lua").tempfile()?;
    std::fs::write(file.path(), script)?;
    let mut command = Command::new("wrk");
    command.args([
        "-t",
        "1",
        "-c",
        &plan.connections.to_string(),
        "-d",
        &format!("{}s", time.as_secs()),
        "--timeout",
        "10s",
    ]);
    for (name, value) in &case.headers {
        command.args(["-H", &format!("{name}: {value}")]);
    }
    command.arg("-s").arg(file.path()).arg(&case.url);
    let output = command
        .output()
        .await
        .context("wrk is missing (Debian: apt-get install wrk)")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("FIGURES "))
        .with_context(|| format!("wrk said: {text}"))?;
    let numbers: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [rate, p50, p99, errors] = numbers[..] else {
        anyhow::bail!("wrk printed {line}")
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count that wrk prints as a number"
    )]
    Ok(Figure {
        name: case.name,
        rate,
        p50,
        p99,
        errors: errors as u64,
    })
}

const DONE: &str = r#"
done = function(summary, latency, requests)
  local bad = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout
  io.write(string.format("FIGURES %.3f %.4f %.4f %d\n", summary.requests / (summary.duration / 1e6),
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, bad))
end
"#;

/// Repeats `work` on `workers` tasks for `time`; the work says how long the part that counts took, or that it failed.
pub async fn repeat<F, Fut>(name: &'static str, workers: usize, time: Duration, work: F) -> anyhow::Result<Figure>
where
    F: Fn(u64) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = anyhow::Result<Duration>> + Send + 'static,
{
    let counter = Arc::new(AtomicU64::new(0));
    let deadline = Instant::now() + time;
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..workers {
        let (work, counter) = (work.clone(), counter.clone());
        tasks.spawn(async move {
            let (mut times, mut errors, mut last) = (Vec::new(), 0_u64, None);
            while Instant::now() < deadline {
                match work(counter.fetch_add(1, Ordering::Relaxed)).await {
                    Ok(took) => times.push(took),
                    Err(error) => {
                        errors += 1;
                        last = Some(error);
                    }
                }
            }
            (times, errors, last)
        });
    }
    let (mut times, mut errors, mut last) = (Vec::new(), 0, None);
    while let Some(done) = tasks.join_next().await {
        let (some, bad, error) = done?;
        times.extend(some);
        errors += bad;
        last = error.or(last);
    }
    let elapsed = started.elapsed().as_secs_f64();
    if let Some(error) = last {
        eprintln!("  {name}: {errors} failed, the last: {error:#}");
    }
    ensure!(!times.is_empty(), "{name}: nothing succeeded");
    times.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "counts of a few thousand")]
    let rate = times.len() as f64 / elapsed;
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1_000.0;
    Ok(Figure {
        name,
        rate,
        p50: at(50),
        p99: at(99),
        errors,
    })
}
