//! What clients send, checked in the order the contract gives.
//!
//! contract: payment §4.1, §4.9, §10

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use shared::{
    ApiError,
    money::{Currency, Money},
};

use super::intents::RESERVED_METADATA;

/// `{amount, currency, bookingId, bookingReference, userId, metadata?}` for the OpenAPI document; read by [`Create::parse`].
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreateBody {
    /// Minor units; must be the booking's total.
    #[schema(example = 45_050, minimum = 1, maximum = 99_999_999)]
    amount: i64,
    /// ISO 4217, either case.
    #[schema(example = "eur")]
    currency: String,
    /// The booking's row id or reference; optional beside `bookingReference`.
    booking_id: Option<String>,
    /// `BOOK-YYYYMMDD-XXXXX`; optional beside `bookingId`.
    booking_reference: Option<String>,
    /// Must be the signed-in user's.
    user_id: Option<String>,
    /// At most 50 scalars.
    metadata: Option<BTreeMap<String, Value>>,
}

/// `{paymentIntentId, paymentMethodId?, returnUrl?}` for the OpenAPI document; read by [`Confirm::parse`].
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfirmBody {
    /// `pi_…`
    payment_intent_id: String,
    /// `pm_…`; without it the payment is only looked at.
    payment_method_id: Option<String>,
    /// Where the bank sends the traveller back to; on one of our origins.
    return_url: Option<String>,
}

/// A valid request for a payment.
#[derive(Debug)]
pub struct Create {
    /// What the client believes the booking costs.
    pub amount: Money,
    /// Row id or reference.
    pub booking_id: Option<String>,
    /// Reference.
    pub reference: Option<String>,
    /// Who the client says is paying.
    pub user: Option<String>,
    /// Free additions.
    pub metadata: BTreeMap<String, String>,
}

/// A valid request to confirm.
#[derive(Debug)]
pub struct Confirm {
    /// `pi_…`
    pub intent: String,
    /// `pm_…`
    pub method: Option<String>,
    /// Where to come back to.
    pub return_url: Option<String>,
}

/// `^pi_[A-Za-z0-9_]+$`, of sane length.
pub fn is_intent_id(id: &str) -> bool {
    is_stripe_id(id, "pi_")
}

fn is_stripe_id(id: &str, prefix: &str) -> bool {
    let Some(rest) = id.strip_prefix(prefix) else {
        return false;
    };
    !rest.is_empty() && id.len() <= 255 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// JavaScript's idea of nothing: absent, null, false, 0, "".
fn is_falsy(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => true,
        Some(Value::Number(number)) => number.as_f64() == Some(0.0),
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Bool(true) | Value::Array(_) | Value::Object(_)) => false,
    }
}

fn missing(required: &[&str]) -> ApiError {
    ApiError::bad_request("Missing required fields").with_extra("required", json!(required))
}

fn invalid(what: &'static str) -> ApiError {
    ApiError::bad_request("Validation failed").with_detail(what)
}

/// An optional text of printable characters; anything else of that name is refused.
fn text(body: &Map<String, Value>, name: &str, what: &'static str) -> Result<Option<String>, ApiError> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.len() <= 255 && !text.chars().any(char::is_control) => Ok(Some(text.clone())),
        Some(_) => Err(invalid(what)),
    }
}

impl Create {
    /// Reads the body. A user need not name themselves, a service must name the user.
    pub fn parse(body: &Value, by_user: bool) -> Result<Self, ApiError> {
        let empty = Map::new();
        let body = body.as_object().unwrap_or(&empty);
        let present = |name: &str| !is_falsy(body.get(name));
        let booking_named =
            present("bookingReference") || present("bookingId") && body.get("bookingReference").is_none();
        let complete = present("amount") && present("currency") && booking_named && (by_user || present("userId"));
        if !complete {
            return Err(missing(&[
                "amount",
                "currency",
                "bookingId",
                "bookingReference",
                "userId",
            ]));
        }
        let minor = minor(body.get("amount"))?;
        let currency = currency(body.get("currency"))?;
        let create = Self {
            amount: Money::new(minor, currency),
            booking_id: text(body, "bookingId", "bookingId must be a text")?,
            reference: text(body, "bookingReference", "bookingReference must be a text")?,
            user: text(body, "userId", "userId must be a text")?,
            metadata: metadata(body.get("metadata"))?,
        };
        Ok(create)
    }

    /// What to look the booking up by.
    pub fn booking(&self) -> &str {
        self.reference
            .as_deref()
            .or(self.booking_id.as_deref())
            .unwrap_or_default()
    }
}

fn minor(amount: Option<&Value>) -> Result<i64, ApiError> {
    let invalid_amount = |what| ApiError::bad_request("Invalid amount").with_detail(what);
    let Some(Value::Number(number)) = amount else {
        return Err(invalid_amount("Amount must be an integer of minor units"));
    };
    if number.as_f64().is_some_and(|number| number < 0.0) {
        return Err(invalid_amount("Amount must be greater than 0"));
    }
    let Some(minor) = number.as_i64() else {
        return Err(invalid_amount("Amount must be an integer of minor units"));
    };
    if minor > super::charge::MAXIMUM {
        return Err(invalid_amount("Amount is above the maximum"));
    }
    Ok(minor)
}

fn currency(value: Option<&Value>) -> Result<Currency, ApiError> {
    value
        .and_then(Value::as_str)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| ApiError::bad_request("Invalid currency").with_detail("This currency is not accepted"))
}

/// At most 50 scalars under names of at most 40 characters without brackets; values of at most 500 characters.
fn metadata(value: Option<&Value>) -> Result<BTreeMap<String, String>, ApiError> {
    let bad = |what| ApiError::bad_request("Invalid metadata").with_detail(what);
    let fields = match value {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(fields)) => fields,
        Some(_) => return Err(bad("metadata must be an object")),
    };
    if fields.len() > 50 - RESERVED_METADATA.len() {
        return Err(bad("metadata has too many keys"));
    }
    let mut metadata = BTreeMap::new();
    for (name, value) in fields {
        let bad_name = name.is_empty() || name.chars().count() > 40 || name.contains(['[', ']', '\0']);
        if bad_name {
            return Err(bad(
                "a metadata key is empty, longer than 40 characters or contains brackets",
            ));
        }
        if RESERVED_METADATA.contains(&name.as_str()) {
            return Err(bad(
                "bookingId, bookingReference, userId and transactionId are reserved metadata keys",
            ));
        }
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null => continue,
            Value::Array(_) | Value::Object(_) => {
                return Err(bad("metadata values must be texts, numbers or booleans"));
            }
        };
        if text.chars().count() > 500 || text.contains('\0') {
            return Err(bad("a metadata value is longer than 500 characters"));
        }
        metadata.insert(name.clone(), text);
    }
    Ok(metadata)
}

impl Confirm {
    /// Reads the body.
    pub fn parse(body: &Value) -> Result<Self, ApiError> {
        let empty = Map::new();
        let body = body.as_object().unwrap_or(&empty);
        if is_falsy(body.get("paymentIntentId")) {
            return Err(missing(&["paymentIntentId"]));
        }
        let intent = text(body, "paymentIntentId", "paymentIntentId must be a text")?.unwrap_or_default();
        if !is_intent_id(&intent) {
            return Err(ApiError::not_found("Payment not found"));
        }
        let method = text(body, "paymentMethodId", "paymentMethodId must be a text")?;
        if method.as_ref().is_some_and(|method| !is_stripe_id(method, "pm_")) {
            return Err(invalid("paymentMethodId is not a payment method"));
        }
        let return_url = text(body, "returnUrl", "returnUrl must be a text")?;
        Ok(Self {
            intent,
            method,
            return_url,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body() -> Value {
        json!({ "amount": 45_050, "currency": "EUR", "bookingId": "B", "bookingReference": "B", "userId": "u" })
    }

    fn without(name: &str) -> Value {
        let mut body = body();
        body.as_object_mut().unwrap().remove(name);
        body
    }

    fn with(name: &str, value: Value) -> Value {
        let mut body = body();
        body[name] = value;
        body
    }

    fn refused(body: &Value) -> Value {
        let error = Create::parse(body, true).unwrap_err();
        assert_eq!(error.status(), 400);
        error.body()
    }

    #[test]
    fn nothing_in_a_required_field_is_told_with_the_list_of_required_ones() {
        for value in [json!(0), json!(""), json!(null), json!(false)] {
            let body = refused(&with("amount", value));
            assert_eq!(body["error"], "Missing required fields");
            assert_eq!(
                body["required"],
                json!(["amount", "currency", "bookingId", "bookingReference", "userId"])
            );
        }
        assert!(Create::parse(&without("userId"), true).is_ok());
        assert!(Create::parse(&without("userId"), false).is_err());
        assert!(Create::parse(&without("bookingId"), true).is_ok());
        assert!(Create::parse(&without("bookingReference"), true).is_ok());
        assert!(Create::parse(&json!([]), true).is_err());
    }

    #[test]
    fn an_amount_is_a_positive_integer_of_minor_units() {
        let body = refused(&with("amount", json!(-5)));
        assert_eq!(
            (&body["error"], &body["message"]),
            (&json!("Invalid amount"), &json!("Amount must be greater than 0"))
        );
        for value in [
            json!("45050"),
            json!(450.5),
            json!(1e30),
            json!(100_000_000),
            json!([1]),
            json!(true),
        ] {
            assert_eq!(refused(&with("amount", value))["error"], "Invalid amount");
        }
    }

    #[test]
    fn metadata_is_flat_small_and_leaves_our_names_alone() {
        let good = Create::parse(
            &with("metadata", json!({ "a": 1, "b": true, "c": "x", "d": null })),
            true,
        )
        .unwrap();
        assert_eq!(good.metadata.len(), 3);
        let long = "x".repeat(501);
        for value in [
            json!({ "bookingId": "x" }),
            json!({ "a[b]": 1 }),
            json!({ "a": {} }),
            json!({ "a": long }),
            json!([]),
            json!("x"),
        ] {
            assert_eq!(refused(&with("metadata", value))["error"], "Invalid metadata");
        }
    }

    #[test]
    fn only_intent_ids_are_intent_ids() {
        assert!(is_intent_id("pi_3NabcXYZ_09"));
        for id in ["pi_", "pi", "ch_1", "pi_a/b", "pi_\0", "pi_ä", ""] {
            assert!(!is_intent_id(id), "{id}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|fields| fields.into_iter().collect::<Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_body_is_anything_but_accepted_or_400(
            amount in any_json(), currency in any_json(), reference in any_json(), metadata in any_json()
        ) {
            let body = json!({ "amount": amount, "currency": currency, "bookingReference": reference, "metadata": metadata });
            match Create::parse(&body, true) {
                Ok(create) => prop_assert!(create.amount.minor > 0 && !create.booking().is_empty()),
                Err(error) => prop_assert_eq!(error.status().as_u16(), 400),
            }
        }
    }
}
