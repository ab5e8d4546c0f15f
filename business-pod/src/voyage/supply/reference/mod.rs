//! Reference data: airports, metropolitan areas, carriers, countries (voyage §6.7), embedded and unpacked at first use.
//!
//! The blob is made by `scripts/data/reference.py`; its sources and their licences are in `business-pod/data/NOTICE.md`.
//! Everything here is read-only and lives as long as the process.

mod decode;
mod iata;

use std::{collections::HashMap, sync::LazyLock};

use chrono_tz::Tz;

pub use iata::{Iata, NotIata};

/// Traffic from which an airport has scheduled flights at all.
pub const SERVED: u16 = 100;

/// Part of the world, for carriers that fly within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Region {
    /// Africa.
    Africa,
    /// Antarctica.
    Antarctica,
    /// Asia without the Middle East.
    Asia,
    /// Europe.
    Europe,
    /// The Middle East and the Caucasus.
    MiddleEast,
    /// North and Central America and the Caribbean.
    NorthAmerica,
    /// Australia and the Pacific.
    Oceania,
    /// South America.
    SouthAmerica,
}

/// A country.
#[derive(Debug)]
pub struct Country {
    /// ISO 3166-1, two letters.
    pub code: &'static str,
    /// English short name.
    pub name: &'static str,
    /// Part of the world.
    pub region: Region,
}

/// An airport with an IATA code.
#[derive(Debug)]
pub struct Airport {
    /// `CDG`.
    pub iata: Iata,
    /// `LFPG`; empty for a few.
    pub icao: &'static str,
    /// Full name.
    pub name: &'static str,
    /// The city it serves, as travellers know it.
    pub city: &'static str,
    /// Where it lies.
    pub country: &'static Country,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// Its wall clock.
    pub zone: Tz,
    /// 0 to 1000: how much traffic; below [`SERVED`] there are no scheduled flights.
    pub rank: u16,
    /// The code of its metropolitan area, if it belongs to one.
    pub metro: Option<Iata>,
}

impl Airport {
    /// The code of its city: the metropolitan area's or its own.
    pub fn city_code(&self) -> Iata {
        self.metro.unwrap_or(self.iata)
    }

    /// Great-circle distance in kilometres.
    pub fn distance_km(&self, other: &Self) -> f64 {
        let (from, to) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half_dlat = (to - from) / 2.0;
        let half_dlon = (other.longitude - self.longitude).to_radians() / 2.0;
        let chord = half_dlat.sin().powi(2) + from.cos() * to.cos() * half_dlon.sin().powi(2);
        2.0 * 6_371.0 * chord.sqrt().min(1.0).asin()
    }
}

/// A city with several airports.
#[derive(Debug)]
pub struct Metro {
    /// `PAR`; may equal the code of one of its airports.
    pub code: Iata,
    /// `Paris`.
    pub name: &'static str,
    /// Its airports, busiest first; never empty.
    pub airports: Vec<&'static Airport>,
}

/// How a carrier does business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CarrierKind {
    /// All cabins, connections at its hubs.
    Full,
    /// Economy, from point to point.
    Low,
    /// Economy, small aircraft, around its hubs.
    Regional,
}

/// An airline.
#[derive(Debug)]
pub struct Carrier {
    /// `AF`.
    pub iata: &'static str,
    /// `AFR`.
    pub icao: &'static str,
    /// `Air France`.
    pub name: &'static str,
    /// Where it is at home.
    pub country: &'static Country,
    /// How it does business.
    pub kind: CarrierKind,
    /// Where its flights meet, the main one first; never empty.
    pub hubs: Vec<&'static Airport>,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Reference {
    countries: &'static [Country],
    airports: Vec<&'static Airport>,
    metros: Vec<Metro>,
    carriers: Vec<Carrier>,
    aliases: Vec<(&'static str, Iata)>,
    /// Positions in `carriers`, in order, by hub.
    at_hub: HashMap<Iata, Vec<usize>>,
}

static REFERENCE: LazyLock<Reference> = LazyLock::new(|| {
    decode::embedded().unwrap_or_else(|error| {
        // a test reads the whole blob, so a build that passed cannot come here
        tracing::error!(
            error = format!("{error:#}"),
            "embedded reference data could not be read"
        );
        Reference::default()
    })
});

impl Reference {
    /// The data; unpacked by the first caller (some milliseconds).
    pub fn get() -> &'static Self {
        &REFERENCE
    }

    /// Every country, in the order of their codes.
    pub const fn countries(&self) -> &'static [Country] {
        self.countries
    }

    /// Every airport, in the order of their codes.
    pub fn airports(&self) -> &[&'static Airport] {
        &self.airports
    }

    /// The airport with this code.
    pub fn airport(&self, code: Iata) -> Option<&'static Airport> {
        let position = self.airports.binary_search_by_key(&code, |airport| airport.iata).ok()?;
        self.airports.get(position).copied()
    }

    /// Every metropolitan area, in the order of their codes.
    pub fn metros(&self) -> &[Metro] {
        &self.metros
    }

    /// The metropolitan area with this code.
    pub fn metro(&self, code: Iata) -> Option<&Metro> {
        let position = self.metros.binary_search_by_key(&code, |metro| metro.code).ok()?;
        self.metros.get(position)
    }

    /// Every carrier, in the order of their codes.
    pub fn carriers(&self) -> &[Carrier] {
        &self.carriers
    }

    /// The carrier with this IATA code.
    pub fn carrier(&self, iata: &str) -> Option<&Carrier> {
        let position = self.carriers.binary_search_by_key(&iata, |carrier| carrier.iata).ok()?;
        self.carriers.get(position)
    }

    /// Carriers with a hub at an airport, in the order of their codes.
    pub fn carriers_at(&self, hub: Iata) -> impl Iterator<Item = &Carrier> {
        let positions = self.at_hub.get(&hub).map(Vec::as_slice).unwrap_or_default();
        positions.iter().filter_map(|position| self.carriers.get(*position))
    }

    /// Other names of places (plain text as in [`super::text::plain`]) and the code each means.
    pub fn aliases(&self) -> &[(&'static str, Iata)] {
        &self.aliases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_data_is_whole() {
        let reference = decode::embedded().unwrap();
        assert!(reference.airports.len() > 7_800, "{}", reference.airports.len());
        assert!(reference.carriers.len() >= 150);
        assert!(reference.metros.iter().all(|metro| !metro.airports.is_empty()));
        assert!(reference.carriers.iter().all(|carrier| !carrier.hubs.is_empty()));
        assert!(reference.airports.is_sorted_by_key(|airport| airport.iata));
        assert!(reference.carriers.is_sorted_by_key(|carrier| carrier.iata));
    }

    #[test]
    fn airports_know_where_and_when_they_are() {
        let reference = Reference::get();
        let paris = reference.airport("CDG".parse().unwrap()).unwrap();
        let york = reference.airport("JFK".parse().unwrap()).unwrap();
        assert_eq!(
            (paris.zone, paris.country.code, paris.city),
            (Tz::Europe__Paris, "FR", "Paris")
        );
        assert_eq!(paris.city_code().to_string(), "PAR");
        assert!(
            (paris.distance_km(york) - 5_834.0).abs() < 20.0,
            "{}",
            paris.distance_km(york)
        );
        let at_paris: Vec<_> = reference.carriers_at(paris.iata).map(|carrier| carrier.iata).collect();
        assert!(at_paris.contains(&"AF"), "{at_paris:?}");
    }

    #[test]
    fn the_embedded_data_stays_small() {
        assert!(decode::packed_size() < 1_000_000);
    }
}
