//! What the service learns from events (ai §14.1). It counts; it keeps nothing of who searched or booked.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use shared::{
    Sources,
    events::{
        Envelope, Topic,
        consumer::{Failure, Handler},
    },
};
use sqlx::PgConnection;
use std::{collections::BTreeSet, sync::Arc};

use super::{
    Ai, AiState,
    handlers::Rankings,
    model::{BOOKINGS_MATTER_FOR, PlaceNames},
    store,
};

/// The handler of the group `dreamscape-ai-service-group`.
pub fn handler(state: &AiState) -> impl Handler<Ai> + use<> {
    Counter {
        sources: state.sources.clone(),
        places: Arc::clone(&state.places),
        rankings: state.rankings.clone(),
    }
}

struct Counter {
    sources: Sources,
    places: Arc<dyn PlaceNames>,
    rankings: Rankings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Search {
    destination: Option<String>,
    criteria: Criteria,
    searched_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Criteria {
    destination: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Booking {
    #[serde(rename = "bookingId")]
    id: Option<String>,
    #[serde(rename = "bookingReference")]
    reference: Option<String>,
    destinations: Vec<String>,
    items: Vec<Item>,
    confirmed_at: Option<DateTime<Utc>>,
    cancelled_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Item {
    destination: Option<String>,
}

#[async_trait]
impl Handler<Ai> for Counter {
    fn group(&self) -> &'static str {
        "dreamscape-ai-service-group"
    }

    fn topics(&self) -> &'static [Topic] {
        &[
            Topic::VoyageSearchPerformed,
            Topic::VoyageBookingConfirmed,
            Topic::VoyageBookingCancelled,
        ]
    }

    fn waiting(&self, records: u64) {
        // what the rule of the business pod counts (operations §6.10, §6.15)
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("dreamscape_ai_queue_length", "queue" => "events").set(records as f64);
    }

    async fn handle(&self, tx: &mut PgConnection, topic: Topic, event: &Envelope) -> Result<(), Failure> {
        match topic {
            Topic::VoyageSearchPerformed => self.searched(tx, event).await,
            Topic::VoyageBookingConfirmed => self.confirmed(tx, event).await,
            Topic::VoyageBookingCancelled => self.cancelled(tx, event).await,
            other => Err(Failure::permanent(format!("nothing is known of {}", other.name()))),
        }
    }

    async fn committed(&self, topic: Topic, _event: &Envelope) {
        // searches are many: they show when the ranking is next computed
        if topic != Topic::VoyageSearchPerformed {
            self.rankings.forget().await;
        }
    }
}

impl Counter {
    async fn searched(&self, tx: &mut PgConnection, event: &Envelope) -> Result<(), Failure> {
        let search: Search = event.payload()?;
        let at = self.instant(search.searched_at, event);
        let named = search.destination.or(search.criteria.destination);
        // hotels near a point and codes that somebody made up have no destination to count for
        let Some(place) = named.as_deref().and_then(|code| self.places.place(code)) else {
            return Ok(());
        };
        let mut demand = store::lock_demand(tx, &self.sources, &place.code, at).await?;
        demand.add_search(at);
        store::save_demand(tx, &place.code, &demand, self.sources.now()).await?;
        Ok(())
    }

    async fn confirmed(&self, tx: &mut PgConnection, event: &Envelope) -> Result<(), Failure> {
        let payload: Booking = event.payload()?;
        let at = self.instant(payload.confirmed_at, event);
        let destinations = self.cities(&payload);
        if destinations.is_empty() {
            return Ok(());
        }
        let (digest, now) = (digest(&payload)?, self.sources.now());
        let mut booking = store::lock_booking(tx, &digest, now).await?;
        if !booking.confirm(at, destinations) {
            return Ok(());
        }
        store::save_booking(tx, &digest, &booking, now).await?;
        for code in &booking.destinations {
            let mut demand = store::lock_demand(tx, &self.sources, code, at).await?;
            demand.add_booking(at);
            store::save_demand(tx, code, &demand, now).await?;
        }
        store::forget_bookings(tx, now - BOOKINGS_MATTER_FOR).await?;
        Ok(())
    }

    async fn cancelled(&self, tx: &mut PgConnection, event: &Envelope) -> Result<(), Failure> {
        let payload: Booking = event.payload()?;
        let at = self.instant(payload.cancelled_at, event);
        let (digest, now) = (digest(&payload)?, self.sources.now());
        let mut booking = store::lock_booking(tx, &digest, now).await?;
        let confirmed_at = booking.cancel(at);
        store::save_booking(tx, &digest, &booking, now).await?;
        let Some(confirmed_at) = confirmed_at else {
            return Ok(());
        };
        for code in &booking.destinations {
            let mut demand = store::lock_demand(tx, &self.sources, code, at).await?;
            demand.remove_booking(confirmed_at);
            store::save_demand(tx, code, &demand, now).await?;
        }
        Ok(())
    }

    /// The cities of a booking, each once, in the order in which rows are locked.
    fn cities(&self, booking: &Booking) -> Vec<String> {
        let of_items = booking.items.iter().filter_map(|item| item.destination.as_ref());
        let codes = booking.destinations.iter().chain(of_items);
        let cities: BTreeSet<String> = codes
            .filter_map(|code| self.places.place(code))
            .map(|place| place.code)
            .collect();
        cities.into_iter().collect()
    }

    /// When it happened: as told, else when the event was made; never in the future.
    fn instant(&self, told: Option<DateTime<Utc>>, event: &Envelope) -> DateTime<Utc> {
        let now = self.sources.now();
        let made = || {
            DateTime::parse_from_rfc3339(&event.timestamp)
                .ok()
                .map(|instant| instant.with_timezone(&Utc))
        };
        told.or_else(made).unwrap_or(now).min(now)
    }
}

/// The digest by which a booking is known here.
fn digest(booking: &Booking) -> Result<Vec<u8>, Failure> {
    let reference = booking.reference.as_deref().or(booking.id.as_deref());
    let reference = reference.ok_or_else(|| Failure::permanent("the event names no booking"))?;
    Ok(Sha256::digest(reference.as_bytes()).to_vec())
}
