//! The HTTP kit: what every listener of every pod does the same way.
//!
//! contract: core §1

pub mod client_address;
pub mod extract;
pub mod kit;
pub mod limit;
pub(crate) mod progress;
pub mod server;

use std::future::Future;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, future::Either};

pub use client_address::ClientAddress;
pub use extract::{Body, Path, Query, QueryMap};
pub use kit::{HttpConfig, Kit, RouteLabel};

use crate::telemetry::trace::SCOPE;

tokio::task_local! {
    /// The id of the request this task works on.
    pub static REQUEST_ID: String;
}

/// The id of the current request, if this task works on one.
pub fn current_request_id() -> Option<String> {
    REQUEST_ID.try_with(Clone::clone).ok()
}

/// Carries the ids of the current request along, for work that moves to a task of its own.
pub fn in_request_scope<F: Future>(work: F) -> impl Future<Output = F::Output> {
    match (current_request_id(), SCOPE.try_with(|scope| *scope)) {
        (Some(id), Ok(scope)) => Either::Left(REQUEST_ID.scope(id, SCOPE.scope(scope, work))),
        _ => Either::Right(work),
    }
}

/// A body of bytes as they come. Whoever compresses it asks once more after its end, which a stream may answer by a panic;
/// this one may be asked any number of times.
#[expect(clippy::disallowed_methods, reason = "this is the safe way to it")]
pub fn streamed<S, B, E>(stream: S) -> axum::body::Body
where
    S: Stream<Item = Result<B, E>> + Send + 'static,
    B: Into<Bytes> + 'static,
    E: Into<axum::BoxError> + 'static,
{
    axum::body::Body::from_stream(stream.fuse())
}

/// The time stamp of error bodies and envelopes that have no clock at hand, ISO-8601 with milliseconds.
pub fn response_timestamp() -> String {
    use crate::sources::{Clock as _, SystemClock, iso_millis};
    iso_millis(SystemClock.now())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::{Router, routing::get};
    use futures_util::stream;
    use tower::ServiceExt as _;
    use tower_http::compression::CompressionLayer;

    use super::*;

    #[tokio::test]
    async fn a_streamed_body_survives_its_compression() {
        let answer = async || {
            streamed(stream::unfold(0_u8, async |turn| {
                (turn < 4).then(|| (Ok::<_, Infallible>(vec![b'a'; 1_000]), turn + 1))
            }))
        };
        let app = Router::new().route("/", get(answer)).layer(CompressionLayer::new());
        for encoding in ["gzip", "br", "identity"] {
            let request = http::Request::get("/").header("accept-encoding", encoding);
            let response = app.clone().oneshot(request.body(axum::body::Body::empty()).unwrap());
            let body = axum::body::to_bytes(response.await.unwrap().into_body(), 10_000).await;
            assert!(!body.unwrap().is_empty(), "{encoding}");
        }
    }
}
