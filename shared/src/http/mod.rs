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

use futures_util::future::Either;

pub use client_address::ClientAddress;
pub use extract::{Body, Path, Query, QueryMap};
pub use kit::{HttpConfig, Kit};

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

/// The time stamp of error bodies and envelopes that have no clock at hand, ISO-8601 with milliseconds.
pub fn response_timestamp() -> String {
    use crate::sources::{Clock as _, SystemClock, iso_millis};
    iso_millis(SystemClock.now())
}
