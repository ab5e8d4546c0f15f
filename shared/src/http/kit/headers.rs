//! CORS and the security headers of API responses.
//!
//! contract: core §1.8 and §1.9

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, Entry},
};

const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Content-Type,Authorization,X-Requested-With,X-Request-Id,Idempotency-Key,X-Idempotency-Key,x-api-key",
);
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "RateLimit-Policy,RateLimit-Limit,RateLimit-Remaining,RateLimit-Reset,Retry-After,X-Request-Id,Content-Disposition,\
     ETag,Idempotent-Replayed,X-Cache,X-Cache-Age,X-Response-Time,x-total-count,x-page-count",
);
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const ORIGIN: HeaderValue = HeaderValue::from_static("origin");
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000; includeSubDomains");

const SANDBOX: HeaderValue = HeaderValue::from_static("sandbox; default-src 'none'");
const CROSS_ORIGIN: HeaderValue = HeaderValue::from_static("cross-origin");

/// Set unless the handler set its own, as uploads and pages do.
const SECURITY: [(HeaderName, HeaderValue); 11] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("origin-agent-cluster"),
        HeaderValue::from_static("?1"),
    ),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_DNS_PREFETCH_CONTROL, HeaderValue::from_static("off")),
    (
        HeaderName::from_static("x-download-options"),
        HeaderValue::from_static("noopen"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN")),
    (
        HeaderName::from_static("x-permitted-cross-domain-policies"),
        HeaderValue::from_static("none"),
    ),
    (header::X_XSS_PROTECTION, HeaderValue::from_static("0")),
];

/// Adds the security headers; HSTS only when the client speaks TLS.
pub(super) fn secure(headers: &mut HeaderMap, tls: bool) {
    headers.reserve(SECURITY.len() + 8);
    for (name, value) in &SECURITY {
        if let Entry::Vacant(place) = headers.entry(name) {
            place.insert(value.clone());
        }
    }
    if tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
}

/// What travellers uploaded: whatever it turns out to be, it runs nothing, and other origins may show it (core §1.9).
pub(super) fn sandbox(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_SECURITY_POLICY, SANDBOX);
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), CROSS_ORIGIN);
}

/// The origins whose pages may call us with the traveller's credentials.
#[derive(Debug, Clone, Default)]
pub(super) struct AllowedOrigins(Vec<String>);

impl AllowedOrigins {
    pub(super) fn new(origins: &[String]) -> Self {
        Self(
            origins
                .iter()
                .map(|origin| origin.trim_end_matches('/').to_owned())
                .collect(),
        )
    }

    /// The `Origin` of the request, if it is on the list.
    pub(super) fn allowed<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        self.0
            .iter()
            .any(|allowed| allowed.as_bytes() == origin.as_bytes())
            .then_some(origin)
    }
}

/// Lets the page of an allowed origin read the response. An unknown origin gets nothing and is no error.
pub(super) fn allow_origin(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    headers.append(header::VARY, ORIGIN);
    let Some(origin) = origin else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}

/// What a preflight asks for, beside [`allow_origin`].
pub(super) fn allow_methods(headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
}
