//! What is generated and committed equals what the code says, so that a change of the contract is a visible diff.

use business_pod::BusinessPod;
use core_pod::CorePod;
use experience_pod::ExperiencePod;
use serde_json::Value;
use shared::pod::Pod;

fn committed(path: &str) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/");
    std::fs::read_to_string(format!("{root}{path}"))
        .unwrap_or_else(|error| panic!("docs/{path}: {error}; run `make openapi`"))
}

fn assert_document<P: Pod>() {
    let now: Value = serde_json::from_str(&P::openapi().to_json().unwrap()).unwrap();
    let then: Value = serde_json::from_str(&committed(&format!("openapi/{}.json", P::NAME))).unwrap();
    assert!(
        now == then,
        "the API of {} differs from docs/openapi; run `make openapi` and look at the diff",
        P::NAME
    );
}

#[test]
fn the_openapi_documents_are_those_of_the_code() {
    assert_document::<CorePod>();
    assert_document::<BusinessPod>();
    assert_document::<ExperiencePod>();
}

#[test]
fn the_configuration_reference_is_that_of_the_code() {
    let now = dreamscape::configuration::reference();
    assert!(
        now == committed("configuration.md"),
        "docs/configuration.md differs from the code; run `make openapi`"
    );
}

#[test]
fn every_service_migrates_the_schema_its_code_uses() {
    let mut seen = std::collections::BTreeSet::new();
    for migrations in CorePod::migrations().into_iter().chain(BusinessPod::migrations()) {
        assert!(
            seen.insert(migrations.schema.to_owned()),
            "{} is migrated twice",
            migrations.schema
        );
    }
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        ["ai", "auth", "mail", "payment", "users", "voyage"]
    );
}
