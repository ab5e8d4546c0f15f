//! Where objects are stored (core §12).

use std::time::Duration;

use secrecy::SecretString;

use crate::config::Reader;

/// The settings of the object store.
#[derive(Debug, Clone)]
pub struct ObjectConfig {
    /// The server; `None` is AWS itself.
    pub endpoint: Option<String>,
    /// The server as browsers reach it, for signed URLs.
    pub public_endpoint: Option<String>,
    /// The bucket.
    pub bucket: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The access key.
    pub access_key: SecretString,
    /// The secret key.
    pub secret_key: SecretString,
    /// How long one attempt at a call may take; three are made.
    pub timeout: Duration,
}

impl ObjectConfig {
    /// Reads the settings. Development fills in those of the embedded server.
    pub fn read(reader: &mut Reader) -> Self {
        let endpoint = reader.text(
            "S3_ENDPOINT",
            "address of the S3 server, `http://host:port`; unset: AWS",
        );
        let public_endpoint = reader.text(
            "S3_PUBLIC_ENDPOINT",
            "the same server as browsers reach it, for signed URLs",
        );
        for (name, address) in [("S3_ENDPOINT", &endpoint), ("S3_PUBLIC_ENDPOINT", &public_endpoint)] {
            if address
                .as_ref()
                .is_some_and(|address| url::Url::parse(address).is_err())
            {
                reader.problem(format!("{name}: not an address"));
            }
        }
        let timeout = reader.or(
            "S3_TIMEOUT_SECONDS",
            10_u64,
            "how long one attempt at a call may take, seconds",
        );
        Self {
            endpoint,
            public_endpoint,
            bucket: reader.or("S3_BUCKET", "dreamscape".to_owned(), "the bucket of all objects"),
            region: reader.or(
                "S3_REGION",
                "us-east-1".to_owned(),
                "the region that requests are signed for",
            ),
            access_key: reader
                .required_secret("S3_ACCESS_KEY", "access key of the S3 server")
                .unwrap_or_default(),
            secret_key: reader
                .required_secret("S3_SECRET_KEY", "secret key of the S3 server")
                .unwrap_or_default(),
            timeout: Duration::from_secs(timeout.max(1)),
        }
    }
}
