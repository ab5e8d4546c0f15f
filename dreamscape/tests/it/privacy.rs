//! The data of a traveller who bought something: exported from all pods, then erased in all of them (core §5.11).

use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::process::{Site, eventually, ready};

struct Account {
    client: Client,
    base: String,
    token: String,
}

impl Account {
    async fn sign_in(base: &str, email: &str, password: &str) -> Self {
        let client = Client::new();
        let answer = client
            .post(format!("{base}/api/v1/auth/login"))
            .json(&json!({ "email": email, "password": password }))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().await.unwrap();
        Self {
            client,
            base: base.to_owned(),
            token: answer["data"]["tokens"]["accessToken"].as_str().unwrap().to_owned(),
        }
    }

    async fn call(&self, method: Method, path: &str) -> (u16, Value) {
        let url = format!("{}/api/v1/users/gdpr{path}", self.base);
        let answer = self.client.request(method, url).bearer_auth(&self.token);
        let answer = answer.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }
}

#[tokio::test]
async fn a_traveller_takes_all_data_along_and_leaves_none_behind() {
    // whoever asks for a deletion here is deleted at once
    let site = Site::new().with("GDPR_DELETION_GRACE_DAYS", "0");
    let mut platform = site.spawn("dreamscape", &["run"]);
    for port in ["GATEWAY_PORT", "BUSINESS_PORT", "WEB_PORT"] {
        ready(&site.address(port), &mut platform).await;
    }
    let steps = site.demo(&[]);
    let (email, password) = steps[0]["seen"].as_str().unwrap().split_once(", password ").unwrap();
    let ada = Account::sign_in(&site.address("WEB_PORT"), email, password).await;

    let (status, asked) = ada.call(Method::POST, "/data-export").await;
    assert_eq!(status, 201, "{asked}");
    let download = format!("/data-export/{}/download", asked["data"]["id"].as_str().unwrap());
    let mut file = Value::Null;
    eventually("the export can be downloaded", async || {
        let (status, body) = ada.call(Method::GET, &download).await;
        file = body;
        status == 200
    })
    .await;
    let rows = |key: &str| -> Vec<Value> {
        let found = file.pointer(&format!("/data/{key}")).or_else(|| file.get(key));
        found.and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let bookings = rows("bookings");
    assert!(bookings.len() >= 2, "{file}");
    let payments = rows("payments");
    let paid: Vec<_> = payments
        .iter()
        .filter(|payment| payment["status"] == "SUCCEEDED")
        .collect();
    assert_eq!(paid.len(), 2, "{payments:?}");
    for payment in &paid {
        let reference = &payment["bookingReference"];
        let booking = bookings.iter().find(|booking| &booking["reference"] == reference);
        let booking = booking.unwrap_or_else(|| panic!("no booking for {payment}"));
        assert_eq!(payment["amount"], booking["totalAmount"], "{payment} {booking}");
    }
    assert!(!rows("searches").is_empty(), "{file}");

    let (status, asked) = ada.call(Method::POST, "/data-deletion").await;
    assert_eq!(status, 201, "{asked}");
    eventually("the account is erased", async || {
        let url = format!("{}/api/v1/auth/login", ada.base);
        let again = ada
            .client
            .post(url)
            .json(&json!({ "email": email, "password": password }));
        again.send().await.unwrap().status() == 401
    })
    .await;
}
