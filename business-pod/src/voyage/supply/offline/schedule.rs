//! When flights of the invented network leave and land, and which number and aircraft they have.
//!
//! A flight is fixed by carrier, route and time of day: it leaves every day at the same local time with the same number
//! and aircraft, so that everything else that is derived from it agrees.

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

use super::random::Draw;
use crate::voyage::supply::reference::{Airport, Carrier, CarrierKind};

/// First departure of the day, in minutes after local midnight: 06:00.
const FIRST: u32 = 6 * 60;
/// Last departure of the day: 22:30.
const LAST: u32 = 22 * 60 + 30;
/// Shortest and longest change of planes, in minutes.
pub const CONNECTION: std::ops::RangeInclusive<i64> = 70..=240;

/// A carrier's service between two airports.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Who flies.
    pub carrier: &'static Carrier,
    /// From where.
    pub from: &'static Airport,
    /// To where.
    pub to: &'static Airport,
}

/// One flight on one day.
#[derive(Debug, Clone)]
pub struct Flight {
    /// Who flies from where to where.
    pub route: Route,
    /// The number after the carrier's code.
    pub number: u32,
    /// IATA type code.
    pub aircraft: &'static str,
    /// Great-circle distance.
    pub km: f64,
    /// Departure by the airport's clock.
    pub departs_local: NaiveDateTime,
    /// Departure.
    pub departs: DateTime<Utc>,
    /// Arrival by the airport's clock.
    pub arrives_local: NaiveDateTime,
    /// Arrival.
    pub arrives: DateTime<Utc>,
}

impl Flight {
    /// Gate to gate.
    pub fn minutes(&self) -> u32 {
        u32::try_from((self.arrives - self.departs).num_minutes()).unwrap_or(0)
    }

    /// `AF123`.
    pub fn designator(&self) -> String {
        format!("{}{}", self.route.carrier.iata, self.number)
    }
}

impl Route {
    fn draw(&self, kind: &str, more: &[u8]) -> Draw {
        let (from, to) = (self.from.iata.bytes(), self.to.iata.bytes());
        Draw::of(kind, &[self.carrier.iata.as_bytes(), &from, &to, more])
    }

    /// Great-circle distance.
    pub fn km(&self) -> f64 {
        self.from.distance_km(self.to)
    }

    /// Departures of a day in minutes after local midnight, spread over the day, on multiples of five.
    pub fn slots(&self) -> Vec<u32> {
        let km = self.km();
        let count = match km {
            km if km < 1_500.0 => 5,
            km if km < 4_500.0 => 4,
            _ => 3,
        };
        let mut draw = self.draw("slots", &[]);
        let share = (LAST - FIRST) / count / 5 * 5;
        (0..count)
            .map(|part| FIRST + part * share + draw.between(0, share / 5) * 5)
            .map(|slot| slot.min(LAST))
            .collect()
    }

    /// The flight of a day at one of its slots.
    pub fn flight(&self, date: NaiveDate, slot: u32) -> Option<Flight> {
        let (departs_local, departs) = instant(self.from.zone, wall_clock(date, slot)?)?;
        let km = self.km();
        let arrives = departs.checked_add_signed(block(km))?;
        let arrives_local = arrives.with_timezone(&self.to.zone).naive_local();
        let mut draw = self.draw("flight", &slot.to_le_bytes());
        let number = if km > 4_500.0 {
            draw.between(1, 999)
        } else {
            draw.between(1_000, 7_999)
        };
        let types: &[&'static str] = match (self.carrier.kind, km) {
            (CarrierKind::Regional, _) => &["E90"],
            (_, km) if km < 1_500.0 => &["E90", "320", "738"],
            (_, km) if km < 4_500.0 => &["321", "32N"],
            _ => &["359", "789", "77W"],
        };
        let aircraft = draw.pick(types).copied()?;
        Some(Flight {
            route: *self,
            number,
            aircraft,
            km,
            departs_local,
            departs,
            arrives_local,
            arrives,
        })
    }

    /// The first flight that a traveller who lands at `arrival` can change to, if one leaves within the time for it.
    /// `slots` are this route's.
    pub fn connecting(&self, slots: &[u32], arrival: DateTime<Utc>) -> Option<Flight> {
        let landed = arrival.with_timezone(&self.from.zone).date_naive();
        let days = [Some(landed), landed.checked_add_days(Days::new(1))];
        let departures = days
            .into_iter()
            .flatten()
            .flat_map(|day| slots.iter().map(move |slot| (day, *slot)));
        // looked at before the flight is made: most leave too early or too late
        let mut in_time = departures.filter(|(day, slot)| {
            let departs = wall_clock(*day, *slot).and_then(|wall| instant(self.from.zone, wall));
            departs.is_some_and(|(_, departs)| CONNECTION.contains(&(departs - arrival).num_minutes()))
        });
        in_time.next().and_then(|(day, slot)| self.flight(day, slot))
    }
}

fn wall_clock(date: NaiveDate, slot: u32) -> Option<NaiveDateTime> {
    NaiveTime::from_num_seconds_from_midnight_opt(slot * 60, 0).map(|time| date.and_time(time))
}

/// Gate to gate: half an hour on the ground and the distance at 840 km/h, on multiples of five minutes.
#[expect(
    clippy::cast_possible_truncation,
    reason = "no distance on Earth takes more than two days"
)]
fn block(km: f64) -> TimeDelta {
    let minutes = 30.0 + km / 840.0 * 60.0;
    TimeDelta::minutes((minutes / 5.0).round() as i64 * 5)
}

/// The instant of a wall-clock time. A time that does not exist, because clocks are put forward over it, becomes the
/// first that does; of two, when clocks are put back, the first is meant.
fn instant(zone: Tz, wall: NaiveDateTime) -> Option<(NaiveDateTime, DateTime<Utc>)> {
    let shifted = (0..=8).filter_map(|quarters| wall.checked_add_signed(TimeDelta::minutes(quarters * 15)));
    let mut existing = shifted.filter_map(|local| Some((local, zone.from_local_datetime(&local).earliest()?)));
    existing
        .next()
        .map(|(local, instant)| (local, instant.with_timezone(&Utc)))
}

/// The terminal a carrier uses at an airport; smaller airports have but one.
pub fn terminal(carrier: &Carrier, airport: &Airport) -> Option<String> {
    let terminals = match airport.rank {
        850.. => 4,
        650..850 => 2,
        _ => return None,
    };
    let mut draw = Draw::of("terminal", &[carrier.iata.as_bytes(), &airport.iata.bytes()]);
    Some(draw.between(1, terminals).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::voyage::supply::reference::Reference;

    fn route(carrier: &str, from: &str, to: &str) -> Route {
        let reference = Reference::get();
        Route {
            carrier: reference.carrier(carrier).unwrap(),
            from: reference.airport(from.parse().unwrap()).unwrap(),
            to: reference.airport(to.parse().unwrap()).unwrap(),
        }
    }

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn a_flight_keeps_its_number_and_local_time_over_the_year() {
        let route = route("AF", "CDG", "JFK");
        for slot in route.slots() {
            let winter = route.flight(day("2027-01-15"), slot).unwrap();
            let summer = route.flight(day("2027-07-15"), slot).unwrap();
            assert_eq!(winter.designator(), summer.designator());
            assert_eq!(winter.departs_local.time(), summer.departs_local.time());
            // Paris is an hour further from UTC in summer
            assert_eq!(winter.departs.time() - summer.departs.time(), TimeDelta::hours(1));
        }
    }

    #[test]
    fn slots_lie_between_six_and_half_past_ten() {
        for (carrier, from, to) in [("AF", "CDG", "JFK"), ("LH", "FRA", "NCE"), ("QF", "SYD", "PER")] {
            let slots = route(carrier, from, to).slots();
            assert!(
                slots.iter().all(|slot| (FIRST..=LAST).contains(slot) && slot % 5 == 0),
                "{slots:?}"
            );
        }
    }

    #[test]
    fn local_and_utc_agree_across_the_date_line() {
        let route = route("NZ", "AKL", "LAX");
        let slot = *route.slots().last().unwrap();
        let flight = route.flight(day("2027-03-01"), slot).unwrap();
        assert!(flight.arrives > flight.departs);
        // leaves in the evening and lands earlier by the clock
        assert!(flight.arrives_local < flight.departs_local);
    }

    #[test]
    fn a_time_that_does_not_exist_becomes_the_next_that_does() {
        let gap = day("2027-03-28").and_hms_opt(2, 30, 0).unwrap();
        let (local, _) = instant(Tz::Europe__Paris, gap).unwrap();
        assert_eq!(local.time(), NaiveTime::from_hms_opt(3, 0, 0).unwrap());
    }

    #[test]
    fn connections_leave_time_to_change() {
        let route = route("AF", "CDG", "NCE");
        let landing = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let flight = route.connecting(&route.slots(), landing).unwrap();
        assert!(CONNECTION.contains(&(flight.departs - landing).num_minutes()));
    }
}
