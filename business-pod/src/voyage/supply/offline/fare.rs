//! What a journey costs, in whole minor units (voyage §6.5, row fare).

use chrono::{Datelike as _, NaiveDate, Weekday};
use shared::money::{Currency, Money};

use super::{bucket::Bucket, id::Brand, network::Itinerary, random::Draw};
use crate::voyage::supply::{
    flight::{Cabin, Condition, Conditions, PassengerKind, PassengerPrice, Passengers, Price, PriceBreakdown},
    rates::{self, NoRate},
    reference::{Airport, CarrierKind, Country},
};

/// What of two one-way fares a round trip costs.
const ROUND_TRIP: f64 = 0.92;

/// One direction of an offer.
#[derive(Debug, Clone, Copy)]
pub struct Direction<'a> {
    /// The journey.
    pub itinerary: &'a Itinerary,
    /// Its local date of departure.
    pub date: NaiveDate,
}

/// What the price depends on beside the journey.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// Who travels.
    pub passengers: Passengers,
    /// In which cabin.
    pub cabin: Cabin,
    /// Under which brand.
    pub brand: Brand,
    /// Quoted in which currency.
    pub currency: Currency,
    /// Priced in which hour.
    pub bucket: Bucket,
    /// Whether prices move from hour to hour.
    pub drift: bool,
}

/// A price in minor units, and what it consists of.
#[derive(Debug, Clone)]
pub struct Fare {
    /// For all passengers and directions.
    pub total: Money,
    /// What it consists of.
    pub breakdown: PriceBreakdown,
    /// What happens when plans change.
    pub conditions: Conditions,
}

/// The price of a journey there, and back if there are two directions.
pub fn quote(directions: &[Direction<'_>], terms: &Terms) -> Result<Fare, NoRate> {
    let share = if directions.len() > 1 { ROUND_TRIP } else { 1.0 };
    let (mut adult, mut adult_taxes) = (0.0, 0.0);
    for direction in directions {
        let fare = one_way(direction, terms) * share;
        adult += fare;
        adult_taxes += direction
            .itinerary
            .flights
            .first()
            .map_or(0.0, |flight| fare * tax_rate(flight.route.from.country));
    }

    let passengers = terms.passengers;
    let kinds = [
        (PassengerKind::Adult, passengers.adults, 1.0),
        (PassengerKind::Child, passengers.children, 0.75),
        (PassengerKind::Infant, passengers.infants, 0.1),
    ];
    let (mut base, mut taxes) = (0_i64, 0_i64);
    let mut rows = Vec::new();
    for (kind, count, part) in kinds.into_iter().filter(|(_, count, _)| *count > 0) {
        let one_base = in_currency(adult * part, terms.currency)?.minor.max(1);
        let one_taxes = in_currency(adult_taxes * part, terms.currency)?.minor.max(0);
        base += one_base * i64::from(count);
        taxes += one_taxes * i64::from(count);
        let major = |minor| Money::new(minor, terms.currency).major();
        rows.push(PassengerPrice {
            kind,
            count,
            base: major(one_base),
            taxes: major(one_taxes),
            total: major(one_base + one_taxes),
        });
    }
    let major = |minor| Money::new(minor, terms.currency).major();
    let breakdown = PriceBreakdown {
        base: major(base),
        taxes: major(taxes),
        per_passenger: rows,
    };
    let total = Money::new(base + taxes, terms.currency);
    Ok(Fare {
        total,
        breakdown,
        conditions: conditions(directions, terms)?,
    })
}

/// One adult, one way, before taxes, in euros.
fn one_way(direction: &Direction<'_>, terms: &Terms) -> f64 {
    let flights = &direction.itinerary.flights;
    let (Some(first), Some(last)) = (flights.first(), flights.last()) else {
        return 0.0;
    };
    let (from, to, carrier) = (first.route.from, last.route.to, first.route.carrier);
    let km = from.distance_km(to);
    let cabin = match terms.cabin {
        Cabin::Economy => 1.0,
        Cabin::PremiumEconomy => 1.7,
        Cabin::Business => 3.6,
        Cabin::First => 6.2,
    };
    let brand = match terms.brand {
        Brand::Light => 1.0,
        Brand::Standard => 1.18,
        Brand::Flex => 1.45,
    };
    let direct = if flights.len() == 1 { 1.12 } else { 1.0 };
    let (cheapest, dearest) = match carrier.kind {
        CarrierKind::Low => (0.85, 0.95),
        CarrierKind::Regional => (0.95, 1.05),
        CarrierKind::Full => (0.97, 1.20),
    };
    let house = Draw::of("carrier price", &[carrier.iata.as_bytes()]).within(cheapest, dearest);
    let names = flights
        .iter()
        .map(super::schedule::Flight::designator)
        .collect::<Vec<_>>()
        .join("+");
    let date = direction.date.num_days_from_ce().to_le_bytes();
    let jitter = Draw::of("jitter", &[names.as_bytes(), &date]).within(0.94, 1.06);
    let moved = if terms.drift {
        drift(&names, date, terms.bucket)
    } else {
        1.0
    };
    let lead = lead_time(direction.date, terms.bucket.day());
    let when = weekday(direction.date) * season(to, direction.date);
    (28.0 + 0.083 * km.powf(0.97)) * cabin * brand * lead * when * direct * house * jitter * moved
}

/// A tenth of the journeys costs up to 3 % more or less in any hour.
fn drift(names: &str, date: [u8; 4], bucket: Bucket) -> f64 {
    let mut draw = Draw::of("drift", &[names.as_bytes(), &date, &bucket.number().to_le_bytes()]);
    if draw.percent(10) { draw.within(0.97, 1.03) } else { 1.0 }
}

/// The later one buys, the dearer it is.
fn lead_time(departure: NaiveDate, today: NaiveDate) -> f64 {
    match (departure - today).num_days() {
        60.. => 0.85,
        30..60 => 0.95,
        14..30 => 1.10,
        7..14 => 1.30,
        3..7 => 1.55,
        _ => 1.90,
    }
}

fn weekday(date: NaiveDate) -> f64 {
    match date.weekday() {
        Weekday::Mon => 1.03,
        Weekday::Tue => 0.94,
        Weekday::Wed => 0.95,
        Weekday::Thu => 1.0,
        Weekday::Fri => 1.10,
        Weekday::Sat => 1.02,
        Weekday::Sun => 1.12,
    }
}

/// High season is summer where one flies to; between the tropics it is the dry time around the new year.
fn season(to: &Airport, date: NaiveDate) -> f64 {
    if (date.month() == 12 && date.day() >= 18) || (date.month() == 1 && date.day() <= 4) {
        return 1.25;
    }
    if to.latitude.abs() < 15.0 {
        return if matches!(date.month(), 1..=3 | 12) { 1.10 } else { 0.97 };
    }
    let month = if to.latitude < 0.0 {
        (date.month() + 5) % 12 + 1
    } else {
        date.month()
    };
    match month {
        7 | 8 => 1.20,
        6 | 9 => 1.06,
        4 | 5 | 10 => 1.0,
        12 => 0.98,
        _ => 0.90,
    }
}

/// 12 to 22 % by country of departure.
fn tax_rate(country: &Country) -> f64 {
    f64::from(Draw::of("taxes", &[country.code.as_bytes()]).between(12, 22)) / 100.0
}

fn conditions(directions: &[Direction<'_>], terms: &Terms) -> Result<Conditions, NoRate> {
    let at_no_charge = Condition {
        allowed: true,
        penalty: None,
    };
    let never = Condition {
        allowed: false,
        penalty: None,
    };
    Ok(match terms.brand {
        Brand::Light => Conditions {
            refund: never,
            change: never,
        },
        Brand::Standard => {
            let far = directions
                .iter()
                .any(|direction| direction.itinerary.flights.iter().map(|flight| flight.km).sum::<f64>() > 4_500.0);
            let each = if far { 120.0 } else { 60.0 };
            let fee = in_currency(each * f64::from(terms.passengers.seats()), terms.currency)?;
            let penalty = Some(Price {
                total: fee.major(),
                currency: fee.currency,
            });
            Conditions {
                refund: never,
                change: Condition { allowed: true, penalty },
            }
        }
        Brand::Flex => Conditions {
            refund: at_no_charge,
            change: at_no_charge,
        },
    })
}

/// Euros as money of another currency. The euro's own cents are rounded first, so that every currency sees one price.
fn in_currency(euros: f64, currency: Currency) -> Result<Money, NoRate> {
    let cents = Money::from_major(euros, Currency::EUR).ok_or(NoRate(currency))?;
    rates::convert(cents, currency)
}
