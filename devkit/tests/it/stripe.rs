//! The double of Stripe as payment's client sees it (contract: payment §5, §10, §12).

use std::time::Duration;

use devkit::stripe::{Options, StripeDouble};
use http::Method;
use serde_json::{Value, json};

/// A client of one double, as payment builds its calls.
pub struct Client {
    pub stripe: StripeDouble,
    http: reqwest::Client,
}

pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Value,
}

pub const ORDINARY: &[(&str, &str)] = &[
    ("amount", "12345"),
    ("currency", "eur"),
    ("metadata[bookingId]", "BK-1"),
    ("metadata[bookingReference]", "BK-1"),
    ("metadata[userId]", "u1"),
    ("description", "Booking BK-1"),
    ("automatic_payment_methods[enabled]", "true"),
];

impl Client {
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        let stripe = StripeDouble::start(options).await.unwrap();
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(2))
            .no_proxy()
            .build()
            .unwrap();
        Self { stripe, http }
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}/v1/{path}", self.stripe.base_url());
        let request = self.http.request(method, url).header("Stripe-Version", "2023-10-16");
        request.bearer_auth(self.stripe.secret_key())
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await.unwrap()
    }

    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        answer(self.request(Method::POST, path).form(form)).await.unwrap()
    }

    pub async fn post_with_key(&self, path: &str, key: &str, form: &[(&str, &str)]) -> reqwest::Result<Answer> {
        answer(
            self.request(Method::POST, path)
                .header("Idempotency-Key", key)
                .form(form),
        )
        .await
    }

    pub async fn intent(&self) -> Value {
        let created = self.post("payment_intents", ORDINARY).await;
        assert_eq!(created.status, 200, "{}", created.body);
        created.body
    }

    /// An intent that has been paid in the browser with this card.
    pub async fn attempt(&self, card: &str) -> (String, u16, Value) {
        let intent = self.intent().await;
        let (status, body) = self
            .stripe
            .pay_in_browser(intent["client_secret"].as_str().unwrap(), card)
            .await
            .unwrap();
        (intent["id"].as_str().unwrap().to_owned(), status, body)
    }
}

async fn answer(request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
    let answer = request.send().await?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Ok(Answer {
        status,
        headers,
        body: answer.json().await?,
    })
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_intent_is_created_read_updated_and_canceled() {
    let client = Client::start().await;
    let intent = client.intent().await;
    assert_eq!(intent["object"], "payment_intent");
    assert_eq!(intent["status"], "requires_payment_method");
    assert_eq!(
        intent["metadata"],
        json!({"bookingId": "BK-1", "bookingReference": "BK-1", "userId": "u1"})
    );
    assert_eq!(
        intent["automatic_payment_methods"],
        json!({"enabled": true, "allow_redirects": "always"})
    );
    assert_eq!(intent["livemode"], false);
    let id = intent["id"].as_str().unwrap();
    assert!(
        intent["client_secret"]
            .as_str()
            .unwrap()
            .starts_with(&format!("{id}_secret_"))
    );

    let updated = client
        .post(
            &format!("payment_intents/{id}"),
            &[("metadata[x]", "1"), ("metadata[userId]", "")],
        )
        .await;
    assert_eq!(
        updated.body["metadata"],
        json!({"bookingId": "BK-1", "bookingReference": "BK-1", "x": "1"})
    );
    let canceled = client
        .post(
            &format!("payment_intents/{id}/cancel"),
            &[("cancellation_reason", "abandoned")],
        )
        .await;
    assert_eq!((canceled.status, &canceled.body["status"]), (200, &json!("canceled")));
    assert_eq!(canceled.body["cancellation_reason"], "abandoned");
    let again = client.post(&format!("payment_intents/{id}/cancel"), &[]).await;
    assert_eq!(
        (again.status, &again.body["error"]["code"]),
        (400, &json!("payment_intent_unexpected_state"))
    );
    assert_eq!(
        client.get(&format!("payment_intents/{id}")).await.body["status"],
        "canceled"
    );
    assert_eq!(
        kinds(&client.stripe.events()),
        ["payment_intent.created", "payment_intent.canceled"]
    );
}

/// Parameters, the code of the error and the parameter it names.
type Refused<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a str);

#[tokio::test]
async fn bad_parameters_are_refused_by_name() {
    let client = Client::start().await;
    let cases: &[Refused<'_>] = &[
        (&[("currency", "eur")], "parameter_missing", "amount"),
        (
            &[("amount", "ten"), ("currency", "eur")],
            "parameter_invalid_integer",
            "amount",
        ),
        (&[("amount", "1000")], "parameter_missing", "currency"),
        (&[("amount", "49"), ("currency", "eur")], "amount_too_small", "amount"),
        (
            &[("amount", "100000000"), ("currency", "eur")],
            "amount_too_large",
            "amount",
        ),
        (
            &[("amount", "1000"), ("currency", "eur"), ("amuont", "1")],
            "parameter_unknown",
            "amuont",
        ),
        (
            &[("amount", "1000"), ("currency", "")],
            "parameter_invalid_empty",
            "currency",
        ),
        (
            &[("amount", "1000"), ("currency", "eur"), ("payment_method", "pm_no")],
            "resource_missing",
            "payment_method",
        ),
    ];
    for (form, code, param) in cases {
        let refused = client.post("payment_intents", form).await;
        assert_eq!(refused.status, 400, "{form:?}");
        let error = &refused.body["error"];
        assert_eq!(
            (error["code"].as_str(), error["param"].as_str()),
            (Some(*code), Some(*param)),
            "{error}"
        );
        assert_eq!(error["type"], "invalid_request_error");
    }
    let missing = client.get("payment_intents/pi_unknown").await;
    assert_eq!(
        (missing.status, &missing.body["error"]["code"]),
        (404, &json!("resource_missing"))
    );
    let unknown = client.get("nonsense").await;
    assert_eq!(unknown.status, 404);
    assert!(client.stripe.payment_intents().is_empty());
}

#[tokio::test]
async fn a_good_card_makes_one_charge_one_movement_and_two_events() {
    let client = Client::start().await;
    let (id, status, shown) = client.attempt("4242424242424242").await;
    assert_eq!((status, &shown["status"]), (200, &json!("succeeded")));
    assert!(shown.get("metadata").is_none(), "a browser sees no metadata");

    let path = format!("payment_intents/{id}?expand[]=latest_charge.balance_transaction&expand[]=payment_method");
    let intent = client.get(&path).await.body;
    assert_eq!(
        (&intent["amount_received"], &intent["payment_method"]["card"]["last4"]),
        (&json!(12345), &json!("4242"))
    );
    let movement = &intent["latest_charge"]["balance_transaction"];
    assert_eq!(
        movement["net"].as_i64().unwrap() + movement["fee"].as_i64().unwrap(),
        12345
    );
    assert_eq!(intent["latest_charge"]["paid"], true);
    assert_eq!(client.stripe.charges_of(&id).len(), 1);
    let expected = ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"];
    assert_eq!(kinds(&client.stripe.events()), expected);

    let charge = intent["latest_charge"]["id"].as_str().unwrap();
    assert_eq!(
        client.get(&format!("charges/{charge}")).await.body["payment_intent"],
        json!(id)
    );
    let movements = client.get(&format!("balance_transactions?source={charge}")).await.body;
    assert_eq!(movements["data"][0]["id"], movement["id"]);
    let balance = client.get("balance").await.body;
    assert_eq!(balance["pending"][0]["amount"], movement["net"]);
    assert_eq!(balance["available"][0]["amount"], 0);
    let again = client
        .stripe
        .pay_in_browser(intent["client_secret"].as_str().unwrap(), "4242424242424242")
        .await
        .unwrap();
    assert_eq!(
        (again.0, &again.1["error"]["code"]),
        (400, &json!("payment_intent_unexpected_state"))
    );
}

#[tokio::test]
async fn a_refused_card_can_be_followed_by_a_good_one() {
    let client = Client::start().await;
    let cases = [
        ("4000000000000002", "card_declined", Some("generic_decline")),
        ("4000000000009995", "card_declined", Some("insufficient_funds")),
        ("4000000000000341", "card_declined", Some("generic_decline")),
        ("4000000000000069", "expired_card", None),
        ("4242424242424241", "incorrect_number", None),
    ];
    for (card, code, decline) in cases {
        let (id, status, body) = client.attempt(card).await;
        let error = &body["error"];
        assert_eq!(
            (status, error["type"].as_str(), error["code"].as_str()),
            (402, Some("card_error"), Some(code))
        );
        assert_eq!(error["decline_code"].as_str(), decline);
        let intent = client.get(&format!("payment_intents/{id}")).await.body;
        assert_eq!(intent["status"], "requires_payment_method");
        let secret = intent["client_secret"].as_str().unwrap();
        let (status, body) = client
            .stripe
            .pay_in_browser(secret, "4242 4242 4242 4242")
            .await
            .unwrap();
        assert_eq!(
            (status, &body["status"], &body["last_payment_error"]),
            (200, &json!("succeeded"), &Value::Null)
        );
        assert_eq!(client.stripe.paid_charges_of(&id).len(), 1);
    }
    let events = client.stripe.events();
    let failed = events
        .iter()
        .find(|event| event["type"] == "payment_intent.payment_failed")
        .unwrap();
    assert_eq!(
        failed["data"]["object"]["last_payment_error"]["decline_code"],
        "generic_decline"
    );
}

#[tokio::test]
async fn a_card_that_needs_action_is_authenticated_on_a_page() {
    let client = Client::start().await;
    for (outcome, expected) in [("complete", "succeeded"), ("fail", "requires_payment_method")] {
        let intent = client.intent().await;
        let id = intent["id"].as_str().unwrap();
        let form = [
            ("payment_method", "pm_card_authenticationRequired"),
            ("return_url", "http://localhost/back?x=1"),
        ];
        let confirmed = client.post(&format!("payment_intents/{id}/confirm"), &form).await;
        assert_eq!(
            (confirmed.status, &confirmed.body["status"]),
            (200, &json!("requires_action"))
        );
        assert_eq!(confirmed.body["next_action"]["type"], "redirect_to_url");
        let page = confirmed.body["next_action"]["redirect_to_url"]["url"]
            .as_str()
            .unwrap();
        let browser = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        assert!(
            browser
                .get(page)
                .send()
                .await
                .unwrap()
                .text()
                .await
                .unwrap()
                .contains("3D Secure")
        );
        let form = [
            ("client_secret", intent["client_secret"].as_str().unwrap()),
            ("outcome", outcome),
        ];
        let sent = browser
            .post(page.split('?').next().unwrap())
            .form(&form)
            .send()
            .await
            .unwrap();
        let back = sent.headers()["location"].to_str().unwrap().to_owned();
        assert!(back.starts_with("http://localhost/back?x=1&payment_intent="), "{back}");
        assert_eq!(
            client.get(&format!("payment_intents/{id}")).await.body["status"],
            expected
        );
    }
    let (id, _, shown) = client.attempt("4000002760003155").await;
    assert_eq!(
        (&shown["status"], &shown["next_action"]["type"]),
        (&json!("requires_action"), &json!("use_stripe_sdk"))
    );
    assert_eq!(client.stripe.authenticate(&id, true).unwrap()["status"], "succeeded");
}

#[tokio::test]
async fn a_server_confirms_with_a_token_and_says_where_redirects_lead() {
    let client = Client::start().await;
    let intent = client.intent().await;
    let path = format!("payment_intents/{}/confirm", intent["id"].as_str().unwrap());
    let refused = client.post(&path, &[("payment_method", "pm_card_visa")]).await;
    assert_eq!(refused.status, 400);
    assert!(
        refused.body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("return_url")
    );
    let form = [
        ("payment_method", "pm_card_visa"),
        ("return_url", "http://localhost/back"),
    ];
    assert_eq!(client.post(&path, &form).await.body["status"], "succeeded");

    let raw = [
        ("amount", "500"),
        ("currency", "usd"),
        ("payment_method_data[type]", "card"),
    ];
    let number = [("payment_method_data[card][number]", "4242424242424242")];
    let refused = client.post("payment_intents", &[&raw[..], &number].concat()).await;
    assert_eq!(refused.status, 402, "card numbers never pass through a server");
}

#[tokio::test]
async fn refunds_are_bounded_by_what_was_paid() {
    let client = Client::start().await;
    let (id, ..) = client.attempt("4242424242424242").await;
    let pi = ("payment_intent", id.as_str());
    let reason = client.post("refunds", &[pi, ("reason", "changed my mind")]).await;
    assert_eq!((reason.status, &reason.body["error"]["param"]), (400, &json!("reason")));
    let part = client
        .post(
            "refunds",
            &[pi, ("amount", "2345"), ("reason", "requested_by_customer")],
        )
        .await;
    assert_eq!((part.status, &part.body["status"]), (200, &json!("succeeded")));
    assert_eq!(client.post("refunds", &[pi, ("amount", "10001")]).await.status, 400);
    assert_eq!(client.post("refunds", &[pi]).await.body["amount"], 10000);
    let over = client.post("refunds", &[pi]).await;
    assert_eq!(
        (over.status, &over.body["error"]["code"]),
        (400, &json!("charge_already_refunded"))
    );
    let listed = client.get(&format!("refunds?payment_intent={id}&limit=1")).await.body;
    assert_eq!(
        (&listed["has_more"], &listed["data"][0]["amount"]),
        (&json!(true), &json!(10000))
    );
    let charge = &client.stripe.charges_of(&id)[0];
    assert_eq!(
        (&charge["amount_refunded"], &charge["refunded"]),
        (&json!(12345), &json!(true))
    );

    let (pending, ..) = client.attempt("4000000000007726").await;
    let refund = client.post("refunds", &[("payment_intent", &pending)]).await.body;
    assert_eq!(refund["status"], "pending");
    let failed = client.stripe.end_refund(refund["id"].as_str().unwrap(), false).unwrap();
    assert_eq!(failed["status"], "failed");
    assert_eq!(client.stripe.charges_of(&pending)[0]["amount_refunded"], 0);
    let unpaid = client.intent().await;
    let refused = client
        .post("refunds", &[("payment_intent", unpaid["id"].as_str().unwrap())])
        .await;
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn lists_are_paged_newest_first_and_filtered() {
    let client = Client::start().await;
    for _ in 0..5 {
        client.intent().await;
    }
    let first = client.get("payment_intents?limit=2").await.body;
    let last = first["data"][1]["id"].as_str().unwrap();
    let second = client
        .get(&format!("payment_intents?limit=3&starting_after={last}"))
        .await
        .body;
    assert_eq!((&first["has_more"], &second["has_more"]), (&json!(true), &json!(false)));
    assert_eq!(second["data"].as_array().unwrap().len(), 3);
    let oldest = second["data"][2]["id"].as_str().unwrap();
    assert_eq!(oldest, client.stripe.payment_intents()[0]["id"].as_str().unwrap());
    let back = client
        .get(&format!("payment_intents?limit=4&ending_before={oldest}"))
        .await
        .body;
    assert_eq!(back["data"].as_array().unwrap().len(), 4);
    assert_eq!(client.get("payment_intents?limit=0").await.status, 400);
    assert_eq!(
        client.get("payment_intents?created[gt]=4000000000").await.body["data"],
        json!([])
    );
    let events = client.get("events?type=payment_intent.created&limit=100").await.body;
    assert_eq!(events["data"].as_array().unwrap().len(), 5);
    let types = client
        .get("events?types[]=charge.succeeded&types[]=payment_intent.created&limit=1")
        .await
        .body;
    assert_eq!(types["has_more"], true);
}

#[tokio::test]
async fn a_slow_bank_keeps_the_intent_processing() {
    let client = Client::start().await;
    let intent = client.intent().await;
    let id = intent["id"].as_str().unwrap();
    assert_eq!(
        client.stripe.hold(id, "4242424242424242").unwrap()["status"],
        "processing"
    );
    assert_eq!(
        client.post(&format!("payment_intents/{id}/cancel"), &[]).await.status,
        400
    );
    assert_eq!(client.stripe.settle(id, true).unwrap()["status"], "succeeded");
    let expected = [
        "payment_intent.created",
        "payment_intent.processing",
        "charge.succeeded",
        "payment_intent.succeeded",
    ];
    assert_eq!(kinds(&client.stripe.events()), expected);
}
