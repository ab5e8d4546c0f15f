//! Identity headers (core §2.3, §2.4): cookies and bearers, however they are written.
#![no_main]

use http::{HeaderMap, HeaderValue, header};
use libfuzzer_sys::fuzz_target;
use shared::auth::authenticator::{bearer, cookie, session_cookie};

fuzz_target!(|data: (&[u8], Vec<&[u8]>)| {
    let (authorization, lines) = data;
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(authorization) {
        headers.insert(header::AUTHORIZATION, value);
    }
    for line in lines.into_iter().take(50) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(header::COOKIE, value);
        }
    }
    if let Some(token) = bearer(&headers) {
        assert!(!token.is_empty() && !matches!(token, "null" | "undefined"));
    }
    for name in ["ds_session", "refreshToken", ""] {
        if let Some(value) = cookie(&headers, name) {
            assert!(!value.is_empty() && !value.contains(';'));
        }
    }
    let _ = session_cookie(&headers);
});
