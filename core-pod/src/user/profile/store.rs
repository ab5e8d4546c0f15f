//! All SQL of profiles, settings and pictures.
//!
//! contract: core §5.1-5.4, §11

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;
use shared::id::UserId;
use sqlx::{PgConnection, PgExecutor};

use super::model::{OwnedRow, Owner, ProfileId, ProfileRow, Settings, StoredProfile};
use crate::user::fields::Change;

/// Account, settings and picture in one round trip.
pub async fn find_profile(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<Option<StoredProfile>> {
    let found = sqlx::query!(
        r#"select account.username, account.first_name, account.last_name, account.email as "email!",
                  profile.avatar as "avatar?",
                  settings.language as "language?", settings.currency as "currency?", settings.timezone as "timezone?",
                  settings.travel_style as "travel_style?",
                  settings.deal_alerts as "deal_alerts?", settings.trip_reminders as "trip_reminders?",
                  settings.price_alerts as "price_alerts?", settings.newsletter as "newsletter?",
                  settings.channel_email as "channel_email?", settings.channel_push as "channel_push?",
                  settings.channel_sms as "channel_sms?",
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
    .await?;
    Ok(found.map(|row| StoredProfile {
        username: row.username,
        first_name: row.first_name,
        last_name: row.last_name,
        email: row.email,
        avatar: row.avatar,
        settings: Settings {
            language: row.language,
            currency: row.currency,
            timezone: row.timezone,
            travel_style: row.travel_style,
            deal_alerts: row.deal_alerts,
            trip_reminders: row.trip_reminders,
            price_alerts: row.price_alerts,
            newsletter: row.newsletter,
            channel_email: row.channel_email,
            channel_push: row.channel_push,
            channel_sms: row.channel_sms,
            profile_visibility: row.profile_visibility,
            data_sharing: row.data_sharing,
            marketing: row.marketing,
            preferred_destinations: row.preferred_destinations,
            accommodation_type: row.accommodation_type,
            activities: row.activities,
            dietary: row.dietary,
        },
    }))
}

/// Stores what a change decides and leaves the rest, in one statement whether there is a row yet or not; gives all settings
/// as they are now.
pub async fn save_settings(
    conn: &mut PgConnection,
    user: UserId,
    change: &Settings,
    now: DateTime<Utc>,
) -> sqlx::Result<Settings> {
    sqlx::query_as!(
        Settings,
        r#"insert into users.settings as known
               (user_id, language, currency, timezone, travel_style, deal_alerts, trip_reminders, price_alerts, newsletter,
                channel_email, channel_push, channel_sms, profile_visibility, data_sharing, marketing,
                preferred_destinations, accommodation_type, activities, dietary, created_at, updated_at)
           values ($1, $2, coalesce($3, 'USD'), coalesce($4, 'UTC'), $5, coalesce($6, true), coalesce($7, true),
                   coalesce($8, true), coalesce($9, false), $10, $11, $12, coalesce($13, 'public'), coalesce($14, false),
                   coalesce($15, true), coalesce($16, '{}'::text[]), coalesce($17, '{}'::text[]),
                   coalesce($18, '{}'::text[]), coalesce($19, '{}'::text[]), $20, $20)
           on conflict (user_id) do update set
               language = coalesce($2, known.language), currency = coalesce($3, known.currency),
               timezone = coalesce($4, known.timezone), travel_style = coalesce($5, known.travel_style),
               deal_alerts = coalesce($6, known.deal_alerts), trip_reminders = coalesce($7, known.trip_reminders),
               price_alerts = coalesce($8, known.price_alerts), newsletter = coalesce($9, known.newsletter),
               channel_email = coalesce($10, known.channel_email), channel_push = coalesce($11, known.channel_push),
               channel_sms = coalesce($12, known.channel_sms),
               profile_visibility = coalesce($13, known.profile_visibility),
               data_sharing = coalesce($14, known.data_sharing), marketing = coalesce($15, known.marketing),
               preferred_destinations = coalesce($16, known.preferred_destinations),
               accommodation_type = coalesce($17, known.accommodation_type),
               activities = coalesce($18, known.activities), dietary = coalesce($19, known.dietary), updated_at = $20
           returning language, currency as "currency?", timezone as "timezone?", travel_style,
                     deal_alerts as "deal_alerts?", trip_reminders as "trip_reminders?", price_alerts as "price_alerts?",
                     newsletter as "newsletter?", channel_email, channel_push, channel_sms,
                     profile_visibility as "profile_visibility?", data_sharing as "data_sharing?",
                     marketing as "marketing?", preferred_destinations as "preferred_destinations?",
                     accommodation_type as "accommodation_type?", activities as "activities?", dietary as "dietary?""#,
        user as UserId,
        change.language.as_deref(),
        change.currency.as_deref(),
        change.timezone.as_deref(),
        change.travel_style.as_deref(),
        change.deal_alerts,
        change.trip_reminders,
        change.price_alerts,
        change.newsletter,
        change.channel_email,
        change.channel_push,
        change.channel_sms,
        change.profile_visibility.as_deref(),
        change.data_sharing,
        change.marketing,
        change.preferred_destinations.as_deref(),
        change.accommodation_type.as_deref(),
        change.activities.as_deref(),
        change.dietary.as_deref(),
        now,
    )
    .fetch_one(conn)
    .await
}

/// A traveller's profile row with its owner.
pub async fn find_row(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<Option<OwnedRow>> {
    let found = sqlx::query!(
        r#"select profile.id as "id: ProfileId", profile.first_name, profile.last_name, profile.phone,
                  profile.date_of_birth, profile.avatar, profile.preferences, profile.bio, profile.location,
                  profile.website, profile.created_at, profile.updated_at, account.email as "email!",
                  account.first_name as account_first_name, account.last_name as account_last_name
           from users.profiles as profile
           join auth.accounts as account on account.id = profile.user_id
           where profile.user_id = $1"#,
        user as UserId,
    )
    .fetch_optional(db)
    .await?;
    Ok(found.map(|found| OwnedRow {
        row: ProfileRow {
            id: found.id,
            user_id: user,
            first_name: found.first_name,
            last_name: found.last_name,
            phone: found.phone,
            date_of_birth: found.date_of_birth,
            avatar: found.avatar,
            preferences: found.preferences,
            bio: found.bio,
            location: found.location,
            website: found.website,
            created_at: found.created_at,
            updated_at: found.updated_at,
        },
        user: Owner {
            email: found.email,
            first_name: found.account_first_name,
            last_name: found.account_last_name,
        },
    }))
}

/// Makes the profile row from the names of the account, unless there is one; whether it was made.
pub async fn ensure_row(
    conn: &mut PgConnection,
    user: UserId,
    id: ProfileId,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let made = sqlx::query!(
        "insert into users.profiles (id, user_id, first_name, last_name, created_at, updated_at)
         select $2, account.id, coalesce(account.first_name, ''), coalesce(account.last_name, ''), $3, $3
         from auth.accounts as account
         where account.id = $1
         on conflict (user_id) do nothing",
        user as UserId,
        id as ProfileId,
        now,
    )
    .execute(conn)
    .await?;
    Ok(made.rows_affected() > 0)
}

/// What to change of a profile row.
#[derive(Debug)]
pub struct RowChange {
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub phone: Change<String>,
    pub date_of_birth: Change<NaiveDate>,
    pub preferences: Change<Value>,
    pub bio: Change<String>,
    pub location: Change<String>,
    pub website: Change<String>,
}

/// Changes a profile row that is there.
pub async fn update_row(
    conn: &mut PgConnection,
    user: UserId,
    change: RowChange,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let RowChange {
        first_name,
        last_name,
        phone,
        date_of_birth,
        preferences,
        bio,
        location,
        website,
    } = change;
    let given = [
        phone.is_given(),
        date_of_birth.is_given(),
        preferences.is_given(),
        bio.is_given(),
        location.is_given(),
        website.is_given(),
    ];
    let [
        phone_given,
        birth_given,
        preferences_given,
        bio_given,
        location_given,
        website_given,
    ] = given;
    sqlx::query!(
        "update users.profiles
         set first_name = coalesce($2, first_name), last_name = coalesce($3, last_name),
             phone = case when $4 then $5 else phone end,
             date_of_birth = case when $6 then $7 else date_of_birth end,
             preferences = case when $8 then $9 else preferences end,
             bio = case when $10 then $11 else bio end,
             location = case when $12 then $13 else location end,
             website = case when $14 then $15 else website end,
             updated_at = $16
         where user_id = $1",
        user as UserId,
        first_name,
        last_name,
        phone_given,
        phone.stored(),
        birth_given,
        date_of_birth.stored(),
        preferences_given,
        preferences.stored(),
        bio_given,
        bio.stored(),
        location_given,
        location.stored(),
        website_given,
        website.stored(),
        now,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Deletes a profile row and gives the picture it had; `None` if there was no row.
pub async fn delete_row(conn: &mut PgConnection, user: UserId) -> sqlx::Result<Option<Option<String>>> {
    sqlx::query_scalar!(
        "delete from users.profiles where user_id = $1 returning avatar",
        user as UserId
    )
    .fetch_optional(conn)
    .await
}

/// Puts a picture, or none, into a profile row that is there, and gives the one it had.
pub async fn replace_picture(
    conn: &mut PgConnection,
    user: UserId,
    avatar: Option<&str>,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!(
        r#"with before as (
               select user_id, avatar from users.profiles where user_id = $1 for update
           )
           update users.profiles as profile
           set avatar = $2, updated_at = $3
           from before
           where profile.user_id = before.user_id
           returning before.avatar as "avatar?""#,
        user as UserId,
        avatar,
        now,
    )
    .fetch_one(conn)
    .await
}

/// Has an object removed from storage at `due_at`; an earlier time wins.
pub async fn doom_object(db: impl PgExecutor<'_>, key: &str, due_at: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into users.doomed_objects as doomed (key, due_at) values ($1, $2)
         on conflict (key) do update set due_at = least(doomed.due_at, $2)",
        key,
        due_at,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Takes an object off that list; whether it was still on it.
pub async fn spare_object(db: impl PgExecutor<'_>, key: &str) -> sqlx::Result<bool> {
    let spared = sqlx::query!("delete from users.doomed_objects where key = $1", key)
        .execute(db)
        .await?;
    Ok(spared.rows_affected() > 0)
}

/// Takes objects that are due and keeps others away from them until `until`.
pub async fn lease_doomed(
    db: impl PgExecutor<'_>,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
    most: i64,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "update users.doomed_objects
         set due_at = $2
         where key in (
             select key from users.doomed_objects where due_at <= $1 order by due_at limit $3 for update skip locked
         )
         returning key",
        now,
        until,
        most,
    )
    .fetch_all(db)
    .await
}
