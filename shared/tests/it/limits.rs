//! Rate limits: counted alike by all back ends, told in headers, never switched off by a request.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request, routing::get};
use http::StatusCode;
use http_body_util::BodyExt as _;
use proptest::prelude::{Strategy as _, any};
use shared::{
    http::{
        client_address::ClientAddress,
        limit::{LimitConfig, Limits, RateLimiter, Rule, Subject, layer},
    },
    redis::{Redis, RedisConfig},
};
use tower::ServiceExt as _;

use crate::redis::{BackEnds, fresh};

const HOUR: Duration = Duration::from_secs(3600);

fn limiter(redis: &Redis) -> RateLimiter {
    RateLimiter::new(redis.clone(), LimitConfig::default())
}

#[tokio::test]
async fn exactly_as_many_pass_as_the_rule_says_in_every_back_end() {
    let back_ends = BackEnds::start().await;
    for (name, redis) in &back_ends.each {
        let (limiter, subject) = (limiter(redis), fresh("subject"));
        let rule = Rule::new("test.exact", 20, HOUR);
        let attempts: Vec<_> = (0..60)
            .map(|_| {
                let (limiter, subject) = (limiter.clone(), subject.clone());
                tokio::spawn(async move { limiter.check(&rule, &subject).await.allowed })
            })
            .collect();
        let mut passed = 0;
        for attempt in attempts {
            passed += u32::from(attempt.await.unwrap());
        }
        assert_eq!(passed, 20, "{name}");
        assert!(
            limiter.check(&rule, &fresh("subject")).await.allowed,
            "{name}: another subject has its own bucket"
        );

        let refused = limiter.check(&rule, &subject).await;
        assert_eq!((refused.remaining, refused.limit), (0, 20), "{name}");
        assert!(
            refused.retry_after > Duration::from_secs(100) && refused.retry_after <= Duration::from_secs(180),
            "{name}"
        );
    }
}

#[tokio::test]
async fn failures_alone_can_be_counted_in_every_back_end() {
    let back_ends = BackEnds::start().await;
    for (name, redis) in &back_ends.each {
        let (limiter, subject) = (limiter(redis), fresh("subject"));
        let rule = Rule::new("test.failures", 3, HOUR);
        for expected in [3, 3] {
            let peeked = limiter.peek(&rule, &subject).await;
            assert_eq!((peeked.allowed, peeked.remaining), (true, expected), "{name}");
        }
        for _ in 0..5 {
            limiter.count(&rule, &subject).await;
        }
        assert!(!limiter.peek(&rule, &subject).await.allowed, "{name}");
        let refunded = limiter.refund(&rule, &subject).await;
        assert_eq!(
            refunded.remaining, 1,
            "{name}: counting more than the bucket holds does not dig deeper"
        );
        limiter.clear(&rule, &subject).await;
        assert_eq!(limiter.peek(&rule, &subject).await.remaining, 3, "{name}");
    }
}

#[tokio::test]
async fn the_lua_and_the_rust_of_the_bucket_agree() {
    let back_ends = BackEnds::start().await;
    let steps = proptest::collection::vec((0..4_u8, any::<bool>()), 1..40);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..20 {
        let steps = steps
            .new_tree(&mut runner)
            .map(|tree| proptest::strategy::ValueTree::current(&tree))
            .unwrap();
        let subject = fresh("subject");
        let mut outcomes = Vec::new();
        for (_, redis) in &back_ends.each {
            outcomes.push(outcomes_of(&limiter(redis), &subject, &steps).await);
        }
        assert!(
            outcomes.iter().all(|outcome| *outcome == outcomes[0]),
            "{steps:?}: {outcomes:?}"
        );
    }
}

/// What a run of steps over two rules gives; the windows are so long that the time between steps does not matter.
async fn outcomes_of(limiter: &RateLimiter, subject: &str, steps: &[(u8, bool)]) -> Vec<(bool, u32)> {
    let plain = Rule::new("test.plain", 5, HOUR * 1000);
    let bursty = Rule::new("test.bursty", 50, HOUR * 1000).with_burst(4);
    let mut outcomes = Vec::new();
    for (step, which) in steps {
        let rule = if *which { &plain } else { &bursty };
        let decision = match step {
            0 => limiter.peek(rule, subject).await,
            1 => limiter.check(rule, subject).await,
            2 => limiter.count(rule, subject).await,
            _ => limiter.refund(rule, subject).await,
        };
        outcomes.push((decision.allowed, decision.remaining));
    }
    outcomes
}

#[tokio::test]
async fn what_a_busy_subject_took_ahead_goes_back_in_every_back_end() {
    let back_ends = BackEnds::start().await;
    for (name, redis) in &back_ends.each {
        let (limiter, subject) = (limiter(redis), fresh("subject"));
        let rule = Rule::new("test.ahead", 1_000, HOUR * 1000);
        let started = std::time::Instant::now();
        for _ in 0..40 {
            assert!(limiter.check(&rule, &subject).await.allowed, "{name}");
        }
        let shared = RateLimiter::new(redis.clone(), LimitConfig::default());
        let remaining = shared.peek(&rule, &subject).await.remaining;
        // on a machine that is slow enough a lease may just have run out
        if started.elapsed() < Duration::from_millis(500) {
            assert!(remaining < 960, "{name}: some are taken ahead");
        }
        limiter.refund(&rule, &subject).await;
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert!(limiter.check(&rule, &subject).await.allowed, "{name}");
        assert_eq!(
            shared.peek(&rule, &subject).await.remaining,
            960,
            "{name}: forty-one have passed and one of them does not count"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_bucket_has_filled_by_itself_is_not_given_back_once_more() {
    let redis = Redis::memory();
    let (idle, busy) = (limiter(&redis), limiter(&redis));
    let rule = Rule::new("test.once", 600, Duration::from_secs(600));
    for _ in 0..40 {
        assert!(idle.check(&rule, "x").await.allowed);
    }
    assert!(busy.peek(&rule, "x").await.remaining < 560, "some are taken ahead");
    tokio::time::advance(Duration::from_secs(120)).await;
    assert_eq!(busy.peek(&rule, "x").await.remaining, 600);
    let mut passed = 0;
    while busy.check(&rule, "x").await.allowed {
        passed += 1;
    }
    assert_eq!(passed, 600);
    assert!(!idle.check(&rule, "x").await.allowed);
}

#[tokio::test(start_paused = true)]
async fn a_bucket_fills_again_with_time() {
    let limiter = limiter(&Redis::memory());
    let rule = Rule::new("test.refill", 60, Duration::from_secs(60)).with_burst(2);
    assert!(limiter.check(&rule, "x").await.allowed && limiter.check(&rule, "x").await.allowed);
    assert!(!limiter.check(&rule, "x").await.allowed);
    tokio::time::advance(Duration::from_millis(1001)).await;
    assert!(limiter.check(&rule, "x").await.allowed, "one a second in the long run");
    assert!(!limiter.check(&rule, "x").await.allowed);
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(limiter.peek(&rule, "x").await.remaining, 2, "never more than the burst");
}

#[tokio::test]
async fn the_multiplier_raises_maximum_and_burst() {
    let limiter = RateLimiter::new(Redis::memory(), LimitConfig { multiplier: 10.0 });
    let rule = Rule::new("test.multiplied", 5, HOUR).with_burst(2);
    let decision = limiter.check(&rule, "x").await;
    assert_eq!((decision.limit, decision.remaining), (50, 19));
}

#[tokio::test]
async fn without_redis_the_process_counts_by_itself() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let redis = Redis::connect(&RedisConfig::single(format!("redis://127.0.0.1:{port}"))).unwrap();
    let limiter = limiter(&redis);
    let rule = Rule::new("test.away", 3, HOUR);
    let mut allowed = Vec::new();
    for _ in 0..5 {
        allowed.push(limiter.check(&rule, "x").await.allowed);
    }
    assert_eq!(allowed, [true, true, true, false, false]);
}

fn app(limits: impl Into<Limits>, subject: Subject) -> Router {
    let routes = Router::new().route("/", get(|| async { "read" }).post(|| async { "written" }));
    routes.layer(layer(limiter(&Redis::memory()), limits, subject))
}

async fn send(app: &Router, method: &str, address: &str, marker: Option<&str>) -> http::Response<Body> {
    let mut request = Request::builder().method(method).uri("/").body(Body::empty()).unwrap();
    request
        .extensions_mut()
        .insert(ClientAddress(address.parse::<IpAddr>().unwrap()));
    if let Some(marker) = marker {
        request
            .headers_mut()
            .insert("x-test-rate-limit", marker.parse().unwrap());
    }
    app.clone().oneshot(request).await.unwrap()
}

#[tokio::test]
async fn the_layer_tells_its_limits_and_refuses_in_the_shape_of_the_contract() {
    let app = app(Rule::new("test.layer", 2, Duration::from_secs(900)), Subject::Address);
    let first = send(&app, "GET", "192.0.2.1", None).await;
    let told = |response: &http::Response<Body>, name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(told(&first, "ratelimit-policy"), "2;w=900");
    assert_eq!(told(&first, "ratelimit-limit"), "2");
    assert_eq!(told(&first, "ratelimit-remaining"), "1");
    assert_eq!(told(&first, "ratelimit-reset"), "450");
    send(&app, "GET", "192.0.2.1", None).await;

    for marker in [None, Some("true"), Some("false")] {
        let refused = send(&app, "GET", "192.0.2.1", marker).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(told(&refused, "ratelimit-remaining"), "0");
        let wait: u64 = told(&refused, "retry-after").parse().unwrap();
        assert!((440..=450).contains(&wait), "{wait}");
        let body = refused.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (body["code"].as_str(), body["retryAfter"].as_str()),
            (Some("RATE_LIMIT_EXCEEDED"), Some("15 minutes"))
        );
    }
    assert_eq!(send(&app, "GET", "192.0.2.2", None).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn an_ipv6_network_has_one_bucket_and_reads_are_apart_from_writes() {
    let limits = Limits {
        reads: Rule::new("test.reads", 1, HOUR),
        writes: Rule::new("test.writes", 1, HOUR),
    };
    let app = app(limits, Subject::Address);
    assert_eq!(
        send(&app, "GET", "2001:db8:1:1::1", None).await.status(),
        StatusCode::OK
    );
    assert_eq!(
        send(&app, "GET", "2001:db8:1:1:ffff::2", None).await.status(),
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(
        send(&app, "GET", "2001:db8:1:2::1", None).await.status(),
        StatusCode::OK
    );
    assert_eq!(
        send(&app, "POST", "2001:db8:1:1::1", None).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_request_that_the_subject_leaves_out_is_not_counted() {
    let app = app(Rule::new("test.exempt", 1, HOUR), Subject::Of(Arc::new(|_, _| None)));
    for _ in 0..3 {
        let response = send(&app, "GET", "192.0.2.1", None).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key("ratelimit-limit"));
    }
}
