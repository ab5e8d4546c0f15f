//! An administrator over the whole platform: the core pod asks the real Business Pod, and money comes back (core §5.12).

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::process::{Site, eventually, ready};

struct Administrator {
    client: Client,
    base: String,
    token: String,
}

impl Administrator {
    async fn sign_in(base: &str) -> Self {
        let client = Client::new();
        let [.., grace] = core_pod::auth::DEMO_ACCOUNTS;
        let body = json!({ "email": grace.email, "password": grace.password });
        let url = format!("{base}/api/v1/auth/login");
        let mut token = String::new();
        // the demo accounts are made a moment after the start
        eventually("the administrator can sign in", async || {
            let answer = client.post(&url).json(&body).send().await.unwrap();
            let answer: Value = answer.json().await.unwrap();
            let given = answer["data"]["tokens"]["accessToken"].as_str();
            token = given.unwrap_or_default().to_owned();
            given.is_some()
        })
        .await;
        Self {
            client,
            base: base.to_owned(),
            token,
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let url = format!("{}/api/v1/admin{path}", self.base);
        let mut request = self.client.request(method, url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn read(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body["data"].clone()
    }

    async fn put(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.call(Method::PUT, path, Some(body)).await
    }
}

#[tokio::test]
async fn an_administrator_sees_what_was_bought_and_gives_the_money_back_once() {
    let site = Site::new();
    let mut platform = site.spawn("dreamscape", &["run"]);
    for port in ["GATEWAY_PORT", "BUSINESS_PORT", "WEB_PORT"] {
        ready(&site.address(port), &mut platform).await;
    }
    site.demo(&[]);
    // through the one origin that browsers know
    let grace = Administrator::sign_in(&site.address("WEB_PORT")).await;

    let bookings = grace.read("/bookings?status=CONFIRMED").await;
    let booking = bookings["bookings"][0].clone();
    let (id, reference) = (booking["id"].as_str().unwrap(), booking["reference"].as_str().unwrap());
    assert!(
        booking["destination"].is_string() && booking["user"]["email"].is_string(),
        "{booking}"
    );
    let detail = grace.read(&format!("/bookings/{id}")).await;
    assert_eq!(detail["payment"]["status"], "SUCCEEDED");
    assert_eq!(detail["payment"]["amount"], detail["totalAmount"]);
    let earned = grace.read("/dashboard/stats").await["revenue"]["byCurrency"].clone();
    assert_eq!(earned.as_object().unwrap().len(), 1, "{earned}");

    let (status, noted) = grace
        .put(
            &format!("/bookings/{id}/modify"),
            json!({ "notes": "called, will not travel" }),
        )
        .await;
    assert_eq!(
        (status.as_u16(), &noted["data"]["data"]["adminNotes"]),
        (200, &json!("called, will not travel"))
    );
    let (status, never) = grace
        .put(&format!("/bookings/{id}/status"), json!({ "status": "DRAFT" }))
        .await;
    assert_eq!(
        (status.as_u16(), &never["code"]),
        (409, &json!("INVALID_TRANSITION")),
        "{never}"
    );

    let cancel = json!({ "refund": true, "reason": "strike" });
    let (status, cancelled) = grace.put(&format!("/bookings/{id}/cancel"), cancel.clone()).await;
    assert_eq!(status, 200, "{cancelled}");
    assert_eq!(cancelled["data"]["status"], "CANCELLED");
    assert_eq!(cancelled["data"]["refundStatus"], "succeeded", "{cancelled}");
    assert_eq!(cancelled["data"]["data"]["refund"]["amount"], detail["totalAmount"]);
    let (status, again) = grace.put(&format!("/bookings/{id}/cancel"), cancel).await;
    assert_eq!(
        (status.as_u16(), &again["message"]),
        (409, &json!("Booking already cancelled"))
    );

    let payment = detail["payment"]["id"].as_str().unwrap();
    let refunded = grace.read(&format!("/payments/{payment}")).await;
    assert_eq!(
        (&refunded["status"], &refunded["refundedAmount"]),
        (&json!("REFUNDED"), &detail["totalAmount"])
    );
    let (status, refused) = grace
        .put(&format!("/payments/{payment}/status"), json!({ "status": "SUCCEEDED" }))
        .await;
    assert_eq!(
        (status.as_u16(), &refused["code"]),
        (409, &json!("PROVIDER_CONTRADICTS")),
        "{refused}"
    );

    let (status, file) = grace
        .call(Method::GET, &format!("/bookings/export?search={reference}"), None)
        .await;
    assert_eq!(status, 200, "{file}");
    assert_eq!(file.as_str().unwrap().lines().count(), 2, "{file}");
    let traveller = booking["userId"].as_str().unwrap();
    let activity = grace.read(&format!("/users/{traveller}/activity")).await;
    assert!(
        activity["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|item| item["type"] == "payment")
    );
    assert!(platform.stop().success());
}
