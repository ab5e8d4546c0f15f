//! Places over HTTP, and whatever else a client may send.

use std::time::Duration;

use http::header;
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use serde_json::Value;
use shared::http::limit::Rule;
use sqlx::PgPool;

use super::{App, bytes};
use crate::voyage::search::SearchConfig;

#[sqlx::test(migrations = false)]
async fn locations_are_found_and_may_be_kept_for_a_day(pool: PgPool) {
    let app = App::start(pool).await;
    let response = app.send("/locations/search?keyword=par&subType=CITY", None).await;
    assert_eq!(response.headers()[header::CACHE_CONTROL], "public, max-age=86400");
    let body: Value = serde_json::from_slice(&bytes(response).await).unwrap();
    insta::assert_json_snapshot!("location_paris", body["data"][0]);

    let (_, airports) = app.get("/locations/airports?keyword=paris").await;
    let (_, alias) = app.get("/airports/search?query=paris").await;
    assert_eq!(airports, alias);
    assert_eq!(airports["data"][0]["iataCode"], "CDG");
    assert!(
        airports["data"]
            .as_array()
            .unwrap()
            .iter()
            .all(|place| place["subType"] == "AIRPORT")
    );
    assert!(airports["meta"]["count"].as_u64().unwrap() <= 10);

    let (_, tokyo) = app.get("/locations/search?keyword=NRT&subType=CITY").await;
    assert_eq!(tokyo["data"][0]["iataCode"], "TYO");
    let (_, ontario) = app.get("/locations/search?keyword=London,%20Canada").await;
    assert_eq!(ontario["data"][0]["iataCode"], "YXU");
    let (status, nothing) = app.get("/locations/search?keyword=!!!").await;
    assert_eq!((status.as_u16(), &nothing["meta"]["count"]), (200, &0.into()));
    for path in [
        "/locations/search",
        "/locations/airports?keyword=",
        "/airports/search?keyword=%20",
    ] {
        let (status, body) = app.get(path).await;
        assert_eq!(
            (status.as_u16(), &body["error"]),
            (400, &"Missing required parameter: keyword".into()),
            "{path}"
        );
    }
}

#[sqlx::test(migrations = false)]
async fn no_query_is_answered_with_a_server_error(pool: PgPool) {
    let rule = Rule::new("test", 100_000, Duration::from_secs(1));
    let app = App::with(
        pool,
        SearchConfig {
            provider_rule: rule,
            ..SearchConfig::default()
        },
    )
    .await;
    let place = || {
        prop_oneof![
            "[A-Za-z]{3}",
            "[\\PC]{0,12}",
            Just("PAR".to_owned()),
            Just("JFK".to_owned())
        ]
    };
    let date = || {
        prop_oneof![
            "20[0-9]{2}-[01][0-9]-[0-3][0-9]",
            "[0-9+-]{0,12}",
            Just("2027-05-01".to_owned()),
            Just("9999-12-31".to_owned())
        ]
    };
    let number = || prop_oneof!["[0-9]{1,2}", "[-0-9a-z.]{0,6}", Just("1".to_owned())];
    let strategy = (place(), place(), date(), date(), number(), number(), "[\\PC]{0,20}");
    let mut runner = TestRunner::default();
    for _ in 0..192 {
        let (from, to, departure, back, adults, children, rest) = strategy.new_tree(&mut runner).unwrap().current();
        let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let journey = format!(
            "origin={}&destination={}&departureDate={}",
            encode(&from),
            encode(&to),
            encode(&departure)
        );
        let more = format!(
            "returnDate={}&adults={}&children={}",
            encode(&back),
            encode(&adults),
            encode(&children)
        );
        let flights = format!("/flights/search?{journey}&{more}&{}", encode(&rest));
        let places = format!(
            "/locations/search?keyword={}&page[limit]={}",
            encode(&rest),
            encode(&adults)
        );
        for path in [flights, places] {
            let status = app.send(&path, None).await.status();
            assert!(status.as_u16() < 500, "{status} for {path}");
        }
    }
}
