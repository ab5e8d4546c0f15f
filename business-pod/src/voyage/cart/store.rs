//! All SQL of carts. A mutation locks the cart's row first; totals are computed here, in SQL.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use shared::{
    id::{CartId, CartItemId, UserId},
    money::{Currency, Money},
};
use sqlx::{PgConnection, PgExecutor, types::Json};

use super::model::{Cart, CartLine, Head, ItemKind, NewLine, Owner, Traveler};
use crate::voyage::booking::store::read_currency;

/// One row of a cart joined with its lines; the line's columns are null for an empty cart.
struct Joined {
    id: CartId,
    user_id: Option<UserId>,
    anonymous: bool,
    currency: String,
    total_minor: i64,
    version: i32,
    expires_at: DateTime<Utc>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    line_id: Option<CartItemId>,
    kind: Option<ItemKind>,
    item_id: Option<String>,
    item_data: Option<Json<Box<RawValue>>>,
    quantity: Option<i32>,
    line_total_minor: Option<i64>,
    price_verified: Option<bool>,
    provider: Option<String>,
    offer_expires_at: Option<DateTime<Utc>>,
    destination: Option<String>,
    travelers: Option<Json<Vec<Traveler>>>,
    line_created_at: Option<DateTime<Utc>>,
}

macro_rules! select_carts {
    ($rest:literal $(, $bind:expr)* $(,)?) => {
        sqlx::query_as!(
            Joined,
            r#"select c.id as "id: CartId", c.user_id as "user_id: UserId", c.anonymous_key is not null as "anonymous!",
                      c.currency, c.total_minor, c.version, c.expires_at, c.created_at, c.updated_at,
                      i.id as "line_id?: CartItemId", i.kind as "kind?: ItemKind", i.item_id as "item_id?",
                      i.item_data as "item_data?: Json<Box<RawValue>>", i.quantity as "quantity?",
                      i.line_total_minor as "line_total_minor?", i.price_verified as "price_verified?",
                      i.provider as "provider?", i.offer_expires_at as "offer_expires_at?",
                      i.destination as "destination?", i.travelers as "travelers?: Json<Vec<Traveler>>",
                      i.created_at as "line_created_at?"
               from voyage.carts c left join voyage.cart_items i on i.cart_id = c.id "# + $rest
            $(, $bind)*
        )
    };
}

/// The live cart of an account and that of a browser, in one round trip.
#[derive(Debug, Default)]
pub struct Found {
    /// The account's.
    pub of_user: Option<Cart>,
    /// The browser's.
    pub of_guest: Option<Cart>,
}

/// The live carts of these owners.
pub async fn find(
    db: impl PgExecutor<'_>,
    user: Option<UserId>,
    guest: Option<&[u8]>,
    now: DateTime<Utc>,
) -> sqlx::Result<Found> {
    // nearly always there is an account alone, and one index gives its cart
    let rows = match (user, guest) {
        (Some(user), None) => {
            select_carts!(
                "where c.user_id = $1 and c.expires_at > $2 order by i.position",
                user as UserId,
                now
            )
            .fetch_all(db)
            .await?
        }
        _ => {
            select_carts!(
                "where (c.user_id = $1 or c.anonymous_key = $2) and c.expires_at > $3 order by i.position",
                user as Option<UserId>,
                guest,
                now
            )
            .fetch_all(db)
            .await?
        }
    };
    let (guest_rows, user_rows) = rows.into_iter().partition::<Vec<_>, _>(|row| row.anonymous);
    Ok(Found {
        of_user: assemble(user_rows)?,
        of_guest: assemble(guest_rows)?,
    })
}

/// A cart by its row.
pub async fn load(db: impl PgExecutor<'_>, cart: CartId) -> sqlx::Result<Option<Cart>> {
    let rows = select_carts!("where c.id = $1 order by i.position", cart as CartId)
        .fetch_all(db)
        .await?;
    assemble(rows)
}

fn assemble(rows: Vec<Joined>) -> sqlx::Result<Option<Cart>> {
    let Some(first) = rows.first() else { return Ok(None) };
    let currency = read_currency("voyage.carts", first.id, &first.currency)?;
    let mut cart = Cart {
        id: first.id,
        user: first.user_id,
        total: Money::new(first.total_minor, currency),
        version: first.version,
        expires_at: first.expires_at,
        created_at: first.created_at,
        updated_at: first.updated_at,
        lines: Vec::with_capacity(rows.len()),
    };
    cart.lines.extend(rows.into_iter().filter_map(|row| {
        Some(CartLine {
            id: row.line_id?,
            kind: row.kind?,
            item_id: row.item_id?,
            item_data: row.item_data?.0,
            quantity: row.quantity?,
            total: Money::new(row.line_total_minor?, currency),
            price_verified: row.price_verified?,
            provider: row.provider,
            offer_expires_at: row.offer_expires_at,
            destination: row.destination,
            travelers: row.travelers.map(|travelers| travelers.0).unwrap_or_default(),
            created_at: row.line_created_at?,
        })
    }));
    Ok(Some(cart))
}

/// Locks the cart of an owner, live or not.
pub async fn lock(conn: &mut PgConnection, owner: &Owner) -> sqlx::Result<Option<Head>> {
    let row = sqlx::query!(
        r#"select c.id as "id: CartId", c.currency, c.version, c.expires_at, c.created_at,
                  (select count(*) from voyage.cart_items where cart_id = c.id) as "lines!"
           from voyage.carts c where c.user_id = $1 or c.anonymous_key = $2 for update of c"#,
        owner.user() as Option<UserId>,
        owner.guest(),
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Head {
        id: row.id,
        currency: read_currency("voyage.carts", row.id, &row.currency)?,
        version: row.version,
        expires_at: row.expires_at,
        created_at: row.created_at,
        lines: row.lines,
    }))
}

/// Makes an empty cart. Nothing happens if the owner has one by now: lock it then.
pub async fn create(
    conn: &mut PgConnection,
    id: CartId,
    owner: &Owner,
    currency: Currency,
    now: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"insert into voyage.carts (id, user_id, anonymous_key, currency, expires_at, created_at, updated_at)
           values ($1, $2, $3, $4, $5, $6, $6)
           on conflict do nothing"#,
        id as CartId,
        owner.user() as Option<UserId>,
        owner.guest(),
        currency.code(),
        expires_at,
        now,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Deletes a cart with its lines.
pub async fn delete(conn: &mut PgConnection, cart: CartId) -> sqlx::Result<()> {
    sqlx::query!("delete from voyage.carts where id = $1", cart as CartId)
        .execute(conn)
        .await
        .map(drop)
}

/// Deletes the cart of an owner, if there is one.
pub async fn delete_of(conn: &mut PgConnection, owner: &Owner) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from voyage.carts where user_id = $1 or anonymous_key = $2",
        owner.user() as Option<UserId>,
        owner.guest(),
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Inserts a line. `false` if the cart has this very line already.
pub async fn insert_line(
    conn: &mut PgConnection,
    cart: CartId,
    id: CartItemId,
    line: &NewLine,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"insert into voyage.cart_items
               (id, cart_id, kind, item_id, variant_key, item_data, quantity, line_total_minor, currency, price_verified,
                provider, offer_expires_at, destination, travelers, created_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
           on conflict on constraint cart_items_identity do nothing"#,
        id as CartItemId,
        cart as CartId,
        line.kind as ItemKind,
        line.item_id,
        line.variant_key,
        line.item_data,
        line.quantity,
        line.total.minor,
        line.total.currency.code(),
        line.price_verified,
        line.provider,
        line.offer_expires_at,
        line.destination,
        Json(&line.travelers) as _,
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// What a change of quantity must know of a line.
#[derive(Debug)]
pub struct LineHead {
    /// What it is.
    pub kind: ItemKind,
    /// How many it says now.
    pub quantity: i32,
    /// What it costs now.
    pub total_minor: i64,
    /// Whether we quoted that.
    pub price_verified: bool,
}

/// A line of a locked cart.
pub async fn line(conn: &mut PgConnection, cart: CartId, line: CartItemId) -> sqlx::Result<Option<LineHead>> {
    sqlx::query_as!(
        LineHead,
        r#"select kind as "kind: ItemKind", quantity, line_total_minor as total_minor, price_verified
           from voyage.cart_items where id = $1 and cart_id = $2"#,
        line as CartItemId,
        cart as CartId,
    )
    .fetch_optional(conn)
    .await
}

/// Sets quantity and total of a line.
pub async fn set_quantity(
    conn: &mut PgConnection,
    line: CartItemId,
    quantity: i32,
    total_minor: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update voyage.cart_items set quantity = $2, line_total_minor = $3 where id = $1",
        line as CartItemId,
        quantity,
        total_minor,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Removes a line. `false` if the cart has no such line.
pub async fn delete_line(conn: &mut PgConnection, cart: CartId, line: CartItemId) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "delete from voyage.cart_items where id = $1 and cart_id = $2",
        line as CartItemId,
        cart as CartId,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Finishes a mutation: the total from the lines, the currency, the new time limit, and one version more if the content
/// changed.
pub async fn touch(
    conn: &mut PgConnection,
    cart: CartId,
    currency: Currency,
    content_changed: bool,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"update voyage.carts
           set total_minor = (select coalesce(sum(line_total_minor), 0)::bigint from voyage.cart_items where cart_id = $1),
               currency = $2, version = version + $3, expires_at = $4, updated_at = $5
           where id = $1"#,
        cart as CartId,
        currency.code(),
        i32::from(content_changed),
        expires_at,
        now,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Locks the carts of an account and a browser, in one order.
pub async fn lock_pair(conn: &mut PgConnection, user: UserId, guest: &[u8]) -> sqlx::Result<()> {
    sqlx::query!(
        "select id from voyage.carts where user_id = $1 or anonymous_key = $2 order by id for update",
        user as UserId,
        guest,
    )
    .fetch_all(conn)
    .await
    .map(drop)
}

/// Gives a browser's cart to an account that has none.
pub async fn adopt(conn: &mut PgConnection, cart: CartId, user: UserId, now: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "update voyage.carts set user_id = $2, anonymous_key = null, updated_at = $3 where id = $1",
        cart as CartId,
        user as UserId,
        now,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Moves lines from one cart to another, oldest first, as far as there is room; lines that are there already stay behind.
pub async fn move_lines(conn: &mut PgConnection, from: CartId, to: CartId, room: i64) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"update voyage.cart_items set cart_id = $2
           where id in (
               select mine.id from voyage.cart_items mine
               where mine.cart_id = $1 and not exists (
                   select 1 from voyage.cart_items theirs
                   where theirs.cart_id = $2 and theirs.kind = mine.kind and theirs.item_id = mine.item_id
                     and theirs.variant_key = mine.variant_key
               )
               order by mine.position limit $3
           )"#,
        from as CartId,
        to as CartId,
        room,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Sets what a line costs and in which currency, after a conversion or a new quote.
pub async fn set_price(conn: &mut PgConnection, line: CartItemId, price: &NewPrice<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        r#"update voyage.cart_items
           set line_total_minor = $2, currency = $3, item_id = coalesce($4, item_id),
               offer_expires_at = coalesce($5, offer_expires_at), item_data = coalesce($6, item_data)
           where id = $1"#,
        line as CartItemId,
        price.total.minor,
        price.total.currency.code(),
        price.item_id,
        price.offer_expires_at,
        price.item_data,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// A line's new price, and what else a new quote may bring.
#[derive(Debug)]
pub struct NewPrice<'a> {
    /// What it costs now.
    pub total: Money,
    /// The offer that takes the old one's place.
    pub item_id: Option<&'a str>,
    /// Until when it holds.
    pub offer_expires_at: Option<DateTime<Utc>>,
    /// The data with the original price noted.
    pub item_data: Option<serde_json::Value>,
}

/// Notes that a line's price is ours.
pub async fn set_verified(conn: &mut PgConnection, line: CartItemId, provider: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update voyage.cart_items set price_verified = true, provider = $2 where id = $1",
        line as CartItemId,
        provider,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Removes bought lines from a cart, unless their quantity was changed since. Says how many lines went and how many are
/// left.
pub async fn delete_bought(
    conn: &mut PgConnection,
    cart: CartId,
    lines: &[CartItemId],
    quantities: &[i32],
) -> sqlx::Result<(u64, i64)> {
    let ids: Vec<uuid::Uuid> = lines.iter().map(|line| line.0).collect();
    let done = sqlx::query!(
        r#"delete from voyage.cart_items
           using unnest($2::uuid[], $3::int[]) as bought (id, quantity)
           where cart_items.cart_id = $1 and cart_items.id = bought.id and cart_items.quantity = bought.quantity"#,
        cart as CartId,
        &ids,
        quantities,
    )
    .execute(&mut *conn)
    .await?;
    let left = sqlx::query_scalar!(
        r#"select count(*) as "count!" from voyage.cart_items where cart_id = $1"#,
        cart as CartId
    )
    .fetch_one(conn)
    .await?;
    Ok((done.rows_affected(), left))
}

/// Locks a cart by its row.
pub async fn lock_by_id(conn: &mut PgConnection, cart: CartId) -> sqlx::Result<Option<Head>> {
    let row = sqlx::query!(
        r#"select currency, version, expires_at, created_at,
                  (select count(*) from voyage.cart_items where cart_id = carts.id) as "lines!"
           from voyage.carts where id = $1 for update"#,
        cart as CartId,
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Head {
        id: cart,
        currency: read_currency("voyage.carts", cart, &row.currency)?,
        version: row.version,
        expires_at: row.expires_at,
        created_at: row.created_at,
        lines: row.lines,
    }))
}

/// Deletes carts that are over, at most `limit`, and says how many.
pub async fn purge(conn: &mut PgConnection, now: DateTime<Utc>, limit: i64) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"delete from voyage.carts where id in (
               select id from voyage.carts where expires_at <= $1 order by expires_at limit $2 for update skip locked
           )"#,
        now,
        limit,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
