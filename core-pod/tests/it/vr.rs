//! PINs for headsets, links, QR codes (core §3.5, §1.10, §8; experience b.4).

use std::collections::BTreeSet;

use devkit::redis::{RedisCluster, RedisServer};
use serde_json::{Value, json};
use shared::redis::{Redis, RedisConfig};
use sqlx::PgPool;

use crate::support::{Reply, TestApp};

const SESSIONS: &str = "/api/v1/vr/sessions";
const LOOSE: [(&str, &str); 1] = [("RATE_LIMIT_MULTIPLIER", "1000")];

async fn create(app: &TestApp, destination: &str) -> Value {
    let reply = app
        .post(SESSIONS)
        .json(&json!({ "destination": destination }))
        .send()
        .await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    assert_eq!(reply.headers["cache-control"], "no-store");
    reply.body["data"].clone()
}

async fn redeem(app: &TestApp, pin: &str) -> Reply {
    app.get(&format!("{SESSIONS}/{pin}")).send().await
}

fn pin_of(made: &Value) -> String {
    made["pin"].as_str().unwrap().to_owned()
}

/// A PIN that nobody has.
fn other_than(pin: &str) -> String {
    if pin == "100000" {
        "100001".into()
    } else {
        "100000".into()
    }
}

#[sqlx::test(migrations = false)]
async fn a_pin_opens_its_destination_once(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let made = create(&app, "  New-York ").await;
    let pin = pin_of(&made);
    assert!(pin.len() == 6 && pin.parse::<u32>().unwrap() >= 100_000, "{made}");
    assert_eq!(made["destination"], "new-york");
    assert_eq!(made["expiresAt"], 1_800_000_600_000_i64);
    assert_eq!(
        made["redirectUrl"],
        format!("http://localhost:8080/panorama/?pin={pin}")
    );

    let opened = redeem(&app, &pin).await;
    assert_eq!(opened.status, 200);
    assert_eq!(opened.headers["cache-control"], "no-store");
    assert_eq!(
        opened.body,
        json!({ "success": true, "data": { "destination": "new-york", "autoVR": true } })
    );
    redeem(&app, &pin).await.refused(409, "PIN_USED");
    redeem(&app, &other_than(&pin)).await.refused(404, "PIN_NOT_FOUND");
}

#[sqlx::test(migrations = false)]
async fn forms_and_the_old_path_work_too(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let form = "application/x-www-form-urlencoded";
    let reply = app
        .post("/api/vr/sessions/")
        .raw(form, "destination=Paris")
        .send()
        .await;
    assert_eq!(
        (reply.status.as_u16(), &reply.body["data"]["destination"]),
        (201, &json!("paris"))
    );
    let pin = pin_of(&reply.body["data"]);
    assert_eq!(app.get(&format!("/api/vr/sessions/{pin}/")).send().await.status, 200);
    // a form can be sent by any page; with a cookie it must be one of ours
    let forged = app
        .post(SESSIONS)
        .raw(form, "destination=paris")
        .cookie("ds_session", "x");
    forged
        .header("origin", "https://evil.example")
        .send()
        .await
        .refused(403, "FORBIDDEN");
    let own = app
        .post(SESSIONS)
        .raw(form, "destination=paris")
        .cookie("ds_session", "x")
        .own_page();
    assert_eq!(own.send().await.status, 201);
}

#[sqlx::test(migrations = false)]
async fn what_is_no_destination_is_400_with_the_text_clients_know(pool: PgPool) {
    let app = TestApp::start(pool).await;
    for body in [
        json!({}),
        json!({ "destination": 7 }),
        json!({ "destination": null }),
        json!({ "destination": "" }),
        json!({ "destination": "   " }),
        json!({ "destination": ["paris"] }),
        json!({ "destination": "a".repeat(65) }),
        json!({ "destination": "<script>" }),
        json!([]),
    ] {
        let reply = app.post(SESSIONS).json(&body).send().await;
        reply.refused(400, "VALIDATION");
        assert_eq!(
            reply.body["error"], "Missing or invalid \"destination\" field",
            "{body}"
        );
    }
    app.post(SESSIONS)
        .raw("application/json", "{\"destination\":")
        .send()
        .await
        .refused(400, "INVALID_JSON");
    assert_eq!(app.post(SESSIONS).send().await.status, 400, "no body");
    for pin in ["12345", "1234567", "abcdef", "12345%20", "%00%00%00%00%00%00"] {
        let reply = redeem(&app, pin).await;
        assert!([400, 404].contains(&reply.status.as_u16()), "{pin}: {}", reply.body);
    }
    redeem(&app, "abcdef").await.refused(400, "VALIDATION");
}

#[sqlx::test(migrations = false)]
async fn a_pin_ends_after_ten_minutes_and_says_so(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let (late, used) = (
        pin_of(&create(&app, "paris").await),
        pin_of(&create(&app, "tokyo").await),
    );
    assert_eq!(redeem(&app, &used).await.status, 200);
    app.advance(599);
    redeem(&app, &used).await.refused(409, "PIN_USED");
    app.advance(1);
    redeem(&app, &late).await.refused(410, "PIN_EXPIRED");
    redeem(&app, &used).await.refused(410, "PIN_EXPIRED");
}

#[sqlx::test(migrations = false)]
async fn only_its_creator_withdraws_a_pin(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let made = create(&app, "paris").await;
    let path = format!("{SESSIONS}/{}", pin_of(&made));
    let delete = || app.call(http::Method::DELETE, &path);
    delete().send().await.refused(404, "PIN_NOT_FOUND");
    delete()
        .json(&json!({ "ownerToken": "guessed" }))
        .send()
        .await
        .refused(404, "PIN_NOT_FOUND");
    let qr = made["qrSvgUrl"].as_str().unwrap();
    assert_eq!(app.get(qr).send().await.status, 200);

    let withdrawn = delete().json(&json!({ "ownerToken": made["ownerToken"] })).send().await;
    assert_eq!(
        (withdrawn.status.as_u16(), &withdrawn.body),
        (200, &json!({ "success": true }))
    );
    redeem(&app, &pin_of(&made)).await.refused(410, "PIN_EXPIRED");
    assert_eq!(app.get(qr).send().await.status, 404, "its picture is gone too");

    let by_header = create(&app, "paris").await;
    let call = app.call(http::Method::DELETE, &format!("{SESSIONS}/{}", pin_of(&by_header)));
    let reply = call
        .header("x-owner-token", by_header["ownerToken"].as_str().unwrap())
        .send()
        .await;
    assert_eq!(reply.status, 200);
}

#[sqlx::test(migrations = false)]
async fn a_link_preview_does_not_use_a_pin_up(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let pin = pin_of(&create(&app, "paris").await);
    let head = app.call(http::Method::HEAD, &format!("{SESSIONS}/{pin}")).send().await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    assert_eq!(redeem(&app, &pin).await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn the_qr_code_of_a_pin_is_a_picture_nobody_keeps(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let made = create(&app, "paris").await;
    let id = made["sessionId"].as_str().unwrap();
    assert_eq!(made["qrSvgUrl"], format!("/api/v1/vr/qr/{id}.svg"));
    let reply = app.get(made["qrSvgUrl"].as_str().unwrap()).send().await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["content-type"], "image/svg+xml");
    assert_eq!(reply.headers["cache-control"], "no-store");
    assert!(reply.text.contains("<svg") && !reply.text.contains("<script"));
    for path in [
        "/api/v1/vr/qr/x.svg",
        &format!("/api/v1/vr/qr/{id}"),
        &format!("/api/v1/vr/qr/{}.svg", "0".repeat(32)),
    ] {
        app.get(path).send().await.refused(404, "NOT_FOUND");
    }
}

#[sqlx::test(migrations = false)]
async fn a_link_is_good_once_for_what_it_was_made_for(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let reply = app
        .post("/api/v1/vr/links")
        .json(&json!({ "destination": "Paris", "scene": "louvre" }))
        .send()
        .await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    let link = reply.body;
    let url = url::Url::parse(link["url"].as_str().unwrap()).unwrap();
    let query: std::collections::BTreeMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(query["destination"], "paris");
    assert_eq!(query["token"], link["token"].as_str().unwrap());
    assert_eq!(query["exp"], link["expiresAt"].to_string());
    assert_eq!(app.get(link["qrSvgUrl"].as_str().unwrap()).send().await.status, 200);

    let verify = |body: Value| app.post("/api/v1/vr/links/verify").json(&body).send();
    let good = json!({ "token": link["token"], "destination": "paris", "scene": "louvre", "exp": link["expiresAt"] });
    let with = |key: &str, value: Value| {
        let mut body = good.clone();
        body[key] = value;
        body
    };
    verify(with("destination", json!("tokyo")))
        .await
        .refused(403, "FORBIDDEN");
    verify(with("scene", Value::Null)).await.refused(403, "FORBIDDEN");
    verify(with("exp", json!(1_900_000_000_000_i64)))
        .await
        .refused(403, "FORBIDDEN");
    verify(with("token", json!("vr_1_abc"))).await.refused(403, "FORBIDDEN");
    verify(with("token", Value::Null)).await.refused(400, "VALIDATION");
    let opened = verify(with("exp", json!(link["expiresAt"].to_string()))).await;
    assert_eq!(opened.status, 200, "{}", opened.body);
    assert_eq!(
        (&opened.body["valid"], &opened.body["autoVR"]),
        (&json!(true), &json!(true))
    );
    verify(good.clone()).await.refused(409, "LINK_USED");
    app.advance(600);
    verify(good).await.refused(410, "LINK_EXPIRED");
}

#[sqlx::test(migrations = false)]
async fn a_link_may_be_issued_for_several_uses_and_for_an_hour_at_most(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let body = json!({ "destination": "paris", "uses": 2, "ttl": 3600 });
    let link = app.post("/api/v1/vr/links").json(&body).send().await.body;
    let good = json!({ "token": link["token"], "destination": "paris", "exp": link["expiresAt"] });
    app.advance(3_599);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(
            app.post("/api/v1/vr/links/verify")
                .json(&good)
                .send()
                .await
                .status
                .as_u16(),
        );
    }
    assert_eq!(seen, [200, 200, 409]);
    for bad in [
        json!({ "destination": "paris", "ttl": 3601 }),
        json!({ "destination": "paris", "ttl": 0 }),
        json!({ "destination": "paris", "ttl": "soon" }),
        json!({ "destination": "paris", "uses": 101 }),
        json!({ "destination": "paris", "scene": 7 }),
        json!({ "scene": "louvre" }),
    ] {
        app.post("/api/v1/vr/links")
            .json(&bad)
            .send()
            .await
            .refused(400, "VALIDATION");
    }
}

/// A real single server and a real cluster where they are installed, beside the store in process.
async fn stores() -> (Vec<Redis>, Option<(RedisServer, RedisCluster)>) {
    let mut stores = vec![Redis::memory()];
    if !devkit::redis::is_installed().await {
        return (stores, None);
    }
    let (single, cluster) = (
        RedisServer::start().await.unwrap(),
        RedisCluster::start().await.unwrap(),
    );
    let patient = |config: RedisConfig| config.with_timeout(std::time::Duration::from_secs(20));
    stores.push(Redis::connect(&patient(RedisConfig::single(single.url()))).unwrap());
    stores.push(Redis::connect(&patient(RedisConfig::cluster(cluster.urls()))).unwrap());
    (stores, Some((single, cluster)))
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_19_of_many_readers_on_two_replicas_exactly_one_gets_the_destination(pool: PgPool) {
    drop(TestApp::start(pool.clone()).await);
    let (stores, _servers) = stores().await;
    for redis in stores {
        let first = TestApp::over(pool.clone(), &LOOSE, redis.clone());
        let second = TestApp::over(pool.clone(), &LOOSE, redis.clone());
        let made = create(&first, "paris").await;
        let pin = pin_of(&made);
        let readers = (0..40).map(|turn| redeem(if turn % 2 == 0 { &first } else { &second }, &pin));
        let mut answers: Vec<u16> = futures_util::future::join_all(readers)
            .await
            .iter()
            .map(|reply| reply.status.as_u16())
            .collect();
        answers.sort_unstable();
        assert_eq!(answers[0], 200, "{redis:?}");
        assert!(
            answers[1..].iter().all(|status| *status == 409),
            "{redis:?}: {answers:?}"
        );

        // what a later replica finds is what an earlier one left
        let third = TestApp::over(pool.clone(), &LOOSE, redis.clone());
        redeem(&third, &pin).await.refused(409, "PIN_USED");
        let second_pin = create(&first, "tokyo").await;
        let path = format!("{SESSIONS}/{}", pin_of(&second_pin));
        let withdrawn = third.call(http::Method::DELETE, &path);
        let withdrawn = withdrawn
            .json(&json!({ "ownerToken": second_pin["ownerToken"] }))
            .send()
            .await;
        assert_eq!(withdrawn.status, 200, "{redis:?}");
        redeem(&second, &pin_of(&second_pin)).await.refused(410, "PIN_EXPIRED");
        assert_eq!(
            first.get(second_pin["qrSvgUrl"].as_str().unwrap()).send().await.status,
            404
        );
        assert_eq!(first.get(made["qrSvgUrl"].as_str().unwrap()).send().await.status, 200);
        let link = first
            .post("/api/v1/vr/links")
            .json(&json!({ "destination": "paris" }))
            .send()
            .await
            .body;
        let good = json!({ "token": link["token"], "destination": "paris", "exp": link["expiresAt"] });
        let verified = second.post("/api/v1/vr/links/verify").json(&good).send().await;
        assert_eq!(verified.status, 200, "{redis:?}: the key of links is shared");
    }
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_19_pins_do_not_follow_from_each_other(pool: PgPool) {
    let app = TestApp::start(pool).await;
    let mut pins = Vec::new();
    for _ in 0..200 {
        pins.push(pin_of(&create(&app, "paris").await));
    }
    let different: BTreeSet<&String> = pins.iter().collect();
    assert_eq!(different.len(), 200, "live PINs are unique");
    let steps: BTreeSet<i64> = pins
        .windows(2)
        .map(|pair| pair[1].parse::<i64>().unwrap() - pair[0].parse::<i64>().unwrap())
        .collect();
    assert!(steps.len() > 190, "a counter or a short cycle would repeat its steps");
}

#[sqlx::test(migrations = false)]
async fn must_not_copy_19_twenty_wrong_guesses_shut_an_address_out(pool: PgPool) {
    let settings = [("RATE_LIMIT_VR_REDEEM_MAX", "1000")];
    let app = TestApp::with(pool, &settings).await;
    let made = create(&app, "paris").await;
    let wrong = other_than(&pin_of(&made));
    let guess = |pin: String, last: u8| {
        app.get(&format!("{SESSIONS}/{pin}"))
            .at_address([198, 51, 100, last])
            .send()
    };
    for _ in 0..20 {
        guess(wrong.clone(), 1).await.refused(404, "PIN_NOT_FOUND");
    }
    let shut_out = guess(pin_of(&made), 1).await;
    shut_out.refused(429, "RATE_LIMIT_EXCEEDED");
    let seconds: u64 = shut_out.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((590..=600).contains(&seconds), "{seconds}");
    assert_eq!(shut_out.body["retryAfter"], "10 minutes");
    // a header does not let anybody back in, and others are not shut out with him
    let tried = app
        .get(&format!("{SESSIONS}/{}", pin_of(&made)))
        .at_address([198, 51, 100, 1]);
    tried
        .header("x-test-rate-limit", "true")
        .send()
        .await
        .refused(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(guess(pin_of(&made), 2).await.status, 200);
}

#[sqlx::test(migrations = false)]
async fn ten_pins_and_ten_look_ups_a_minute_are_enough(pool: PgPool) {
    let app = TestApp::with(pool, &[]).await;
    let body = json!({ "destination": "paris" });
    for left in (0..10).rev() {
        let reply = app.post(SESSIONS).json(&body).send().await;
        assert_eq!(reply.status, 201);
        assert_eq!(reply.headers["ratelimit-policy"], "10;w=60");
        assert_eq!(reply.headers["ratelimit-remaining"], left.to_string());
    }
    let refused = app.post(SESSIONS).json(&body).send().await;
    refused.refused(429, "RATE_LIMIT_EXCEEDED");
    assert_eq!(refused.body["retryAfter"], "1 minute");
    assert!(refused.headers.contains_key("retry-after"));
    for _ in 0..10 {
        assert_eq!(redeem(&app, "abcdef").await.status, 400);
    }
    redeem(&app, "abcdef").await.refused(429, "RATE_LIMIT_EXCEEDED");
}

#[sqlx::test(migrations = false)]
async fn without_redis_a_pin_is_503_and_nothing_is_made_up(pool: PgPool) {
    drop(TestApp::start(pool.clone()).await);
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let redis = Redis::connect(&RedisConfig::single(format!("redis://127.0.0.1:{gone}"))).unwrap();
    let app = TestApp::over(pool, &LOOSE, redis);
    let reply = app.post(SESSIONS).json(&json!({ "destination": "paris" })).send().await;
    reply.refused(503, "SERVICE_UNAVAILABLE");
    assert!(reply.headers.contains_key("retry-after"));
    redeem(&app, "123456").await.refused(503, "SERVICE_UNAVAILABLE");
    app.post("/api/v1/vr/links")
        .json(&json!({ "destination": "paris" }))
        .send()
        .await
        .refused(503, "SERVICE_UNAVAILABLE");
    let qr = format!("/api/v1/vr/qr/{}.svg", "0".repeat(32));
    app.get(&qr).send().await.refused(503, "SERVICE_UNAVAILABLE");
}
