//! The traveller's side of HTTP: a cookie jar, a bearer token, a log of steps.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::Step;

/// How often the traveller looks whether something has happened: well below every limit.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How often a request that was one too many is sent again.
const POLITE_RETRIES: u32 = 5;

/// Where each service answers.
#[derive(Debug, Clone)]
pub struct Addresses {
    auth: String,
    user: String,
    voyage: String,
    payment: String,
    ai: String,
    /// The mailbox of development, if the platform runs on this machine.
    mailbox: Option<String>,
}

impl Addresses {
    /// Everything through one origin, as a browser does it.
    pub fn one_origin(base: &str) -> Self {
        let mailbox = host_of(base).map(|host| format!("{}/dev/mail/messages", port_of(host, "USER_PORT", 3002)));
        let base = base.trim_end_matches('/').to_owned();
        Self {
            auth: base.clone(),
            user: base.clone(),
            voyage: base.clone(),
            payment: base.clone(),
            ai: base,
            mailbox,
        }
    }

    /// Each service on the development port of the contract, on the host of `base`; `AUTH_PORT` and its like move them.
    pub fn direct(base: &str) -> anyhow::Result<Self> {
        let host = host_of(base).context("the base address has no host")?;
        let port = |name: &str, default: u16| port_of(host, name, default);
        Ok(Self {
            auth: port("AUTH_PORT", 3001),
            user: port("USER_PORT", 3002),
            voyage: port("VOYAGE_PORT", 3003),
            payment: port("PAYMENT_PORT", 3004),
            ai: port("AI_PORT", 3005),
            mailbox: Some(format!("{}/dev/mail/messages", port("USER_PORT", 3002))),
        })
    }

    fn of(&self, path: &str) -> &str {
        match path.trim_start_matches("/api/v1/").split('/').next() {
            Some("auth") => &self.auth,
            Some("users") => &self.user,
            Some("payment") => &self.payment,
            Some("ai" | "recommendations") => &self.ai,
            _ => &self.voyage,
        }
    }
}

fn host_of(base: &str) -> Option<&str> {
    base.split("://").nth(1).and_then(|rest| rest.split([':', '/']).next())
}

/// The address of a service on this host, on its development port or where the environment has moved it.
fn port_of(host: &str, name: &str, default: u16) -> String {
    let port = shared::config::Reader::from_env()
        .text_now(name)
        .unwrap_or_else(|| default.to_string());
    format!("http://{host}:{port}")
}

/// One traveller with a browser.
#[derive(Debug)]
pub struct Traveller {
    http: reqwest::Client,
    addresses: Addresses,
    stripe: String,
    patience: Duration,
    prints: bool,
    bearer: Option<String>,
    cookies: Vec<(String, String)>,
    steps: Vec<Step>,
}

impl Traveller {
    /// A traveller who has not signed in.
    pub fn new(addresses: Addresses, stripe: &str, patience: Duration, prints: bool) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(3))
            .timeout(Duration::from_secs(30))
            .user_agent("dreamscape-demo/1")
            .build()?;
        let stripe = stripe.trim_end_matches('/').to_owned();
        let steps = Vec::new();
        Ok(Self {
            http,
            addresses,
            stripe,
            patience,
            prints,
            bearer: None,
            cookies: Vec::new(),
            steps,
        })
    }

    /// The steps so far.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// From now on the traveller is this account.
    pub fn sign_in_with(&mut self, token: &str) {
        self.bearer = Some(token.to_owned());
    }

    /// Notes a step; `seen` is what a reader of the table wants to know.
    pub fn note(&mut self, what: &str, seen: impl Into<String>, started: Instant) {
        let step = Step {
            what: what.to_owned(),
            seen: seen.into(),
            millis: started.elapsed().as_secs_f64() * 1_000.0,
        };
        if self.prints {
            println!(
                "{:>3}  {:<44} {:>8.1} ms  {}",
                self.steps.len() + 1,
                step.what,
                step.millis,
                step.seen
            );
        }
        self.steps.push(step);
    }

    /// `GET`; anything but 200 is an error with the body.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, None)
            .await
            .and_then(|(status, body)| expect(StatusCode::OK, status, body, path))
    }

    /// `POST` with a JSON body; any other status than `wanted` is an error.
    pub async fn post(&mut self, path: &str, body: Value, wanted: StatusCode) -> anyhow::Result<Value> {
        let (status, answer) = self.call(Method::POST, path, Some(body)).await?;
        expect(wanted, status, answer, path)
    }

    /// Asks again until `done` accepts the answer or patience ends.
    pub async fn until(&mut self, path: &str, what: &str, done: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let deadline = Instant::now() + self.patience;
        loop {
            let answer = self.get(path).await?;
            if done(&answer) {
                return Ok(answer);
            }
            ensure!(
                Instant::now() < deadline,
                "{what} did not happen within {} s; last seen: {answer}",
                self.patience.as_secs()
            );
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// The newest mail of this template to this address, as soon as it is there. `None` where there is no mailbox to look
    /// into: mail of this platform leaves for real, or the platform is elsewhere.
    pub async fn mail(&self, to: &str, template: &str) -> anyhow::Result<Option<Value>> {
        let Some(mailbox) = &self.addresses.mailbox else {
            return Ok(None);
        };
        let deadline = Instant::now() + self.patience;
        loop {
            let answer = match self.http.get(mailbox).send().await {
                Ok(answer) if answer.status().is_success() => answer,
                _ => return Ok(None),
            };
            let mails: Vec<Value> = answer.json().await.context("the mailbox gave no list")?;
            let wanted = |mail: &&Value| {
                let field = |name| mail.get(name).and_then(Value::as_str);
                field("to") == Some(to) && field("template") == Some(template)
            };
            if let Some(mail) = mails.iter().find(wanted) {
                return Ok(Some(mail.clone()));
            }
            ensure!(
                Instant::now() < deadline,
                "no mail `{template}` came within {} s",
                self.patience.as_secs()
            );
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// The card form: what the provider's script in the browser sends, with the publishable key and the client secret.
    pub async fn pay_by_card(&mut self, payment: &Value, number: &str) -> anyhow::Result<(StatusCode, Value)> {
        let text = |name: &str| {
            payment
                .get(name)
                .and_then(Value::as_str)
                .with_context(|| format!("checkout gave no {name}"))
        };
        let (intent, secret, key) = (text("paymentIntentId")?, text("clientSecret")?, text("publishableKey")?);
        ensure!(
            key.starts_with("pk_test_"),
            "the demo pays with test cards only, and the platform has a live key"
        );
        let form = [
            ("key", key),
            ("client_secret", secret),
            ("payment_method_data[type]", "card"),
            ("payment_method_data[card][number]", number),
            ("payment_method_data[card][exp_month]", "12"),
            ("payment_method_data[card][exp_year]", "34"),
            ("payment_method_data[card][cvc]", "123"),
            ("return_url", "https://dreamscape.invalid/payment/confirmation"),
        ];
        let url = format!("{}/v1/payment_intents/{intent}/confirm", self.stripe);
        let response = self
            .http
            .post(&url)
            .form(&form)
            .send()
            .await
            .with_context(|| format!("cannot reach {url}"))?;
        let status = response.status();
        Ok((status, response.json().await.unwrap_or_else(|_| json!({}))))
    }

    /// Sends a request; when it is one too many (429) waits as long as told and sends it again.
    async fn call(&mut self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<(StatusCode, Value)> {
        let mut patience = POLITE_RETRIES;
        loop {
            let (answer, wait) = self.send(method.clone(), path, body.clone()).await?;
            if answer.0 != StatusCode::TOO_MANY_REQUESTS || patience == 0 {
                return Ok(answer);
            }
            patience -= 1;
            tokio::time::sleep(wait).await;
        }
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<((StatusCode, Value), Duration)> {
        let url = format!("{}{path}", self.addresses.of(path));
        let mut request = self.http.request(method.clone(), &url);
        if let Some(bearer) = &self.bearer {
            request = request.bearer_auth(bearer);
        }
        if !self.cookies.is_empty() {
            let jar: Vec<String> = self
                .cookies
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            request = request
                .header("cookie", jar.join("; "))
                .header("sec-fetch-site", "same-origin");
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request
            .send()
            .await
            .with_context(|| format!("{method} {url}: no answer; does the platform run (make run)?"))?;
        let set: Vec<String> = response
            .headers()
            .get_all("set-cookie")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .map(str::to_owned)
            .collect();
        for cookie in set {
            self.keep(&cookie);
        }
        let status = response.status();
        let seconds = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let text = response.text().await?;
        let answer = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text)
                .with_context(|| format!("{method} {path} answered {status} with something else than JSON"))?
        };
        Ok(((status, answer), Duration::from_secs(seconds.unwrap_or(1))))
    }

    fn keep(&mut self, cookie: &str) {
        let Some((name, value)) = cookie.split(';').next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        self.cookies.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.cookies.push((name.to_owned(), value.to_owned()));
        }
    }
}

fn expect(wanted: StatusCode, status: StatusCode, body: Value, path: &str) -> anyhow::Result<Value> {
    if status != wanted {
        bail!("{path} answered {status} instead of {wanted}: {body}");
    }
    Ok(body)
}
