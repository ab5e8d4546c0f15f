//! The invented network: who flies where, and the journeys of a day between two airports.
//!
//! Carriers fly between their hubs and other airports. Between airports that are nobody's hub, carriers of either
//! country fly directly if both are busy; else one changes planes at a hub, and rarely twice. Every leg of a connection
//! is a service that is also sold directly, and whether it exists does not depend on the direction.

use std::collections::HashMap;

use chrono::NaiveDate;

use super::{
    random::Draw,
    schedule::{Flight, Route},
};
use crate::voyage::supply::reference::{Airport, Carrier, CarrierKind, Reference, SERVED};

/// The longest direct flight that is sold.
const LONGEST_DIRECT_KM: f64 = 9_500.0;
/// How much longer than the great circle a journey may be.
pub const DETOUR: f64 = 1.35;
/// The most journeys of a day; ids have four bits for the place in the list.
pub const MOST: usize = 14;
/// Fewer than this, and journeys with two changes are looked for.
const FEW: usize = 4;

/// A journey in one direction on one day.
#[derive(Debug, Clone)]
pub struct Itinerary {
    /// In order of travel; never empty.
    pub flights: Vec<Flight>,
}

impl Itinerary {
    /// From the first departure to the last arrival.
    pub fn minutes(&self) -> u32 {
        let (Some(first), Some(last)) = (self.flights.first(), self.flights.last()) else {
            return 0;
        };
        u32::try_from((last.arrives - first.departs).num_minutes()).unwrap_or(0)
    }

    /// Who sells it: the carrier of the first flight.
    pub fn carrier(&self) -> Option<&'static Carrier> {
        self.flights.first().map(|flight| flight.route.carrier)
    }
}

/// The journeys of a day, in order of departure. In the forward cabins only carriers that have them.
pub fn itineraries(from: &'static Airport, to: &'static Airport, date: NaiveDate, premium: bool) -> Vec<Itinerary> {
    let km = from.distance_km(to);
    if from.iata == to.iata || from.rank < SERVED || to.rank < SERVED || km < 60.0 {
        return Vec::new();
    }
    let search = Search {
        from,
        to,
        km,
        date,
        premium,
    };
    let mut draw = Draw::of("count", &[&from.iata.bytes(), &to.iata.bytes()]);
    let wanted =
        usize::try_from((u32::from(from.rank) + u32::from(to.rank)) / 250 + 4 + draw.between(0, 2)).unwrap_or(MOST);
    let wanted = wanted.min(MOST);

    let mut direct = search.direct();
    let mut changing = if direct.len() >= FEW && km < 1_000.0 {
        Vec::new()
    } else {
        search.one_change()
    };
    if direct.len() + changing.len() < FEW {
        changing.extend(search.two_changes());
    }
    // two thirds direct where there are so many, the rest with a change, so that there is a choice
    let most_direct = wanted.saturating_sub(changing.len()).max(wanted * 2 / 3);
    direct.truncate(most_direct);
    changing.truncate(wanted.saturating_sub(direct.len()));
    let mut found = direct;
    found.append(&mut changing);
    found.sort_by_cached_key(|itinerary| {
        let first = itinerary.flights.first();
        let names: Vec<String> = itinerary.flights.iter().map(Flight::designator).collect();
        (first.map(|flight| flight.departs), itinerary.minutes(), names)
    });
    found
}

struct Search {
    from: &'static Airport,
    to: &'static Airport,
    km: f64,
    date: NaiveDate,
    premium: bool,
}

impl Search {
    fn suits(&self, carrier: &Carrier) -> bool {
        !self.premium || carrier.kind == CarrierKind::Full
    }

    /// Direct flights: of each carrier its first departures, busier carriers of the two countries first.
    fn direct(&self) -> Vec<Itinerary> {
        if self.km > LONGEST_DIRECT_KM {
            return Vec::new();
        }
        let reference = Reference::get();
        let at_either = reference
            .carriers_at(self.from.iata)
            .chain(reference.carriers_at(self.to.iata));
        let mut carriers: Vec<&'static Carrier> = at_either.filter(|carrier| self.suits(carrier)).collect();
        carriers.retain(|carrier| serves(carrier, self.from, self.to));
        if carriers.is_empty() && self.from.rank.min(self.to.rank) >= 400 && self.km < 4_500.0 {
            carriers = self.network_carriers();
        }
        Self::by_preference(&mut carriers, self.from, self.to);
        carriers.dedup_by_key(|carrier| carrier.iata);

        let routes: Vec<(Route, Vec<u32>)> = carriers
            .iter()
            .map(|carrier| {
                let route = Route {
                    carrier,
                    from: self.from,
                    to: self.to,
                };
                let mut slots = route.slots();
                // begin anywhere in the day, or of every carrier only the early flights would be seen
                let first = Draw::of(
                    "first",
                    &[carrier.iata.as_bytes(), &self.from.iata.bytes(), &self.to.iata.bytes()],
                )
                .bits();
                let turn = usize::try_from(first % 5).unwrap_or(0) % slots.len().max(1);
                slots.rotate_left(turn);
                (route, slots)
            })
            .collect();
        // one departure of every carrier, then the second of every carrier, …
        let most = routes.iter().map(|(_, slots)| slots.len()).max().unwrap_or(0);
        let turns = (0..most).flat_map(|turn| {
            routes
                .iter()
                .filter_map(move |(route, slots)| Some((route, *slots.get(turn)?)))
        });
        let flights = turns.filter_map(|(route, slot)| route.flight(self.date, slot));
        flights
            .map(|flight| Itinerary { flights: vec![flight] })
            .take(MOST)
            .collect()
    }

    /// Carriers without a hub at either end: of either country first, else of the region.
    fn network_carriers(&self) -> Vec<&'static Carrier> {
        let reference = Reference::get();
        let home = [self.from.country.code, self.to.country.code];
        let regions = [self.from.country.region, self.to.country.region];
        let of = |wanted: &dyn Fn(&Carrier) -> bool| -> Vec<&'static Carrier> {
            let suitable = reference
                .carriers()
                .iter()
                .filter(|carrier| carrier.kind != CarrierKind::Regional && self.suits(carrier));
            suitable.filter(|carrier| wanted(carrier)).collect()
        };
        let mut carriers = of(&|carrier| home.contains(&carrier.country.code));
        if carriers.is_empty() {
            carriers = of(&|carrier| regions.contains(&carrier.country.region));
        }
        Self::by_preference(&mut carriers, self.from, self.to);
        carriers.truncate(3);
        carriers
    }

    /// Carriers of the two countries first, then by chance; the same for both directions.
    fn by_preference(carriers: &mut [&'static Carrier], from: &Airport, to: &Airport) {
        carriers.sort_by_cached_key(|carrier| {
            let foreign = carrier.country.code != from.country.code && carrier.country.code != to.country.code;
            (foreign, pair("preference", carrier, from, to).bits(), carrier.iata)
        });
    }

    /// Journeys with one change, the quickest first, no more than two by the same carrier through the same hub.
    fn one_change(&self) -> Vec<Itinerary> {
        let mut found = Vec::new();
        for (carrier, hub) in self.ways() {
            if found.len() >= MOST {
                break;
            }
            let first = Route {
                carrier,
                from: self.from,
                to: hub,
            };
            let second = Route {
                carrier,
                from: hub,
                to: self.to,
            };
            found.extend(self.connect(&[first, second]).into_iter().take(2));
        }
        found.sort_by_key(|itinerary| {
            (
                itinerary.minutes(),
                itinerary.flights.first().map(|flight| flight.departs),
            )
        });
        found
    }

    /// Carriers and hubs to change at, the most natural first.
    fn ways(&self) -> Vec<(&'static Carrier, &'static Airport)> {
        let mut ways: Vec<(u64, &'static Carrier, &'static Airport)> = Vec::new();
        for carrier in Reference::get().carriers().iter().filter(|carrier| self.suits(carrier)) {
            if carrier.kind == CarrierKind::Low && self.km > 3_000.0 {
                continue;
            }
            for hub in &carrier.hubs {
                let way = self.from.distance_km(hub) + hub.distance_km(self.to);
                if way > self.km * DETOUR || !serves(carrier, self.from, hub) || !serves(carrier, hub, self.to) {
                    continue;
                }
                let home = [self.from.country.code, self.to.country.code].contains(&carrier.country.code);
                let mut draw = pair("way", carrier, self.from, self.to);
                let length = way / self.km * if home { 0.85 } else { 1.0 };
                let weight = length + draw.within(0.0, 0.15) - f64::from(hub.rank) / 2_000.0;
                // whole numbers sort without surprises
                ways.push((thousandths(weight), carrier, hub));
            }
        }
        ways.sort_by_key(|(weight, carrier, hub)| (*weight, carrier.iata, hub.iata));
        ways.into_iter()
            .map(|(_, carrier, hub)| (carrier, hub))
            .take(24)
            .collect()
    }

    /// Journeys with two changes: a feeder to a hub near the start, a trunk flight, a feeder from a hub near the end.
    fn two_changes(&self) -> Vec<Itinerary> {
        let near = |airport: &'static Airport| self.feeders(airport);
        let (starts, ends) = (near(self.from), near(self.to));
        let mut found: Vec<Itinerary> = Vec::new();
        for (feeder, first_hub) in &starts {
            for (collector, last_hub) in &ends {
                let trunk_km = first_hub.distance_km(last_hub);
                let way = self.from.distance_km(first_hub) + trunk_km + last_hub.distance_km(self.to);
                if first_hub.iata == last_hub.iata || way > self.km * DETOUR {
                    continue;
                }
                let trunk = [feeder, collector]
                    .into_iter()
                    .find(|carrier| serves(carrier, first_hub, last_hub));
                let Some(trunk) = trunk else { continue };
                let routes = [
                    Route {
                        carrier: feeder,
                        from: self.from,
                        to: first_hub,
                    },
                    Route {
                        carrier: trunk,
                        from: first_hub,
                        to: last_hub,
                    },
                    Route {
                        carrier: collector,
                        from: last_hub,
                        to: self.to,
                    },
                ];
                found.extend(self.connect(&routes).into_iter().take(1));
                if found.len() >= FEW * 2 {
                    break;
                }
            }
        }
        found.sort_by_key(|itinerary| {
            (
                itinerary.minutes(),
                itinerary.flights.first().map(|flight| flight.departs),
            )
        });
        found.truncate(FEW);
        found
    }

    /// Services between an airport and hubs, the nearest and busiest hubs first.
    fn feeders(&self, airport: &'static Airport) -> Vec<(&'static Carrier, &'static Airport)> {
        let mut nearest: HashMap<(&str, _), (u64, &'static Carrier, &'static Airport)> = HashMap::new();
        for carrier in Reference::get().carriers().iter().filter(|carrier| self.suits(carrier)) {
            for hub in carrier.hubs.iter().filter(|hub| serves(carrier, airport, hub)) {
                let weight = thousandths(airport.distance_km(hub) / f64::from(hub.rank.max(1)));
                nearest.insert((carrier.iata, hub.iata), (weight, carrier, hub));
            }
        }
        let mut feeders: Vec<_> = nearest.into_values().collect();
        feeders.sort_by_key(|(weight, carrier, hub)| (*weight, carrier.iata, hub.iata));
        feeders
            .into_iter()
            .map(|(_, carrier, hub)| (carrier, hub))
            .take(12)
            .collect()
    }

    /// The journeys over these routes that leave on the day, each change as short as the schedule allows.
    fn connect(&self, routes: &[Route]) -> Vec<Itinerary> {
        let Some((first, others)) = routes.split_first() else {
            return Vec::new();
        };
        let others: Vec<(&Route, Vec<u32>)> = others.iter().map(|route| (route, route.slots())).collect();
        let departures = first
            .slots()
            .into_iter()
            .filter_map(|slot| first.flight(self.date, slot));
        let journeys = departures.filter_map(|flight| {
            let mut arrival = flight.arrives;
            let mut flights = vec![flight];
            for (route, slots) in &others {
                let next = route.connecting(slots, arrival)?;
                arrival = next.arrives;
                flights.push(next);
            }
            Some(Itinerary { flights })
        });
        // of journeys that end with the same flight only the latest to leave makes sense
        let mut kept: Vec<Itinerary> = Vec::new();
        for journey in journeys {
            let last = |itinerary: &Itinerary| itinerary.flights.last().map(|flight| flight.departs);
            kept.retain(|other| last(other) != last(&journey));
            kept.push(journey);
        }
        kept
    }
}

/// Whether a carrier flies between two airports, one of which must be its hub. The same in both directions.
pub fn serves(carrier: &Carrier, one: &Airport, other: &Airport) -> bool {
    if one.iata == other.iata || one.rank < SERVED || other.rank < SERVED {
        return false;
    }
    let is_hub = |airport: &Airport| carrier.hubs.iter().any(|hub| hub.iata == airport.iata);
    let spoke = match (is_hub(one), is_hub(other)) {
        (true, true) => return one.distance_km(other) >= 60.0,
        (true, false) => other,
        (false, true) => one,
        (false, false) => return false,
    };
    let km = one.distance_km(other);
    let by_carrier = match carrier.kind {
        CarrierKind::Full => 14_500.0,
        CarrierKind::Low => 5_500.0,
        CarrierKind::Regional => 1_600.0,
    };
    let by_spoke = match spoke.rank {
        700.. => 14_500.0,
        400..700 => 11_000.0,
        280..400 => 4_500.0,
        _ => 2_500.0,
    };
    if !(60.0..=f64::min(by_carrier, by_spoke)).contains(&km) {
        return false;
    }
    let at_home = spoke.country.code == carrier.country.code;
    let in_region = spoke.country.region == carrier.country.region;
    let often = match (carrier.kind, spoke.rank) {
        (CarrierKind::Full, 400..) if at_home || in_region => 92,
        (CarrierKind::Full, 700..) => 85,
        (_, 400..) => 60,
        _ if at_home => 90,
        _ if in_region => 35,
        _ => 15,
    };
    pair("serves", carrier, one, other).percent(often)
}

/// Chance that does not depend on the direction.
fn pair(kind: &str, carrier: &Carrier, one: &Airport, other: &Airport) -> Draw {
    let (low, high) = (one.iata.min(other.iata).bytes(), one.iata.max(other.iata).bytes());
    Draw::of(kind, &[carrier.iata.as_bytes(), &low, &high])
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "weights are small and positive"
)]
fn thousandths(weight: f64) -> u64 {
    (weight.max(0.0) * 1_000.0).round() as u64
}
