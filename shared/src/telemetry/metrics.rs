//! The recorder of metrics and the text that Prometheus scrapes.
//!
//! contract: operations §6.10

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::process::{self, Usage};
use crate::lifecycle::Tasks;

/// The buckets of all durations, seconds.
pub const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit of this build.
const REVISION: &str = match option_env!("GIT_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
/// Histograms are emptied into their buckets this often, also when nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

static INSTALLED: OnceLock<Metrics> = OnceLock::new();

/// Whether handles made now lead to a recorder.
pub(super) fn is_installed() -> bool {
    INSTALLED.get().is_some()
}

/// Reads gauges at the moment of a scrape.
type Sampler = Box<dyn Fn() + Send>;

/// The metrics of the process. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    labels: Arc<str>,
    samplers: Arc<Mutex<Vec<Sampler>>>,
    started: f64,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    /// Installs the recorder, or gives the one that is there.
    pub(super) fn install(pod: &'static str, environment: &'static str) -> Self {
        process::mark_start();
        INSTALLED.get_or_init(|| Self::new(pod, environment)).clone()
    }

    /// The metrics of this process, installed now if nobody has.
    pub fn current() -> Self {
        Self::install("dreamscape", "development")
    }

    fn new(pod: &'static str, environment: &'static str) -> Self {
        let builder = PrometheusBuilder::new()
            .add_global_label("pod", pod)
            .add_global_label("environment", environment);
        // fails for an empty list only
        let builder = match builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS) {
            Ok(builder) => builder,
            Err(_) => PrometheusBuilder::new(),
        };
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another recorder of metrics is installed, ours stays empty");
        }
        describe();
        metrics::gauge!("dreamscape_build_info", "version" => VERSION, "revision" => REVISION).set(1.0);
        let labels = format!("{{pod=\"{pod}\",environment=\"{environment}\"}}");
        Self {
            handle,
            labels: labels.into(),
            samplers: Arc::default(),
            started: started_at(),
        }
    }

    /// Calls `read` before each scrape, for gauges that are cheaper to read than to keep (pool, queue lengths).
    pub fn sample(&self, read: impl Fn() + Send + 'static) {
        self.samplers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Box::new(read));
    }

    /// The text of a scrape.
    pub fn render(&self) -> String {
        for read in self.samplers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            read();
        }
        let mut text = self.handle.render();
        self.render_process(&mut text);
        text
    }

    /// The same as OpenMetrics, with exemplars.
    pub fn render_open(&self) -> String {
        super::openmetrics::from_text(&self.render())
    }

    /// Keeps the recorder's memory bounded; one task per process is enough, more do no harm.
    pub fn keep_up(&self, tasks: &Tasks) {
        let (handle, shutdown) = (self.handle.clone(), tasks.shutdown().clone());
        tasks.spawn("metrics-upkeep", async move {
            let mut ticks = tokio::time::interval(UPKEEP);
            loop {
                tokio::select! {
                    () = shutdown.draining() => return,
                    _ = ticks.tick() => handle.run_upkeep(),
                }
            }
        });
    }

    /// The `process_*` and runtime series, whose types the recorder cannot express.
    fn render_process(&self, text: &mut String) {
        let usage = Usage::now();
        #[expect(clippy::cast_precision_loss, reason = "bytes and counts far below 2^52")]
        let mut series = vec![
            ("process_cpu_seconds_total", "counter", usage.cpu_seconds),
            ("process_resident_memory_bytes", "gauge", usage.resident as f64),
            ("process_virtual_memory_bytes", "gauge", usage.mapped as f64),
            ("process_open_fds", "gauge", usage.open_files as f64),
            ("process_max_fds", "gauge", usage.max_files as f64),
            ("process_threads", "gauge", usage.threads as f64),
            ("process_start_time_seconds", "gauge", self.started),
        ];
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let runtime = runtime.metrics();
            series.push(("tokio_workers", "gauge", runtime.num_workers() as f64));
            series.push(("tokio_alive_tasks", "gauge", runtime.num_alive_tasks() as f64));
            series.push(("tokio_global_queue_depth", "gauge", runtime.global_queue_depth() as f64));
        }
        for (name, kind, value) in series {
            let _ = writeln!(text, "# TYPE {name} {kind}\n{name}{} {value}", self.labels);
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the start of the process, told to Prometheus; no clock is at hand that early"
)]
fn started_at() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64().floor())
}

fn describe() {
    metrics::describe_counter!("http_requests_total", "Requests answered, by route template");
    metrics::describe_histogram!("http_request_duration_seconds", "Time to answer a request");
    metrics::describe_gauge!("http_requests_in_flight", "Requests being worked on");
    metrics::describe_gauge!("dreamscape_build_info", "The build that runs");
    metrics::describe_gauge!(
        "dreamscape_health_status",
        "1 when the service is healthy or degraded, 0 when not"
    );
    metrics::describe_gauge!(
        "dreamscape_health_component_status",
        "1 when the component is healthy, 0 when not"
    );
    metrics::describe_counter!(
        "dreamscape_task_restarts_total",
        "Background tasks started again after a failure"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_installation_is_the_first_one_and_a_scrape_has_the_process() {
        let first = Metrics::install("core-pod", "test");
        let second = Metrics::install("business-pod", "test");
        second.sample(|| metrics::gauge!("sampled_at_scrape").set(7.0));
        metrics::histogram!("some_duration_seconds").record(0.02);
        let text = first.render();
        for part in [
            "sampled_at_scrape{pod=\"",
            "process_resident_memory_bytes{pod=\"",
            "# TYPE process_cpu_seconds_total counter",
            "dreamscape_build_info{",
            "le=\"0.025\"} 1",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
