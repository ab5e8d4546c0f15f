//! All SQL of bookings, their history, their supplier orders and the payment tasks they leave behind.
//!
//! Rows are locked in one order everywhere: first the cart, then its bookings.

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use shared::{
    id::{BookingId, CartId, UserId},
    money::{Currency, Money},
};
use sqlx::{PgConnection, PgExecutor, types::Json};

use super::{
    model::{Booking, BookingKind, Change, Line, Status},
    saga::Actor,
};

/// A row of voyage.bookings as it comes.
struct Row {
    id: BookingId,
    reference: String,
    user_id: UserId,
    kind: BookingKind,
    status: Status,
    version: i32,
    cart_id: Option<CartId>,
    cart_version: Option<i32>,
    payment_intent_id: Option<String>,
    total_minor: i64,
    currency: String,
    items: Json<Vec<Line>>,
    metadata: Json<Box<RawValue>>,
    reason: Option<String>,
    revivable: bool,
    ended_at: Option<DateTime<Utc>>,
    confirmed_at: Option<DateTime<Utc>>,
    expires_at: DateTime<Utc>,
    refunded_minor: Option<i64>,
    correlation_id: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Row {
    fn booking(self) -> sqlx::Result<Booking> {
        let currency = read_currency("voyage.bookings", &self.reference, &self.currency)?;
        Ok(Booking {
            id: self.id,
            reference: self.reference,
            user: self.user_id,
            kind: self.kind,
            status: self.status,
            version: self.version,
            cart: self.cart_id.zip(self.cart_version),
            payment_intent: self.payment_intent_id,
            total: Money::new(self.total_minor, currency),
            lines: self.items.0,
            metadata: self.metadata.0,
            reason: self.reason,
            revivable: self.revivable,
            ended_at: self.ended_at,
            confirmed_at: self.confirmed_at,
            expires_at: self.expires_at,
            refunded_minor: self.refunded_minor,
            correlation: self.correlation_id,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

/// A currency column; what is no currency is told with its place.
pub fn read_currency(table: &str, row: impl std::fmt::Display, code: &str) -> sqlx::Result<Currency> {
    code.parse().map_err(|_| sqlx::Error::ColumnDecode {
        index: "currency".to_owned(),
        source: format!("{table} {row} has an unknown currency").into(),
    })
}

/// Selects whole bookings; the rest of the statement follows as literals.
macro_rules! select_bookings {
    ($rest:literal $(, $bind:expr)* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"select id as "id: BookingId", reference, user_id as "user_id: UserId", kind as "kind: BookingKind",
                      status as "status: Status", version, cart_id as "cart_id: CartId", cart_version, payment_intent_id,
                      total_minor, currency, items as "items: Json<Vec<Line>>",
                      metadata as "metadata: Json<Box<RawValue>>", reason, revivable, ended_at, confirmed_at, expires_at,
                      refunded_minor, correlation_id, created_at, updated_at
               from voyage.bookings "# + $rest
            $(, $bind)*
        )
    };
}

/// The booking of this reference or row id.
pub async fn find(db: impl PgExecutor<'_>, reference_or_id: &str) -> sqlx::Result<Option<Booking>> {
    let id: Option<BookingId> = reference_or_id.parse().ok();
    select_bookings!(
        "where reference = $1 or id = $2",
        reference_or_id,
        id as Option<BookingId>
    )
    .fetch_optional(db)
    .await?
    .map(Row::booking)
    .transpose()
}

/// The booking of this reference, else of this row id, locked together with its cart.
pub async fn lock(conn: &mut PgConnection, reference_or_id: &str) -> sqlx::Result<Option<Booking>> {
    let id: Option<BookingId> = reference_or_id.parse().ok();
    lock_carts_of(&mut *conn, reference_or_id, id).await?;
    select_bookings!(
        "where reference = $1 or id = $2 order by (reference = $1) desc limit 1 for update",
        reference_or_id,
        id as Option<BookingId>
    )
    .fetch_optional(conn)
    .await?
    .map(Row::booking)
    .transpose()
}

/// The booking that this payment belongs to, locked together with its cart.
pub async fn lock_by_intent(conn: &mut PgConnection, intent: &str) -> sqlx::Result<Option<Booking>> {
    let id = sqlx::query_scalar!(
        r#"select id as "id: BookingId" from voyage.bookings where payment_intent_id = $1"#,
        intent
    )
    .fetch_optional(&mut *conn)
    .await?;
    match id {
        Some(id) => lock_by_id(conn, id).await,
        None => Ok(None),
    }
}

/// The booking of this row id, locked together with its cart.
pub async fn lock_by_id(conn: &mut PgConnection, id: BookingId) -> sqlx::Result<Option<Booking>> {
    lock_carts_of(&mut *conn, "", Some(id)).await?;
    select_bookings!("where id = $1 for update", id as BookingId)
        .fetch_optional(conn)
        .await?
        .map(Row::booking)
        .transpose()
}

/// The bookings of these row ids, locked together with their carts, in order of their ids.
pub async fn lock_all(conn: &mut PgConnection, ids: &[uuid::Uuid]) -> sqlx::Result<Vec<Booking>> {
    sqlx::query!(
        r#"select id from voyage.carts
           where id in (select cart_id from voyage.bookings where id = any($1)) order by id for update"#,
        ids,
    )
    .fetch_all(&mut *conn)
    .await?;
    select_bookings!("where id = any($1) order by id for update", ids)
        .fetch_all(conn)
        .await?
        .into_iter()
        .map(Row::booking)
        .collect()
}

/// Locks the cart that a booking is a snapshot of, if it still exists.
async fn lock_carts_of(conn: &mut PgConnection, reference: &str, id: Option<BookingId>) -> sqlx::Result<()> {
    sqlx::query!(
        r#"select id from voyage.carts
           where id in (select cart_id from voyage.bookings where reference = $1 or id = $2)
           order by id for update"#,
        reference,
        id as Option<BookingId>,
    )
    .fetch_all(conn)
    .await
    .map(drop)
}

/// The bookings of a cart that are not over, newest first, locked. The cart must be locked already.
pub async fn lock_open_of_cart(conn: &mut PgConnection, cart: CartId) -> sqlx::Result<Vec<Booking>> {
    select_bookings!(
        "where cart_id = $1 and (status in ('DRAFT', 'PENDING_PAYMENT', 'PENDING') or revivable)
         order by created_at desc, id desc for update",
        cart as CartId
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(Row::booking)
    .collect()
}

/// Open and revivable bookings of a user, locked after their carts.
pub async fn lock_open_of_user(conn: &mut PgConnection, user: UserId) -> sqlx::Result<Vec<Booking>> {
    sqlx::query!(
        r#"select id from voyage.carts where user_id = $1 for update"#,
        user as UserId
    )
    .fetch_all(&mut *conn)
    .await?;
    select_bookings!(
        "where user_id = $1 and (status in ('DRAFT', 'PENDING_PAYMENT') or revivable) order by id for update",
        user as UserId
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(Row::booking)
    .collect()
}

/// Inserts a new booking. `false` if its reference is taken.
pub async fn insert(conn: &mut PgConnection, booking: &Booking) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"insert into voyage.bookings
               (id, reference, user_id, kind, status, version, cart_id, cart_version, total_minor, currency, items, metadata,
                expires_at, correlation_id, created_at, updated_at)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $15)
           on conflict (reference) do nothing"#,
        booking.id as BookingId,
        booking.reference,
        booking.user as UserId,
        booking.kind as BookingKind,
        booking.status as Status,
        booking.version,
        booking.cart.map(|(cart, _)| cart) as Option<CartId>,
        booking.cart.map(|(_, version)| version),
        booking.total.minor,
        booking.total.currency.code(),
        Json(&booking.lines) as _,
        Json(&booking.metadata) as _,
        booking.expires_at,
        booking.correlation,
        booking.created_at,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Stores a change, if the row is still as it was before it. `false` if somebody was faster.
pub async fn save(conn: &mut PgConnection, booking: &Booking, change: &Change) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"update voyage.bookings
           set status = $4, version = $5, payment_intent_id = $6, reason = $7, revivable = $8, ended_at = $9,
               confirmed_at = $10, expires_at = $11, refunded_minor = $12, updated_at = $13
           where id = $1 and version = $2 and status = $3"#,
        booking.id as BookingId,
        booking.version - 1,
        change.from as Status,
        booking.status as Status,
        booking.version,
        booking.payment_intent,
        booking.reason,
        booking.revivable,
        booking.ended_at,
        booking.confirmed_at,
        booking.expires_at,
        booking.refunded_minor,
        booking.updated_at,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Adds a row to a booking's history.
pub async fn add_event(
    conn: &mut PgConnection,
    booking: BookingId,
    from: Option<Status>,
    change: &Change,
    actor: Actor,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"insert into voyage.booking_events (booking_id, seq, from_status, to_status, actor, actor_id, reason, at)
           select $1, coalesce(max(seq), 0) + 1, $2, $3, $4, $5, $6, $7
           from voyage.booking_events where booking_id = $1"#,
        booking as BookingId,
        from as Option<Status>,
        change.to as Status,
        actor.name(),
        actor.person() as Option<UserId>,
        change.reason,
        change.at,
    )
    .execute(conn)
    .await
    .map(drop)
}

/// Ties a payment to a booking. `false` if the booking has another one by now, or is over.
pub async fn set_intent(
    conn: &mut PgConnection,
    booking: BookingId,
    intent: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        r#"update voyage.bookings set payment_intent_id = $2, updated_at = $3
           where id = $1 and payment_intent_id is distinct from $2
             and (payment_intent_id is null or status in ('DRAFT', 'PENDING_PAYMENT') or revivable)"#,
        booking as BookingId,
        intent,
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// What a list of bookings is filtered and ordered by.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// Whose.
    pub user: UserId,
    /// Only these states; all when empty.
    pub statuses: Vec<String>,
    /// Only these kinds; all when empty.
    pub kinds: Vec<String>,
    /// Part of the reference, upper case.
    pub search: Option<String>,
    /// `createdAt`, `updatedAt`, `totalAmount`, `status`.
    pub sort_by: &'static str,
    /// Ascending.
    pub ascending: bool,
    /// Rows of a page.
    pub limit: i64,
    /// Rows before it.
    pub offset: i64,
}

/// How many bookings match.
pub async fn count(conn: &mut PgConnection, query: &ListQuery) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from voyage.bookings
           where user_id = $1 and (cardinality($2::text[]) = 0 or status = any($2))
             and (cardinality($3::text[]) = 0 or kind = any($3)) and ($4::text is null or strpos(reference, $4) > 0)"#,
        query.user as UserId,
        &query.statuses,
        &query.kinds,
        query.search,
    )
    .fetch_one(conn)
    .await
}

/// One page of them. The id makes the order total.
pub async fn list(conn: &mut PgConnection, query: &ListQuery) -> sqlx::Result<Vec<Booking>> {
    select_bookings!(
        "where user_id = $1 and (cardinality($2::text[]) = 0 or status = any($2))
           and (cardinality($3::text[]) = 0 or kind = any($3)) and ($4::text is null or strpos(reference, $4) > 0)
         order by
           case when $5 = 'createdAt' and $6 then created_at end asc,
           case when $5 = 'createdAt' and not $6 then created_at end desc,
           case when $5 = 'updatedAt' and $6 then updated_at end asc,
           case when $5 = 'updatedAt' and not $6 then updated_at end desc,
           case when $5 = 'totalAmount' and $6 then total_minor end asc,
           case when $5 = 'totalAmount' and not $6 then total_minor end desc,
           case when $5 = 'status' and $6 then status end asc,
           case when $5 = 'status' and not $6 then status end desc,
           id desc
         limit $7 offset $8",
        query.user as UserId,
        &query.statuses,
        &query.kinds,
        query.search.as_deref() as Option<&str>,
        query.sort_by,
        query.ascending,
        query.limit,
        query.offset,
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(Row::booking)
    .collect()
}

/// One row of a booking's history.
#[derive(Debug, Clone)]
pub struct HistoryRow {
    /// The status before; none for the first.
    pub from: Option<Status>,
    /// The status after.
    pub to: Status,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub at: DateTime<Utc>,
}

/// A booking's history, oldest first.
pub async fn history(conn: &mut PgConnection, booking: BookingId) -> sqlx::Result<Vec<HistoryRow>> {
    sqlx::query_as!(
        HistoryRow,
        r#"select from_status as "from: Status", to_status as "to: Status", reason, at
           from voyage.booking_events where booking_id = $1 order by seq"#,
        booking as BookingId,
    )
    .fetch_all(conn)
    .await
}

/// The pseudonym takes the owner's place, and everything that may name a person goes (core §5.11).
pub async fn pseudonymise(
    conn: &mut PgConnection,
    user: UserId,
    pseudonym: UserId,
    now: DateTime<Utc>,
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"update voyage.bookings
           set user_id = $2, pseudonymised_at = $3, metadata = '{}', admin_data = '{}',
               items = (select coalesce(jsonb_agg(jsonb_set(line, '{itemData}', '{}')), '[]')
                        from jsonb_array_elements(items) as line)
           where user_id = $1"#,
        user as UserId,
        pseudonym as UserId,
        now,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// What the account searched for goes with it (voyage §8.3).
pub async fn erase_searches(conn: &mut PgConnection, user: UserId) -> sqlx::Result<u64> {
    let done = sqlx::query!("delete from voyage.search_history where user_id = $1", user as UserId)
        .execute(conn)
        .await?;
    Ok(done.rows_affected())
}

/// Bookings whose checkout stopped before they had a payment: drafts older than `before` without an intent that may
/// still be paid at `now`.
pub async fn without_intent(
    conn: &mut PgConnection,
    before: DateTime<Utc>,
    now: DateTime<Utc>,
    limit: i64,
) -> sqlx::Result<Vec<Booking>> {
    select_bookings!(
        "where status = 'DRAFT' and payment_intent_id is null and updated_at < $1 and expires_at > $2
         order by updated_at limit $3",
        before,
        now,
        limit
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(Row::booking)
    .collect()
}

/// Bookings whose time has passed and that could still be paid.
pub async fn expired(conn: &mut PgConnection, now: DateTime<Utc>, limit: i64) -> sqlx::Result<Vec<Booking>> {
    select_bookings!(
        "where (status in ('DRAFT', 'PENDING_PAYMENT') or (status = 'FAILED' and revivable)) and expires_at <= $1
         order by expires_at limit $2",
        now,
        limit
    )
    .fetch_all(conn)
    .await?
    .into_iter()
    .map(Row::booking)
    .collect()
}

/// The states of a booking that is still under way.
pub const OPEN_STATES: [&str; 3] = ["DRAFT", "PENDING_PAYMENT", "PENDING"];

/// When the oldest booking of each state that is still under way was made.
pub async fn oldest_open(conn: &mut PgConnection) -> sqlx::Result<Vec<(String, DateTime<Utc>)>> {
    let rows = sqlx::query!(
        r#"select status::text as "status!", min(created_at) as "since!" from voyage.bookings
           where status in ('DRAFT', 'PENDING_PAYMENT', 'PENDING')
           group by status"#
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.status, row.since)).collect())
}
