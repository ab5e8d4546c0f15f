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
}

impl Target {
    /// Every service.
    pub const ALL: [Self; 5] = [Self::Auth, Self::User, Self::Voyage, Self::Payment, Self::Ai];

    /// The name in reports and error bodies.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth-service",
            Self::User => "user-service",
            Self::Voyage => "voyage-service",
            Self::Payment => "payment-service",
            Self::Ai => "ai-service",
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
        }
    }

    /// The pod it runs in, which is its host name in the stack.
    pub const fn pod(self) -> &'static str {
        match self {
            Self::Auth | Self::User => "core-pod",
            Self::Voyage | Self::Payment | Self::Ai => "business-pod",
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
            Self::Payment => "address of the payment service",
            Self::Ai => "address of the AI service",
        }
    }

    /// Whether the platform is unhealthy without it (core §6.3).
    pub const fn critical(self) -> bool {
        matches!(self, Self::Auth | Self::User)
    }

    /// How long the service may take to answer with headers (core §3.2).
    pub fn read_timeout(self, path: &str) -> Duration {
        let seconds = match self {
            Self::Auth => 10,
            // a poll waits for news until the next ping, and the client has as long again to answer it
            Self::User if path.ends_with("/avatar") || path.starts_with("/socket.io") => 60,
            Self::User => 15,
            Self::Voyage | Self::Payment => 30,
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
    if path == "/socket.io" || path == "/ws" || path.starts_with("/socket.io/") {
        return Route::To(Target::User);
    }
    if path.starts_with("/uploads/") {
        return Route::To(Target::User);
    }
    let Some(rest) = path.strip_prefix("/api/v1/") else {
        return Route::Nowhere;
    };
    if is_internal(rest) {
        return Route::Nowhere;
    }
    let first = rest.split('/').next().unwrap_or_default();
    match first {
        "auth" => Route::To(Target::Auth),
        "users" | "admin" => Route::To(Target::User),
        "ai" | "recommendations" | "context" | "predictions" => Route::To(Target::Ai),
        "voyage" | "flights" | "hotels" | "accommodations" | "activities" | "locations" | "airports" | "airlines"
        | "transfers" | "cart" | "bookings" | "itineraries" | "search-history" | "price-alerts" => {
            Route::To(Target::Voyage)
        }
        "health" if rest == "health/voyage" => Route::To(Target::Voyage),
        "payment" => Route::To(Target::Payment),
        _ => Route::Nowhere,
    }
}

/// The paths of core §3.1, last but one row: they exist for other services only.
pub fn is_internal(rest: &str) -> bool {
    let segments: Vec<&str> = rest.split('/').collect();
    match segments.as_slice() {
        ["users", "notifications", "internal"]
        | ["ai", "users", _, "preferences"]
        | ["ai", "users", "preferences", "batch"]
        | ["users", _, "ai-preferences"]
        | ["auth", "service-token"] => true,
        all => all.contains(&"test") || all.contains(&"internal"),
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
            ("/api/v1/admin/users", Target::User),
            ("/api/v1/flights/search", Target::Voyage),
            ("/api/v1/voyage/flights/search", Target::Voyage),
            ("/api/v1/cart", Target::Voyage),
            ("/api/v1/bookings/BOOK-1", Target::Voyage),
            ("/api/v1/payment/webhook", Target::Payment),
            ("/api/v1/recommendations/popular", Target::Ai),
            ("/api/v1/predictions/trip-purpose", Target::Ai),
            ("/socket.io/", Target::User),
            ("/ws", Target::User),
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
            "/api/v1/",
            "/api/v1",
            "/metrics",
            "/status",
            "/",
        ] {
            assert_eq!(route(path), Route::Nowhere, "{path}");
        }
    }
}
