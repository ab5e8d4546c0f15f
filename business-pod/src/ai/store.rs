//! All SQL of the AI service.

use chrono::{DateTime, Utc};
use shared::Sources;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::model::{CountedBooking, Demand};

/// A destination as it is kept.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Ours.
    pub id: Uuid,
    /// The IATA code of the city.
    pub place_code: String,
    /// `CITY`.
    pub place_kind: String,
    /// How much it is wanted.
    pub demand: Demand,
    /// Where it stands in the eight dimensions.
    pub vector: Vec<f64>,
    /// When it was first wanted.
    pub created_at: DateTime<Utc>,
    /// When it was last counted.
    pub updated_at: DateTime<Utc>,
}

/// All destinations of one kind, or of all kinds. There are at most as many as there are cities with an airport.
pub async fn list(db: impl PgExecutor<'_>, kind: Option<&str>) -> sqlx::Result<Vec<Destination>> {
    let rows = sqlx::query!(
        "select id, place_code, place_kind, searches, bookings, demand_short, demand_long, stamped_at,
                search_count, booking_count, last_booking_at, vector, created_at, updated_at
         from ai.destinations
         where $1::text is null or place_kind = $1",
        kind,
    )
    .fetch_all(db)
    .await?;
    let destinations = rows.into_iter().map(|row| Destination {
        id: row.id,
        place_code: row.place_code,
        place_kind: row.place_kind,
        demand: Demand {
            searches: row.searches,
            bookings: row.bookings,
            short: row.demand_short,
            long: row.demand_long,
            stamped_at: row.stamped_at,
            search_count: row.search_count,
            booking_count: row.booking_count,
            last_booking_at: row.last_booking_at,
        },
        vector: row.vector,
        created_at: row.created_at,
        updated_at: row.updated_at,
    });
    Ok(destinations.collect())
}

/// The demand for a destination, locked until the end of the transaction; a new one starts with none.
pub async fn lock_demand(
    conn: &mut PgConnection,
    sources: &Sources,
    place_code: &str,
    at: DateTime<Utc>,
) -> sqlx::Result<Demand> {
    sqlx::query!(
        "insert into ai.destinations (id, place_code, stamped_at, created_at, updated_at)
         values ($1, $2, $3, $4, $4)
         on conflict (place_code) do nothing",
        sources.uuid_v7(),
        place_code,
        at,
        sources.now(),
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query_as!(
        Demand,
        "select searches, bookings, demand_short as short, demand_long as long, stamped_at,
                search_count, booking_count, last_booking_at
         from ai.destinations where place_code = $1 for update",
        place_code,
    )
    .fetch_one(conn)
    .await
}

/// Keeps the demand for a destination that was locked.
pub async fn save_demand(
    conn: &mut PgConnection,
    place_code: &str,
    demand: &Demand,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update ai.destinations
         set searches = $2, bookings = $3, demand_short = $4, demand_long = $5, stamped_at = $6,
             search_count = $7, booking_count = $8, last_booking_at = $9, updated_at = $10
         where place_code = $1",
        place_code,
        demand.searches,
        demand.bookings,
        demand.short,
        demand.long,
        demand.stamped_at,
        demand.search_count,
        demand.booking_count,
        demand.last_booking_at,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// What is known of a booking, locked until the end of the transaction.
pub async fn lock_booking(conn: &mut PgConnection, digest: &[u8], now: DateTime<Utc>) -> sqlx::Result<CountedBooking> {
    sqlx::query!(
        "insert into ai.counted_bookings (booking_digest, destinations, updated_at) values ($1, '{}', $2)
         on conflict (booking_digest) do nothing",
        digest,
        now,
    )
    .execute(&mut *conn)
    .await?;
    sqlx::query_as!(
        CountedBooking,
        "select destinations, confirmed_at, cancelled_at from ai.counted_bookings where booking_digest = $1 for update",
        digest,
    )
    .fetch_one(conn)
    .await
}

/// Keeps what is known of a booking that was locked.
pub async fn save_booking(
    conn: &mut PgConnection,
    digest: &[u8],
    booking: &CountedBooking,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "update ai.counted_bookings
         set destinations = $2, confirmed_at = $3, cancelled_at = $4, updated_at = $5
         where booking_digest = $1",
        digest,
        &booking.destinations,
        booking.confirmed_at,
        booking.cancelled_at,
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Forgets bookings that no longer weigh anything, a few at a time.
pub async fn forget_bookings(conn: &mut PgConnection, before: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from ai.counted_bookings where booking_digest in (
             select booking_digest from ai.counted_bookings where updated_at < $1
             order by updated_at limit 100 for update skip locked)",
        before,
    )
    .execute(conn)
    .await?;
    Ok(())
}
