//! What a traveller allows, for whoever is about to use their data.
//!
//! contract: core §5.11, §14 (consent enforcement). Every write of analytics, every personal suggestion and every
//! marketing mail asks here, in its own transaction.

use shared::{
    ApiError,
    events::outbox,
    id::{TypedId as _, UserId},
    sources::Sources,
};
use sqlx::{PgConnection, PgExecutor};

use super::{
    Purpose, events,
    model::{Consent, ConsentChange},
    store::consent as store,
};
use crate::user::{User, UserState, origin::Origin};

/// Whether a traveller's data may be used for this purpose. Without a decision the defaults hold: analytics and marketing
/// no, functional and preferences yes.
pub async fn allows(db: impl PgExecutor<'_>, user: UserId, purpose: Purpose) -> sqlx::Result<bool> {
    if purpose == Purpose::Functional {
        return Ok(true);
    }
    let row = sqlx::query!(
        "select analytics, marketing, preferences from users.consents where user_id = $1",
        user as UserId,
    )
    .fetch_optional(db)
    .await?;
    Ok(match purpose {
        Purpose::Functional => true,
        Purpose::Analytics => row.is_some_and(|row| row.analytics),
        Purpose::Marketing => row.is_some_and(|row| row.marketing),
        Purpose::Preferences => row.is_none_or(|row| row.preferences),
    })
}

/// Makes the row of a new account, with the defaults. May be repeated.
pub async fn ensure(conn: &mut PgConnection, user: UserId, sources: &Sources) -> sqlx::Result<()> {
    store::ensure(conn, sources.id(), user, sources.now()).await
}

/// The consent of a traveller; the first read makes the row.
pub async fn read(state: &UserState, user: UserId) -> Result<Consent, ApiError> {
    let mut conn = state.db.acquire().await?;
    if let Some(consent) = store::find(&mut *conn, user).await? {
        return Ok(consent);
    }
    ensure(&mut conn, user, &state.sources).await?;
    let consent = store::find(&mut *conn, user).await?;
    consent.ok_or_else(|| ApiError::internal(anyhow::anyhow!("the consent row is gone as soon as it is made")))
}

/// A decision: the row, its history and the event commit together.
pub async fn decide(
    state: &UserState,
    user: UserId,
    change: ConsentChange,
    origin: &Origin,
) -> Result<Consent, ApiError> {
    let sources = &state.sources;
    let mut tx = state.db.begin().await?;
    let consent = store::change(&mut tx, sources.id(), user, change, origin, sources.now()).await?;
    store::record(&mut tx, sources.id(), &consent, origin, "Changed by the user").await?;
    outbox::append::<User>(&mut tx, &[events::consent_updated(sources, &consent)]).await?;
    tx.commit().await?;
    Ok(consent)
}

/// Notes a fact for statistics, if whom it is about allows that. `None`: it is about nobody.
pub async fn track(
    conn: &mut PgConnection,
    sources: &Sources,
    user: Option<UserId>,
    event: &str,
    data: &serde_json::Value,
) -> sqlx::Result<()> {
    sqlx::query!(
        "insert into users.analytics (id, service, event, data, user_id, occurred_at)
         select $1, 'user-service', $2, $3, $4, $5
         where $4::uuid is null or exists (select from users.consents where user_id = $4 and analytics)",
        sources.uuid_v7(),
        event,
        data,
        user.map(UserId::uuid),
        sources.now(),
    )
    .execute(conn)
    .await
    .map(drop)
}
