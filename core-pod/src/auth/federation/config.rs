//! The settings of sign-in with other providers.
//!
//! contract: core §12, §14 (Google, Apple, Microsoft, generic)

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use shared::config::Reader;
use url::Url;

/// A provider that travellers may sign in with.
#[derive(Clone)]
pub struct ProviderConfig {
    /// Its name in addresses and in the database: `google`.
    pub id: String,
    /// Its name on the button.
    pub name: String,
    /// Its issuer, exactly as it calls itself.
    pub issuer: String,
    /// Who we are there.
    pub client_id: String,
    /// Our secret there; none for a public client.
    pub client_secret: Option<SecretString>,
    /// What we ask for.
    pub scopes: Vec<String>,
}

impl fmt::Debug for ProviderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderConfig")
            .field("id", &self.id)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// The providers and the addresses around them.
#[derive(Debug, Clone)]
pub struct OidcConfig {
    /// In the order of the buttons.
    pub providers: Vec<ProviderConfig>,
    /// Where browsers reach this service: what providers send them back to begins with it.
    pub public_url: Url,
    /// The page of the web client that takes over after a sign-in.
    pub client_page: Url,
    /// Whether providers may speak without TLS: on this machine only.
    pub allow_plain: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    id: String,
    name: Option<String>,
    issuer: String,
    client_id: String,
    client_secret: Option<String>,
    client_secret_file: Option<String>,
    scopes: Option<Vec<String>>,
}

impl OidcConfig {
    /// Reads the settings.
    pub fn read(reader: &mut Reader) -> Self {
        let text = reader.secret(
            "OIDC_PROVIDERS",
            "JSON list of OpenID providers, [{\"id\",\"name\",\"issuer\",\"clientId\",\"clientSecret\" or \"clientSecretFile\",\"scopes\"}]; unset: none",
        );
        let entries: Vec<Entry> = match text.as_ref().map(|text| serde_json::from_str(text.expose_secret())) {
            Some(Ok(entries)) => entries,
            // the text of the error could quote a secret
            Some(Err(error)) => {
                reader.problem(format!(
                    "OIDC_PROVIDERS: not a list of providers (line {}, column {})",
                    error.line(),
                    error.column()
                ));
                Vec::new()
            }
            None => Vec::new(),
        };
        let allow_plain = !reader.production();
        let mut providers: Vec<ProviderConfig> = Vec::new();
        for entry in entries {
            match ProviderConfig::parse(entry, allow_plain) {
                Ok(provider) if providers.iter().any(|other| other.id == provider.id) => {
                    reader.problem(format!("OIDC_PROVIDERS: `{}` is listed twice", provider.id));
                }
                Ok(provider) => providers.push(provider),
                Err(problem) => reader.problem(format!("OIDC_PROVIDERS: {problem}")),
            }
        }
        let client = read_client_page(reader);
        let default = if reader.production() {
            origin_of(&client)
        } else {
            "http://localhost:3000".to_owned()
        };
        let public_url = reader.or(
            "OIDC_PUBLIC_URL",
            default,
            "where browsers reach the API; providers send them back to <this>/api/v1/auth/oidc/<id>/callback",
        );
        let public_url = parse_url(reader, "OIDC_PUBLIC_URL", &public_url);
        Self {
            providers,
            public_url,
            client_page: client,
            allow_plain,
        }
    }
}

fn read_client_page(reader: &mut Reader) -> Url {
    let client = reader.text(
        "CLIENT_URL",
        "address of the web client; its origin when CORS_ORIGIN is not set",
    );
    let listed = reader.text_now("CORS_ORIGIN");
    let first = listed.and_then(|list| list.split(',').next().map(|origin| origin.trim().to_owned()));
    let base = client.or(first).unwrap_or_else(|| "http://localhost:5173".to_owned());
    let base = parse_url(reader, "CLIENT_URL", &base);
    let path = reader.or(
        "OIDC_CLIENT_PATH",
        "/auth/callback".to_owned(),
        "the page of the web client that takes over after a sign-in at a provider",
    );
    base.join(&path).unwrap_or(base)
}

fn parse_url(reader: &mut Reader, name: &str, text: &str) -> Url {
    match Url::parse(text) {
        Ok(url) if url.has_host() => url,
        _ => {
            reader.problem(format!("{name}: not an address such as https://example.org"));
            placeholder()
        }
    }
}

#[expect(clippy::expect_used, reason = "a constant address")]
fn placeholder() -> Url {
    Url::parse("http://localhost/").expect("a constant address is one")
}

fn origin_of(url: &Url) -> String {
    url.origin().ascii_serialization()
}

impl ProviderConfig {
    fn parse(entry: Entry, allow_plain: bool) -> Result<Self, String> {
        let Entry {
            id,
            name,
            issuer,
            client_id,
            client_secret,
            client_secret_file,
            scopes,
        } = entry;
        let is_id = (1..=32).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !is_id {
            return Err("an id must have 1 to 32 of a-z, 0-9 and -".to_owned());
        }
        let secure = Url::parse(&issuer).is_ok_and(|url| is_acceptable(&url, allow_plain));
        if !secure {
            return Err(format!("the issuer of `{id}` is not an https address"));
        }
        let client_secret = match (client_secret, client_secret_file) {
            (Some(_), Some(_)) => return Err(format!("`{id}` has both clientSecret and clientSecretFile")),
            (Some(secret), None) => Some(secret),
            (None, Some(path)) => {
                let read = std::fs::read_to_string(&path);
                let text = read.map_err(|error| format!("the secret file of `{id}`: {}", error.kind()))?;
                Some(text.trim().to_owned())
            }
            (None, None) => None,
        };
        let mut scopes = scopes.unwrap_or_else(|| ["email", "profile"].map(str::to_owned).to_vec());
        if !scopes.iter().any(|scope| scope == "openid") {
            scopes.insert(0, "openid".to_owned());
        }
        Ok(Self {
            name: name.unwrap_or_else(|| id.clone()),
            id,
            issuer,
            client_id,
            client_secret: client_secret.map(SecretString::from),
            scopes,
        })
    }
}

/// TLS, or an address of this machine where that is allowed.
pub fn is_acceptable(url: &Url, allow_plain: bool) -> bool {
    let local = || match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (allow_plain && url.scheme() == "http" && local())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<OidcConfig, String> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let mut reader = Reader::from_pairs(pairs);
        let config = OidcConfig::read(&mut reader);
        reader.finish().map(|()| config).map_err(|errors| errors.0.join("\n"))
    }

    #[test]
    fn nothing_is_configured_unless_asked_for() {
        let config = read(&[]).unwrap();
        assert!(config.providers.is_empty());
        assert_eq!(config.client_page.as_str(), "http://localhost:5173/auth/callback");
    }

    #[test]
    fn a_provider_has_an_issuer_a_client_and_asks_for_openid() {
        let list = r#"[{"id":"acme","issuer":"https://id.acme.example","clientId":"x","clientSecret":"s3cret","scopes":["email"]}]"#;
        let settings = [
            ("OIDC_PROVIDERS", list),
            ("APP_ENV", "production"),
            ("CLIENT_URL", "https://app.example.org"),
        ];
        let config = read(&settings).unwrap();
        let [acme] = config.providers.as_slice() else { panic!() };
        assert_eq!(acme.scopes, ["openid", "email"]);
        assert_eq!(acme.name, "acme");
        assert_eq!(config.public_url.as_str(), "https://app.example.org/");
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not() {
        for (list, problem) in [
            ("{}", "not a list"),
            (
                r#"[{"id":"a","issuer":"https://x.example","clientId":"x","clientSecret":5}]"#,
                "not a list",
            ),
            (
                r#"[{"id":"A b","issuer":"https://x.example","clientId":"x"}]"#,
                "an id must",
            ),
            (
                r#"[{"id":"a","issuer":"http://x.example","clientId":"x"}]"#,
                "not an https address",
            ),
            (
                r#"[{"id":"a","issuer":"https://x.example","clientId":"x","clientSecretFile":"/nowhere"}]"#,
                "the secret file",
            ),
            (
                r#"[{"id":"a","issuer":"https://x.example","clientId":"x"},{"id":"a","issuer":"https://y.example","clientId":"x"}]"#,
                "listed twice",
            ),
        ] {
            let problems = read(&[("OIDC_PROVIDERS", list)]).unwrap_err();
            assert!(problems.contains(problem), "{problems}");
        }
    }
}
