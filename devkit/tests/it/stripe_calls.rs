//! How the Stripe double takes calls: keys, idempotency, faults, restarts (contract: payment §5, §12).

use std::time::Duration;

use devkit::stripe::{Fault, Options, StripeDouble};
use http::Method;
use serde_json::json;

use crate::stripe::{Client, ORDINARY};

#[tokio::test]
async fn keys_are_checked_and_live_ones_refused() {
    let client = Client::start().await;
    let url = format!("{}/v1/balance", client.stripe.base_url());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    assert_eq!(http.get(&url).send().await.unwrap().status(), 401);
    for key in ["sk_test_wrong", "sk_live_4242"] {
        assert_eq!(
            http.get(&url).bearer_auth(key).send().await.unwrap().status(),
            401,
            "{key}"
        );
    }
    assert_eq!(
        http.get(&url)
            .basic_auth(client.stripe.secret_key(), Some(""))
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    let browser = http
        .get(&url)
        .bearer_auth(client.stripe.publishable_key())
        .send()
        .await
        .unwrap();
    assert_eq!(browser.status(), 403);

    let intent = client.intent().await;
    let (_, body) = client
        .stripe
        .pay_in_browser(&format!("{}x", intent["client_secret"].as_str().unwrap()), "4242")
        .await
        .unwrap();
    assert_eq!(body["error"]["param"], "client_secret");
    let live = Options {
        secret_key: "sk_live_1".to_owned(),
        ..Options::default()
    };
    assert!(StripeDouble::start(live).await.is_err());
}

#[tokio::test]
async fn a_browser_may_call_from_another_origin() {
    let client = Client::start().await;
    let url = format!("{}/v1/payment_intents/pi_1/confirm", client.stripe.base_url());
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http
        .request(Method::OPTIONS, url)
        .header("origin", "http://localhost:8080")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.headers()["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn the_version_and_the_key_are_echoed() {
    let client = Client::start().await;
    let answer = client.post_with_key("payment_intents", "k1", ORDINARY).await.unwrap();
    assert_eq!(answer.headers["stripe-version"], "2023-10-16");
    assert_eq!(answer.headers["idempotency-key"], "k1");
    assert!(answer.headers["request-id"].to_str().unwrap().starts_with("req_"));
    assert_eq!(client.stripe.events()[0]["request"]["idempotency_key"], "k1");
    assert_eq!(client.stripe.events()[0]["api_version"], "2023-10-16");
}

#[tokio::test]
async fn a_repeated_key_gets_the_first_answer_and_other_parameters_an_error() {
    let client = Client::start().await;
    let first = client.post_with_key("payment_intents", "k", ORDINARY).await.unwrap();
    let second = client.post_with_key("payment_intents", "k", ORDINARY).await.unwrap();
    assert_eq!(first.body, second.body);
    assert_eq!(second.headers["idempotent-replayed"], "true");
    assert_eq!(second.headers["original-request"], first.headers["request-id"]);
    let other = client
        .post_with_key("payment_intents", "k", &[("amount", "1"), ("currency", "eur")])
        .await
        .unwrap();
    assert_eq!(
        (other.status, &other.body["error"]["type"]),
        (400, &json!("idempotency_error"))
    );
    assert_eq!(client.stripe.payment_intents().len(), 1);

    // A refused card is an answer as well; a parameter that was never accepted is not.
    let form = [
        ("amount", "500"),
        ("currency", "eur"),
        ("confirm", "true"),
        ("return_url", "http://localhost/"),
    ];
    let form = [&form[..], &[("payment_method", "pm_card_chargeDeclined")]].concat();
    let refused = client.post_with_key("payment_intents", "d", &form).await.unwrap();
    let replayed = client.post_with_key("payment_intents", "d", &form).await.unwrap();
    assert_eq!((refused.status, &refused.body), (402, &replayed.body));
    assert_eq!(client.stripe.payment_intents().len(), 2);
    assert_eq!(
        client
            .post_with_key("payment_intents", "v", &[("amount", "1")])
            .await
            .unwrap()
            .status,
        400
    );
    assert_eq!(
        client
            .post_with_key("payment_intents", "v", ORDINARY)
            .await
            .unwrap()
            .status,
        200
    );
}

#[tokio::test]
async fn a_key_in_use_is_a_conflict() {
    let client = Client::start().await;
    client.stripe.fail_next(Fault::Slow(Duration::from_millis(300)));
    let slow = client.post_with_key("payment_intents", "k", ORDINARY);
    let quick = async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let answer = client.post_with_key("payment_intents", "k", ORDINARY).await.unwrap();
            if answer.status == 409 {
                return answer;
            }
            assert!(
                client.stripe.payment_intents().is_empty(),
                "the conflict was never seen"
            );
        }
    };
    // Which of the two comes first does not matter: one works, the other is refused meanwhile.
    let (slow, conflict) = tokio::join!(slow, quick);
    assert_eq!(conflict.body["error"]["code"], "idempotency_key_in_use");
    assert_eq!(conflict.headers["stripe-should-retry"], "true");
    assert_eq!(slow.unwrap().status, 200);
    assert_eq!(client.stripe.payment_intents().len(), 1);
}

#[tokio::test]
async fn faults_strike_before_or_after_the_work() {
    let client = Client::start().await;
    for (fault, made) in [
        (Fault::TimeoutAfterCommit, 1),
        (Fault::ConnectionResetAfterCommit, 1),
        (Fault::Timeout, 0),
        (Fault::ConnectionReset, 0),
    ] {
        let before = client.stripe.payment_intents().len();
        let key = format!("{fault:?}");
        client.stripe.fail_calls(Method::POST, "/v1/payment_intents", fault, 1);
        assert_eq!(
            client.get("balance").await.status,
            200,
            "only the calls that were named fail"
        );
        assert!(
            client.post_with_key("payment_intents", &key, ORDINARY).await.is_err(),
            "{fault:?}"
        );
        assert_eq!(client.stripe.payment_intents().len(), before + made, "{fault:?}");
        let repeated = client.post_with_key("payment_intents", &key, ORDINARY).await.unwrap();
        assert_eq!(repeated.status, 200);
        assert_eq!(client.stripe.payment_intents().len(), before + 1, "{fault:?}");
    }
    client.stripe.fail_next(Fault::RateLimited);
    let limited = client.get("balance").await;
    assert_eq!(
        (limited.status, limited.headers["retry-after"].to_str().unwrap()),
        (429, "1")
    );
    client.stripe.fail_next(Fault::ServerError);
    assert_eq!(
        client
            .post_with_key("payment_intents", "e", ORDINARY)
            .await
            .unwrap()
            .status,
        500
    );
    assert_eq!(
        client
            .post_with_key("payment_intents", "e", ORDINARY)
            .await
            .unwrap()
            .status,
        200
    );
    client.stripe.fail_next(Fault::ServerErrorAfterCommit);
    assert_eq!(
        client
            .post_with_key("payment_intents", "f", ORDINARY)
            .await
            .unwrap()
            .status,
        500
    );
    let replayed = client.post_with_key("payment_intents", "f", ORDINARY).await.unwrap();
    assert_eq!(
        (
            replayed.status,
            replayed.headers["stripe-should-retry"].to_str().unwrap()
        ),
        (500, "false")
    );
}

#[tokio::test]
async fn objects_and_keys_outlive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("stripe.jsonl");
    let keys = || Options {
        secret_key: "sk_test_1".to_owned(),
        publishable_key: "pk_test_1".to_owned(),
        journal: Some(journal.clone()),
        ..Options::default()
    };
    let client = Client::with(keys()).await;
    let first = client.post_with_key("payment_intents", "k", ORDINARY).await.unwrap();
    let (paid, ..) = client.attempt("4242424242424242").await;
    let before = client.stripe.object(&paid).unwrap();
    drop(client);
    // A write cut short by a kill is passed over.
    let mut text = std::fs::read_to_string(&journal).unwrap();
    text.push_str("{\"kind\":\"intent\",\"val");
    std::fs::write(&journal, text).unwrap();

    let client = Client::with(keys()).await;
    assert_eq!(client.stripe.object(&paid).unwrap(), before);
    assert_eq!(client.stripe.payment_intents().len(), 2);
    let replayed = client.post_with_key("payment_intents", "k", ORDINARY).await.unwrap();
    assert_eq!(replayed.body, first.body);
    assert_eq!(replayed.headers["idempotent-replayed"], "true");
}
