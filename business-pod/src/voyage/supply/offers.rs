//! What we quoted: the authority on prices for the cart and the checkout.
//!
//! contract: voyage §7.4 (price authority), §6.5 (validity, ids, cold store)
//!
//! An offer is found in the store; if the row is gone and the provider's ids carry their own parameters, the offer is
//! made again, to the cent. An expired offer is still found for 24 hours, so that its id is answered with
//! `OFFER_EXPIRED` rather than with "never heard of it".

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde_json::Value;
use shared::{ApiError, money::Money};
use sqlx::PgConnection;

use super::{
    flight::{Cabin, FlightOffer, Passengers},
    provider::{ProviderError, Router},
    store,
};

/// How long a quote holds.
pub const VALIDITY: TimeDelta = TimeDelta::minutes(20);

/// How long an expired quote is remembered.
pub const MEMORY: TimeDelta = TimeDelta::hours(24);

/// What kind of product an offer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum OfferKind {
    /// A flight.
    Flight,
}

impl OfferKind {
    /// The name in the store and in the cart.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flight => "FLIGHT",
        }
    }
}

/// One quote as it was given.
#[derive(Debug, Clone, PartialEq)]
pub struct OfferSnapshot {
    /// The offer's id, the cart line's `itemId`.
    pub id: String,
    /// What it is.
    pub kind: OfferKind,
    /// The provider that made it: `offline`. An offline offer is never payable with a live key (voyage §6.1).
    pub source: String,
    /// For all passengers and directions together.
    pub amount: Money,
    /// Who it is for.
    pub passengers: Passengers,
    /// The cabin.
    pub cabin: Cabin,
    /// First airport of the way there.
    pub origin: String,
    /// Last airport of the way there.
    pub destination: String,
    /// The instant of the first departure.
    pub departs_at: DateTime<Utc>,
    /// The local date of departure at the origin.
    pub departs_on: NaiveDate,
    /// The local date of the way back, if there is one.
    pub returns_on: Option<NaiveDate>,
    /// Until when the price holds.
    pub expires_at: DateTime<Utc>,
    /// The offer as it was sent to the client (`FlightOffer`).
    pub payload: Value,
}

impl OfferSnapshot {
    /// Whether the price no longer holds.
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        now >= self.expires_at
    }

    /// The payload as the type it was written from.
    pub fn flight(&self) -> Result<FlightOffer, serde_json::Error> {
        serde::Deserialize::deserialize(&self.payload)
    }

    /// The snapshot of an offer. `None` if the offer has no segment or its price does not fit its currency, which no
    /// provider's offer may.
    pub fn of_flight(offer: &FlightOffer) -> Option<Self> {
        let first = offer.slices.first()?;
        let departure = &first.segments.first()?.departure;
        Some(Self {
            id: offer.id.clone(),
            kind: OfferKind::Flight,
            source: offer.source.clone(),
            amount: Money::from_major(offer.price.total, offer.price.currency)?,
            passengers: offer.passengers(),
            cabin: offer.cabin_class,
            origin: first.origin.to_string(),
            destination: first.destination.to_string(),
            departs_at: departure.utc,
            departs_on: departure.local.date(),
            returns_on: offer.return_date(),
            expires_at: offer.expires_at,
            payload: serde_json::to_value(offer).ok()?,
        })
    }
}

/// Today's price of a journey that was quoted before.
#[derive(Debug, Clone, PartialEq)]
pub struct Repriced {
    /// The journey as it is offered now, with its own id and expiry.
    pub offer: OfferSnapshot,
    /// The same as the provider described it, for [`Offers::remember`].
    pub flight: FlightOffer,
    /// Whether the id differs from the one that was asked for: the cart line should take the new one.
    pub replaced: bool,
}

/// Why an offer could not be told.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// The store could not be asked, or holds a row that cannot be read.
    #[error("failed to read the offer store")]
    Store(#[from] sqlx::Error),
    /// The provider could not be asked.
    #[error("failed to ask the provider")]
    Provider(#[from] ProviderError),
}

impl From<OfferError> for ApiError {
    fn from(error: OfferError) -> Self {
        match error {
            OfferError::Store(error) => error.into(),
            OfferError::Provider(error) => error.into(),
        }
    }
}

/// Finds and re-quotes offers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Offers {
    providers: Router,
}

impl Offers {
    /// Over the configured providers.
    pub const fn new(providers: Router) -> Self {
        Self { providers }
    }

    /// The quote of this id: as stored, else as the provider can make it again. `None` for an id nobody quoted or
    /// that is no longer remembered; an expired quote is returned (ask [`OfferSnapshot::is_expired`]).
    pub async fn find(
        &self,
        conn: &mut PgConnection,
        offer_id: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<OfferSnapshot>, OfferError> {
        if let Some(snapshot) = store::find(conn, offer_id).await? {
            return Ok(Some(snapshot));
        }
        match self.providers.recall_flight(offer_id, now).await {
            Ok(offer) => Ok(OfferSnapshot::of_flight(&offer)),
            Err(ProviderError::NotFound | ProviderError::NoAvailability) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The same journey at today's price, whether or not the quote has expired. [`ProviderError::NotFound`] for an
    /// unknown id, [`ProviderError::NoAvailability`] if the journey is no longer sold. The result is not stored: call
    /// [`Offers::remember`] when it is shown to anyone.
    pub async fn reprice(&self, offer_id: &str, now: DateTime<Utc>) -> Result<Repriced, ProviderError> {
        let offer = self.providers.reprice_flight(offer_id, now).await?;
        let replaced = offer.id != offer_id;
        let snapshot = OfferSnapshot::of_flight(&offer)
            .ok_or_else(|| ProviderError::Bug(anyhow::anyhow!("an offer without segments or price")))?;
        Ok(Repriced {
            offer: snapshot,
            flight: offer,
            replaced,
        })
    }

    /// Stores quotes, in one statement. A quote that is already known only has its expiry moved forward.
    pub async fn remember(
        &self,
        conn: &mut PgConnection,
        offers: &[FlightOffer],
        now: DateTime<Utc>,
    ) -> Result<(), OfferError> {
        Ok(store::upsert(conn, offers, now).await?)
    }
}

/// Deletes quotes that expired more than [`MEMORY`] ago, at most `limit` of them, and tells how many.
pub async fn sweep(conn: &mut PgConnection, now: DateTime<Utc>, limit: i64) -> sqlx::Result<u64> {
    store::delete_expired(conn, now - MEMORY, limit).await
}
