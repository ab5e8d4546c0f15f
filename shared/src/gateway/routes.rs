//! The proxy table (core §3.1, experience c.2): which service answers a path, and which paths nobody outside may ask.

use std::time::Duration;

use crate::config::Reader;

/// A service behind the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Accounts and sessions.
    Auth,
    /// Profiles, notifications, realtime, uploads.
    User,
    /// Search, cart, bookings.
    Voyage,
    /// Payments.
    Payment,
    /// Recommendations.
    Ai,
    /// Panoramas.
    Panorama,
    /// What the core pod's gateway answers itself: VR PINs and the API's documents.
    Core,
}

impl Target {
    /// Every service.
    pub const ALL: [Self; 7] = [
        Self::Auth,
        Self::User,
        Self::Voyage,
        Self::Payment,
        Self::Ai,
        Self::Panorama,
        Self::Core,
    ];

    /// The name in reports and error bodies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth-service",
            Self::User => "user-service",
            Self::Voyage => "voyage-service",
            Self::Payment => "payment-service",
            Self::Ai => "ai-service",
            Self::Panorama => "panorama-service",
            Self::Core => "gateway-service",
        }
    }

    /// The label of what it answers through the gateway: the routes behind it are its own to count.
    pub const fn proxied(self) -> &'static str {
        match self {
            Self::Auth => "proxy:auth-service",
            Self::User => "proxy:user-service",
            Self::Voyage => "proxy:voyage-service",
            Self::Payment => "proxy:payment-service",
            Self::Ai => "proxy:ai-service",
            Self::Panorama => "proxy:panorama-service",
            Self::Core => "proxy:gateway-service",
        }
    }

    /// The variable with its address.
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Auth => "AUTH_SERVICE_URL",
            Self::User => "USER_SERVICE_URL",
            Self::Voyage => "VOYAGE_SERVICE_URL",
            Self::Payment => "PAYMENT_SERVICE_URL",
            Self::Ai => "AI_SERVICE_URL",
            Self::Panorama => "PANORAMA_SERVICE_URL",
            Self::Core => "CORE_GATEWAY_URL",
        }
    }

    /// The pod it runs in, which is its host name in the stack.
    pub const fn pod(self) -> &'static str {
        match self {
            Self::Auth | Self::User | Self::Core => "core-pod",
            Self::Voyage | Self::Payment | Self::Ai => "business-pod",
            Self::Panorama => "experience-pod",
        }
    }

    /// The variable of its own port in development, and the port.
    pub const fn development_port(self) -> (&'static str, u16) {
        match self {
            Self::Auth => ("AUTH_PORT", 3001),
            Self::User => ("USER_PORT", 3002),
            Self::Voyage => ("VOYAGE_PORT", 3003),
            Self::Payment => ("PAYMENT_PORT", 3004),
            Self::Ai => ("AI_PORT", 3005),
            Self::Panorama => ("PANORAMA_PORT", 3006),
            Self::Core => ("GATEWAY_PORT", 3000),
        }
    }

    /// Where it answers when nobody says otherwise: its own port in development, its pod's host in the stack.
    pub fn default_address(self, reader: &Reader) -> String {
        if reader.production() {
            return format!("http://{}:8080", self.pod());
        }
        let (setting, port) = self.development_port();
        let port = reader.text_now(setting).unwrap_or_else(|| port.to_string());
        format!("http://127.0.0.1:{port}")
    }

    pub(super) const fn help(self) -> &'static str {
        match self {
            Self::Auth => "address of the auth service",
            Self::User => "address of the user service",
            Self::Voyage => "address of the voyage service",
            Self::Payment => "address of the payment service; its health counts where this is set",
            Self::Ai => "address of the AI service; its health counts where this is set",
            Self::Panorama => "address of the panorama service; its health counts where this is set",
            Self::Core => "address of the core pod's gateway, which answers VR PINs and the API's documents",
        }
    }

    /// Whether the platform is unhealthy without it (core §6.3).
    pub const fn critical(self) -> bool {
        matches!(self, Self::Auth | Self::User)
    }

    /// Whether its health is looked at although nobody set its address (core §6.3).
    pub const fn always_probed(self) -> bool {
        matches!(self, Self::Auth | Self::User | Self::Voyage)
    }

    /// How long the service may take to answer with headers (core §3.2).
    pub fn read_timeout(self, path: &str) -> Duration {
        let seconds = match self {
            Self::Auth | Self::Core => 10,
            // a poll waits for news until the next ping, and the client has as long again to answer it
            Self::User if path.ends_with("/avatar") || path.starts_with("/socket.io") => 60,
            Self::User => 15,
            Self::Voyage | Self::Payment | Self::Panorama => 30,
            Self::Ai => 60,
        };
        Duration::from_secs(seconds)
    }
}

/// What the table says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Stream it to this service.
    To(Target),
    /// Nobody outside may ask for this, or nobody has it: 404.
    Nowhere,
}

/// Looks a path up. It has already been brought to its `/api/v1` form without a trailing slash.
pub(super) fn route(path: &str) -> Route {
    if is_tricky(path) {
        return Route::Nowhere;
    }
    if path == "/socket.io" || path.starts_with("/socket.io/") || path.starts_with("/uploads/") {
        return Route::To(Target::User);
    }
    if matches!(path, "/api" | "/api/services" | "/docs") || path.starts_with("/docs/") {
        return Route::To(Target::Core);
    }
    let Some(rest) = path.strip_prefix("/api/v1/") else {
        return Route::Nowhere;
    };
    if is_internal(rest) {
        return Route::Nowhere;
    }
    let mut segments = rest.split('/');
    match segments.next().unwrap_or_default() {
        "auth" => Route::To(Target::Auth),
        "users" | "admin" => Route::To(Target::User),
        "ai" | "recommendations" | "context" | "predictions" => Route::To(Target::Ai),
        "voyage" | "flights" | "hotels" | "accommodations" | "activities" | "locations" | "airports" | "airlines"
        | "transfers" | "cart" | "bookings" | "itineraries" | "search-history" | "price-alerts" => {
            Route::To(Target::Voyage)
        }
        "health" if rest == "health/voyage" => Route::To(Target::Voyage),
        "payment" => Route::To(Target::Payment),
        "vr" if matches!(segments.next(), Some("sessions" | "links" | "qr")) => Route::To(Target::Core),
        "openapi.json" if rest == "openapi.json" => Route::To(Target::Core),
        "vr" | "panorama" => Route::To(Target::Panorama),
        _ => Route::Nowhere,
    }
}

/// Dot segments, in any spelling, and encoded bytes that another parser may take for a separator or an end. Nothing of ours
/// has such a path; a service behind us might read it differently than the table did.
fn is_tricky(path: &str) -> bool {
    let dotted = |segment: &str| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    };
    if path.contains('\\') || path.split('/').any(dotted) {
        return true;
    }
    let lower = path.to_ascii_lowercase();
    ["%00", "%5c", "%2e%2e%2f", "..%2f", "%2f.."]
        .iter()
        .any(|trick| lower.contains(trick))
}

/// The paths of core §3.1, last but one row: they exist for other services only, or in the original's tests. What a traveller
/// may name as he likes (`favorites/check/HOTEL/test`) is no such path.
pub fn is_internal(rest: &str) -> bool {
    let named_freely = rest.starts_with("users/favorites/check/");
    is_for_services(rest)
        || rest == "auth/service-token"
        || (!named_freely && rest.split('/').any(|one| one == "test" || one == "internal"))
}

/// The routes below `/api/v1/` that another service may ask for with its token, and nobody else (core §2.8).
pub fn is_for_services(rest: &str) -> bool {
    let segments: Vec<&str> = rest.split('/').collect();
    matches!(
        segments.as_slice(),
        ["users", "notifications", "internal"]
            | ["ai", "users", _, "preferences"]
            | ["ai", "users", "preferences", "batch"]
            | ["users", _, "ai-preferences"]
    )
}

/// Whether a path below `/api/v1/` never answers anybody who is not signed in, so that a token that is obviously no good can
/// be refused before its service is asked (core §3.2).
pub(super) fn always_needs_identity(path: &str) -> bool {
    let Some(rest) = path.strip_prefix("/api/v1/") else {
        return false;
    };
    let segments: Vec<&str> = rest.split('/').collect();
    match segments.as_slice() {
        [.., "health"] | ["users", "gdpr", "privacy-policy", ..] | ["payment", "webhook" | "config", ..] => false,
        ["auth", "profile" | "change-password" | "logout-all" | "sessions", ..]
        | [
            "voyage" | "bookings" | "itineraries" | "admin" | "users" | "payment",
            ..,
        ] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_of_the_contract_has_its_service() {
        for (path, target) in [
            ("/api/v1/auth/login", Target::Auth),
            ("/api/v1/users/profile", Target::User),
            ("/api/v1/users/favorites/check/HOTEL/test", Target::User),
            ("/api/v1/admin/users", Target::User),
            ("/api/v1/flights/search", Target::Voyage),
            ("/api/v1/voyage/flights/search", Target::Voyage),
            ("/api/v1/cart", Target::Voyage),
            ("/api/v1/bookings/BOOK-1", Target::Voyage),
            ("/api/v1/payment/webhook", Target::Payment),
            ("/api/v1/recommendations/popular", Target::Ai),
            ("/api/v1/predictions/trip-purpose", Target::Ai),
            ("/socket.io/", Target::User),
            ("/api/v1/accommodations/x", Target::Voyage),
            ("/api/v1/health/voyage", Target::Voyage),
            ("/api/v1/context/geo", Target::Ai),
            ("/api/v1/vr/sessions/123456", Target::Core),
            ("/api/v1/vr/links/verify", Target::Core),
            ("/api/v1/vr/qr/abc.svg", Target::Core),
            ("/api/v1/openapi.json", Target::Core),
            ("/docs", Target::Core),
            ("/api/v1/vr/destinations", Target::Panorama),
            ("/api/v1/panorama/environments", Target::Panorama),
            ("/uploads/avatars/a.png", Target::User),
        ] {
            assert_eq!(route(path), Route::To(target), "{path}");
        }
    }

    #[test]
    fn internal_paths_and_unknown_ones_lead_nowhere() {
        for path in [
            "/api/v1/users/notifications/internal",
            "/api/v1/ai/users/42/preferences",
            "/api/v1/ai/users/preferences/batch",
            "/api/v1/users/42/ai-preferences",
            "/api/v1/auth/service-token",
            "/api/v1/auth/test/reset",
            "/api/v1/payment/test/cleanup",
            "/api/v1/analytics/x",
            "/api/v1/users/../admin/users",
            "/api/v1/users/%2e%2e/admin",
            "/api/v1/users/.%2E/admin",
            "/api/v1/users/x%2f..%2fadmin",
            "/api/v1/users/%00",
            "/api/v1/users\\admin",
            "/api/v1/users/%5c..",
            "/api/v1/health/other",
            "/api/v1/",
            "/api/v1",
            "/metrics",
            "/status",
            "/",
        ] {
            assert_eq!(route(path), Route::Nowhere, "{path}");
        }
    }

    #[test]
    fn a_bad_token_is_refused_early_only_where_a_good_one_is_always_needed() {
        for path in [
            "/api/v1/voyage/flights/search",
            "/api/v1/bookings/X",
            "/api/v1/users/profile",
            "/api/v1/admin/users",
            "/api/v1/payment/history",
            "/api/v1/auth/profile",
        ] {
            assert!(always_needs_identity(path), "{path}");
        }
        for path in [
            "/api/v1/flights/search",
            "/api/v1/cart",
            "/api/v1/payment/webhook",
            "/api/v1/payment/config",
            "/api/v1/payment/health",
            "/api/v1/users/gdpr/privacy-policy",
            "/api/v1/users/gdpr/privacy-policy/versions",
            "/api/v1/users/health",
            "/api/v1/auth/login",
            "/api/v1/ai/recommendations",
            "/socket.io/",
        ] {
            assert!(!always_needs_identity(path), "{path}");
        }
    }
}
