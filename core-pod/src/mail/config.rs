//! The settings of the mail service.
//!
//! contract: core §9, §12 (`SENDGRID_*`; a placeholder key counts as unconfigured)

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use lettre::Address;
use secrecy::{ExposeSecret as _, SecretString};
use shared::config::Reader;

/// How the connection to an SMTP server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpTls {
    /// Plain at first, TLS before anything is said. A server that cannot gets nothing.
    StartTls,
    /// TLS from the first byte.
    Implicit,
    /// None: a catcher on the own machine.
    None,
}

impl FromStr for SmtpTls {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "starttls" => Ok(Self::StartTls),
            "implicit" => Ok(Self::Implicit),
            "none" => Ok(Self::None),
            other => Err(format!("`{other}` is none of starttls, implicit, none")),
        }
    }
}

impl fmt::Display for SmtpTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartTls => "starttls",
            Self::Implicit => "implicit",
            Self::None => "none",
        })
    }
}

impl SmtpTls {
    const fn port(self) -> u16 {
        match self {
            Self::StartTls => 587,
            Self::Implicit => 465,
            Self::None => 25,
        }
    }
}

/// An SMTP server that takes our mail.
#[derive(Debug, Clone)]
pub struct SmtpConfig {
    /// Its name, which its certificate must have.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: SmtpTls,
    /// A certificate authority to trust beside those of the system.
    pub ca: Option<Vec<u8>>,
    /// Who we are to it.
    pub credentials: Option<(String, SecretString)>,
    /// How long one command may take.
    pub timeout: Duration,
    /// Connections at once.
    pub connections: u32,
}

/// SendGrid's HTTP API.
#[derive(Debug, Clone)]
pub struct SendGridConfig {
    /// The key.
    pub key: SecretString,
    /// Where the API is.
    pub url: String,
    /// How long one call may take.
    pub timeout: Duration,
}

/// By which way mail leaves.
#[derive(Debug, Clone)]
pub enum Way {
    /// `SENDGRID_API_KEY`.
    SendGrid(SendGridConfig),
    /// `SMTP_HOST`.
    Smtp(SmtpConfig),
    /// Development without either: kept, to be read at a local address.
    #[cfg(feature = "embedded")]
    Mailbox,
    /// Production without either: mail waits until it is of no use.
    Nowhere,
}

/// Who our mail is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The address.
    pub address: Address,
    /// The name beside it.
    pub name: String,
}

/// The settings of the mail service.
#[derive(Debug, Clone)]
pub struct MailConfig {
    /// Who mail is from.
    pub sender: Sender,
    /// By which way it leaves.
    pub way: Way,
    /// The web client, where links lead; without a slash at the end.
    pub client_url: String,
    /// The API, for the links that mail programs follow by themselves; without a slash at the end.
    pub api_url: String,
}

impl MailConfig {
    /// Reads all settings. `origins` are those of the CORS policy: the first one is the web client if nothing says where
    /// it is.
    pub fn read(reader: &mut Reader, origins: &[String]) -> Self {
        let client_url = reader
            .text(
                "CLIENT_URL",
                "address of the web client; its origin when CORS_ORIGIN is not set",
            )
            .or_else(|| origins.first().cloned())
            .unwrap_or_else(|| "http://localhost:5173".to_owned());
        let client_url = client_url.trim_end_matches('/').to_owned();
        let api_url = reader
            .text(
                "PUBLIC_API_URL",
                "address of the API as the world reaches it, for unsubscribe links; default: CLIENT_URL, one origin",
            )
            .unwrap_or_else(|| client_url.clone());
        for (name, url) in [("CLIENT_URL", &client_url), ("PUBLIC_API_URL", &api_url)] {
            let usable =
                url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
            if !usable {
                reader.problem(format!(
                    "{name}: links in mails need an address such as https://example.org"
                ));
            }
        }
        let sendgrid = SendGridConfig::read(reader);
        let smtp = SmtpConfig::read(reader);
        let production = reader.production();
        let way = match (sendgrid, smtp) {
            (Some(_), Some(_)) => {
                reader.problem("SENDGRID_API_KEY and SMTP_HOST are both set: keep one");
                Way::Nowhere
            }
            (Some(sendgrid), None) => Way::SendGrid(sendgrid),
            (None, Some(smtp)) => Way::Smtp(smtp),
            (None, None) => fallback(production),
        };
        Self {
            sender: Sender::read(reader),
            way,
            client_url,
            api_url: api_url.trim_end_matches('/').to_owned(),
        }
    }

    /// Whether mail leaves at all.
    pub fn is_configured(&self) -> bool {
        !matches!(self.way, Way::Nowhere)
    }
}

#[cfg(feature = "embedded")]
fn fallback(production: bool) -> Way {
    if production { Way::Nowhere } else { Way::Mailbox }
}

#[cfg(not(feature = "embedded"))]
fn fallback(_production: bool) -> Way {
    Way::Nowhere
}

impl Sender {
    fn read(reader: &mut Reader) -> Self {
        let text = reader.or(
            "SENDGRID_FROM_EMAIL",
            "noreply@dreamscape.app".to_owned(),
            "address our mail is from, by whichever way it leaves",
        );
        let name = reader.or(
            "SENDGRID_FROM_NAME",
            "Dreamscape".to_owned(),
            "name beside that address",
        );
        let address = text.parse().unwrap_or_else(|_| {
            reader.problem(format!("SENDGRID_FROM_EMAIL: `{text}` is not an address"));
            default_address()
        });
        Self {
            address,
            name: super::format::line(&name, 80),
        }
    }
}

#[expect(clippy::expect_used, reason = "a constant that is an address")]
fn default_address() -> Address {
    Address::new("noreply", "dreamscape.app").expect("the default sender is an address")
}

impl SendGridConfig {
    fn read(reader: &mut Reader) -> Option<Self> {
        let key = reader.secret(
            "SENDGRID_API_KEY",
            "key of SendGrid's API; a placeholder counts as none",
        );
        let url = reader.or(
            "SENDGRID_API_URL",
            "https://api.sendgrid.com".to_owned(),
            "address of SendGrid's API (https://api.eu.sendgrid.com for EU subusers)",
        );
        let key = key.filter(|key| is_sendgrid_key(key.expose_secret()))?;
        Some(Self {
            key,
            url: url.trim_end_matches('/').to_owned(),
            timeout: Duration::from_secs(15),
        })
    }
}

/// Keys look like `SG.<id>.<secret>`; manifests ship texts like `your_sendgrid_api_key`.
fn is_sendgrid_key(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    let is_placeholder = ["your", "change", "placeholder", "xxxx", "<", "example", "dummy"]
        .iter()
        .any(|mark| lower.contains(mark));
    key.starts_with("SG.") && key.len() >= 20 && !is_placeholder
}

impl SmtpConfig {
    fn read(reader: &mut Reader) -> Option<Self> {
        let host = reader.text(
            "SMTP_HOST",
            "SMTP server that takes our mail; instead of SENDGRID_API_KEY",
        );
        let tls = reader.or(
            "SMTP_TLS",
            SmtpTls::StartTls,
            "`starttls`, `implicit`, or `none` for a mail catcher on the own machine",
        );
        let port = reader.optional(
            "SMTP_PORT",
            "its port; default 587, 465 for implicit TLS, 25 without TLS",
        );
        let user = reader.text("SMTP_USERNAME", "user name at the SMTP server");
        let password = reader.secret("SMTP_PASSWORD", "password at the SMTP server");
        let ca_file: Option<PathBuf> = reader.optional(
            "SMTP_CA_FILE",
            "PEM file of a certificate authority that the SMTP server's certificate may be of",
        );
        let timeout = reader.or("SMTP_TIMEOUT_SECONDS", 20_u64, "how long one SMTP command may take");
        let connections = reader.or("SMTP_POOL_MAX", 4_u32, "connections to the SMTP server at once");
        let host = host?;
        if reader.production() && tls == SmtpTls::None {
            reader.problem(
                "SMTP_TLS: `none` would send secret links in the clear; production needs starttls or implicit",
            );
        }
        if user.is_some() != password.is_some() {
            reader.problem("SMTP_USERNAME and SMTP_PASSWORD belong together: set both or neither");
        }
        let ca = ca_file.and_then(|path| {
            let read = std::fs::read(&path);
            read.map_err(|error| reader.problem(format!("SMTP_CA_FILE: cannot be read: {}", error.kind())))
                .ok()
        });
        Some(Self {
            host,
            port: port.unwrap_or(tls.port()),
            tls,
            ca,
            credentials: user.zip(password),
            timeout: Duration::from_secs(timeout.max(1)),
            connections: connections.max(1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<MailConfig, String> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut reader = Reader::from_pairs(pairs);
        let config = MailConfig::read(&mut reader, &["https://app.example".to_owned()]);
        reader.finish().map(|()| config).map_err(|errors| errors.0.join("\n"))
    }

    #[test]
    fn a_placeholder_key_counts_as_none() {
        for placeholder in [
            "your_sendgrid_api_key",
            "SG.your-key-goes-here.please",
            "SG.xxxxxxxxxxxxxxxxxxxxxxxx",
            "changeme",
            "SG.",
        ] {
            let config = read(&[("SENDGRID_API_KEY", placeholder), ("APP_ENV", "production")]).unwrap();
            assert!(!config.is_configured(), "{placeholder}");
        }
        let config = read(&[("SENDGRID_API_KEY", "SG.abcdefghijk.0123456789")]).unwrap();
        assert!(matches!(config.way, Way::SendGrid(_)));
    }

    #[test]
    fn two_ways_at_once_are_refused() {
        let problems = read(&[
            ("SENDGRID_API_KEY", "SG.abcdefghijk.0123456789"),
            ("SMTP_HOST", "mail.example"),
        ]);
        assert!(problems.unwrap_err().contains("keep one"));
    }

    #[test]
    fn production_sends_no_secret_link_in_the_clear() {
        let problems = read(&[
            ("APP_ENV", "production"),
            ("SMTP_HOST", "mail.example"),
            ("SMTP_TLS", "none"),
        ]);
        assert!(problems.unwrap_err().contains("in the clear"));
    }

    #[test]
    fn the_port_follows_the_protection_and_half_credentials_are_refused() {
        for (tls, port) in [("starttls", 587), ("implicit", 465), ("none", 25)] {
            let config = read(&[("SMTP_HOST", "mail.example"), ("SMTP_TLS", tls)]).unwrap();
            let Way::Smtp(smtp) = config.way else {
                panic!("not smtp")
            };
            assert_eq!(smtp.port, port);
        }
        let problems = read(&[("SMTP_HOST", "mail.example"), ("SMTP_USERNAME", "ada")]);
        assert!(problems.unwrap_err().contains("belong together"));
    }

    #[test]
    fn links_lead_to_the_web_client() {
        assert_eq!(read(&[]).unwrap().client_url, "https://app.example");
        let config = read(&[("CLIENT_URL", "https://dreamscape.example/")]).unwrap();
        assert_eq!(config.client_url, "https://dreamscape.example");
        assert_eq!(config.api_url, "https://dreamscape.example");
        assert!(read(&[("CLIENT_URL", "javascript:alert(1)")]).is_err());
        assert!(read(&[("SENDGRID_FROM_EMAIL", "nobody")]).is_err());
    }
}
