//! Clients that hang up in the middle of a request, through the browser's origin and the gateway behind it: nothing stays
//! open, nothing is half-done, nobody else notices.

use std::time::Duration;

use devkit::postgres::{Options, PostgresServer};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::process::{Site, eventually, ready};

const HANG_UPS: u64 = 240;

#[tokio::test]
async fn clients_that_hang_up_leave_nothing_behind() {
    let folder = tempfile::Builder::new()
        .prefix("dreamscape-hang-ups")
        .tempdir()
        .unwrap();
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let postgres = PostgresServer::start(Options::new(folder.path().join("postgres")).throwaway())
        .await
        .unwrap();
    let site = Site::new().with("DATABASE_URL", postgres.url());
    let mut platform = site.spawn("dreamscape", &["run"]);
    for port in ["GATEWAY_PORT", "BUSINESS_PORT", "WEB_PORT"] {
        ready(&site.address(port), &mut platform).await;
    }
    let origin = site.address("WEB_PORT");
    let token = sign_up(&origin).await;
    let offer = an_offer(&origin).await;

    for round in 0..HANG_UPS {
        let request = match round % 4 {
            0 => written(&token, "POST", "/api/v1/cart/items", Some(&offer)),
            1 => written(&token, "POST", "/api/v1/cart/checkout", Some(&json!({}))),
            2 => written(&token, "GET", "/api/v1/cart", None),
            _ => written(&token, "GET", "/api/v1/bookings", None),
        };
        let mut connection = TcpStream::connect(origin.trim_start_matches("http://")).await.unwrap();
        // some are gone before the whole request is there, the others at some moment of its handling
        let whole = round % 5 != 0;
        let bytes = if whole {
            &request[..]
        } else {
            &request[..request.len() - 1]
        };
        connection.write_all(bytes).await.unwrap();
        tokio::time::sleep(Duration::from_micros(round * 173 % 24_000)).await;
        drop(connection);
    }

    for pod in ["CORE_METRICS_PORT", "BUSINESS_METRICS_PORT", "EXPERIENCE_METRICS_PORT"] {
        let url = format!("{}/metrics", site.address(pod));
        eventually("no request is left in flight", async || in_flight(&url).await == 0.0).await;
    }
    let pool = PgPool::connect(&postgres.url()).await.unwrap();
    eventually("no transaction is left open", async || {
        count(
            &pool,
            "select count(*) from pg_stat_activity where state like 'idle in transaction%'",
        )
        .await
            == 0
    })
    .await;
    let checkouts = count(&pool, "select count(*) from voyage.bookings").await;
    eventually("each booking has the one payment it needs", async || {
        count(
            &pool,
            "select count(*) from voyage.bookings b where b.payment_intent_id is null and b.status in ('DRAFT', 'PENDING_PAYMENT')",
        )
        .await
            == 0
    })
    .await;
    let doubles = count(
        &pool,
        "select count(*) from (select booking_reference from payment.payment_transactions group by 1 having count(*) > 1) twice",
    )
    .await;
    assert_eq!(doubles, 0, "{checkouts} bookings");

    // and the next traveller has an ordinary day
    site.demo(&[]);
    assert!(platform.stop().success());
}

fn written(token: &str, method: &str, path: &str, body: Option<&Value>) -> Vec<u8> {
    let body = body.map(Value::to_string).unwrap_or_default();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: dreamscape\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn sign_up(origin: &str) -> String {
    let body = json!({ "email": "hasty@example.com", "password": "Dream-scape-1!", "firstName": "Hasty" });
    let url = format!("{origin}/api/v1/auth/register");
    let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let answer: Value = answer.json().await.unwrap();
    answer["data"]["tokens"]["accessToken"].as_str().unwrap().to_owned()
}

async fn an_offer(origin: &str) -> Value {
    let day = (shared::Sources::system().now() + Duration::from_secs(60 * 86_400)).format("%Y-%m-%d");
    let url = format!(
        "{origin}/api/v1/flights/search?originLocationCode=PAR&destinationLocationCode=TYO&departureDate={day}"
    );
    let found: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    let offer = &found["data"][0];
    json!({
        "type": "FLIGHT", "itemId": offer["id"], "itemData": { "offer": offer["id"] }, "quantity": 1,
        "price": offer["price"]["total"], "currency": offer["price"]["currency"],
    })
}

async fn in_flight(metrics: &str) -> f64 {
    let Ok(answer) = reqwest::get(metrics).await else {
        return f64::INFINITY;
    };
    let text = answer.text().await.unwrap_or_default();
    // the question itself is one, on the listener of the metrics
    let lines = text
        .lines()
        .filter(|line| line.starts_with("http_requests_in_flight{") && !line.contains("service=\"metrics\""));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}
