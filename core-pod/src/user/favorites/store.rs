//! All SQL of favourites.
//!
//! contract: core §5.6, §11

use chrono::{DateTime, Utc};
use shared::{
    id::{TypedId as _, UserId},
    sources::Sources,
};
use sqlx::{PgExecutor, types::Uuid};

use super::model::{EntityType, Favorite, FavoriteChange, FavoriteId, Item, NewFavorite, Owner, Window};

/// One page of a traveller's favourites, newest first, and how many there are in all: one round trip.
pub async fn list(
    db: impl PgExecutor<'_>,
    user: UserId,
    of_type: Option<EntityType>,
    window: Window,
) -> sqlx::Result<(Vec<Favorite>, i64)> {
    let rows = sqlx::query!(
        r#"select counted.total as "total!", account.email as "email?", account.username as "username?",
                  page.id as "id?: FavoriteId", page.entity_type as "entity_type?: EntityType",
                  page.entity_id as "entity_id?", page.entity_data as "entity_data?", page.category as "category?",
                  page.notes as "notes?", page.created_at as "created_at?", page.updated_at as "updated_at?"
           from (
               select count(*) as total
               from users.favorites
               where user_id = $1 and ($2::text is null or entity_type = $2)
           ) as counted
           left join auth.accounts as account on account.id = $1
           left join lateral (
               select id, entity_type, entity_id, entity_data, category, notes, created_at, updated_at
               from users.favorites
               where user_id = $1 and ($2::text is null or entity_type = $2)
               order by created_at desc, id desc
               limit $3 offset $4
           ) as page on true
           order by page.created_at desc, page.id desc"#,
        user as UserId,
        of_type.map(EntityType::as_str),
        window.limit,
        window.offset,
    )
    .fetch_all(db)
    .await?;
    let total = rows.first().map_or(0, |row| row.total);
    let favorites = rows.into_iter().filter_map(|row| {
        Some(Favorite {
            id: row.id?,
            user_id: user,
            entity_type: row.entity_type?,
            entity_id: row.entity_id?,
            entity_data: row.entity_data,
            category: row.category,
            notes: row.notes,
            created_at: row.created_at?,
            updated_at: row.updated_at?,
            user: Owner {
                id: user,
                email: row.email.unwrap_or_default(),
                username: row.username,
            },
        })
    });
    Ok((favorites.collect(), total))
}

/// Adds a favourite; `None` if the item is one already. Of any number at once one is added.
pub async fn insert(
    db: impl PgExecutor<'_>,
    user: UserId,
    id: FavoriteId,
    new: &NewFavorite,
    now: DateTime<Utc>,
) -> sqlx::Result<Option<Favorite>> {
    let added = sqlx::query!(
        r#"with added as (
               insert into users.favorites
                   (id, user_id, entity_type, entity_id, entity_data, category, notes, created_at, updated_at)
               values ($1, $2, $3, $4, $5, $6, $7, $8, $8)
               on conflict on constraint favorites_item_key do nothing
               returning user_id
           )
           select account.email as "email?", account.username as "username?"
           from added
           left join auth.accounts as account on account.id = added.user_id"#,
        id as FavoriteId,
        user as UserId,
        new.item.entity_type as EntityType,
        new.item.entity_id,
        new.entity_data,
        new.category,
        new.notes,
        now,
    )
    .fetch_optional(db)
    .await?;
    Ok(added.map(|owner| Favorite {
        id,
        user_id: user,
        entity_type: new.item.entity_type,
        entity_id: new.item.entity_id.clone(),
        entity_data: new.entity_data.clone(),
        category: new.category.clone(),
        notes: new.notes.clone(),
        created_at: now,
        updated_at: now,
        user: Owner {
            id: user,
            email: owner.email.unwrap_or_default(),
            username: owner.username,
        },
    }))
}

/// Adds favourites and says how many were none before.
pub async fn insert_all(
    db: impl PgExecutor<'_>,
    user: UserId,
    new: &[NewFavorite],
    sources: &Sources,
) -> sqlx::Result<u64> {
    let ids: Vec<Uuid> = new.iter().map(|_| sources.uuid_v7()).collect();
    let types: Vec<&str> = new.iter().map(|new| new.item.entity_type.as_str()).collect();
    let entities: Vec<&str> = new.iter().map(|new| new.item.entity_id.as_str()).collect();
    let data: Vec<Option<serde_json::Value>> = new.iter().map(|new| new.entity_data.clone()).collect();
    let categories: Vec<Option<&str>> = new.iter().map(|new| new.category.as_deref()).collect();
    let notes: Vec<Option<&str>> = new.iter().map(|new| new.notes.as_deref()).collect();
    let added = sqlx::query!(
        "insert into users.favorites
             (id, user_id, entity_type, entity_id, entity_data, category, notes, created_at, updated_at)
         select id, $1, entity_type, entity_id, entity_data, category, notes, $8, $8
         from unnest($2::uuid[], $3::text[], $4::text[], $5::jsonb[], $6::text[], $7::text[])
             as given (id, entity_type, entity_id, entity_data, category, notes)
         on conflict on constraint favorites_item_key do nothing",
        user as UserId,
        &ids,
        &types as &[&str],
        &entities as &[&str],
        &data as &[Option<serde_json::Value>],
        &categories as &[Option<&str>],
        &notes as &[Option<&str>],
        sources.now(),
    )
    .execute(db)
    .await?;
    Ok(added.rows_affected())
}

/// The favourite of this id, whoever owns it.
pub async fn find(db: impl PgExecutor<'_>, id: FavoriteId) -> sqlx::Result<Option<Favorite>> {
    let found = sqlx::query!(
        r#"select favorite.user_id as "user_id: UserId", favorite.entity_type as "entity_type: EntityType",
                  favorite.entity_id, favorite.entity_data, favorite.category, favorite.notes, favorite.created_at,
                  favorite.updated_at, account.email as "email?", account.username as "username?"
           from users.favorites as favorite
           left join auth.accounts as account on account.id = favorite.user_id
           where favorite.id = $1"#,
        id as FavoriteId,
    )
    .fetch_optional(db)
    .await?;
    Ok(found.map(|row| Favorite {
        id,
        user_id: row.user_id,
        entity_type: row.entity_type,
        entity_id: row.entity_id,
        entity_data: row.entity_data,
        category: row.category,
        notes: row.notes,
        created_at: row.created_at,
        updated_at: row.updated_at,
        user: Owner {
            id: row.user_id,
            email: row.email.unwrap_or_default(),
            username: row.username,
        },
    }))
}

/// Changes a favourite of this traveller; false if there is none.
pub async fn update(
    db: impl PgExecutor<'_>,
    user: UserId,
    id: FavoriteId,
    change: FavoriteChange,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let FavoriteChange {
        entity_data,
        category,
        notes,
    } = change;
    let (data_given, category_given, notes_given) = (entity_data.is_given(), category.is_given(), notes.is_given());
    let changed = sqlx::query!(
        "update users.favorites
         set entity_data = case when $3 then $4 else entity_data end,
             category = case when $5 then $6 else category end,
             notes = case when $7 then $8 else notes end,
             updated_at = $9
         where id = $1 and user_id = $2",
        id as FavoriteId,
        user as UserId,
        data_given,
        entity_data.stored(),
        category_given,
        category.stored(),
        notes_given,
        notes.stored(),
        now,
    )
    .execute(db)
    .await?;
    Ok(changed.rows_affected() > 0)
}

/// What became of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone.
    Done,
    /// It is somebody else's.
    NotOwn,
    /// There is none.
    Missing,
}

/// Deletes a favourite of this traveller, and says why not if it does not: one round trip.
pub async fn delete(db: impl PgExecutor<'_>, user: UserId, id: FavoriteId) -> sqlx::Result<Deletion> {
    let outcome = sqlx::query!(
        r#"with gone as (
               delete from users.favorites where id = $1 and user_id = $2 returning id
           )
           select exists (select from gone) as "gone!",
                  exists (select from users.favorites where id = $1) as "known!""#,
        id as FavoriteId,
        user as UserId,
    )
    .fetch_one(db)
    .await?;
    Ok(match (outcome.gone, outcome.known) {
        (true, _) => Deletion::Done,
        (false, true) => Deletion::NotOwn,
        (false, false) => Deletion::Missing,
    })
}

/// Deletes those of these favourites that are this traveller's and says how many.
pub async fn delete_all(db: impl PgExecutor<'_>, user: UserId, ids: &[FavoriteId]) -> sqlx::Result<u64> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
    let gone = sqlx::query!(
        "delete from users.favorites where user_id = $1 and id = any($2)",
        user as UserId,
        &ids,
    )
    .execute(db)
    .await?;
    Ok(gone.rows_affected())
}

/// For each item in order the favourite that it is, if it is one: one round trip.
pub async fn check(
    db: impl PgExecutor<'_>,
    user: UserId,
    items: &[Item],
) -> sqlx::Result<Vec<Option<(FavoriteId, DateTime<Utc>)>>> {
    let types: Vec<&str> = items.iter().map(|item| item.entity_type.as_str()).collect();
    let entities: Vec<&str> = items.iter().map(|item| item.entity_id.as_str()).collect();
    let rows = sqlx::query!(
        r#"select favorite.id as "id?: FavoriteId", favorite.created_at as "created_at?"
           from unnest($2::text[], $3::text[]) with ordinality as asked (entity_type, entity_id, place)
           left join users.favorites as favorite
               on favorite.user_id = $1 and favorite.entity_type = asked.entity_type
                  and favorite.entity_id = asked.entity_id
           order by asked.place"#,
        user as UserId,
        &types as &[&str],
        &entities as &[&str],
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| row.id.zip(row.created_at)).collect())
}
