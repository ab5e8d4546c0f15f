//! A correction of a booking as an administrator asks for it, checked. No SQL, no HTTP.
//!
//! contract: core §5.12 (`modify`)

use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::{ApiError, error::FieldError, money::Money};

use crate::voyage::booking::model::Booking;

/// The original's column is `decimal(10,2)`: more does not fit.
const MAX_TOTAL: f64 = 99_999_999.99;
const MAX_NOTES: usize = 2_000;
/// Bytes of everything that administrators keep with one booking.
const MAX_DATA: usize = 16 * 1024;
const NOTES: &str = "adminNotes";
/// What tells of the purchase and its end: only the booking's own life changes it.
const PROTECTED: [&str; 9] = [
    "cartid",
    "items",
    "metadata",
    "createdfrom",
    "failurereason",
    "failedat",
    "cancellationreason",
    "cancelledat",
    "stripecustomerid",
];

/// What is to be changed. At least one thing is.
#[derive(Debug, Clone, PartialEq)]
pub struct Modification {
    total: Option<f64>,
    notes: Notes,
    data: Map<String, Value>,
}

/// What becomes of the notes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Notes {
    Stay,
    Become(String),
    Go,
}

/// The request as it comes.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = ModifyBooking)]
pub struct ModifyBody {
    /// Major units, at most two decimals.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<f64>)]
    pub total_amount: Option<Value>,
    /// Kept as `data.adminNotes`; null takes them away.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub notes: Option<Value>,
    /// Merged over `data`, key by key.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    pub data: Option<Value>,
}

/// Null is something that was given.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// A correction that was found good, about to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Corrected {
    /// The new total.
    pub total: Money,
    /// What is laid over `data`.
    pub data: Map<String, Value>,
    /// What is taken away from it.
    pub removed: Vec<String>,
}

impl Modification {
    /// Reads a request: every bad field is named, nothing at all is refused.
    pub fn parse(body: &ModifyBody) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let total = body.total_amount.as_ref().and_then(|value| {
            let amount = value.as_f64().filter(|amount| is_amount(*amount));
            if amount.is_none() {
                errors.push(FieldError::new(
                    "totalAmount",
                    "must be a number from 0 to 99999999.99 with at most 2 decimals",
                ));
            }
            amount
        });
        let notes = match &body.notes {
            None => Notes::Stay,
            Some(Value::Null) => Notes::Go,
            Some(Value::String(text)) if text.chars().count() <= MAX_NOTES && !text.contains('\0') => {
                Notes::Become(text.clone())
            }
            Some(_) => {
                errors.push(FieldError::new(
                    "notes",
                    format!("must be a text of at most {MAX_NOTES} characters, or null"),
                ));
                Notes::Stay
            }
        };
        let data = match &body.data {
            None => Map::new(),
            Some(Value::Object(data)) if storable(data) => data.clone(),
            Some(_) => {
                errors.push(FieldError::new(
                    "data",
                    format!("must be an object of at most {MAX_DATA} bytes without NUL characters"),
                ));
                Map::new()
            }
        };
        if !errors.is_empty() {
            return Err(ApiError::invalid(errors));
        }
        if total.is_none() && notes == Notes::Stay && data.is_empty() {
            return Err(ApiError::bad_request("Nothing to modify").with_detail("Give totalAmount, notes or data"));
        }
        Ok(Self { total, notes, data })
    }

    /// What the booking is to become. `current` is its `data` as everybody reads it: naming a protected key with the value
    /// it has changes nothing and is no offence.
    pub fn apply(&self, booking: &Booking, current: &Map<String, Value>) -> Result<Corrected, ApiError> {
        let mut errors = Vec::new();
        let mut data = Map::new();
        for (key, value) in &self.data {
            if !is_protected(key) {
                data.insert(key.clone(), value.clone());
            } else if current.get(key).is_none_or(|present| !same(present, value)) {
                errors.push(FieldError::new(
                    format!("data.{key}"),
                    "cannot be changed by hand: it follows from the purchase and its payment",
                ));
            }
        }
        if data.get(NOTES).is_some_and(|notes| !notes.is_string()) {
            errors.push(FieldError::new("data.adminNotes", "must be a text"));
        }
        let mut removed = Vec::new();
        match &self.notes {
            Notes::Become(notes) => {
                data.insert(NOTES.to_owned(), json!(notes));
            }
            Notes::Go => {
                data.remove(NOTES);
                removed.push(NOTES.to_owned());
            }
            Notes::Stay => {}
        }
        let total = match self.total {
            None => booking.total,
            Some(amount) => match Money::from_major(amount, booking.total.currency) {
                #[expect(clippy::float_cmp, reason = "the same decimal text gives the same number")]
                Some(total) if total.major() == amount => total,
                _ => {
                    let digits = booking.total.currency.exponent();
                    errors.push(FieldError::new(
                        "totalAmount",
                        format!("{} has {digits} decimals", booking.total.currency),
                    ));
                    booking.total
                }
            },
        };
        if !errors.is_empty() {
            return Err(ApiError::invalid(errors));
        }
        if total != booking.total && booking.awaits_payment() {
            return Err(
                ApiError::conflict("BOOKING_UNPAID", "The total of an unpaid booking cannot be changed")
                    .with_detail("Its payment is for the present total. Cancel the booking instead."),
            );
        }
        Ok(Corrected { total, data, removed })
    }
}

impl Corrected {
    /// What the event tells. Of free text only the names go out.
    pub fn changes(&self, booking: &Booking) -> Map<String, Value> {
        let mut changes = Map::new();
        if self.total != booking.total {
            let change = json!({ "old": booking.total.major(), "new": self.total.major() });
            changes.insert("totalAmount".to_owned(), change);
        }
        for key in self.data.keys().chain(&self.removed) {
            changes.insert(key.clone(), json!({ "old": null, "new": null }));
        }
        changes
    }
}

fn is_amount(amount: f64) -> bool {
    let cents = (amount * 100.0).round();
    #[expect(
        clippy::float_cmp,
        reason = "a number with two decimals is the nearest one to its cents"
    )]
    let two_decimals = cents / 100.0 == amount;
    amount.is_finite() && (0.0..=MAX_TOTAL).contains(&amount) && two_decimals
}

fn is_protected(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    PROTECTED.contains(&lower.as_str()) || lower.starts_with("payment") || lower.starts_with("refund")
}

/// Whether two values mean the same on the wire: `12` is `12.0`.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, value)| other.get(key).is_some_and(|other| same(value, other)))
        }
        _ => one == other,
    }
}

/// PostgreSQL's JSON holds everything but NUL, and a row should not become a file store.
fn storable(data: &Map<String, Value>) -> bool {
    fn clean(value: &Value) -> bool {
        match value {
            Value::String(text) => !text.contains('\0'),
            Value::Array(items) => items.iter().all(clean),
            Value::Object(fields) => fields.iter().all(|(key, value)| !key.contains('\0') && clean(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => true,
        }
    }
    let size = serde_json::to_vec(data).map_or(usize::MAX, |bytes| bytes.len());
    size <= MAX_DATA && data.iter().all(|(key, value)| !key.contains('\0') && clean(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: Value) -> Result<Modification, ApiError> {
        Modification::parse(&serde_json::from_value(body).unwrap())
    }

    #[test]
    fn an_amount_has_two_decimals_and_fits() {
        for amount in [0.0, 0.01, 19.99, 450.0, 1234.5, MAX_TOTAL, 0.29, 1.1] {
            assert!(is_amount(amount), "{amount}");
        }
        for amount in [-0.01, 0.001, 19.999, 1e8, f64::NAN, f64::INFINITY, 1e300] {
            assert!(!is_amount(amount), "{amount}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_amount_in_cents_is_an_amount(cents in 0_u32..) {
            proptest::prop_assert!(is_amount(f64::from(cents) / 100.0));
        }

        #[test]
        fn no_spelling_of_a_payment_field_gets_through(tail in "[A-Za-z]{0,10}", upper in proptest::bool::ANY) {
            let key = if upper { format!("PAYMENT{tail}") } else { format!("refund{tail}") };
            proptest::prop_assert!(is_protected(&key));
        }
    }

    #[test]
    fn nothing_and_nonsense_are_refused() {
        for body in [
            json!({}),
            json!({ "data": {} }),
            json!({ "totalAmount": "12" }),
            json!({ "totalAmount": null }),
            json!({ "notes": 1 }),
            json!({ "data": [] }),
            json!({ "data": { "a": ["\0"] } }),
            json!({ "data": { "big": "x".repeat(MAX_DATA) } }),
            json!({ "notes": "x".repeat(MAX_NOTES + 1) }),
        ] {
            assert_eq!(parse(body.clone()).unwrap_err().status(), 400, "{body}");
        }
        assert!(parse(json!({ "notes": null })).is_ok());
    }

    #[test]
    fn numbers_are_the_same_however_they_are_written() {
        assert!(same(&json!({ "a": [12, "x"] }), &json!({ "a": [12.0, "x"] })));
        assert!(!same(&json!({ "a": 1 }), &json!({ "a": 1, "b": 2 })));
    }
}
