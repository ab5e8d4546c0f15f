//! Request bodies and queries, read the way the contract asks (core §1.3, voyage §2.4).

use axum::extract::{FromRequest, FromRequestParts, Request};
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
}
