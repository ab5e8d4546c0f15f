//! The kit through `oneshot`.

use axum::{
    Json, Router,
    extract::Request,
    response::Response,
    routing::{get, post},
};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::{
    http::{Body, ClientAddress},
    redis::Redis,
};

fn config() -> HttpConfig {
    HttpConfig {
        timeout: Duration::from_millis(200),
        ..HttpConfig::default()
    }
}

fn router() -> Router {
    Router::new()
        .route("/api/v1/users/{id}", get(|Path(id): Path<String>| async move { id }))
        .route(
            "/api/v1/cart",
            post(|Body(body): Body<Value>| async move { Json(body) }),
        )
        .route(
            "/api/v1/auth/raw",
            post(|body: bytes::Bytes| async move { body.len().to_string() }),
        )
        .route(
            "/address",
            get(|address: ClientAddress| async move { address.to_string() }),
        )
        .route(
            "/panic",
            get(|| async {
                assert!(false_from_a_bug(), "a bug");
            }),
        )
        .route("/slow", get(std::future::pending::<()>))
        .route("/large", get(|| async { Json(vec!["dreamscape"; 500]) }))
        .route(
            "/own",
            get(|| async {
                (
                    [("content-security-policy", "sandbox"), ("cache-control", "max-age=9")],
                    "x",
                )
            }),
        )
}

use axum::extract::Path;

fn false_from_a_bug() -> bool {
    std::hint::black_box(false)
}

async fn call(router: Router, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = axum::body::Body::from(body.to_owned());
    router.oneshot(request.body(body).unwrap()).await.unwrap()
}

async fn ask(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    call(
        Kit::new("test-service", &config(), None).wrap(router()),
        method,
        path,
        headers,
        body,
    )
    .await
}

async fn text(response: Response) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Checks the shape of an error and gives its body.
async fn error(response: Response, status: u16, code: &str) -> Value {
    assert_eq!(response.status(), status);
    let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
    let body: Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(
        (&body["success"], &body["code"]),
        (&json!(false), &json!(code)),
        "{body}"
    );
    assert!(
        body["error"].is_string() && body["message"].is_string() && body["timestamp"].is_string(),
        "{body}"
    );
    assert_eq!(body["requestId"], id);
    body
}

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_404_in_the_contract_s_shape() {
    let body = error(ask("GET", "/api/unknown?token=x", &[], "").await, 404, "NOT_FOUND").await;
    assert_eq!(
        (&body["path"], &body["message"]),
        (&json!("/api/unknown"), &json!("Route /api/unknown not found"))
    );
    assert_eq!(body["error"], "Not Found");
    error(ask("DELETE", "/api/v1/cart", &[], "").await, 404, "NOT_FOUND").await;
    error(ask("GET", "/api/v1/cart", &[], "").await, 404, "NOT_FOUND").await;
}

#[tokio::test]
async fn other_spellings_reach_the_route_with_method_and_body() {
    for path in ["/api/v1/cart", "/api/v1/cart/", "/api/cart", "/api/api/v1/cart/"] {
        let response = ask("POST", path, &[], "{\"a\":1}").await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(text(response).await, "{\"a\":1}");
    }
    let body = error(ask("GET", "/api/cart/", &[], "").await, 404, "NOT_FOUND").await;
    assert_eq!(body["path"], "/api/cart/", "the client's own spelling is named");
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let response = ask("HEAD", "/api/users/7/", &[], "").await;
    assert_eq!(response.status(), 200);
    assert_eq!(text(response).await, "");
}

#[tokio::test]
async fn a_panic_and_a_slow_handler_are_errors_in_the_contract_s_shape() {
    let body = error(ask("GET", "/panic", &[], "").await, 500, "INTERNAL").await;
    assert!(!body.to_string().contains("bug"));
    let response = ask("GET", "/slow", &[], "").await;
    assert!(response.headers().contains_key("retry-after"));
    error(response, 503, "REQUEST_TIMEOUT").await;
}

#[tokio::test]
async fn bodies_are_refused_in_the_contract_s_shape() {
    error(ask("POST", "/api/cart", &[], "{\"a\":").await, 400, "INVALID_JSON").await;
    error(ask("POST", "/api/cart", &[], "3").await, 400, "INVALID_JSON").await;
    let large = "x".repeat(1_048_577);
    error(ask("POST", "/api/cart", &[], &large).await, 413, "PAYLOAD_TOO_LARGE").await;
    error(
        ask("POST", "/api/v1/auth/raw", &[], &large).await,
        413,
        "PAYLOAD_TOO_LARGE",
    )
    .await;
    let small = Kit::new("test-service", &config(), None)
        .with_body_limit(10)
        .wrap(router());
    error(
        call(small, "POST", "/api/cart", &[], "[1,2,3,4,5,6,7]").await,
        413,
        "PAYLOAD_TOO_LARGE",
    )
    .await;
    assert_eq!(
        ask("POST", "/api/cart", &[], "").await.status(),
        200,
        "nothing is the empty object"
    );
}

#[tokio::test]
async fn a_route_may_raise_the_limit_of_its_body() {
    use axum::extract::DefaultBodyLimit;
    let route =
        post(|body: bytes::Bytes| async move { body.len().to_string() }).layer(DefaultBodyLimit::max(2_000_000));
    let app = Kit::new("test-service", &config(), None).wrap(Router::new().route("/upload", route));
    assert_eq!(
        text(call(app, "POST", "/upload", &[], &"x".repeat(1_500_000)).await).await,
        "1500000"
    );
}

#[tokio::test]
async fn request_ids_are_taken_when_plain_and_made_otherwise() {
    let given = ask("GET", "/address", &[("x-request-id", "abc-1._Z")], "").await;
    assert_eq!(given.headers()["x-request-id"], "abc-1._Z");
    for bad in ["", "a b", "<script>", &"x".repeat(65)] {
        let made = ask("GET", "/address", &[("x-request-id", bad)], "").await;
        assert_eq!(made.headers()["x-request-id"].len(), 32, "{bad}");
    }
}

#[tokio::test]
async fn every_answer_has_the_security_headers() {
    for path in ["/address", "/unknown", "/panic", "/slow"] {
        let response = ask("GET", path, &[("x-forwarded-proto", "http")], "").await;
        let headers = response.headers();
        assert_eq!(
            headers["content-security-policy"], "default-src 'none'; frame-ancestors 'none'",
            "{path}"
        );
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "SAMEORIGIN"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("origin-agent-cluster", "?1"),
            ("x-xss-protection", "0"),
        ] {
            assert_eq!(headers[name], value, "{path}");
        }
        assert!(
            !headers.contains_key("strict-transport-security") && !headers.contains_key("server"),
            "{path}"
        );
    }
    let own = ask("GET", "/own", &[], "").await;
    assert_eq!(own.headers()["content-security-policy"], "sandbox");
}

#[tokio::test]
async fn only_tls_in_front_of_us_brings_hsts() {
    let secure = ask("GET", "/address", &[("x-forwarded-proto", "https")], "").await;
    assert_eq!(
        secure.headers()["strict-transport-security"],
        "max-age=31536000; includeSubDomains"
    );
    let strangers = HttpConfig {
        trusted_proxies: TrustedProxies::default(),
        ..config()
    };
    let app = Kit::new("test-service", &strangers, None).wrap(router());
    let response = call(app, "GET", "/address", &[("x-forwarded-proto", "https")], "").await;
    assert!(!response.headers().contains_key("strict-transport-security"));
}

#[tokio::test]
async fn an_allowed_origin_may_read_the_answer_and_an_unknown_one_may_not() {
    let allowed = ask("GET", "/unknown", &[("origin", "http://localhost:5173")], "").await;
    assert_eq!(
        allowed.headers()["access-control-allow-origin"],
        "http://localhost:5173"
    );
    assert_eq!(allowed.headers()["access-control-allow-credentials"], "true");
    assert!(
        allowed.headers()["access-control-expose-headers"]
            .to_str()
            .unwrap()
            .contains("Retry-After")
    );
    assert_eq!(allowed.headers()["vary"], "origin");
    for origin in ["http://evil.example", "http://localhost:5173.evil.example", "null"] {
        let unknown = ask("GET", "/address", &[("origin", origin)], "").await;
        assert_eq!(unknown.status(), 200);
        assert!(
            !unknown
                .headers()
                .keys()
                .any(|name| name.as_str().starts_with("access-control-")),
            "{origin}"
        );
    }
}

#[tokio::test]
async fn a_preflight_is_204_on_every_path() {
    let asks = [
        ("origin", "http://localhost:5173"),
        ("access-control-request-method", "PUT"),
    ];
    for path in ["/api/cart", "/unknown"] {
        let response = ask("OPTIONS", path, &asks, "").await;
        assert_eq!(response.status(), 204);
        assert_eq!(
            response.headers()["access-control-allow-methods"],
            "GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS"
        );
        assert_eq!(response.headers()["access-control-max-age"], "600");
        assert_eq!(text(response).await, "");
    }
    let unknown = ask("OPTIONS", "/api/cart", &[("origin", "http://evil.example")], "").await;
    assert_eq!(unknown.status(), 204);
    assert!(
        !unknown
            .headers()
            .keys()
            .any(|name| name.as_str().starts_with("access-control-"))
    );
}

#[tokio::test]
async fn large_answers_are_compressed_unless_they_hold_secrets() {
    for (accept, encoding) in [("gzip, br", "br"), ("gzip", "gzip")] {
        let response = ask("GET", "/large", &[("accept-encoding", accept)], "").await;
        assert_eq!(response.headers()["content-encoding"], encoding);
        let vary: Vec<_> = response.headers().get_all("vary").iter().collect();
        assert!(
            vary.iter()
                .any(|value| value.to_str().unwrap().eq_ignore_ascii_case("accept-encoding")),
            "{vary:?}"
        );
    }
    for (path, accept) in [("/address", "gzip"), ("/large", "identity")] {
        assert!(
            !ask("GET", path, &[("accept-encoding", accept)], "")
                .await
                .headers()
                .contains_key("content-encoding")
        );
    }
    let secret = Kit::new("auth-service", &config(), None)
        .uncompressed()
        .no_store()
        .wrap(router());
    let response = call(secret.clone(), "GET", "/large", &[("accept-encoding", "gzip")], "").await;
    assert!(!response.headers().contains_key("content-encoding"));
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(
        call(secret, "GET", "/own", &[], "").await.headers()["cache-control"],
        "max-age=9"
    );
}

#[tokio::test]
async fn more_requests_than_allowed_are_refused_but_not_health() {
    let busy = HttpConfig {
        max_in_flight: 1,
        ..config()
    };
    let health = get(|| async { "well" });
    let app = Kit::new("test-service", &busy, None).wrap(router().route("/health", health));
    let mut stuck = Box::pin(call(app.clone(), "GET", "/slow", &[], ""));
    assert!(futures_util::poll!(&mut stuck).is_pending());
    let refused = call(app.clone(), "GET", "/address", &[], "").await;
    assert_eq!(refused.headers()["retry-after"], "1");
    error(refused, 503, "OVERLOADED").await;
    assert_eq!(call(app.clone(), "GET", "/health", &[], "").await.status(), 200);
    drop(stuck);
    assert_eq!(
        call(app, "GET", "/address", &[], "").await.status(),
        200,
        "a client that hung up frees its place"
    );
}

#[tokio::test]
async fn a_listener_with_a_limiter_counts_each_address_and_spares_health() {
    use crate::http::limit::{LimitConfig, ListenerLimit, RateLimiter, Rule, Subject};
    let limiter = RateLimiter::new(Redis::memory(), LimitConfig::default());
    let rule = Rule::new("edge", 2, Duration::from_mins(1));
    let limit = ListenerLimit::new(limiter, rule, Subject::Address).with_legacy_headers();
    let kit = Kit::new("gateway", &config(), Some(Arc::new(limit)));
    let app = kit.wrap(router().route("/health", get(|| async { "well" })));
    let from = |address| [("x-forwarded-for", address), ("x-test-rate-limit", "true")];
    for left in ["1", "0"] {
        let passed = call(app.clone(), "GET", "/address", &from("203.0.113.7"), "").await;
        assert_eq!(passed.headers()["ratelimit-remaining"], left);
        assert_eq!(passed.headers()["x-ratelimit-limit"], "2");
    }
    let refused = call(app.clone(), "GET", "/address", &from("203.0.113.7"), "").await;
    assert!(refused.headers().contains_key("retry-after"));
    let body = error(refused, 429, "RATE_LIMIT_EXCEEDED").await;
    assert_eq!(body["retryAfter"], "1 minute");
    assert_eq!(
        call(app.clone(), "GET", "/health", &from("203.0.113.7"), "")
            .await
            .status(),
        200
    );
    assert_eq!(
        call(app, "GET", "/address", &from("203.0.113.8"), "").await.status(),
        200
    );
}

#[tokio::test]
async fn the_client_is_known_behind_a_trusted_proxy() {
    assert_eq!(
        text(ask("GET", "/address", &[("x-forwarded-for", "203.0.113.7")], "").await).await,
        "203.0.113.7"
    );
    assert_eq!(text(ask("GET", "/address", &[], "").await).await, "127.0.0.1");
}

#[tokio::test]
async fn services_with_rules_of_their_own_share_a_listener() {
    let config = config();
    let auth = Kit::new("auth-service", &config, None).no_store();
    let user = Kit::new("user-service", &config, None).with_timeout(Duration::from_secs(9));
    let gateway = Kit::new("gateway", &config, None);
    let routes = |path: &str| Router::new().route(path, get(|| async { "x" }));
    let merged = auth
        .routes(routes("/api/v1/auth/me"))
        .merge(user.routes(routes("/api/v1/users/me")));
    let app = gateway.front(merged);
    assert_eq!(
        call(app.clone(), "GET", "/api/auth/me/", &[], "").await.headers()["cache-control"],
        "no-store"
    );
    assert!(
        !call(app.clone(), "GET", "/api/users/me", &[], "")
            .await
            .headers()
            .contains_key("cache-control")
    );
    error(
        call(app.clone(), "PUT", "/api/users/me", &[], "").await,
        404,
        "NOT_FOUND",
    )
    .await;
    let nowhere = call(app, "GET", "/nowhere", &[("origin", "http://localhost:5173")], "").await;
    assert!(nowhere.headers().contains_key("access-control-allow-origin"));
    error(nowhere, 404, "NOT_FOUND").await;
}

#[tokio::test]
async fn requests_are_counted_by_template_and_never_by_path() {
    let metrics = crate::telemetry::Metrics::current();
    let app = Kit::new("counted-service", &config(), None).wrap(router());
    for id in ["1", "2", "secret-id"] {
        call(app.clone(), "GET", &format!("/api/v1/users/{id}"), &[], "").await;
    }
    call(app.clone(), "GET", "/wp-admin.php", &[], "").await;
    call(app, "BREW", "/api/v1/users/1", &[], "").await;
    let text = metrics.render();
    let line = |route: &str, method: &str, status: &str| {
        let labels = [
            format!("route=\"{route}\""),
            format!("method=\"{method}\""),
            format!("status=\"{status}\""),
        ];
        let mut lines = text.lines().filter(|line| line.starts_with("http_requests_total{"));
        let found =
            lines.find(|line| line.contains("counted-service") && labels.iter().all(|label| line.contains(label)));
        found
            .unwrap_or_else(|| panic!("{labels:?} is missing in\n{text}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    assert_eq!(line("/api/v1/users/{id}", "GET", "200"), "3");
    assert_eq!(line("unmatched", "GET", "404"), "1");
    assert_eq!(line("/api/v1/users/{id}", "OTHER", "404"), "1");
    assert!(!text.contains("secret-id") && !text.contains("wp-admin"));
}

#[test]
fn production_needs_an_explicit_list_of_origins() {
    let mut reader = Reader::from_pairs([("APP_ENV".to_owned(), "production".to_owned())]);
    let config = HttpConfig::read(&mut reader);
    assert!(reader.finish().unwrap_err().to_string().contains("CORS_ORIGIN"));
    assert!(config.secure_cookies && config.trusted_proxies == TrustedProxies::default());
}
