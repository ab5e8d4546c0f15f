//! What a traveller may answer: the list of columns, and for each of them what is valid.
//!
//! contract: core §5.5 (allow-list, aliases, validation), §11 (enumerations)
//!
//! Unknown and forbidden keys (`id`, `userId`, `user`, `isCompleted`, …) are not on the list and therefore ignored.

use serde_json::{Map, Value, json};

use crate::user::json::Plain;

/// What is wrong with an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Where: `globalBudgetRange.min`.
    pub field: String,
    /// What, fit to be shown.
    pub error: String,
    /// What was sent, where it is short enough to be said again.
    pub value: Value,
}

impl Problem {
    /// At `field`.
    pub fn new(field: impl Into<String>, error: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            error: error.into(),
            value: Value::Null,
        }
    }

    fn about(mut self, value: &Value) -> Self {
        if value.fits(200) {
            self.value = value.clone();
        }
        self
    }
}

/// What a column holds.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Any JSON of a moderate size.
    Anything,
    /// An object whose three lists, if they are there, are lists.
    Destinations,
    /// `{min, max, currency}`.
    Budget,
    /// One of these names.
    OneOf(&'static [&'static str]),
    /// A list of these names.
    SomeOf(&'static [&'static str]),
    /// A list of short texts.
    Texts,
    /// A short text.
    Text,
    /// A percentage.
    Share,
    /// True or false.
    Flag,
    /// Ages of children.
    Ages,
}

/// A column that a traveller may write.
#[derive(Debug)]
struct Field {
    /// Its name on the wire.
    name: &'static str,
    column: &'static str,
    kind: Kind,
}

const MAX_JSON: usize = 8 * 1024;
const MAX_ITEMS: usize = 50;
const MAX_TEXT: usize = 100;
const MAX_CHILDREN: usize = 20;
const OLDEST_CHILD: i64 = 25;

const TRAVEL_TYPES: &[&str] = &[
    "ADVENTURE",
    "CULTURAL",
    "RELAXATION",
    "BUSINESS",
    "FAMILY",
    "ROMANTIC",
    "WELLNESS",
    "EDUCATIONAL",
    "CULINARY",
    "SHOPPING",
    "NIGHTLIFE",
    "NATURE",
    "URBAN",
    "BEACH",
    "MOUNTAIN",
    "HISTORICAL",
];
const TRAVEL_STYLES: &[&str] = &["PLANNED", "SPONTANEOUS", "MIXED"];
const COMFORT_LEVELS: &[&str] = &["BASIC", "STANDARD", "PREMIUM", "LUXURY"];
const BUDGET_FLEXIBILITY: &[&str] = &["STRICT", "FLEXIBLE", "VERY_FLEXIBLE"];
const DATE_FLEXIBILITY: &[&str] = &["FLEXIBLE", "SEMI_FLEXIBLE", "FIXED"];
const ACTIVITY_LEVELS: &[&str] = &["LOW", "MODERATE", "HIGH", "VERY_HIGH"];
const RISK_TOLERANCE: &[&str] = &["CONSERVATIVE", "MODERATE", "ADVENTUROUS"];

const fn field(name: &'static str, column: &'static str, kind: Kind) -> Field {
    Field { name, column, kind }
}

static FIELDS: [Field; 38] = [
    field("preferredDestinations", "preferred_destinations", Kind::Destinations),
    field("travelStyle", "travel_style", Kind::OneOf(TRAVEL_STYLES)),
    field("globalBudgetRange", "global_budget_range", Kind::Budget),
    field("budgetByCategory", "budget_by_category", Kind::Anything),
    field(
        "budgetFlexibility",
        "budget_flexibility",
        Kind::OneOf(BUDGET_FLEXIBILITY),
    ),
    field("travelTypes", "travel_types", Kind::SomeOf(TRAVEL_TYPES)),
    field("travelPurposes", "travel_purposes", Kind::Texts),
    field("preferredSeasons", "preferred_seasons", Kind::Texts),
    field("preferredTripDuration", "preferred_trip_duration", Kind::Anything),
    field("dateFlexibility", "date_flexibility", Kind::OneOf(DATE_FLEXIBILITY)),
    field("accommodationTypes", "accommodation_types", Kind::Texts),
    field("accommodationLevel", "accommodation_level", Kind::OneOf(COMFORT_LEVELS)),
    field("roomPreferences", "room_preferences", Kind::Anything),
    field("preferredAirlines", "preferred_airlines", Kind::Texts),
    field("cabinClassPreference", "cabin_class_preference", Kind::Text),
    field("transportModes", "transport_modes", Kind::Texts),
    field("transportBudgetShare", "transport_budget_share", Kind::Share),
    field("activityTypes", "activity_types", Kind::Texts),
    field("interestCategories", "interest_categories", Kind::Texts),
    field("activityLevel", "activity_level", Kind::OneOf(ACTIVITY_LEVELS)),
    field("travelGroupTypes", "travel_group_types", Kind::Texts),
    field("groupSize", "group_size", Kind::Anything),
    field("travelWithChildren", "travel_with_children", Kind::Flag),
    field("childrenAges", "children_ages", Kind::Ages),
    field("dietaryRequirements", "dietary_requirements", Kind::Texts),
    field("accessibilityNeeds", "accessibility_needs", Kind::Texts),
    field("healthConsiderations", "health_considerations", Kind::Texts),
    field("languageBarriers", "language_barriers", Kind::Texts),
    field("culturalConsiderations", "cultural_considerations", Kind::Texts),
    field("comfortLevel", "comfort_level", Kind::OneOf(COMFORT_LEVELS)),
    field("serviceLevel", "service_level", Kind::Text),
    field("privacyPreference", "privacy_preference", Kind::Text),
    field("climatePreferences", "climate_preferences", Kind::Texts),
    field("weatherTolerances", "weather_tolerances", Kind::Anything),
    field("experienceLevel", "experience_level", Kind::Text),
    field("riskTolerance", "risk_tolerance", Kind::OneOf(RISK_TOLERANCE)),
    field("culturalImmersion", "cultural_immersion", Kind::Text),
    field("loyaltyPrograms", "loyalty_programs", Kind::Anything),
];

/// The last column, apart because an array of thirty-nine is no easier to read.
static PAYMENTS: Field = field("paymentPreferences", "payment_preferences", Kind::Texts);

/// Other names under which clients send a column.
static ALIASES: [(&str, &str); 6] = [
    ("dietaryRestrictions", "dietaryRequirements"),
    ("seasonalPreferences", "preferredSeasons"),
    ("travelExperienceLevel", "experienceLevel"),
    ("typicalTripDuration", "preferredTripDuration"),
    ("preferredDuration", "preferredTripDuration"),
    ("groupSizePreference", "groupSize"),
];

fn fields() -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().chain([&PAYMENTS])
}

/// Answers that may be stored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// By column: what `jsonb_populate_record` writes over a row.
    pub columns: Map<String, Value>,
    /// By name on the wire: what the step remembers.
    pub named: Map<String, Value>,
}

impl Answers {
    /// Reads what was sent with a step: known columns, under their names or aliases, each checked whatever the step is.
    pub fn read(step: &str, data: &Map<String, Value>) -> Result<Self, Vec<Problem>> {
        let mut answers = Self::default();
        let mut problems = Vec::new();
        for field in fields() {
            let Some(given) = find(field.name, data) else { continue };
            match field.kind.read(field.name, given) {
                Ok(value) => {
                    answers.columns.insert(field.column.to_owned(), value.clone());
                    answers.named.insert(field.name.to_owned(), value);
                }
                Err(found) => problems.extend(found),
            }
        }
        let with_children = answers.named.get("travelWithChildren") == Some(&json!(true));
        if step == "group_travel" && with_children && !data.get("childrenAges").is_some_and(Value::is_array) {
            problems.push(Problem::new(
                "childrenAges",
                "The ages of the children are required when travelling with children",
            ));
        }
        if problems.is_empty() {
            Ok(answers)
        } else {
            Err(problems)
        }
    }
}

/// What was sent for a column; its own name goes before its aliases.
fn find<'d>(name: &str, data: &'d Map<String, Value>) -> Option<&'d Value> {
    let aliases = ALIASES.iter().filter(|(_, target)| *target == name);
    data.get(name)
        .or_else(|| aliases.map(|(alias, _)| *alias).find_map(|alias| data.get(alias)))
}

/// A stored row, by its columns, in the names of the wire. JSON columns without a value are left out (core §5.5).
pub fn on_the_wire(row: &Map<String, Value>) -> Map<String, Value> {
    let mut named = Map::new();
    for field in fields() {
        let value = row.get(field.column).cloned().unwrap_or_default();
        let may_be_absent = matches!(field.kind, Kind::Anything | Kind::Destinations | Kind::Budget);
        if !(value.is_null() && may_be_absent) {
            named.insert(field.name.to_owned(), value);
        }
    }
    named
}

impl Kind {
    /// The value to store; null takes an answer back.
    fn read(self, name: &str, given: &Value) -> Result<Value, Vec<Problem>> {
        if given.is_null() {
            return Ok(self.nothing());
        }
        let wrong = |error: String| vec![Problem::new(name, error).about(given)];
        match self {
            Self::Anything => {
                let fits = given.fits(MAX_JSON);
                fits.then(|| given.clone())
                    .ok_or_else(|| wrong(format!("{name} is too large")))
            }
            Self::Destinations => destinations(name, given),
            Self::Budget => budget(name, given),
            Self::OneOf(names) => one_of(names, given)
                .map(Value::from)
                .ok_or_else(|| wrong(format!("{name} must be one of: {}", names.join(", ")))),
            Self::SomeOf(names) => list(given, |item| one_of(names, item).map(Value::from))
                .ok_or_else(|| wrong(format!("{name} must be a list of: {}", names.join(", ")))),
            Self::Texts => list(given, |item| text(item).map(Value::from))
                .ok_or_else(|| wrong(format!("{name} must be a list of short texts"))),
            Self::Text => text(given)
                .map(Value::from)
                .ok_or_else(|| wrong(format!("{name} must be a short text"))),
            Self::Share => given
                .as_f64()
                .filter(|share| (0.0..=100.0).contains(share))
                .map(Value::from)
                .ok_or_else(|| wrong(format!("{name} must be a number from 0 to 100"))),
            Self::Flag => given
                .as_bool()
                .map(Value::from)
                .ok_or_else(|| wrong(format!("{name} must be true or false"))),
            Self::Ages => list(given, |item| age(item).map(Value::from))
                .filter(|ages| ages.as_array().is_some_and(|ages| ages.len() <= MAX_CHILDREN))
                .ok_or_else(|| wrong(format!("{name} must be a list of ages"))),
        }
    }

    fn nothing(self) -> Value {
        match self {
            Self::SomeOf(_) | Self::Texts | Self::Ages => json!([]),
            Self::Flag => json!(false),
            _ => Value::Null,
        }
    }
}

fn one_of(names: &[&'static str], given: &Value) -> Option<&'static str> {
    // the client's word for the middle of three
    let given = match given.as_str()? {
        "SOMEWHAT_FLEXIBLE" if names == BUDGET_FLEXIBILITY => "FLEXIBLE",
        other => other,
    };
    names.iter().find(|name| **name == given).copied()
}

fn text(given: &Value) -> Option<&str> {
    let text = given.as_str()?;
    let is_short = text.chars().count() <= MAX_TEXT;
    (is_short && !text.contains('\0')).then_some(text)
}

fn age(given: &Value) -> Option<i64> {
    given.as_i64().filter(|age| (0..=OLDEST_CHILD).contains(age))
}

fn list(given: &Value, item: impl Fn(&Value) -> Option<Value>) -> Option<Value> {
    let items = given.as_array().filter(|items| items.len() <= MAX_ITEMS)?;
    items.iter().map(item).collect::<Option<Vec<_>>>().map(Value::from)
}

/// Three lists that must be lists; whatever else a client keeps here passes.
fn destinations(name: &str, given: &Value) -> Result<Value, Vec<Problem>> {
    let Some(places) = given.as_object().filter(|_| given.fits(MAX_JSON)) else {
        let error = format!("{name} must be an object of moderate size");
        return Err(vec![Problem::new(name, error).about(given)]);
    };
    let odd = ["regions", "countries", "climates"].into_iter().filter_map(|part| {
        let value = places.get(part)?;
        let is_list = value.as_array().is_some_and(|items| items.iter().all(Value::is_string));
        (!is_list && !value.is_null())
            .then(|| Problem::new(format!("{name}.{part}"), format!("{part} must be a list of names")).about(value))
    });
    let problems: Vec<_> = odd.collect();
    if problems.is_empty() {
        Ok(given.clone())
    } else {
        Err(problems)
    }
}

fn budget(name: &str, given: &Value) -> Result<Value, Vec<Problem>> {
    let part = |key: &str| given.get(key).unwrap_or(&Value::Null);
    let amount = |key: &str| part(key).as_f64().filter(|amount| *amount >= 0.0);
    let problem = |key: &str, error: &str| Problem::new(format!("{name}.{key}"), error).about(part(key));
    let (min, max) = (amount("min"), amount("max"));
    let mut problems = Vec::new();
    if min.is_none() {
        problems.push(problem("min", "The least budget must be a number from 0"));
    }
    if max.is_none() {
        problems.push(problem("max", "The highest budget must be a number from 0"));
    }
    if let (Some(min), Some(max)) = (min, max)
        && min >= max
    {
        problems.push(problem("max", "The highest budget must be above the least"));
    }
    let is_currency = |code: &str| code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_alphabetic());
    if !part("currency").as_str().is_some_and(is_currency) {
        problems.push(problem("currency", "The currency must be a code of three letters"));
    }
    if !given.fits(MAX_JSON) {
        problems.push(Problem::new(name, format!("{name} is too large")));
    }
    if problems.is_empty() {
        Ok(given.clone())
    } else {
        Err(problems)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn read(step: &str, data: &Value) -> Result<Answers, Vec<Problem>> {
        Answers::read(step, data.as_object().unwrap())
    }

    fn fields_of(problems: Result<Answers, Vec<Problem>>) -> Vec<String> {
        problems.unwrap_err().into_iter().map(|problem| problem.field).collect()
    }

    #[test]
    fn names_and_columns_are_each_there_once() {
        let names: BTreeSet<_> = fields().map(|field| field.name).collect();
        let columns: BTreeSet<_> = fields().map(|field| field.column).collect();
        assert_eq!((names.len(), columns.len()), (39, 39));
        for (alias, target) in ALIASES {
            assert!(!names.contains(alias) && names.contains(target), "{alias}");
        }
        for forbidden in [
            "id",
            "userId",
            "user",
            "isCompleted",
            "completedSteps",
            "completedAt",
            "version",
            "createdAt",
            "updatedAt",
        ] {
            assert!(!names.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn a_budget_can_be_wrong_in_four_ways() {
        let all = json!({ "globalBudgetRange": { "min": -1, "max": "x", "currency": 5 } });
        assert_eq!(
            fields_of(read("budget", &all)),
            [
                "globalBudgetRange.min",
                "globalBudgetRange.max",
                "globalBudgetRange.currency"
            ]
        );
        let upside_down = json!({ "globalBudgetRange": { "min": 5, "max": 5, "currency": "EUR" } });
        assert_eq!(fields_of(read("budget", &upside_down)), ["globalBudgetRange.max"]);
        let good = json!({ "globalBudgetRange": { "min": 0, "max": 0.5, "currency": "EUR" }, "budgetFlexibility": "SOMEWHAT_FLEXIBLE" });
        let answers = read("budget", &good).unwrap();
        assert_eq!(answers.columns["budget_flexibility"], "FLEXIBLE");
        for odd in [json!(5), json!("x"), json!([])] {
            assert!(read("budget", &json!({ "globalBudgetRange": odd })).is_err());
        }
    }

    #[test]
    fn every_column_is_checked_whatever_the_step() {
        for (data, field) in [
            (json!({ "travelTypes": ["BEACH", "MOON"] }), "travelTypes"),
            (json!({ "travelTypes": "BEACH" }), "travelTypes"),
            (json!({ "travelStyle": "mixed" }), "travelStyle"),
            (json!({ "comfortLevel": 1 }), "comfortLevel"),
            (json!({ "dateFlexibility": "NEVER" }), "dateFlexibility"),
            (json!({ "activityLevel": "EXTREME" }), "activityLevel"),
            (json!({ "riskTolerance": {} }), "riskTolerance"),
            (json!({ "budgetFlexibility": "LOOSE" }), "budgetFlexibility"),
            (json!({ "preferredAirlines": vec!["AF"; 51] }), "preferredAirlines"),
            (json!({ "serviceLevel": "x".repeat(101) }), "serviceLevel"),
            (json!({ "serviceLevel": "\0" }), "serviceLevel"),
            (json!({ "transportBudgetShare": 101 }), "transportBudgetShare"),
            (json!({ "travelWithChildren": "yes" }), "travelWithChildren"),
            (json!({ "childrenAges": [3, -1] }), "childrenAges"),
            (json!({ "childrenAges": [3.5] }), "childrenAges"),
            (json!({ "loyaltyPrograms": "x".repeat(9_000) }), "loyaltyPrograms"),
            (json!({ "roomPreferences": { "a": "\0" } }), "roomPreferences"),
            (
                json!({ "preferredDestinations": { "regions": "Europe" } }),
                "preferredDestinations.regions",
            ),
            (
                json!({ "preferredDestinations": { "countries": [1] } }),
                "preferredDestinations.countries",
            ),
            (json!({ "preferredDestinations": [] }), "preferredDestinations"),
        ] {
            assert_eq!(fields_of(read("any-step", &data)), [field], "{data}");
        }
    }

    #[test]
    fn other_keys_of_destinations_pass() {
        let places = json!({ "destinations": ["Paris, France"], "bucketList": [], "destinationTypes": ["urban"], "regions": null });
        let answers = read("destinations", &json!({ "preferredDestinations": places })).unwrap();
        assert_eq!(answers.columns["preferred_destinations"], places);
    }

    #[test]
    fn children_have_ages_in_the_step_that_asks_for_them() {
        assert_eq!(
            fields_of(read("group_travel", &json!({ "travelWithChildren": true }))),
            ["childrenAges"]
        );
        assert!(
            read(
                "group_travel",
                &json!({ "travelWithChildren": true, "childrenAges": [4, 9] })
            )
            .is_ok()
        );
        assert!(read("group_travel", &json!({ "travelWithChildren": false })).is_ok());
        assert!(read("comfort_service", &json!({ "travelWithChildren": true })).is_ok());
    }

    #[test]
    fn aliases_are_read_and_the_proper_name_wins() {
        let data = json!({
            "dietaryRestrictions": ["vegan"], "seasonalPreferences": ["summer"], "travelExperienceLevel": "expert",
            "typicalTripDuration": { "min": 3 }, "groupSizePreference": 2, "groupSize": 4,
        });
        let answers = read("special_needs", &data).unwrap();
        assert_eq!(answers.columns["dietary_requirements"], json!(["vegan"]));
        assert_eq!(answers.columns["preferred_seasons"], json!(["summer"]));
        assert_eq!(answers.columns["experience_level"], "expert");
        assert_eq!(answers.columns["preferred_trip_duration"], json!({ "min": 3 }));
        assert_eq!(answers.columns["group_size"], 4);
    }

    #[test]
    fn null_takes_an_answer_back() {
        let answers = read(
            "x",
            &json!({ "travelTypes": null, "travelStyle": null, "travelWithChildren": null }),
        )
        .unwrap();
        assert_eq!(answers.columns["travel_types"], json!([]));
        assert_eq!(answers.columns["travel_style"], Value::Null);
        assert_eq!(answers.columns["travel_with_children"], false);
    }

    #[test]
    fn rows_go_out_under_the_names_they_came_in_with() {
        let row = json!({ "travel_types": ["BEACH"], "travel_style": null, "group_size": null, "user_id": "x" });
        let named = on_the_wire(row.as_object().unwrap());
        assert_eq!(named["travelTypes"], json!(["BEACH"]));
        assert_eq!(named["travelStyle"], Value::Null);
        assert!(!named.contains_key("groupSize") && !named.contains_key("userId"));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            Just(json!("BEACH")),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map("[a-z]{1,8}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn only_columns_of_the_list_come_out(keys in prop::collection::vec((prop_oneof![
            prop::sample::select(vec!["travelTypes", "user", "isCompleted", "role", "id", "userId", "groupSize", "childrenAges", "version"])
                .prop_map(str::to_owned),
            "[a-zA-Z_.]{1,20}".prop_map(String::from),
        ], any_value()), 0..8)) {
            let data: Map<String, Value> = keys.into_iter().collect();
            if let Ok(answers) = Answers::read("budget", &data) {
                let columns: BTreeSet<_> = fields().map(|field| field.column).collect();
                prop_assert!(answers.columns.keys().all(|column| columns.contains(column.as_str())));
            }
        }
    }
}
