//! Header hygiene at the edge (core §3.2, experience c.3): hop-by-hop headers and everything a client could use to pose as
//! one of us are removed; the forwarding headers are written anew from what we know.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::auth::{authenticator::bearer, service::claims_to_be_a_service};

const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What is known of the request that is being forwarded.
pub(super) struct Forwarded<'a> {
    pub client: Option<std::net::IpAddr>,
    pub secure: bool,
    pub request_id: Option<&'a str>,
}

/// Removes what must not pass a proxy, in either direction: the listed headers and those that `Connection` names.
pub(super) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

/// Prepares the headers of a request for a service.
pub(super) fn clean_request(headers: &mut HeaderMap, about: &Forwarded<'_>) {
    let host = headers.remove(header::HOST);
    let posing: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            name.starts_with("x-user-") || name.starts_with("x-internal-") || name.starts_with("x-forwarded-")
        })
        .cloned()
        .collect();
    for name in posing {
        headers.remove(name);
    }
    // tokens of services come from pods, never through the edge; what merely claims to be one is no traveller's either
    if bearer(headers).is_some_and(claims_to_be_a_service) {
        headers.remove(header::AUTHORIZATION);
    }
    headers.remove("forwarded");
    headers.remove("x-real-ip");
    strip_hop_by_hop(headers);
    if let Some(value) = about
        .client
        .and_then(|client| HeaderValue::from_str(&client.to_string()).ok())
    {
        headers.insert("x-forwarded-for", value.clone());
        headers.insert("x-real-ip", value);
    }
    headers.insert(
        "x-forwarded-proto",
        HeaderValue::from_static(if about.secure { "https" } else { "http" }),
    );
    if let Some(host) = host {
        headers.insert("x-forwarded-host", host);
    }
    if let Some(value) = about.request_id.and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.insert("x-request-id", value);
    }
}

/// Prepares the headers of a service's answer for the client: the edge applies CORS itself, once.
pub(super) fn clean_response(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    let cors: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("access-control-"))
        .cloned()
        .collect();
    for name in cors {
        headers.remove(name);
    }
    headers.remove("x-request-id");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded() -> Forwarded<'static> {
        Forwarded {
            client: Some([203, 0, 113, 7].into()),
            secure: true,
            request_id: Some("abc"),
        }
    }

    #[test]
    fn a_client_cannot_pose_as_one_of_us() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "dreamscape.example"),
            ("x-user-id", "1"),
            ("x-internal-service", "ai-service"),
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("connection", "close, x-secret-hop"),
            ("x-secret-hop", "1"),
            ("authorization", "Bearer token"),
            ("cookie", "ds_session=1"),
            ("stripe-signature", "t=1,v1=2"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        clean_request(&mut headers, &forwarded());
        for gone in [
            "host",
            "x-user-id",
            "x-internal-service",
            "forwarded",
            "connection",
            "x-secret-hop",
        ] {
            assert!(headers.get(gone).is_none(), "{gone}");
        }
        for kept in ["authorization", "cookie", "stripe-signature"] {
            assert!(headers.get(kept).is_some(), "{kept}");
        }
        assert_eq!(headers["x-forwarded-for"], "203.0.113.7");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "dreamscape.example");
        assert_eq!(headers["x-request-id"], "abc");
    }

    #[test]
    fn cors_headers_of_a_service_are_not_passed_on() {
        let mut headers = HeaderMap::new();
        headers.insert("access-control-allow-origin", HeaderValue::from_static("*"));
        headers.insert("set-cookie", HeaderValue::from_static("a=b"));
        clean_response(&mut headers);
        assert!(headers.get("access-control-allow-origin").is_none());
        assert!(headers.get("set-cookie").is_some());
    }

    #[test]
    fn a_service_token_does_not_pass_the_edge_and_a_travellers_does() {
        let with = |claims: &str| {
            use base64::Engine as _;
            let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
            let mut headers = HeaderMap::new();
            let value = format!("Bearer e30.{payload}.c2ln");
            headers.insert("authorization", value.parse().unwrap());
            clean_request(&mut headers, &forwarded());
            headers.contains_key("authorization")
        };
        assert!(!with(r#"{"type":"service","sub":"business-pod"}"#));
        assert!(with(r#"{"type":"access","sub":"1"}"#));
        assert!(with("not json"));
    }
}
