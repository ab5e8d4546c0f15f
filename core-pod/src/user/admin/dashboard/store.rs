//! SQL of the dashboard: one statement per question, over the views of the owners.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use shared::{
    id::PaymentId,
    money::{Currency, Money},
};
use sqlx::PgExecutor;

use super::model::{ChartPoint, Counted, DestinationCount, Period, RecentTransaction, Stats, display_name};
use crate::user::admin::payments::money;

/// Everything at the head of the dashboard.
pub async fn stats(db: impl PgExecutor<'_>, period: &Period) -> sqlx::Result<Stats> {
    let row = sqlx::query_file!(
        "src/user/admin/dashboard/stats.sql",
        period.before(),
        period.from,
        period.until
    )
    .fetch_one(db)
    .await?;
    let counted = Counted {
        users: row.users,
        verified: row.verified,
        new_users: row.new_users,
        new_users_before: row.new_users_before,
        bookings_by_status: by_name(row.bookings_by_status)?,
        bookings_before: row.bookings_before,
        won_before: row.won_before,
        searches: row.searches,
        searches_before: row.searches_before,
        revenue: by_name(row.revenue)?,
        revenue_before: row.revenue_before,
    };
    Ok(counted.into())
}

fn by_name(json: serde_json::Value) -> sqlx::Result<BTreeMap<String, i64>> {
    serde_json::from_value(json).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// Revenue by day.
pub async fn revenue_chart(db: impl PgExecutor<'_>, period: &Period) -> sqlx::Result<Vec<ChartPoint>> {
    let rows = sqlx::query!(
        r#"select (created_at at time zone 'UTC')::date as "day!: NaiveDate",
                  sum(captured_minor - refunded_minor)::bigint as "minor!"
           from payment.transaction_data
           where created_at >= $1 and created_at < $2 and status in ('SUCCEEDED', 'REFUNDED') and currency = 'EUR'
           group by 1
           order by 1"#,
        period.from,
        period.until,
    )
    .fetch_all(db)
    .await?;
    let points = rows.into_iter().map(|row| ChartPoint {
        date: row.day.to_string(),
        revenue: Money::new(row.minor, Currency::EUR).major(),
    });
    Ok(points.collect())
}

/// Where bookings lead.
pub async fn destinations(db: impl PgExecutor<'_>, period: &Period, limit: i64) -> sqlx::Result<Vec<DestinationCount>> {
    sqlx::query_as!(
        DestinationCount,
        r#"select destination_city as "destination!", count(*) as "count!"
           from voyage.booking_data
           where created_at >= $1 and created_at < $2 and destination_city is not null
             and status in ('CONFIRMED', 'COMPLETED', 'PENDING', 'PENDING_PAYMENT')
           group by destination_city
           order by count(*) desc, destination_city
           limit $3"#,
        period.from,
        period.until,
        limit,
    )
    .fetch_all(db)
    .await
}

/// The newest payments.
pub async fn recent_transactions(
    db: impl PgExecutor<'_>,
    period: &Period,
    limit: i64,
) -> sqlx::Result<Vec<RecentTransaction>> {
    let rows = sqlx::query!(
        r#"select payment.id as "id!: PaymentId", payment.amount_minor as "amount_minor!", payment.currency as "currency!",
                  payment.status as "status!", payment.payment_method, payment.booking_reference as "booking_reference!",
                  payment.created_at as "created_at!: DateTime<Utc>",
                  account.email as "email?", account.first_name as "first_name?", account.last_name as "last_name?",
                  account.username as "username?"
           from payment.transaction_data as payment
           left join auth.accounts as account on account.id = payment.user_id
           where payment.created_at >= $1 and payment.created_at < $2
           order by payment.created_at desc, payment.id desc
           limit $3"#,
        period.from,
        period.until,
        limit,
    )
    .fetch_all(db)
    .await?;
    let newest = rows.into_iter().map(|row| {
        let name = display_name(
            row.first_name.as_deref(),
            row.last_name.as_deref(),
            row.username.as_deref(),
        );
        Ok(RecentTransaction {
            id: row.id,
            user_email: row.email.unwrap_or_else(|| "Unknown".to_owned()),
            user_name: name,
            amount: money("payment.transaction_data", row.amount_minor, &row.currency)?.major(),
            currency: row.currency,
            status: row.status,
            payment_method: row.payment_method,
            booking_reference: row.booking_reference,
            created_at: row.created_at,
        })
    });
    newest.collect()
}
