//! An S3 server over a folder: `s3s-fs` on loopback, path style, with checked signatures.
//!
//! contract: README "Avatars and uploads". A bucket is a folder, an object a file; good for a laptop and for tests.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use axum::{Router, body::Body};
use http::Request;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;

use crate::server::{self, Server};

/// A running S3 server. Dropping it stops it; the folder stays.
#[derive(Debug)]
pub struct S3Server {
    server: Server,
    folder: PathBuf,
}

impl S3Server {
    /// Serves `folder`, made if need be, on a free port of loopback to whoever signs with this pair of keys.
    pub async fn start(folder: &Path, access_key: &str, secret_key: &str) -> anyhow::Result<Self> {
        Self::start_on(0, folder, access_key, secret_key).await
    }

    /// The same on a certain port, if it is free.
    pub async fn start_on(port: u16, folder: &Path, access_key: &str, secret_key: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
        let files = FileSystem::new(folder)
            .map_err(|error| anyhow::anyhow!("failed to open {}: {error:?}", folder.display()))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(access_key, secret_key));
        let service = builder.build();
        let listener = server::bind(port).await?;
        let serve = move |request: Request<Body>| {
            let service = service.clone();
            async move {
                match service.call(request.map(s3s::Body::http_body_unsync)).await {
                    Ok(answer) => answer.map(Body::new),
                    Err(error) => {
                        tracing::warn!(?error, "s3 server failed");
                        let mut answer = http::Response::new(Body::empty());
                        *answer.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
                        answer
                    }
                }
            }
        };
        let server = Server::start(listener, Router::new().fallback(serve))?;
        Ok(Self {
            server,
            folder: folder.to_owned(),
        })
    }

    /// The address, for `S3_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// Makes a bucket if it is not there.
    pub fn create_bucket(&self, name: &str) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.folder.join(name)).with_context(|| format!("failed to make the bucket {name}"))
    }
}
