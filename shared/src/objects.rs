//! Object storage: avatars, panoramas, exports. An S3 server by its own protocol, path style.
//!
//! contract: core §12 (`S3_*`), README (uploads live in object storage, always). Each call has a time-out and a few tries;
//! a store that is away is [`ObjectError::Unavailable`], which becomes 503.

mod config;
mod upload;

use std::{sync::Arc, time::Duration};

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
    presigning::PresigningConfig,
    primitives::ByteStream,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use secrecy::ExposeSecret as _;

pub use config::ObjectConfig;

use crate::error::ApiError;

/// Why the store did not do what was asked. A missing object is no error, it is `None`.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// The store is away or too slow. Trying again later may help.
    #[error("object storage is unavailable while trying to {doing}: {reason}")]
    Unavailable {
        /// What was tried.
        doing: &'static str,
        /// What went wrong.
        reason: String,
    },
    /// The store said no: credentials, bucket, or a request of ours that is wrong.
    #[error("object storage refused to {doing}: {reason}")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// The store's code.
        reason: String,
    },
    /// A key that could leave the bucket or that stores understand differently.
    #[error("not a key of an object")]
    Key,
    /// The bytes to store could not be read to their end; nothing was stored.
    #[error("the upload ended early")]
    Source(#[source] std::io::Error),
    /// The object is larger than the reader allows.
    #[error("the object is larger than allowed")]
    TooLarge,
}

impl From<ObjectError> for ApiError {
    fn from(error: ObjectError) -> Self {
        match error {
            ObjectError::Unavailable { .. } => Self::unavailable(error),
            ObjectError::Key => Self::not_found("Not found"),
            ObjectError::Source(_) => Self::bad_request("The upload ended early")
                .with_code("UPLOAD_INCOMPLETE")
                .with_cause(error),
            ObjectError::Refused { .. } | ObjectError::TooLarge => Self::internal(error),
        }
    }
}

/// How an object is served by those who read it straight from the store.
#[derive(Debug, Clone, Default)]
pub struct Kind {
    /// The media type.
    pub content_type: String,
    /// `Cache-Control`, if any.
    pub cache_control: Option<String>,
}

impl Kind {
    /// A media type.
    pub fn of(content_type: impl Into<String>) -> Self {
        Self {
            content_type: content_type.into(),
            cache_control: None,
        }
    }

    /// The same with `Cache-Control`.
    #[must_use]
    pub fn cached(mut self, cache_control: impl Into<String>) -> Self {
        self.cache_control = Some(cache_control.into());
        self
    }
}

/// What is known of an object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The media type it was stored with.
    pub content_type: Option<String>,
    /// Its length in bytes.
    pub length: u64,
    /// Its entity tag, with quotes.
    pub etag: Option<String>,
    /// When it was stored.
    pub modified: Option<DateTime<Utc>>,
}

/// An object being read.
pub struct Object {
    /// What is known of it.
    pub facts: Facts,
    /// Its bytes as they come.
    pub body: BoxStream<'static, std::io::Result<Bytes>>,
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Object")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

impl Object {
    /// All bytes, if they are not more than `limit`.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, ObjectError> {
        let mut all = bytes::BytesMut::new();
        while let Some(chunk) = self.body.next().await {
            let chunk = chunk.map_err(|error| ObjectError::Unavailable {
                doing: "read an object",
                reason: error.to_string(),
            })?;
            if all.len() + chunk.len() > limit {
                return Err(ObjectError::TooLarge);
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// As the body of a response, streamed.
    pub fn into_body(self) -> axum::body::Body {
        crate::http::streamed(self.body)
    }
}

/// A page of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Keys in order, with their lengths.
    pub keys: Vec<(String, u64)>,
    /// The key to go on after, if there are more.
    pub next: Option<String>,
}

/// One bucket of an S3 server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ObjectStore {
    client: Client,
    /// Signs URLs for the outside, which may know the server by another name.
    public: Client,
    bucket: Arc<str>,
}

impl ObjectStore {
    /// A handle; nothing is connected yet.
    pub fn new(config: &ObjectConfig) -> Self {
        let access = config.access_key.expose_secret();
        let secret = config.secret_key.expose_secret();
        let time_outs = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(2))
            .operation_attempt_timeout(config.timeout)
            .operation_timeout(config.timeout * 3)
            .build();
        let common = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(config.region.clone()))
            .credentials_provider(Credentials::new(access, secret, None, None, "configuration"))
            .force_path_style(true)
            // trailing checksums are an invention of AWS that other servers need not know
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::standard().with_max_attempts(3))
            .timeout_config(time_outs);
        let at = |endpoint: Option<&String>| {
            let mut own = common.clone();
            own.set_endpoint_url(endpoint.cloned());
            Client::from_conf(own.build())
        };
        Self {
            client: at(config.endpoint.as_ref()),
            public: at(config.public_endpoint.as_ref().or(config.endpoint.as_ref())),
            bucket: Arc::from(config.bucket.as_str()),
        }
    }

    /// Makes the bucket if it is not there. For development; in production the bucket is made by whoever runs the store.
    pub async fn ensure_bucket(&self) -> Result<(), ObjectError> {
        match self.ping().await {
            Err(ObjectError::Refused { .. }) => {}
            outcome => return outcome,
        }
        let made = self.client.create_bucket().bucket(&*self.bucket).send().await;
        match made.map_err(|error| classify("make the bucket", &error)) {
            Err(ObjectError::Refused { reason, .. }) if reason.starts_with("BucketAlready") => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Whether the bucket can be reached, for health: asked once, because who asks wants to know now.
    pub async fn ping(&self) -> Result<(), ObjectError> {
        let once = aws_sdk_s3::config::Builder::default().retry_config(RetryConfig::disabled());
        let asked = self.client.head_bucket().bucket(&*self.bucket);
        let found = asked.customize().config_override(once).send().await;
        found.map(drop).map_err(|error| classify("find the bucket", &error))
    }

    /// Stores bytes under a key, replacing what was there.
    pub async fn put(&self, key: &str, kind: &Kind, bytes: impl Into<Bytes>) -> Result<(), ObjectError> {
        let stored = self
            .client
            .put_object()
            .bucket(&*self.bucket)
            .key(checked(key)?)
            .content_type(&kind.content_type)
            .set_cache_control(kind.cache_control.clone())
            .body(ByteStream::from(bytes.into()))
            .send()
            .await;
        stored.map(drop).map_err(|error| classify("store an object", &error))
    }

    /// Opens an object; its bytes come as they are read.
    pub async fn get(&self, key: &str) -> Result<Option<Object>, ObjectError> {
        let found = self
            .client
            .get_object()
            .bucket(&*self.bucket)
            .key(checked(key)?)
            .send()
            .await;
        let Some(found) = found_or(found, "read an object")? else {
            return Ok(None);
        };
        let facts = Facts {
            content_type: found.content_type,
            length: length(found.content_length),
            etag: found.e_tag,
            modified: instant(found.last_modified),
        };
        let body = stream::unfold(found.body, async |mut body| {
            let chunk = body.next().await?;
            Some((chunk.map_err(std::io::Error::other), body))
        });
        Ok(Some(Object {
            facts,
            body: body.boxed(),
        }))
    }

    /// What is known of an object, without its bytes.
    pub async fn head(&self, key: &str) -> Result<Option<Facts>, ObjectError> {
        let found = self
            .client
            .head_object()
            .bucket(&*self.bucket)
            .key(checked(key)?)
            .send()
            .await;
        let found = found_or(found, "find an object")?;
        Ok(found.map(|found| Facts {
            content_type: found.content_type,
            length: length(found.content_length),
            etag: found.e_tag,
            modified: instant(found.last_modified),
        }))
    }

    /// Removes an object; one that is not there is removed already.
    pub async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let gone = self
            .client
            .delete_object()
            .bucket(&*self.bucket)
            .key(checked(key)?)
            .send()
            .await;
        found_or(gone, "remove an object").map(drop)
    }

    /// Keys that begin with `prefix`, in order, after the key `after`; at most 1000.
    pub async fn list(&self, prefix: &str, after: Option<&str>, limit: u16) -> Result<Listing, ObjectError> {
        let limit = limit.clamp(1, 1000);
        let page = self
            .client
            .list_objects_v2()
            .bucket(&*self.bucket)
            .prefix(prefix)
            .set_start_after(after.map(str::to_owned))
            .max_keys(i32::from(limit))
            .send()
            .await
            .map_err(|error| classify("list objects", &error))?;
        let more = page.is_truncated.unwrap_or_default();
        let objects = page.contents.unwrap_or_default().into_iter();
        let keys: Vec<_> = objects
            .filter_map(|object| Some((object.key?, length(object.size))))
            .collect();
        let next = if more {
            keys.last().map(|(key, _)| key.clone())
        } else {
            None
        };
        Ok(Listing { keys, next })
    }

    /// A URL by which anybody may read the object for a while.
    pub async fn presign_get(&self, key: &str, life: Duration) -> Result<String, ObjectError> {
        let request = self.public.get_object().bucket(&*self.bucket).key(checked(key)?);
        let signed = request
            .presigned(expiry(life)?)
            .await
            .map_err(|error| classify("sign a URL", &error))?;
        Ok(signed.uri().to_owned())
    }

    /// A URL by which anybody may store the object for a while, with exactly this `Content-Type`.
    pub async fn presign_put(&self, key: &str, content_type: &str, life: Duration) -> Result<String, ObjectError> {
        let request = self
            .public
            .put_object()
            .bucket(&*self.bucket)
            .key(checked(key)?)
            .content_type(content_type);
        let signed = request
            .presigned(expiry(life)?)
            .await
            .map_err(|error| classify("sign a URL", &error))?;
        Ok(signed.uri().to_owned())
    }
}

fn expiry(life: Duration) -> Result<PresigningConfig, ObjectError> {
    // S3 knows at most a week
    PresigningConfig::expires_in(life).map_err(|error| ObjectError::Refused {
        doing: "sign a URL",
        reason: error.to_string(),
    })
}

/// Refuses keys that a store over a file system could take for a path elsewhere.
fn checked(key: &str) -> Result<&str, ObjectError> {
    let plain = !key.is_empty()
        && key.len() <= 1024
        && !key.bytes().any(|byte| byte.is_ascii_control() || byte == b'\\')
        && key.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if plain { Ok(key) } else { Err(ObjectError::Key) }
}

fn found_or<T, E>(outcome: Result<T, SdkError<E>>, doing: &'static str) -> Result<Option<T>, ObjectError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match outcome {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(classify(doing, &error)),
    }
}

fn is_missing<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    let status = error.raw_response().map(|response| response.status().as_u16());
    // a missing bucket is our misconfiguration, not a missing object
    status == Some(404) && error.code() != Some("NoSuchBucket")
}

fn classify<E>(doing: &'static str, error: &SdkError<E>) -> ObjectError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    match error {
        SdkError::ServiceError(_) if status.is_some_and(|status| status < 500 && status != 429) => {
            let code = error
                .code()
                .map_or_else(|| format!("status {}", status.unwrap_or_default()), str::to_owned);
            ObjectError::Refused { doing, reason: code }
        }
        SdkError::ConstructionFailure(_) => ObjectError::Refused {
            doing,
            reason: "the request could not be built".to_owned(),
        },
        SdkError::TimeoutError(_) => ObjectError::Unavailable {
            doing,
            reason: "timed out".to_owned(),
        },
        _ => ObjectError::Unavailable {
            doing,
            reason: status.map_or_else(|| "no answer".to_owned(), |status| format!("status {status}")),
        },
    }
}

fn length(length: Option<i64>) -> u64 {
    length.and_then(|length| u64::try_from(length).ok()).unwrap_or_default()
}

fn instant(instant: Option<aws_sdk_s3::primitives::DateTime>) -> Option<DateTime<Utc>> {
    instant.and_then(|instant| DateTime::from_timestamp(instant.secs(), instant.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_leave_its_bucket() {
        assert!(checked("avatars/0190-a.webp").is_ok());
        for bad in ["", "/etc/passwd", "a//b", "a/../b", "..", "a/", "a\\b", "a\nb"] {
            assert!(checked(bad).is_err(), "{bad:?}");
        }
    }
}
