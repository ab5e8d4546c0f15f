//! The public listener: the gateway's own routes, its limits, what it hides, what it says of itself (core §1, §3, §6).

use std::collections::BTreeSet;

use axum::{Router, routing::any};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::net::TcpListener;

use crate::support::{OWN_ORIGIN, Reply, TestApp};

const LOOSE: (&str, &str) = ("RATE_LIMIT_MULTIPLIER", "1000");

async fn edge(pool: PgPool) -> TestApp {
    TestApp::start(pool).await.at_the_edge()
}

/// The edge in front of another pod that says what it was asked and with which headers.
async fn edge_with_neighbour(pool: PgPool, more: &[(&str, &str)]) -> TestApp {
    let tell = |method: Method, uri: http::Uri, headers: HeaderMap| async move {
        let names: Vec<String> = headers.keys().map(ToString::to_string).collect();
        axum::Json(json!({
            "asked": format!("{method} {uri}"),
            "headers": names,
            "forwardedFor": headers.get("x-forwarded-for").map(|value| value.to_str().unwrap().to_owned()),
        }))
    };
    let app = Router::new().fallback(any(tell));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let mut settings = vec![LOOSE];
    for name in [
        "VOYAGE_SERVICE_URL",
        "PAYMENT_SERVICE_URL",
        "AI_SERVICE_URL",
        "PANORAMA_SERVICE_URL",
    ] {
        settings.push((name, url.as_str()));
    }
    settings.extend(more);
    TestApp::with(pool, &settings).await.at_the_edge()
}

#[sqlx::test(migrations = false)]
async fn the_banner_has_exactly_its_keys(pool: PgPool) {
    let reply = edge(pool).await.get("/").send().await;
    assert_eq!(reply.status, 200);
    let banner = json!({ "message": "DreamScape API Gateway", "version": "1.0.0", "status": "running" });
    assert_eq!(reply.body, banner);
}

#[sqlx::test(migrations = false)]
async fn docs_are_a_list_for_programs_and_a_page_for_browsers(pool: PgPool) {
    let app = edge(pool).await;
    for accept in [
        "*/*",
        "application/json, text/plain, */*",
        "application/json, text/html",
    ] {
        let reply = app.get("/docs").header("accept", accept).send().await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.body["version"], "1.0.0");
        for key in ["title", "description"] {
            assert!(reply.body[key].is_string(), "{key}");
        }
        let endpoints = reply.body["endpoints"].as_object().unwrap();
        for prefix in [
            "/api/v1/auth",
            "/api/v1/flights",
            "/api/v1/payments",
            "/api/v1/vr/sessions",
            "/socket.io",
            "/uploads",
        ] {
            assert!(endpoints.contains_key(prefix), "{prefix}");
        }
    }
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let page = app.get("/docs/").header("accept", browser).send().await;
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert!(page.headers.get_all("vary").iter().any(|vary| vary == "accept"));
    let policy = page.headers["content-security-policy"].to_str().unwrap().to_owned();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert!(page.text.contains("/api/v1/cart/checkout") && page.text.contains("/api/v1/auth/login"));
    // the style that the policy allows is the one on the page
    let style = page
        .text
        .split_once("<style>")
        .unwrap()
        .1
        .split_once("</style>")
        .unwrap()
        .0;
    let digest = <sha2::Sha256 as sha2::Digest>::digest(style.as_bytes());
    let digest = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, digest);
    assert!(policy.contains(&digest), "{policy}");
    assert_eq!(app.get("/docs/reference").send().await.text, page.text);
}

#[sqlx::test(migrations = false)]
async fn one_document_describes_all_pods(pool: PgPool) {
    let app = edge(pool).await;
    let reply = app.get("/api/v1/openapi.json").send().await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body["openapi"], "3.1.0");
    let paths = reply.body["paths"].as_object().unwrap();
    for pod in ["core-pod", "business-pod", "experience-pod"] {
        let file = format!("{}/../docs/openapi/{pod}.json", env!("CARGO_MANIFEST_DIR"));
        let document: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            let for_services = item.to_string().contains("\"service\":[]") || path.ends_with("/service-token");
            assert!(paths.contains_key(path) || for_services, "{pod} {path}");
        }
    }
    assert_eq!(app.get("/docs/openapi.json").send().await.body, reply.body);
    let tag = reply.headers["etag"].to_str().unwrap();
    for known in [tag.to_owned(), format!("\"other\", W/{tag}"), "*".to_owned()] {
        let again = app
            .get("/api/v1/openapi.json")
            .header("if-none-match", &known)
            .send()
            .await;
        assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""), "{known}");
    }
}

#[sqlx::test(migrations = false)]
async fn the_list_below_api_names_paths_and_no_addresses(pool: PgPool) {
    let app = edge(pool).await;
    for path in ["/api", "/api/", "/api/api"] {
        let reply = app.get(path).send().await;
        assert_eq!(reply.status, 200, "{path}");
        for key in ["service", "version", "description", "timestamp"] {
            assert!(reply.body[key].is_string(), "{key}");
        }
        for key in ["health", "status", "metrics"] {
            assert!(reply.body["endpoints"][key].as_str().unwrap().starts_with('/'), "{key}");
        }
        assert!(reply.body["endpoints"]["api"].is_object());
    }
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_16_nothing_public_tells_of_addresses_or_memory(pool: PgPool) {
    let app = edge(pool).await;
    for path in [
        "/",
        "/docs",
        "/docs/reference",
        "/api",
        "/api/services",
        "/health",
        "/health/ready",
        "/health/live",
        "/api/health",
    ] {
        let reply = app.get(path).send().await;
        assert!(
            [200, 206, 503].contains(&reply.status.as_u16()),
            "{path}: {}",
            reply.status
        );
        let text = reply.text.to_lowercase();
        for leak in [
            "http://",
            "127.0.0.1",
            "localhost",
            "postgres://",
            "redis://",
            "\"memory\"",
            ":3003",
            "business-pod:",
        ] {
            assert!(!text.contains(leak), "{path} tells `{leak}`: {text}");
        }
    }
    for path in ["/status", "/metrics"] {
        app.get(path).send().await.refused(404, "NOT_FOUND");
    }
    let services = app.get("/api/services").send().await;
    let names: BTreeSet<&str> = services.body["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|service| {
            assert_eq!(service.as_object().unwrap().len(), 2, "a name and a status");
            service["name"].as_str().unwrap()
        })
        .collect();
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        ["auth-service", "user-service", "voyage-service"]
    );
}

#[sqlx::test(migrations = false)]
async fn health_is_that_of_the_pod_with_its_dependencies(pool: PgPool) {
    let app = edge(pool).await;
    let reply = app.get("/health").send().await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body["service"], "core-pod");
    assert!(reply.body["uptime"].is_u64() && reply.body["version"].is_string());
    let metadata = reply.body["metadata"].as_object().unwrap();
    assert_eq!(metadata.keys().collect::<Vec<_>>(), ["environment", "hostname", "pid"]);
    for check in reply.body["checks"].as_array().unwrap() {
        for key in ["name", "status", "type", "timestamp"] {
            assert!(check[key].is_string(), "{key}");
        }
        assert!(check["responseTime"].as_f64().unwrap() > 0.0);
    }
    let dependencies = reply.body["dependencies"].as_array().unwrap();
    let critical: Vec<(&str, bool)> = dependencies
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), one["critical"].as_bool().unwrap()))
        .collect();
    assert_eq!(
        critical,
        [
            ("auth-service", true),
            ("user-service", true),
            ("voyage-service", false)
        ]
    );
    for dependency in dependencies {
        assert!(dependency.get("url").is_none() && dependency["healthy"].is_boolean());
        assert!(dependency["responseTimeMs"].is_number());
    }
    let text = app.get("/health").header("accept", "text/plain").send().await;
    assert_eq!(text.text.trim(), "Core Pod Healthy");
    assert!(text.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    for path in ["/health/live", "/live", "/api/health/live"] {
        assert_eq!(app.get(path).send().await.body["alive"], true, "{path}");
    }
    for path in ["/health/ready", "/ready", "/api/health/ready"] {
        assert_eq!(app.get(path).send().await.body["ready"], true, "{path}");
    }
    assert_eq!(
        app.get("/api/v1/auth/health").send().await.body["service"],
        "auth-service"
    );
    assert_eq!(
        app.get("/api/v1/users/health").send().await.body["service"],
        "user-service"
    );
}

#[sqlx::test(migrations = false)]
async fn health_says_when_it_does_not_look(pool: PgPool) {
    let app = TestApp::with(pool, &[LOOSE, ("SKIP_DEPENDENCY_HEALTH_CHECKS", "true")])
        .await
        .at_the_edge();
    let reply = app.get("/health").send().await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body["checksSkipped"]),
        (200, &json!(true))
    );
    assert!(reply.body["reason"].is_string());
}

#[sqlx::test(migrations = false)]
async fn every_prefix_reaches_the_other_pod_under_its_own_name(pool: PgPool) {
    let app = edge_with_neighbour(pool, &[]).await;
    for (asked, arrived) in [
        (
            "/api/v1/flights/search?adults=1&x=a%20b",
            "/api/v1/flights/search?adults=1&x=a%20b",
        ),
        ("/api/flights/search", "/api/v1/flights/search"),
        ("/api/api/v1/cart/", "/api/v1/cart"),
        ("/api/v1/voyages/hotels", "/api/v1/voyage/hotels"),
        ("/api/v1/payments/config", "/api/v1/payment/config"),
        ("/api/payment/config", "/api/v1/payment/config"),
        ("/api/v1/accommodations/x", "/api/v1/accommodations/x"),
        ("/api/v1/health/voyage", "/api/v1/health/voyage"),
        ("/api/recommendations", "/api/v1/recommendations"),
        ("/api/v1/ai/health", "/api/v1/ai/health"),
        ("/api/ai/health/", "/api/v1/ai/health"),
        ("/api/context/x", "/api/v1/context/x"),
        ("/api/predictions/trip-purpose", "/api/v1/predictions/trip-purpose"),
        ("/api/search-history/recent", "/api/v1/search-history/recent"),
        ("/api/price-alerts", "/api/v1/price-alerts"),
        ("/api/vr/environments", "/api/v1/vr/environments"),
        ("/api/panorama/environments", "/api/v1/panorama/environments"),
    ] {
        let reply = app.get(asked).send().await;
        assert_eq!(reply.status, 200, "{asked}: {}", reply.text);
        assert_eq!(reply.body["asked"], format!("GET {arrived}"), "{asked}");
    }
    for nowhere in [
        "/api/v1/analytics",
        "/api/analytics/x",
        "/api/v1/unknown",
        "/api/v2/flights",
    ] {
        let reply = app.get(nowhere).send().await;
        reply.refused(404, "NOT_FOUND");
        assert_eq!(reply.body["error"], "Not Found");
        assert!(reply.body["message"].as_str().unwrap().contains(nowhere), "{nowhere}");
    }
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_20_the_client_is_known_behind_our_own_proxies_only(pool: PgPool) {
    let proxies = [("TRUSTED_PROXIES", "10.0.0.0/8")];
    let app = edge_with_neighbour(pool, &proxies).await;
    let ask = |peer, forwarded: &'static str| {
        let call = app.get("/api/v1/flights").at_address(peer);
        call.header("x-forwarded-for", forwarded).send()
    };
    let behind = ask([10, 1, 1, 1], "203.0.113.9, 10.2.2.2").await;
    assert_eq!(behind.body["forwardedFor"], "203.0.113.9");
    let lying = ask([198, 51, 100, 1], "203.0.113.9").await;
    assert_eq!(lying.body["forwardedFor"], "198.51.100.1");
}

#[sqlx::test(migrations = false)]
async fn limits_count_clients_and_not_the_proxy_in_front_of_them(pool: PgPool) {
    let settings = [("TRUSTED_PROXIES", "10.0.0.0/8"), ("RATE_LIMIT_GATEWAY_MAX", "3")];
    let app = TestApp::with(pool, &settings).await.at_the_edge();
    let ask = |client: &str| {
        let call = app.get("/docs").at_address([10, 1, 1, 1]);
        call.header("x-forwarded-for", client).send()
    };
    for _ in 0..3 {
        assert_eq!(ask("203.0.113.1").await.status, 200);
    }
    ask("203.0.113.1").await.refused(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(ask("203.0.113.2").await.status, 200, "another client of the same proxy");
}

#[sqlx::test(migrations = false)]
async fn a_token_that_is_obviously_no_good_asks_no_service(pool: PgPool) {
    let app = edge_with_neighbour(pool, &[]).await;
    let ada = app.register("ada@example.com").await;
    let always = [
        "/api/v1/voyage/flights/search",
        "/api/v1/bookings",
        "/api/v1/payment/history",
        "/api/v1/itineraries",
    ];
    for path in always {
        app.get(path)
            .bearer("nonsense")
            .send()
            .await
            .refused(401, "INVALID_TOKEN");
        let (head, _) = ada.token.rsplit_once('.').unwrap();
        let forged = format!("{head}.{}", "A".repeat(86));
        app.get(path).bearer(&forged).send().await.refused(401, "INVALID_TOKEN");
        assert_eq!(app.get(path).bearer(&ada.token).send().await.status, 200, "{path}");
        // the service says what it wants of somebody who shows nothing
        assert_eq!(app.get(path).send().await.status, 200, "{path}");
    }
    // public routes ignore a bad token here
    assert_eq!(
        app.get("/api/v1/flights/search").bearer("nonsense").send().await.status,
        200
    );
    assert_eq!(
        app.post("/api/v1/payment/webhook")
            .bearer("nonsense")
            .send()
            .await
            .status,
        200
    );
    app.advance(16 * 60);
    app.get(always[0])
        .bearer(&ada.token)
        .send()
        .await
        .refused(401, "TOKEN_EXPIRED");
    let with_cookie = app.get(always[0]).bearer(&ada.token).cookie("ds_session", &ada.session);
    assert_eq!(with_cookie.send().await.status, 200, "the service decides");
}

/// A service token as the business pod gets it.
async fn service_token(app: &TestApp) -> String {
    let secret = shared::auth::config::DEVELOPMENT_CLIENT_SECRET;
    let body = json!({ "clientId": "business-pod", "clientSecret": secret });
    let reply = app.post("/api/v1/auth/service-token").json(&body).send().await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let text = reply.body.to_string();
    let token = text.split("\"accessToken\":\"").nth(1).unwrap();
    token.split('"').next().unwrap().to_owned()
}

#[sqlx::test(migrations = false)]
async fn nothing_a_client_sends_makes_it_a_service(pool: PgPool) {
    let app = edge_with_neighbour(pool, &[]).await;
    let token = service_token(&app).await;
    let call = app.get("/api/v1/flights/search").bearer(&token);
    let reply = call
        .header("x-internal-service", "ai-service")
        .header("x-user-id", "7")
        .header("x-forwarded-host", "evil.example")
        .header("cookie", "ds_session=1")
        .send()
        .await;
    let names: BTreeSet<&str> = reply.body["headers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for gone in ["authorization", "x-internal-service", "x-user-id"] {
        assert!(!names.contains(gone), "{gone}");
    }
    for kept in [
        "cookie",
        "x-request-id",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-real-ip",
    ] {
        assert!(names.contains(kept), "{kept}: {names:?}");
    }
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_04_routes_for_services_are_not_there_for_anybody_else(pool: PgPool) {
    let app = edge_with_neighbour(pool, &[]).await;
    let ada = app.register("ada@example.com").await;
    for path in [
        "/api/v1/users/notifications/internal",
        "/api/users/notifications/internal/",
        "/api/v1/ai/users/7/preferences",
        "/api/v1/ai/users/preferences/batch",
        "/api/v1/users/7/ai-preferences",
        "/api/v1/auth/test/reset",
        "/api/v1/auth/test/cleanup",
        "/api/v1/payment/test/anything",
    ] {
        for method in [Method::GET, Method::POST] {
            app.call(method.clone(), path).send().await.refused(404, "NOT_FOUND");
            let posing = app
                .call(method.clone(), path)
                .bearer(&ada.token)
                .header("x-internal-service", "ai-service");
            posing.send().await.refused(404, "NOT_FOUND");
        }
    }
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_02_a_header_switches_no_limit_off(pool: PgPool) {
    let app = TestApp::with(pool, &[("RATE_LIMIT_GATEWAY_MAX", "4")])
        .await
        .at_the_edge();
    let ask = |header: &'static str, value: &'static str| app.get("/docs").header(header, value).send();
    for left in (0..4).rev() {
        let reply = ask("x-test-rate-limit", "true").await;
        assert_eq!(reply.status, 200);
        for (name, value) in [
            ("ratelimit-policy", "4;w=60"),
            ("ratelimit-limit", "4"),
            ("x-ratelimit-limit", "4"),
        ] {
            assert_eq!(reply.headers[name], value);
        }
        for name in ["ratelimit-remaining", "x-ratelimit-remaining"] {
            assert_eq!(reply.headers[name], left.to_string());
        }
        for name in ["ratelimit-reset", "x-ratelimit-reset"] {
            assert!(reply.headers[name].to_str().unwrap().parse::<u64>().unwrap() <= 60);
        }
    }
    for (header, value) in [
        ("x-test-rate-limit", "true"),
        ("x-test-rate-limit", "false"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-internal-service", "ai-service"),
    ] {
        let refused = ask(header, value).await;
        refused.refused(429, "RATE_LIMIT_EXCEEDED");
        assert!(refused.headers.contains_key("retry-after"));
        assert_eq!(refused.body["retryAfter"], "1 minute");
        assert_eq!(refused.headers["x-ratelimit-remaining"], "0");
    }
    for _ in 0..20 {
        assert_eq!(
            app.get("/health/live").send().await.status,
            200,
            "health is never limited"
        );
        assert_eq!(app.get("/api/v1/auth/health").send().await.status, 200);
    }
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_02_sign_ins_are_counted_without_any_header(pool: PgPool) {
    let app = TestApp::with(pool, &[]).await.at_the_edge();
    for _ in 0..5 {
        app.try_login("nobody@example.com", "Wr0ng-one!")
            .await
            .refused(401, "INVALID_CREDENTIALS");
    }
    app.try_login("nobody@example.com", "Wr0ng-one!")
        .await
        .refused(429, "RATE_LIMIT_EXCEEDED");
}

#[sqlx::test(migrations = false)]
async fn the_bucket_of_the_edge_is_for_floods(pool: PgPool) {
    let app = TestApp::with(pool, &[]).await.at_the_edge();
    let statuses = |replies: Vec<Reply>| {
        let refused = replies.iter().filter(|reply| reply.status == 429).count();
        (replies.len() - refused, refused)
    };
    // faster than 10 or 50 a second, whatever the machine: all at once
    let auth = futures_util::future::join_all((0..60).map(|_| app.get("/api/v1/auth/profile").send())).await;
    let (passed, refused) = statuses(auth);
    assert!((20..=40).contains(&passed) && refused >= 20, "auth: {passed} passed");
    let api = futures_util::future::join_all((0..300).map(|_| {
        app.get("/api/v1/users/notifications")
            .at_address([198, 51, 100, 9])
            .send()
    }))
    .await;
    let told = api.iter().find(|reply| reply.status == 429).unwrap();
    assert_eq!(told.headers["ratelimit-policy"], "50;w=1");
    let (passed, refused) = statuses(api);
    assert!((100..=250).contains(&passed) && refused > 0, "api: {passed} passed");
}

#[sqlx::test(migrations = false)]
async fn other_pods_are_not_counted_and_stripes_deliveries_neither(pool: PgPool) {
    let tight = [("RATE_LIMIT_GATEWAY_MAX", "2"), ("RATE_LIMIT_MULTIPLIER", "1")];
    let app = edge_with_neighbour(pool, &tight).await;
    let token = service_token(&app).await;
    for _ in 0..10 {
        let reply = app
            .post("/api/v1/auth/verify-token")
            .bearer(&token)
            .json(&json!({ "sid": "x" }))
            .send()
            .await;
        assert_ne!(reply.status, 429);
        assert_eq!(app.post("/api/v1/payment/webhook").send().await.status, 200);
    }
    // a token that only claims to be a service's is counted like everybody
    let (_, rest) = token.split_once('.').unwrap();
    let forged = format!("e30.{rest}");
    let mut last = 0;
    for _ in 0..4 {
        last = app
            .post("/api/v1/auth/verify-token")
            .bearer(&forged)
            .send()
            .await
            .status
            .as_u16();
    }
    assert_eq!(last, 429);
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_06_only_origins_of_the_list_may_read_with_credentials(pool: PgPool) {
    let app = edge_with_neighbour(pool, &[]).await;
    let paths = [
        "/",
        "/api/v1/auth/profile",
        "/api/v1/users/profile",
        "/api/v1/flights/search",
        "/api/v1/vr/sessions",
        "/unknown",
    ];
    for path in paths {
        let allowed = app.get(path).header("origin", OWN_ORIGIN).send().await;
        assert_eq!(allowed.headers["access-control-allow-origin"], OWN_ORIGIN, "{path}");
        assert_eq!(allowed.headers["access-control-allow-credentials"], "true", "{path}");
        assert_eq!(
            allowed.headers.get_all("access-control-allow-origin").iter().count(),
            1,
            "{path}"
        );
        assert!(
            allowed.headers.get_all("vary").iter().any(|vary| vary == "origin"),
            "{path}"
        );
        for origin in [
            "https://evil.example",
            "null",
            "http://localhost:5173.evil.example",
            "http://localhost:51730",
        ] {
            let unknown = app.get(path).header("origin", origin).send().await;
            let told: Vec<_> = unknown
                .headers
                .keys()
                .filter(|name| name.as_str().starts_with("access-control-"))
                .collect();
            assert!(told.is_empty(), "{path} for {origin}: {told:?}");
            assert_eq!(
                unknown.status,
                app.get(path).send().await.status,
                "{path}: not an error"
            );
        }
        let preflight = app.call(Method::OPTIONS, path).header("origin", OWN_ORIGIN);
        let preflight = preflight.header("access-control-request-method", "PUT").send().await;
        assert_eq!(
            (preflight.status.as_u16(), preflight.text.as_str()),
            (204, ""),
            "{path}"
        );
        assert_eq!(preflight.headers["access-control-max-age"], "600");
        assert_eq!(
            preflight.headers["access-control-allow-methods"],
            "GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS"
        );
        let asked_for = preflight.headers["access-control-allow-headers"].to_str().unwrap();
        for name in [
            "Content-Type",
            "Authorization",
            "X-Requested-With",
            "X-Request-Id",
            "Idempotency-Key",
            "X-Idempotency-Key",
            "x-api-key",
        ] {
            assert!(asked_for.contains(name), "{name}");
        }
    }
}

#[sqlx::test(migrations = false)]
async fn every_answer_of_the_listener_has_the_security_headers(pool: PgPool) {
    let app = edge(pool).await;
    let ada = app.register("ada@example.com").await;
    for path in [
        "/",
        "/health",
        "/api/v1/auth/profile",
        "/api/v1/users/profile",
        "/api/v1/flights",
        "/unknown",
    ] {
        let reply = app.get(path).bearer(&ada.token).send().await;
        for (name, value) in [
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("origin-agent-cluster", "?1"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("x-dns-prefetch-control", "off"),
            ("x-download-options", "noopen"),
            ("x-frame-options", "SAMEORIGIN"),
            ("x-permitted-cross-domain-policies", "none"),
            ("x-xss-protection", "0"),
        ] {
            assert_eq!(reply.headers[name], value, "{path}");
        }
        for absent in ["server", "x-powered-by", "strict-transport-security"] {
            assert!(!reply.headers.contains_key(absent), "{path}: {absent}");
        }
        assert!(reply.headers.contains_key("x-request-id"), "{path}");
    }
    for path in ["/api/v1/auth/profile", "/api/v1/users/profile"] {
        let reply = app.get(path).bearer(&ada.token).send().await;
        assert_eq!(reply.headers["cache-control"], "no-store", "{path}");
    }
    let tls = app
        .get("/")
        .at_address([127, 0, 0, 1])
        .header("x-forwarded-proto", "https")
        .send()
        .await;
    assert_eq!(
        tls.headers["strict-transport-security"],
        "max-age=31536000; includeSubDomains"
    );
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_14_uploads_run_nothing_whatever_they_are(pool: PgPool) {
    let app = edge(pool).await;
    for path in [
        "/uploads/avatars/absent.png",
        "/uploads/avatars/evil.svg",
        "/uploads/x/../y.html",
    ] {
        let reply = app.get(path).send().await;
        assert_eq!(
            reply.headers["content-security-policy"], "sandbox; default-src 'none'",
            "{path}"
        );
        assert_eq!(reply.headers["cross-origin-resource-policy"], "cross-origin", "{path}");
        assert_eq!(reply.headers["x-content-type-options"], "nosniff", "{path}");
    }
}
