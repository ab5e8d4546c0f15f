//! Walks the OpenAPI documents: every protected operation is asked without a token and with a foreign traveller's. A new
//! endpoint is checked here by being documented.

use business_pod::BusinessPod;
use core_pod::CorePod;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use shared::pod::Pod;

use crate::process::{Site, eventually, ready};

/// An operation of a document.
struct Operation {
    method: Method,
    path: String,
    protected: bool,
    for_services: bool,
}

fn operations<P: Pod>() -> Vec<Operation> {
    let document: Value = serde_json::from_str(&P::openapi().to_json().unwrap()).unwrap();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Ok(method) = method.to_uppercase().parse::<Method>() else {
                continue;
            };
            if !["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) {
                continue;
            }
            let security = operation["security"]
                .as_array()
                .or(document["security"].as_array())
                .cloned()
                .unwrap_or_default();
            let open = security.is_empty() || security.iter().any(|way| way.as_object().unwrap().is_empty());
            let is_service = |way: &Value| way.as_object().unwrap().keys().any(|name| name.contains("service"));
            let for_services = !security.is_empty() && security.iter().all(is_service);
            found.push(Operation {
                method,
                path: path.clone(),
                protected: !open,
                for_services,
            });
        }
    }
    assert!(!found.is_empty());
    found
}

/// A traveller with something of everything.
struct Traveller {
    id: String,
    email: String,
    bearer: String,
    reference: String,
    payment_intent: String,
    line: String,
    notification: String,
}

async fn call(
    client: &Client,
    method: Method,
    url: &str,
    bearer: Option<&str>,
    body: Option<Value>,
) -> (StatusCode, Value) {
    let mut request = client.request(method.clone(), url);
    if let Some(bearer) = bearer {
        request = request.bearer_auth(bearer);
    }
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

async fn traveller(site: &Site, client: &Client) -> Traveller {
    let (core, business) = (site.address("GATEWAY_PORT"), site.address("BUSINESS_PORT"));
    let email = format!("walker.{}@example.com", shared::Sources::system().uuid_v4());
    let account = json!({ "email": email, "password": "Dream-scape-1!", "firstName": "Ada" });
    let (status, registered) = call(
        client,
        Method::POST,
        &format!("{core}/api/v1/auth/register"),
        None,
        Some(account),
    )
    .await;
    assert_eq!(status, 201, "{registered}");
    let bearer = registered["data"]["tokens"]["accessToken"].as_str().unwrap().to_owned();
    let id = registered["data"]["user"]["id"].as_str().unwrap().to_owned();

    let day = (shared::Sources::system().now() + std::time::Duration::from_secs(50 * 86_400))
        .format("%Y-%m-%d")
        .to_string();
    let search = format!(
        "{business}/api/v1/flights/search?originLocationCode=PAR&destinationLocationCode=NYC&departureDate={day}"
    );
    let (_, found) = call(client, Method::GET, &search, Some(&bearer), None).await;
    let mut line = String::new();
    let mut checked_out = Value::Null;
    // the first line is bought, the second stays in the cart
    for round in 0..2 {
        let offer = &found["data"][round];
        let item = json!({
            "type": "FLIGHT", "itemId": offer["id"], "itemData": offer, "quantity": 1,
            "price": offer["price"]["total"], "currency": offer["price"]["currency"],
        });
        let (status, cart) = call(
            client,
            Method::POST,
            &format!("{business}/api/v1/cart/items"),
            Some(&bearer),
            Some(item),
        )
        .await;
        assert_eq!(status, 201, "{cart}");
        line = cart["data"]["items"].as_array().unwrap().last().unwrap()["id"]
            .as_str()
            .unwrap()
            .to_owned();
        if round == 0 {
            let (status, answer) = call(
                client,
                Method::POST,
                &format!("{business}/api/v1/cart/checkout"),
                Some(&bearer),
                Some(json!({})),
            )
            .await;
            assert_eq!(status, 200, "{answer}");
            checked_out = answer;
        }
    }
    let payment = &checked_out["data"]["payment"];
    let stripe = stripe_address(site);
    let card = [
        ("key", payment["publishableKey"].as_str().unwrap()),
        ("client_secret", payment["clientSecret"].as_str().unwrap()),
        ("payment_method_data[type]", "card"),
        ("payment_method_data[card][number]", "4242424242424242"),
        ("payment_method_data[card][exp_month]", "12"),
        ("payment_method_data[card][exp_year]", "34"),
        ("payment_method_data[card][cvc]", "123"),
    ];
    let intent = payment["paymentIntentId"].as_str().unwrap().to_owned();
    let paid = client
        .post(format!("{stripe}/v1/payment_intents/{intent}/confirm"))
        .form(&card)
        .send()
        .await
        .unwrap();
    assert_eq!(paid.status(), 200);
    let mut notification = String::new();
    eventually("the traveller has a notification", async || {
        let (_, answer) = call(
            client,
            Method::GET,
            &format!("{core}/api/v1/users/notifications"),
            Some(&bearer),
            None,
        )
        .await;
        let first = answer["data"]["notifications"][0]["id"].as_str();
        notification = first.unwrap_or_default().to_owned();
        first.is_some()
    })
    .await;
    let reference = checked_out["data"]["bookingReference"].as_str().unwrap().to_owned();
    Traveller {
        id,
        email,
        bearer,
        reference,
        payment_intent: intent,
        line,
        notification,
    }
}

/// The listener of the service of the core pod that a path belongs to.
fn own_listener(site: &Site, path: &str) -> Option<String> {
    let user = [
        "/api/v1/users",
        "/api/v1/admin",
        "/api/v1/ai/users",
        "/api/v1/ai/health",
    ];
    if path.starts_with("/api/v1/auth") {
        return Some(site.address("AUTH_PORT"));
    }
    user.iter()
        .any(|prefix| path.starts_with(prefix))
        .then(|| site.address("USER_PORT"))
}

fn stripe_address(site: &Site) -> String {
    let state = std::fs::read_to_string(site.data().join("state.json")).unwrap();
    let state: Value = serde_json::from_str(&state).unwrap();
    state["addresses"]["stripe"]
        .as_str()
        .expect("the keeper says where the double of Stripe answers")
        .to_owned()
}

/// The path with the objects of `owner` in its parameters.
fn filled(path: &str, owner: &Traveller) -> String {
    let mut filled = String::new();
    for segment in path.split('/').skip(1) {
        filled.push('/');
        filled.push_str(match segment {
            "{reference}" => &owner.reference,
            "{itemId}" => &owner.line,
            "{userId}" => &owner.id,
            "{paymentIntentId}" => &owner.payment_intent,
            "{id}" if path.contains("/payment") => &owner.payment_intent,
            "{id}" => &owner.notification,
            // no objects of anybody: a kind of thing, a thing, the file of a picture
            "{entityType}" => "FLIGHT",
            "{entityId}" => "AF1",
            "{file}" => "avatar-1-2.png",
            // nor these: a provider that is not there, and secrets that nobody gave out
            "{provider}" | "{token}" => "none",
            "{pin}" => "123456",
            other => {
                assert!(!other.starts_with('{'), "{path}: the walk knows no object for {other}");
                other
            }
        });
    }
    filled
}

#[tokio::test]
async fn every_protected_operation_refuses_strangers() {
    let site = Site::new();
    let mut platform = site.spawn("dreamscape", &["run"]);
    for port in ["GATEWAY_PORT", "BUSINESS_PORT", "WEB_PORT"] {
        ready(&site.address(port), &mut platform).await;
    }
    let client = Client::new();
    let owner = traveller(&site, &client).await;
    let stranger = traveller(&site, &client).await;

    let documents = [
        (site.address("GATEWAY_PORT"), operations::<CorePod>()),
        (site.address("BUSINESS_PORT"), operations::<BusinessPod>()),
    ];
    let (mut without, mut foreign) = (0, 0);
    for (base, operations) in documents {
        for Operation {
            method,
            path,
            protected,
            for_services,
        } in operations
        {
            // what is for other services only, the gateway hides: each is asked where it is served
            let base = own_listener(&site, &path).unwrap_or_else(|| base.clone());
            let url = format!("{base}{}", filled(&path, &owner));
            let body = (method != Method::GET && method != Method::DELETE).then(
                || json!({ "quantity": 1, "name": "Mine", "notes": "mine", "firstName": "Eve", "lastName": "Eve" }),
            );
            if protected {
                let (status, answer) = call(&client, method.clone(), &url, None, body.clone()).await;
                assert_eq!(status, 401, "{method} {path} without a token: {answer}");
                assert_eq!(answer["success"], false, "{method} {path}: {answer}");
                assert!(
                    answer["code"].is_string() && answer["requestId"].is_string(),
                    "{method} {path}: {answer}"
                );
                without += 1;
            }
            if for_services {
                let (status, answer) = call(&client, method.clone(), &url, Some(&stranger.bearer), body.clone()).await;
                assert!(
                    [401, 403].contains(&status.as_u16()),
                    "{method} {path} with a traveller's token: {status} {answer}"
                );
            } else if protected && path.contains('{') && !path.contains("{entityType}") {
                let (status, answer) = call(&client, method.clone(), &url, Some(&stranger.bearer), body.clone()).await;
                assert!(
                    [403, 404].contains(&status.as_u16()),
                    "{method} {path} of another traveller answered {status}: {answer}"
                );
                foreign += 1;
            } else if protected && method == Method::GET {
                let (_, answer) = call(&client, method.clone(), &url, Some(&stranger.bearer), None).await;
                let text = answer.to_string();
                assert!(
                    !text.contains(&owner.id) && !text.contains(&owner.email),
                    "{method} {path} tells of another traveller"
                );
            }
        }
    }
    assert!(
        without >= 8 && foreign >= 5,
        "the walk found only {without} protected operations, {foreign} with objects"
    );
}
