//! Airports and cities as travellers name them: suggestions while typing, names turned into codes, codes into names.
//!
//! contract: voyage §4.4 (Location), §6.6 (resolution), §2.4 (codes and names)

mod index;
mod resolve;

use serde::Serialize;
use utoipa::ToSchema;

pub use index::PlaceIndex;
pub use resolve::{Resolved, Unresolvable, resolve};

use super::reference::{Airport, Iata, Metro, Reference};

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PlaceQuery {
    /// A code, a name or the beginning of one, as plain text ([`super::text::plain`]).
    pub keyword: String,
    /// Whether airports are wanted.
    pub airports: bool,
    /// Whether cities are wanted.
    pub cities: bool,
    /// Only in this country: ISO 3166-1, upper case.
    pub country: Option<String>,
    /// The most places returned.
    pub limit: usize,
}

/// What a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum PlaceKind {
    /// One airport.
    Airport,
    /// A city, with all its airports.
    City,
}

/// An airport or a city, as the contract shows it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// `ACDG` for an airport, `CPAR` for a city.
    pub id: String,
    /// Always `location`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Airport or city.
    pub sub_type: PlaceKind,
    /// Its code.
    #[schema(value_type = String)]
    pub iata_code: Iata,
    /// The code of its city.
    #[schema(value_type = String)]
    pub city_code: Iata,
    /// `Charles de Gaulle International Airport`, `Paris`.
    pub name: &'static str,
    /// `Paris, France: Charles de Gaulle International Airport`.
    pub detailed_name: String,
    /// ISO 3166-1.
    pub country: &'static str,
    /// The same, under the name that some pages read.
    pub country_code: &'static str,
    /// Where it lies.
    pub coordinates: Coordinates,
    /// The same, under the name that some pages read.
    pub geo_code: Coordinates,
    /// IANA name.
    pub time_zone: &'static str,
    /// City and country by name.
    pub address: Address,
    /// 0 to 1: how much traffic.
    pub relevance: f64,
}

/// A point on Earth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Coordinates {
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
}

/// City and country by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// English name.
    pub city_name: &'static str,
    /// English name.
    pub country_name: &'static str,
}

impl Location {
    /// An airport.
    pub fn airport(airport: &'static Airport) -> Self {
        Self::new(PlaceKind::Airport, airport.iata, airport.name, airport.city, airport)
    }

    /// A city, lying where its main airport lies.
    pub fn city(code: Iata, name: &'static str, main: &'static Airport) -> Self {
        Self::new(PlaceKind::City, code, name, name, main)
    }

    fn new(sub_type: PlaceKind, code: Iata, name: &'static str, city: &'static str, airport: &'static Airport) -> Self {
        let point = Coordinates {
            latitude: airport.latitude,
            longitude: airport.longitude,
        };
        let (letter, detailed_name) = match sub_type {
            PlaceKind::Airport => ('A', format!("{city}, {}: {name}", airport.country.name)),
            PlaceKind::City => ('C', format!("{city}, {}", airport.country.name)),
        };
        Self {
            id: format!("{letter}{code}"),
            kind: "location",
            sub_type,
            iata_code: code,
            city_code: airport.city_code(),
            name,
            detailed_name,
            country: airport.country.code,
            country_code: airport.country.code,
            coordinates: point,
            geo_code: point,
            time_zone: airport.zone.name(),
            address: Address {
                city_name: city,
                country_name: airport.country.name,
            },
            relevance: f64::from(airport.rank) / 1_000.0,
        }
    }
}

/// What a code stands for: the public lookup for other services.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlaceName {
    /// The code that was asked for.
    pub code: Iata,
    /// The airport's or the city's name.
    pub name: &'static str,
    /// The city's name.
    pub city: &'static str,
    /// ISO 3166-1.
    pub country_code: &'static str,
    /// English name.
    pub country: &'static str,
    /// Where it lies; a city lies where its main airport does.
    pub coordinates: Coordinates,
    /// IANA name.
    pub time_zone: &'static str,
}

/// What a code of an airport or a metropolitan area stands for. For a code that is both, the city is meant.
pub fn name_of(code: &str) -> Option<PlaceName> {
    let reference = Reference::get();
    let code: Iata = code.trim().parse().ok()?;
    let metro: Option<&Metro> = reference.metro(code);
    let airport = match metro {
        Some(metro) => *metro.airports.first()?,
        None => reference.airport(code)?,
    };
    Some(PlaceName {
        code,
        name: metro.map_or(airport.name, |metro| metro.name),
        city: metro.map_or(airport.city, |metro| metro.name),
        country_code: airport.country.code,
        country: airport.country.name,
        coordinates: Coordinates {
            latitude: airport.latitude,
            longitude: airport.longitude,
        },
        time_zone: airport.zone.name(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_a_name_a_city_and_a_country() {
        let airport = name_of("cdg").unwrap();
        assert_eq!(
            (airport.city, airport.country, airport.country_code),
            ("Paris", "France", "FR")
        );
        let city = name_of("NYC").unwrap();
        assert_eq!(
            (city.name, city.city, city.time_zone),
            ("New York", "New York", "America/New_York")
        );
        assert!(name_of("QQQ").is_none());
        assert!(name_of("Paris").is_none());
    }
}
