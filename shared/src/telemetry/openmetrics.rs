//! OpenMetrics, the form of metrics that Prometheus asks for first, and exemplars, which only it has: with a bucket of the
//! duration of requests, the trace of the last request that fell into it.
//!
//! contract: operations §6.10 (text 0.0.4 or OpenMetrics). Exemplars exist while traces are exported: the id of a trace that
//! nobody stored would lead nowhere.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, LazyLock, Mutex, PoisonError, RwLock},
};

use super::{BUCKETS, trace::TraceContext};

/// The media type of the text of [`from_text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The histogram that has exemplars.
const DURATION: &str = "http_request_duration_seconds_bucket{";

/// The last traced request of each bucket of one series.
#[derive(Debug, Default)]
pub struct Exemplars([Mutex<Option<Exemplar>>; BUCKETS.len() + 1]);

#[derive(Debug, Clone, Copy)]
struct Exemplar {
    trace: u128,
    /// Seconds.
    value: f64,
}

/// The exemplars of all series, by their labels as the recorder writes them.
static ALL: LazyLock<RwLock<HashMap<String, Arc<Exemplars>>>> = LazyLock::new(RwLock::default);

impl Exemplars {
    /// Those of the series with these labels.
    pub fn of(labels: &[(&'static str, String)]) -> Arc<Self> {
        let text = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
        let text = text.collect::<Vec<_>>().join(",");
        let mut all = ALL.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(text).or_default())
    }

    /// Notes the request of this trace, which took `seconds`.
    pub fn note(&self, context: TraceContext, seconds: f64) {
        let bucket = BUCKETS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(BUCKETS.len());
        if let Some(place) = self.0.get(bucket) {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(Exemplar {
                trace: context.trace,
                value: seconds,
            });
        }
    }

    /// What was noted for the bucket with this upper bound.
    fn at(&self, bound: &str) -> Option<Exemplar> {
        let bucket = match bound {
            "+Inf" => BUCKETS.len(),
            number => {
                let number: f64 = number.parse().ok()?;
                BUCKETS.iter().position(|bound| (bound - number).abs() < f64::EPSILON)?
            }
        };
        *self.0.get(bucket)?.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As the recorder escapes a value.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The text of version 0.0.4 as OpenMetrics, with exemplars.
pub fn from_text(text: &str) -> String {
    let all = ALL.read().unwrap_or_else(PoisonError::into_inner);
    let mut open = String::with_capacity(text.len() + text.len() / 8);
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "unknown"));
            // a counter's family is named without what all its samples end in
            let (family, kind) = match (name.strip_suffix("_total"), kind) {
                (Some(family), "counter") => (family, kind),
                (_, "counter") => (name, "unknown"),
                _ => (name, kind),
            };
            if let Some((_, words)) = help.take().filter(|(of, _)| *of == name) {
                let _ = writeln!(open, "# HELP {family} {words}");
            }
            let _ = writeln!(open, "# TYPE {family} {kind}");
        } else if !line.is_empty() && !line.starts_with('#') {
            open.push_str(line);
            if let Some(exemplar) = exemplar(&all, line) {
                let _ = write!(open, " # {{trace_id=\"{:032x}\"}} {}", exemplar.trace, exemplar.value);
            }
            open.push('\n');
        }
    }
    open.push_str("# EOF\n");
    open
}

/// The exemplar of a sample, if it is a bucket that has one.
fn exemplar(all: &HashMap<String, Arc<Exemplars>>, line: &str) -> Option<Exemplar> {
    if all.is_empty() {
        return None;
    }
    let labels = line.strip_prefix(DURATION)?;
    let (labels, bound) = labels.rsplit_once("le=\"")?;
    let (bound, _) = bound.split_once('"')?;
    // before ours come the labels of the process
    let own = labels.find("service=\"")?;
    all.get(labels.get(own..)?.trim_end_matches(','))?.at(bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_becomes_open_metrics() {
        let text = "# HELP jobs_total Jobs done\n# TYPE jobs_total counter\njobs_total{kind=\"a\"} 3\n\n\
                    # TYPE odd counter\nodd 1\n\n# HELP depth How deep\n# TYPE depth gauge\ndepth 2\n";
        assert_eq!(
            from_text(text),
            "# HELP jobs Jobs done\n# TYPE jobs counter\njobs_total{kind=\"a\"} 3\n\
             # TYPE odd unknown\nodd 1\n# HELP depth How deep\n# TYPE depth gauge\ndepth 2\n# EOF\n"
        );
    }

    #[test]
    fn the_last_trace_of_a_bucket_is_its_exemplar() {
        let labels = [("service", "a \"b\"".to_owned()), ("route", "/exemplars".to_owned())];
        let exemplars = Exemplars::of(&labels);
        let context = |trace| TraceContext {
            trace,
            ..TraceContext::root()
        };
        exemplars.note(context(1), 0.02);
        exemplars.note(context(2), 0.021);
        exemplars.note(context(3), 99.0);
        let line =
            |bound| format!("{DURATION}pod=\"p\",service=\"a \\\"b\\\"\",route=\"/exemplars\",le=\"{bound}\"}} 4\n");
        let open = from_text(&(line("0.01") + &line("0.025") + &line("1") + &line("+Inf")));
        let lines: Vec<_> = open.lines().collect();
        assert!(lines[0].ends_with("le=\"0.01\"} 4"), "{}", lines[0]);
        assert!(
            lines[1].ends_with("} 4 # {trace_id=\"00000000000000000000000000000002\"} 0.021"),
            "{}",
            lines[1]
        );
        assert!(lines[2].ends_with("le=\"1\"} 4"), "{}", lines[2]);
        assert!(
            lines[3].ends_with("} 4 # {trace_id=\"00000000000000000000000000000003\"} 99"),
            "{}",
            lines[3]
        );
    }
}
