//! SQL of unsubscribing.

use chrono::{DateTime, Utc};
use shared::id::UserId;
use sqlx::PgExecutor;

/// The language a traveller has chosen.
pub async fn language(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar!("select language from users.settings where user_id = $1", user as UserId)
        .fetch_optional(db)
        .await
        .map(Option::flatten)
}

/// Switches offers by mail off and leaves every other preference as it is. An account that is gone is left alone.
pub async fn stop_offers(db: impl PgExecutor<'_>, user: UserId, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        r#"insert into users.settings (user_id, notification_preferences, created_at, updated_at)
           select account.id, '{"promo_offer": {"inApp": true, "email": false}}'::jsonb, $2, $2
           from auth.accounts as account
           where account.id = $1
           on conflict (user_id) do update
           set notification_preferences = jsonb_set(
                   coalesce(settings.notification_preferences, '{}'::jsonb),
                   '{promo_offer}',
                   coalesce(settings.notification_preferences -> 'promo_offer', '{"inApp": true}'::jsonb)
                       || '{"email": false}'::jsonb
               ),
               updated_at = $2"#,
        user as UserId,
        now,
    )
    .execute(db)
    .await
    .map(drop)
}
