//! All SQL of the offer store (voyage.offer_snapshots).

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::money::{Currency, Money};
use sqlx::{PgConnection, types::Json};

use super::{
    flight::{Cabin, FlightOffer, Passengers},
    offers::{OfferKind, OfferSnapshot},
};

/// What an offer was asked for, as the column `params` holds it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params {
    #[serde(flatten)]
    passengers: Passengers,
    cabin: Cabin,
    departure_date: NaiveDate,
    return_date: Option<NaiveDate>,
}

/// The quote of this id, expired or not.
pub async fn find(conn: &mut PgConnection, id: &str) -> sqlx::Result<Option<OfferSnapshot>> {
    let row = sqlx::query!(
        r#"select id, provider, params as "params: Json<Params>", payload as "payload: Json<Value>", amount_minor,
                  currency, origin, destination, departs_at, expires_at
           from voyage.offer_snapshots
           where id = $1 and kind = $2"#,
        id,
        OfferKind::Flight.name(),
    )
    .fetch_optional(conn)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let currency: Currency = row.currency.parse().map_err(|_| sqlx::Error::ColumnDecode {
        index: "currency".to_owned(),
        source: format!("voyage.offer_snapshots {id} has an unknown currency").into(),
    })?;
    Ok(Some(OfferSnapshot {
        id: row.id,
        kind: OfferKind::Flight,
        source: row.provider,
        amount: Money::new(row.amount_minor, currency),
        passengers: row.params.passengers,
        cabin: row.params.cabin,
        origin: row.origin,
        destination: row.destination,
        departs_at: row.departs_at,
        departs_on: row.params.departure_date,
        returns_on: row.params.return_date,
        expires_at: row.expires_at,
        payload: row.payload.0,
    }))
}

/// The columns of many rows, as `unnest` wants them.
#[derive(Default)]
struct Columns {
    ids: Vec<String>,
    providers: Vec<String>,
    params: Vec<String>,
    payloads: Vec<String>,
    amounts: Vec<i64>,
    currencies: Vec<String>,
    origins: Vec<String>,
    destinations: Vec<String>,
    departures: Vec<DateTime<Utc>>,
    expiries: Vec<DateTime<Utc>>,
}

impl Columns {
    /// Adds an offer; `None` if it has no segment or no price, which no provider's offer may lack.
    fn push(&mut self, offer: &FlightOffer) -> Option<()> {
        let slice = offer.slices.first()?;
        let departure = &slice.segments.first()?.departure;
        let amount = Money::from_major(offer.price.total, offer.price.currency)?;
        let params = Params {
            passengers: offer.passengers(),
            cabin: offer.cabin_class,
            departure_date: departure.local.date(),
            return_date: offer.return_date(),
        };
        self.params.push(serde_json::to_string(&params).ok()?);
        self.payloads.push(serde_json::to_string(offer).ok()?);
        self.ids.push(offer.id.clone());
        self.providers.push(offer.source.clone());
        self.amounts.push(amount.minor);
        self.currencies.push(amount.currency.code().to_owned());
        self.origins.push(slice.origin.to_string());
        self.destinations.push(slice.destination.to_string());
        self.departures.push(departure.utc);
        self.expiries.push(offer.expires_at);
        Some(())
    }
}

/// Stores quotes in one statement. Ids name their price, so a known id can only have become valid for longer.
pub async fn upsert(conn: &mut PgConnection, offers: &[FlightOffer], now: DateTime<Utc>) -> sqlx::Result<()> {
    let mut columns = Columns::default();
    for offer in offers {
        columns
            .push(offer)
            .ok_or_else(|| sqlx::Error::Encode("an offer without segments or price".into()))?;
    }
    sqlx::query!(
        r#"insert into voyage.offer_snapshots as known
               (id, kind, provider, params, payload, amount_minor, currency, origin, destination, departs_at, expires_at,
                created_at)
           select id, $11, provider, params::jsonb, payload::json, amount, currency, origin, destination, departs_at,
                  expires_at, $12
           from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[],
                       $9::timestamptz[], $10::timestamptz[])
                as offer (id, provider, params, payload, amount, currency, origin, destination, departs_at, expires_at)
           -- in one order everywhere, so that two searches for the same thing cannot lock each other
           order by id
           on conflict (id) do update set expires_at = excluded.expires_at, payload = excluded.payload
               where known.expires_at < excluded.expires_at and known.amount_minor = excluded.amount_minor"#,
        &columns.ids,
        &columns.providers,
        &columns.params,
        &columns.payloads,
        &columns.amounts,
        &columns.currencies,
        &columns.origins,
        &columns.destinations,
        &columns.departures,
        &columns.expiries,
        OfferKind::Flight.name(),
        now,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Deletes quotes that expired before `before`, at most `limit`, and tells how many.
pub async fn delete_expired(conn: &mut PgConnection, before: DateTime<Utc>, limit: i64) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        r#"delete from voyage.offer_snapshots
           where id in (
               select id from voyage.offer_snapshots where expires_at < $1 order by expires_at limit $2
               for update skip locked
           )"#,
        before,
        limit,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}
