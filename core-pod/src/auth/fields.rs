//! Request bodies of the auth routes: JSON or a form, and fields of any type without a 500.
//!
//! contract: core §1.3 (bodies, forms), §1.4 (field errors never echo values)

use std::fmt;

use axum::extract::{FromRef, FromRequest, Request};
use bytes::Bytes;
use http::header;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use shared::{
    ApiError,
    auth::authenticator::Origins,
    error::FieldError,
    http::{Body, extract::parse_json},
};

use super::{
    breached::PasswordFilter,
    model::{Owner, Password},
};

/// A body as JSON or as a form. A form can be sent by a page of any site, so with a cookie it needs an allowed origin.
#[derive(Debug, Clone, Copy)]
pub struct Fields<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Fields<T>
where
    Origins: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let headers = request.headers();
        let content_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if !content_type
            .to_ascii_lowercase()
            .starts_with("application/x-www-form-urlencoded")
        {
            return Body::from_request(request, state).await.map(|Body(body)| Self(body));
        }
        if headers.contains_key(header::COOKIE) && !Origins::from_ref(state).is_own_page(headers) {
            return Err(ApiError::forbidden("Forms of other sites are not accepted"));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            let too_large = rejection.status() == http::StatusCode::PAYLOAD_TOO_LARGE;
            let (code, text) = if too_large {
                ("PAYLOAD_TOO_LARGE", "Request body too large")
            } else {
                ("INVALID_BODY", "The request body could not be read")
            };
            ApiError::new(rejection.status(), code, text)
        })?;
        let pairs = url::form_urlencoded::parse(&bytes);
        let object: serde_json::Map<_, _> = pairs.map(|(name, value)| (name.into_owned(), value.into())).collect();
        let json = serde_json::to_vec(&object).map_err(ApiError::internal)?;
        parse_json(&json).map(Self)
    }
}

/// A text field that may be absent, `null`, or by mistake something else.
#[derive(Clone, Default)]
pub enum Text {
    /// Not there, or `null`.
    #[default]
    Absent,
    /// A string.
    Given(String),
    /// Something else.
    Wrong,
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::Given(_) => "Given(***)",
            Self::Wrong => "Wrong",
        })
    }
}

impl Text {
    /// The string, if there is one.
    pub fn given(&self) -> Option<&str> {
        if let Self::Given(text) = self { Some(text) } else { None }
    }

    /// The string; a field error if it is absent, empty or something else.
    pub fn required(&self, path: &str, missing: &str) -> Result<&str, FieldError> {
        match self {
            Self::Given(text) if !text.is_empty() => Ok(text),
            Self::Given(_) | Self::Absent => Err(FieldError::new(path, missing)),
            Self::Wrong => Err(FieldError::new(path, "must be a string")),
        }
    }

    /// The string if there is one; a field error if it is something else.
    pub fn optional(&self, path: &str) -> Result<Option<&str>, FieldError> {
        match self {
            Self::Given(text) => Ok(Some(text)),
            Self::Absent => Ok(None),
            Self::Wrong => Err(FieldError::new(path, "must be a string")),
        }
    }
}

/// A yes or no as the original accepted it: `true`, `"true"`, `1`, `"1"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Flag {
    /// Not there, or `null`.
    #[default]
    Absent,
    /// Yes or no.
    Given(bool),
    /// Something else.
    Wrong,
}

impl Flag {
    /// Yes or no, no when absent; a field error if it is something else.
    pub fn or_no(self, path: &str) -> Result<bool, FieldError> {
        match self {
            Self::Absent => Ok(false),
            Self::Given(flag) => Ok(flag),
            Self::Wrong => Err(FieldError::new(path, "must be a boolean")),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match deserializer.deserialize_any(Anything)? {
            Scalar::Null => Self::Absent,
            Scalar::Text(text) => Self::Given(text),
            Scalar::Bool(_) | Scalar::Number(_) | Scalar::Other => Self::Wrong,
        })
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match deserializer.deserialize_any(Anything)? {
            Scalar::Null => Self::Absent,
            Scalar::Bool(flag) => Self::Given(flag),
            Scalar::Number(1) => Self::Given(true),
            Scalar::Number(0) => Self::Given(false),
            Scalar::Text(text) => match text.as_str() {
                "true" | "1" => Self::Given(true),
                "false" | "0" => Self::Given(false),
                _ => Self::Wrong,
            },
            Scalar::Number(_) | Scalar::Other => Self::Wrong,
        })
    }
}

enum Scalar {
    Null,
    Bool(bool),
    Number(i64),
    Text(String),
    Other,
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Scalar, E> {
        Ok(Scalar::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
        Ok(i64::try_from(number).map_or(Scalar::Other, Scalar::Number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Scalar, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Scalar, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

/// Collects field errors, so that all are reported at once.
#[derive(Debug, Default)]
pub struct Problems {
    fields: Vec<FieldError>,
    /// Instead of `VALIDATION`, for what a client may want to explain.
    code: Option<&'static str>,
}

impl Problems {
    /// The value, or `None` with the error noted.
    pub fn take<T>(&mut self, result: Result<T, FieldError>) -> Option<T> {
        result.map_err(|error| self.fields.push(error)).ok()
    }

    /// Notes an error.
    pub fn add(&mut self, path: &str, message: &str) {
        self.fields.push(FieldError::new(path, message));
    }

    /// A new password, or `None` with everything noted that is wrong with it: the rule, that everybody knows it
    /// (`PASSWORD_BREACHED`), that it is the name of its owner (`PASSWORD_PERSONAL`).
    pub fn password(&mut self, path: &str, raw: &str, owner: &Owner<'_>, filter: &PasswordFilter) -> Option<Password> {
        let password = match Password::parse(raw) {
            Ok(password) => password,
            Err(messages) => {
                for message in messages {
                    self.add(path, message);
                }
                return None;
            }
        };
        let (code, message) = if filter.knows(raw) {
            (
                "PASSWORD_BREACHED",
                "This password is known from data breaches; please choose another one",
            )
        } else if password.names(owner) {
            (
                "PASSWORD_PERSONAL",
                "The password must not be your name or e-mail address",
            )
        } else {
            return Some(password);
        };
        metrics::counter!("auth_passwords_refused_total", "code" => code).increment(1);
        self.code = Some(code);
        self.add(path, message);
        None
    }

    /// 400 with everything noted, if anything was.
    pub fn refuse(self) -> Result<(), ApiError> {
        if self.fields.is_empty() {
            Ok(())
        } else {
            Err(self.into_error())
        }
    }

    /// 400 with everything noted.
    pub fn into_error(self) -> ApiError {
        let error = ApiError::invalid(self.fields);
        match self.code {
            Some(code) => error.with_code(code),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Sample {
        #[serde(default)]
        email: Text,
        #[serde(default)]
        remember_me: Flag,
    }

    fn parse(json: &str) -> Sample {
        parse_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_flag_is_read_as_the_original_did() {
        for yes in ["true", "\"true\"", "1", "\"1\""] {
            assert_eq!(
                parse(&format!("{{\"rememberMe\":{yes}}}")).remember_me,
                Flag::Given(true)
            );
        }
        for wrong in ["2", "\"yes\"", "[]", "{\"a\":[1]}", "0.5"] {
            assert_eq!(
                parse(&format!("{{\"rememberMe\":{wrong}}}")).remember_me,
                Flag::Wrong,
                "{wrong}"
            );
        }
        assert_eq!(parse("{\"rememberMe\":null}").remember_me, Flag::Absent);
    }

    #[test]
    fn a_text_of_another_type_is_a_field_error_and_not_a_failure() {
        for wrong in ["5", "true", "[\"a\"]", "{\"$ne\":1}"] {
            let sample = parse(&format!("{{\"email\":{wrong}}}"));
            assert_eq!(
                sample.email.required("email", "missing").unwrap_err().message,
                "must be a string"
            );
        }
        assert!(parse("{}").email.optional("email").unwrap().is_none());
    }
}
