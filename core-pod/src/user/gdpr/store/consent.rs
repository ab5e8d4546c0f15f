//! SQL of consent.
//!
//! contract: core §5.11, §11 (`user_consents`, `consent_history`)

use chrono::{DateTime, Utc};
use shared::id::UserId;
use sqlx::{PgConnection, PgExecutor};

use crate::user::{
    gdpr::model::{Consent, ConsentChange, ConsentChangeId, ConsentId, ConsentRecord},
    origin::Origin,
};

/// Makes the row with the defaults of the table, unless there is one.
pub async fn ensure(conn: &mut PgConnection, id: ConsentId, user: UserId, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into users.consents (id, user_id, last_updated_at) values ($1, $2, $3)
         on conflict (user_id) do nothing",
        id as ConsentId,
        user as UserId,
        now,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// The consent of a traveller.
pub async fn find(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<Option<Consent>> {
    sqlx::query_as!(
        Consent,
        r#"select id as "id: ConsentId", user_id as "user_id: UserId", analytics, marketing, functional, preferences,
                  last_updated_at, ip_address
           from users.consents
           where user_id = $1"#,
        user as UserId,
    )
    .fetch_optional(db)
    .await
}

/// Changes what is given and keeps the rest, making the row if need be. Holds the row's lock until the commit, so that
/// decisions at the same time follow one another.
pub async fn change(
    conn: &mut PgConnection,
    id: ConsentId,
    user: UserId,
    change: ConsentChange,
    origin: &Origin,
    now: DateTime<Utc>,
) -> sqlx::Result<Consent> {
    sqlx::query_as!(
        Consent,
        r#"insert into users.consents as known
               (id, user_id, analytics, marketing, preferences, last_updated_at, ip_address)
           values ($1, $2, coalesce($3, false), coalesce($4, false), coalesce($5, true), $6, $7)
           on conflict (user_id) do update set
               analytics = coalesce($3, known.analytics), marketing = coalesce($4, known.marketing),
               preferences = coalesce($5, known.preferences), last_updated_at = $6, ip_address = $7
           returning id as "id: ConsentId", user_id as "user_id: UserId", analytics, marketing, functional, preferences,
                     last_updated_at, ip_address"#,
        id as ConsentId,
        user as UserId,
        change.analytics,
        change.marketing,
        change.preferences,
        now,
        origin.ip_address,
    )
    .fetch_one(conn)
    .await
}

/// Keeps a decision.
pub async fn record(
    conn: &mut PgConnection,
    id: ConsentChangeId,
    consent: &Consent,
    origin: &Origin,
    reason: &str,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into users.consent_history
             (id, consent_id, user_id, analytics, marketing, functional, preferences, changed_at, ip_address, user_agent,
              change_reason)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        id as ConsentChangeId,
        consent.id as ConsentId,
        consent.user_id as UserId,
        consent.analytics,
        consent.marketing,
        consent.functional,
        consent.preferences,
        consent.last_updated_at,
        origin.ip_address,
        origin.user_agent,
        reason,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// All decisions of a traveller, newest first.
pub async fn history(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<Vec<ConsentRecord>> {
    sqlx::query_as!(
        ConsentRecord,
        r#"select id as "id: ConsentChangeId", consent_id as "consent_id: ConsentId", user_id as "user_id: UserId",
                  analytics, marketing, functional, preferences, changed_at, changed_at as created_at, ip_address,
                  user_agent, change_reason
           from users.consent_history
           where user_id = $1
           order by changed_at desc, id desc"#,
        user as UserId,
    )
    .fetch_all(db)
    .await
}
