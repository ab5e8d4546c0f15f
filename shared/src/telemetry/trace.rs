//! W3C trace context: which trace and which span a request belongs to, in and out of the process.
//!
//! contract: experience c.3 (`traceparent`), operations §6.12 (`trace_id`, `span_id` on every line). Works without a
//! collector; with one, the exported spans carry the same ids.

use std::{
    fmt,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::sources::{Entropy as _, SystemEntropy};

/// The header that carries the context.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header that carries the request's id.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    /// What the current request is part of.
    pub static SCOPE: Scope;
}

/// Which trace a request belongs to and which service works on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// The span.
    pub context: TraceContext,
    /// `auth-service`.
    pub service: &'static str,
}

/// One span of one trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace: one journey through all services.
    pub trace: u128,
    /// The span: our part of it.
    pub span: u64,
    /// The caller's span, 0 for none.
    pub parent: u64,
    /// Whether the caller records this trace.
    pub sampled: bool,
}

impl TraceContext {
    /// A new trace.
    pub fn root() -> Self {
        let (high, low) = unique();
        Self {
            trace: (u128::from(high) << 64) | u128::from(low),
            span: unique().0,
            parent: 0,
            sampled: true,
        }
    }

    /// A new span below the caller's, or a new trace if the caller sent nothing that can be read.
    pub fn continued(headers: &HeaderMap) -> Self {
        headers
            .get(TRACEPARENT)
            .and_then(|value| parse(value.as_bytes()))
            .unwrap_or_else(Self::root)
    }

    /// The context of the request this task works on.
    pub fn current() -> Option<Self> {
        SCOPE.try_with(|scope| scope.context).ok()
    }

    /// The header for a call that this span makes.
    pub fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.to_string()).ok()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace,
            self.span,
            u8::from(self.sampled)
        )
    }
}

/// Adds `traceparent` and `X-Request-Id` of the current request to a call to another service.
pub fn inject(headers: &mut HeaderMap) {
    if let Some(context) = exported_context().or_else(TraceContext::current)
        && let Some(value) = context.header()
    {
        headers.insert(TRACEPARENT, value);
    }
    if let Some(value) = crate::http::current_request_id().and_then(|id| HeaderValue::try_from(id).ok()) {
        headers.insert(X_REQUEST_ID, value);
    }
}

/// Puts our span between the caller's and that of the service a request is passed on to, if ours is exported; a request
/// of no trace begins one here.
pub(crate) fn pass_on(headers: &mut HeaderMap) {
    let context = exported_context().or_else(|| {
        let begins = !headers.contains_key(TRACEPARENT);
        begins.then(TraceContext::current).flatten()
    });
    if let Some(value) = context.and_then(|context| context.header()) {
        headers.insert(TRACEPARENT, value);
    }
}

/// Names the current exported span by the route that answered after all.
pub(crate) fn answered_by(method: &'static str, route: &'static str) {
    if super::is_exporting() {
        super::export::answered_by(&tracing::Span::current(), method, route);
    }
}

/// The ids of the current exported span, when traces are exported.
pub(crate) fn exported_context() -> Option<TraceContext> {
    if !super::is_exporting() {
        return None;
    }
    super::export::context_of(&tracing::Span::current())
}

/// The exported span of a request with the context it continues in; `None` when traces are not exported.
pub(crate) fn request_span(
    service: &'static str,
    method: &'static str,
    route: &str,
    given: TraceContext,
) -> Option<(tracing::Span, TraceContext)> {
    super::is_exporting().then(|| super::export::request_span(service, method, route, given))
}

/// `00-<trace>-<parent>-<flags>`; later versions may have more after the flags.
fn parse(value: &[u8]) -> Option<TraceContext> {
    let text = std::str::from_utf8(value).ok()?;
    let mut parts = text.splitn(5, '-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let rest_allowed = version != "00" || parts.next().is_none();
    let well_formed =
        version.len() == 2 && version != "ff" && trace.len() == 32 && parent.len() == 16 && flags.len() == 2;
    let hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !well_formed || !rest_allowed || ![version, trace, parent, flags].iter().all(|part| hex(part)) {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
    let parent = u64::from_str_radix(parent, 16).ok().filter(|id| *id != 0)?;
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    Some(TraceContext {
        trace,
        span: unique().0,
        parent,
        sampled,
    })
}

/// A new request id: 32 hexadecimal digits.
pub fn new_request_id() -> String {
    let (high, low) = unique();
    format!("{high:016x}{low:016x}")
}

/// Two numbers that were not given out before, by a counter scrambled with a random key of this process. Not secret, and
/// much cheaper than asking the operating system for each request.
fn unique() -> (u64, u64) {
    static KEY: LazyLock<[u64; 2]> = LazyLock::new(|| {
        let mut bytes = [0_u8; 16];
        SystemEntropy.fill(&mut bytes);
        let key = u128::from_ne_bytes(bytes);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
        [key as u64, (key >> 64) as u64]
    });
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let [first, second] = *KEY;
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    (scramble(first.wrapping_add(count)).max(1), scramble(second ^ count))
}

/// The finaliser of splitmix64: a bijection, so different counts give different numbers.
fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_caller_s_trace_is_continued_in_a_span_of_our_own() {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(EXAMPLE));
        let context = TraceContext::continued(&headers);
        assert_eq!(format!("{:032x}", context.trace), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.parent, 0x00f0_67aa_0ba9_02b7);
        assert!(context.sampled && context.span != context.parent);
        assert!(context.to_string().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
    }

    #[test]
    fn what_is_no_context_starts_a_new_trace() {
        for bad in [
            "",
            "00",
            "00-0-0-0",
            &EXAMPLE.to_uppercase(),
            &EXAMPLE.replace("4bf9", "zzzz"),
            &format!("{EXAMPLE}-x"),
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        assert_ne!(TraceContext::root().trace, TraceContext::root().trace);
    }

    #[tokio::test]
    async fn calls_to_others_carry_the_request_s_ids() {
        let context = TraceContext::root();
        let mut headers = HeaderMap::new();
        let scope = Scope {
            context,
            service: "auth-service",
        };
        let work = SCOPE.scope(scope, async { inject(&mut headers) });
        crate::http::REQUEST_ID.scope("abc".to_owned(), work).await;
        assert_eq!(headers[TRACEPARENT], context.to_string());
        assert_eq!(headers[X_REQUEST_ID], "abc");
    }
}
