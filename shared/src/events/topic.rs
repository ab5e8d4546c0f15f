//! The registry of topics (events §4). A topic that is not here does not exist.

/// A Kafka topic of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the topics'; events §4 describes each")]
pub enum Topic {
    UserCreated,
    UserUpdated,
    UserDeleted,
    UserProfileUpdated,
    UserPreferencesUpdated,
    UserConsentUpdated,
    GdprExportRequested,
    GdprDeletionRequested,
    AuthLogin,
    AuthLogout,
    AuthTokenRefreshed,
    AuthPasswordChanged,
    AuthPasswordResetRequested,
    AuthAccountLocked,
    VoyageSearchPerformed,
    VoyageBookingCreated,
    VoyageBookingConfirmed,
    VoyageBookingCancelled,
    VoyageBookingUpdated,
    VoyageFlightSelected,
    VoyageHotelSelected,
    VoyageCartCheckout,
    PaymentInitiated,
    PaymentCompleted,
    PaymentFailed,
    PaymentRefunded,
    PaymentPartialRefund,
    AiRecommendationRequested,
    AiRecommendationGenerated,
    AiRecommendationInteracted,
    AiPredictionMade,
    AiUserBehaviorAnalyzed,
    NotificationEmailRequested,
    NotificationSmsRequested,
    NotificationPushRequested,
    NotificationInappCreated,
    AnalyticsEventTracked,
    AnalyticsPageView,
}

impl Topic {
    /// Every topic, in the order of the contract.
    pub const ALL: [Self; 38] = [
        Self::UserCreated,
        Self::UserUpdated,
        Self::UserDeleted,
        Self::UserProfileUpdated,
        Self::UserPreferencesUpdated,
        Self::UserConsentUpdated,
        Self::GdprExportRequested,
        Self::GdprDeletionRequested,
        Self::AuthLogin,
        Self::AuthLogout,
        Self::AuthTokenRefreshed,
        Self::AuthPasswordChanged,
        Self::AuthPasswordResetRequested,
        Self::AuthAccountLocked,
        Self::VoyageSearchPerformed,
        Self::VoyageBookingCreated,
        Self::VoyageBookingConfirmed,
        Self::VoyageBookingCancelled,
        Self::VoyageBookingUpdated,
        Self::VoyageFlightSelected,
        Self::VoyageHotelSelected,
        Self::VoyageCartCheckout,
        Self::PaymentInitiated,
        Self::PaymentCompleted,
        Self::PaymentFailed,
        Self::PaymentRefunded,
        Self::PaymentPartialRefund,
        Self::AiRecommendationRequested,
        Self::AiRecommendationGenerated,
        Self::AiRecommendationInteracted,
        Self::AiPredictionMade,
        Self::AiUserBehaviorAnalyzed,
        Self::NotificationEmailRequested,
        Self::NotificationSmsRequested,
        Self::NotificationPushRequested,
        Self::NotificationInappCreated,
        Self::AnalyticsEventTracked,
        Self::AnalyticsPageView,
    ];

    /// The full name: `dreamscape.user.created`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserCreated => "dreamscape.user.created",
            Self::UserUpdated => "dreamscape.user.updated",
            Self::UserDeleted => "dreamscape.user.deleted",
            Self::UserProfileUpdated => "dreamscape.user.profile.updated",
            Self::UserPreferencesUpdated => "dreamscape.user.preferences.updated",
            Self::UserConsentUpdated => "dreamscape.user.consent.updated",
            Self::GdprExportRequested => "dreamscape.gdpr.export.requested",
            Self::GdprDeletionRequested => "dreamscape.gdpr.deletion.requested",
            Self::AuthLogin => "dreamscape.auth.login",
            Self::AuthLogout => "dreamscape.auth.logout",
            Self::AuthTokenRefreshed => "dreamscape.auth.token.refreshed",
            Self::AuthPasswordChanged => "dreamscape.auth.password.changed",
            Self::AuthPasswordResetRequested => "dreamscape.auth.password.reset.requested",
            Self::AuthAccountLocked => "dreamscape.auth.account.locked",
            Self::VoyageSearchPerformed => "dreamscape.voyage.search.performed",
            Self::VoyageBookingCreated => "dreamscape.voyage.booking.created",
            Self::VoyageBookingConfirmed => "dreamscape.voyage.booking.confirmed",
            Self::VoyageBookingCancelled => "dreamscape.voyage.booking.cancelled",
            Self::VoyageBookingUpdated => "dreamscape.voyage.booking.updated",
            Self::VoyageFlightSelected => "dreamscape.voyage.flight.selected",
            Self::VoyageHotelSelected => "dreamscape.voyage.hotel.selected",
            Self::VoyageCartCheckout => "dreamscape.voyage.cart.checkout",
            Self::PaymentInitiated => "dreamscape.payment.initiated",
            Self::PaymentCompleted => "dreamscape.payment.completed",
            Self::PaymentFailed => "dreamscape.payment.failed",
            Self::PaymentRefunded => "dreamscape.payment.refunded",
            Self::PaymentPartialRefund => "dreamscape.payment.partial.refund",
            Self::AiRecommendationRequested => "dreamscape.ai.recommendation.requested",
            Self::AiRecommendationGenerated => "dreamscape.ai.recommendation.generated",
            Self::AiRecommendationInteracted => "dreamscape.ai.recommendation.interacted",
            Self::AiPredictionMade => "dreamscape.ai.prediction.made",
            Self::AiUserBehaviorAnalyzed => "dreamscape.ai.user.behavior.analyzed",
            Self::NotificationEmailRequested => "dreamscape.notification.email.requested",
            Self::NotificationSmsRequested => "dreamscape.notification.sms.requested",
            Self::NotificationPushRequested => "dreamscape.notification.push.requested",
            Self::NotificationInappCreated => "dreamscape.notification.inapp.created",
            Self::AnalyticsEventTracked => "dreamscape.analytics.event.tracked",
            Self::AnalyticsPageView => "dreamscape.analytics.page.view",
        }
    }

    /// The event type: the name without its prefix.
    pub fn event_type(self) -> &'static str {
        self.name().trim_start_matches("dreamscape.")
    }

    /// The dead-letter topic: `<name>.dlq`, one partition.
    pub fn dead_letters(self) -> String {
        format!("{}.dlq", self.name())
    }

    /// Partitions in development (the production stack has six for every topic).
    pub const fn development_partitions(self) -> i32 {
        match self {
            Self::VoyageSearchPerformed | Self::AnalyticsEventTracked => 6,
            _ => 3,
        }
    }

    /// The topic of this full name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_convention() {
        let mut names: Vec<_> = Topic::ALL.iter().map(|topic| topic.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 38);
        for name in names {
            let mut parts = name.split('.');
            assert_eq!(parts.next(), Some("dreamscape"));
            assert!(
                parts.all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase())),
                "{name}"
            );
            assert_eq!(Topic::from_name(name).unwrap().name(), name);
        }
    }
}
