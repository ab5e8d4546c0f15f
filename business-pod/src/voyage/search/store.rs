//! All SQL of searches (voyage.search_history).

use chrono::{DateTime, NaiveDate, Utc};
use shared::{Sources, id::UserId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::params::Search;

#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    users: Vec<Uuid>,
    queries: Vec<String>,
    origins: Vec<String>,
    destinations: Vec<String>,
    departures: Vec<NaiveDate>,
    returns: Vec<Option<NaiveDate>>,
    adults: Vec<i16>,
    children: Vec<i16>,
    infants: Vec<i16>,
    cabins: Vec<String>,
    results: Vec<i32>,
    at: Vec<DateTime<Utc>>,
}

/// Remembers travellers' flight searches, in one statement.
pub async fn insert_history<'a>(
    conn: &mut PgConnection,
    sources: &Sources,
    searches: impl Iterator<Item = (UserId, &'a Search, usize, DateTime<Utc>)>,
) -> sqlx::Result<()> {
    let mut columns = Columns::default();
    for (user, search, results, at) in searches {
        let query = &search.query;
        columns.ids.push(sources.uuid_v7());
        columns.users.push(user.0);
        columns
            .queries
            .push(format!("{} → {}", search.origin, search.destination));
        columns.origins.push(search.origin.to_string());
        columns.destinations.push(search.destination.to_string());
        columns.departures.push(query.departure);
        columns.returns.push(query.return_date);
        columns.adults.push(query.passengers.adults.into());
        columns.children.push(query.passengers.children.into());
        columns.infants.push(query.passengers.infants.into());
        columns.cabins.push(query.cabin.name().to_owned());
        columns.results.push(i32::try_from(results).unwrap_or(i32::MAX));
        columns.at.push(at);
    }
    if columns.ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"insert into voyage.search_history
               (id, user_id, search_type, query, origin, destination, departure_date, return_date, adults, children, infants,
                cabin_class, results_count, searched_at)
           select id, user_id, 'flight', query, origin, destination, departs, returns, adults, children, infants, cabin,
                  results, at
           from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::date[], $7::date[], $8::smallint[],
                       $9::smallint[], $10::smallint[], $11::text[], $12::integer[], $13::timestamptz[])
                as search (id, user_id, query, origin, destination, departs, returns, adults, children, infants, cabin,
                           results, at)"#,
        &columns.ids,
        &columns.users,
        &columns.queries,
        &columns.origins,
        &columns.destinations,
        &columns.departures,
        &columns.returns as &[Option<NaiveDate>],
        &columns.adults,
        &columns.children,
        &columns.infants,
        &columns.cabins,
        &columns.results,
        &columns.at,
    )
    .execute(conn)
    .await?;
    Ok(())
}
