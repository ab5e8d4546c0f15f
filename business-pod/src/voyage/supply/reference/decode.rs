//! Unpacks the embedded blob: UTF-8 text, sections opened by `#name count`, fields separated by tabs.

use std::collections::HashMap;

use anyhow::{Context as _, bail};
use chrono_tz::Tz;

use super::{Airport, Carrier, CarrierKind, Country, Iata, Metro, Reference, Region};

const PACKED: &[u8] = include_bytes!("../../../../data/reference.tsv.zst");

/// The size of the blob in the binary.
#[cfg(test)]
pub fn packed_size() -> usize {
    PACKED.len()
}

/// The embedded data. The text is leaked: it is read once and lives as long as the process, and all names point into it.
pub fn embedded() -> anyhow::Result<Reference> {
    let bytes = zstd::decode_all(PACKED).context("failed to decompress")?;
    let text: &'static str = Box::leak(String::from_utf8(bytes).context("not UTF-8")?.into_boxed_str());
    decode(text)
}

fn decode(text: &'static str) -> anyhow::Result<Reference> {
    let mut lines = text.lines();
    let mut section = |name: &str| -> anyhow::Result<Vec<Vec<&'static str>>> {
        let head = lines.next().with_context(|| format!("section {name} is missing"))?;
        let count: usize = match head.strip_prefix('#').and_then(|head| head.split_once(' ')) {
            Some((found, count)) if found == name => count.parse()?,
            _ => bail!("section {name} expected, found {head}"),
        };
        Ok(lines
            .by_ref()
            .take(count)
            .map(|line| line.split('\t').collect())
            .collect())
    };

    let countries = section("countries")?
        .iter()
        .map(|row| country(row))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let countries: &'static [Country] = Box::leak(countries.into_boxed_slice());
    let country_of: HashMap<&str, &'static Country> = countries.iter().map(|country| (country.code, country)).collect();
    let zones = section("zones")?
        .iter()
        .map(|row| zone(row))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let airport_rows = section("airports")?;
    let metro_rows = section("metros")?;

    let mut metro_of = HashMap::new();
    for row in &metro_rows {
        let [code, _, airports] = fields(row)?;
        for airport in airports.split(' ') {
            metro_of.entry(airport).or_insert(code.parse::<Iata>()?);
        }
    }
    let airports = airport_rows.iter().map(|row| {
        let [iata, icao, name, city, country, latitude, longitude, zone, rank] = fields(row)?;
        Ok(Airport {
            iata: iata.parse()?,
            icao,
            name,
            city,
            country: country_of
                .get(country)
                .with_context(|| format!("{iata}: unknown country"))?,
            latitude: latitude.parse()?,
            longitude: longitude.parse()?,
            zone: *zones
                .get(zone.parse::<usize>()?)
                .with_context(|| format!("{iata}: unknown zone"))?,
            rank: rank.parse()?,
            metro: metro_of.get(iata).copied(),
        })
    });
    let airports = airports.collect::<anyhow::Result<Vec<_>>>()?;
    let airports: &'static [Airport] = Box::leak(airports.into_boxed_slice());
    let by_code: HashMap<Iata, &'static Airport> = airports.iter().map(|airport| (airport.iata, airport)).collect();
    let listed = |codes: &str| -> anyhow::Result<Vec<&'static Airport>> {
        codes
            .split(' ')
            .map(|code| {
                Ok(*by_code
                    .get(&code.parse()?)
                    .with_context(|| format!("unknown airport {code}"))?)
            })
            .collect()
    };

    let metros = metro_rows.iter().map(|row| {
        let [code, name, codes] = fields(row)?;
        let mut airports = listed(codes)?;
        airports.sort_by_key(|airport| (std::cmp::Reverse(airport.rank), airport.iata));
        Ok(Metro {
            code: code.parse()?,
            name,
            airports,
        })
    });
    let metros = metros.collect::<anyhow::Result<Vec<_>>>()?;
    let carriers = section("carriers")?.into_iter().map(|row| {
        let [iata, icao, name, country, kind, hubs] = fields(&row)?;
        Ok(Carrier {
            iata,
            icao,
            name,
            country: country_of
                .get(country)
                .with_context(|| format!("{iata}: unknown country"))?,
            kind: match kind {
                "full" => CarrierKind::Full,
                "low" => CarrierKind::Low,
                "regional" => CarrierKind::Regional,
                _ => bail!("{iata}: unknown kind {kind}"),
            },
            hubs: listed(hubs)?,
        })
    });
    let carriers = carriers.collect::<anyhow::Result<Vec<_>>>()?;
    let aliases = section("aliases")?.into_iter().map(|row| {
        let [alias, code] = fields(&row)?;
        Ok((alias, code.parse()?))
    });
    let aliases = aliases.collect::<anyhow::Result<Vec<_>>>()?;

    let mut at_hub: HashMap<Iata, Vec<usize>> = HashMap::new();
    for (position, carrier) in carriers.iter().enumerate() {
        for hub in &carrier.hubs {
            at_hub.entry(hub.iata).or_default().push(position);
        }
    }
    Ok(Reference {
        countries,
        airports: airports.iter().collect(),
        metros,
        carriers,
        aliases,
        at_hub,
    })
}

/// The fields of a row, which must be this many.
fn fields<const N: usize>(row: &[&'static str]) -> anyhow::Result<[&'static str; N]> {
    row.try_into()
        .with_context(|| format!("a row has {} fields in place of {N}: {row:?}", row.len()))
}

fn country(row: &[&'static str]) -> anyhow::Result<Country> {
    let [code, region, name] = fields(row)?;
    let region = match region {
        "AF" => Region::Africa,
        "AN" => Region::Antarctica,
        "AS" => Region::Asia,
        "EU" => Region::Europe,
        "ME" => Region::MiddleEast,
        "NA" => Region::NorthAmerica,
        "OC" => Region::Oceania,
        "SA" => Region::SouthAmerica,
        _ => bail!("{code}: unknown region {region}"),
    };
    Ok(Country { code, name, region })
}

fn zone(row: &[&'static str]) -> anyhow::Result<Tz> {
    let [name] = fields(row)?;
    // zones that the tz database renamed after our copy of it
    let name = match name {
        "America/Coyhaique" => "America/Punta_Arenas",
        name => name,
    };
    name.parse().map_err(|_| anyhow::anyhow!("unknown time zone {name}"))
}
