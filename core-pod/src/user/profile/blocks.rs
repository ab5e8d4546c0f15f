//! The blocks of settings in the bodies of `PUT /users/profile`, `/users/settings` and `/users/preferences`.
//!
//! contract: core §5.1, §5.4

use shared::ApiError;

use super::model::{Settings, rules};
use crate::user::fields::{Fields, JsonBody, Problems};

const LONGEST_LIST: usize = 50;
const LONGEST_ITEM: usize = 100;

/// Reads the body of `PUT /users/settings`: language, currency and time zone stand beside the blocks.
pub fn read_settings(body: &JsonBody) -> Result<Settings, ApiError> {
    let problems = Problems::default();
    let settings = {
        let fields = body.fields(&problems);
        read_blocks(&fields, &fields)
    };
    problems.refuse()?;
    Ok(settings)
}

/// Reads the body of `PUT /users/preferences`.
pub fn read_preferences(body: &JsonBody) -> Result<Settings, ApiError> {
    let problems = Problems::default();
    let settings = read_locale(&body.fields(&problems));
    problems.refuse()?;
    Ok(settings)
}

fn read_locale(fields: &Fields<'_, '_>) -> Settings {
    Settings {
        language: fields.parsed("language", rules::language),
        currency: fields.parsed("currency", rules::currency),
        timezone: fields.parsed("timezone", rules::timezone),
        travel_style: fields.parsed("travelStyle", rules::travel_style),
        ..Settings::default()
    }
}

/// Reads all blocks; language, currency and time zone stand in `locale`.
pub fn read_blocks(fields: &Fields<'_, '_>, locale: &Fields<'_, '_>) -> Settings {
    let (notifications, privacy) = (fields.object("notifications"), fields.object("privacy"));
    let travel = fields.object("travel");
    let list = |name| travel.texts(name, LONGEST_LIST, LONGEST_ITEM);
    Settings {
        deal_alerts: notifications.flag("dealAlerts"),
        trip_reminders: notifications.flag("tripReminders"),
        price_alerts: notifications.flag("priceAlerts"),
        newsletter: notifications.flag("newsletter"),
        channel_email: notifications.flag("email"),
        channel_push: notifications.flag("push"),
        channel_sms: notifications.flag("sms"),
        profile_visibility: privacy.parsed("profileVisibility", rules::visibility),
        data_sharing: privacy.flag("dataSharing"),
        marketing: privacy.flag("marketing"),
        preferred_destinations: list("preferredDestinations"),
        accommodation_type: list("accommodationType"),
        activities: list("activities"),
        dietary: list("dietary"),
        ..read_locale(locale)
    }
}
