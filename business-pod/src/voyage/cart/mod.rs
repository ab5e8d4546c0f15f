//! Carts: what each operation does, in one transaction with the cart's row locked.
//!
//! contract: voyage §4.7, §7.4, §7.6, §2.1 (merging). PostgreSQL is the authority; nothing of a cart is cached.

pub mod handlers;
pub mod model;
pub mod pricing;
pub mod store;
pub mod wire;

use chrono::{DateTime, Utc};
use shared::{
    ApiError,
    events::outbox,
    id::{CartId, CartItemId, UserId},
    money::Currency,
};
use sqlx::PgConnection;

use self::{
    model::{Cart, Head, ItemKind, MAX_LINES, NewLine, Owner, Proposal},
    store::NewPrice,
};
use super::{Voyage, VoyageState, booking::model::Booking, events, identity::Identity};

/// The caller's live cart. A cart the browser had before it signed in is merged on the way; the usual case is one round
/// trip. Says besides whether the browser's cookie has served its purpose.
pub async fn current(state: &VoyageState, identity: &Identity) -> Result<(Option<Cart>, bool), ApiError> {
    let now = state.sources.now();
    let user = identity.user.as_ref().map(|caller| caller.user);
    let guest = identity.guest.as_ref().map(super::identity::GuestSecret::digest);
    let guest = guest.as_ref().map(<[u8; 32]>::as_slice);
    let found = store::find(state.db.pool(), user, guest, now).await?;
    let Some(user) = user else {
        return Ok((found.of_guest, false));
    };
    let Some(guest) = guest else {
        return Ok((found.of_user, false));
    };
    if found.of_guest.is_none() {
        return Ok((found.of_user, true));
    }
    let merged = merge(state, user, guest).await?;
    let found = store::find(state.db.pool(), Some(user), None, now).await?;
    Ok((found.of_user, merged))
}

/// Puts the browser's cart into the account's, before anything else is done with it. Says whether the cookie may go.
pub async fn settle_identity(state: &VoyageState, identity: &Identity) -> Result<bool, ApiError> {
    let (Some(caller), Some(guest)) = (&identity.user, &identity.guest) else {
        return Ok(false);
    };
    merge(state, caller.user, &guest.digest()).await
}

/// Merges a browser's cart into an account's. `false` if it stays, because its currency cannot be converted.
async fn merge(state: &VoyageState, user: UserId, guest: &[u8]) -> Result<bool, ApiError> {
    let now = state.sources.now();
    let mut tx = state.db.begin().await?;
    store::lock_pair(&mut tx, user, guest).await?;
    let found = store::find(&mut *tx, Some(user), Some(guest), now).await?;
    let Some(anonymous) = found.of_guest else {
        return Ok(true);
    };
    let Some(own) = found.of_user else {
        // what is left of an expired cart of the account makes room
        store::delete_of(&mut tx, &Owner::User(user)).await?;
        store::adopt(&mut tx, anonymous.id, user, now).await?;
        tx.commit().await?;
        return Ok(true);
    };
    let currency = if own.lines.is_empty() {
        anonymous.total.currency
    } else {
        own.total.currency
    };
    for line in &anonymous.lines {
        let Ok(total) = pricing::convert(line.total, currency) else {
            return Ok(false);
        };
        if total.currency == line.total.currency {
            continue;
        }
        let mut item_data = serde_json::from_str(line.item_data.get()).map_err(ApiError::internal)?;
        pricing::note_original(&mut item_data, line.total);
        let price = NewPrice {
            total,
            item_id: None,
            offer_expires_at: None,
            item_data: Some(item_data),
        };
        store::set_price(&mut tx, line.id, &price).await?;
    }
    let room = MAX_LINES - i64::try_from(own.lines.len()).unwrap_or(MAX_LINES);
    let moved = store::move_lines(&mut tx, anonymous.id, own.id, room).await?;
    let expires_at = own
        .expires_at
        .max(anonymous.expires_at)
        .min(own.created_at + model::MAX_LIFE);
    store::touch(&mut tx, own.id, currency, moved > 0, expires_at, now).await?;
    store::delete(&mut tx, anonymous.id).await?;
    tx.commit().await?;
    Ok(true)
}

/// Puts something into a cart. The same line again changes nothing but the cart's time.
pub async fn add(
    state: &VoyageState,
    owner: &Owner,
    session: Option<String>,
    proposal: Proposal,
) -> Result<Cart, ApiError> {
    let now = state.sources.now();
    // before the transaction: a provider may have to be asked
    let priced = {
        let mut conn = state.db.acquire().await?;
        pricing::price(&mut conn, &state.offers, proposal, now).await?
    };
    let mut tx = state.db.begin().await?;
    let head = open(state, &mut tx, owner, priced.total.currency, now).await?;
    let currency = if head.lines == 0 {
        priced.total.currency
    } else {
        head.currency
    };
    let line = pricing::in_currency(priced, currency)?;
    let inserted = store::insert_line(&mut tx, head.id, state.sources.id::<CartItemId>(), &line, now).await?;
    if inserted && head.lines >= MAX_LINES {
        return Err(ApiError::bad_request(format!("A cart holds at most {MAX_LINES} items")));
    }
    store::touch(
        &mut tx,
        head.id,
        currency,
        inserted,
        head.extended(now, state.config.cart_life),
        now,
    )
    .await?;
    if inserted {
        tell_selected(state, &mut tx, owner, session, &line, now).await?;
    }
    let cart = store::load(&mut *tx, head.id).await?.ok_or_else(no_cart)?;
    tx.commit().await?;
    Ok(cart)
}

async fn tell_selected(
    state: &VoyageState,
    conn: &mut PgConnection,
    owner: &Owner,
    session: Option<String>,
    line: &NewLine,
    now: DateTime<Utc>,
) -> Result<(), ApiError> {
    let Some(user) = owner.user() else { return Ok(()) };
    let chosen = events::Selected {
        kind: line.kind,
        item_id: &line.item_id,
        item_data: &line.item_data,
        total: line.total,
        user,
        session: session.unwrap_or_default(),
        at: now,
    };
    let Some(event) = events::selected(&state.sources, &chosen) else {
        return Ok(());
    };
    outbox::append::<Voyage>(conn, &[event]).await?;
    Ok(())
}

/// The owner's live cart, locked; a new one if there is none.
async fn open(
    state: &VoyageState,
    conn: &mut PgConnection,
    owner: &Owner,
    currency: Currency,
    now: DateTime<Utc>,
) -> Result<Head, ApiError> {
    // twice: between making a cart and locking it somebody may have emptied it away
    for _ in 0..3 {
        match store::lock(conn, owner).await? {
            Some(head) if head.is_expired(now) => store::delete(conn, head.id).await?,
            Some(head) => return Ok(head),
            None => {}
        }
        let id: CartId = state.sources.id();
        store::create(conn, id, owner, currency, now, now + state.config.cart_life).await?;
    }
    Err(ApiError::conflict(
        "CONFLICT",
        "The cart was changed by another request",
    ))
}

/// Changes how many there are of a line.
pub async fn set_quantity(
    state: &VoyageState,
    owner: &Owner,
    line: CartItemId,
    parse: impl FnOnce(ItemKind) -> Result<i32, ApiError>,
) -> Result<Cart, ApiError> {
    let now = state.sources.now();
    let mut tx = state.db.begin().await?;
    let head = live(&mut tx, owner, now).await?.ok_or_else(no_cart)?;
    let known = store::line(&mut tx, head.id, line).await?.ok_or_else(no_line)?;
    let quantity = parse(known.kind)?;
    let changed = quantity != known.quantity;
    if changed {
        let total_minor = match (known.price_verified, known.kind) {
            // an offer is for its passengers, whatever the quantity says
            (true, ItemKind::Flight) => known.total_minor,
            _ => scaled(known.total_minor, known.quantity, quantity),
        };
        store::set_quantity(&mut tx, line, quantity, total_minor).await?;
    }
    store::touch(
        &mut tx,
        head.id,
        head.currency,
        changed,
        head.extended(now, state.config.cart_life),
        now,
    )
    .await?;
    let cart = store::load(&mut *tx, head.id).await?.ok_or_else(no_cart)?;
    tx.commit().await?;
    Ok(cart)
}

/// The total of a line for another quantity at the same unit price, rounded half up.
fn scaled(total_minor: i64, from: i32, to: i32) -> i64 {
    let (total, from, to) = (i128::from(total_minor), i128::from(from.max(1)), i128::from(to));
    let scaled = (total * to * 2 + from) / (from * 2);
    i64::try_from(scaled).unwrap_or(i64::MAX)
}

/// Takes a line out.
pub async fn remove(state: &VoyageState, owner: &Owner, line: CartItemId) -> Result<Cart, ApiError> {
    let now = state.sources.now();
    let mut tx = state.db.begin().await?;
    let head = live(&mut tx, owner, now).await?.ok_or_else(no_cart)?;
    if !store::delete_line(&mut tx, head.id, line).await? {
        return Err(no_line());
    }
    store::touch(
        &mut tx,
        head.id,
        head.currency,
        true,
        head.extended(now, state.config.cart_life),
        now,
    )
    .await?;
    let cart = store::load(&mut *tx, head.id).await?.ok_or_else(no_cart)?;
    tx.commit().await?;
    Ok(cart)
}

/// Throws the cart away.
pub async fn clear(state: &VoyageState, owner: &Owner) -> Result<(), ApiError> {
    let mut tx = state.db.begin().await?;
    store::delete_of(&mut tx, owner).await?;
    tx.commit().await?;
    Ok(())
}

/// Gives the cart more time.
pub async fn extend(state: &VoyageState, owner: &Owner) -> Result<Cart, ApiError> {
    let now = state.sources.now();
    let mut tx = state.db.begin().await?;
    let head = live(&mut tx, owner, now).await?.ok_or_else(expired)?;
    store::touch(
        &mut tx,
        head.id,
        head.currency,
        false,
        head.extended(now, state.config.cart_life),
        now,
    )
    .await?;
    let cart = store::load(&mut *tx, head.id).await?.ok_or_else(expired)?;
    tx.commit().await?;
    Ok(cart)
}

/// The owner's cart, locked, unless it is over.
pub async fn live(conn: &mut PgConnection, owner: &Owner, now: DateTime<Utc>) -> sqlx::Result<Option<Head>> {
    let head = store::lock(conn, owner).await?;
    Ok(head.filter(|head| !head.is_expired(now)))
}

/// On confirmation only the bought lines leave the cart; lines whose quantity was changed since, and whatever was added,
/// stay (voyage §7.6). The booking and its cart must be locked.
pub async fn remove_bought(conn: &mut PgConnection, booking: &Booking, now: DateTime<Utc>) -> sqlx::Result<()> {
    let Some((cart, _)) = booking.cart else { return Ok(()) };
    let Some(head) = store::lock_by_id(&mut *conn, cart).await? else {
        return Ok(());
    };
    let lines: Vec<CartItemId> = booking.lines.iter().map(|line| line.cart_item).collect();
    let quantities: Vec<i32> = booking.lines.iter().map(|line| line.quantity).collect();
    let (gone, left) = store::delete_bought(&mut *conn, cart, &lines, &quantities).await?;
    match (gone, left) {
        (0, _) => Ok(()),
        (_, 0) => store::delete(conn, cart).await,
        _ => store::touch(conn, cart, head.currency, true, head.expires_at, now).await,
    }
}

fn no_cart() -> ApiError {
    ApiError::not_found("Cart not found")
}

fn no_line() -> ApiError {
    ApiError::not_found("Cart item not found")
}

fn expired() -> ApiError {
    ApiError::not_found("Cart not found or expired")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_scales_by_its_unit_price() {
        assert_eq!(scaled(29_950, 1, 3), 89_850);
        assert_eq!(scaled(10_001, 3, 1), 3_334);
        assert_eq!(scaled(1, 9, 1), 0);
    }
}
