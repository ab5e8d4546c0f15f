//! Who keeps whom waiting while a request body is on its way.
//!
//! contract: core §3.2, issue of slow clients. When time runs out it matters whether the client did not send or we did not
//! read: the first is the client's 408, the second our 503 or 504, and only the second counts against a service.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::Poll,
};

use http::StatusCode;
use tokio::sync::Notify;

use crate::error::ApiError;

/// Not read yet, or the last piece was taken and the next not asked for.
const OURS: u8 = 0;
/// The next piece was asked for and has not come.
const THEIRS: u8 = 1;
/// Read to its end.
const ENDED: u8 = 2;
/// The connection failed or the encoding was wrong.
const BROKEN: u8 = 3;

/// How far a body has come; shared by the body and by whoever waits for what is made of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Arc<AtomicU8>);

impl Progress {
    /// Notes what asking for a piece gave.
    pub(crate) fn note<T, E>(&self, polled: &Poll<Option<Result<T, E>>>) {
        let state = match polled {
            Poll::Pending => THEIRS,
            Poll::Ready(Some(Ok(_))) => OURS,
            Poll::Ready(None) => ENDED,
            Poll::Ready(Some(Err(_))) => BROKEN,
        };
        self.0.store(state, Ordering::Relaxed);
    }

    /// Whether the next piece was asked for and has not come.
    pub(crate) fn waits_for_client(&self) -> bool {
        self.0.load(Ordering::Relaxed) == THEIRS
    }

    /// Whether the body ended before it should.
    pub(crate) fn is_broken(&self) -> bool {
        self.0.load(Ordering::Relaxed) == BROKEN
    }
}

/// Makes the server look at a connection again. It does not notice by itself that nobody wants the rest of a body while it
/// waits for the client to send it, and would wait for as long as the client likes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nudge(Arc<Notify>);

impl Nudge {
    /// Once more, now.
    pub(crate) fn nudge(&self) {
        self.0.notify_one();
    }

    /// Waits until somebody nudges.
    pub(crate) async fn nudged(&self) {
        self.0.notified().await;
    }
}

/// 408: the client did not send its body in time.
pub(crate) fn too_slow() -> ApiError {
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", "Request timed out")
        .with_detail("The request body did not arrive in time.")
}
