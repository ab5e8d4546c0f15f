//! Flights as every provider describes them and as clients read them.
//!
//! contract: voyage §4.1 (F1 and the shape of `FlightOffer`). There is never a top-level `itineraries` key: two readers
//! switch to another parser when they see one; the details are in `slices`.

use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};
use shared::money::Currency;
use utoipa::ToSchema;

pub use super::minutes::{Minutes, NotADuration};
use super::reference::Iata;

/// The cabin that was asked for and is sold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Cabin {
    /// Economy.
    #[default]
    Economy,
    /// Premium economy.
    PremiumEconomy,
    /// Business.
    Business,
    /// First.
    First,
}

impl Cabin {
    /// Every cabin, cheapest first.
    pub const ALL: [Self; 4] = [Self::Economy, Self::PremiumEconomy, Self::Business, Self::First];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Economy => "ECONOMY",
            Self::PremiumEconomy => "PREMIUM_ECONOMY",
            Self::Business => "BUSINESS",
            Self::First => "FIRST",
        }
    }

    /// The cabin a client means, in any case; an unknown word means economy (voyage §4.1).
    pub fn lenient(text: &str) -> Self {
        match text.trim().to_ascii_uppercase().replace(['-', ' '], "_").as_str() {
            "PREMIUM_ECONOMY" | "PREMIUM" | "PREMIUMECONOMY" => Self::PremiumEconomy,
            "BUSINESS" => Self::Business,
            "FIRST" => Self::First,
            _ => Self::Economy,
        }
    }
}

impl fmt::Display for Cabin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Passengers {
    /// 1 to 9.
    pub adults: u8,
    /// 0 to 8.
    pub children: u8,
    /// On an adult's lap: never more than there are adults.
    pub infants: u8,
}

/// The numbers of travellers cannot be booked together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PassengersError(pub &'static str);

impl Passengers {
    /// The most travellers one offer is for.
    pub const MAX: u8 = 9;

    /// Checks the limits of voyage §4.1.
    pub const fn new(adults: u8, children: u8, infants: u8) -> Result<Self, PassengersError> {
        if adults < 1 || adults > 9 {
            return Err(PassengersError("adults must be between 1 and 9"));
        }
        if children > 8 {
            return Err(PassengersError("children must be between 0 and 8"));
        }
        if infants > adults {
            return Err(PassengersError("infants must not be more than adults"));
        }
        if adults.saturating_add(children).saturating_add(infants) > Self::MAX {
            return Err(PassengersError("at most 9 passengers can be booked together"));
        }
        Ok(Self {
            adults,
            children,
            infants,
        })
    }

    /// All travellers.
    pub const fn total(self) -> u8 {
        self.adults.saturating_add(self.children).saturating_add(self.infants)
    }

    /// Travellers who occupy a seat.
    pub const fn seats(self) -> u8 {
        self.adults.saturating_add(self.children)
    }
}

/// What is searched. Places are already resolved: a metro code has become its airports.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FlightQuery {
    /// Airports of departure; never empty.
    pub origins: Vec<Iata>,
    /// Airports of arrival; never empty.
    pub destinations: Vec<Iata>,
    /// The local date of departure.
    pub departure: NaiveDate,
    /// The local date of the way back.
    pub return_date: Option<NaiveDate>,
    /// Who travels.
    pub passengers: Passengers,
    /// In which cabin.
    pub cabin: Cabin,
    /// In which currency prices are quoted.
    pub currency: Currency,
    /// What must hold for an offer to be of interest.
    pub filters: FlightFilters,
}

/// What an offer must satisfy. A provider may use it to ask for less; the router applies it in any case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FlightFilters {
    /// The most stops on any slice.
    pub max_stops: Option<u8>,
    /// The highest total price, in major units of the query's currency.
    pub max_price: Option<u32>,
    /// The longest duration of any slice, in minutes.
    pub max_minutes: Option<u32>,
    /// If not empty, only offers of these carriers (sorted, upper case).
    pub carriers: Vec<String>,
}

impl FlightFilters {
    /// Whether the offer is of interest.
    pub fn keeps(&self, offer: &FlightOffer) -> bool {
        let stops = || {
            offer
                .slices
                .iter()
                .map(|slice| slice.stops)
                .max()
                .unwrap_or(offer.stops)
        };
        let minutes = || {
            offer
                .slices
                .iter()
                .map(|slice| slice.duration.0)
                .max()
                .unwrap_or(offer.duration.0)
        };
        self.max_stops.is_none_or(|most| stops() <= u32::from(most))
            && self.max_price.is_none_or(|most| offer.price.total <= f64::from(most))
            && self.max_minutes.is_none_or(|most| minutes() <= most)
            && (self.carriers.is_empty() || self.carriers.contains(&offer.airline.code))
    }
}

/// One bookable offer: an itinerary in a fare brand at a price, for all passengers and all directions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlightOffer {
    /// `off_` and 22 characters; names the offer in the cart.
    pub id: String,
    /// What all passengers pay together, both ways.
    pub price: Price,
    /// Of the way there: `PT5H30M`.
    #[schema(value_type = String)]
    pub duration: Minutes,
    /// Of the way there.
    pub stops: u32,
    /// Of the way there.
    pub departure: Stop,
    /// Of the way there.
    pub arrival: Stop,
    /// The carrier that sells the offer.
    pub airline: Airline,
    /// The cabin of every segment.
    pub cabin_class: Cabin,
    /// 1 to 9; 9 means nine or more.
    pub available_seats: u8,
    /// Whether money comes back before departure.
    pub is_refundable: bool,
    /// Per passenger with a seat.
    pub baggage_allowance: Baggage,
    /// Until when the price is held.
    #[serde(with = "shared::sources::iso")]
    pub expires_at: DateTime<Utc>,
    /// The id again, as the client expects it.
    pub booking_token: String,
    /// `AF123`: the first segment's.
    pub flight_number: String,
    /// The first segment's aircraft type, IATA code.
    pub aircraft: String,
    /// `Light`, `Standard`, `Flex`.
    pub fare_brand: String,
    /// Per passenger, all directions.
    pub co2_kg: u32,
    /// The provider that made the offer.
    pub source: String,
    /// One per direction.
    pub slices: Vec<Slice>,
    /// What happens when plans change.
    pub conditions: Conditions,
    /// What the price consists of.
    pub price_breakdown: PriceBreakdown,
}

/// An amount as a number of major units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Price {
    /// Major units.
    pub total: f64,
    /// ISO 4217.
    #[schema(value_type = String)]
    pub currency: Currency,
}

/// Where and when a journey begins or ends, by the airport's own clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stop {
    /// IATA code.
    #[schema(value_type = String)]
    pub airport: Iata,
    /// Local, without offset: `2026-01-15T10:15:00`.
    pub time: NaiveDateTime,
    /// The terminal, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<String>,
}

/// A carrier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Airline {
    /// IATA code.
    pub code: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What may be carried without extra charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Baggage {
    /// In the hold.
    pub checked_bags: u8,
    /// On board.
    pub cabin_bags: u8,
}

/// One direction of the journey.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Slice {
    /// IATA code.
    #[schema(value_type = String)]
    pub origin: Iata,
    /// IATA code.
    #[schema(value_type = String)]
    pub destination: Iata,
    /// From the first departure to the last arrival.
    #[schema(value_type = String)]
    pub duration: Minutes,
    /// Segments less one.
    pub stops: u32,
    /// In order of travel.
    pub segments: Vec<Segment>,
}

/// One flight of one aircraft.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Segment {
    /// Unique within the offer.
    pub id: String,
    /// Who sells it.
    pub carrier_code: String,
    /// `AF123`.
    pub flight_number: String,
    /// Who flies it, if another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operating_carrier: Option<String>,
    /// IATA type code.
    pub aircraft: String,
    /// Where and when it leaves.
    pub departure: Endpoint,
    /// Where and when it lands.
    pub arrival: Endpoint,
    /// In the air and on the ground, gate to gate.
    #[schema(value_type = String)]
    pub duration: Minutes,
    /// The cabin.
    pub cabin: Cabin,
    /// The fare's code.
    pub fare_basis: String,
}

/// A segment's end: the airport's wall clock and the exact instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// IATA code.
    #[schema(value_type = String)]
    pub airport: Iata,
    /// The terminal, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<String>,
    /// Local, without offset.
    pub local: NaiveDateTime,
    /// The same moment in UTC.
    #[serde(with = "shared::sources::iso")]
    pub utc: DateTime<Utc>,
    /// IANA name.
    pub time_zone: String,
}

/// What happens when plans change before departure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Conditions {
    /// Giving the ticket back.
    pub refund: Condition,
    /// Flying at another time.
    pub change: Condition,
}

/// Whether it is possible, and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Condition {
    /// Whether it is possible at all.
    pub allowed: bool,
    /// The fee for all passengers together; absent when nothing is charged or it is not possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub penalty: Option<Price>,
}

/// What the price consists of, in the offer's currency; the parts add up to the total.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PriceBreakdown {
    /// Fares.
    pub base: f64,
    /// Taxes and airport charges.
    pub taxes: f64,
    /// One row per kind of passenger.
    pub per_passenger: Vec<PassengerPrice>,
}

/// What one passenger of a kind pays.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PassengerPrice {
    /// Adult, child or infant.
    #[serde(rename = "type")]
    pub kind: PassengerKind,
    /// How many of them.
    pub count: u8,
    /// The fare of one.
    pub base: f64,
    /// The taxes of one.
    pub taxes: f64,
    /// Fare and taxes of one.
    pub total: f64,
}

/// A kind of passenger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum PassengerKind {
    /// Twelve and older.
    Adult,
    /// Two to eleven.
    Child,
    /// Under two, on a lap.
    Infant,
}

impl FlightOffer {
    /// Who the offer is for, read from its price.
    pub fn passengers(&self) -> Passengers {
        let count = |kind| {
            let rows = self.price_breakdown.per_passenger.iter().filter(|row| row.kind == kind);
            rows.fold(0_u8, |sum, row| sum.saturating_add(row.count))
        };
        Passengers {
            adults: count(PassengerKind::Adult),
            children: count(PassengerKind::Child),
            infants: count(PassengerKind::Infant),
        }
    }

    /// The instant of the first departure.
    pub fn departs_at(&self) -> Option<DateTime<Utc>> {
        self.slices
            .first()?
            .segments
            .first()
            .map(|segment| segment.departure.utc)
    }

    /// The instant of the last arrival.
    pub fn arrives_at(&self) -> Option<DateTime<Utc>> {
        self.slices.last()?.segments.last().map(|segment| segment.arrival.utc)
    }

    /// The local date of the way back.
    pub fn return_date(&self) -> Option<NaiveDate> {
        let back = self.slices.get(1)?.segments.first()?;
        Some(back.departure.local.date())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cabins_are_read_in_any_spelling_and_unknown_is_economy() {
        assert_eq!(Cabin::lenient("premium"), Cabin::PremiumEconomy);
        assert_eq!(Cabin::lenient("Premium-Economy"), Cabin::PremiumEconomy);
        assert_eq!(Cabin::lenient("business"), Cabin::Business);
        assert_eq!(Cabin::lenient("lounge"), Cabin::Economy);
    }

    #[test]
    fn travellers_must_fit_into_one_booking() {
        assert!(Passengers::new(0, 0, 0).is_err());
        assert!(Passengers::new(1, 0, 2).is_err());
        assert!(Passengers::new(5, 5, 0).is_err());
        assert_eq!(Passengers::new(2, 2, 1).unwrap().total(), 5);
    }
}
