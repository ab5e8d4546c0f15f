//! The settings of what the gateway does itself: limits of the public listener, PINs, links.
//!
//! contract: core §1.10 (gateway, pod edge, VR), §12

use std::time::Duration;

use shared::{config::Reader, http::limit::Rule, rate_limit_rule};
use url::Url;

/// What one address may ask of the public listener.
#[derive(Debug, Clone, Copy)]
pub struct EdgeRules {
    /// Everything together.
    pub listener: Rule,
    /// The token bucket of the auth routes.
    pub auth: Rule,
    /// The token bucket of everything else.
    pub api: Rule,
}

/// PINs and links.
#[derive(Debug, Clone)]
pub struct VrConfig {
    /// How often one address may make a PIN or a link.
    pub create: Rule,
    /// How often one address may redeem or withdraw.
    pub redeem: Rule,
    /// How many wrong PINs shut an address out, within and for how long.
    pub guesses: Rule,
    panorama: String,
}

impl VrConfig {
    /// The address of the panorama application with these parameters.
    pub fn panorama_with(&self, query: &[(&str, &str)]) -> String {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .finish();
        format!("{}?{query}", self.panorama)
    }
}

/// The settings of the gateway's own routes.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// Limits of the public listener.
    pub edge: EdgeRules,
    /// PINs and links.
    pub vr: VrConfig,
}

impl GatewaySettings {
    /// Reads the settings. `origins` are the pages of the web client.
    pub fn read(reader: &mut Reader, origins: &[String]) -> Self {
        const MINUTE: Duration = Duration::from_mins(1);
        const SECOND: Duration = Duration::from_secs(1);
        let edge = EdgeRules {
            listener: rate_limit_rule!(reader, "GATEWAY", Rule::new("gateway", 1_000, MINUTE)),
            auth: rate_limit_rule!(reader, "EDGE_AUTH", Rule::new("edge.auth", 10, SECOND).with_burst(20)),
            api: rate_limit_rule!(reader, "EDGE_API", Rule::new("edge.api", 50, SECOND).with_burst(100)),
        };
        let guesses = Rule::new("vr.guess", 20, Duration::from_mins(10));
        Self {
            edge,
            vr: VrConfig {
                create: rate_limit_rule!(reader, "VR_CREATE", Rule::new("vr.create", 10, MINUTE)),
                redeem: rate_limit_rule!(reader, "VR_REDEEM", Rule::new("vr.redeem", 10, MINUTE)),
                guesses: rate_limit_rule!(reader, "VR_GUESS", guesses),
                panorama: read_panorama(reader, origins),
            },
        }
    }
}

/// `PANORAMA_URL`: what a headset or a phone opens, so it must be a whole address.
fn read_panorama(reader: &mut Reader, origins: &[String]) -> String {
    const NAME: &str = "PANORAMA_URL";
    const HELP: &str = "public address of the panorama application; by default /panorama/ of the first allowed origin";
    let given = reader.text(NAME, HELP);
    let origin = match origins.first().filter(|_| reader.production()) {
        Some(origin) => origin.trim_end_matches('/'),
        // the web origin of development
        None => "http://localhost:8080",
    };
    let text = given.unwrap_or_else(|| format!("{origin}/panorama/"));
    let is_address =
        |url: &Url| matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none();
    if !Url::parse(&text).is_ok_and(|url| is_address(&url)) {
        reader.problem(format!(
            "{NAME}: `{text}` is not an http or https address without a query"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)], origins: &[&str]) -> Result<GatewaySettings, Vec<String>> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut reader = Reader::from_pairs(pairs);
        let origins: Vec<String> = origins.iter().map(|origin| (*origin).to_owned()).collect();
        let settings = GatewaySettings::read(&mut reader, &origins);
        reader.finish().map(|()| settings).map_err(|errors| errors.0)
    }

    #[test]
    fn the_panorama_is_at_the_origin_of_the_web_client() {
        let production = read(&[("APP_ENV", "production")], &["https://dreamscape.example/"]).unwrap();
        assert_eq!(
            production.vr.panorama_with(&[("pin", "123456")]),
            "https://dreamscape.example/panorama/?pin=123456"
        );
        let own = read(&[("PANORAMA_URL", "https://vr.example/app")], &[]).unwrap();
        assert_eq!(
            own.vr.panorama_with(&[("destination", "new york"), ("exp", "1")]),
            "https://vr.example/app?destination=new+york&exp=1"
        );
        for bad in ["/panorama/", "ftp://x.example/", "https://x.example/?a=b"] {
            assert!(read(&[("PANORAMA_URL", bad)], &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_limit_of_the_gateway_is_configured() {
        let settings = read(
            &[
                ("RATE_LIMIT_GATEWAY_MAX", "5"),
                ("RATE_LIMIT_EDGE_AUTH_MAX", "20"),
                ("RATE_LIMIT_EDGE_API_BURST", "7"),
                ("RATE_LIMIT_VR_GUESS_WINDOW", "60"),
            ],
            &[],
        )
        .unwrap();
        assert_eq!(settings.edge.listener.max, 5);
        assert_eq!((settings.edge.auth.max, settings.edge.auth.burst), (20, Some(40)));
        assert_eq!(settings.edge.api.burst, Some(7));
        assert_eq!(settings.vr.guesses.window, Duration::from_mins(1));
    }
}
