//! Traces to a collector, over OTLP.

use opentelemetry::{
    Context, KeyValue,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _},
};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{
    Resource,
    trace::{Sampler, SdkTracer, SdkTracerProvider},
};
use tracing::{Span, Subscriber, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{Layer, registry::LookupSpan};

use super::{TelemetryConfig, trace::TraceContext};

/// The pipeline to the collector.
#[derive(Debug)]
pub(super) struct Exporter {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Exporter {
    /// A pipeline; a collector that is away is no reason not to start, its spans are dropped.
    pub(super) fn new(pod: &'static str, config: &TelemetryConfig, collector: &str) -> Option<Self> {
        let built = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(collector)
            .build();
        let Ok(exporter) = built else {
            // the subscriber does not exist yet
            eprintln!("OTEL_EXPORTER_OTLP_ENDPOINT is not usable: traces are not exported");
            return None;
        };
        let resource = Resource::builder()
            .with_service_name(pod)
            .with_attributes([
                KeyValue::new("service.version", super::VERSION),
                KeyValue::new("deployment.environment.name", config.environment),
            ])
            .build();
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(resource)
            .build();
        let tracer = provider.tracer(pod);
        Some(Self { provider, tracer })
    }

    pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        tracing_opentelemetry::layer()
            .with_tracer(self.tracer.clone())
            .with_filter(LevelFilter::INFO)
    }

    /// Sends what waits and stops.
    pub(super) fn shut_down(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(std::time::Duration::from_secs(2)) {
            tracing::warn!(error = error.to_string(), "spans were not exported");
        }
    }
}

/// The span of a request below the caller's, and the context it gives to others.
pub(super) fn request_span(
    service: &'static str,
    method: &'static str,
    route: &str,
    given: TraceContext,
) -> (Span, TraceContext) {
    let span = tracing::info_span!(
        "request",
        otel.kind = "server",
        otel.name = format!("{method} {route}"),
        http.request.method = method,
        http.route = route,
        service.name = service
    );
    if given.parent != 0 {
        let flags = if given.sampled {
            TraceFlags::SAMPLED
        } else {
            TraceFlags::default()
        };
        let parent = SpanContext::new(
            TraceId::from_bytes(given.trace.to_be_bytes()),
            SpanId::from_bytes(given.parent.to_be_bytes()),
            flags,
            true,
            TraceState::default(),
        );
        span.set_parent(Context::new().with_remote_span_context(parent)).ok();
    }
    let context = context_of(&span).map_or(given, |own| TraceContext {
        parent: given.parent,
        ..own
    });
    (span, context)
}

/// Gives a span that has begun another route.
pub(super) fn answered_by(span: &Span, method: &'static str, route: &'static str) {
    span.context().span().update_name(format!("{method} {route}"));
    span.set_attribute("http.route", route);
}

/// The ids of an exported span.
pub(super) fn context_of(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    let span = context.span();
    let ids = span.span_context();
    ids.is_valid().then(|| TraceContext {
        trace: u128::from_be_bytes(ids.trace_id().to_bytes()),
        span: u64::from_be_bytes(ids.span_id().to_bytes()),
        parent: 0,
        sampled: ids.is_sampled(),
    })
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn an_exported_span_continues_the_caller_s_trace_and_its_children_stay_in_it() {
        let provider = SdkTracerProvider::builder().build();
        let tracer = provider.tracer("core-pod");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        let _scope = devkit::log::scoped(tracing_subscriber::registry().with(layer));
        let given = TraceContext {
            parent: 7,
            ..TraceContext::root()
        };
        let (span, context) = request_span("auth-service", "GET", "/api/v1/users/{id}", given);
        assert_eq!((context.trace, context.parent), (given.trace, 7));
        assert_ne!(context.span, given.span);
        let child = span.in_scope(|| tracing::info_span!("auth.session.find"));
        let inner = context_of(&child).unwrap();
        assert_eq!(inner.trace, given.trace);
        assert_ne!(inner.span, context.span);
        let (_, root) = request_span("auth-service", "GET", "/", TraceContext::root());
        assert_ne!(root.trace, given.trace);
    }
}
