//! Request bodies and queries, read the way the contract asks (core §1.3, voyage §2.4).

use std::{convert::Infallible, str::FromStr};

use axum::extract::{FromRequest, FromRequestParts, Request};
use chrono::NaiveDate;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// A JSON body. A missing or empty body or a missing content type is the empty object; malformed JSON, a wrong type or
/// a top level that is neither object nor array is 400, never 422 or 500; too large is 413.
#[derive(Debug, Clone, Copy)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = bytes::Bytes::from_request(request, state).await.map_err(|rejection| {
            use axum::response::IntoResponse as _;
            let status = rejection.into_response().status();
            if status == http::StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::new(status, "PAYLOAD_TOO_LARGE", "Request body too large")
            } else {
                ApiError::bad_request("The request body could not be read").with_code("INVALID_BODY")
            }
        })?;
        parse_json(&bytes).map(Self)
    }
}

/// Parses a body by the rules of [`Body`].
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let trimmed = bytes.trim_ascii();
    let text: &[u8] = if trimmed.is_empty() { b"{}" } else { trimmed };
    if !matches!(text.first(), Some(b'{' | b'[')) {
        return Err(ApiError::bad_request("Invalid JSON").with_code("INVALID_JSON"));
    }
    serde_json::from_slice(text).map_err(|error| {
        if error.is_data() {
            // serde's text names fields and types, never the value of a string field
            ApiError::bad_request("Validation failed").with_detail(public_data_error(&error))
        } else {
            ApiError::bad_request("Invalid JSON").with_code("INVALID_JSON")
        }
    })
}

/// What is wrong without what was sent: serde quotes offending strings, and those may be passwords.
fn public_data_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(", expected ") {
        Some((_, expected)) => {
            let expected = expected.split(" at line ").next().unwrap_or(expected);
            format!("a field has the wrong type: expected {expected}")
        }
        None if text.starts_with("missing field") => text.split(" at line ").next().unwrap_or_default().to_owned(),
        None => "a field has the wrong type".to_owned(),
    }
}

/// Query parameters; anything that does not parse is 400 `VALIDATION`.
#[derive(Debug, Clone, Copy)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        serde_urlencoded::from_str(query)
            .map(Self)
            .map_err(|_| ApiError::bad_request("Invalid query parameters"))
    }
}

/// A path parameter; one that does not parse names nothing, so it is 404 (core §1.2), never 400.
#[derive(Debug, Clone, Copy)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let found = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        found
            .map(|axum::extract::Path(value)| Self(value))
            .map_err(|_| ApiError::not_found("Not found"))
    }
}

/// Query parameters by name, in every spelling that clients use for lists: `k[]=a&k[]=b`, `k=a&k=b`, `k=a,b`, `k[0]=a`
/// (experience D4, voyage §2.4). An empty value is none. Anything that is there and not valid is 400 `VALIDATION`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueryMap(Vec<(String, String)>);

impl QueryMap {
    /// Reads the part of a URL behind the `?`.
    pub fn parse(query: &str) -> Self {
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        let pairs = pairs.map(|(name, value)| (list_name(&name).to_owned(), value.trim().to_owned()));
        Self(pairs.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// The first value of this name, whole.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of this name, comma lists taken apart.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let values = self
            .0
            .iter()
            .filter(|(key, _)| key == name)
            .flat_map(|(_, value)| value.split(','));
        values.map(str::trim).filter(|value| !value.is_empty()).collect()
    }

    /// A value that must be there.
    pub fn required(&self, name: &str) -> Result<&str, ApiError> {
        self.first(name).ok_or_else(|| invalid(name, "is required"))
    }

    /// A value of a type, strictly: `2abc` is not 2.
    pub fn parsed<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, ApiError> {
        self.first(name)
            .map(|text| text.parse().map_err(|_| invalid(name, &format!("must be {what}"))))
            .transpose()
    }

    /// A whole number.
    pub fn integer<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let plain = |text: &str| {
            text.strip_prefix('-')
                .unwrap_or(text)
                .bytes()
                .all(|byte| byte.is_ascii_digit())
        };
        if self.first(name).is_some_and(|text| !plain(text)) {
            return Err(invalid(name, "must be a whole number"));
        }
        self.parsed(name, "a whole number in range")
    }

    /// Whole numbers, one or many.
    pub fn integers<T: FromStr>(&self, name: &str) -> Result<Vec<T>, ApiError> {
        let values = self.all(name).into_iter();
        values
            .map(|text| text.parse().map_err(|_| invalid(name, "must be whole numbers")))
            .collect()
    }

    /// Whether the value is the literal `true`; anything else, or nothing, is not.
    pub fn flag(&self, name: &str) -> bool {
        self.first(name) == Some("true")
    }

    /// `true` or `false`.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        self.parsed(name, "true or false")
    }

    /// A day that the calendar has, as `YYYY-MM-DD`.
    pub fn date(&self, name: &str) -> Result<Option<NaiveDate>, ApiError> {
        let Some(text) = self.first(name) else { return Ok(None) };
        let in_place = |(at, byte): (usize, u8)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        };
        let shaped = text.len() == 10 && text.bytes().enumerate().all(in_place);
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|_| shaped);
        day.map(Some)
            .ok_or_else(|| invalid(name, "must be a date as YYYY-MM-DD"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for QueryMap {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

/// `ratings[]` and `ratings[0]` are `ratings`; other brackets belong to the name.
fn list_name(name: &str) -> &str {
    let bracketed = name.strip_suffix(']').and_then(|head| head.rsplit_once('['));
    bracketed
        .filter(|(_, index)| index.bytes().all(|byte| byte.is_ascii_digit()))
        .map_or(name, |(head, _)| head)
}

/// The parameter's name is ours; its value is not repeated.
fn invalid(name: &str, problem: &str) -> ApiError {
    ApiError::bad_request("Invalid query parameters").with_detail(format!("{name} {problem}"))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Login {
        #[serde(default)]
        password: String,
    }

    #[test]
    fn nothing_is_the_empty_object() {
        assert_eq!(parse_json::<Login>(b" \n").unwrap().password, "");
    }

    #[test]
    fn a_wrong_type_does_not_echo_the_value() {
        let error = parse_json::<Vec<u8>>(br#"["hunter2"]"#).unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(!error.body().to_string().contains("hunter2"));
    }

    #[test]
    fn a_scalar_or_garbage_is_bad_json() {
        for text in ["\"text\"", "12", "{", "{\"password\":"] {
            let error = parse_json::<Login>(text.as_bytes()).unwrap_err();
            assert_eq!((error.status().as_u16(), error.code()), (400, "INVALID_JSON"), "{text}");
        }
    }

    #[test]
    fn every_spelling_of_a_list_is_one_list() {
        for query in [
            "r[]=4&r[]=5",
            "r=4&r=5",
            "r=4,5",
            "r[0]=4&r[1]=5",
            "r%5B%5D=4&r%5B%5D=5",
            "x=1&r=+4,,5+",
        ] {
            assert_eq!(QueryMap::parse(query).all("r"), ["4", "5"], "{query}");
        }
    }

    #[test]
    fn a_plus_and_an_escape_are_both_a_blank() {
        assert_eq!(
            QueryMap::parse("city=New+York%20City").first("city"),
            Some("New York City")
        );
        assert_eq!(QueryMap::parse("city=").first("city"), None);
        assert_eq!(QueryMap::parse("a[b]=1").first("a"), None);
    }

    #[test]
    fn numbers_booleans_and_dates_are_strict() {
        let query = QueryMap::parse("n=2abc&p=%2B1&ok=-3&b=yes&t=true&d=2025-02-30&e=2024-02-29&f=2024-2-9&l=1,x");
        assert_eq!(query.integer::<i64>("ok").unwrap(), Some(-3));
        assert_eq!(query.integer::<u8>("none").unwrap(), None);
        assert!(
            query.integer::<u8>("ok").is_err()
                && query.integer::<u8>("n").is_err()
                && query.integer::<u8>("p").is_err()
        );
        assert!(query.boolean("b").is_err() && !query.flag("b") && query.flag("t"));
        assert!(query.date("d").is_err() && query.date("f").is_err());
        assert_eq!(query.date("e").unwrap().unwrap().to_string(), "2024-02-29");
        assert!(query.integers::<u8>("l").is_err());
        for text in ["-2924-02-2", "2024-2-029", "20240-2-29", "2024-02-2 "] {
            let query = QueryMap::parse(&format!("day={text}"));
            assert!(query.date("day").is_err(), "{text}");
        }
        let error = query.date("d").unwrap_err();
        assert_eq!((error.status().as_u16(), error.code()), (400, "VALIDATION"));
        assert!(query.required("none").is_err());
    }
}
