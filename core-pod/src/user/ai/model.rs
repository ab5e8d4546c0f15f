//! The preferences object, made of a traveller's onboarding.
//!
//! contract: core §5.13, ai §6.6

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use shared::{id::UserId, sources::iso_millis};

/// The answers that count towards completeness.
const COUNTED: [&str; 8] = [
    "travelTypes",
    "preferredDestinations",
    "globalBudgetRange",
    "accommodationTypes",
    "preferredAirlines",
    "activityTypes",
    "travelGroupTypes",
    "comfortLevel",
];

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Another service, bound by the traveller's consent.
    Service,
    /// The traveller.
    Owner,
}

/// A traveller as the AI service may see them.
#[derive(Debug, Clone)]
pub struct Traveller {
    pub user: UserId,
    /// Answers by their names on the wire; empty before onboarding.
    pub answers: Map<String, Value>,
    pub is_completed: bool,
    pub completed_at: Option<DateTime<Utc>>,
    pub completed_steps: Vec<String>,
    pub version: i32,
    /// The last change of the answers, else of the account.
    pub updated_at: DateTime<Utc>,
    /// Whether personalisation is allowed.
    pub allows_preferences: bool,
    /// Whether that was said, and not only never objected to.
    pub allows_in_so_many_words: bool,
}

impl Traveller {
    /// The object of the contract, as far as the reader may see it.
    pub fn shown_to(&self, reader: Reader) -> Value {
        if reader == Reader::Service && !self.allows_preferences {
            return json!({
                "userId": self.user,
                "isOnboardingCompleted": self.is_completed,
                "onboardingCompletedAt": self.completed_at.map(iso_millis),
            });
        }
        let with_special = reader == Reader::Owner || self.allows_in_so_many_words;
        json!({
            "userId": self.user,
            "isOnboardingCompleted": self.is_completed,
            "onboardingCompletedAt": self.completed_at.map(iso_millis),
            "lastUpdated": iso_millis(self.updated_at),
            "preferences": self.preferences(with_special),
            "metadata": {
                "completedSteps": self.completed_steps,
                "profileVersion": self.version,
                "dataQuality": { "completeness": self.completeness(), "confidence": self.confidence() },
            },
        })
    }

    fn preferences(&self, with_special: bool) -> Value {
        let special = |name: &str| if with_special { self.list(name) } else { json!([]) };
        let destinations = self.answers.get("preferredDestinations").cloned().unwrap_or_default();
        let places = |part: &str| {
            destinations
                .get(part)
                .filter(|list| list.is_array())
                .cloned()
                .unwrap_or(json!([]))
        };
        json!({
            "destinations": { "regions": places("regions"), "countries": places("countries"), "climates": places("climates") },
            "budget": present(json!({ "flexibility": self.lower("budgetFlexibility") }), &[
                ("globalRange", self.value("globalBudgetRange")),
                ("byCategory", self.value("budgetByCategory")),
            ]),
            "travel": {
                "types": self.lower_list("travelTypes"), "purposes": self.list("travelPurposes"),
                "style": self.lower("travelStyle"), "groupTypes": self.list("travelGroupTypes"),
                "travelWithChildren": self.answers.get("travelWithChildren").cloned().unwrap_or(json!(false)),
                "childrenAges": self.list("childrenAges"),
            },
            "timing": present(
                json!({ "preferredSeasons": self.list("preferredSeasons"), "dateFlexibility": self.lower("dateFlexibility") }),
                &[("typicalDuration", self.value("preferredTripDuration"))],
            ),
            "accommodation": present(
                json!({ "types": self.list("accommodationTypes"), "comfortLevel": self.lower("accommodationLevel") }),
                &[("serviceLevel", self.value("serviceLevel")), ("privacyPreference", self.value("privacyPreference"))],
            ),
            "transport": present(
                json!({ "preferredAirlines": self.list("preferredAirlines"), "modes": self.list("transportModes") }),
                &[("cabinClass", self.value("cabinClassPreference")), ("budgetShare", self.value("transportBudgetShare"))],
            ),
            "activities": {
                "types": self.list("activityTypes"), "interests": self.list("interestCategories"),
                "activityLevel": self.lower("activityLevel"),
            },
            "constraints": {
                "dietary": special("dietaryRequirements"), "accessibility": special("accessibilityNeeds"),
                "health": special("healthConsiderations"), "cultural": self.list("culturalConsiderations"),
                "languages": self.list("languageBarriers"),
            },
            "experience": present(
                json!({ "riskTolerance": self.lower("riskTolerance") }),
                &[("level", self.value("experienceLevel")), ("culturalImmersion", self.value("culturalImmersion"))],
            ),
            "climate": present(
                json!({ "preferences": self.list("climatePreferences") }),
                &[("tolerances", self.value("weatherTolerances"))],
            ),
            "loyalty": present(
                json!({ "paymentPreferences": self.list("paymentPreferences") }),
                &[("programs", self.programs())],
            ),
        })
    }

    fn value(&self, name: &str) -> Option<Value> {
        self.answers.get(name).filter(|value| !value.is_null()).cloned()
    }

    fn list(&self, name: &str) -> Value {
        self.answers
            .get(name)
            .filter(|value| value.is_array())
            .cloned()
            .unwrap_or(json!([]))
    }

    fn lower(&self, name: &str) -> Option<String> {
        self.answers.get(name).and_then(Value::as_str).map(str::to_lowercase)
    }

    fn lower_list(&self, name: &str) -> Vec<String> {
        let items = self.answers.get(name).and_then(Value::as_array);
        let items = items.into_iter().flatten().filter_map(Value::as_str);
        items.map(str::to_lowercase).collect()
    }

    /// `[{program, level, priority?}]`, whatever shape the client kept them in.
    fn programs(&self) -> Option<Value> {
        let stored = self.value("loyaltyPrograms")?;
        let items = stored.as_array()?;
        let programs = items.iter().filter_map(|item| match item {
            Value::String(name) => Some(json!({ "program": name, "level": "" })),
            Value::Object(fields) => {
                let program = fields.get("program").or_else(|| fields.get("name"))?;
                let level = fields.get("level").cloned().unwrap_or(json!(""));
                Some(present(
                    json!({ "program": program, "level": level }),
                    &[("priority", fields.get("priority").cloned())],
                ))
            }
            _ => None,
        });
        Some(programs.collect())
    }

    /// How many of the eight are there, in per cent.
    pub fn completeness(&self) -> i64 {
        let is_there = |name: &str| match self.answers.get(name) {
            None | Some(Value::Null) => false,
            Some(Value::Array(items)) => !items.is_empty(),
            Some(_) => true,
        };
        let filled = COUNTED.into_iter().filter(|name| is_there(name)).count();
        // half a point is rounded up, as the original does
        i64::try_from((200 * filled + COUNTED.len()) / (2 * COUNTED.len())).unwrap_or(100)
    }

    fn confidence(&self) -> i64 {
        if self.is_completed {
            (self.completeness() + 20).min(100)
        } else {
            (self.completeness() - 10).max(0)
        }
    }
}

/// An object with those of these keys that have a value.
fn present(object: Value, optional: &[(&str, Option<Value>)]) -> Value {
    let Value::Object(mut fields) = object else {
        return object;
    };
    for (name, value) in optional {
        if let Some(value) = value.clone().filter(|value| !value.is_null()) {
            fields.insert((*name).to_owned(), value);
        }
    }
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn traveller(answers: &Value) -> Traveller {
        Traveller {
            user: UserId(Uuid::from_u128(1)),
            answers: answers.as_object().unwrap().clone(),
            is_completed: false,
            completed_at: None,
            completed_steps: vec![],
            version: 1,
            updated_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
            allows_preferences: true,
            allows_in_so_many_words: false,
        }
    }

    #[test]
    fn enumerations_are_lower_cased_and_gaps_are_empty() {
        let shown = traveller(&json!({
            "travelTypes": ["BEACH", "URBAN"], "travelStyle": "MIXED", "accommodationLevel": "LUXURY", "comfortLevel": "BASIC",
            "preferredDestinations": { "countries": ["FR"], "bucketList": ["x"] },
            "globalBudgetRange": { "min": 1, "max": 2, "currency": "EUR" },
        }))
        .shown_to(Reader::Service);
        let preferences = &shown["preferences"];
        assert_eq!(preferences["travel"]["types"], json!(["beach", "urban"]));
        assert_eq!(preferences["travel"]["style"], "mixed");
        assert_eq!(
            preferences["accommodation"],
            json!({ "types": [], "comfortLevel": "luxury" })
        );
        assert_eq!(
            preferences["destinations"],
            json!({ "regions": [], "countries": ["FR"], "climates": [] })
        );
        assert_eq!(preferences["budget"]["globalRange"]["max"], 2);
        assert_eq!(preferences["budget"]["flexibility"], Value::Null);
        assert_eq!(preferences["experience"], json!({ "riskTolerance": null }));
        assert_eq!(
            shown["metadata"]["dataQuality"],
            json!({ "completeness": 50, "confidence": 40 })
        );
        assert_eq!(shown["lastUpdated"], "2027-01-15T08:00:00.000Z");
    }

    #[test]
    fn quality_follows_what_is_filled_and_whether_it_is_completed() {
        let mut somebody = traveller(&json!({ "travelTypes": [], "comfortLevel": "BASIC" }));
        assert_eq!((somebody.completeness(), somebody.confidence()), (13, 3));
        somebody.is_completed = true;
        assert_eq!(somebody.confidence(), 33);
        let nobody = traveller(&json!({}));
        assert_eq!((nobody.completeness(), nobody.confidence()), (0, 0));
    }

    #[test]
    fn consent_decides_what_a_service_sees_and_not_what_the_owner_sees() {
        let answers = json!({ "healthConsiderations": ["asthma"], "dietaryRequirements": ["vegan"], "accessibilityNeeds": ["lift"] });
        let mut ada = traveller(&answers);
        let health = |ada: &Traveller, reader| ada.shown_to(reader)["preferences"]["constraints"]["health"].clone();
        assert_eq!(health(&ada, Reader::Service), json!([]));
        assert_eq!(health(&ada, Reader::Owner), json!(["asthma"]));
        ada.allows_in_so_many_words = true;
        assert_eq!(health(&ada, Reader::Service), json!(["asthma"]));
        ada.allows_preferences = false;
        let shown = ada.shown_to(Reader::Service);
        assert_eq!(shown.as_object().unwrap().len(), 3, "{shown}");
        assert!(ada.shown_to(Reader::Owner)["preferences"].is_object());
    }

    #[test]
    fn loyalty_programs_have_one_shape() {
        let ada = traveller(
            &json!({ "loyaltyPrograms": ["Flying Blue", { "name": "Miles", "level": "gold", "priority": 1 }, 7] }),
        );
        assert_eq!(
            ada.shown_to(Reader::Service)["preferences"]["loyalty"]["programs"],
            json!([{ "program": "Flying Blue", "level": "" }, { "program": "Miles", "level": "gold", "priority": 1 }])
        );
    }
}
