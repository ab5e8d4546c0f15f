//! All SQL of the history.
//!
//! contract: core §5.7, §11

use chrono::{DateTime, Utc};
use serde_json::Value;
use shared::id::UserId;
use sqlx::PgExecutor;

use super::model::{ActionType, EntityType, Entry, Filter, HistoryId, NewEntry, Page, Stats};

/// One page of a traveller's history, newest first, and how many entries pass the filter: one round trip.
pub async fn list(
    db: impl PgExecutor<'_>,
    user: UserId,
    filter: &Filter,
    page: Page,
) -> sqlx::Result<(Vec<Entry>, i64)> {
    let rows = sqlx::query!(
        r#"with passing as (
               select id, action_type, entity_type, entity_id, metadata, created_at
               from users.history
               where user_id = $1 and ($2::text is null or action_type = $2) and ($3::text is null or entity_type = $3)
                 and ($4::text is null or entity_id = $4) and ($5::timestamptz is null or created_at >= $5)
                 and ($6::timestamptz is null or created_at < $6)
           )
           select counted.total as "total!", page.id as "id?: HistoryId",
                  page.action_type as "action_type?: ActionType", page.entity_type as "entity_type?: EntityType",
                  page.entity_id as "entity_id?", page.metadata as "metadata?", page.created_at as "created_at?"
           from (select count(*) as total from passing) as counted
           left join lateral (
               select id, action_type, entity_type, entity_id, metadata, created_at
               from passing
               order by created_at desc, id desc
               limit $7 offset $8
           ) as page on true
           order by page.created_at desc, page.id desc"#,
        user as UserId,
        filter.action.map(ActionType::as_str),
        filter.entity.map(EntityType::as_str),
        filter.entity_id.as_deref(),
        filter.from,
        filter.until,
        page.limit,
        page.offset(),
    )
    .fetch_all(db)
    .await?;
    let total = rows.first().map_or(0, |row| row.total);
    let entries = rows.into_iter().filter_map(|row| {
        Some(Entry {
            id: row.id?,
            user_id: user,
            action_type: row.action_type?,
            entity_type: row.entity_type?,
            entity_id: row.entity_id?,
            metadata: row.metadata,
            created_at: row.created_at?,
        })
    });
    Ok((entries.collect(), total))
}

/// A traveller's history in numbers: one round trip.
pub async fn stats(db: impl PgExecutor<'_>, user: UserId) -> sqlx::Result<Stats> {
    let rows = sqlx::query!(
        r#"select counted.action_type as "action_type?: ActionType", counted.entity_type as "entity_type?: EntityType",
                  counted.entries as "entries!",
                  latest.id as "id?: HistoryId", latest.action_type as "latest_action?: ActionType",
                  latest.entity_type as "latest_entity?: EntityType", latest.entity_id as "entity_id?",
                  latest.metadata as "metadata?", latest.created_at as "created_at?"
           from (
               select action_type, entity_type, count(*) as entries
               from users.history
               where user_id = $1
               group by action_type, entity_type
           ) as counted
           left join lateral (
               select id, action_type, entity_type, entity_id, metadata, created_at
               from users.history
               where user_id = $1
               order by created_at desc, id desc
               limit 1
           ) as latest on true"#,
        user as UserId,
    )
    .fetch_all(db)
    .await?;
    let mut stats = Stats::default();
    for row in rows {
        stats.total_count += row.entries;
        if let Some(action) = row.action_type {
            *stats.by_action_type.entry(action.as_str().to_owned()).or_default() += row.entries;
        }
        if let Some(entity) = row.entity_type {
            *stats.by_entity_type.entry(entity.as_str().to_owned()).or_default() += row.entries;
        }
        if stats.most_recent_activity.is_none()
            && let (Some(id), Some(action_type), Some(entity_type), Some(entity_id), Some(created_at)) = (
                row.id,
                row.latest_action,
                row.latest_entity,
                row.entity_id,
                row.created_at,
            )
        {
            stats.most_recent_activity = Some(Entry {
                id,
                user_id: user,
                action_type,
                entity_type,
                entity_id,
                metadata: row.metadata,
                created_at,
            });
        }
    }
    Ok(stats)
}

/// Adds an entry.
pub async fn insert(
    db: impl PgExecutor<'_>,
    user: UserId,
    id: HistoryId,
    new: NewEntry,
    now: DateTime<Utc>,
) -> sqlx::Result<Entry> {
    sqlx::query!(
        "insert into users.history (id, user_id, action_type, entity_type, entity_id, metadata, created_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
        id as HistoryId,
        user as UserId,
        new.action as ActionType,
        new.entity as EntityType,
        new.entity_id,
        new.metadata.as_ref() as Option<&Value>,
        now,
    )
    .execute(db)
    .await?;
    Ok(Entry {
        id,
        user_id: user,
        action_type: new.action,
        entity_type: new.entity,
        entity_id: new.entity_id,
        metadata: new.metadata,
        created_at: now,
    })
}

/// Deletes an entry of this traveller; false if there is none.
pub async fn delete(db: impl PgExecutor<'_>, user: UserId, id: HistoryId) -> sqlx::Result<bool> {
    let gone = sqlx::query!(
        "delete from users.history where id = $1 and user_id = $2",
        id as HistoryId,
        user as UserId,
    )
    .execute(db)
    .await?;
    Ok(gone.rows_affected() > 0)
}

/// Deletes a traveller's history, or what of it concerns one kind of thing, and says how many entries that were.
pub async fn clear(db: impl PgExecutor<'_>, user: UserId, of: Option<EntityType>) -> sqlx::Result<u64> {
    let gone = sqlx::query!(
        "delete from users.history where user_id = $1 and ($2::text is null or entity_type = $2)",
        user as UserId,
        of.map(EntityType::as_str),
    )
    .execute(db)
    .await?;
    Ok(gone.rows_affected())
}
