//! What a client means by an origin or a destination: a code, or a name (voyage §6.6).

use super::{PlaceIndex, PlaceKind, PlaceQuery, index::Match};
use crate::voyage::supply::{
    reference::{Airport, Iata, Reference},
    text::plain,
};

/// A place of departure or arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The code that stands for it: the one given, or the metropolitan area's or airport's that a name means.
    pub code: Iata,
    /// Its airports, busiest first. Empty for a code that nothing has: a search for it finds nothing, which is no error.
    pub airports: Vec<Iata>,
}

/// The text is neither a code nor the name of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such place")]
pub struct Unresolvable;

/// Resolves `CDG`, `par`, `Paris`, `Paris, France`, `Charles de Gaulle`.
pub fn resolve(text: &str) -> Result<Resolved, Unresolvable> {
    let trimmed = text.trim();
    if let Ok(code) = trimmed.parse::<Iata>() {
        return Ok(by_code(code));
    }
    let (name, country) = match trimmed.split_once(',') {
        Some((name, rest)) => (plain(name), rest.rsplit(',').next().map(plain).unwrap_or_default()),
        None => (plain(trimmed), String::new()),
    };
    if name.chars().count() < 2 || !name.chars().any(char::is_alphabetic) {
        return Err(Unresolvable);
    }
    let query = PlaceQuery {
        keyword: name,
        airports: true,
        cities: true,
        country: None,
        limit: 40,
    };
    let found = PlaceIndex::get().find(&query);
    // "Paris, Texas" is rare, "Paris, France" is common: the country decides among equally good names, if it is one
    let best = found
        .iter()
        .map(|(quality, _)| *quality)
        .filter(|quality| *quality > Match::Code)
        .min();
    let in_country = |airport: &Airport| {
        !country.is_empty()
            && (plain(airport.country.name) == country || airport.country.code.eq_ignore_ascii_case(&country))
    };
    let named = || {
        found
            .iter()
            .filter(|(quality, _)| Some(*quality) == best || *quality <= Match::Whole)
    };
    let chosen = named().find(|(_, place)| in_country(place.main));
    let chosen = chosen
        .or_else(|| named().find(|(_, place)| place.kind == PlaceKind::City))
        .or_else(|| named().next());
    let (_, place) = chosen.ok_or(Unresolvable)?;
    let reference = Reference::get();
    let metro = reference.metro(place.code).filter(|_| place.kind == PlaceKind::City);
    let airports = match metro {
        Some(metro) => codes(&metro.airports),
        None => vec![place.code],
    };
    Ok(Resolved {
        code: place.code,
        airports,
    })
}

/// A metropolitan code means its airports. Where an airport has the same code, it means that airport if it is the main
/// one (`IST`, `BKK`), else the whole city (`HOU`, `SHA`), whose main airport has another code.
fn by_code(code: Iata) -> Resolved {
    let reference = Reference::get();
    let metro = reference.metro(code);
    let is_main = metro
        .and_then(|metro| metro.airports.first())
        .is_some_and(|main| main.iata == code);
    let airports = match (metro, reference.airport(code)) {
        (Some(metro), _) if !is_main => codes(&metro.airports),
        (_, Some(airport)) => vec![airport.iata],
        _ => Vec::new(),
    };
    Resolved { code, airports }
}

fn codes(airports: &[&Airport]) -> Vec<Iata> {
    airports.iter().map(|airport| airport.iata).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(text: &str) -> (String, Vec<String>) {
        let resolved = resolve(text).unwrap();
        (
            resolved.code.to_string(),
            resolved.airports.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn codes_mean_themselves_in_any_case() {
        assert_eq!(meaning("cdg"), ("CDG".to_owned(), vec!["CDG".to_owned()]));
        assert_eq!(meaning("IST").1, ["IST"]);
        assert_eq!(meaning("QQQ").1, Vec::<String>::new());
    }

    #[test]
    fn a_metropolitan_code_means_all_its_airports() {
        assert_eq!(meaning("PAR").1, ["CDG", "ORY", "BVA"]);
        assert_eq!(meaning("HOU").1.first().map(String::as_str), Some("IAH"));
    }

    #[test]
    fn names_mean_cities_and_cities_their_metropolitan_code() {
        for text in ["Paris", "PARIS", "Paris, France", " paris ,  FR"] {
            assert_eq!(meaning(text).0, "PAR", "{text}");
        }
        assert_eq!(meaning("New York").0, "NYC");
        assert_eq!(meaning("Londres").0, "LON");
        assert_eq!(meaning("Nice").0, "NCE");
        assert_eq!(meaning("Tokyo, Japan").0, "TYO");
        assert_eq!(meaning("London, Canada").0, "YXU");
        assert_eq!(meaning("Heathrow").0, "LHR");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", " ", "x", "zzzzqqqq", "12", "!!!", ",France"] {
            assert!(resolve(text).is_err(), "{text}");
        }
    }
}
