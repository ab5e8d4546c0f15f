//! JSON bodies of the user routes, read field by field so that a refusal names every field that is wrong.
//!
//! contract: core §1.3 (unknown fields ignored, wrong type 400), §1.4 (values are never echoed). `null` counts as absent
//! unless a field says otherwise. PostgreSQL stores no NUL character, so no text with one gets past this module.

use std::cell::RefCell;

use axum::extract::{FromRequest, Request};
use serde_json::{Map, Value};
use shared::{ApiError, error::FieldError, http::Body};

/// A body whose top level is an object.
#[derive(Debug, Clone, Default)]
pub struct JsonBody(Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Body(value) = Body::<Value>::from_request(request, state).await?;
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            _ => Err(ApiError::bad_request("The body must be a JSON object")),
        }
    }
}

impl JsonBody {
    /// The fields; what is wrong with them is noted in `problems`.
    pub fn fields<'a, 'p>(&'a self, problems: &'p Problems) -> Fields<'a, 'p> {
        Fields {
            map: Some(&self.0),
            path: String::new(),
            problems,
        }
    }
}

#[cfg(test)]
impl From<Value> for JsonBody {
    fn from(value: Value) -> Self {
        Self(value.as_object().cloned().unwrap_or_default())
    }
}

/// What was wrong with a body so far.
#[derive(Debug, Default)]
pub struct Problems(RefCell<Vec<FieldError>>);

impl Problems {
    /// Notes a problem.
    pub fn add(&self, path: impl Into<String>, message: impl Into<String>) {
        self.0.borrow_mut().push(FieldError::new(path, message));
    }

    /// 400 `Validation failed` with everything noted, if anything was.
    pub fn refuse(self) -> Result<(), ApiError> {
        let fields = self.0.into_inner();
        if fields.is_empty() {
            Ok(())
        } else {
            Err(ApiError::invalid(fields))
        }
    }

    /// The same where the contract wants all messages in one text, joined by commas.
    pub fn refuse_joined(self) -> Result<(), ApiError> {
        self.refuse_worded(|field| format!("{} {}", field.path, field.message))
    }

    /// The same in words of one's own.
    pub fn refuse_worded(self, words: impl Fn(&FieldError) -> String) -> Result<(), ApiError> {
        let fields = self.0.into_inner();
        if fields.is_empty() {
            return Ok(());
        }
        let one_by_one: Vec<_> = fields.iter().map(words).collect();
        let text = one_by_one.join(", ");
        Err(ApiError::invalid(fields).with_title(text.clone()).with_detail(text))
    }
}

/// An object within a body, perhaps absent.
#[derive(Debug)]
pub struct Fields<'a, 'p> {
    map: Option<&'a Map<String, Value>>,
    /// Where it stands, with a dot at the end; empty at the top.
    path: String,
    problems: &'p Problems,
}

/// A field that can be emptied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<T> {
    /// Not mentioned.
    Keep,
    /// `null`.
    Clear,
    /// A new value.
    Set(T),
}

impl<T> Change<T> {
    /// Whether anything is to change.
    pub const fn is_given(&self) -> bool {
        !matches!(self, Self::Keep)
    }

    /// What is to be stored, if anything is to change.
    pub fn stored(self) -> Option<T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }
}

impl<'a, 'p> Fields<'a, 'p> {
    /// Objects of an array, addressed as `items[3].`.
    pub fn item(map: &'a Map<String, Value>, list: &str, index: usize, problems: &'p Problems) -> Self {
        Self {
            map: Some(map),
            path: format!("{list}[{index}]."),
            problems,
        }
    }

    /// Notes a problem with a field.
    pub fn refuse(&self, name: &str, message: &str) {
        self.problems.add(format!("{}{name}", self.path), message);
    }

    /// The value of a field that is there and not null.
    pub fn value(&self, name: &str) -> Option<&'a Value> {
        self.map?.get(name).filter(|value| !value.is_null())
    }

    /// Whether a field is there, if only as null.
    pub fn names(&self, name: &str) -> bool {
        self.map.is_some_and(|map| map.contains_key(name))
    }

    /// The first of these names that has a value, and the value.
    pub fn first_of<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &'a Value)> {
        names
            .iter()
            .find_map(|name| self.value(name).map(|value| (*name, value)))
    }

    /// An object within this one.
    pub fn object(&self, name: &str) -> Self {
        let map = match self.value(name) {
            Some(Value::Object(map)) => Some(map),
            Some(_) => {
                self.refuse(name, "must be an object");
                None
            }
            None => None,
        };
        Self {
            map,
            path: format!("{}{name}.", self.path),
            problems: self.problems,
        }
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        match self.value(name)? {
            Value::String(text) if text.contains('\0') => {
                self.refuse(name, "must not contain control characters");
                None
            }
            Value::String(text) => Some(text),
            _ => {
                self.refuse(name, "must be a string");
                None
            }
        }
    }

    /// A text that must be there and not be blank.
    pub fn required(&self, name: &str) -> Option<&'a str> {
        if self.value(name).is_none() {
            self.refuse(name, "is required");
            return None;
        }
        let text = self.text(name)?;
        if text.trim().is_empty() {
            self.refuse(name, "is required");
            return None;
        }
        Some(text)
    }

    /// A text that a type accepts.
    pub fn parsed<T>(&self, name: &str, parse: impl FnOnce(&str) -> Result<T, &'static str>) -> Option<T> {
        self.accepted(name, self.text(name)?, parse)
    }

    /// What a type makes of a text of this field.
    pub fn accepted<T>(
        &self,
        name: &str,
        text: &str,
        parse: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        parse(text).map_err(|message| self.refuse(name, message)).ok()
    }

    /// A text that a type accepts, or `null`; a blank one empties the field as well.
    pub fn change<T>(&self, name: &str, parse: impl FnOnce(&str) -> Result<T, &'static str>) -> Change<T> {
        match self.map.and_then(|map| map.get(name)) {
            None => Change::Keep,
            Some(Value::Null) => Change::Clear,
            Some(Value::String(text)) if text.trim().is_empty() => Change::Clear,
            Some(_) => self.parsed(name, parse).map_or(Change::Keep, Change::Set),
        }
    }

    /// True or false, nothing else.
    pub fn flag(&self, name: &str) -> Option<bool> {
        let flag = self.value(name)?.as_bool();
        if flag.is_none() {
            self.refuse(name, "must be a boolean");
        }
        flag
    }

    /// A list of texts.
    pub fn texts(&self, name: &str, most: usize, longest: usize) -> Option<Vec<String>> {
        let Value::Array(items) = self.value(name)? else {
            self.refuse(name, "must be an array");
            return None;
        };
        if items.len() > most {
            self.refuse(name, &format!("must have at most {most} items"));
            return None;
        }
        let texts: Option<Vec<String>> = items
            .iter()
            .map(|item| item.as_str().filter(|text| is_plain(text, longest)).map(str::to_owned))
            .collect();
        if texts.is_none() {
            self.refuse(name, &format!("must be strings of at most {longest} characters"));
        }
        texts
    }

    /// Free JSON of at most so many bytes, as this kind of value.
    pub fn json(&self, name: &str, most: usize, kind: Json) -> Option<&'a Value> {
        let value = self.value(name)?;
        if let Some(message) = refused_json(value, most, kind) {
            self.refuse(name, &message);
            return None;
        }
        Some(value)
    }
}

/// What free JSON may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Json {
    /// Anything.
    Any,
    /// An object.
    Object,
}

/// What is wrong with free JSON that is to be stored.
fn refused_json(value: &Value, most: usize, kind: Json) -> Option<String> {
    if kind == Json::Object && !value.is_object() {
        return Some("must be an object".to_owned());
    }
    if value.to_string().len() > most {
        return Some(format!("must be at most {} KB", most / 1024));
    }
    has_nul(value).then(|| "must not contain control characters".to_owned())
}

/// Whether a text or a key somewhere in it has a NUL character, which `jsonb` refuses.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_plain(text: &str, longest: usize) -> bool {
    text.chars().count() <= longest && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problems_of(body: Value, read: impl FnOnce(&Fields<'_, '_>)) -> Vec<(String, String)> {
        let (body, problems) = (JsonBody::from(body), Problems::default());
        read(&body.fields(&problems));
        let found = problems.0.into_inner();
        found.into_iter().map(|field| (field.path, field.message)).collect()
    }

    #[test]
    fn every_wrong_field_is_named_with_its_place() {
        let body = json!({
            "a": 1, "b": "yes", "c": { "d": ["x", 2] }, "e": [], "f": null, "g": "x\u{0}", "h": "  ",
        });
        let found = problems_of(body, |fields| {
            assert_eq!(fields.text("a"), None);
            assert_eq!(fields.flag("b"), None);
            assert_eq!(fields.object("c").texts("d", 5, 5), None);
            assert_eq!(fields.object("e").text("x"), None);
            assert_eq!(fields.text("f"), None);
            assert_eq!(fields.text("g"), None);
            assert_eq!(fields.required("h"), None);
            assert_eq!(fields.required("i"), None);
        });
        let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["a", "b", "c.d", "e", "g", "h", "i"]);
    }

    #[test]
    fn null_and_blank_empty_a_field_and_silence_keeps_it() {
        let found = problems_of(json!({ "a": null, "b": " ", "c": "x", "d": 3 }), |fields| {
            let read = |name| fields.change(name, |text| Ok(text.to_owned()));
            assert_eq!((read("a"), read("b")), (Change::Clear, Change::Clear));
            assert_eq!((read("c"), read("none")), (Change::Set("x".to_owned()), Change::Keep));
            assert_eq!(read("d"), Change::Keep);
        });
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn free_json_is_bounded_and_without_nul() {
        assert!(refused_json(&json!({ "a": [1, "b"] }), 100, Json::Object).is_none());
        assert!(refused_json(&json!([1]), 100, Json::Object).is_some());
        assert!(refused_json(&json!(["x".repeat(100)]), 100, Json::Any).is_some());
        assert!(refused_json(&json!({ "a": { "b\u{0}": 1 } }), 100, Json::Any).is_some());
        assert!(refused_json(&json!({ "a": ["\u{0}"] }), 100, Json::Any).is_some());
    }

    #[test]
    fn a_joined_refusal_says_everything_in_both_texts() {
        let problems = Problems::default();
        problems.add("entityType", "is required");
        problems.add("entityId", "must be a string");
        let body = problems.refuse_joined().unwrap_err().body();
        let text = "entityType is required, entityId must be a string";
        assert_eq!((&body["error"], &body["message"]), (&json!(text), &json!(text)));
        assert_eq!(body["errors"][1]["path"], "entityId");
    }
}
