//! SendGrid's HTTP API, version 3.
//!
//! contract: core §9. Click and open tracking are switched off: tracking rewrites links, and ours carry secrets that no
//! third party may see in the clear.

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use http::{StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::{Outgoing, SendError, Transport};
use crate::mail::config::SendGridConfig;

/// SendGrid.
#[derive(Debug, Clone)]
pub struct SendGrid {
    http: reqwest::Client,
    url: String,
    key: SecretString,
}

impl SendGrid {
    /// With this key.
    pub fn new(config: &SendGridConfig) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(config.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent("dreamscape")
            .build()
            .context("failed to build the client of SendGrid")?;
        Ok(Self {
            http,
            url: format!("{}/v3/mail/send", config.url),
            key: config.key.clone(),
        })
    }
}

#[async_trait]
impl Transport for SendGrid {
    fn name(&self) -> &'static str {
        "sendgrid"
    }

    async fn send(&self, mail: &Outgoing) -> Result<(), SendError> {
        let request = self
            .http
            .post(&self.url)
            .bearer_auth(self.key.expose_secret())
            .json(&body(mail));
        let response = request.send().await.map_err(|error| {
            // the text of the error has the address only, which is not secret, but a class is enough
            SendError::later(if error.is_timeout() {
                "sendgrid time-out"
            } else {
                "sendgrid not reached"
            })
        })?;
        let status = response.status();
        let after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        outcome(status, after)
    }
}

fn outcome(status: StatusCode, after: Option<Duration>) -> Result<(), SendError> {
    let reason = format!("sendgrid {}", status.as_u16());
    match status.as_u16() {
        200..=299 => Ok(()),
        // what is wrong with the mail stays wrong
        400 | 413 | 415 | 422 => Err(SendError::Never(reason)),
        // overload and outages, and what an operator can put right: a wrong key must not kill every mail
        _ => Err(SendError::Later { reason, after }),
    }
}

fn body(mail: &Outgoing) -> Value {
    let mut headers = serde_json::Map::new();
    headers.insert("Message-ID".to_owned(), json!(mail.message_id));
    headers.insert("Auto-Submitted".to_owned(), json!("auto-generated"));
    if let Some(url) = &mail.unsubscribe {
        headers.insert("List-Unsubscribe".to_owned(), json!(format!("<{url}>")));
        headers.insert("List-Unsubscribe-Post".to_owned(), json!("List-Unsubscribe=One-Click"));
    }
    json!({
        "personalizations": [{ "to": [{ "email": mail.to }] }],
        "from": { "email": mail.from.address.to_string(), "name": mail.from.name },
        "subject": mail.subject,
        "content": [
            { "type": "text/plain", "value": mail.text },
            { "type": "text/html", "value": mail.html },
        ],
        "headers": headers,
        "categories": [mail.template],
        "tracking_settings": {
            "click_tracking": { "enable": false, "enable_text": false },
            "open_tracking": { "enable": false },
            "subscription_tracking": { "enable": false },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wrong_with_the_mail_itself_is_final() {
        let status = |code| StatusCode::from_u16(code).unwrap();
        assert_eq!(outcome(status(202), None), Ok(()));
        for final_code in [400, 413] {
            assert!(matches!(outcome(status(final_code), None), Err(SendError::Never(_))));
        }
        for passing in [401, 403, 429, 500, 503] {
            assert!(
                matches!(outcome(status(passing), None), Err(SendError::Later { .. })),
                "{passing}"
            );
        }
        let asked = Some(Duration::from_secs(90));
        assert_eq!(
            outcome(status(429), asked),
            Err(SendError::Later {
                reason: "sendgrid 429".to_owned(),
                after: asked
            })
        );
    }
}
