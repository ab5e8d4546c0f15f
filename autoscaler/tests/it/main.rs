//! The autoscaler against a real Prometheus and an engine: a stand-in that speaks the engine's API, and a real one where
//! it may be started. What cannot be run here says so with a line that starts with SKIP.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs,
    reason = "tests"
)]

mod engine;
mod prometheus;
mod real_engine;
mod scaling;
mod support;
