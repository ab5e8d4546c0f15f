//! Which notifications a traveller wants, and where.
//!
//! contract: core §5.9

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::model::Kind;

/// The channels of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NotificationChannels)]
pub struct Channels {
    /// In the notification centre and on open sockets.
    pub in_app: bool,
    /// By e-mail.
    pub email: bool,
}

impl Channels {
    /// Everything.
    pub const ALL: Self = Self {
        in_app: true,
        email: true,
    };

    const IN_APP: Self = Self {
        in_app: true,
        email: false,
    };
}

/// The seven keys. Security, system, price and trip notifications cannot be switched off and have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = NotificationPreferences)]
pub struct Preferences {
    pub booking_confirmed: Channels,
    pub booking_cancelled: Channels,
    pub payment_succeeded: Channels,
    pub payment_failed: Channels,
    pub refund_processed: Channels,
    pub promo_offer: Channels,
    pub platform_update: Channels,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            booking_confirmed: Channels::ALL,
            booking_cancelled: Channels::ALL,
            payment_succeeded: Channels::ALL,
            payment_failed: Channels::ALL,
            refund_processed: Channels::ALL,
            promo_offer: Channels::IN_APP,
            platform_update: Channels::IN_APP,
        }
    }
}

/// What is wrong with preferences that somebody sent, fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(String);

impl Preferences {
    /// What is stored: a key that is missing or not what it should be reads as its default, so that nothing stored can
    /// keep a notification from being sent.
    pub fn stored(value: Option<&Value>) -> Self {
        let mut preferences = Self::default();
        for (name, channels) in preferences.keys() {
            let given = value.and_then(|value| value.get(name));
            if let Some(Ok(stored)) = given.map(Channels::deserialize) {
                *channels = stored;
            }
        }
        preferences
    }

    /// All seven keys with both channels each; unknown keys are dropped.
    pub fn complete(body: &Value) -> Result<Self, Unfit> {
        let body = object(body)?;
        let mut preferences = Self::default();
        for (name, channels) in preferences.keys() {
            let given = body.get(name).ok_or_else(|| Unfit(format!("{name} is required")))?;
            *channels = Channels::deserialize(given)
                .map_err(|_| Unfit(format!("{name} must have the booleans inApp and email")))?;
        }
        Ok(preferences)
    }

    /// These preferences with what `body` names replaced.
    pub fn changed(mut self, body: &Value) -> Result<Self, Unfit> {
        let body = object(body)?;
        let mut is_named = false;
        for (name, channels) in self.keys() {
            let Some(given) = body.get(name) else { continue };
            is_named = true;
            let wrong = || Unfit(format!("{name} may have the booleans inApp and email"));
            let given = given.as_object().ok_or_else(wrong)?;
            for (field, target) in [("inApp", &mut channels.in_app), ("email", &mut channels.email)] {
                if let Some(value) = given.get(field) {
                    *target = value.as_bool().ok_or_else(wrong)?;
                }
            }
        }
        if is_named {
            Ok(self)
        } else {
            Err(Unfit("At least one preference must be provided".to_owned()))
        }
    }

    /// Where a notification of this kind goes.
    pub const fn of(&self, kind: Kind) -> Channels {
        match kind {
            Kind::BookingConfirmed => self.booking_confirmed,
            Kind::BookingCancelled => self.booking_cancelled,
            Kind::PaymentReceived => self.payment_succeeded,
            Kind::PaymentFailed => self.payment_failed,
            Kind::RefundProcessed => self.refund_processed,
            Kind::PromoOffer => self.promo_offer,
            Kind::PlatformUpdate => self.platform_update,
            Kind::AccountSecurity | Kind::PriceAlert | Kind::TripReminder | Kind::System => Channels::ALL,
        }
    }

    fn keys(&mut self) -> [(&'static str, &mut Channels); 7] {
        [
            ("booking_confirmed", &mut self.booking_confirmed),
            ("booking_cancelled", &mut self.booking_cancelled),
            ("payment_succeeded", &mut self.payment_succeeded),
            ("payment_failed", &mut self.payment_failed),
            ("refund_processed", &mut self.refund_processed),
            ("promo_offer", &mut self.promo_offer),
            ("platform_update", &mut self.platform_update),
        ]
    }
}

fn object(body: &Value) -> Result<&Map<String, Value>, Unfit> {
    body.as_object()
        .ok_or_else(|| Unfit("Preferences must be an object".to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_stored_never_silences_a_kind_by_being_odd() {
        for odd in [
            json!(null),
            json!([]),
            json!("x"),
            json!({ "payment_failed": { "inApp": "no" } }),
        ] {
            assert_eq!(Preferences::stored(Some(&odd)), Preferences::default(), "{odd}");
        }
        let quiet = json!({ "payment_failed": { "inApp": false, "email": false }, "other": 1 });
        let stored = Preferences::stored(Some(&quiet));
        let silent = Channels {
            in_app: false,
            email: false,
        };
        assert_eq!(stored.of(Kind::PaymentFailed), silent);
        assert_eq!(stored.of(Kind::BookingConfirmed), Channels::ALL);
    }

    #[test]
    fn a_replacement_needs_every_key_with_both_channels() {
        let mut all = serde_json::to_value(Preferences::default()).unwrap();
        assert_eq!(Preferences::complete(&all), Ok(Preferences::default()));
        all["unknown"] = json!(1);
        assert!(Preferences::complete(&all).is_ok());
        let mut missing = all.clone();
        missing.as_object_mut().unwrap().remove("promo_offer");
        assert!(
            Preferences::complete(&missing)
                .unwrap_err()
                .to_string()
                .contains("promo_offer")
        );
        for wrong in [
            json!(true),
            json!({ "inApp": true }),
            json!({ "inApp": 1, "email": true }),
        ] {
            let mut body = all.clone();
            body["refund_processed"] = wrong;
            assert!(Preferences::complete(&body).is_err());
        }
        assert!(Preferences::complete(&json!([])).is_err());
    }

    #[test]
    fn a_change_touches_what_it_names() {
        let changed = Preferences::default()
            .changed(&json!({ "promo_offer": { "email": true } }))
            .unwrap();
        assert_eq!(changed.promo_offer, Channels::ALL);
        assert_eq!(changed.payment_failed, Preferences::default().payment_failed);
        for body in [
            json!({}),
            json!({ "other": {} }),
            json!({ "promo_offer": { "email": null } }),
            json!({ "promo_offer": 1 }),
        ] {
            assert!(Preferences::default().changed(&body).is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn preferences_survive_being_stored(switches in any::<[bool; 14]>()) {
            let mut preferences = Preferences::default();
            for ((_, channels), pair) in preferences.keys().into_iter().zip(switches.chunks(2)) {
                *channels = Channels { in_app: pair[0], email: pair[1] };
            }
            let stored = serde_json::to_value(preferences).unwrap();
            prop_assert_eq!(Preferences::stored(Some(&stored)), preferences);
            prop_assert_eq!(Preferences::complete(&stored), Ok(preferences));
        }
    }
}
