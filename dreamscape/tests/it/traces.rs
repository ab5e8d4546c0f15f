//! Traces of a request through the pods, received as a collector receives them, and the exemplars that lead to them
//! (operations §6.10, experience c.3).

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use serde_json::json;
use tonic::{Request, Response, Status};

use crate::process::{Site, eventually, free_port, ready};

/// A span with the pod that sent it.
type Received = (String, Span);

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Received>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut received = self.0.lock().unwrap();
        for resource in request.into_inner().resource_spans {
            let pod = text_of(&resource.resource.unwrap_or_default().attributes, "service.name");
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            received.extend(spans.map(|span| (pod.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    fn trace(&self, id: &str) -> Vec<Received> {
        let all = self.0.lock().unwrap();
        let spans = all.iter().filter(|(_, span)| hex::encode(&span.trace_id) == id);
        spans.cloned().collect()
    }
}

fn text_of(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == key);
    match value.and_then(|attribute| attribute.value.clone()?.value) {
        Some(Value::StringValue(text)) => text,
        _ => String::new(),
    }
}

#[tokio::test]
async fn a_request_is_one_trace_through_all_pods_and_a_scrape_names_it() {
    let collector = Collector::default();
    let port = free_port();
    let service = TraceServiceServer::new(collector.clone());
    let server = tonic::transport::Server::builder().add_service(service);
    let listening = tokio::spawn(server.serve(([127, 0, 0, 1], port).into()));

    let site = Site::new().with("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}"));
    let mut core = site.spawn("core-pod", &[]);
    let mut experience = site.spawn("experience-pod", &[]);
    ready(&site.address("GATEWAY_PORT"), &mut core).await;
    ready(&site.address("WEB_PORT"), &mut experience).await;

    // what the browser began goes on in the origin, in auth, and behind Kafka in the user service
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let answer = reqwest::Client::new()
        .post(format!("{}/api/v1/auth/register", site.address("WEB_PORT")))
        .header("traceparent", format!("00-{trace}-{parent}-01"))
        .json(&json!({ "email": "traced@example.com", "password": "Dream-scape-1!", "firstName": "T" }))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    eventually("the spans of all pods and of the event arrive", async || {
        let spans = collector.trace(trace);
        spans.iter().any(|(pod, _)| pod == "experience-pod")
            && spans
                .iter()
                .any(|(pod, span)| pod == "core-pod" && span.name == "POST /api/v1/auth/register")
            && spans
                .iter()
                .any(|(pod, span)| pod == "core-pod" && span.name == "consume")
    })
    .await;
    let spans = collector.trace(trace);
    let origin = spans.iter().find(|(pod, _)| pod == "experience-pod").unwrap();
    assert_eq!(hex::encode(&origin.1.parent_span_id), parent);
    assert_eq!(origin.1.name, "POST proxy:auth-service");
    let handler = spans
        .iter()
        .find(|(_, span)| span.name == "POST /api/v1/auth/register")
        .unwrap();
    assert_eq!(handler.1.parent_span_id, origin.1.span_id, "{spans:?}");
    for (_, span) in &spans {
        let said = format!("{span:?}");
        assert!(
            !said.contains("traced@example.com") && !said.contains("Dream-scape-1!"),
            "{said}"
        );
    }

    // Prometheus asks for OpenMetrics and finds the trace of the request
    let scrape = reqwest::Client::new()
        .get(format!("{}/metrics", site.address("CORE_METRICS_PORT")))
        .header(
            "accept",
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
        )
        .send()
        .await
        .unwrap();
    let kind = scrape.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(
        kind.starts_with("application/openmetrics-text; version=1.0.0"),
        "{kind}"
    );
    let text = scrape.text().await.unwrap();
    let bucket = text
        .lines()
        .find(|line| line.contains("/api/v1/auth/register") && line.contains(" # {"));
    let bucket = bucket.unwrap_or_else(|| panic!("no exemplar in\n{text}"));
    assert!(bucket.contains(&format!("# {{trace_id=\"{trace}\"}} ")), "{bucket}");
    assert!(text.ends_with("# EOF\n") && text.contains("# TYPE http_requests counter\n"));

    // a collector that goes away stops nobody
    listening.abort();
    let health = format!("{}/health", site.address("GATEWAY_PORT"));
    assert_eq!(reqwest::get(health).await.unwrap().status(), 200);
    assert!(core.stop().success());
}
