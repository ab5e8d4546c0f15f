//! The spellings of a path that mean the same route, made one before routing.
//!
//! contract: core §1.2 and §3.1, experience D3. A trailing slash is none; `/api/api/` is `/api/`; the prefixes of the
//! public API may leave out `/v1`. Nothing is redirected: method and body stay.

use std::borrow::Cow;

use http::Uri;

/// The first segments of the public API that also answer without `/v1` (core §3.1).
const VERSIONED: &[&str] = &[
    "accommodations",
    "activities",
    "admin",
    "ai",
    "airlines",
    "airports",
    "auth",
    "bookings",
    "cart",
    "context",
    "flights",
    "hotels",
    "itineraries",
    "locations",
    "panorama",
    "payment",
    "predictions",
    "price-alerts",
    "recommendations",
    "search-history",
    "transfers",
    "users",
    "voyage",
    "vr",
];

/// First segments that are another name of a route.
const ALIASES: &[(&str, &str)] = &[
    ("onboarding", "users/onboarding"),
    ("payments", "payment"),
    ("voyages", "voyage"),
];

/// The path that routes are declared with, if this one is spelled differently.
pub fn canonical(path: &str) -> Option<String> {
    let mut current = Cow::Borrowed(path);
    // Socket.IO's own path ends in a slash
    if path.len() > 1 && path.ends_with('/') && !path.starts_with("/socket.io/") {
        current = Cow::Borrowed(path.trim_end_matches('/'));
    }
    if current == "/ws" {
        return Some("/socket.io/".to_owned());
    }
    // one pass without copying: a path of ten thousand `/api` must not cost ten thousand copies
    let mut once = current.as_ref();
    while let Some(rest) = once
        .strip_prefix("/api")
        .filter(|rest| *rest == "/api" || rest.starts_with("/api/"))
    {
        once = rest;
    }
    if once.len() != current.len() {
        current = Cow::Owned(once.to_owned());
    }
    if let Some(rest) = current.strip_prefix("/api/") {
        let (versioned, rest) = match rest.strip_prefix("v1/") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (segment, tail) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let alias = ALIASES
            .iter()
            .find(|(name, _)| *name == segment)
            .map(|(_, target)| *target);
        let target = alias.or_else(|| VERSIONED.contains(&segment).then_some(segment).filter(|_| !versioned));
        if let Some(target) = target {
            current = Cow::Owned(format!("/api/v1/{target}{tail}"));
        }
    }
    if current.is_empty() {
        current = Cow::Borrowed("/");
    }
    (current != path).then(|| current.into_owned())
}

/// The URI with the canonical path and the same query, if the path is spelled differently.
pub(super) fn rewritten(uri: &Uri) -> Option<Uri> {
    let path = canonical(uri.path())?;
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query.parse().ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_spellings_become_the_declared_one() {
        for (given, declared) in [
            ("/api/v1/users/favorites/", "/api/v1/users/favorites"),
            ("/api/api/v1/auth/login", "/api/v1/auth/login"),
            ("/api/api/api/auth/login/", "/api/v1/auth/login"),
            ("/api/flights/search", "/api/v1/flights/search"),
            ("/api/cart", "/api/v1/cart"),
            ("/api/onboarding/complete", "/api/v1/users/onboarding/complete"),
            ("/api/v1/payments/x", "/api/v1/payment/x"),
            ("/api/voyages/flights", "/api/v1/voyage/flights"),
            ("/api/v1/voyages/flights/search", "/api/v1/voyage/flights/search"),
            ("/api/payments/history", "/api/v1/payment/history"),
            ("/api/vr/sessions", "/api/v1/vr/sessions"),
            ("/api/panorama/environments", "/api/v1/panorama/environments"),
            ("/api/api", "/api"),
            ("/api/api/health", "/api/health"),
            ("/ws", "/socket.io/"),
            ("/ws//", "/socket.io/"),
            ("/health/", "/health"),
            ("/api/health/live/", "/api/health/live"),
            ("//", "/"),
        ] {
            assert_eq!(canonical(given).as_deref(), Some(declared), "{given}");
        }
    }

    #[test]
    fn a_declared_spelling_stays() {
        for path in [
            "/",
            "/api",
            "/api/v1/auth/login",
            "/api/health",
            "/api/health/ready",
            "/api/apiary",
            "/api/unknown/x",
            "/api/v1/flights",
            "/socket.io/",
            "/api/v2/auth",
            "/api/analytics",
        ] {
            assert_eq!(canonical(path), None, "{path}");
        }
    }

    #[test]
    fn a_path_of_thousands_of_prefixes_costs_one_copy() {
        let long = "/api".repeat(16_000) + "/auth/login";
        // the quickest of some: another process may have the processor
        let quickest = (0..5).map(|_| {
            let before = std::time::Instant::now();
            assert_eq!(canonical(&long).as_deref(), Some("/api/v1/auth/login"));
            before.elapsed()
        });
        assert!(quickest.min().unwrap() < std::time::Duration::from_millis(100));
    }

    #[test]
    fn the_query_stays() {
        let uri = rewritten(&"/api/cart/?a=1&b=/".parse().unwrap()).unwrap();
        assert_eq!(uri, "/api/v1/cart?a=1&b=/");
    }
}
