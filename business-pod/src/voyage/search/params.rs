//! The parameters of a flight search, read strictly (voyage §4.1 F1, §2.4).

use std::str::FromStr;

use chrono::NaiveDate;
use shared::{ApiError, money::Currency};

use crate::voyage::supply::{
    flight::{Cabin, FlightFilters, FlightQuery, Passengers},
    places::{Resolved, Unresolvable, resolve},
    rates,
    reference::Iata,
};

const MISSING: &str = "Missing required parameters: originLocationCode, destinationLocationCode, departureDate";
/// No name of a place is longer.
const LONGEST_PLACE: usize = 100;
/// The most offers of one answer.
const MOST_OFFERS: u32 = 250;

/// Query parameters, decoded, in the order they came in. Unknown ones are ignored.
#[derive(Debug)]
pub struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// Splits and decodes a query string; what is not valid UTF-8 is replaced.
    pub fn of(query: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(
            pairs
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
        )
    }

    /// The first value of a parameter that is not blank, under any of its names.
    pub fn text(&self, names: &[&str]) -> Option<&str> {
        let values = names
            .iter()
            .flat_map(|name| self.0.iter().filter(move |(found, _)| found == name));
        values.map(|(_, value)| value.trim()).find(|value| !value.is_empty())
    }

    /// All values of a list: repeated, with `[]`, or separated by commas.
    pub fn list(&self, name: &str) -> impl Iterator<Item = &str> {
        let is_named = move |found: &str| found == name || found.strip_suffix("[]") == Some(name);
        let values = self
            .0
            .iter()
            .filter(move |(found, _)| is_named(found))
            .flat_map(|(_, value)| value.split(','));
        values.map(str::trim).filter(|value| !value.is_empty())
    }

    /// A whole number within bounds.
    pub fn number(&self, name: &str, least: u32, most: u32) -> Result<Option<u32>, ApiError> {
        let Some(text) = self.text(&[name]) else {
            return Ok(None);
        };
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = u32::from_str(text)
            .ok()
            .filter(|number| is_number && (least..=most).contains(number));
        match number {
            Some(number) => Ok(Some(number)),
            None if most == u32::MAX => Err(ApiError::bad_request(format!(
                "Invalid {name}: must be a whole number of at least {least}"
            ))),
            None => Err(ApiError::bad_request(format!(
                "Invalid {name}: must be a whole number between {least} and {most}"
            ))),
        }
    }

    fn date(&self, name: &str) -> Result<Option<NaiveDate>, ApiError> {
        let Some(text) = self.text(&[name]) else {
            return Ok(None);
        };
        // chrono would take `2026-1-5` and `+2026-01-05` too
        let shaped = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|_| shaped);
        date.map(Some)
            .ok_or_else(|| ApiError::bad_request(format!("Invalid {name}: must be a date like 2026-01-31")))
    }
}

/// What was asked for, before names of places are looked up.
#[derive(Debug)]
pub struct Asked {
    origin: String,
    destination: String,
    departure: NaiveDate,
    return_date: Option<NaiveDate>,
    passengers: Passengers,
    cabin: Cabin,
    currency: Currency,
    filters: FlightFilters,
    most: usize,
}

/// A valid search: what it is for and how many offers are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// The code that stands for the origin.
    pub origin: Iata,
    /// The code that stands for the destination.
    pub destination: Iata,
    /// What the providers are asked.
    pub query: FlightQuery,
    /// The most offers returned.
    pub most: usize,
}

impl Asked {
    /// Reads and checks a query string.
    pub fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let pairs = Pairs::of(query);
        let origin = pairs.text(&["originLocationCode", "origin"]);
        let destination = pairs.text(&["destinationLocationCode", "destination"]);
        let (Some(origin), Some(destination), Some(_)) = (origin, destination, pairs.text(&["departureDate"])) else {
            return Err(ApiError::bad_request(MISSING));
        };
        let Some(departure) = pairs.date("departureDate")? else {
            return Err(ApiError::bad_request(MISSING));
        };
        let return_date = pairs.date("returnDate")?;
        if return_date.is_some_and(|date| date <= departure) {
            return Err(ApiError::bad_request("Invalid returnDate: must be after departureDate"));
        }

        let small = |name, least, default: u8| {
            let number = pairs.number(name, least, Passengers::MAX.into())?;
            Ok::<u8, ApiError>(number.and_then(|number| u8::try_from(number).ok()).unwrap_or(default))
        };
        let passengers = Passengers::new(
            small("adults", 1, 1)?,
            small("children", 0, 0)?,
            small("infants", 0, 0)?,
        )
        .map_err(|error| ApiError::bad_request(format!("Invalid passengers: {error}")))?;
        let most = pairs.number("max", 1, MOST_OFFERS)?.unwrap_or(MOST_OFFERS);
        Ok(Self {
            origin: origin.to_owned(),
            destination: destination.to_owned(),
            departure,
            return_date,
            passengers,
            cabin: pairs
                .text(&["travelClass", "cabinClass"])
                .map_or(Cabin::Economy, Cabin::lenient),
            currency: currency(&pairs)?,
            filters: filters(&pairs)?,
            most: usize::try_from(most).unwrap_or(usize::MAX),
        })
    }

    /// Looks the places up. Names are searched for in an index, which is not done between other tasks' work.
    pub async fn resolve(self) -> Result<Search, ApiError> {
        let is_code = |text: &str| text.parse::<Iata>().is_ok();
        let (from, to) = if is_code(&self.origin) && is_code(&self.destination) {
            (resolve(&self.origin), resolve(&self.destination))
        } else {
            let (origin, destination) = (self.origin.clone(), self.destination.clone());
            tokio::task::spawn_blocking(move || (resolve_name(&origin), resolve_name(&destination)))
                .await
                .map_err(ApiError::internal)?
        };
        let unknown = |name: &str| ApiError::bad_request(format!("Invalid {name}: no such airport or city"));
        let from = from.map_err(|Unresolvable| unknown("originLocationCode"))?;
        let to = to.map_err(|Unresolvable| unknown("destinationLocationCode"))?;
        Ok(Search {
            origin: from.code,
            destination: to.code,
            query: FlightQuery {
                origins: from.airports,
                destinations: to.airports,
                departure: self.departure,
                return_date: self.return_date,
                passengers: self.passengers,
                cabin: self.cabin,
                currency: self.currency,
                filters: self.filters,
            },
            most: self.most,
        })
    }
}

impl Search {
    /// 128 bits that stand for the search in the cache: a digest of validated parameters only, so that a made-up
    /// parameter cannot make an entry and two searches cannot share one (voyage §5).
    pub fn key(&self) -> [u8; 16] {
        let Self { query, most, .. } = self;
        let mut hasher = blake3::Hasher::new();
        let mut number = |number: u64| {
            hasher.update(&number.to_le_bytes());
        };
        for places in [&query.origins, &query.destinations] {
            number(places.len() as u64);
            for place in places {
                number(place.index().into());
            }
        }
        let day = |date: NaiveDate| u64::try_from((date - NaiveDate::MIN).num_days()).unwrap_or(0);
        number(day(query.departure));
        number(query.return_date.map_or(0, day));
        let Passengers {
            adults,
            children,
            infants,
        } = query.passengers;
        for field in [adults, children, infants, query.cabin as u8] {
            number(field.into());
        }
        let filters = &query.filters;
        number(filters.max_stops.map_or(u64::MAX, u64::from));
        number(filters.max_price.map_or(u64::MAX, u64::from));
        number(filters.max_minutes.map_or(u64::MAX, u64::from));
        number(*most as u64);
        hasher.update(query.currency.code().as_bytes());
        for carrier in &filters.carriers {
            hasher.update(carrier.as_bytes());
        }
        let mut key = [0_u8; 16];
        hasher.finalize_xof().fill(&mut key);
        key
    }
}

fn resolve_name(text: &str) -> Result<Resolved, Unresolvable> {
    if text.len() > LONGEST_PLACE {
        Err(Unresolvable)
    } else {
        resolve(text)
    }
}

fn currency(pairs: &Pairs) -> Result<Currency, ApiError> {
    let Some(code) = pairs.text(&["currencyCode", "currency"]) else {
        return Ok(Currency::EUR);
    };
    let known = code
        .parse::<Currency>()
        .ok()
        .filter(|currency| rates::per_euro(*currency).is_ok());
    known.ok_or_else(|| ApiError::bad_request("Invalid currencyCode: not a currency we quote in"))
}

fn filters(pairs: &Pairs) -> Result<FlightFilters, ApiError> {
    let most_stops = pairs
        .number("maxStops", 0, 9)?
        .and_then(|stops| u8::try_from(stops).ok());
    let direct_only = pairs.text(&["nonStop"]) == Some("true");
    let mut carriers = Vec::new();
    for code in pairs.list("includedAirlineCodes") {
        if !(2..=3).contains(&code.len()) || !code.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(ApiError::bad_request(
                "Invalid includedAirlineCodes: must be airline codes like AF,KL",
            ));
        }
        carriers.push(code.to_ascii_uppercase());
    }
    if carriers.len() > 50 {
        return Err(ApiError::bad_request("Invalid includedAirlineCodes: at most 50 codes"));
    }
    carriers.sort();
    carriers.dedup();
    Ok(FlightFilters {
        max_stops: if direct_only { Some(0) } else { most_stops },
        max_price: pairs.number("maxPrice", 0, u32::MAX)?,
        max_minutes: pairs.number("maxDuration", 1, u32::MAX)?,
        carriers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: &str = "originLocationCode=CDG&destinationLocationCode=JFK&departureDate=2027-06-15";

    async fn search(more: &str) -> Result<Search, ApiError> {
        Asked::parse(Some(&format!("{ROUTE}{more}")))?.resolve().await
    }

    #[tokio::test]
    async fn defaults_are_those_of_the_contract() {
        let search = search("").await.unwrap();
        assert_eq!(search.query.passengers, Passengers::new(1, 0, 0).unwrap());
        assert_eq!(
            (search.query.cabin, search.query.currency, search.most),
            (Cabin::Economy, Currency::EUR, 250)
        );
        assert_eq!(search.query.filters, FlightFilters::default());
    }

    #[tokio::test]
    async fn garbage_is_refused_and_names_the_parameter() {
        for bad in [
            "adults=2abc",
            "adults=0",
            "adults=10",
            "children=9",
            "infants=2",
            "adults=-1",
            "adults=1.5",
            "adults=5&children=5",
            "max=0",
            "max=251",
            "maxPrice=cheap",
            "maxStops=-1",
            "maxDuration=0",
            "currencyCode=XYZ",
            "currencyCode=XAF",
            "includedAirlineCodes=AIRFRANCE",
            "returnDate=2027-06-15",
            "returnDate=2027-06-01",
            "returnDate=2027-02-30",
            "returnDate=tomorrow",
            "adults=99999999999999999999",
        ] {
            let error = search(&format!("&{bad}")).await.unwrap_err();
            assert_eq!((error.status().as_u16(), error.code()), (400, "VALIDATION"), "{bad}");
        }
        for missing in [
            "",
            "originLocationCode=CDG",
            "originLocationCode=CDG&destinationLocationCode=%20&departureDate=2027-06-15",
        ] {
            let error = Asked::parse(Some(missing)).unwrap_err();
            assert_eq!(error.body()["error"], MISSING);
        }
    }

    #[tokio::test]
    async fn lists_are_read_in_all_three_spellings() {
        let spellings = [
            "&includedAirlineCodes=kl,AF",
            "&includedAirlineCodes[]=AF&includedAirlineCodes[]=KL",
            "&includedAirlineCodes=AF&includedAirlineCodes=KL",
        ];
        for spelling in spellings {
            assert_eq!(
                search(spelling).await.unwrap().query.filters.carriers,
                ["AF", "KL"],
                "{spelling}"
            );
        }
    }

    #[tokio::test]
    async fn only_the_literal_true_is_true() {
        assert_eq!(
            search("&nonStop=true&maxStops=2")
                .await
                .unwrap()
                .query
                .filters
                .max_stops,
            Some(0)
        );
        assert_eq!(search("&nonStop=1").await.unwrap().query.filters.max_stops, None);
        assert_eq!(
            search("&nonStop=false&maxStops=1")
                .await
                .unwrap()
                .query
                .filters
                .max_stops,
            Some(1)
        );
    }

    #[tokio::test]
    async fn one_search_has_one_key_however_it_is_spelled() {
        let key = |search: &Search| search.key();
        let plain = search("").await.unwrap();
        for same in [
            "&foo=bar",
            "&adults=1",
            "&max=250",
            "&currencyCode=eur",
            "&travelClass=lounge",
        ] {
            assert_eq!(key(&search(same).await.unwrap()), key(&plain), "{same}");
        }
        for other in [
            "&adults=2",
            "&max=10",
            "&currencyCode=USD",
            "&travelClass=FIRST",
            "&nonStop=true",
            "&returnDate=2027-07-01",
        ] {
            assert_ne!(key(&search(other).await.unwrap()), key(&plain), "{other}");
        }
        let named = Asked::parse(Some("origin=Paris&destination=New+York&departureDate=2027-06-15")).unwrap();
        let coded = Asked::parse(Some("origin=PAR&destination=nyc&departureDate=2027-06-15")).unwrap();
        assert_eq!(
            key(&named.resolve().await.unwrap()),
            key(&coded.resolve().await.unwrap())
        );
    }
}
