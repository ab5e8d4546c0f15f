//! SQL of accounts, over the views of their owners and the tables of this service.
//!
//! A list has only the conditions and the order that were asked for, so that PostgreSQL can use an index for each; its text is
//! put together from constants, its values are always bound. What an account has of this and that is counted for the rows of
//! the page only.

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::TryStreamExt as _;
use shared::{ApiError, auth::Role, id::UserId, sources::iso_millis};
use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::model::{Activity, Counts, Filter, User, UserDetail, euro};
use crate::{
    auth::client::Category,
    user::admin::{
        list::Page,
        payments::money,
        sheet::{MAX_ROWS, Rows},
        unread,
    },
};

#[derive(sqlx::FromRow)]
struct UserRow {
    id: UserId,
    email: String,
    username: Option<String>,
    first_name: Option<String>,
    last_name: Option<String>,
    role: Role,
    is_verified: bool,
    user_category: Category,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    onboarding_completed_at: Option<DateTime<Utc>>,
    suspended_at: Option<DateTime<Utc>>,
    suspended_reason: Option<String>,
    last_login_at: Option<DateTime<Utc>>,
    searches: i64,
    favorites: i64,
    notifications: i64,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            id: row.id,
            email: row.email,
            username: row.username,
            first_name: row.first_name,
            last_name: row.last_name,
            role: row.role,
            is_verified: row.is_verified,
            user_category: row.user_category,
            created_at: row.created_at,
            updated_at: row.updated_at,
            onboarding_completed: row.onboarding_completed_at.is_some(),
            is_suspended: row.suspended_at.is_some(),
            suspended_at: row.suspended_at,
            suspended_reason: row.suspended_reason,
            count: Counts {
                searches: row.searches,
                favorites: row.favorites,
                notifications: row.notifications,
                history: None,
            },
            last_login_at: row.last_login_at,
        }
    }
}

const COLUMNS: &str = "select account.id, account.email, account.username, account.first_name, account.last_name, account.role,
       account.is_verified, account.user_category, account.created_at, account.updated_at, account.onboarding_completed_at,
       account.suspended_at, account.suspended_reason, account.last_login_at,
       (select count(*) from voyage.search_data as search where search.user_id = account.id) as searches,
       (select count(*) from users.favorites as favorite where favorite.user_id = account.id) as favorites,
       (select count(*) from users.notifications as notification where notification.user_id = account.id) as notifications";
const FROM: &str = " from auth.accounts as account where true";

fn conditions(sql: &mut QueryBuilder<Postgres>, filter: &Filter) {
    if let Some(search) = &filter.search {
        // all of them at once decides by the index, each of them that no text runs across two
        sql.push(" and account.search_text like lower(")
            .push_bind(search.clone());
        for (before, column) in [
            (") and (", "email"),
            (" or ", "username"),
            (" or ", "first_name"),
            (" or ", "last_name"),
        ] {
            sql.push(before)
                .push("lower(account.")
                .push(column)
                .push(") like lower(");
            sql.push_bind(search.clone());
            sql.push(if column == "last_name" { "))" } else { ")" });
        }
    }
    if let Some(role) = filter.role {
        sql.push(" and account.role = ").push_bind(role);
    }
    match filter.suspended {
        Some(true) => sql.push(" and account.suspended_at is not null"),
        Some(false) => sql.push(" and account.suspended_at is null"),
        None => sql,
    };
    if let Some(from) = filter.range.from {
        sql.push(" and account.created_at >= ").push_bind(from);
    }
    if let Some(until) = filter.range.until {
        sql.push(" and account.created_at < ").push_bind(until);
    }
    if let Some(ids) = &filter.ids {
        sql.push(" and account.id = any(").push_bind(ids.clone()).push(")");
    }
}

fn ordered(sql: &mut QueryBuilder<Postgres>, filter: &Filter) {
    sql.push(" order by ");
    for column in filter.order.by.sql() {
        sql.push(column).push(filter.order.direction()).push(", ");
    }
    sql.push("account.id desc");
}

/// How many accounts there are, and one page of them.
pub async fn list(conn: &mut PgConnection, filter: &Filter) -> sqlx::Result<(i64, Vec<User>)> {
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
    let found: Vec<UserRow> = rows.build_query_as().fetch_all(conn).await?;
    Ok((total, found.into_iter().map(User::from).collect()))
}

/// One account.
pub async fn find(conn: &mut PgConnection, id: UserId) -> sqlx::Result<Option<UserDetail>> {
    let found = sqlx::query!(
        r#"select account.id as "id!: UserId", account.email as "email!", account.username, account.first_name,
                  account.last_name, account.role as "role!: Role", account.is_verified as "is_verified!",
                  account.user_category as "user_category!: Category", account.created_at as "created_at!: DateTime<Utc>",
                  account.updated_at as "updated_at!: DateTime<Utc>", account.onboarding_completed_at,
                  account.suspended_at, account.suspended_reason, account.last_login_at, account.phone_number,
                  account.date_of_birth as "date_of_birth: NaiveDate", account.nationality,
                  account.mfa_enabled as "mfa_enabled!", account.locked_until,
                  (select count(*) from voyage.search_data where user_id = account.id) as "searches!",
                  (select count(*) from users.favorites where user_id = account.id) as "favorites!",
                  (select count(*) from users.notifications where user_id = account.id) as "notifications!",
                  (select count(*) from users.history where user_id = account.id) as "history!",
                  (select count(*) from voyage.booking_data where user_id = account.id) as "bookings!",
                  (select coalesce(sum(captured_minor - refunded_minor), 0)::bigint from payment.transaction_data
                   where user_id = account.id and currency = 'EUR' and status in ('SUCCEEDED', 'REFUNDED')) as "revenue!"
           from auth.accounts as account
           where account.id = $1"#,
        id as UserId,
    )
    .fetch_optional(conn)
    .await?;
    let detail = found.map(|row| UserDetail {
        phone_number: row.phone_number,
        date_of_birth: row.date_of_birth.map(Into::into),
        nationality: row.nationality,
        onboarding_completed_at: row.onboarding_completed_at,
        revenue_generated: euro(row.revenue),
        bookings_count: row.bookings,
        mfa_enabled: row.mfa_enabled,
        locked_until: row.locked_until,
        user: User {
            id: row.id,
            email: row.email,
            username: row.username,
            first_name: row.first_name,
            last_name: row.last_name,
            role: row.role,
            is_verified: row.is_verified,
            user_category: row.user_category,
            created_at: row.created_at,
            updated_at: row.updated_at,
            onboarding_completed: row.onboarding_completed_at.is_some(),
            is_suspended: row.suspended_at.is_some(),
            suspended_at: row.suspended_at,
            suspended_reason: row.suspended_reason,
            count: Counts {
                searches: row.searches,
                favorites: row.favorites,
                notifications: row.notifications,
                history: Some(row.history),
            },
            last_login_at: row.last_login_at,
        },
    });
    Ok(detail)
}

/// Whether there is such an account.
pub async fn exists(conn: &mut PgConnection, id: UserId) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from auth.accounts where id = $1) as "exists!""#,
        id as UserId
    )
    .fetch_one(conn)
    .await
}

/// What an account did, the newest hundred of each kind in one order: how much, and one page of it.
pub async fn activity(conn: &mut PgConnection, id: UserId, page: Page) -> sqlx::Result<(i64, Vec<Activity>)> {
    let rows = sqlx::query_file!(
        "src/user/admin/users/activity.sql",
        id as UserId,
        page.limit,
        page.offset()
    )
    .fetch_all(conn)
    .await?;
    let total = rows.first().map_or(0, |row| row.total);
    let items = rows.into_iter().filter_map(|row| {
        // without a row on the page there is one line with the total alone
        let (id, kind, created_at) = (row.id?, row.kind?, row.created_at?);
        let amount = match (row.minor, &row.currency) {
            (Some(minor), Some(currency)) => match money("activity", minor, currency) {
                Ok(amount) => Some(amount.major()),
                Err(error) => return Some(Err(error)),
            },
            _ => None,
        };
        Some(Ok(Activity {
            id,
            kind,
            label: row.label.unwrap_or_default(),
            detail: row.detail.unwrap_or_default(),
            status: row.status,
            amount,
            currency: row.currency,
            created_at,
        }))
    });
    Ok((total, items.collect::<sqlx::Result<_>>()?))
}

#[derive(sqlx::FromRow)]
struct ExportRow {
    id: UserId,
    email: String,
    first_name: Option<String>,
    last_name: Option<String>,
    role: String,
    is_verified: bool,
    suspended_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    last_login_at: Option<DateTime<Utc>>,
    bookings: i64,
    revenue: i64,
}

/// Writes the accounts that pass the filter into a file, row by row.
pub async fn export(conn: &mut PgConnection, filter: &Filter, rows: &mut Rows) -> Result<(), ApiError> {
    let mut sql = QueryBuilder::new(
        "select account.id, account.email, account.first_name, account.last_name, account.role, account.is_verified,
                account.suspended_at, account.created_at, account.last_login_at,
                (select count(*) from voyage.booking_data where user_id = account.id) as bookings,
                (select coalesce(sum(captured_minor - refunded_minor), 0)::bigint from payment.transaction_data
                 where user_id = account.id and currency = 'EUR' and status in ('SUCCEEDED', 'REFUNDED')) as revenue",
    );
    sql.push(FROM);
    conditions(&mut sql, filter);
    ordered(&mut sql, filter);
    sql.push(" limit ").push_bind(MAX_ROWS);
    let mut found = sql.build_query_as::<ExportRow>().fetch(conn);
    while let Some(row) = found.try_next().await.map_err(unread)? {
        let id = row.id.to_string();
        let yes_or_no = |flag: bool| if flag { "true" } else { "false" };
        let created = iso_millis(row.created_at);
        let last_login = row.last_login_at.map(iso_millis).unwrap_or_default();
        let (bookings, revenue) = (row.bookings.to_string(), format!("{:.2}", euro(row.revenue)));
        let cells = [
            id.as_str(),
            &row.email,
            row.first_name.as_deref().unwrap_or_default(),
            row.last_name.as_deref().unwrap_or_default(),
            &row.role,
            yes_or_no(row.is_verified),
            yes_or_no(row.suspended_at.is_some()),
            &created,
            &last_login,
            &bookings,
            &revenue,
        ];
        if !rows.push(cells).await? {
            break;
        }
    }
    Ok(())
}
