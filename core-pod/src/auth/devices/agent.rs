//! What a `User-Agent` says about the device, in words its owner knows: browser, system, kind.
//!
//! contract: core §14 (`GET /auth/sessions`, new-device alerts)
//!
//! Versions are left out on purpose: a browser that updates itself is still the same device. An agent nobody knows is named
//! by its first product, as programs name themselves (`curl`, `okhttp`).

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

/// Names of unknown programs are cut here.
const MAX_NAME: usize = 40;

/// Browsers by the token that gives them away. The order matters: almost all of them also claim to be the ones below.
const BROWSERS: [(&str, &str); 13] = [
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("YaBrowser/", "Yandex Browser"),
    ("Vivaldi/", "Vivaldi"),
    ("DuckDuckGo/", "DuckDuckGo"),
    ("OculusBrowser/", "Meta Quest Browser"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("HeadlessChrome/", "Headless Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
];

/// Systems by token, the more particular ones first.
const SYSTEMS: [(&str, &str); 9] = [
    ("Windows", "Windows"),
    ("iPhone", "iOS"),
    ("iPad", "iPadOS"),
    ("iPod", "iOS"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Mac OS X", "macOS"),
    ("Macintosh", "macOS"),
    ("Linux", "Linux"),
];

/// What kind of thing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A computer.
    Desktop,
    /// A telephone.
    Mobile,
    /// A tablet.
    Tablet,
    /// A headset.
    Headset,
    /// Not a browser.
    Program,
    /// It did not say.
    Unknown,
}

/// A device as its owner would call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Device {
    /// `Firefox`, or the name of a program.
    pub browser: Option<String>,
    /// `Windows`.
    pub os: Option<String>,
    /// What kind of thing it is.
    #[serde(rename = "type")]
    pub kind: DeviceKind,
    /// All of it in one text: `Firefox on Windows`.
    pub name: String,
}

impl Device {
    /// What this agent says it is.
    pub fn of(agent: Option<&str>) -> Self {
        let agent = agent.unwrap_or_default().trim();
        let known = |table: &[(&'static str, &'static str)]| {
            let found = table.iter().find(|(token, _)| agent.contains(token));
            found.map(|(_, name)| (*name).to_owned())
        };
        let is_browser = agent.starts_with("Mozilla/") || agent.starts_with("Opera/");
        let browser = if is_browser { known(&BROWSERS) } else { product(agent) };
        let os = known(&SYSTEMS);
        let kind = match (agent, is_browser) {
            ("", _) => DeviceKind::Unknown,
            (_, false) => DeviceKind::Program,
            (agent, true) => browser_kind(agent),
        };
        let name = match (&browser, &os) {
            (Some(browser), Some(os)) => format!("{browser} on {os}"),
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => "Unknown device".to_owned(),
        };
        Self {
            browser,
            os,
            kind,
            name,
        }
    }

    /// What known devices are kept as.
    pub fn fingerprint(&self) -> [u8; 32] {
        let Self { browser, os, kind, .. } = self;
        let text = format!(
            "{}\n{}\n{kind:?}",
            browser.as_deref().unwrap_or_default(),
            os.as_deref().unwrap_or_default()
        );
        Sha256::digest(text.as_bytes()).into()
    }
}

fn browser_kind(agent: &str) -> DeviceKind {
    let has = |token: &str| agent.contains(token);
    if has("OculusBrowser") || has("Quest") {
        DeviceKind::Headset
    } else if has("iPad") || has("Tablet") || (has("Android") && !has("Mobile")) {
        DeviceKind::Tablet
    } else if has("Mobile") || has("iPhone") || has("iPod") {
        DeviceKind::Mobile
    } else if SYSTEMS.iter().any(|(token, _)| has(token)) {
        DeviceKind::Desktop
    } else {
        DeviceKind::Unknown
    }
}

/// `curl` of `curl/8.5.0`: letters, digits and a few marks only, for it is shown to people.
fn product(agent: &str) -> Option<String> {
    let name: String = agent
        .chars()
        .take_while(|character| character.is_ascii_alphanumeric() || "-_. ".contains(*character))
        .take(MAX_NAME)
        .collect();
    let name = name.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usual_agents_are_called_what_their_owners_call_them() {
        for (agent, name, kind) in [
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0",
                "Firefox on Windows",
                DeviceKind::Desktop,
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
                "Safari on macOS",
                DeviceKind::Desktop,
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0",
                "Edge on Windows",
                DeviceKind::Desktop,
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/131.0.6778.73 Mobile/15E148 Safari/604.1",
                "Chrome on iOS",
                DeviceKind::Mobile,
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; SM-X710) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
                "Chrome on Android",
                DeviceKind::Tablet,
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64; Quest 3) AppleWebKit/537.36 (KHTML, like Gecko) OculusBrowser/35.1 Chrome/126.0 VR Safari/537.36",
                "Meta Quest Browser on Linux",
                DeviceKind::Headset,
            ),
            ("curl/8.5.0", "curl", DeviceKind::Program),
            ("", "Unknown device", DeviceKind::Unknown),
        ] {
            let device = Device::of(Some(agent));
            assert_eq!((device.name.as_str(), device.kind), (name, kind), "{agent}");
        }
        assert_eq!(Device::of(None), Device::of(Some("  ")));
    }

    #[test]
    fn an_update_of_the_browser_is_no_new_device_and_another_browser_is() {
        let firefox = |version: u32| {
            let agent = format!("Mozilla/5.0 (X11; Linux x86_64; rv:{version}.0) Gecko/20100101 Firefox/{version}.0");
            Device::of(Some(&agent)).fingerprint()
        };
        assert_eq!(firefox(132), firefox(133));
        let chrome =
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0 Safari/537.36";
        assert_ne!(Device::of(Some(chrome)).fingerprint(), firefox(133));
    }

    proptest! {
        #[test]
        fn what_a_stranger_sends_cannot_put_markup_into_the_name(agent in "\\PC{0,200}") {
            let device = Device::of(Some(&agent));
            prop_assert!(device.name.len() <= 80 && !device.name.contains(['<', '>', '"', '&']));
        }
    }
}
