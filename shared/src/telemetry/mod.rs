//! What the process tells about itself: logs, metrics, traces.
//!
//! contract: core §6.5, operations §6.10 and §6.12. [`init`] may be called more than once in a process (the launcher runs
//! three pods, tests run many): the first call decides.

mod export;
mod log;
mod metrics;
mod openmetrics;
pub mod process;
pub mod trace;

use std::{
    fmt,
    str::FromStr,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
};

use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

pub(crate) use self::openmetrics::Exemplars;
pub use self::{
    metrics::{BUCKETS, Metrics, VERSION},
    openmetrics::CONTENT_TYPE as OPEN_METRICS,
    trace::inject,
};
use crate::config::Reader;

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line (operations §6.12).
    Json,
    /// For people.
    Text,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Text => "text",
        })
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            other => Err(format!("`{other}` is neither `json` nor `text`")),
        }
    }
}

/// The settings of logs and traces.
#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// A level, or directives of tracing's filter: `info,sqlx=warn`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
    /// Where traces go; nowhere when absent.
    pub collector: Option<String>,
    /// The share of new traces that are exported.
    pub sample: f64,
    /// `development` or `production`, on every line and series.
    pub environment: &'static str,
}

impl TelemetryConfig {
    /// Reads the settings.
    pub fn read(reader: &mut Reader) -> Self {
        let production = reader.production();
        let level = reader.or(
            "LOG_LEVEL",
            "info".to_owned(),
            "error, warn, info, debug or trace, or tracing directives",
        );
        if EnvFilter::builder().parse(&level).is_err() {
            reader.problem("LOG_LEVEL is neither a level nor a list of directives such as `info,sqlx=warn`");
        }
        let format = if production { LogFormat::Json } else { LogFormat::Text };
        let format = reader.or("LOG_FORMAT", format, "`json` or `text`");
        let collector = reader.text(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTLP/gRPC collector of traces; unset: traces stay here",
        );
        let sample = reader.or(
            "OTEL_TRACES_SAMPLER_ARG",
            1.0,
            "share of new traces that are exported, 0 to 1",
        );
        if !(0.0..=1.0).contains(&sample) {
            reader.problem("OTEL_TRACES_SAMPLER_ARG is not between 0 and 1");
        }
        let environment = if production { "production" } else { "development" };
        Self {
            level,
            format,
            collector,
            sample,
            environment,
        }
    }
}

/// Keeps telemetry running; dropping it writes what is still buffered. Drop it as the last thing before the process ends.
#[derive(Debug)]
#[must_use = "what is buffered is written when this is dropped"]
pub struct Guard {
    exporter: Option<export::Exporter>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(exporter) = self.exporter.take() {
            exporter.shut_down();
        }
        log::flush();
    }
}

static EXPORTING: AtomicBool = AtomicBool::new(false);

/// Installs the recorder of metrics, the log and, if there is a collector, the export of traces (which needs a runtime).
pub fn init(pod: &'static str, config: &TelemetryConfig) -> (Metrics, Guard) {
    static FIRST: Once = Once::new();
    let metrics = Metrics::install(pod, config.environment);
    let mut exporter = None;
    FIRST.call_once(|| exporter = install_subscriber(pod, config));
    (metrics, Guard { exporter })
}

fn install_subscriber(pod: &'static str, config: &TelemetryConfig) -> Option<export::Exporter> {
    let filter = || EnvFilter::builder().parse_lossy(&config.level);
    let lines = log::Lines::new(pod, config.environment, config.format);
    let exporter = config
        .collector
        .as_deref()
        .and_then(|collector| export::Exporter::new(pod, config, collector));
    let installed = match &exporter {
        None => tracing_subscriber::registry().with(filter()).with(lines).try_init(),
        Some(exporter) => tracing_subscriber::registry()
            .with(exporter.layer())
            .with(lines.with_filter(filter()))
            .try_init(),
    };
    if installed.is_ok() {
        log_panics();
    }
    EXPORTING.store(installed.is_ok() && exporter.is_some(), Ordering::Release);
    exporter
}

/// A panic is a line like others: where, not what, since its text may quote what a traveller sent.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        tracing::error!(place, thread = thread.name().unwrap_or_default(), "panicked");
        log::flush();
    }));
}

/// Whether traces leave the process.
pub fn is_exporting() -> bool {
    EXPORTING.load(Ordering::Relaxed)
}

/// The trace of the current request, if it is exported.
pub(crate) fn recorded_trace() -> Option<trace::TraceContext> {
    is_exporting()
        .then(trace::TraceContext::current)
        .flatten()
        .filter(|context| context.sampled)
}

/// Whether a recorder takes metrics; handles made before lead nowhere.
pub(crate) fn metrics_installed() -> bool {
    metrics::is_installed()
}
