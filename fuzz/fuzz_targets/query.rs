//! Query strings and paths (experience D3, D4; core §1.2): lists in every spelling, numbers, dates; one spelling per path.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shared::http::{QueryMap, kit::canonical_path};

fuzz_target!(|text: &str| {
    let query = QueryMap::parse(text);
    for name in ["ratings", "limit", "page", "date", "flag", ""] {
        for value in query.all(name) {
            assert!(!value.is_empty() && !value.contains(','));
        }
        let _ = query.first(name);
        let _ = query.integer::<i64>(name);
        let _ = query.integer::<u8>(name);
        let _ = query.integers::<i32>(name);
        let _ = query.boolean(name);
        if let Ok(Some(day)) = query.date(name) {
            assert_eq!(query.first(name), Some(day.to_string().as_str()));
        }
    }
    // whatever a path is called, its declared spelling is final
    let path = format!("/{text}");
    if let Some(declared) = canonical_path(&path) {
        assert_eq!(canonical_path(&declared), None, "{path} -> {declared}");
    }
});
