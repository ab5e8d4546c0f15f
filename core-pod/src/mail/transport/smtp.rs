//! SMTP: a pool of connections to one server.
//!
//! contract: core §9. With `starttls` a server that does not offer TLS is left before anything is said to it; credentials
//! and mail never cross in the clear.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use async_trait::async_trait;
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{
        Mailbox, MultiPart,
        header::{HeaderName, HeaderValue},
    },
    transport::smtp::{
        PoolConfig,
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};
use secrecy::ExposeSecret as _;

use super::{Outgoing, SendError, Transport};
use crate::mail::config::{SmtpConfig, SmtpTls};

/// A connection nobody needed for this long is closed; servers close theirs after some minutes.
const IDLE: Duration = Duration::from_secs(60);

/// An SMTP server.
#[derive(Debug, Clone)]
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
}

impl Smtp {
    /// The server of these settings. Connects when there is something to send.
    pub fn new(config: &SmtpConfig) -> anyhow::Result<Self> {
        let tls = match config.tls {
            SmtpTls::None => Tls::None,
            SmtpTls::StartTls => Tls::Required(parameters(config)?),
            SmtpTls::Implicit => Tls::Wrapper(parameters(config)?),
        };
        let pool = PoolConfig::new().max_size(config.connections).idle_timeout(IDLE);
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&config.host)
            .port(config.port)
            .tls(tls)
            .timeout(Some(config.timeout))
            .pool_config(pool);
        if let Some((user, password)) = &config.credentials {
            let password = password.expose_secret().to_owned();
            builder = builder.credentials(Credentials::new(user.clone(), password));
        }
        Ok(Self {
            transport: builder.build(),
        })
    }
}

fn parameters(config: &SmtpConfig) -> anyhow::Result<TlsParameters> {
    let mut builder = TlsParameters::builder(config.host.clone());
    if let Some(pem) = &config.ca {
        let certificate = Certificate::from_pem(pem).context("SMTP_CA_FILE is not a certificate in PEM")?;
        builder = builder.add_root_certificate(certificate);
    }
    builder.build().context("failed to set up TLS for the SMTP server")
}

#[async_trait]
impl Transport for Smtp {
    fn name(&self) -> &'static str {
        "smtp"
    }

    async fn send(&self, mail: &Outgoing) -> Result<(), SendError> {
        let message = message(mail)?;
        self.transport
            .send(message)
            .await
            .map(drop)
            .map_err(|error| classify(&error))
    }
}

fn message(mail: &Outgoing) -> Result<Message, SendError> {
    let to: Address = mail
        .to
        .parse()
        .map_err(|_| SendError::Never("the address is none that SMTP knows".to_owned()))?;
    let from = Mailbox::new(Some(mail.from.name.clone()), mail.from.address.clone());
    let raw =
        |name: &'static str, value: &str| HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned());
    let mut builder = Message::builder()
        .from(from)
        .to(Mailbox::new(None, to))
        .date(SystemTime::from(mail.date))
        .message_id(Some(mail.message_id.clone()))
        .subject(mail.subject.as_str())
        .raw_header(raw("Auto-Submitted", "auto-generated"))
        .raw_header(raw("X-Auto-Response-Suppress", "All"));
    if let Some(url) = &mail.unsubscribe {
        builder = builder
            .raw_header(raw("List-Unsubscribe", &format!("<{url}>")))
            .raw_header(raw("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"));
    }
    builder
        .multipart(MultiPart::alternative_plain_html(mail.text.clone(), mail.html.clone()))
        .map_err(|_| SendError::Never("the mail could not be put together".to_owned()))
}

fn classify(error: &lettre::transport::smtp::Error) -> SendError {
    if let Some(code) = error.status() {
        let reason = format!("smtp {code}");
        // 530, 534, 535 and their like are about us, not about the mail: an operator can put that right
        let about_us = matches!(u16::from(code), 530 | 534 | 535 | 538 | 421 | 454);
        return if error.is_permanent() && !about_us {
            SendError::Never(reason)
        } else {
            SendError::later(reason)
        };
    }
    SendError::later(if error.is_timeout() {
        "smtp time-out"
    } else if error.is_tls() {
        "smtp tls refused"
    } else {
        "smtp not reached"
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::mail::config::Sender;

    fn mail(subject: &str) -> Outgoing {
        Outgoing {
            message_id: "<1@dreamscape.app>".to_owned(),
            from: Sender {
                address: "noreply@dreamscape.app".parse().unwrap(),
                name: "Dreamscape".to_owned(),
            },
            to: "ada@example.com".to_owned(),
            subject: subject.to_owned(),
            text: "Bonjour é".to_owned(),
            html: "<p>Bonjour é</p>".to_owned(),
            unsubscribe: Some("https://app.example/u/t".to_owned()),
            template: "notification".to_owned(),
            date: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_line_break_in_a_subject_starts_no_header() {
        let formatted = message(&mail("Hello\r\nBcc: eve@example.com")).unwrap().formatted();
        let text = String::from_utf8(formatted).unwrap();
        let headers = text.split("\r\n\r\n").next().unwrap();
        assert!(!headers.lines().any(|line| line.starts_with("Bcc")), "{headers}");
    }

    #[test]
    fn the_message_carries_its_id_and_the_one_click_headers() {
        let text = String::from_utf8(message(&mail("Hello")).unwrap().formatted()).unwrap();
        for line in [
            "Message-ID: <1@dreamscape.app>",
            "List-Unsubscribe: <https://app.example/u/t>",
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
            "Auto-Submitted: auto-generated",
            "Date: Thu, 01 Jan 1970 00:00:00 +0000",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("multipart/alternative"));
    }
}
