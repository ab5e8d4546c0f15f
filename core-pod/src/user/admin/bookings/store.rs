//! SQL of bookings, over the view of their owner.
//!
//! A list has only the conditions and the order that were asked for, so that PostgreSQL can use an index for each; its text is
//! put together from constants, its values are always bound.

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use shared::{ApiError, id::BookingId, sources::iso_millis};
use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::model::{Booking, BookingColumns, BookingDetail, ExportRow, Filter};
use crate::user::admin::{
    payments,
    sheet::{MAX_ROWS, Rows},
    unread,
};

const COLUMNS: &str = "select booking.id, booking.user_id, booking.type, booking.reference, booking.status, booking.payment_intent_id,
       booking.confirmed_at, booking.total_minor, booking.currency, booking.data, booking.refund_status, booking.created_at,
       booking.updated_at, booking.destination,
       account.id as person_id, account.email as person_email, account.first_name as person_first_name,
       account.last_name as person_last_name, account.username as person_username";
const FROM: &str = " from voyage.booking_data as booking
     left join auth.accounts as account on account.id = booking.user_id where true";

fn conditions(sql: &mut QueryBuilder<Postgres>, filter: &Filter) {
    if let Some(search) = &filter.search {
        sql.push(" and (booking.reference ilike ").push_bind(search.clone());
        // the people are found first, by the index over all their names
        sql.push(" or booking.user_id in (select id from auth.accounts where search_text like lower(")
            .push_bind(search.clone());
        sql.push(") and (email ilike ").push_bind(search.clone());
        sql.push(" or first_name ilike ").push_bind(search.clone());
        sql.push(" or last_name ilike ").push_bind(search.clone()).push(")))");
    }
    if let Some(status) = filter.status {
        sql.push(" and booking.status = ").push_bind(status);
    }
    if let Some(kind) = filter.kind {
        sql.push(" and booking.type = ").push_bind(kind);
    }
    if let Some(from) = filter.range.from {
        sql.push(" and booking.created_at >= ").push_bind(from);
    }
    if let Some(until) = filter.range.until {
        sql.push(" and booking.created_at < ").push_bind(until);
    }
    if let Some(min) = &filter.amounts.min {
        sql.push(" and booking.total_amount >= ")
            .push_bind(min.clone())
            .push("::numeric");
    }
    if let Some(max) = &filter.amounts.max {
        sql.push(" and booking.total_amount <= ")
            .push_bind(max.clone())
            .push("::numeric");
    }
    if let Some(destination) = &filter.destination {
        sql.push(" and booking.destination ilike ")
            .push_bind(destination.clone());
    }
}

fn ordered(sql: &mut QueryBuilder<Postgres>, filter: &Filter) {
    sql.push(" order by ")
        .push(filter.order.by.sql())
        .push(filter.order.direction());
    sql.push(", booking.id desc");
}

/// How many bookings there are, and one page of them.
pub async fn list(conn: &mut PgConnection, filter: &Filter) -> sqlx::Result<(i64, Vec<Booking>)> {
    let mut count = QueryBuilder::new("select count(*)");
    count.push(FROM);
    conditions(&mut count, filter);
    let total: i64 = count.build_query_scalar().fetch_one(&mut *conn).await?;
    if filter.page.offset() >= total {
        return Ok((total, Vec::new()));
    }
    let mut rows = QueryBuilder::new(COLUMNS);
    rows.push(FROM);
    conditions(&mut rows, filter);
    ordered(&mut rows, filter);
    rows.push(" limit ").push_bind(filter.page.limit);
    rows.push(" offset ").push_bind(filter.page.offset());
    let found: Vec<BookingColumns> = rows.build_query_as().fetch_all(conn).await?;
    let bookings = found.into_iter().map(|columns| columns.booking(false));
    Ok((total, bookings.collect::<sqlx::Result<_>>()?))
}

/// One booking with its traveller.
pub async fn find(conn: &mut PgConnection, id: BookingId) -> sqlx::Result<Option<Booking>> {
    let mut sql = QueryBuilder::new(COLUMNS);
    sql.push(FROM).push(" and booking.id = ").push_bind(id);
    let found: Option<BookingColumns> = sql.build_query_as().fetch_optional(conn).await?;
    found.map(|columns| columns.booking(true)).transpose()
}

/// One booking with its traveller and its payment.
pub async fn find_detail(conn: &mut PgConnection, id: BookingId) -> sqlx::Result<Option<BookingDetail>> {
    let Some(booking) = find(&mut *conn, id).await? else {
        return Ok(None);
    };
    let payment = match &booking.payment_intent_id {
        Some(intent) => payments::find_by_intent(conn, intent).await?,
        None => None,
    };
    Ok(Some(BookingDetail { booking, payment }))
}

/// Writes the bookings that pass the filter into a file, row by row.
pub async fn export(conn: &mut PgConnection, filter: &Filter, rows: &mut Rows) -> Result<(), ApiError> {
    let mut sql = QueryBuilder::new(
        "select booking.id, booking.reference, booking.type, booking.status, booking.destination, booking.user_id,
                account.email as user_email, booking.total_amount::text as total_amount, booking.currency,
                booking.confirmed_at, booking.created_at",
    );
    sql.push(FROM);
    conditions(&mut sql, filter);
    ordered(&mut sql, filter);
    sql.push(" limit ").push_bind(MAX_ROWS);
    let mut found = sql.build_query_as::<ExportRow>().fetch(conn);
    while let Some(row) = found.try_next().await.map_err(unread)? {
        let (id, user) = (row.id.to_string(), row.user_id.to_string());
        let text = |instant: Option<DateTime<Utc>>| instant.map(iso_millis).unwrap_or_default();
        let (confirmed, created) = (text(row.confirmed_at), text(Some(row.created_at)));
        let cells = [
            id.as_str(),
            &row.reference,
            &row.kind,
            &row.status,
            row.destination.as_deref().unwrap_or_default(),
            &user,
            row.user_email.as_deref().unwrap_or_default(),
            &row.total_amount,
            &row.currency,
            &confirmed,
            &created,
        ];
        if !rows.push(cells).await? {
            break;
        }
    }
    Ok(())
}
