//! The supplier that is always there: an invented network over real airports, the same on every node (voyage §6.5).
//!
//! Everything is a pure function of the query and the instant, of which only the hour (for prices) and the moment itself
//! (for what has already left) count. Nothing is stored: an offer's id says how to make it again.

pub mod bucket;
mod fare;
pub mod id;
pub mod network;
mod random;
pub mod schedule;

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use self::{
    bucket::Bucket,
    fare::{Direction, Terms},
    id::{Brand, Key},
    network::{Itinerary, MOST, itineraries},
    random::Draw,
    schedule::{Flight, terminal},
};
use super::{
    flight::{
        Airline, Baggage, Cabin, Endpoint, FlightOffer, FlightQuery, Minutes, Passengers, Price, Segment, Slice, Stop,
    },
    offers::{MEMORY, VALIDITY},
    places::{Location, PlaceIndex, PlaceQuery},
    provider::{Flights, Places, Provider, ProviderError},
    rates,
    reference::{Airport, Iata, Reference},
};

/// Nothing is sold that leaves sooner.
const CLOSING: TimeDelta = TimeDelta::minutes(45);
/// Pairs of airports looked at between two cities.
const PAIRS: usize = 4;

/// The offline provider.
#[derive(Debug, Clone)]
pub struct Offline {
    drift: bool,
}

impl Offline {
    /// The name in the configuration and in `source`.
    pub const NAME: &'static str = "offline";

    /// With or without hourly price movements (`OFFLINE_PRICE_DRIFT`).
    pub const fn new(drift: bool) -> Self {
        Self { drift }
    }

    /// The offers for a query at an instant.
    pub fn offers(&self, query: &FlightQuery, now: DateTime<Utc>) -> Result<Vec<FlightOffer>, ProviderError> {
        rates::per_euro(query.currency).map_err(|_| ProviderError::Invalid("currencyCode"))?;
        let mut offers = Vec::new();
        for journey in journeys(query) {
            for brand in Brand::ALL {
                let key = Key {
                    origin: journey.from.iata,
                    destination: journey.to.iata,
                    departure: query.departure,
                    return_date: query.return_date,
                    passengers: query.passengers,
                    cabin: query.cabin,
                    currency: query.currency,
                    outbound: journey.outbound,
                    inbound: journey.inbound,
                    brand,
                    bucket: Bucket::of(now),
                };
                let leaves = journey.there.flights.first().map(|flight| flight.departs);
                // what has left is not sold; a date that no id can name is too far away to be sold
                if leaves.is_some_and(|leaves| leaves >= now + CLOSING) {
                    offers.extend(self.offer(&key, &journey.there, journey.back.as_ref(), now + VALIDITY));
                }
            }
        }
        Ok(offers)
    }

    /// The offer that a key stands for.
    fn remake(&self, key: &Key, expires_at: DateTime<Utc>) -> Option<FlightOffer> {
        let reference = Reference::get();
        let (from, to) = (reference.airport(key.origin)?, reference.airport(key.destination)?);
        let premium = key.cabin != Cabin::Economy;
        let there = itineraries(from, to, key.departure, premium)
            .into_iter()
            .nth(key.outbound.into())?;
        let back = match key.return_date {
            Some(date) => Some(
                itineraries(to, from, date, premium)
                    .into_iter()
                    .nth(key.inbound.into())?,
            ),
            None => None,
        };
        self.offer(key, &there, back.as_ref(), expires_at)
    }

    fn offer(
        &self,
        key: &Key,
        there: &Itinerary,
        back: Option<&Itinerary>,
        expires_at: DateTime<Utc>,
    ) -> Option<FlightOffer> {
        let mut directions = vec![Direction {
            itinerary: there,
            date: key.departure,
        }];
        directions.extend(
            back.zip(key.return_date)
                .map(|(itinerary, date)| Direction { itinerary, date }),
        );
        let terms = Terms {
            passengers: key.passengers,
            cabin: key.cabin,
            brand: key.brand,
            currency: key.currency,
            bucket: key.bucket,
            drift: self.drift,
        };
        let fare = fare::quote(&directions, &terms).ok()?;
        let id = key.encode()?;
        let slices: Vec<Slice> = directions
            .iter()
            .enumerate()
            .filter_map(|(position, direction)| slice(key, position, direction))
            .collect();
        let (first, carrier) = (there.flights.first()?, there.carrier()?);
        let (outward, last) = (slices.first()?, there.flights.last()?);
        let checked_bags = match key.brand {
            Brand::Light => 0,
            Brand::Standard => 1,
            Brand::Flex => 2,
        };
        Some(FlightOffer {
            price: Price {
                total: fare.total.major(),
                currency: fare.total.currency,
            },
            duration: outward.duration,
            stops: outward.stops,
            departure: Stop {
                airport: first.route.from.iata,
                time: first.departs_local,
                terminal: terminal(first.route.carrier, first.route.from),
            },
            arrival: Stop {
                airport: last.route.to.iata,
                time: last.arrives_local,
                terminal: terminal(last.route.carrier, last.route.to),
            },
            airline: Airline {
                code: carrier.iata.to_owned(),
                name: Some(carrier.name.to_owned()),
            },
            cabin_class: key.cabin,
            available_seats: seats(&directions, key.cabin, key.passengers),
            is_refundable: fare.conditions.refund.allowed,
            baggage_allowance: Baggage {
                checked_bags,
                cabin_bags: 1,
            },
            expires_at: expires_at - TimeDelta::nanoseconds(i64::from(expires_at.timestamp_subsec_nanos())),
            booking_token: id.clone(),
            flight_number: first.designator(),
            aircraft: first.aircraft.to_owned(),
            fare_brand: key.brand.name().to_owned(),
            co2_kg: emissions(&directions, key.cabin),
            source: Self::NAME.to_owned(),
            slices,
            conditions: fare.conditions,
            price_breakdown: fare.breakdown,
            id,
        })
    }
}

impl Provider for Offline {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn flights(&self) -> Option<&dyn Flights> {
        Some(self)
    }

    fn places(&self) -> Option<&dyn Places> {
        Some(self)
    }
}

#[async_trait]
impl Flights for Offline {
    async fn search(&self, query: &FlightQuery, now: DateTime<Utc>) -> Result<Vec<FlightOffer>, ProviderError> {
        // some milliseconds of arithmetic, more at first use, when the reference data is unpacked
        let (provider, query) = (self.clone(), query.clone());
        let search = tokio::task::spawn_blocking(move || provider.offers(&query, now));
        search.await.map_err(|error| ProviderError::Bug(error.into()))?
    }

    /// The offer as it was quoted; the end of its validity is that of a quote at the end of its hour.
    async fn recall(&self, offer_id: &str, now: DateTime<Utc>) -> Result<FlightOffer, ProviderError> {
        let key = Key::decode(offer_id).ok_or(ProviderError::NotFound)?;
        let expires_at = key.bucket.end() + VALIDITY;
        if key.bucket > Bucket::of(now) || expires_at + MEMORY < now {
            return Err(ProviderError::NotFound);
        }
        self.remake(&key, expires_at).ok_or(ProviderError::NotFound)
    }

    async fn reprice(&self, offer_id: &str, now: DateTime<Utc>) -> Result<FlightOffer, ProviderError> {
        let key = Key::decode(offer_id).ok_or(ProviderError::NotFound)?;
        if key.bucket > Bucket::of(now) {
            return Err(ProviderError::NotFound);
        }
        let current = Key {
            bucket: Bucket::of(now),
            ..key
        };
        let offer = self.remake(&current, now + VALIDITY).ok_or(ProviderError::NotFound)?;
        if offer.departs_at().is_none_or(|leaves| leaves < now + CLOSING) {
            return Err(ProviderError::NoAvailability);
        }
        Ok(offer)
    }
}

#[async_trait]
impl Places for Offline {
    async fn suggest(&self, query: &PlaceQuery) -> Result<Vec<Location>, ProviderError> {
        let query = query.clone();
        let search = tokio::task::spawn_blocking(move || {
            let found = PlaceIndex::get().find(&query);
            found.iter().map(|(_, place)| place.location()).collect()
        });
        search.await.map_err(|error| ProviderError::Bug(error.into()))
    }
}

/// A way there, with a way back if one is wanted, and their places in the lists of their days.
struct Journey {
    from: &'static Airport,
    to: &'static Airport,
    outbound: u8,
    inbound: u8,
    there: Itinerary,
    back: Option<Itinerary>,
}

/// At most [`MOST`] journeys, shared among the pairs of airports, busier pairs first.
fn journeys(query: &FlightQuery) -> Vec<Journey> {
    let pairs = pairs(&query.origins, &query.destinations);
    let premium = query.cabin != Cabin::Economy;
    let several = pairs.len() > 1;
    let list = |(from, to)| {
        let mut list = pair_journeys(from, to, query, premium);
        if several {
            // only a part of each list is wanted: direct flights first, then from all over the day
            list.sort_by_key(|journey| (journey.there.flights.len(), journey.outbound * 5 % 14, journey.outbound));
        }
        list.into_iter()
    };
    let mut lists: Vec<_> = pairs.into_iter().map(list).collect();
    let mut chosen = Vec::new();
    while chosen.len() < MOST {
        let before = chosen.len();
        for list in &mut lists {
            chosen.extend(list.next().filter(|_| chosen.len() < MOST));
        }
        if chosen.len() == before {
            break;
        }
    }
    chosen
}

fn pairs(origins: &[Iata], destinations: &[Iata]) -> Vec<(&'static Airport, &'static Airport)> {
    let reference = Reference::get();
    let known = |codes: &[Iata]| {
        codes
            .iter()
            .filter_map(|code| reference.airport(*code))
            .collect::<Vec<_>>()
    };
    let (starts, ends) = (known(origins), known(destinations));
    let mut pairs: Vec<_> = starts
        .iter()
        .flat_map(|from| ends.iter().map(|to| (*from, *to)))
        .collect();
    pairs.retain(|(from, to)| from.iata != to.iata && from.city_code() != to.city_code());
    pairs.sort_by_key(|(from, to)| (std::cmp::Reverse(from.rank + to.rank), from.iata, to.iata));
    pairs.truncate(PAIRS);
    pairs
}

/// The journeys between two airports, each with a way back of the same carrier where it has one.
fn pair_journeys(from: &'static Airport, to: &'static Airport, query: &FlightQuery, premium: bool) -> Vec<Journey> {
    let there = itineraries(from, to, query.departure, premium);
    let numbered = there.into_iter().zip(0_u8..);
    let Some(date) = query.return_date else {
        let one_way = |(there, outbound)| Journey {
            from,
            to,
            outbound,
            inbound: 0,
            there,
            back: None,
        };
        return numbered.map(one_way).collect();
    };
    let returns: Vec<(Itinerary, u8)> = itineraries(to, from, date, premium).into_iter().zip(0_u8..).collect();
    let mut by_carrier: HashMap<&str, Vec<&(Itinerary, u8)>> = HashMap::new();
    for back in &returns {
        by_carrier
            .entry(back.0.carrier().map_or("", |carrier| carrier.iata))
            .or_default()
            .push(back);
    }
    let with_return = numbered.filter_map(|(there, outbound)| {
        let landed = there.flights.last()?.arrives;
        // long enough on the ground to have been there
        let in_time = |back: &&(Itinerary, u8)| {
            back.0
                .flights
                .first()
                .is_some_and(|flight| flight.departs >= landed + TimeDelta::hours(2))
        };
        let own = by_carrier
            .get(there.carrier()?.iata)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let own: Vec<_> = own.iter().copied().filter(in_time).collect();
        let (back, inbound) = if let Some(back) = own.get(usize::from(outbound) % own.len().max(1)) {
            *back
        } else {
            let any: Vec<_> = returns.iter().filter(in_time).collect();
            any.get(usize::from(outbound) % any.len().max(1)).copied()?
        };
        Some(Journey {
            from,
            to,
            outbound,
            inbound: *inbound,
            there,
            back: Some(back.clone()),
        })
    });
    with_return.collect()
}

fn slice(key: &Key, position: usize, direction: &Direction<'_>) -> Option<Slice> {
    let flights = &direction.itinerary.flights;
    let (first, last) = (flights.first()?, flights.last()?);
    let segments = flights.iter().enumerate().map(|(place, flight)| Segment {
        id: format!("{}-{}", position + 1, place + 1),
        carrier_code: flight.route.carrier.iata.to_owned(),
        flight_number: flight.designator(),
        operating_carrier: None,
        aircraft: flight.aircraft.to_owned(),
        departure: Endpoint {
            airport: flight.route.from.iata,
            terminal: terminal(flight.route.carrier, flight.route.from),
            local: flight.departs_local,
            utc: flight.departs,
            time_zone: flight.route.from.zone.name().to_owned(),
        },
        arrival: Endpoint {
            airport: flight.route.to.iata,
            terminal: terminal(flight.route.carrier, flight.route.to),
            local: flight.arrives_local,
            utc: flight.arrives,
            time_zone: flight.route.to.zone.name().to_owned(),
        },
        duration: Minutes(flight.minutes()),
        cabin: key.cabin,
        fare_basis: fare_basis(key, direction.date, flight),
    });
    Some(Slice {
        origin: first.route.from.iata,
        destination: last.route.to.iata,
        duration: Minutes(direction.itinerary.minutes()),
        stops: u32::try_from(flights.len().saturating_sub(1)).ok()?,
        segments: segments.collect(),
    })
}

/// Booking class, brand, how long ahead, country: `YLGT60FR`.
fn fare_basis(key: &Key, date: NaiveDate, flight: &Flight) -> String {
    let class = match key.cabin {
        Cabin::Economy => 'Y',
        Cabin::PremiumEconomy => 'W',
        Cabin::Business => 'C',
        Cabin::First => 'F',
    };
    let brand = match key.brand {
        Brand::Light => "LGT",
        Brand::Standard => "STD",
        Brand::Flex => "FLX",
    };
    let ahead = (date - key.bucket.day()).num_days().clamp(0, 60);
    format!("{class}{brand}{ahead:02}{}", flight.route.from.country.code)
}

/// What is left on the fullest flight, but never fewer than are travelling.
fn seats(directions: &[Direction<'_>], cabin: Cabin, passengers: Passengers) -> u8 {
    let flights = directions.iter().flat_map(|direction| &direction.itinerary.flights);
    let left = flights.map(|flight| {
        let day = flight.departs.timestamp().to_le_bytes();
        Draw::of(
            "seats",
            &[flight.designator().as_bytes(), &day, cabin.name().as_bytes()],
        )
        .between(2, 9)
    });
    let least = left.min().and_then(|left| u8::try_from(left).ok()).unwrap_or(9);
    least.max(passengers.seats())
}

/// Kilograms per passenger: less per kilometre the farther, more the more room a cabin takes.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "some tons at most"
)]
fn emissions(directions: &[Direction<'_>], cabin: Cabin) -> u32 {
    let flights = directions.iter().flat_map(|direction| &direction.itinerary.flights);
    let economy: f64 = flights
        .map(|flight| match flight.km {
            km if km < 1_500.0 => km * 0.13,
            km if km < 4_500.0 => km * 0.10,
            km => km * 0.085,
        })
        .sum();
    let room = match cabin {
        Cabin::Economy => 1.0,
        Cabin::PremiumEconomy => 1.5,
        Cabin::Business => 2.7,
        Cabin::First => 3.8,
    };
    (economy * room).round() as u32
}

#[cfg(test)]
mod tests;
