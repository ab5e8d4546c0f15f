//! SQL of payments, over the view of their owner.
//!
//! A list has only the conditions and the order that were asked for, so that PostgreSQL can use an index for each; its text is
//! put together from constants, its values are always bound.

use chrono::{DateTime, Utc};
use shared::id::{BookingId, PaymentId};
use sqlx::{PgConnection, PgExecutor, Postgres, QueryBuilder};

use super::model::{Filter, PaidBooking, Payment, PaymentColumns, PaymentDetail, PaymentRow, money};

const COLUMNS: &str =
    "select payment.id, payment.payment_intent_id, payment.booking_id, payment.booking_reference, payment.user_id,
       payment.amount_minor, payment.refunded_minor, payment.currency, payment.status, payment.payment_method,
       payment.stripe_customer_id, payment.created_at, payment.updated_at, payment.confirmed_at, payment.failed_at,
       payment.refunded_at, payment.failure_reason, payment.metadata,
       account.id as person_id, account.email as person_email, account.first_name as person_first_name,
       account.last_name as person_last_name, account.username as person_username";
const FROM: &str = " from payment.transaction_data as payment
     left join auth.accounts as account on account.id = payment.user_id where true";

fn conditions(sql: &mut QueryBuilder<Postgres>, filter: &Filter) {
    if let Some(search) = &filter.search {
        sql.push(" and (payment.booking_reference ilike ")
            .push_bind(search.clone());
        sql.push(" or payment.payment_intent_id ilike ")
            .push_bind(search.clone())
            .push(")");
    }
    if let Some(status) = filter.status {
        sql.push(" and payment.status = ").push_bind(status);
    }
    if let Some(from) = filter.range.from {
        sql.push(" and payment.created_at >= ").push_bind(from);
    }
    if let Some(until) = filter.range.until {
        sql.push(" and payment.created_at < ").push_bind(until);
    }
    if let Some(min) = &filter.amounts.min {
        sql.push(" and payment.amount >= ")
            .push_bind(min.clone())
            .push("::numeric");
    }
    if let Some(max) = &filter.amounts.max {
        sql.push(" and payment.amount <= ")
            .push_bind(max.clone())
            .push("::numeric");
    }
}

/// How many payments there are, and one page of them.
pub async fn list(conn: &mut PgConnection, filter: &Filter) -> sqlx::Result<(i64, Vec<PaymentRow>)> {
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
    rows.push(" order by ")
        .push(filter.order.by.sql())
        .push(filter.order.direction());
    rows.push(", payment.id desc limit ").push_bind(filter.page.limit);
    rows.push(" offset ").push_bind(filter.page.offset());
    let found: Vec<PaymentColumns> = rows.build_query_as().fetch_all(conn).await?;
    let rows = found.into_iter().map(|columns| {
        let (payment, person) = columns.split()?;
        Ok(PaymentRow {
            payment,
            user: person.brief(),
        })
    });
    Ok((total, rows.collect::<sqlx::Result<_>>()?))
}

/// One payment with its traveller and its booking.
pub async fn find(conn: &mut PgConnection, id: PaymentId) -> sqlx::Result<Option<PaymentDetail>> {
    let mut sql = QueryBuilder::new(COLUMNS);
    sql.push(FROM).push(" and payment.id = ").push_bind(id);
    let found: Option<PaymentColumns> = sql.build_query_as().fetch_optional(&mut *conn).await?;
    let Some(columns) = found else { return Ok(None) };
    let (payment, person) = columns.split()?;
    let booking = find_booking(conn, payment.booking_id).await?;
    Ok(Some(PaymentDetail {
        payment,
        user: person.full(),
        booking,
    }))
}

async fn find_booking(db: impl PgExecutor<'_>, id: BookingId) -> sqlx::Result<Option<PaidBooking>> {
    let found = sqlx::query!(
        r#"select id as "id!: BookingId", reference as "reference!", type as "kind!", status as "status!",
                  total_minor as "total_minor!", currency as "currency!", created_at as "created_at!: DateTime<Utc>"
           from voyage.booking_data where id = $1"#,
        id as BookingId,
    )
    .fetch_optional(db)
    .await?;
    let booking = found.map(|row| {
        Ok(PaidBooking {
            total_amount: money("voyage.booking_data", row.total_minor, &row.currency)?.major(),
            id: row.id,
            reference: row.reference,
            kind: row.kind,
            status: row.status,
            currency: row.currency,
            created_at: row.created_at,
        })
    });
    booking.transpose()
}

/// The payment of a PaymentIntent, for the booking it belongs to.
pub async fn find_by_intent(conn: &mut PgConnection, intent: &str) -> sqlx::Result<Option<Payment>> {
    let mut sql = QueryBuilder::new(COLUMNS);
    sql.push(FROM)
        .push(" and payment.payment_intent_id = ")
        .push_bind(intent.to_owned());
    let found: Option<PaymentColumns> = sql.build_query_as().fetch_optional(conn).await?;
    found.map(|columns| Ok(columns.split()?.0)).transpose()
}
