//! What the tests of this binary have asked and been answered, for `docs/conformance/core.md`.
//!
//! With `CONFORMANCE_DIR` set, each request is noted with the test that made it; `make conformance` runs the tests so and
//! writes the table. Without it nothing is noted.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::PathBuf,
    sync::{LazyLock, Mutex},
};

use http::{Method, StatusCode};

#[allow(clippy::disallowed_methods, reason = "a setting of the tests, not of the platform")]
static NOTES: LazyLock<Option<Mutex<File>>> = LazyLock::new(|| {
    let folder = PathBuf::from(std::env::var("CONFORMANCE_DIR").ok()?);
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join(format!("core-{}.tsv", std::process::id()));
    Some(Mutex::new(
        OpenOptions::new().create(true).append(true).open(file).unwrap(),
    ))
});

/// Notes a request and its status for the test that runs on this thread.
pub fn record(method: &Method, path: &str, status: StatusCode) {
    let Some(notes) = NOTES.as_ref() else { return };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("?");
    let path = shared::http::kit::canonical_path(path).unwrap_or_else(|| path.to_owned());
    let line = format!("{method}\t{path}\t{}\t{test}\n", status.as_u16());
    notes.lock().unwrap().write_all(line.as_bytes()).unwrap();
}

fn root(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}; run `make conformance`"))
}

#[test]
fn every_route_of_the_contract_is_in_the_table_with_its_tests() {
    let table = read("docs/conformance/core.md");
    let routes = read("docs/conformance/core-routes.csv");
    for line in routes.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [section, method, path] = fields[..] else {
            panic!("not section,method,path: {line}");
        };
        let row = format!("| {section} | `{method} {path}` | ");
        let found = table.lines().find(|line| line.starts_with(&row));
        let found = found.unwrap_or_else(|| panic!("{method} {path} is not in the table; run `make conformance`"));
        assert!(!found.contains("**no test**"), "no test asks {method} {path}");
    }
}

#[test]
fn every_test_that_the_table_and_the_walk_through_asvs_name_exists() {
    let mut sources = String::new();
    for folder in [
        "core-pod/tests/it",
        "core-pod/src",
        "shared/src",
        "shared/tests/it",
        "business-pod/tests/it",
    ] {
        gather(&root(folder), &mut sources);
    }
    let table = read("docs/conformance/core.md");
    let asvs = read("docs/security/asvs.md");
    // three blanks at least: what is shorter is a setting or a field
    let is_sentence = |text: &&str| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        text.bytes().all(plain) && text.matches('_').count() >= 3
    };
    let named = table.split('`').skip(1).step_by(2);
    let named = named.filter(|text| text.contains("::") || text.starts_with("must_not_copy_"));
    let walked = asvs.split('`').skip(1).step_by(2).filter(is_sentence);
    for name in named.chain(walked) {
        let function = name.rsplit("::").next().unwrap();
        assert!(
            sources.contains(&format!("fn {function}(")),
            "{name} is named in docs/conformance/core.md or docs/security/asvs.md and is gone"
        );
    }
}

fn gather(folder: &std::path::Path, sources: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, sources);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            sources.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_line_of_the_must_not_copy_list_has_a_test() {
    let table = read("docs/conformance/core.md");
    let lines: BTreeSet<u32> = table
        .lines()
        .filter(|line| line.contains("`must_not_copy_"))
        .filter_map(|line| line.split('|').nth(1)?.trim().parse().ok())
        .collect();
    let missing: Vec<u32> = (1..=22).filter(|number| !lines.contains(number)).collect();
    assert!(missing.is_empty(), "no test for {missing:?}");
}
