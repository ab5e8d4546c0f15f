//! Bodies: compression on the way out, politeness towards large uploads on the way in.
//!
//! contract: core §1.3 (drain an upload that is refused early) and §1.9 (gzip and br above 1 KB)

use std::{
    convert::Infallible,
    future::ready,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    response::Response,
};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use hyper::body::{Frame, SizeHint};
use tower::{Layer as _, Service as _};
use tower_http::{CompressionLevel, compression::CompressionLayer};

use crate::http::progress::{Nudge, Progress};

/// Below this a compressed body saves less than it costs.
const WORTH_COMPRESSING: u64 = 1024;
/// A body at most this long fits into the socket's buffers, so nobody notices that it was not read.
const NEGLIGIBLE: u64 = 16 * 1024;
/// Whether a request announces a body that no route takes: it is refused without being read (core §1.3).
pub(super) fn is_hopeless(headers: &HeaderMap) -> bool {
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok());
    length
        .and_then(|text| text.parse::<u64>().ok())
        .is_some_and(|length| length > DRAIN_CAP as u64)
}

/// How much of a refused upload is read so that its sender sees the status and not a reset (core §1.3).
const DRAIN_CAP: usize = 12 * 1024 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// What the client accepts, if that is something we produce.
pub(super) fn accepted_encoding(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(header::ACCEPT_ENCODING)?;
    let text = value.as_bytes();
    let mentions = |name: &[u8]| text.windows(name.len()).any(|part| part.eq_ignore_ascii_case(name));
    (mentions(b"br") || mentions(b"gzip") || mentions(b"*")).then(|| value.clone())
}

/// Compresses the body if that is worth it.
pub(super) async fn compressed(response: Response, accepted: HeaderValue) -> Response {
    if !is_worth_compressing(&response) {
        return response;
    }
    let mut request = Request::new(());
    request.headers_mut().insert(header::ACCEPT_ENCODING, accepted);
    let mut answer = Some(response);
    let layer = CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(|_: StatusCode, _: http::Version, _: &HeaderMap, _: &http::Extensions| true);
    let mut service = layer.layer(tower::service_fn(move |_: Request<()>| {
        ready(Ok::<Response, Infallible>(answer.take().unwrap_or_default()))
    }));
    match service.call(request).await {
        Ok(response) => response.map(Body::new),
        Err(never) => match never {},
    }
}

fn is_worth_compressing(response: &Response) -> bool {
    let headers = response.headers();
    if headers.contains_key(header::CONTENT_ENCODING) || headers.contains_key(header::CONTENT_RANGE) {
        return false;
    }
    if response
        .body()
        .size_hint()
        .upper()
        .is_some_and(|size| size <= WORTH_COMPRESSING)
    {
        return false;
    }
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    let is = |prefix: &[u8]| {
        content_type
            .get(..prefix.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
    };
    let text = is(b"text/") || is(b"application/json") || is(b"application/javascript") || is(b"image/svg+xml");
    let more = is(b"application/problem+json") || is(b"application/manifest+json") || is(b"application/xml");
    (text || more) && !is(b"text/event-stream")
}

/// Whether a request's body may be large enough to matter when it is left unread.
fn may_be_large(body: &Body) -> bool {
    body.size_hint().upper().is_none_or(|size| size > NEGLIGIBLE)
}

/// A request body that is read to its end even if the handler does not, within limits, and that knows for whom it waits.
pub(super) struct Drained {
    body: Option<Body>,
    progress: Progress,
    nudge: Option<Nudge>,
    may_be_large: bool,
    /// A client that waits for `100 Continue` sends nothing before it is asked to.
    waiting: bool,
}

impl Drained {
    pub(super) fn new(body: Body, request: &http::request::Parts, progress: Progress) -> Self {
        Self {
            may_be_large: may_be_large(&body),
            body: Some(body),
            progress,
            nudge: request.extensions.get::<Nudge>().cloned(),
            waiting: request.headers.contains_key(header::EXPECT),
        }
    }
}

impl HttpBody for Drained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.waiting = false;
        let Some(body) = self.body.as_mut() else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        self.progress.note(&polled);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let Some(mut body) = self.body.take().filter(|body| !body.is_end_stream()) else {
            return;
        };
        let nudge = self.nudge.take();
        let worth_it = self.may_be_large && !self.waiting;
        let runtime = tokio::runtime::Handle::try_current().ok().filter(|_| worth_it);
        let Some(runtime) = runtime else {
            drop(body);
            nudge.iter().for_each(Nudge::nudge);
            return;
        };
        // ends with the connection at the latest, so it needs no entry in the register of tasks
        runtime.spawn(async move {
            use http_body_util::BodyExt as _;
            let mut left = DRAIN_CAP;
            let read = async {
                while let Some(Ok(frame)) = body.frame().await {
                    left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                    if left == 0 {
                        return;
                    }
                }
            };
            tokio::time::timeout(DRAIN_TIME, read).await.ok();
            drop(body);
            nudge.iter().for_each(Nudge::nudge);
        });
    }
}
