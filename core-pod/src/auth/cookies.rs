//! The two cookies of a session, spelled the way existing clients and tests read them.
//!
//! contract: core §2.4: `refreshToken` (strict, only ever sent back to us) and `ds_session` (lax, the browser's identity).

use std::time::Duration;

use chrono::{DateTime, Utc};
use http::{HeaderMap, HeaderValue, header::SET_COOKIE};
use shared::auth::authenticator::SESSION_COOKIE;

/// The name of the refresh cookie.
pub const REFRESH_COOKIE: &str = "refreshToken";

/// Writes `Set-Cookie` headers.
#[derive(Debug, Clone, Copy)]
pub struct Cookies {
    secure: bool,
    now: DateTime<Utc>,
}

impl Cookies {
    /// Cookies of this moment; `secure` unless this is development.
    pub fn new(secure: bool, now: DateTime<Utc>) -> Self {
        Self { secure, now }
    }

    /// Sets the refresh cookie.
    pub fn set_refresh(&self, headers: &mut HeaderMap, value: &str, life: Duration) {
        self.set(headers, REFRESH_COOKIE, value, life, "Strict");
    }

    /// Sets the session cookie.
    pub fn set_session(&self, headers: &mut HeaderMap, value: &str, life: Duration) {
        self.set(headers, SESSION_COOKIE, value, life, "Lax");
    }

    /// Takes both away.
    pub fn clear(&self, headers: &mut HeaderMap) {
        self.clear_refresh(headers);
        self.clear_one(headers, SESSION_COOKIE, "Lax");
    }

    /// Takes the refresh cookie away.
    pub fn clear_refresh(&self, headers: &mut HeaderMap) {
        self.clear_one(headers, REFRESH_COOKIE, "Strict");
    }

    fn clear_one(&self, headers: &mut HeaderMap, name: &str, same_site: &str) {
        let secure = self.secure_attribute();
        append(
            headers,
            format!("{name}=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly{secure}; SameSite={same_site}"),
        );
    }

    fn set(&self, headers: &mut HeaderMap, name: &str, value: &str, life: Duration, same_site: &str) {
        let expires = (self.now + life).format("%a, %d %b %Y %H:%M:%S GMT");
        let (seconds, secure) = (life.as_secs(), self.secure_attribute());
        append(
            headers,
            format!(
                "{name}={value}; Max-Age={seconds}; Path=/; Expires={expires}; HttpOnly{secure}; SameSite={same_site}"
            ),
        );
    }

    fn secure_attribute(&self) -> &'static str {
        if self.secure { "; Secure" } else { "" }
    }
}

fn append(headers: &mut HeaderMap, text: String) {
    // our own secrets and fixed texts: always a valid header value
    if let Ok(mut value) = HeaderValue::try_from(text) {
        value.set_sensitive(true);
        headers.append(SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(headers: &HeaderMap) -> Vec<&str> {
        headers
            .get_all(SET_COOKIE)
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect()
    }

    #[test]
    fn the_attributes_are_spelled_as_the_contract_says() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let mut headers = HeaderMap::new();
        Cookies::new(false, now).set_refresh(&mut headers, "v", Duration::from_hours(168));
        Cookies::new(true, now).set_session(&mut headers, "v", Duration::from_hours(720));
        assert_eq!(
            texts(&headers),
            [
                "refreshToken=v; Max-Age=604800; Path=/; Expires=Tue, 21 Nov 2023 22:13:20 GMT; HttpOnly; SameSite=Strict",
                "ds_session=v; Max-Age=2592000; Path=/; Expires=Thu, 14 Dec 2023 22:13:20 GMT; HttpOnly; Secure; SameSite=Lax",
            ]
        );
    }

    #[test]
    fn clearing_empties_the_value_and_keeps_the_attributes() {
        let mut headers = HeaderMap::new();
        Cookies::new(true, DateTime::UNIX_EPOCH).clear(&mut headers);
        let texts = texts(&headers);
        assert!(texts[0].starts_with("refreshToken=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Secure"));
        assert!(texts[1].starts_with("ds_session=; ") && texts[1].ends_with("SameSite=Lax"));
    }
}
