//! Lines of the log: JSON for machines, text for people.
//!
//! contract: operations §6.12. A line is formatted into a buffer that a thread writes out in batches, so that no request
//! waits for whoever reads our output.

use std::{
    cell::RefCell,
    fmt::Write as _,
    io::{IsTerminal as _, Write as _},
    sync::{Condvar, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::{
    LogFormat,
    trace::{self, TraceContext},
};
use crate::sources::{Clock as _, SystemClock, iso_millis};

/// The layer that formats lines.
pub(super) struct Lines {
    format: LogFormat,
    colours: bool,
    /// `,"pod":"core-pod","environment":"production"`
    constant: String,
}

impl Lines {
    pub(super) fn new(pod: &str, environment: &str, format: LogFormat) -> Self {
        let mut constant = String::new();
        push_text(&mut constant, LogFormat::Json, "pod", pod);
        push_text(&mut constant, LogFormat::Json, "environment", environment);
        Self {
            format,
            colours: std::io::stdout().is_terminal(),
            constant,
        }
    }

    fn begin(&self, line: &mut String, event: &Event<'_>) {
        let now = iso_millis(SystemClock.now());
        let (level, colour) = match *event.metadata().level() {
            Level::ERROR => ("error", "31"),
            Level::WARN => ("warn", "33"),
            Level::INFO => ("info", "32"),
            Level::DEBUG => ("debug", "34"),
            Level::TRACE => ("trace", "35"),
        };
        match self.format {
            LogFormat::Json => {
                line.push_str("{\"ts\":\"");
                line.push_str(&now);
                line.push_str("\",\"level\":\"");
                line.push_str(level);
                line.push('"');
                line.push_str(&self.constant);
            }
            LogFormat::Text => {
                line.push_str(now.get(11..23).unwrap_or(&now));
                if self.colours {
                    let _ = write!(line, " \x1b[{colour}m{level:>5}\x1b[0m ");
                } else {
                    let _ = write!(line, " {level:>5} ");
                }
            }
        }
    }
}

/// The fields of a span, formatted once.
struct SpanFields(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::new(self.format);
        attributes.record(&mut fields);
        span.extensions_mut().insert(SpanFields(fields.text));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::new(self.format);
        values.record(&mut fields);
        if let Some(SpanFields(text)) = span.extensions_mut().get_mut::<SpanFields>() {
            text.push_str(&fields.text);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        thread_local!(static LINE: RefCell<String> = const { RefCell::new(String::new()) });
        let mut fields = Fields::new(self.format);
        event.record(&mut fields);
        LINE.with(|line| {
            // a field whose `Debug` logs would find the buffer taken: that inner line is lost, the outer one is not
            let Ok(mut line) = line.try_borrow_mut() else { return };
            line.clear();
            self.begin(&mut line, event);
            match self.format {
                LogFormat::Json => push_text(&mut line, self.format, "msg", &fields.message),
                LogFormat::Text => line.push_str(&fields.message),
            }
            line.push_str(&fields.text);
            push_ids(&mut line, self.format, fields.has_service);
            if let Some(scope) = context.event_scope(event) {
                for span in scope {
                    if let Some(SpanFields(text)) = span.extensions().get::<SpanFields>() {
                        line.push_str(text);
                    }
                }
            }
            line.push_str(if self.format == LogFormat::Json { "}\n" } else { "\n" });
            OUT.push(line.as_bytes());
        });
    }
}

/// The ids of the request this line belongs to.
fn push_ids(line: &mut String, format: LogFormat, has_service: bool) {
    if let Ok(scope) = trace::SCOPE.try_with(|scope| *scope)
        && !has_service
    {
        push_text(line, format, "service", scope.service);
    }
    crate::http::REQUEST_ID
        .try_with(|id| push_text(line, format, "request_id", id))
        .ok();
    let context = trace::exported_context().or_else(TraceContext::current);
    if format == LogFormat::Json
        && let Some(TraceContext { trace, span, .. }) = context
    {
        let _ = write!(line, ",\"trace_id\":\"{trace:032x}\",\"span_id\":\"{span:016x}\"");
    }
}

/// Collects the fields of an event or span.
struct Fields {
    format: LogFormat,
    message: String,
    text: String,
    has_service: bool,
}

impl Fields {
    fn new(format: LogFormat) -> Self {
        Self {
            format,
            message: String::new(),
            text: String::new(),
            has_service: false,
        }
    }

    fn plain(&mut self, field: &Field, value: impl std::fmt::Display) {
        let _ = match self.format {
            LogFormat::Json => write!(self.text, ",\"{}\":{value}", field.name()),
            LogFormat::Text => write!(self.text, " {}={value}", field.name()),
        };
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            // what the bridge from the `log` crate adds: places in the source of others
            name if name.starts_with("log.") => {}
            name => {
                self.has_service |= name == "service";
                push_text(&mut self.text, self.format, name, value);
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
            return;
        }
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if !field.name().starts_with("log.") {
            self.plain(field, value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.plain(field, value);
        } else {
            self.record_str(field, &value.to_string());
        }
    }
}

/// One field of text.
fn push_text(line: &mut String, format: LogFormat, name: &str, value: &str) {
    if format == LogFormat::Text {
        let quoted = value.contains(|c: char| c.is_whitespace() || c == '"');
        let _ = if quoted {
            write!(line, " {name}={value:?}")
        } else {
            write!(line, " {name}={value}")
        };
        return;
    }
    line.push_str(",\"");
    line.push_str(name);
    line.push_str("\":\"");
    push_escaped(line, value);
    line.push('"');
}

/// The inside of a JSON string.
fn push_escaped(line: &mut String, value: &str) {
    let mut plain_from = 0;
    for (at, byte) in value.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        line.push_str(value.get(plain_from..at).unwrap_or_default());
        let _ = match byte {
            b'"' => line.write_str("\\\""),
            b'\\' => line.write_str("\\\\"),
            b'\n' => line.write_str("\\n"),
            b'\r' => line.write_str("\\r"),
            b'\t' => line.write_str("\\t"),
            other => write!(line, "\\u{other:04x}"),
        };
        plain_from = at + 1;
    }
    line.push_str(value.get(plain_from..).unwrap_or_default());
}

/// What waits to be written is lost beyond this, rather than the memory.
const MOST_WAITING: usize = 8 * 1024 * 1024;
/// Lines of this time are written together.
const BATCH: Duration = Duration::from_millis(3);

static OUT: LazyLock<Out> = LazyLock::new(Out::start);

/// Standard output behind a buffer.
struct Out {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    /// Held while writing, so that batches keep their order.
    writing: Mutex<()>,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    lost: u64,
}

impl Out {
    fn start() -> Self {
        // without a thread lines wait for a flush, which is better than not starting
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(|| OUT.write_for_ever())
            .ok();
        Self {
            waiting: Mutex::default(),
            filled: Condvar::new(),
            writing: Mutex::default(),
        }
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.bytes.len() + line.len() > MOST_WAITING {
            waiting.lost += 1;
            return;
        }
        let was_empty = waiting.bytes.is_empty();
        waiting.bytes.extend_from_slice(line);
        drop(waiting);
        if was_empty {
            self.filled.notify_one();
        }
    }

    fn write_for_ever(&self) {
        loop {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = self.filled.wait_while(waiting, |waiting| waiting.bytes.is_empty());
            drop(waiting.unwrap_or_else(PoisonError::into_inner));
            std::thread::sleep(BATCH);
            self.write();
        }
    }

    fn write(&self) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Waiting { mut bytes, lost } =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if lost > 0 {
            let _ = writeln!(
                bytes,
                "{{\"level\":\"warn\",\"msg\":\"log lines lost\",\"lost\":{lost}}}"
            );
        }
        let mut stdout = std::io::stdout().lock();
        // nobody is left to be told that the log cannot be written
        let _ = stdout.write_all(&bytes).and_then(|()| stdout.flush());
    }
}

/// Writes what waits.
pub(super) fn flush() {
    OUT.write();
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Runs `work` with a subscriber of its own and gives the lines; the buffer is shared, so lines carry a mark.
    fn lines(format: LogFormat, mark: &str, work: impl FnOnce()) -> Vec<String> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let _not_written = OUT.writing.lock().unwrap();
        let subscriber = tracing_subscriber::registry().with(Lines::new("core-pod", "test", format));
        let scope = devkit::log::scoped(subscriber);
        work();
        drop(scope);
        let mut waiting = OUT.waiting.lock().unwrap();
        let text = String::from_utf8(std::mem::take(&mut waiting.bytes)).unwrap();
        text.lines()
            .filter(|line| line.contains(mark))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn a_line_is_one_json_object_with_the_ids_of_its_request() {
        let scope = trace::Scope {
            context: TraceContext::root(),
            service: "auth-service",
        };
        let found = lines(LogFormat::Json, "first-mark", || {
            let work = || {
                let span = tracing::info_span!("auth.session.find", session = 7);
                let _inside = span.enter();
                tracing::info!(
                    note = "a \"quoted\"\nline\u{1}",
                    ratio = f64::NAN,
                    ok = true,
                    "first-mark"
                );
            };
            crate::http::REQUEST_ID.sync_scope("abc".to_owned(), || trace::SCOPE.sync_scope(scope, work));
        });
        let [line] = found.as_slice() else { panic!("{found:?}") };
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["level"], "info");
        assert_eq!(line["msg"], "first-mark");
        assert_eq!(line["note"], "a \"quoted\"\nline\u{1}");
        assert_eq!(line["ratio"], "NaN");
        assert_eq!((&line["session"], &line["ok"]), (&7.into(), &true.into()));
        assert_eq!(
            (&line["pod"], &line["service"]),
            (&"core-pod".into(), &"auth-service".into())
        );
        assert_eq!(line["request_id"], "abc");
        assert_eq!(line["trace_id"], format!("{:032x}", scope.context.trace));
        assert_eq!(line["span_id"].as_str().unwrap().len(), 16);
        assert!(line["ts"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn people_get_text() {
        let found = lines(LogFormat::Text, "second-mark", || {
            tracing::warn!(count = 3, name = "a b", "second-mark");
        });
        let [line] = found.as_slice() else { panic!("{found:?}") };
        assert!(
            line.contains("warn") && line.ends_with("second-mark count=3 name=\"a b\""),
            "{line}"
        );
    }
}
