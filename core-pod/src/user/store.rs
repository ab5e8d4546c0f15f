//! SQL of profiles and settings.
//!
//! contract: core §5.1, §11

use chrono::{DateTime, Utc};
use shared::id::UserId;
use sqlx::{PgConnection, PgExecutor};

use super::model::StoredProfile;

/// Account, settings and avatar in one round trip.
pub async fn find_profile(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<Option<StoredProfile>> {
    sqlx::query_as!(
        StoredProfile,
        r#"select account.username, account.first_name, account.last_name, account.email as "email!",
                  profile.avatar as "avatar?",
                  settings.language as "language?", settings.currency as "currency?", settings.timezone as "timezone?",
                  settings.deal_alerts as "deal_alerts?", settings.trip_reminders as "trip_reminders?",
                  settings.price_alerts as "price_alerts?", settings.newsletter as "newsletter?",
                  settings.profile_visibility as "profile_visibility?", settings.data_sharing as "data_sharing?",
                  settings.marketing as "marketing?", settings.preferred_destinations as "preferred_destinations?",
                  settings.accommodation_type as "accommodation_type?", settings.activities as "activities?",
                  settings.dietary as "dietary?"
           from auth.accounts as account
           left join users.settings as settings on settings.user_id = account.id
           left join users.profiles as profile on profile.user_id = account.id
           where account.id = $1"#,
        user as UserId,
    )
    .fetch_optional(db)
    .await
}

/// Makes the settings row of a new account. May be repeated. False if there is no such account.
pub async fn ensure_settings(conn: &mut PgConnection, user: UserId, now: DateTime<Utc>) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"with account as (select id from auth.accounts where id = $1),
           made as (
               insert into users.settings (user_id, created_at, updated_at) select id, $2, $2 from account
               on conflict do nothing
           )
           select exists (select from account) as "known!""#,
        user as UserId,
        now,
    )
    .fetch_one(conn)
    .await
}
