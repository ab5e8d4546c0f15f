//! The search index over airports and cities: exact code, then beginnings of names, then words, then near misses; among
//! equals the busier place first.

use std::{cmp::Reverse, collections::HashMap, sync::LazyLock};

use super::{Location, PlaceKind, PlaceQuery};
use crate::voyage::supply::{
    reference::{Airport, Iata, Reference},
    text::plain,
};

/// One place that can be found.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Airport or city.
    pub kind: PlaceKind,
    /// Its code.
    pub code: Iata,
    /// The city's name, or the airport's.
    pub name: &'static str,
    /// The airport, or the main one of the city.
    pub main: &'static Airport,
}

impl Place {
    /// As the contract shows it.
    pub fn location(&self) -> Location {
        match self.kind {
            PlaceKind::Airport => Location::airport(self.main),
            PlaceKind::City => Location::city(self.code, self.name, self.main),
        }
    }
}

/// How well a place matches; the lower, the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// Its code.
    Code,
    /// Its whole name, its city's, or a whole other name.
    Whole,
    /// The beginning of its name, or of its city's.
    Prefix,
    /// The beginning of a word of its name.
    Token,
    /// Nearly.
    Fuzzy,
}

/// All places and the words they are found by. Built once, some megabytes less than the text it points into.
#[derive(Debug)]
pub struct PlaceIndex {
    places: Vec<Place>,
    /// Plain names, each with the place and how good a match on its beginning is; in alphabetical order.
    names: Vec<(String, u32, Match)>,
    by_code: HashMap<(PlaceKind, Iata), u32>,
    /// Plain names of cities (and their aliases), for near misses; in alphabetical order, without repetitions.
    cities: Vec<(String, u32)>,
}

static INDEX: LazyLock<PlaceIndex> = LazyLock::new(|| PlaceIndex::build(Reference::get()));

impl PlaceIndex {
    /// The index over the embedded data; built by the first caller.
    pub fn get() -> &'static Self {
        &INDEX
    }

    fn build(reference: &'static Reference) -> Self {
        let mut index = Self {
            places: Vec::new(),
            names: Vec::new(),
            by_code: HashMap::new(),
            cities: Vec::new(),
        };
        // cities first: of two equally good matches the city, which has all the airports, is offered first
        let mut single: HashMap<(&str, &str), &'static Airport> = HashMap::new();
        for airport in reference
            .airports()
            .iter()
            .copied()
            .filter(|airport| airport.metro.is_none())
        {
            let main = single.entry((airport.country.code, airport.city)).or_insert(airport);
            if airport.rank > main.rank {
                *main = airport;
            }
        }
        let mut mains: Vec<_> = single.into_values().collect();
        mains.sort_by_key(|airport| airport.iata);
        for metro in reference.metros() {
            if let Some(main) = metro.airports.first() {
                index.add(PlaceKind::City, metro.code, metro.name, main);
            }
        }
        for main in mains {
            index.add(PlaceKind::City, main.iata, main.city, main);
        }
        for airport in reference.airports().iter().copied() {
            index.add(PlaceKind::Airport, airport.iata, airport.name, airport);
        }
        for (alias, code) in reference.aliases() {
            let found = index.by_code.get(&(PlaceKind::City, *code));
            let found = found.or_else(|| {
                index
                    .by_code
                    .get(&(PlaceKind::City, reference.airport(*code)?.city_code()))
            });
            if let Some(position) = found.copied() {
                index.names.push(((*alias).to_owned(), position, Match::Prefix));
                index.cities.push(((*alias).to_owned(), position));
            }
        }
        index.names.sort();
        index.names.dedup();
        index.cities.sort();
        index.cities.dedup();
        index
    }

    fn add(&mut self, kind: PlaceKind, code: Iata, name: &'static str, main: &'static Airport) {
        let Ok(position) = u32::try_from(self.places.len()) else {
            return;
        };
        self.places.push(Place { kind, code, name, main });
        self.by_code.insert((kind, code), position);
        let plain_name = plain(name);
        for (start, _) in plain_name.match_indices(' ') {
            if let Some(rest) = plain_name.get(start + 1..) {
                self.names.push((rest.to_owned(), position, Match::Token));
            }
        }
        match kind {
            PlaceKind::City => self.cities.push((plain_name.clone(), position)),
            // an airport is found by its city as by its own name
            PlaceKind::Airport => self.names.push((plain(main.city), position, Match::Prefix)),
        }
        self.names.push((plain_name, position, Match::Prefix));
    }

    /// The place with this code.
    pub fn by_code(&self, kind: PlaceKind, code: Iata) -> Option<Place> {
        let position = self.by_code.get(&(kind, code))?;
        self.place(*position)
    }

    fn place(&self, position: u32) -> Option<Place> {
        self.places.get(usize::try_from(position).ok()?).copied()
    }

    /// The places that match, best first. `Paris, France` is looked up as `paris`, and among several by the country.
    pub fn find(&self, query: &PlaceQuery) -> Vec<(Match, Place)> {
        let keyword = query.keyword.as_str();
        if keyword.is_empty() || query.limit == 0 {
            return Vec::new();
        }
        let mut matches: Vec<(u32, Match)> = Vec::new();
        if let Ok(code) = keyword.parse::<Iata>() {
            let positions = self.by_exact_code(code, query).into_iter();
            matches.extend(positions.map(|position| (position, Match::Code)));
        }
        let first = self.names.partition_point(|(name, ..)| name.as_str() < keyword);
        let names = self.names.iter().skip(first);
        let begun = names.take_while(|(name, ..)| name.starts_with(keyword));
        matches.extend(begun.map(|(name, position, quality)| {
            // a whole name counts more than a beginning, whichever word it begins with
            let whole = name.len() == keyword.len() && *quality == Match::Prefix;
            (*position, if whole { Match::Whole } else { *quality })
        }));
        if matches.is_empty() {
            let positions = self.near_misses(keyword).into_iter();
            matches.extend(positions.map(|position| (position, Match::Fuzzy)));
        }
        // of each place its best match
        matches.sort_unstable();
        matches.dedup_by_key(|(position, _)| *position);
        let places = matches
            .into_iter()
            .filter_map(|(position, quality)| Some((quality, self.place(position)?)));
        let mut found: Vec<(Match, Place)> = places.filter(|(_, place)| query.wants(place)).collect();
        found.sort_unstable_by_key(|(quality, place)| {
            let is_airport = place.kind == PlaceKind::Airport;
            (*quality, Reverse(place.main.rank), is_airport, place.code)
        });
        found.truncate(query.limit);
        found
    }

    /// Places with this code. Where only cities are wanted, an airport's code means its city.
    fn by_exact_code(&self, code: Iata, query: &PlaceQuery) -> Vec<u32> {
        let mut positions: Vec<u32> = Vec::new();
        positions.extend(self.by_code.get(&(PlaceKind::City, code)));
        positions.extend(self.by_code.get(&(PlaceKind::Airport, code)));
        let reference = Reference::get();
        if let Some(airport) = reference.airport(code).filter(|_| query.cities && !query.airports) {
            let city = self.by_code.get(&(PlaceKind::City, airport.city_code())).copied();
            positions.extend(city.or_else(|| self.city_named(airport)));
        }
        if let Some(metro) = reference.metro(code).filter(|_| query.airports) {
            // asked for a city's code, its airports are what is meant
            positions.extend(
                metro
                    .airports
                    .iter()
                    .filter_map(|airport| self.by_code.get(&(PlaceKind::Airport, airport.iata))),
            );
        }
        positions
    }

    /// The city of an airport that is not its main one.
    fn city_named(&self, airport: &Airport) -> Option<u32> {
        let name = plain(airport.city);
        let first = self.cities.partition_point(|(city, _)| *city < name);
        let same_name = self.cities.iter().skip(first).take_while(|(city, _)| *city == name);
        let same_country = |position: &u32| {
            self.place(*position)
                .is_some_and(|place| place.main.country.code == airport.country.code)
        };
        same_name.map(|(_, position)| *position).find(same_country)
    }

    /// Cities whose name differs by one typing error, by two for long names.
    fn near_misses(&self, keyword: &str) -> Vec<u32> {
        let signs: Vec<char> = keyword.chars().collect();
        let allowed = match signs.len() {
            0..4 => return Vec::new(),
            4..8 => 1,
            _ => 2,
        };
        let mut rows = Rows::default();
        let mut nearest: Vec<(usize, u32)> = Vec::new();
        for (name, position) in &self.cities {
            let distance = rows.distance(&signs, name, allowed);
            if let Some(distance) = distance {
                nearest.push((distance, *position));
            }
        }
        let least = nearest.iter().map(|(distance, _)| *distance).min();
        nearest
            .into_iter()
            .filter(|(distance, _)| Some(*distance) == least)
            .map(|(_, position)| position)
            .collect()
    }
}

impl PlaceQuery {
    fn wants(&self, place: &Place) -> bool {
        let kind = match place.kind {
            PlaceKind::Airport => self.airports,
            PlaceKind::City => self.cities,
        };
        kind && self
            .country
            .as_ref()
            .is_none_or(|country| country == place.main.country.code)
    }
}

/// Working space for edit distances (insertion, deletion, substitution, exchange of neighbours).
#[derive(Default)]
struct Rows {
    before: Vec<usize>,
    last: Vec<usize>,
    this: Vec<usize>,
    other: Vec<char>,
}

impl Rows {
    /// The distance, if it is at most `allowed`.
    fn distance(&mut self, keyword: &[char], name: &str, allowed: usize) -> Option<usize> {
        self.other.clear();
        self.other.extend(name.chars());
        if self.other.len().abs_diff(keyword.len()) > allowed {
            return None;
        }
        self.last.clear();
        self.last.extend(0..=self.other.len());
        self.before.clone_from(&self.last);
        let mut previous_sign = None;
        for (row, sign) in keyword.iter().enumerate() {
            self.this.clear();
            self.this.push(row + 1);
            let mut left = row + 1;
            for (column, other) in self.other.iter().enumerate() {
                let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
                let substituted = at(&self.last, column) + usize::from(sign != other);
                let mut cell = substituted.min(at(&self.last, column + 1) + 1).min(left + 1);
                let before_other = column.checked_sub(1).and_then(|column| self.other.get(column));
                if previous_sign == Some(other) && before_other == Some(sign) {
                    cell = cell.min(at(&self.before, column - 1) + 1);
                }
                self.this.push(cell);
                left = cell;
            }
            if self.this.iter().min().is_none_or(|least| *least > allowed) {
                return None;
            }
            previous_sign = Some(sign);
            std::mem::swap(&mut self.before, &mut self.last);
            std::mem::swap(&mut self.last, &mut self.this);
        }
        self.last.last().copied().filter(|distance| *distance <= allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> PlaceQuery {
        PlaceQuery {
            keyword: plain(text),
            airports: true,
            cities: true,
            country: None,
            limit: 10,
        }
    }

    fn codes(text: &str) -> Vec<String> {
        let found = PlaceIndex::get().find(&query(text));
        found
            .iter()
            .map(|(_, place)| format!("{:?} {}", place.kind, place.code))
            .collect()
    }

    #[test]
    fn a_city_comes_first_and_its_airports_after_it() {
        let found = codes("paris");
        assert_eq!(found.first().map(String::as_str), Some("City PAR"), "{found:?}");
        assert!(found.contains(&"Airport CDG".to_owned()), "{found:?}");
    }

    #[test]
    fn a_code_beats_every_name() {
        assert_eq!(codes("nrt").first().map(String::as_str), Some("Airport NRT"));
        assert_eq!(codes("PAR").first().map(String::as_str), Some("City PAR"));
        assert_eq!(codes("nce").first().map(String::as_str), Some("City NCE"));
    }

    #[test]
    fn accents_and_other_languages_do_not_matter() {
        for name in ["Zürich", "zurich", "ZURICH"] {
            assert!(codes(name).contains(&"Airport ZRH".to_owned()), "{name}");
        }
        assert_eq!(codes("Londres").first().map(String::as_str), Some("City LON"));
        assert_eq!(codes("München").first().map(String::as_str), Some("City MUC"));
    }

    #[test]
    fn the_busier_place_comes_first() {
        assert_eq!(codes("london").first().map(String::as_str), Some("City LON"));
        assert_eq!(codes("san").first().map(String::as_str), Some("City SAN"));
        assert_eq!(codes("new yo").first().map(String::as_str), Some("City NYC"));
    }

    #[test]
    fn a_typing_error_is_forgiven() {
        assert_eq!(codes("barcelnoa").first().map(String::as_str), Some("City BCN"));
        assert_eq!(codes("amsterdm").first().map(String::as_str), Some("City AMS"));
        assert!(codes("qqqqqqqq").is_empty());
    }

    #[test]
    fn an_airports_code_means_its_city_where_only_cities_are_wanted() {
        let only_cities = PlaceQuery {
            airports: false,
            ..query("CDG")
        };
        let found = PlaceIndex::get().find(&only_cities);
        assert_eq!(
            found.first().map(|(_, place)| place.code.to_string()).as_deref(),
            Some("PAR")
        );
    }

    #[test]
    fn a_country_narrows_the_search() {
        let in_canada = PlaceQuery {
            country: Some("CA".to_owned()),
            ..query("london")
        };
        let found = PlaceIndex::get().find(&in_canada);
        assert_eq!(
            found.first().map(|(_, place)| place.code.to_string()).as_deref(),
            Some("YXU")
        );
    }
}
