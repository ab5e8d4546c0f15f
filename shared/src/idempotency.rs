//! Idempotency keys: the first caller works, later ones get the recorded answer.
//!
//! contract: core §14, payment §3, voyage §7.6. Two ways to use it:
//!
//! * [`run`] wraps a handler: it claims the key, runs the work, stores the answer.
//! * [`claim`] and [`Claim::complete`] take a connection, so that the answer is stored in the transaction of the change:
//!   either both are there after a crash or neither is. A second caller that claims in a transaction waits for the first.
//!
//! The table is `<schema>.idempotency_keys` (`shared/sql/idempotency.sql`).

mod store;

use std::time::Duration;

use axum::{
    body::Body,
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse as _, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    db::{Db, Service},
    error::ApiError,
    sources::Sources,
};

/// How long an answer is kept.
pub const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the first caller has before another may take over. Longer than any request may take.
pub const LOCK: Duration = Duration::from_secs(60);
/// The header that marks a replay.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// The longest path that is kept as it is.
const MAX_PATH: usize = 512;
/// The largest answer that is kept.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// The key a caller chose: 1 to 255 visible ASCII characters. As an extractor, `Option<IdempotencyKey>` is usual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// A key from text.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let trimmed = text.trim();
        let visible = trimmed.bytes().all(|byte| byte.is_ascii_graphic());
        if trimmed.is_empty() || trimmed.len() > 255 || !visible {
            return Err(
                ApiError::bad_request("Idempotency-Key must be 1 to 255 visible ASCII characters")
                    .with_code("INVALID_IDEMPOTENCY_KEY"),
            );
        }
        Ok(Self(trimmed.to_owned()))
    }

    /// The key in the headers, if there is one.
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let mut found = None;
        for value in ["idempotency-key", "x-idempotency-key"]
            .iter()
            .flat_map(|name| headers.get_all(*name))
        {
            let key = Self::parse(&String::from_utf8_lossy(value.as_bytes()))?;
            if found.as_ref().is_some_and(|other| *other != key) {
                return Err(ApiError::bad_request("more than one idempotency key").with_code("INVALID_IDEMPOTENCY_KEY"));
            }
            found = Some(key);
        }
        Ok(found)
    }

    /// The text of the key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Self::from_headers(&parts.headers)?.ok_or_else(|| ApiError::bad_request("Idempotency-Key is required"))
    }
}

impl<S: Send + Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, ApiError> {
        Self::from_headers(&parts.headers)
    }
}

/// Whose key it is and for what: the same key means nothing to another caller or on another route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// `user:<id>`, `service:<name>`, `guest:<hash>`.
    pub caller: String,
    /// The method.
    pub method: Method,
    /// The path, with ids, under its main name if the route has aliases.
    pub path: String,
}

impl Scope {
    /// A scope. A very long path is known by its digest: it is part of an index.
    pub fn new(caller: impl Into<String>, method: Method, path: impl Into<String>) -> Self {
        let full: String = path.into();
        let path = if full.len() > MAX_PATH {
            format!("sha256:{}", hex::encode(Sha256::digest(full.as_bytes())))
        } else {
            full
        };
        Self {
            caller: caller.into(),
            method,
            path,
        }
    }
}

/// SHA-256 of a request body in canonical form: JSON with sorted keys and no blanks, other bytes as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyHash([u8; 32]);

impl BodyHash {
    /// Of a body as received.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        match serde_json::from_slice::<Value>(bytes) {
            Ok(value) => Self::of_value(&value),
            Err(_) => Self(Sha256::digest(bytes.trim_ascii()).into()),
        }
    }

    /// Of a parsed body.
    pub fn of(body: &impl Serialize) -> Self {
        Self::of_value(&serde_json::to_value(body).unwrap_or_default())
    }

    /// Of JSON.
    pub fn of_value(value: &Value) -> Self {
        let mut text = String::new();
        write_canonical(value, &mut text);
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for item in items {
                write_canonical(item, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (name, field) in sorted {
                text.push_str(&Value::String(name.clone()).to_string());
                text.push(':');
                write_canonical(field, text);
                text.push(',');
            }
            text.push('}');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

/// An answer as it is stored and sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: bytes::Bytes,
}

impl Answer {
    /// A JSON answer.
    pub fn json(status: StatusCode, body: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(body).unwrap_or_default();
        let headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        Self {
            status,
            headers,
            body: bytes.into(),
        }
    }

    /// Reads a response to its end. Of its headers only type and location are kept.
    pub async fn of(response: Response) -> Result<Self, ApiError> {
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, MAX_ANSWER)
            .await
            .map_err(ApiError::internal)?;
        let kept = [header::CONTENT_TYPE, header::LOCATION];
        let headers = kept
            .into_iter()
            .filter_map(|name| parts.headers.get(&name).cloned().map(|value| (name, value)))
            .collect();
        Ok(Self {
            status: parts.status,
            headers,
            body,
        })
    }

    /// As a response, for the first time.
    pub fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response
    }

    fn replay(self) -> Response {
        let mut response = self.into_response();
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
        response
    }
}

/// A key that this attempt holds.
#[derive(Debug, Clone)]
#[must_use = "a claim is completed or released"]
pub struct Claim {
    key: IdempotencyKey,
    scope: Scope,
    attempt: Uuid,
}

/// What claiming a key gave.
#[derive(Debug)]
pub enum Claimed {
    /// Nobody worked on it: we do.
    Ours(Claim),
    /// The recorded answer, marked as a replay.
    Replay(Response),
}

/// Claims a key on a connection, in or outside a transaction. 422 if the key came with another body, 409 while another
/// attempt works on it.
pub async fn claim<S: Service>(
    conn: &mut PgConnection,
    sources: &Sources,
    key: &IdempotencyKey,
    scope: &Scope,
    body: BodyHash,
) -> Result<Claimed, ApiError> {
    let attempt = sources.uuid_v4();
    // a row may vanish between the two statements (released or purged); then the insert has another chance
    for _ in 0..3 {
        let now = sources.now();
        if store::take::<S>(conn, now, key, scope, body, attempt).await? {
            return Ok(Claimed::Ours(Claim {
                key: key.clone(),
                scope: scope.clone(),
                attempt,
            }));
        }
        let Some(row) = store::find::<S>(conn, key, scope).await? else {
            continue;
        };
        if row.body_hash != body.0 {
            return Err(ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "IDEMPOTENCY_CONFLICT",
                "Idempotency key was used with another request",
            ));
        }
        if let Some(answer) = row.answer {
            return Ok(Claimed::Replay(answer.replay()));
        }
        return Err(in_progress());
    }
    Err(in_progress())
}

fn in_progress() -> ApiError {
    ApiError::conflict(
        "IDEMPOTENCY_IN_PROGRESS",
        "A request with this idempotency key is in progress",
    )
    .with_retry_after(Duration::from_secs(1))
}

impl Claim {
    /// Stores the answer. 409 if the lock lapsed and another attempt took over: roll the change back.
    pub async fn complete<S: Service>(
        &self,
        conn: &mut PgConnection,
        sources: &Sources,
        answer: &Answer,
    ) -> Result<(), ApiError> {
        let stored = store::complete::<S>(conn, sources.now(), self, answer).await?;
        if stored { Ok(()) } else { Err(in_progress()) }
    }

    /// Gives the key back, so that the caller may try again at once.
    pub async fn release<S: Service>(&self, conn: &mut PgConnection) -> Result<(), ApiError> {
        store::release::<S>(conn, self).await.map_err(ApiError::from)
    }
}

/// Runs `work` once per key. Answers that say nothing lasting (5xx, 401, 403, 408, 409, 425, 429) are not kept: the key is free again.
///
/// Use it inside `Tasks::detached` where a hung-up client must not cut the work off.
pub async fn run<S, F>(
    db: &Db<S>,
    sources: &Sources,
    key: Option<IdempotencyKey>,
    scope: &Scope,
    body: BodyHash,
    work: impl FnOnce() -> F,
) -> Result<Response, ApiError>
where
    S: Service,
    F: Future<Output = Result<Response, ApiError>>,
{
    let Some(key) = key else { return work().await };
    let claimed = claim::<S>(&mut *db.acquire().await?, sources, &key, scope, body).await?;
    let claim = match claimed {
        Claimed::Replay(response) => return Ok(response),
        Claimed::Ours(claim) => claim,
    };
    let response = match work().await {
        Ok(response) => response,
        Err(error) if is_lasting(error.status()) => error.into_response(),
        Err(error) => {
            give_back(db, &claim).await;
            return Err(error);
        }
    };
    if !is_lasting(response.status()) {
        give_back(db, &claim).await;
        return Ok(response);
    }
    let answer = Answer::of(response).await?;
    // the work is done: a failure to record must not turn its answer into an error
    match db.acquire().await {
        Ok(mut conn) => {
            if let Err(error) = claim.complete::<S>(&mut conn, sources, &answer).await {
                tracing::warn!(%error, "answer to an idempotent request not stored");
            }
        }
        Err(error) => tracing::warn!(%error, "answer to an idempotent request not stored"),
    }
    Ok(answer.into_response())
}

async fn give_back<S: Service>(db: &Db<S>, claim: &Claim) {
    let released = match db.acquire().await {
        Ok(mut conn) => claim.release::<S>(&mut conn).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = released {
        tracing::warn!(%error, "idempotency key not released; it is free when its lock lapses");
    }
}

/// Whether the same request would get the same answer for ever.
fn is_lasting(status: StatusCode) -> bool {
    status.as_u16() < 500 && !matches!(status.as_u16(), 401 | 403 | 408 | 409 | 425 | 429)
}

/// Removes what has expired, at most `limit` rows; says how many. A step of a background job.
pub async fn purge<S: Service>(db: &Db<S>, sources: &Sources, limit: u32) -> sqlx::Result<u64> {
    store::purge::<S>(db, sources.now(), limit).await
}

/// Removes all keys of a caller, when the account is erased.
pub async fn erase<S: Service>(conn: &mut PgConnection, caller: &str) -> sqlx::Result<u64> {
    store::erase::<S>(conn, caller).await
}

fn after(now: DateTime<Utc>, time: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(time)
        .ok()
        .and_then(|delta| now.checked_add_signed(delta))
        .unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_means_the_same_whatever_its_order_and_blanks() {
        let one = BodyHash::of_bytes(br#"{"a":1,"b":{"c":[1,2],"d":"x"}}"#);
        let other = BodyHash::of_bytes(b"{ \"b\": {\"d\":\"x\", \"c\":[1, 2]},\n\"a\":1 }");
        assert_eq!(one, other);
        assert_ne!(one, BodyHash::of_bytes(br#"{"a":1,"b":{"c":[2,1],"d":"x"}}"#));
        assert_ne!(BodyHash::of_bytes(b"[[1],[2]]"), BodyHash::of_bytes(b"[[1,2]]"));
    }

    #[test]
    fn a_key_is_visible_ascii_of_bounded_length() {
        assert!(IdempotencyKey::parse(&"k".repeat(255)).is_ok());
        for bad in [
            String::new(),
            "k".repeat(256),
            "a b".to_owned(),
            "é".to_owned(),
            "a\u{7f}".to_owned(),
        ] {
            assert_eq!(IdempotencyKey::parse(&bad).unwrap_err().status(), 400, "{bad:?}");
        }
    }

    #[test]
    fn both_headers_may_be_there_if_they_agree() {
        let mut headers = HeaderMap::new();
        assert_eq!(IdempotencyKey::from_headers(&headers).unwrap(), None);
        headers.insert("x-idempotency-key", HeaderValue::from_static("one"));
        assert_eq!(IdempotencyKey::from_headers(&headers).unwrap().unwrap().as_str(), "one");
        headers.insert("idempotency-key", HeaderValue::from_static("one"));
        assert!(IdempotencyKey::from_headers(&headers).is_ok());
        headers.insert("idempotency-key", HeaderValue::from_static("two"));
        assert!(IdempotencyKey::from_headers(&headers).is_err());
    }
}
