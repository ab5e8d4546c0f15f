//! What the offline provider promises: the same for the same input, and journeys and prices that hold together.

use std::fmt::Write as _;

use proptest::prelude::*;
use shared::money::Currency;

use super::{schedule::CONNECTION, *};
use crate::voyage::supply::{flight::FlightFilters, places::resolve};

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn now() -> DateTime<Utc> {
    instant("2027-03-10T09:20:00Z")
}

fn query(from: &str, to: &str, departure: &str, back: Option<&str>) -> FlightQuery {
    FlightQuery {
        origins: resolve(from).unwrap().airports,
        destinations: resolve(to).unwrap().airports,
        departure: departure.parse().unwrap(),
        return_date: back.map(|date| date.parse().unwrap()),
        passengers: Passengers::new(1, 0, 0).unwrap(),
        cabin: Cabin::Economy,
        currency: Currency::EUR,
        filters: FlightFilters::default(),
    }
}

fn offers(query: &FlightQuery) -> Vec<FlightOffer> {
    Offline::new(false).offers(query, now()).unwrap()
}

/// One line per offer.
fn table(offers: &[FlightOffer]) -> String {
    let mut table = String::new();
    for offer in offers {
        let ways: Vec<String> = offer
            .slices
            .iter()
            .map(|slice| {
                let legs = slice.segments.iter().map(|leg| {
                    format!(
                        "{} {}-{} {}",
                        leg.flight_number,
                        leg.departure.airport,
                        leg.arrival.airport,
                        leg.departure.local.format("%d %H:%M")
                    )
                });
                format!("{} ({})", legs.collect::<Vec<_>>().join(" + "), slice.duration)
            })
            .collect();
        let price = format!("{} {}", offer.price.total, offer.price.currency);
        writeln!(
            table,
            "{} {price:>12} {:8} {}",
            offer.id,
            offer.fare_brand,
            ways.join(" / ")
        )
        .unwrap();
    }
    table
}

#[test]
fn known_routes_are_pinned() {
    insta::assert_snapshot!(
        "paris_to_new_york",
        table(&offers(&query("PAR", "NYC", "2027-06-15", None)))
    );
    insta::assert_snapshot!(
        "nice_to_sydney_and_back",
        table(&offers(&query("NCE", "SYD", "2027-12-01", Some("2027-12-20"))))
    );
    insta::assert_snapshot!(
        "small_airports",
        table(&offers(&query("BES", "AJA", "2027-04-02", None)))
    );
    let one = offers(&query("LHR", "CDG", "2027-03-28", None));
    insta::assert_json_snapshot!("one_whole_offer", one[0]);
}

#[test]
fn the_order_of_calls_does_not_matter() {
    let (first, second) = (
        query("CDG", "JFK", "2027-06-15", None),
        query("SIN", "LHR", "2027-05-01", Some("2027-05-09")),
    );
    let one_order = (offers(&first), offers(&second));
    let other_order = (offers(&second), offers(&first));
    assert_eq!(
        serde_json::to_vec(&one_order.0).unwrap(),
        serde_json::to_vec(&other_order.1).unwrap()
    );
    assert_eq!(one_order.1, other_order.0);
}

#[test]
fn prices_and_ids_stand_still_within_the_hour_and_ids_move_with_it() {
    let provider = Offline::new(false);
    let query = query("CDG", "JFK", "2027-06-15", None);
    let at = |time: &str| provider.offers(&query, instant(time)).unwrap();
    let (early, late, next) = (
        at("2027-03-10T09:00:00Z"),
        at("2027-03-10T09:59:59Z"),
        at("2027-03-10T10:00:00Z"),
    );
    let ids = |offers: &[FlightOffer]| offers.iter().map(|offer| offer.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&early), ids(&late));
    assert_ne!(ids(&late), ids(&next));
    assert_eq!(
        early[0].price, next[0].price,
        "prices do not drift unless that is switched on"
    );
    assert_eq!(early[0].expires_at, instant("2027-03-10T09:20:00Z"));
}

#[test]
fn with_drift_some_prices_move_in_the_next_hour() {
    let provider = Offline::new(true);
    let query = query("CDG", "JFK", "2027-06-15", None);
    let at = |hour: u32| {
        provider
            .offers(&query, instant(&format!("2027-03-10T{hour:02}:00:00Z")))
            .unwrap()
    };
    let moved = (0..23)
        .flat_map(|hour| at(hour).into_iter().zip(at(hour + 1)))
        .filter(|(one, other)| one.price != other.price);
    let moved: Vec<_> = moved.collect();
    assert!(!moved.is_empty());
    for (one, other) in moved {
        assert!((one.price.total / other.price.total - 1.0).abs() < 0.07);
    }
}

#[tokio::test]
async fn an_offer_is_made_again_from_its_id() {
    let provider = Offline::new(true);
    for query in [
        query("PAR", "NYC", "2027-06-15", Some("2027-06-29")),
        query("NCE", "SYD", "2027-12-01", None),
    ] {
        for offer in provider.offers(&query, now()).unwrap() {
            let again = provider.recall(&offer.id, now()).await.unwrap();
            assert!(again.expires_at >= offer.expires_at);
            assert_eq!(
                FlightOffer {
                    expires_at: offer.expires_at,
                    ..again
                },
                offer
            );
            let repriced = provider.reprice(&offer.id, now()).await.unwrap();
            assert_eq!(repriced, offer);
        }
    }
}

#[tokio::test]
async fn an_id_from_the_future_or_the_distant_past_is_unknown() {
    let provider = Offline::new(false);
    let offer = offers(&query("CDG", "JFK", "2027-06-15", None)).remove(0);
    let recalled = |at: &str| {
        let (id, at) = (offer.id.clone(), instant(at));
        let provider = provider.clone();
        async move { provider.recall(&id, at).await }
    };
    assert!(matches!(
        recalled("2027-03-10T08:59:00Z").await,
        Err(ProviderError::NotFound)
    ));
    assert!(recalled("2027-03-11T09:00:00Z").await.is_ok());
    assert!(matches!(
        recalled("2027-03-11T10:21:00Z").await,
        Err(ProviderError::NotFound)
    ));
    let left = provider.reprice(&offer.id, instant("2027-06-16T12:00:00Z")).await;
    assert!(matches!(left, Err(ProviderError::NoAvailability)));
}

#[test]
fn busy_airports_are_connected_with_a_choice() {
    let reference = Reference::get();
    let mut busy: Vec<_> = reference
        .airports()
        .iter()
        .copied()
        .filter(|airport| airport.rank > 720)
        .collect();
    busy.sort_by_key(|airport| airport.iata);
    for (from, to) in busy.iter().zip(busy.iter().cycle().skip(37)) {
        if from.distance_km(to) < 200.0 {
            continue;
        }
        let found = itineraries(from, to, now().date_naive(), false);
        assert!(
            (4..=14).contains(&found.len()),
            "{} to {}: {}",
            from.iata,
            to.iata,
            found.len()
        );
    }
}

#[test]
fn the_network_is_the_same_in_both_directions() {
    let reference = Reference::get();
    let airport = |code: &str| reference.airport(code.parse().unwrap()).unwrap();
    for (one, other) in [("CDG", "JFK"), ("BES", "CDG"), ("SYD", "SIN"), ("DXB", "GRU")] {
        for carrier in reference.carriers() {
            let (one, other) = (airport(one), airport(other));
            assert_eq!(
                network::serves(carrier, one, other),
                network::serves(carrier, other, one)
            );
        }
    }
}

#[test]
fn what_has_left_is_not_sold() {
    let query = query("CDG", "JFK", "2027-03-10", None);
    let offers = Offline::new(false)
        .offers(&query, instant("2027-03-10T14:00:00Z"))
        .unwrap();
    assert!(
        offers
            .iter()
            .all(|offer| offer.departs_at().unwrap() >= instant("2027-03-10T14:45:00Z"))
    );
}

#[test]
fn forward_cabins_are_sold_only_by_carriers_that_have_them() {
    let business = FlightQuery {
        cabin: Cabin::Business,
        ..query("LGW", "BCN", "2027-06-15", None)
    };
    let found = offers(&business);
    assert!(!found.is_empty());
    for offer in found {
        assert!(
            offer
                .slices
                .iter()
                .flat_map(|slice| &slice.segments)
                .all(|leg| leg.cabin == Cabin::Business)
        );
        let carrier = Reference::get().carrier(&offer.airline.code).unwrap();
        assert_eq!(carrier.kind, super::super::reference::CarrierKind::Full);
    }
}

#[test]
fn every_currency_has_its_own_minor_unit() {
    let yen: Currency = "JPY".parse().unwrap();
    let in_yen = FlightQuery {
        currency: yen,
        ..query("HND", "CDG", "2027-06-15", None)
    };
    for offer in offers(&in_yen) {
        assert!(offer.price.total.fract().abs() < f64::EPSILON, "{}", offer.price.total);
        assert!(offer.price.total > 10_000.0);
    }
    let franc: Currency = "XAF".parse().unwrap();
    let unknown = FlightQuery {
        currency: franc,
        ..query("HND", "CDG", "2027-06-15", None)
    };
    assert!(matches!(
        Offline::new(false).offers(&unknown, now()),
        Err(ProviderError::Invalid("currencyCode"))
    ));
}

fn airports() -> impl Strategy<Value = Iata> {
    let served: Vec<Iata> = Reference::get()
        .airports()
        .iter()
        .filter(|airport| airport.rank >= 280)
        .map(|airport| airport.iata)
        .collect();
    proptest::sample::select(served)
}

fn queries() -> impl Strategy<Value = FlightQuery> {
    let parts = (
        airports(),
        airports(),
        1..400_i64,
        proptest::option::of(0..60_i64),
        1..=5_u8,
        0..=3_u8,
        0..4_usize,
    );
    parts.prop_map(|(from, to, days, back, adults, children, cabin)| {
        let departure = now().date_naive() + TimeDelta::days(days);
        FlightQuery {
            origins: vec![from],
            destinations: vec![to],
            departure,
            return_date: back.map(|back| departure + TimeDelta::days(back)),
            passengers: Passengers::new(adults, children, 1).unwrap(),
            cabin: Cabin::ALL[cabin],
            currency: Currency::EUR,
            filters: FlightFilters::default(),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn journeys_hold_together(query in queries()) {
        let reference = Reference::get();
        for offer in offers(&query) {
            prop_assert_eq!(offer.slices.len(), 1 + usize::from(query.return_date.is_some()));
            for slice in &offer.slices {
                let km = |one: Iata, other: Iata| reference.airport(one).unwrap().distance_km(reference.airport(other).unwrap());
                let flown: f64 = slice.segments.iter().map(|leg| km(leg.departure.airport, leg.arrival.airport)).sum();
                prop_assert!(flown <= km(slice.origin, slice.destination) * network::DETOUR + 0.01);
                prop_assert_eq!(usize::try_from(slice.stops).unwrap() + 1, slice.segments.len());
                for leg in &slice.segments {
                    prop_assert!(leg.arrival.utc > leg.departure.utc);
                    for end in [&leg.departure, &leg.arrival] {
                        let zone = reference.airport(end.airport).unwrap().zone;
                        prop_assert_eq!(&end.time_zone, zone.name());
                        prop_assert_eq!(end.utc.with_timezone(&zone).naive_local(), end.local);
                    }
                }
                for pair in slice.segments.windows(2) {
                    prop_assert_eq!(pair[0].arrival.airport, pair[1].departure.airport);
                    prop_assert!(CONNECTION.contains(&(pair[1].departure.utc - pair[0].arrival.utc).num_minutes()));
                }
            }
            if let [there, back] = offer.slices.as_slice() {
                prop_assert_eq!((there.origin, there.destination), (back.destination, back.origin));
                prop_assert!(back.segments[0].departure.utc > there.segments.last().unwrap().arrival.utc);
            }
            prop_assert_eq!(offer.slices[0].segments[0].departure.local.date(), query.departure);
            prop_assert_eq!(offer.return_date(), query.return_date);
            prop_assert!((1..=9).contains(&offer.available_seats));
            prop_assert!(offer.available_seats >= query.passengers.seats());
        }
    }

    #[test]
    fn prices_add_up_and_grow_with_every_passenger(query in queries()) {
        let alone = FlightQuery { passengers: Passengers::new(1, 0, 0).unwrap(), ..query.clone() };
        for (offer, single) in offers(&query).iter().zip(offers(&alone)) {
            let breakdown = &offer.price_breakdown;
            prop_assert!(single.price.total > 0.0);
            prop_assert!((breakdown.base + breakdown.taxes - offer.price.total).abs() < 0.005);
            let rows: f64 = breakdown.per_passenger.iter().map(|row| row.total * f64::from(row.count)).sum();
            prop_assert!((rows - offer.price.total).abs() < 0.005);
            prop_assert_eq!(offer.passengers(), query.passengers);
            prop_assert!(offer.price.total > single.price.total);
        }
    }

    #[test]
    fn a_round_trip_is_cheaper_than_two_one_ways(query in queries()) {
        let Some(back) = query.return_date else { return Ok(()) };
        let there = FlightQuery { return_date: None, ..query.clone() };
        let home = FlightQuery { origins: query.destinations.clone(), destinations: query.origins.clone(), departure: back, ..there.clone() };
        let (there, home) = (offers(&there), offers(&home));
        let price = |offers: &[FlightOffer], slice: &Slice, brand: &str| {
            let same = |offer: &&FlightOffer| {
                let flights = |slice: &Slice| slice.segments.iter().map(|leg| (leg.flight_number.clone(), leg.departure.utc)).collect::<Vec<_>>();
                offer.fare_brand == brand && flights(&offer.slices[0]) == flights(slice)
            };
            offers.iter().find(same).map(|offer| offer.price.total)
        };
        for offer in offers(&query) {
            let one = price(&there, &offer.slices[0], &offer.fare_brand);
            let other = price(&home, &offer.slices[1], &offer.fare_brand);
            prop_assert!(offer.price.total < one.unwrap() + other.unwrap());
        }
    }

    #[test]
    fn every_id_of_an_answer_is_different(query in queries()) {
        let mut ids: Vec<_> = offers(&query).into_iter().map(|offer| offer.id).collect();
        let count = ids.len();
        ids.sort();
        ids.dedup();
        prop_assert_eq!(ids.len(), count);
    }
}
